"""Pools of threads: the base class, and the seven strategies that differ in where a model is built and who uses it."""

from __future__ import annotations

import copy
import threading
from abc import abstractmethod
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext, suppress
from itertools import chain
from typing import TYPE_CHECKING, Any

from yolothreads import allocator
from yolothreads.devices import Device, Devices, memory_errors_named, torch_threads_kept
from yolothreads.errors import PoolClosedError
from yolothreads.pools import forking
from yolothreads.pools.base import Pool, Predict, Size, load
from yolothreads.pools.images import Image, read_image
from yolothreads.pools.torch_threads import find_slow, seconds_with
from yolothreads.trace import TracedLock
from yolothreads.weights import Weights

if TYPE_CHECKING:
    from ultralytics import YOLO
    from ultralytics.engine.results import Results

_START_S = 300.0  # until every worker thread has started; more than enough even on a crowded machine


class ThreadPool(Pool):
    """A pool whose workers are threads. A strategy decides where a model is built and which threads use it."""

    _executor: ThreadPoolExecutor | None = None

    # --- the steps that a strategy fills in ---

    def _prepare(self) -> None:
        """Build, in the caller's thread, what the workers share (see `forking.run`). By default nothing."""

    @abstractmethod
    def _predictor(self, index: int) -> Predict:
        """Return the predict function of worker number `index`; called once, in the worker's own thread."""

    def _forget(self) -> None:
        """Drop what `_prepare` and `_predictor` built. By default this is the attribute `_model`."""
        self.__dict__.pop("_model", None)

    def _worker_context(self) -> AbstractContextManager[Any]:
        """Return the context of everything that the calling worker does. By default it is empty."""
        return nullcontext()

    # --- the inside ---

    def _load(self, worker: int = 0) -> YOLO:
        device = self.device_of(worker)
        return load(self.weights, self.imgsz, device, self.settings, self.channels, self.allow)

    def _start(self) -> None:
        import torch

        self._own = threading.local()  # what belongs to one worker thread
        self._native_ids: list[int] = []  # of the worker threads
        self._under_way: set[Future[Results]] = set()
        self._torch_threads = torch.get_num_threads()
        self._executor = ThreadPoolExecutor(self.workers, thread_name_prefix=type(self).__name__)
        with torch_threads_kept():  # setting up a model changes the count in this thread, which is the caller's
            forking.run(self._prepare)
        self._in_every_worker(self._start_thread)
        if self._may_fall_back:
            self._check_threads()

    def _in_every_worker(self, work: Callable[[int], Any]) -> list[Any]:
        """Call a function in every worker thread at once, with a number from 0 on; return what it returned."""
        assert self._executor is not None
        # The executor starts a thread per task only while none is idle: the barrier keeps each busy until all run.
        everyone = threading.Barrier(self.workers + 1)

        def with_the_others(index: int) -> Any:
            everyone.wait(_START_S)
            return work(index)

        try:
            under_way = [self._executor.submit(with_the_others, index) for index in range(self.workers)]
            everyone.wait(_START_S)
            return [worker.result() for worker in under_way]
        except BaseException:
            everyone.abort()
            raise

    def _start_thread(self, index: int) -> None:
        import torch

        self._native_ids.append(threading.get_native_id())
        self._own.device = self.device_of(index)
        with self._worker_context():
            self._own.predict = self._predictor(index)
        # Last, because ultralytics sets torch's thread count itself each time it sets up a model on the CPU.
        torch.set_num_threads(self.threads)

    def _check_threads(self) -> None:
        """Fall back to one torch thread per worker if more of them are slower."""
        import torch

        def seconds(threads: int) -> float:
            given = self.imgsz, self.channels, self.settings
            return max(self._in_every_worker(lambda _: seconds_with(threads, self._own.predict, *given)))

        if slow := find_slow(self.threads, seconds):
            self._in_every_worker(lambda _: torch.set_num_threads(1))
            self.threads = 1
            slow.warn(type(self).__name__)

    def _submit(self, image: Image, settings: dict[str, Any]) -> Future[Results]:
        future = self._hand_over(self._detect, image, settings)
        self._track(future)
        return future

    def _hand_over(self, work: Callable[..., Any], *args: Any) -> Future[Any]:
        """Let a worker call a function."""
        try:
            if (executor := self._executor) is None:
                raise RuntimeError
            return executor.submit(work, *args)
        except RuntimeError as error:  # another thread has just closed the pool
            raise PoolClosedError(f"This {type(self).__name__} has been shut down; open it again.") from error

    def _track(self, future: Future[Results]) -> None:
        """Make the pool wait for a future before it ends."""
        self._under_way.add(future)
        future.add_done_callback(self._under_way.discard)

    def _detect(self, image: Image, settings: dict[str, Any]) -> Results:
        pixels, name = read_image(image, self.channels)
        with self._worker_context(), memory_errors_named(self._own.device):
            result = self._own.predict(pixels, **{**self.settings, **settings})[0].cpu()
        if name:
            result.path = name
        return result

    def left_by_fork(self) -> None:
        """Forget the threads of the parent, so that nobody waits for them."""
        super().left_by_fork()
        self._executor = None

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
                allocator.return_freed_of_ended_threads(self._native_ids)
            torch.set_num_threads(self._torch_threads)

    def _join(self, executor: ThreadPoolExecutor) -> None:
        """Wait for the work, then for the threads; Ctrl-C meanwhile drops the work that has not begun.

        The work comes first because before Python 3.13 a `Thread.join` that Ctrl-C interrupts takes the thread for
        ended, and could not be repeated.
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


class StreamPool(ThreadPool):
    """A thread pool whose workers can overlap on a GPU: all threads of a process share one stream by default.

    Args:
        weights, workers, device, imgsz, threads, allow, settings: as in every pool.
        streams: whether each worker has a CUDA stream of its own; without effect on other devices.
    """

    def __init__(
        self,
        weights: Weights = "bundled",
        *,
        workers: int = 2,
        device: Devices = "auto",
        imgsz: Size = 640,
        threads: int | None = None,
        streams: bool = True,
        allow: Iterable[str] = (),
        **settings: Any,
    ) -> None:
        super().__init__(weights, workers=workers, device=device, imgsz=imgsz, threads=threads, allow=allow, **settings)
        self.streams = streams

    def _worker_context(self) -> AbstractContextManager[Any]:
        import torch

        device = self._own.device
        if not (self.streams and device.startswith("cuda")):
            return nullcontext()
        if not hasattr(self._own, "stream"):
            torch.cuda.synchronize(device)  # what the caller's thread has loaded on its stream must be there
            self._own.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        return torch.cuda.stream(self._own.stream)


# --- the strategies ---


class Sequential(ThreadPool):
    """One YOLO object, used by one thread. Nothing is concurrent, so nothing can race: the reference for all pools.

    Args:
        weights, device, imgsz, threads, allow, settings: as in every pool.
        workers: 1.
    """

    one_worker = True

    def __init__(
        self,
        weights: Weights = "bundled",
        *,
        workers: int = 1,
        device: Device = "auto",
        imgsz: Size = 640,
        threads: int | None = None,
        allow: Iterable[str] = (),
        **settings: Any,
    ) -> None:
        super().__init__(weights, workers=workers, device=device, imgsz=imgsz, threads=threads, allow=allow, **settings)

    def _predictor(self, index: int) -> Predict:
        return self._load().predict


class SharedModel(ThreadPool):
    """All threads call `predict` of one YOLO object without a lock, which the guide warns of.

    Calls that ask for different settings get each other's.
    """

    def _prepare(self) -> None:
        self._model = self._load()

    def _predictor(self, index: int) -> Predict:
        return self._model.predict


class ModelsBuiltOutside(ThreadPool):
    """One YOLO object per thread, but the caller's thread loads them all, which the guide still calls unsafe."""

    spreads = True

    def _prepare(self) -> None:
        self._model = [self._load(worker) for worker in range(self.workers)]

    def _predictor(self, index: int) -> Predict:
        return self._model[index].predict


class ModelPerThread(StreamPool):
    """One YOLO object per thread, built in that thread: the thread-safe example of the guide, with the model kept.

    The threads share nothing. On CUDA each worker has a stream of its own.
    """

    spreads = True

    def _predictor(self, index: int) -> Predict:
        return self._load(index).predict


class LockedModel(ThreadPool):
    """One YOLO object behind ultralytics' `ThreadingLocked`: the memory of one model, the speed of one thread."""

    def _prepare(self) -> None:
        from ultralytics.utils import ThreadingLocked

        locked = ThreadingLocked()
        locked.lock = TracedLock(locked.lock)  # so that a timeline can show the waits
        self._model = locked(self._load().predict)

    def _predictor(self, index: int) -> Predict:
        return self._model


class Replicas(StreamPool):
    """One set of weights, and a private predictor per thread around the same tensors.

    What a prediction writes to (settings, lock, cached anchors, the images under way) belongs to one worker; what it
    only reads (weights and buffers) exists once. On CUDA each worker has a stream of its own. An exported model has no
    such tensors: use `OnnxSession` for an .onnx file.
    """

    formats = ("pt",)

    def _prepare(self) -> None:
        self._model = self._load()
        # Setting up has made a second, fused network, and only that one predicts: drop the unfused network, which the
        # checkpoint still references.
        self._model.model, self._model.ckpt = self._model.predictor.model.backend.model, None

    def _predictor(self, index: int) -> Predict:
        return replica(self._model).predict


# --- copies of a model ---


def twin(model: YOLO, shared: Iterable[object]) -> YOLO:
    """Copy a YOLO object that has predicted before; the copy uses the very objects in `shared`.

    `copy.deepcopy` does not copy what its memo holds already: the shared objects, and the predictor's lock, which
    cannot be copied.
    """
    predictor = model.predictor
    predictor.dataset = predictor.batch = predictor.results = None  # the first image, which no copy needs
    memo: dict[int, object] = {id(one): one for one in shared}
    memo[id(predictor._lock)] = threading.Lock()  # undocumented: see tests/pools/test_private_names.py
    return copy.deepcopy(model, memo)


def replica(model: YOLO) -> YOLO:
    """Copy a YOLO object that has predicted before; the copy uses the very tensors of `model`."""
    network = model.predictor.model.backend.model
    return twin(model, chain(network.parameters(), network.buffers()))
