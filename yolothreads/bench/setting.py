"""On what is measured: weights, device, sizes; and the pools for it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolothreads.arguments import at_least_one
from yolothreads.errors import ArgumentError
from yolothreads.measure import pools_here
from yolothreads.pools import POOLS, BatchingWorker, Pool
from yolothreads.scenes import scene

_STRIDE = 32  # of every YOLO detection network: the size of its input is a multiple of it


@dataclass(frozen=True)
class Setting:
    """What all contenders have in common.

    Args:
        weights, workers, device: as for a pool.
        imgsz: side of the square images in pixels, a multiple of 32, 64 or more.
        batch: most images that `BatchingWorker` does at once, and of how many ultralytics' own batches are.
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
                f"imgsz={self.imgsz} is no size of a network's input; give a multiple of {_STRIDE}, 64 or more."
            )

    def made(self) -> dict[str, Any]:
        """The arguments that every pool has."""
        return {name: getattr(self, name) for name in ("weights", "workers", "device", "imgsz")}

    def pools(self, kinds: Iterable[type[Pool]] = POOLS) -> tuple[list[Pool], list[str]]:
        """The pools that can be made here, and why the others cannot."""
        makers = [partial(kind, max_batch=self.batch) if kind is BatchingWorker else kind for kind in kinds]
        return pools_here(makers, **self.made())

    def images(self, count: int) -> list[NDArray[np.uint8]]:
        """Scenes of (imgsz, imgsz, 3) uint8, BGR."""
        at_least_one("images", count)
        return [scene(seed, (self.imgsz, self.imgsz)).image for seed in range(count)]

    def __str__(self) -> str:
        weights = self.weights if self.weights == "bundled" else os.path.basename(self.weights)  # noqa: PTH119
        return f"{self.workers} workers, {weights} weights, {self.imgsz}x{self.imgsz} pixels, batches of {self.batch}"
