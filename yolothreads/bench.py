"""How fast the pools are here, between a ceiling (bare forward passes) and a floor (`YOLO()` in every task)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolothreads.errors import ArgumentError
from yolothreads.measure import Spread, stamp, turns
from yolothreads.pools import POOLS, ModelPerThread, Pool
from yolothreads.pools.arguments import at_least_one
from yolothreads.pools.model import Predict
from yolothreads.pools.threads import ThreadPool
from yolothreads.scenes import scene
from yolothreads.tables import Table

BARE = "bare forward"
EVERY_TASK = "YOLO() in every task"
_STRIDE = 32  # of every YOLO detection network: the size of its input is a multiple of it


@dataclass(frozen=True)
class Bench:
    """What was measured: `speeds` in images per second, one value a round, for each contender."""

    speeds: Mapping[str, Sequence[float]]
    workers: int
    imgsz: int
    images: int
    stamp: str

    def ratio(self, contender: str, other: str) -> Spread:
        """How many times as fast one contender was as another: taken in each round, then the median of the rounds."""
        return Spread.of([a / b for a, b in zip(self.speeds[contender], self.speeds[other], strict=True)])

    @property
    def ratios(self) -> dict[str, float]:
        """The two figures that the kit promises: how near to the ceiling `ModelPerThread` is, how far off the floor."""
        return {f"ModelPerThread / {other}": self.ratio("ModelPerThread", other).median for other in (BARE, EVERY_TASK)}

    def table(self) -> Table:
        """Images per second of each contender, median and range, and their ratio to the bare forward passes."""
        rows = [
            (name, str(Spread.of(speeds)), f"{self.ratio(name, BARE).median:.2f}")
            for name, speeds in self.speeds.items()
        ]
        rounds = len(self.speeds[BARE])
        caption = (
            f"{self.workers} workers, {self.images} scenes of {self.imgsz}x{self.imgsz} pixels. "
            f"Medians of {rounds} interleaved rounds. {self.stamp}"
        )
        return Table(("contender", "images/s (range)", f"of {BARE}"), rows, caption)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers and strings, for a JSON file."""
        about = {"workers": self.workers, "imgsz": self.imgsz, "images": self.images, "stamp": self.stamp}
        return {**about, "images_per_s": {k: list(v) for k, v in self.speeds.items()}, "ratios": self.ratios}

    def __str__(self) -> str:
        return "\n".join([str(self.table()), *(f"{name}: {value:.2f}" for name, value in self.ratios.items())])

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


class _BareForward(ThreadPool):
    """The network inside a `ModelPerThread`, called with a ready tensor and nothing before or after it."""

    def _predictor(self, index: int) -> Predict:
        import torch

        model = self._load()
        # After a predict this is the network that predict itself runs: fused, and in the memory format chosen for it.
        self._own.network = model.predictor.model.backend.model
        self._own.tensor = torch.rand(1, 3, self.imgsz, self.imgsz, device=self.device)
        return model.predict

    def run(self, passes: int) -> None:
        """Have all workers together do so many forward passes."""
        assert self._executor is not None
        left = iter(range(passes))  # shared: a worker takes its next pass when it is done with the last
        for worker in [self._executor.submit(self._passes, left) for _ in range(self.workers)]:
            worker.result()

    def _passes(self, left: Iterator[int]) -> None:
        import torch

        with torch.inference_mode():
            for _ in left:
                self._own.network(self._own.tensor)
        if self.device.startswith("cuda"):
            torch.cuda.synchronize(self.device)
        elif self.device == "mps":
            torch.mps.synchronize()


def bench(
    rounds: int = 5,
    images: int = 32,
    workers: int = 2,
    imgsz: int = 640,
    device: str = "cpu",
    weights: str | os.PathLike[str] = "bundled",
) -> Bench:
    """Measure every pool, the guide's `YOLO()` in every task, and the bare forward passes of the same network.

    All of them do the same number of images in each round, each worker with the same share of the cores, in interleaved
    rounds. Loading and warm-up do not count, except in the guide's way, where they are part of every task, and where
    ultralytics sets the thread count itself. It takes
    a few minutes on two CPU cores.

    Args:
        rounds: how many rounds, 1 or more.
        images: how many images each contender does in a round, 1 or more.
        workers: threads of each contender, 1 or more.
        imgsz: side of the square images in pixels, a multiple of 32, 64 or more.
        device: as for a pool.
        weights: as for a pool.

    Raises:
        ArgumentError, DeviceError, WeightsError: at once.
    """
    at_least_one("rounds", rounds)
    at_least_one("images", images)
    if imgsz % _STRIDE or imgsz < 2 * _STRIDE:
        raise ArgumentError(f"imgsz={imgsz} is no size of a network's input; give a multiple of {_STRIDE}, 64 or more.")
    pictures = [scene(seed, (imgsz, imgsz)).image for seed in range(images)]
    made: dict[str, Any] = {"workers": workers, "device": device, "imgsz": imgsz}
    pools = [kind(weights, **made) for kind in POOLS]
    bare = _BareForward(weights, **made)
    contenders = {type(pool).__name__: _mapped(pool, pictures) for pool in pools}
    contenders[EVERY_TASK] = lambda: _yolo_in_every_task(bare, pictures)
    # The two whose ratio matters most stand side by side, so that a machine's ups and downs hit both alike.
    contenders[ModelPerThread.__name__] = contenders.pop(ModelPerThread.__name__)
    contenders[BARE] = lambda: bare.run(images)
    with ExitStack() as stack:
        for pool in [*pools, bare]:
            stack.enter_context(pool)
        speeds = _race(contenders, rounds, images)
    return Bench(speeds, workers, imgsz, images, stamp(bare.device))


def _race(contenders: Mapping[str, Callable[[], None]], rounds: int, images: int) -> dict[str, list[float]]:
    names = list(contenders)
    speeds: dict[str, list[float]] = {name: [] for name in names}
    for index in turns(len(names), rounds):
        start = perf_counter()
        contenders[names[index]]()
        speeds[names[index]].append(images / (perf_counter() - start))
    return speeds


def _mapped(pool: Pool, pictures: Sequence[NDArray[np.uint8]]) -> Callable[[], None]:
    def work() -> None:
        for _ in pool.map(pictures):
            pass

    return work


def _yolo_in_every_task(like: Pool, pictures: Sequence[NDArray[np.uint8]]) -> None:
    """The guide's thread-safe example, with a task an image: each loads a model for itself, and drops it again."""
    from ultralytics import YOLO

    def task(image: NDArray[np.uint8]) -> None:
        YOLO(like.weights).predict(image, imgsz=like.imgsz, device=like.device, verbose=False)

    with ThreadPoolExecutor(like.workers, thread_name_prefix="task") as threads:
        list(threads.map(task, pictures))
