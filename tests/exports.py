"""Exported models, made on the spot from the bundled weights and from networks with random weights."""

import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from deadlines import scaled
from ultralytics import YOLO

from yolothreads import child
from yolothreads.devices import torch_threads_kept
from yolothreads.exported import import_openvino
from yolothreads.weights import bundled

RECIPES = {
    "fixed.onnx": {},
    "wide.onnx": {"imgsz": (96, 160)},
    "nms.onnx": {"nms": True},
    "nms-any-size.onnx": {"nms": True, "dynamic": True},
    "batch-4.onnx": {"batch": 4},
    "fixed.torchscript": {},
    "any-size.torchscript": {"dynamic": True},
    "nms.torchscript": {"nms": True},
    "fixed_openvino_model": {},
    "any-size_openvino_model": {"dynamic": True},
    "yolo26n.onnx": {},
    "yolo26n-end2end.onnx": {"nms": False},  # for ultralytics: with the head that needs none
    "yolo26n-seg-end2end.onnx": {"nms": False},
    "yolo11n-cls.onnx": {},
}
"""How each of them is exported, beside images of 160 x 160 pixels."""

Exports = Callable[[str], Path]


def maker(folder: Path) -> Exports:
    """Return a function that exports a model when it is asked for the first time, and returns its path."""

    def export(name: str) -> Path:
        path = folder / name
        if not path.exists():
            source = folder / "weights" / f"{name}.pt"
            source.parent.mkdir(exist_ok=True)
            _save(name, source)
            kind = "openvino" if name.endswith("_openvino_model") else path.suffix[1:]
            recipe = {"imgsz": 160, "device": "cpu", **({"simplify": False} if kind == "onnx" else {}), **RECIPES[name]}
            if kind == "openvino":  # its threads do not end before their process does
                made = child.call(child.name_of(_export), str(source), kind, recipe, timeout_s=scaled(300))
            else:
                with torch_threads_kept(), warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of tracing
                    made = _export(str(source), kind, recipe)
            shutil.move(made.rstrip("/"), path)
        if path.is_dir():
            import_openvino()  # ultralytics would import it with its telemetry, which leaves a thread behind
        return path

    return export


def _export(weights: str, kind: str, recipe: dict[str, Any]) -> str:
    return YOLO(weights).export(format=kind, **recipe)


def _save(name: str, file: Path) -> None:
    if not name.startswith("yolo"):
        shutil.copy(bundled(), file)
        return
    torch.manual_seed(0)
    YOLO(name.removesuffix(".onnx").removesuffix("-end2end") + ".yaml", verbose=False).save(file)
