"""Contenders of the benchmark: its setting, common alternatives to a pool, and upper bounds."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from yolothreads.errors import ArgumentError, DeviceError, at_least_one, need_extra
from yolothreads.measure import Contender, pools_here
from yolothreads.pools import POOLS, BatchingWorker, Image, ModelPerThread, OnnxSession, Pool, Predict, load, onnx_file
from yolothreads.scenes import scene

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
            raise ArgumentError(
                f"imgsz={self.imgsz} is not a valid input size; give a multiple of {_STRIDE}, 64 or more."
            )

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
        weights = self.weights if self.weights == "bundled" else os.path.basename(self.weights)  # noqa: PTH119
        return f"{self.workers} workers, {weights} weights, {self.imgsz}x{self.imgsz} pixels, batches of {self.batch}"


# --- common alternatives to a pool ---


class EveryTask(Contender):
    """The guide's thread-safe example with one task per image: each task loads a model, and drops it again."""

    name = "YOLO() in every task"

    def __init__(self, like: ModelPerThread) -> None:
        self._like, self.workers = like, like.workers

    def run(self, images: Sequence[Image]) -> int:
        """Do a quarter of the images, because each takes about four times as long."""
        from ultralytics import YOLO

        like = self._like

        def task(image: Image) -> None:
            YOLO(like.weights).predict(image, imgsz=like.imgsz, device=like.device, verbose=False)

        few = images[: max(self.workers, len(images) // 4)]
        with ThreadPoolExecutor(self.workers, thread_name_prefix="task") as threads:
            list(threads.map(task, few))
        return len(few)


class ProcessExecutor(Contender):
    """`ProcessPoolExecutor` with spawned processes: each loads a model when it starts; pixels travel as pickles."""

    name = "ProcessPoolExecutor"

    def __init__(self, like: ModelPerThread) -> None:
        self._like, self.workers = like, like.workers

    def __enter__(self) -> Self:
        """Start the processes, and wait until each has loaded its model."""
        spawn, like = multiprocessing.get_context("spawn"), self._like
        given = (spawn.Barrier(self.workers), like.weights, like.imgsz, like.device, like.threads)
        self._executor = ProcessPoolExecutor(self.workers, spawn, _load_here, given)
        try:
            # The executor starts one process per task while none is idle, and none is idle before all have loaded.
            for started in [self._executor.submit(os.getpid) for _ in range(self.workers)]:
                started.result(_START_S)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        """End the processes."""
        self._executor.shutdown(cancel_futures=True)

    def run(self, images: Sequence[Image]) -> int:
        """Do all images."""
        return len(list(self._executor.map(_predict_here, images, timeout=_ROUND_S)))


def _load_here(
    everyone: threading.Barrier, weights: os.PathLike[str], imgsz: int, device: str, torch_threads: int
) -> None:
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
        self._own.tensor = torch.rand(1, 3, self.imgsz, self.imgsz, device=self.device)
        return self._own.model.predict

    def run_in_each(self, work: Callable[[threading.local], None]) -> None:
        """Run a function in every thread, with the model and tensor of that thread."""

        def in_context() -> None:
            with self._worker_context():
                work(self._own)

        for each in [self._hand_over(in_context) for _ in range(self.workers)]:
            each.result(_ROUND_S)


class ThreadsContender(Contender):
    """Contender with worker threads and one model per thread."""

    def __init__(self, like: ModelPerThread, workers: int | None = None) -> None:
        self.workers = workers or like.workers
        self.threads = _Workers(like.weights, workers=self.workers, device=like.device, imgsz=like.imgsz)

    def __enter__(self) -> Self:
        """Load the models."""
        self.threads.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        """Join the threads."""
        self.threads.shutdown()


class PlainThreads(ThreadsContender):
    """One model per thread, and predict in a loop in each thread: `ModelPerThread` without the pool."""

    name = "predict() in plain threads"

    def run(self, images: Sequence[Image]) -> int:
        """Do all images."""
        left = iter(images)

        def work(own: Any) -> None:
            for image in left:
                own.model.predict(image)

        self.threads.run_in_each(work)
        return len(images)


class PredictList(ThreadsContender):
    """Batches of ultralytics itself, one after another, with all cores for each.

    The list is cut here, because ultralytics takes a list of arrays as one batch, whatever `batch` is.
    """

    def __init__(self, like: ModelPerThread, batch: int) -> None:
        super().__init__(like, 1)
        self.name, self._batch = f"predict(list, batch={batch})", batch

    def run(self, images: Sequence[Image]) -> int:
        """Do all images."""

        def work(own: Any) -> None:
            for start in range(0, len(images), self._batch):
                own.model.predict(list(images[start : start + self._batch]), batch=self._batch)

        self.threads.run_in_each(work)
        return len(images)


# --- upper bounds: bare loops with nothing before or after the network ---


class BareForward(ThreadsContender):
    """The network that predict runs, called with a ready tensor: the upper bound of torch."""

    name = "bare forward"

    def run(self, images: Sequence[Image]) -> int:
        """Run one forward pass per image."""
        left = iter(range(len(images)))  # shared: a thread takes its next pass when it has finished the last
        self.threads.run_in_each(lambda own: self._passes(own, left))
        return len(images)

    def _passes(self, own: Any, left: Iterator[int]) -> None:
        import torch

        # After a predict this is the network that predict itself runs: fused, and in the memory format chosen for it.
        network, device = own.model.predictor.model.backend.model, self.threads.device
        with torch.inference_mode():
            for _ in left:
                network(own.tensor)
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)
        elif device == "mps":
            torch.mps.synchronize()


class BareOnnx(Contender):
    """The session of an `OnnxSession`, with ready tensors and as many threads: the upper bound of ONNX Runtime."""

    name = "bare ONNX session"

    def __init__(self, like: ModelPerThread) -> None:
        self._pool = OnnxSession(like.weights, workers=like.workers, device=like.device, imgsz=like.imgsz)
        self.workers = like.workers

    def __enter__(self) -> Self:
        """Export the weights, unless they are in the cache, and make the session."""
        self._session = self._pool._make_session(onnx_file(self._pool.weights))
        return self

    def __exit__(self, *exception: object) -> None:
        """Drop the session."""
        del self._session

    def run(self, images: Sequence[Image]) -> int:
        """Run one forward pass per image."""
        tensor = _ready_tensor(self._pool.imgsz)
        name = self._session.get_inputs()[0].name
        with ThreadPoolExecutor(self.workers, thread_name_prefix="bare") as threads:
            list(threads.map(lambda _: self._session.run(None, {name: tensor}), images))
        return len(images)


class BareOpenVino(Contender):
    """OpenVINO's asynchronous queue with one job per worker and ready tensors, on the CPU."""

    name = "bare OpenVINO queue"

    def __init__(self, like: ModelPerThread) -> None:
        need_extra(self.name, "openvino", "onnx", install="openvino onnx")
        if like.device != "cpu":
            raise DeviceError(f'{self.name} is measured on the CPU only; use device="cpu".')
        self._like, self.workers = like, like.workers

    def __enter__(self) -> Self:
        """Export the weights, unless they are in the cache, and compile them."""
        openvino = _import_openvino()
        core, side = openvino.Core(), self._like.imgsz
        network = core.read_model(onnx_file(self._like.weights))
        network.reshape([1, 3, side, side])
        options: dict[str, str | int] = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": "f32"}
        options |= {"NUM_STREAMS": self.workers, "INFERENCE_NUM_THREADS": self.workers * self._like.threads}
        self._queue = openvino.AsyncInferQueue(core.compile_model(network, "CPU", options), self.workers)
        return self

    def __exit__(self, *exception: object) -> None:
        """Drop the queue."""
        del self._queue

    def run(self, images: Sequence[Image]) -> int:
        """Run one forward pass per image."""
        tensor = _ready_tensor(self._like.imgsz)
        for _ in images:
            self._queue.start_async([tensor])
        self._queue.wait_all()
        return len(images)


def _import_openvino() -> Any:
    """Import OpenVINO without its telemetry, which would send data, and leave a thread and a file."""
    telemetry = "openvino_telemetry"
    if telemetry in sys.modules:  # the user has imported it
        return importlib.import_module("openvino")
    sys.modules[telemetry] = None  # type: ignore[assignment]
    try:
        return importlib.import_module("openvino")
    finally:
        del sys.modules[telemetry]


def _ready_tensor(side: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).random((1, 3, side, side), np.float32)
