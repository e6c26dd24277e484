"""What every pool shares: the four verbs, the worker threads, and the way of one image through a worker."""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from yolothreads.errors import ArgumentError, PoolClosedError
from yolothreads.pools import device as devices
from yolothreads.pools.image import Image, read_image
from yolothreads.weights import check

if TYPE_CHECKING:
    from ultralytics import YOLO
    from ultralytics.engine.results import Results

Predict = Callable[..., list["Results"]]

_OWN = ("source", "stream", "predictor", "model", "embed", "show")  # a pool feeds its models and gives Results
_START_S = 300.0  # until every worker thread has started; more than enough even on a crowded machine


class Pool(ABC):
    """Detect objects in images with a number of workers.

        with ModelPerThread(weights, workers=4, device="cpu", imgsz=640) as pool:
            future = pool.submit(image, conf=0.5)
            for result in pool.map(images):
                ...

    An image is a path or an (H, W, 3) uint8 BGR array. A result is an ultralytics `Results` on the CPU. An error in one
    image belongs to that image's future; the other images still get their results.

    Args:
        weights: "bundled", a path, or an official name; checked as `yolothreads.weights.check` says.
        workers: how many worker threads, 1 or more.
        device: "cpu", "cuda", "cuda:N", "mps", or "auto" for the best one here.
        imgsz: the size in pixels that images are brought to.
        threads: how many threads torch may use in each worker on the CPU; by default its share of the cores.
        settings: further settings of `YOLO.predict` that hold for every call, e.g. `conf=0.25`.

    Raises:
        ArgumentError, DeviceError, WeightsError: at once, when the pool is made.
    """

    def __init__(
        self,
        weights: str | os.PathLike[str] = "bundled",
        *,
        workers: int = 2,
        device: str = "auto",
        imgsz: int = 640,
        threads: int | None = None,
        **settings: Any,
    ) -> None:
        self.workers = at_least_one("workers", workers)
        self.imgsz = at_least_one("imgsz", imgsz)
        self.threads = max(1, devices.cores() // self.workers) if threads is None else at_least_one("threads", threads)
        _check_settings(settings, of_pool=True)
        self.device = devices.resolve(device)
        self.weights = check(weights)
        self.settings = settings
        self.start_up_s = 0.0  # seconds that the last opening took: loading and warming up
        self._own = threading.local()  # what belongs to one worker thread
        self._executor: ThreadPoolExecutor | None = None
        self._ending: ThreadPoolExecutor | None = None  # shut down without waiting: still to be joined
        self._under_way: set[Future[Results]] = set()
        self._torch_threads: int | None = None

    # What a strategy decides: where a model is built, and who may use it.

    def _prepare(self) -> None:
        """Build, in the caller's thread, what the workers share. By default nothing."""

    @abstractmethod
    def _predictor(self, index: int) -> Predict:
        """Give worker number `index` its predict function; called once, in the worker's own thread."""

    def _forget(self) -> None:
        """Drop what `_prepare` built."""

    # The four verbs.

    def __enter__(self) -> Self:
        """Start the workers; they are loaded and warmed up when this returns."""
        import torch

        if self._executor is not None:
            raise PoolClosedError(f"This {type(self).__name__} is open already; leave its `with` block first.")
        self._close(cancel=False)
        start = perf_counter()
        self._torch_threads = torch.get_num_threads()
        self._executor = ThreadPoolExecutor(self.workers, thread_name_prefix=type(self).__name__)
        # The executor starts a thread per task only while none is idle: the barrier keeps each busy until all run.
        everyone = threading.Barrier(self.workers + 1)
        try:
            try:
                self._prepare()
            finally:
                # Setting a model up has changed torch's thread count in this thread, which is the caller's.
                torch.set_num_threads(self._torch_threads)
            started = [self._executor.submit(self._start_worker, everyone, i) for i in range(self.workers)]
            everyone.wait(_START_S)
            for worker in started:
                worker.result()
        except BaseException:
            everyone.abort()
            self._close(cancel=True)
            raise
        self.start_up_s = perf_counter() - start
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        """Finish the work and join the workers; after an exception or Ctrl-C, drop the work that has not begun."""
        self._close(cancel=kind is not None)

    def submit(self, image: Image, **settings: Any) -> Future[Results]:
        """Ask for one image to be done; gives a future of its `Results`.

        Raises:
            ArgumentError: a setting that `YOLO.predict` does not know, or one that belongs to the whole pool.
            PoolClosedError: the pool is not open.
        """
        _check_settings(settings)
        try:
            future = self._open().submit(self._detect, image, settings)
        except RuntimeError as error:  # shut down by another thread, just now
            raise PoolClosedError(f"This {type(self).__name__} has been shut down; open it again.") from error
        self._under_way.add(future)
        future.add_done_callback(self._under_way.discard)
        return future

    def map(
        self, images: Iterable[Image], *, errors: Literal["raise", "return"] = "raise", **settings: Any
    ) -> Iterator[Results | Exception]:
        """Do many images; gives their results in the order of the images.

        Images are taken from the iterable as they are needed: at most two a worker are under way. With
        `errors="return"` an image that fails gives its exception as its result, and the others go on; with "raise"
        (as `concurrent.futures` does) the first one ends the iteration.
        """
        if errors not in ("raise", "return"):
            raise ArgumentError(f'errors="{errors}" is not known; use "raise" or "return".')
        self._open()
        _check_settings(settings)
        return self._in_order(images, errors == "return", settings)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the pool as `concurrent.futures.Executor.shutdown` does; calling it twice does no harm."""
        self._close(cancel=cancel_futures, wait=wait)

    # How it is done.

    def _open(self) -> ThreadPoolExecutor:
        if (executor := self._executor) is None:
            raise PoolClosedError(f"This {type(self).__name__} is not open; use it inside `with ... as pool:`.")
        return executor

    def _in_order(
        self, images: Iterable[Image], give_errors: bool, settings: dict[str, Any]
    ) -> Iterator[Results | Exception]:
        under_way: deque[Future[Results]] = deque()

        def next_result() -> Results | Exception:
            future = under_way.popleft()
            try:
                return future.result()
            except Exception as error:
                if give_errors:
                    return error
                raise

        try:
            for image in images:
                under_way.append(self.submit(image, **settings))
                if len(under_way) >= 2 * self.workers:
                    yield next_result()
            while under_way:
                yield next_result()
        finally:
            for future in under_way:
                future.cancel()

    def _start_worker(self, everyone: threading.Barrier, index: int) -> None:
        import torch

        everyone.wait(_START_S)
        self._own.predict = self._predictor(index)
        # Last, because ultralytics sets torch's thread count itself each time it sets up a model on the CPU.
        torch.set_num_threads(self.threads)

    def _detect(self, image: Image, settings: dict[str, Any]) -> Results:
        pixels, name = read_image(image)
        result = self._own.predict(pixels, **{**self.settings, **settings})[0].cpu()
        if name:
            result.path = name
        return result

    def _load(self) -> YOLO:
        """Load a model of its own and make its first prediction, so that no later call sets anything up."""
        from ultralytics import YOLO

        model = YOLO(self.weights)
        # Overrides hold for every predict of this model unless a call says otherwise.
        model.overrides.update(imgsz=self.imgsz, device=self.device, verbose=False)
        model.predict(np.zeros((self.imgsz, self.imgsz, 3), np.uint8), **self.settings)
        return model

    def _close(self, *, cancel: bool, wait: bool = True) -> None:
        import torch

        executor, self._executor = self._executor or self._ending, None
        if executor is None:
            return
        self._ending = None if wait else executor
        try:
            executor.shutdown(wait=False, cancel_futures=cancel)
            if wait:
                self._join(executor)
        finally:
            self._forget()
            if self._torch_threads is not None:
                torch.set_num_threads(self._torch_threads)

    def _join(self, executor: ThreadPoolExecutor) -> None:
        """Wait for the work, then for the threads; Ctrl-C meanwhile drops the work that has not begun.

        The work is waited for first because before Python 3.13 a `Thread.join` that Ctrl-C interrupts takes the thread
        for ended, and could not be repeated.
        """
        try:
            self._wait_for_work()
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            self._wait_for_work()
            raise
        finally:
            executor.shutdown()

    def _wait_for_work(self) -> None:
        for future in self._under_way.copy():
            with suppress(CancelledError):
                future.exception()


def at_least_one(name: str, value: int) -> int:
    """Give `value` back if it is a whole number of 1 or more; else an ArgumentError that names it."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ArgumentError(f"{name}={value!r} makes no sense; give a whole number, 1 or more.")
    return value


@lru_cache(maxsize=1)
def _known_settings() -> tuple[frozenset[str], frozenset[str]]:
    """What `YOLO.predict` takes, and which of it sets up a model and so can be chosen for a whole pool only."""
    from ultralytics.engine.model import PREDICTOR_SETUP_KEYS
    from ultralytics.utils import DEFAULT_CFG_DICT

    return frozenset(DEFAULT_CFG_DICT), frozenset(PREDICTOR_SETUP_KEYS)


def _check_settings(settings: dict[str, Any], *, of_pool: bool = False) -> None:
    if not settings:
        return
    known, setup = _known_settings()
    for name in settings:
        if name in _OWN:
            raise ArgumentError(f'"{name}" is decided by the pool; leave it out.')
        if name in setup and not of_pool:
            raise ArgumentError(f'"{name}" cannot be set for single images: a pool has one, chosen when it is made.')
        if name not in known:
            raise ArgumentError(f'"{name}" is no setting of YOLO.predict; see its documentation for those there are.')
