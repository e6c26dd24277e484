"""A package of the user's own with a module of torch, and weights that contain it."""

from pathlib import Path

import torch
from ultralytics import YOLO

from yolothreads.weights import bundled

PACKAGE = """
import os
from torch import nn


class MyBlock(nn.Module):
    helper = staticmethod(os.system)

    def __init__(self, inner=None, command=""):
        super().__init__()
        self.inner = inner
        if command:
            os.system(command)

    def forward(self, x):
        return self.inner(x)

    class Inner(nn.Module):
        pass


class Other(MyBlock):
    pass


def run(command="true"):
    os.system(command)
"""


def write_package(folder: Path) -> None:
    """Write the package `my_pkg` into a folder that Python searches."""
    (folder / "my_pkg.py").write_text(PACKAGE)


def weights_with(kind: str, folder: Path) -> Path:
    """Write bundled weights around a module of one of the classes of `my_pkg`."""
    import my_pkg

    model = YOLO(bundled())
    layers = model.model.model
    block = getattr(my_pkg, kind)(layers[0])
    block.i, block.f, block.type, block.np = layers[0].i, layers[0].f, kind, 0
    layers[0] = block
    torch.save({"model": model.model}, file := folder / f"{kind}.pt")
    return file
