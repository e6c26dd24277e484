"""Exported models: what ultralytics wrote into an .onnx or .torchscript file or an OpenVINO folder; their limits."""

from __future__ import annotations

import ast
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from yolothreads.errors import ArgumentError, WeightsError

LIBRARIES = {"onnx": ("onnx", "onnxruntime"), "openvino": ("openvino",)}
"""The libraries that each format needs besides torch, by the names under which they are imported and installed."""

_SUFFIXES = {".pt": "pt", ".onnx": "onnx", ".torchscript": "torchscript"}
_READ: dict[str, Any] = {
    "task": None,
    "names": None,
    "stride": None,
    "imgsz": None,
    "channels": 3,
    "args": {},
    "end2end": False,
}
"""The metadata that count, with what ultralytics takes for those that older versions of it did not write."""
_NEED_TORCH = ("augment", "channels_last", "compile", "dnn", "quantize", "visualize")


@dataclass(frozen=True)
class Exported:
    """A model in another format than .pt, as its metadata describe it.

    path: its file or folder. format: "onnx", "torchscript" or "openvino". task: "detect", "segment", ...
    channels: of its images. fixed_imgsz: (height, width) in pixels if it takes images of this size only, else None.
    end2end: whether its output needs no NMS.
    """

    path: Path
    format: str
    task: str
    channels: int
    fixed_imgsz: tuple[int, int] | None
    end2end: bool

    def check_settings(self, settings: Mapping[str, Any]) -> None:
        """Raise an ArgumentError for settings that ultralytics would ignore, because the export has decided on them."""
        check_settings(settings)
        if settings.get("nms") is not None:
            raise ArgumentError(f'"nms" was decided when "{self.path.name}" was exported; leave it out.')
        size: Any = settings.get("imgsz", self.fixed_imgsz)
        height, width = (size, size) if isinstance(size, int) else size or (0, 0)
        if self.fixed_imgsz not in (None, (height, width)):
            raise ArgumentError(
                f'imgsz={size} does not fit "{self.path.name}", which takes images of {self.fixed_imgsz} pixels only; '
                "leave it out, or export the model with dynamic=True."
            )


def format_of(path: Path) -> str:
    """Return "pt", "onnx", "torchscript" or "openvino" by the name of a file or folder, or "" for any other."""
    if path.is_dir():
        return "openvino" if path.name.endswith("_openvino_model") else ""
    # A file for Qualcomm's processors is one of ONNX by its suffix only.
    return "" if path.name.endswith("_qnn.onnx") else _SUFFIXES.get(path.suffix, "")


def import_openvino() -> Any:
    """Import OpenVINO without its telemetry, which would send data, and leave a thread and a file."""
    telemetry = "openvino_telemetry"
    absent = telemetry not in sys.modules
    try:
        sys.modules.setdefault(telemetry, None)  # type: ignore[arg-type]
        return import_module("openvino")
    finally:
        if absent:  # else the user has imported it
            del sys.modules[telemetry]


def read(path: Path) -> Exported:
    """Read the metadata of an exported model; nothing is loaded.

    Raises:
        WeightsError: they are missing or incomplete, which is so in a damaged file, and in models of other programs.
    """
    from ultralytics.cfg import TASKS
    from ultralytics.nn.backends.base import BaseBackend  # undocumented: see tests/pools/test_private_names.py

    found = BaseBackend.read_metadata(path)  # as strings, as values, or nothing at all: it raises no error
    try:
        task, names, stride, imgsz, channels, args, end2end = (
            _value(found.get(name, default)) for name, default in _READ.items()
        )
        height, width = imgsz
        fixed = None if (args["dynamic"] if "dynamic" in args else _takes_any_size(path)) else (int(height), int(width))
        if task not in TASKS or not names or int(stride) < 1:
            raise ValueError
        if path.is_dir() and not any(path.glob("*.xml")):
            raise FileNotFoundError
        return Exported(path, format_of(path), task, int(channels), fixed, bool(end2end or args.get("nms")))
    except (KeyError, ValueError, SyntaxError, TypeError, AttributeError, FileNotFoundError) as error:
        raise WeightsError(
            f'"{path}" is damaged, or ultralytics did not export it: its metadata have no task, names, stride or size. '
            'Make it with YOLO("best.pt").export(...).'
        ) from error


def _takes_any_size(path: Path) -> bool:
    """Return whether the graph of an .onnx file does, for files of older versions, whose metadata do not say it."""
    if path.suffix != ".onnx" or find_spec("onnx") is None:
        return False
    import onnx

    size = onnx.load(path, load_external_data=False).graph.input[0].type.tensor_type.shape.dim[2:]
    return any(side.dim_param for side in size)


def check_settings(settings: Mapping[str, Any]) -> None:
    """Raise an ArgumentError for settings that no exported model can follow, because they need torch's own network."""
    for name in settings.keys() & _NEED_TORCH:
        from ultralytics.utils import DEFAULT_CFG_DICT

        if settings[name] != DEFAULT_CFG_DICT[name]:
            shown = '"quantize" (half=True)' if name == "quantize" else f'"{name}"'
            raise ArgumentError(f"{shown} needs torch's own network; leave it out, or use another pool and a .pt file.")


def _value(text: Any) -> Any:
    """Return the value in a string: some formats keep strings only."""
    if not isinstance(text, str):
        return text
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text  # a word, such as the task
