"""Contenders of the benchmark: its setting, common alternatives to a pool, and upper bounds."""

from __future__ import annotations

import multiprocessing
import os
import signal
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolothreads.errors import ArgumentError, DeviceError, at_least_one, need_libraries
from yolothreads.exported import import_openvino
from yolothreads.measure import Contender, pools_here
from yolothreads.pools import POOLS, BatchingWorker, Image, ModelPerThread, OnnxSession, Pool, Predict, load, onnx_file
from yolothreads.pools.base import Size, sides
from yolothreads.scenes import scene

Run = Callable[[Sequence[Image]], int]
"""Processes images, and returns how many it has processed."""

_START_S = 300.0  # for worker processes to load their models
_ROUND_S = 3600.0  # for the images of one round
_STRIDE = 32  # of every YOLO detection network: the size of its input is a multiple of it


@dataclass(frozen=True)
class Setting:
    """Setting that all contenders share.

    Args:
        weights, workers, device: as for a pool.
        imgsz: side of the square images in pixels, a multiple of 32, 64 or more.
        batch: most images per batch, of `BatchingWorker` and of ultralytics' own batches.
    """

    weights: str | os.PathLike[str] = "bundled"
    workers: int = 2
    device: str = "cpu"
    imgsz: int = 640
    batch: int = 8

    def __post_init__(self) -> None:
        for name in ("workers", "batch"):
            at_least_one(name, getattr(self, name))
        if self.imgsz % _STRIDE or self.imgsz < 2 * _STRIDE:
            raise ArgumentError(f"imgsz={self.imgsz} is no valid size; give a multiple of {_STRIDE}, 64 or more.")

    def made(self) -> dict[str, Any]:
        """Return the arguments that every pool has."""
        return {name: getattr(self, name) for name in ("weights", "workers", "device", "imgsz")}

    def pools(self, kinds: Iterable[type[Pool]] | None = None) -> tuple[list[Pool], list[str]]:
        """Make the pools that this machine can run, and return one remark per pool that it cannot; by default all."""
        makers = [partial(kind, max_batch=self.batch) if kind is BatchingWorker else kind for kind in kinds or POOLS]
        return pools_here(makers, **self.made())

    def images(self, count: int) -> list[NDArray[np.uint8]]:
        """Return scenes as arrays of (imgsz, imgsz, 3) uint8, BGR."""
        at_least_one("images", count)
        return [scene(seed, (self.imgsz, self.imgsz)).image for seed in range(count)]

    def __str__(self) -> str:
        weights, side = Path(self.weights).name, self.imgsz  # the bundled weights have no folder
        return f"{self.workers} workers, {weights} weights, {side}x{side} pixels, batches of {self.batch}"


class Alternative(Contender):
    """Another way to use the weights, workers and sizes of a pool, `like`."""

    def __init__(self, like: ModelPerThread) -> None:
        self.like, self.workers = like, like.workers


# --- common alternatives to a pool ---


class EveryTask(Alternative):
    """The guide's thread-safe example with one task per image: each task loads a model, and drops it again."""

    name = "YOLO() in every task"

    @contextmanager
    def ready(self) -> Iterator[Run]:
        """Get ready to do a quarter of the images, because each takes about four times as long."""
        from ultralytics import YOLO

        def task(image: Image) -> None:
            YOLO(self.like.weights).predict(image, imgsz=self.like.imgsz, device=self.like.device, verbose=False)

        def run(images: Sequence[Image]) -> int:
            few = images[: max(self.workers, len(images) // 4)]
            with ThreadPoolExecutor(self.workers, thread_name_prefix="task") as threads:
                return len(list(threads.map(task, few)))

        yield run


class ProcessExecutor(Alternative):
    """`ProcessPoolExecutor` with spawned processes: each loads a model when it starts; pixels travel as pickles."""

    name = "ProcessPoolExecutor"

    @contextmanager
    def ready(self) -> Iterator[Run]:
        """Start the processes, and wait until each has loaded its model."""
        spawn, like = multiprocessing.get_context("spawn"), self.like
        given = (spawn.Barrier(self.workers), like.weights, like.imgsz, like.device, like.threads)
        executor = ProcessPoolExecutor(self.workers, spawn, _load_here, given)
        try:
            # The executor starts one process per task while none is idle, and none is idle before all have loaded.
            for started in [executor.submit(os.getpid) for _ in range(self.workers)]:
                started.result(_START_S)
            yield lambda images: len(list(executor.map(_predict_here, images, timeout=_ROUND_S)))
        finally:
            executor.shutdown(cancel_futures=True)


def _load_here(everyone: Barrier, weights: os.PathLike[str], imgsz: Size, device: str, torch_threads: int) -> None:
    """Load the model of this worker process."""
    global _predict
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal reaches it, too; the caller ends it
    import torch

    _predict = load(weights, imgsz, device, {}).predict
    torch.set_num_threads(torch_threads)  # last: setting up the model has changed it
    everyone.wait(_START_S)


def _predict_here(image: Image) -> list[dict[str, Any]]:
    """Return boxes, classes and scores as plain numbers: a whole `Results` would carry the pixels, too."""
    return _predict(image)[0].summary()


_predict: Predict  # of a worker process


class _Workers(ModelPerThread):
    """Threads with one model and one ready tensor each, which all run the same function."""

    def _predictor(self, index: int) -> Predict:
        import torch

        self._own.model = self._load()
        self._own.tensor = torch.rand(1, 3, *sides(self.imgsz), device=self.device)
        return self._own.model.predict

    def run(self, work: Callable[[Any, Iterator[Image]], None], images: Sequence[Image]) -> int:
        """Run a function in every thread, with what the thread owns, and the images that all threads take from."""
        left = iter(images)

        def in_context() -> None:
            with self._worker_context():
                work(self._own, left)

        for each in [self._hand_over(in_context) for _ in range(self.workers)]:
            each.result(_ROUND_S)
        return len(images)


class ThreadsContender(Alternative):
    """Contender with worker threads and one model per thread."""

    @contextmanager
    def ready(self) -> Iterator[Run]:
        """Load the models."""
        like = self.like
        with _Workers(like.weights, workers=self.workers, device=like.device, imgsz=like.imgsz) as threads:
            yield partial(threads.run, self._work)

    @abstractmethod
    def _work(self, own: Any, left: Iterator[Image]) -> None:
        """Process images until none is left, with the model and tensor of this thread."""


class PlainThreads(ThreadsContender):
    """One model per thread, and predict in a loop in each thread: `ModelPerThread` without the pool."""

    name = "predict() in plain threads"

    def _work(self, own: Any, left: Iterator[Image]) -> None:
        for image in left:
            own.model.predict(image)


class PredictList(ThreadsContender):
    """Batches of ultralytics itself, one after another, with all cores for each.

    The list is cut here, because ultralytics takes a list of arrays as one batch, whatever `batch` is.
    """

    def __init__(self, like: ModelPerThread, batch: int) -> None:
        self.like, self.workers, self._batch = like, 1, batch
        self.name = f"predict(list, batch={batch})"

    def _work(self, own: Any, left: Iterator[Image]) -> None:
        while batch := list(islice(left, self._batch)):
            own.model.predict(batch, batch=self._batch)


# --- upper bounds: bare loops with nothing before or after the network ---


class BareForward(ThreadsContender):
    """The network that predict runs, called with a ready tensor per image: the upper bound of torch."""

    name = "bare forward"

    def _work(self, own: Any, left: Iterator[Image]) -> None:
        import torch

        # After a predict this is the network that predict itself runs: fused, and in the memory format chosen for it.
        network, device = own.model.predictor.model.backend.model, self.like.device
        with torch.inference_mode():
            for _ in left:
                network(own.tensor)
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)
        elif device == "mps":
            torch.mps.synchronize()


class BareOnnx(Alternative):
    """The session of an `OnnxSession`, with ready tensors and as many threads: the upper bound of ONNX Runtime."""

    name = "bare ONNX session"

    def __init__(self, like: ModelPerThread) -> None:
        super().__init__(like)
        self._pool = OnnxSession(like.weights, workers=like.workers, device=like.device, imgsz=like.imgsz)

    @contextmanager
    def ready(self) -> Iterator[Run]:
        """Export the weights, unless they are in the cache, and make the session."""
        session = self._pool._make_session(onnx_file(self._pool.weights))
        given = {session.get_inputs()[0].name: _ready_tensor(*sides(self.like.imgsz))}

        def run(images: Sequence[Image]) -> int:
            with ThreadPoolExecutor(self.workers, thread_name_prefix="bare") as threads:
                return len(list(threads.map(lambda _: session.run(None, given), images)))

        yield run


class BareOpenVino(Alternative):
    """OpenVINO's asynchronous queue with one job per worker and ready tensors, on the CPU."""

    name = "bare OpenVINO queue"

    def __init__(self, like: ModelPerThread) -> None:
        super().__init__(like)
        need_libraries(self.name, "openvino", "onnx", install="openvino onnx")
        if like.device != "cpu":
            raise DeviceError(f'{self.name} is measured on the CPU only; use device="cpu".')

    @contextmanager
    def ready(self) -> Iterator[Run]:
        """Export the weights, unless they are in the cache, and compile them."""
        openvino = import_openvino()
        core, (height, width) = openvino.Core(), sides(self.like.imgsz)
        network = core.read_model(onnx_file(self.like.weights))
        network.reshape([1, 3, height, width])
        options: dict[str, str | int] = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": "f32"}
        options |= {"NUM_STREAMS": self.workers, "INFERENCE_NUM_THREADS": self.workers * self.like.threads}
        queue = openvino.AsyncInferQueue(core.compile_model(network, "CPU", options), self.workers)

        def run(images: Sequence[Image]) -> int:
            tensor = _ready_tensor(height, width)
            for _ in images:
                queue.start_async([tensor])
            queue.wait_all()
            return len(images)

        yield run


def _ready_tensor(height: int, width: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).random((1, 3, height, width), np.float32)
