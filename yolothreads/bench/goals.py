"""Goals of the kit for its pools, with the measured values.

The goals are for two CPU cores, yolo11n and 640 pixels; those for CUDA for one GPU and 32 callers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from yolothreads.bench.contenders import BareForward, BareOnnx, EveryTask, PlainThreads
from yolothreads.measure import Comparison, Spread
from yolothreads.memory import Memory
from yolothreads.tables import Table

BARE, BARE_ONNX, PLAIN = BareForward.name, BareOnnx.name, PlainThreads.name
RATIOS = (
    ("Replicas", BARE, 0.95),
    ("Replicas", "ModelPerThread", 1.0),
    ("ModelPerThread", BARE, None),
    ("ModelPerThread", EveryTask.name, None),
    ("ModelPerThread", PLAIN, 0.97),  # the overhead of the pool itself: below 3 %
    ("OnnxSession", "ModelPerThread", 1.2),
    ("OnnxSession", BARE_ONNX, 0.9),
    ("ModelPerProcess", BARE, 0.85),
)
ON_CPU = (("BatchingWorker", "LockedModel", 1.0),)
ON_CUDA = (("BatchingWorker", "ModelPerThread", 4.0),)
FURTHER_MB = 2.0
OF_MODELS = 0.15
FLAT_MB = 10.0  # a guess at what allocators may keep: 10,000 images themselves are 120 MB


class Goal(NamedTuple):
    """A measured value with its lower bound (`least`) or upper bound (`most`); without a bound it is no goal."""

    what: str
    measured: Spread
    least: float | None = None
    most: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the median is within the bounds; None if there is no bound."""
        if self.least is None and self.most is None:
            return None
        return (self.least or 0) <= self.measured.median <= (self.most or float("inf"))


def of_speed(found: Comparison, device: str) -> Iterator[Goal]:
    """Yield the ratios between contenders that were measured."""
    names = {measurement.pool for measurement in found}
    for one, other, least in RATIOS + (ON_CUDA if device.startswith("cuda") else ON_CPU):
        if {one, other} <= names:
            yield Goal(f"{one} / {other}", found.ratio(one, other), least)


def of_memory(found: Mapping[str, Mapping[int, Memory]]) -> Iterator[Goal]:
    """Yield the MB per further worker of `Replicas`, and its memory relative to that of as many YOLO objects."""
    replicas, models = found.get("Replicas", {}), found.get("ModelPerThread", {})
    few, many = min(replicas, default=0), max(replicas, default=0)
    # After work both include what allocators keep per thread, which is no part of a model and has no goal.
    for field, when, further_mb, of_models in (
        ("opened_mb", "opened", FURTHER_MB, OF_MODELS),
        ("worked_mb", "after work", None, None),
    ):
        if few < many:
            grown = getattr(replicas[many], field) - getattr(replicas[few], field)
            yield Goal(f"MB of a further worker of Replicas, {when}", _one(grown / (many - few)), most=further_mb)
        for count in (8,) if 8 in replicas and 8 in models else ():
            share = getattr(replicas[count], field) / getattr(models[count], field)
            yield Goal(f"Replicas / ModelPerThread, MB of {count} workers, {when}", _one(share), most=of_models)


def of_mapping(found: Mapping[str, Mapping[int, float]]) -> Iterator[Goal]:
    """Yield the growth of each pool's memory over a long `map`."""
    for pool, marks in found.items():
        yield Goal(f"MB more after mapping {max(marks):,} images, {pool}", _one(marks[max(marks)]), most=FLAT_MB)


def table(goals: Sequence[Goal], caption: str = "") -> Table:
    """Return one row per value."""
    rows = [
        (goal.what, f"{goal.measured:.2f}", _promised(goal), "-" if goal.met is None else "yes" if goal.met else "no")
        for goal in goals
    ]
    return Table(("ratio or amount", "measured (range)", "goal", "met"), rows, caption)


def to_dict(goals: Sequence[Goal]) -> dict[str, Any]:
    """Return the same as plain numbers, by the name of the value."""
    return {
        goal.what: {**asdict(goal.measured), "least": goal.least, "most": goal.most, "met": goal.met} for goal in goals
    }


def _promised(goal: Goal) -> str:
    if goal.least is not None:
        return f"{goal.least:g} or more"
    return "-" if goal.most is None else f"{goal.most:g} or less"


def _one(value: float) -> Spread:
    return Spread.of([value])
