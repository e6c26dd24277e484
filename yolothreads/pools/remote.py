"""Pools whose workers live in other processes: a dead worker is replaced, and its image is done again."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from yolothreads import trace
from yolothreads.errors import PoolClosedError, WorkerDiedError
from yolothreads.pools.base import Predict
from yolothreads.pools.thread_pools import ThreadPool
from yolothreads.pools.torch_threads import Slow

if TYPE_CHECKING:
    from ultralytics.engine.results import Results

_TRIES = 3  # the starts of one worker before the pool gives it up


class RemoteWorker(Protocol):
    """A worker process with a model of its own. One thread uses it, and another one may kill it."""

    def load(self) -> Slow | None:
        """Wait until the worker has its model; return what it measured if it has fallen back to one torch thread.

        Raises:
            WorkerDiedError: the process ended; the message says how. Any other error is what loading raised.
        """

    def is_alive(self) -> bool:
        """Return whether the process still runs, as far as is known."""

    def predict(self, pixels: NDArray[np.uint8], **settings: Any) -> list[Results]:
        """Do one image.

        Raises:
            WorkerDiedError: the process ended; the message says how. Any other error is what the prediction raised.
        """

    def end(self) -> None:
        """Ask the worker to end; do not wait."""

    def kill(self) -> None:
        """End the worker at once; do not wait."""

    def join(self) -> None:
        """Wait until the worker has ended, kill it if that takes too long, and release what belonged to it."""

    def left_by_fork(self) -> None:
        """Release, in a forked child, what would keep the worker of the parent alive, or end it."""


Observer = Callable[[int, RemoteWorker, str, float, float], None]
"""Called as observer(index, worker, stage, start, end), in the thread of that worker; times as in `trace.Span`."""


class RemotePool(ThreadPool):
    """One thread per worker process: it hands over one image after another, and replaces a process that died.

    Each image stays with one thread from beginning to end, so it is neither lost nor answered twice.
    """

    observer: Observer | None = None
    """Called after each worker that has loaded its model ("load"), and after each image that was answered ("infer")."""

    @abstractmethod
    def _launch_worker(self, index: int) -> RemoteWorker:
        """Start a worker process; do not wait for it."""

    def _start(self) -> None:
        self._workers: dict[int, RemoteWorker] = {}
        self._loading: set[RemoteWorker] = set()
        self._slow: list[Slow] = []
        self._opening_failed = False
        try:
            super()._start()
        except BaseException:
            self._kill_loading()
            raise
        if self._slow:
            self.threads = 1
            self._slow[0].warn(type(self).__name__)

    def _check_threads(self) -> None:
        """Do nothing: each worker process has checked its own threads."""

    def _kill_loading(self) -> None:
        """Kill the workers that still load after the opening has failed, so that nobody waits for them."""
        self._opening_failed = True
        for worker in self._loading.copy():
            worker.kill()

    def _start_worker(self, index: int) -> RemoteWorker:
        """Return a worker that has its model; after a failure nothing is left of it."""
        start = perf_counter()
        worker = self._launch_worker(index)
        self._loading.add(worker)
        try:
            if self._opening_failed:
                raise PoolClosedError(f"The opening of this {type(self).__name__} has failed; open it again.")
            if slow := worker.load():
                self._slow.append(slow)
        except BaseException:
            worker.kill()
            worker.join()
            raise
        finally:
            self._loading.discard(worker)
        self._notify(index, worker, "load", start)
        return worker

    def _predictor(self, index: int) -> Predict:
        self._live_worker(index)

        def predict(pixels: NDArray[np.uint8], **settings: Any) -> list[Results]:
            reason = ""
            for _ in range(2):
                worker = self._live_worker(index)
                start = perf_counter()
                try:
                    results = worker.predict(pixels, **settings)
                except WorkerDiedError as error:
                    reason = str(error)
                    self._workers.pop(index).join()
                    continue
                self._notify(index, worker, "infer", start)
                trace.add_speed(results[0].speed)
                return results
            raise WorkerDiedError(f"This image ended its worker twice ({reason}); check the image and the free memory.")

        return predict

    def _live_worker(self, index: int) -> RemoteWorker:
        """Return worker number `index`; replace it if it has died."""
        if (worker := self._workers.get(index)) is not None:
            if worker.is_alive():
                return worker
            self._workers.pop(index).join()
        reason = ""
        for _ in range(_TRIES):
            try:
                self._workers[index] = self._start_worker(index)
                return self._workers[index]
            except WorkerDiedError as error:
                reason = str(error)
        raise WorkerDiedError(
            f"Worker {index} ended {_TRIES} times before it had loaded its model ({reason}); check the free memory."
        )

    def _notify(self, index: int, worker: RemoteWorker, stage: str, start: float) -> None:
        if self.observer is not None:
            self.observer(index, worker, stage, start, perf_counter())

    def left_by_fork(self) -> None:
        """Forget the worker processes, which belong to the parent."""
        super().left_by_fork()
        for worker in {*self.__dict__.pop("_workers", {}).values(), *self.__dict__.pop("_loading", ())}:
            worker.left_by_fork()

    def _forget(self) -> None:
        workers = self.__dict__.pop("_workers", {})
        for worker in workers.values():
            worker.end()
        for worker in workers.values():
            worker.join()


# --- results on their way between processes: only their numbers travel ---


def pack(result: Results) -> dict[str, Any]:
    """Return the arrays, texts and numbers of a result, without its pixels, from which `unpack` makes it again."""
    # `_keys` is undocumented: see tests/pools/test_private_names.py.
    parts = {key: value.data.cpu().numpy() for key in result._keys if (value := getattr(result, key)) is not None}
    return {"path": result.path, "names": result.names, "speed": result.speed, **parts}


def unpack(packed: dict[str, Any], pixels: NDArray[np.uint8]) -> Results:
    """Return the result around the caller's own `pixels`, (H, W, 3) uint8 BGR. Its tensors are on the CPU."""
    import torch
    from ultralytics.engine.results import Results

    # Copied, because arrays that arrive by shared memory may be read-only.
    parts = {key: torch.from_numpy(v.copy()) if isinstance(v, np.ndarray) else v for key, v in packed.items()}
    return Results(pixels, **parts)
