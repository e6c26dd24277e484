"""One ONNX Runtime session that all threads use at once, without a lock."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolothreads.arguments import need_extra
from yolothreads.errors import ArgumentError, DeviceError
from yolothreads.pools.image import Image
from yolothreads.pools.model import Predict, load, twin
from yolothreads.pools.onnx_export import onnx_file
from yolothreads.pools.threads import ThreadPool

if TYPE_CHECKING:
    from ultralytics.engine.results import Results

_OF_TORCH = ("augment", "channels_last", "compile", "dnn", "nms", "quantize", "visualize")


class OnnxSession(ThreadPool):
    """The model as an ONNX file, run by one ONNX Runtime session; each worker prepares images and results by itself.

    A session may be called by several threads at once, by its own contract
    (github.com/microsoft/onnxruntime/issues/114). The predictor around it may not, so each worker has its own.

    Results are those of `Sequential` but for rounding: box edges within 0.001 pixels, scores within 0.00001. Measured
    with the bundled model on a CPU, imgsz 160, 320 and 640, on pictures of five shapes with 2,683 boxes: 0.0003 pixels
    and 0.000002 at most. A score that close to `conf` may fall on the other side of it. CUDA has not been tried.

    The first opening exports the weights, which takes some seconds, into a cache: see `onnx_export`.

    Args:
        weights, workers, imgsz, threads, settings: as for every pool; `threads` are those of the session, too.
        device: "cpu", "cuda" or "cuda:N"; "auto" is CUDA only where ONNX Runtime can use it.

    Raises:
        ExtraError: onnx or onnxruntime is not installed.
        DeviceError: ONNX Runtime has no provider for the device here.
        ArgumentError: a setting that only torch's own network can follow, such as augment=True.
    """

    def __init__(
        self, weights: str | os.PathLike[str] = "bundled", *, device: str = "auto", **of_every_pool: Any
    ) -> None:
        need_extra("OnnxSession", "onnx", "onnxruntime", install='"yolothreads[onnx]"')
        super().__init__(weights, device=device, **of_every_pool)
        _refuse_torch_only(self.settings)
        if self.device != "cpu" and not (self.device.startswith("cuda") and _has_cuda()):
            if device != "auto":
                raise DeviceError(
                    f'ONNX Runtime cannot use "{self.device}" here; install onnxruntime-gpu instead of onnxruntime for '
                    'CUDA, or use device="cpu".'
                )
            self.device = "cpu"

    def _submit(self, image: Image, settings: dict[str, Any]) -> Future[Results]:
        _refuse_torch_only(settings)
        return super()._submit(image, settings)

    def _prepare(self) -> None:
        file = onnx_file(self.weights)
        with _quiet():
            self._model = load(file, self.imgsz, self.device, self.settings)
        backend = self._model.predictor.model.backend
        backend.session = None  # ultralytics made it with default options; it goes before the next one comes
        backend.session = self._session = self._make_session(file)

    def _make_session(self, file: Path) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        # Each call runs in its worker's thread; the session's further threads are shared by all calls, so that all in
        # all there are as many as the workers may have. Spinning while they wait, which is the default, halves the
        # speed on a machine with other work.
        options.intra_op_num_threads = 1 + self.workers * (self.threads - 1)
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 4  # nothing below fatal is printed: errors are raised
        providers: list[Any] = ["CPUExecutionProvider"]
        if self.device.startswith("cuda"):
            providers.insert(0, ("CUDAExecutionProvider", {"device_id": int(self.device.partition(":")[2])}))
        session = onnxruntime.InferenceSession(str(file), options, providers=providers)
        if len(session.get_providers()) < len(providers):
            raise DeviceError(
                f'ONNX Runtime could not start on "{self.device}"; install the CUDA and cuDNN versions that it was '
                'built for, or use device="cpu".'
            )
        return session

    def _predictor(self, index: int) -> Predict:
        return twin(self._model, [self._session]).predict

    def _forget(self) -> None:
        self.__dict__.pop("_model", None)
        self.__dict__.pop("_session", None)


def _has_cuda() -> bool:
    import onnxruntime

    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()


def _refuse_torch_only(settings: dict[str, Any]) -> None:
    """Refuse what ultralytics would ignore with a warning, or cannot do with an exported model."""
    from ultralytics.utils import DEFAULT_CFG_DICT

    for name in _OF_TORCH:
        if name in settings and settings[name] != DEFAULT_CFG_DICT[name]:
            raise ArgumentError(f'"{name}" needs torch\'s own network; leave it out, or use another pool.')


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep ultralytics from telling what it loads, in this thread only."""
    from ultralytics.utils import LOGGER

    here = threading.get_ident()

    def keep(record: logging.LogRecord) -> bool:
        return record.thread != here or record.levelno > logging.INFO

    LOGGER.addFilter(keep)
    try:
        yield
    finally:
        LOGGER.removeFilter(keep)
