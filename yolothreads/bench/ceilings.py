"""Bare loops with nothing before or after the network: the most that each runtime gives, the ceiling of its pools."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from yolothreads.arguments import need_extra
from yolothreads.bench.contenders import CrewContender
from yolothreads.errors import DeviceError
from yolothreads.measure import Contender
from yolothreads.pools import Image, ModelPerThread, OnnxSession, onnx_file


class BareForward(CrewContender):
    """The network that predict runs, called with a ready tensor: torch's ceiling."""

    name = "bare forward"

    def run(self, images: Sequence[Image]) -> int:
        """Do a pass for each image."""
        left = iter(range(len(images)))  # shared: a thread takes its next pass when it is done with the last
        self.crew.together(lambda own: self._passes(own, left))
        return len(images)

    def _passes(self, own: Any, left: Iterator[int]) -> None:
        import torch

        # After a predict this is the network that predict itself runs: fused, and in the memory format chosen for it.
        network, device = own.model.predictor.model.backend.model, self.crew.device
        with torch.inference_mode():
            for _ in left:
                network(own.tensor)
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)
        elif device == "mps":
            torch.mps.synchronize()


class BareOnnx(Contender):
    """The session of an `OnnxSession`, run by as many threads with ready tensors: ONNX Runtime's ceiling."""

    name = "bare ONNX session"

    def __init__(self, like: ModelPerThread) -> None:
        self._pool = OnnxSession(like.weights, workers=like.workers, device=like.device, imgsz=like.imgsz)
        self.workers = like.workers

    def __enter__(self) -> Self:
        """Export the weights, if nobody has, and make the session."""
        self._session = self._pool._make_session(onnx_file(self._pool.weights))
        return self

    def __exit__(self, *exception: object) -> None:
        """Drop the session."""
        del self._session

    def run(self, images: Sequence[Image]) -> int:
        """Do a pass for each image."""
        tensor = _ready_tensor(self._pool.imgsz)
        name = self._session.get_inputs()[0].name
        with ThreadPoolExecutor(self.workers, thread_name_prefix="bare") as threads:
            list(threads.map(lambda _: self._session.run(None, {name: tensor}), images))
        return len(images)


class BareOpenVino(Contender):
    """OpenVINO's own queue with a job for each worker, and ready tensors, on the CPU."""

    name = "bare OpenVINO queue"

    def __init__(self, like: ModelPerThread) -> None:
        need_extra(self.name, "openvino", "onnx", install="openvino onnx")
        if like.device != "cpu":
            raise DeviceError(f'{self.name} is measured on the CPU only; use device="cpu".')
        self._like, self.workers = like, like.workers

    def __enter__(self) -> Self:
        """Export the weights, if nobody has, and compile them."""
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
        """Do a pass for each image."""
        tensor = _ready_tensor(self._like.imgsz)
        for _ in images:
            self._queue.start_async([tensor])
        self._queue.wait_all()
        return len(images)


def _import_openvino() -> Any:
    """OpenVINO as if its telemetry were not installed, which would send data, and leave a thread and a file."""
    telemetry = "openvino_telemetry"
    if telemetry in sys.modules:  # the user has asked for it
        return importlib.import_module("openvino")
    sys.modules[telemetry] = None  # type: ignore[assignment]
    try:
        return importlib.import_module("openvino")
    finally:
        del sys.modules[telemetry]


def _ready_tensor(side: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).random((1, 3, side, side), np.float32)
