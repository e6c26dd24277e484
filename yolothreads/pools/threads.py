"""Pools of worker threads: start them, give each its predict function, take an image through, and join them."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import TYPE_CHECKING, Any

from yolothreads.devices import memory_errors_named
from yolothreads.errors import PoolClosedError
from yolothreads.pools.base import Pool
from yolothreads.pools.image import Image, read_image
from yolothreads.pools.model import Predict, load

if TYPE_CHECKING:
    from ultralytics import YOLO
    from ultralytics.engine.results import Results

_START_S = 300.0  # until every worker thread has started; more than enough even on a crowded machine


class ThreadPool(Pool):
    """A pool whose workers are threads. A strategy says where a model is built, and who may use it."""

    _executor: ThreadPoolExecutor | None = None
    _torch_threads: int | None = None

    def _prepare(self) -> None:
        """Build, in the caller's thread, what the workers share. By default nothing."""

    @abstractmethod
    def _predictor(self, index: int) -> Predict:
        """Give worker number `index` its predict function; called once, in the worker's own thread."""

    def _forget(self) -> None:
        """Drop what `_prepare` and `_predictor` built."""

    def _worker_context(self) -> AbstractContextManager[Any]:
        """What surrounds everything that the calling worker does. By default nothing."""
        return nullcontext()

    def _load(self) -> YOLO:
        return load(self.weights, self.imgsz, self.device, self.settings)

    def _start(self) -> None:
        import torch

        self._own = threading.local()  # what belongs to one worker thread
        self._under_way: set[Future[Results]] = set()
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
            raise

    def _start_worker(self, everyone: threading.Barrier, index: int) -> None:
        import torch

        everyone.wait(_START_S)
        with self._worker_context():
            self._own.predict = self._predictor(index)
        # Last, because ultralytics sets torch's thread count itself each time it sets up a model on the CPU.
        torch.set_num_threads(self.threads)

    def _submit(self, image: Image, settings: dict[str, Any]) -> Future[Results]:
        future = self._hand_over(self._detect, image, settings)
        self._track(future)
        return future

    def _hand_over(self, work: Callable[..., Any], *args: Any) -> Future[Any]:
        """Have a worker do something."""
        try:
            if (executor := self._executor) is None:
                raise RuntimeError
            return executor.submit(work, *args)
        except RuntimeError as error:  # shut down by another thread, just now
            raise PoolClosedError(f"This {type(self).__name__} has been shut down; open it again.") from error

    def _track(self, future: Future[Results]) -> None:
        """Have the pool wait for a future before it ends."""
        self._under_way.add(future)
        future.add_done_callback(self._under_way.discard)

    def _detect(self, image: Image, settings: dict[str, Any]) -> Results:
        pixels, name = read_image(image)
        with self._worker_context(), memory_errors_named(self.device):
            result = self._own.predict(pixels, **{**self.settings, **settings})[0].cpu()
        if name:
            result.path = name
        return result

    def _stop(self, *, cancel: bool, wait: bool) -> None:
        import torch

        if (executor := self._executor) is None:
            return
        try:
            if cancel:
                self._drop_waiting(executor)
            executor.shutdown(wait=False)
            if wait:
                self._join(executor)
        finally:
            if wait:
                self._executor = None
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
            self._drop_waiting(executor)
            self._wait_for_work()
            raise
        finally:
            executor.shutdown()

    def _drop_waiting(self, executor: ThreadPoolExecutor) -> None:
        """Cancel the work that has not begun."""
        executor.shutdown(wait=False, cancel_futures=True)

    def _wait_for_work(self) -> None:
        for future in self._under_way.copy():
            with suppress(CancelledError):
                future.exception()
