"""Pools whose workers are processes: one that dies is replaced, and its image is done again."""

from __future__ import annotations

from abc import abstractmethod
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from yolothreads import trace
from yolothreads.errors import PoolClosedError, WorkerDiedError
from yolothreads.pools.model import Predict
from yolothreads.pools.threads import ThreadPool

if TYPE_CHECKING:
    from ultralytics.engine.results import Results

_TRIES = 3  # starts of one worker before it is given up


class RemoteWorker(Protocol):
    """A worker process with a model of its own; one thread uses it, another one may kill it."""

    def load(self) -> None:
        """Wait until it has its model; raises WorkerDiedError, which says how it ended, or what loading raised."""

    def is_alive(self) -> bool:
        """Whether the process still runs, as far as is known."""

    def predict(self, pixels: NDArray[np.uint8], **settings: Any) -> list[Results]:
        """Do one image; raises what the prediction raised there, or WorkerDiedError, which says how it ended."""

    def end(self) -> None:
        """Ask it to end; does not wait."""

    def kill(self) -> None:
        """End it at once; does not wait."""

    def join(self) -> None:
        """Wait until it has ended, kill it if that takes too long, and give back what belonged to it."""


class RemotePool(ThreadPool):
    """A thread for each worker process: it hands over one image after another, and replaces a process that died.

    So an image is in the hands of one thread from beginning to end: it cannot be lost, nor answered twice.
    """

    @abstractmethod
    def _recruit(self, index: int) -> RemoteWorker:
        """Start a worker process; does not wait for it."""

    def _start(self) -> None:
        self._staff: dict[int, RemoteWorker] = {}
        self._loading: set[RemoteWorker] = set()
        self._is_abandoned = False
        try:
            super()._start()
        except BaseException:
            self._abandon()
            raise

    def _abandon(self) -> None:
        """The opening has failed: end the workers that still load, so that nobody waits for them."""
        self._is_abandoned = True
        for worker in self._loading.copy():
            worker.kill()

    def _hire(self, index: int) -> RemoteWorker:
        """Give a worker that has its model; if that fails, nothing is left of it."""
        worker = self._recruit(index)
        self._loading.add(worker)
        try:
            if self._is_abandoned:
                raise PoolClosedError(f"The opening of this {type(self).__name__} has failed; open it again.")
            worker.load()
        except BaseException:
            worker.kill()
            worker.join()
            raise
        finally:
            self._loading.discard(worker)
        return worker

    def _predictor(self, index: int) -> Predict:
        self._worker(index)

        def predict(pixels: NDArray[np.uint8], **settings: Any) -> list[Results]:
            how = ""
            for _ in range(2):
                worker = self._worker(index)
                try:
                    results = worker.predict(pixels, **settings)
                    _note_stages(results[0])
                    return results
                except WorkerDiedError as error:
                    how = str(error)
                    self._dismiss(index)
            raise WorkerDiedError(f"This image ended its worker twice ({how}); look at the image, and at the memory.")

        return predict

    def _worker(self, index: int) -> RemoteWorker:
        """Worker number `index`; a new one where it has died."""
        if (worker := self._staff.get(index)) is not None:
            if worker.is_alive():
                return worker
            self._dismiss(index)
        how = ""
        for _ in range(_TRIES):
            try:
                self._staff[index] = self._hire(index)
                return self._staff[index]
            except WorkerDiedError as error:
                how = str(error)
        raise WorkerDiedError(f"Worker {index} ended {_TRIES} times before it had loaded its model ({how}).")

    def _dismiss(self, index: int) -> None:
        self._staff.pop(index).join()

    def _forget(self) -> None:
        staff = self.__dict__.pop("_staff", {})
        for worker in staff.values():
            worker.end()
        for worker in staff.values():
            worker.join()


def _note_stages(result: Results) -> None:
    """Put on the timeline what the worker did, as long as it took there by its own account, ending now."""
    end = perf_counter()
    for stage, name in (("postprocess", "postprocess"), ("infer", "inference"), ("preprocess", "preprocess")):
        if took_ms := result.speed.get(name):
            trace.add(stage, end - took_ms / 1000, end)
            end -= took_ms / 1000
