"""One ONNX Runtime session that all threads use at once without a lock, and the export of weights to ONNX files."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from yolothreads import child, exported
from yolothreads.devices import Device
from yolothreads.errors import ArgumentError, DeviceError, WeightsError, writing
from yolothreads.exported import Exported
from yolothreads.pools import forking
from yolothreads.pools.base import Predict, Size, load
from yolothreads.pools.thread_pools import ThreadPool, twin
from yolothreads.weights import check, has_end2end

# A size of the image does not fix the graph's, but with dynamic=False wide images would be padded to squares, which a
# .pt model does not do. simplify=True would need a further package, and makes no difference in speed.
_RECIPE = {"format": "onnx", "dynamic": True, "simplify": False, "imgsz": 640, "device": "cpu"}
_EXPORT_S = 900.0  # deadline; yolo11n takes 4 to 8 s on two cores


class OnnxSession(ThreadPool):
    """One ONNX Runtime session for all threads; each worker has a predictor of its own around it.

    It takes .onnx files that ultralytics exported, with or without NMS inside, for one size or for any; its results
    equal those of `YOLO("best.onnx").predict`. It also takes .pt weights, and exports them.

    Several threads may call a session at once, by its own contract
    (github.com/microsoft/onnxruntime/issues/114). The predictor around it is not safe to share.

    Results for .pt weights equal those of `Sequential` up to rounding: box edges within 0.001 pixels, scores within
    0.00001. Measured with the bundled model on a CPU, imgsz 160, 320 and 640, on pictures of five shapes with 2,683
    boxes: 0.0003 pixels and 0.000002 at most. A score that close to `conf` may fall on the other side of it. CUDA has
    not been tried.

    The first opening with .pt weights exports them, which takes some seconds, into a cache: $YOLOTHREADS_CACHE,
    or the user's cache folder. It may be deleted.

    Args:
        weights, workers, imgsz, allow, settings: as in every pool.
        threads: as in every pool; it also limits the threads of the session.
        device: "cpu", "cuda" or "cuda:N"; "auto" is CUDA only if ONNX Runtime can use it.

    Raises:
        ExtraError: onnx or onnxruntime is not installed.
        DeviceError: ONNX Runtime has no provider for the device here.
        ArgumentError: a setting that needs the network of torch, such as augment=True.
    """

    extra = "onnx"
    formats = ("pt", "onnx")

    def _resolve(self, device: Device) -> str:
        import onnxruntime

        found = super()._resolve(device)
        cuda = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
        if found == "cpu" or (cuda and found.startswith("cuda")):
            return found
        if device in ("auto", None):
            return "cpu"
        raise DeviceError(
            f'ONNX Runtime cannot use "{found}" here; install onnxruntime-gpu instead of onnxruntime for CUDA, or use '
            'device="cpu".'
        )

    def _check_settings(self, settings: dict[str, Any], *, of_pool: bool = False) -> None:
        """Refuse also settings that ultralytics would ignore with a warning, or cannot follow without the network."""
        super()._check_settings(settings, of_pool=of_pool)
        exported.check_settings(settings)

    def _check_weights(self, imgsz: Size, settings: dict[str, Any]) -> None:
        super()._check_weights(imgsz, settings)
        if settings.get("nms") is not None and not has_end2end(self.weights, self.allow):
            raise ArgumentError(f'"nms" selects an end-to-end head, which "{self.weights.name}" has not; leave it out.')

    def _prepare(self) -> None:
        file = self.weights if self._exported else onnx_file(self.weights, self.settings.get("nms"), self.allow)
        with _quiet():
            self._model = load(file, self.imgsz, self.device, self.settings, self.channels)
        backend = self._model.predictor.model.backend
        backend.session = None  # ultralytics made it with default options; free it before the next one is made
        # On CUDA, it binds the outputs of a graph of one size to memory, which all threads would share.
        backend.use_io_binding = False
        vars(backend).pop("io", None)
        backend.session = self._session = self._make_session(file)
        if self._exported is not None:
            _check_graph(self._session, self._exported)

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

    def left_by_fork(self) -> None:
        """Forget the session of the parent, too, which cannot be freed here: it would join its threads."""
        super().left_by_fork()
        if (session := self.__dict__.pop("_session", None)) is not None:
            forking.keep_for_ever(session)
            forking.skip_destructors_at_exit()  # ONNX Runtime has threads beside those of the session

    def _forget(self) -> None:
        self.__dict__.pop("_model", None)
        self.__dict__.pop("_session", None)


def _check_graph(session: Any, model: Exported) -> None:
    """Raise a WeightsError if a graph does not take the images that the metadata of its file promise."""
    shapes = [tuple(one.shape) for one in session.get_inputs()]
    sizes = shapes[0][2:]
    fits = not any(isinstance(n, int) for n in sizes) if model.fixed_imgsz is None else sizes == model.fixed_imgsz
    if len(shapes) != 1 or not fits:
        raise WeightsError(
            f'"{model.path}" takes inputs of the shapes {shapes}, which its metadata do not say (imgsz '
            f"{model.fixed_imgsz or 'of any size'}); export the model again."
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what ultralytics logs while it loads, in this thread only."""
    from ultralytics.utils import LOGGER

    here = threading.get_ident()

    def keep(record: logging.LogRecord) -> bool:
        return record.thread != here or record.levelno > logging.INFO

    LOGGER.addFilter(keep)
    try:
        yield
    finally:
        LOGGER.removeFilter(keep)


# --- the export ---


def onnx_file(weights: Path, nms: bool | None = None, allow: Iterable[str] = ()) -> Path:
    """Return the ONNX file of these weights, from the cache if it is there and whole, else exported now.

    The graph takes float32 images (1, 3, H, W) of any height and width that are multiples of the model's stride.

    The name of a file holds the digest of its ingredients and its own sha256, so that a damaged file is detected and
    exported again. Two processes may export at once: a file appears under its name only when it is complete.

    Args:
        weights: a .pt file that was checked.
        nms: as in `YOLO.predict`; False selects the end-to-end head of a model that has one.
        allow: the names of further classes in the weights, as in `yolothreads.weights.check`.

    Raises:
        WeightsError: ultralytics cannot export this model, or the weights can no longer be read.
        OutputError: the cache cannot be written.
    """
    from platformdirs import user_cache_path

    try:
        data = weights.read_bytes()
    except OSError as error:
        raise WeightsError(f'The weights "{weights}" cannot be read ({error.strerror}); check the path.') from error
    options: dict[str, Any] = {"nms": False} if nms is False else {}
    made_of = [{**_RECIPE, **options}, *(version(name) for name in ("ultralytics", "torch", "onnx"))]
    key = _digest(data, json.dumps(made_of).encode())
    folder = Path(os.environ.get("YOLOTHREADS_CACHE") or user_cache_path("yolothreads")).expanduser()
    problem = f'The cache of ONNX files "{folder}" cannot be used'
    with writing(problem, "set the environment variable YOLOTHREADS_CACHE to a folder that can be written to"):
        for found in sorted(folder.glob(f"{key}-*.onnx")):
            if found.stem.endswith(_digest(found.read_bytes())):
                return found
            found.unlink(missing_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="part-", dir=folder, ignore_cleanup_errors=True) as part:
            copy = Path(part, "weights.pt")  # ultralytics writes beside it
            copy.write_bytes(data)
            options |= {"allow": list(allow)} if allow else {}
            try:
                file = Path(_export(copy, **options))
            except child.ChildError as error:
                raise WeightsError(
                    f'"{weights}" could not be exported to ONNX ({error}); use another pool, such as Replicas.'
                ) from error
            return file.replace(folder / f"{key}-{_digest(file.read_bytes())}.onnx")


def _digest(*parts: bytes) -> str:
    """Return 32 hex digits of a sha256, which keeps names short enough for any file system."""
    return hashlib.sha256(b"".join(parts)).hexdigest()[:32]


def _export(weights: Path, nms: bool | None = None, allow: Iterable[str] = ()) -> str:
    """Export weights in a process of their own; return the name of the file, which lies beside them.

    While it exports, ultralytics replaces `torch.arange` for the whole process, prints, writes to the user's settings,
    changes torch's thread count, and installs missing packages. In that process this affects nothing else.
    """
    settings = {"YOLO_AUTOINSTALL": "false", "YOLO_OFFLINE": "true", "YOLO_CONFIG_DIR": str(weights.parent)}
    given = (str(weights), _RECIPE if nms is None else {**_RECIPE, "nms": nms}, list(allow))
    return child.call(child.name_of(_export_here), *given, timeout_s=_EXPORT_S, environment=settings)


def _export_here(weights: str, recipe: dict[str, Any], allow: list[str]) -> str:
    from ultralytics import YOLO

    return YOLO(check(weights, task=None, allow=allow)).export(**recipe)
