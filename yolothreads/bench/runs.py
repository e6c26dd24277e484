"""The two benchmarks, `bench` and `growth`, and their results."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from yolothreads.bench import goals, plots
from yolothreads.bench.contenders import (
    BareForward,
    BareOnnx,
    BareOpenVino,
    EveryTask,
    PlainThreads,
    PredictList,
    ProcessExecutor,
    Setting,
)
from yolothreads.errors import ArgumentError, DeviceError, ExtraError, at_least_one
from yolothreads.measure import Comparison, Contender, Spread, compare, stamp
from yolothreads.memory import Memory, growth_while_mapping, memory_of
from yolothreads.pools import (
    POOLS,
    ModelPerThread,
    ModelsBuiltOutside,
    Pool,
    RayActors,
    Replicas,
    Sequential,
    SharedModel,
)
from yolothreads.tables import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ASPECTS = ("workers", "sizes", "memory", "images")
COUNTS = (1, 2, 4, 8, 16)
SIZES = (320, 640, 1280)
GROWING = tuple(k.__name__ for k in POOLS if k not in (Sequential, SharedModel, ModelsBuiltOutside))
"""Pools whose number of workers matters: the reference has one, and the two unsafe pools are not for use."""
_AT_ONCE = 2  # fresh processes at the same time: each may start 16 more

MemoryAt = dict[str, dict[int, Memory]]
"""Memory of each pool at each number of workers."""

# Contenders whose ratio matters stand side by side, so that the drift of a machine affects both alike.
_ORDER = (
    ("EveryTask", "Sequential", "SharedModel", "LockedModel", "BatchingWorker", "PredictList", "RayActors")
    + ("ProcessExecutor", "ModelPerProcess", "ModelsBuiltOutside", "BareForward", "Replicas", "PlainThreads")
    + ("ModelPerThread", "OnnxSession", "BareOnnx", "BareOpenVino")
)


@dataclass(frozen=True)
class Bench:
    """Result of `bench`; it shows itself as two tables: all contenders, and the goals."""

    comparison: Comparison
    setting: Setting
    images: int
    memory: MemoryAt = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    def goals(self) -> list[goals.Goal]:
        """Return the goals of the kit with the measured values."""
        return [*goals.of_speed(self.comparison, self.setting.device), *goals.of_memory(self.memory)]

    def tables(self) -> tuple[Table, Table]:
        """Return all contenders, with their ratio to the bare forward passes; and the goals."""
        all_of_them, ceiling = self.comparison.table(), BareForward.name
        headers = [*all_of_them.headers, f"of {ceiling}"]
        rows = [
            [*row, f"{self.comparison.ratio(measurement.pool, ceiling).median:.2f}"]
            for row, measurement in zip(all_of_them.rows, self.comparison, strict=True)
        ]
        caption = " ".join([f"{self.setting}, {self.images} images per round.", all_of_them.caption, *self.remarks])
        about = "Ratios are taken in each round. The goals are for two CPU cores, yolo11n and 640 pixels."
        return Table(headers, rows, caption), goals.table(self.goals(), about)

    def plots(self) -> dict[str, Figure]:
        """Return the figures of throughput and latency by name."""
        return {
            "throughput": plots.speeds(self.comparison, BareForward.name),
            "latency": plots.latencies(self.comparison),
        }

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain numbers and strings, for a JSON file."""
        return {
            "setting": str(self.setting),
            "images": self.images,
            "remarks": self.remarks,
            **self.comparison.to_dict(),
            "memory_mb": {p: {n: m._asdict() for n, m in of.items()} for p, of in self.memory.items()},
            "goals": goals.to_dict(self.goals()),
        }

    def __str__(self) -> str:
        return "\n\n".join(map(str, self.tables()))

    def _repr_html_(self) -> str:
        return "".join(table._repr_html_() for table in self.tables())


def bench(setting: Setting | None = None, *, rounds: int = 5, images: int = 24, memory: bool = True) -> Bench:
    """Benchmark every pool beside upper bounds and common alternatives; takes some minutes on two CPU cores.

    All do the same images in interleaved rounds, with the same share of the cores per worker, except where ultralytics
    sets the thread count itself. Loading and warm-up do not count, except in the guide's example, where they are part
    of every task.

    Args:
        setting: weights, workers, device and sizes.
        rounds: the number of rounds, 1 or more.
        images: images per contender and round, 1 or more.
        memory: also measure the memory of each pool, in fresh processes.

    Raises:
        ArgumentError, DeviceError, WeightsError: at once.
    """
    setting = setting or Setting()
    everyone, remarks = _contenders(setting)
    found = compare(everyone, setting.images(images), rounds, memory=memory)
    counts = {count: replace(setting, workers=count) for count in (1, 8)}
    taken = memory_at(counts, (Replicas, ModelPerThread)) if memory else {}
    return Bench(found, setting, images, taken, tuple(dict.fromkeys(remarks)))


def _contenders(setting: Setting) -> tuple[list[Pool | Contender], list[str]]:
    """Return the contenders that this machine can run, and one remark per contender that it cannot."""
    pools, remarks = setting.pools()
    like = ModelPerThread(**setting.made())
    found: list[Pool | Contender] = [*pools, PredictList(like, setting.batch)]
    for kind in (EveryTask, ProcessExecutor, BareForward, PlainThreads, BareOnnx, BareOpenVino):
        try:
            found.append(kind(like))
        except (ExtraError, DeviceError) as error:
            remarks.append(f"Not measured: {error}")
    if any(isinstance(one, RayActors) for one in found):
        remarks.append("Ray runs beside all of them, and takes about 5 % of a core while it is idle.")
    place = {name: number for number, name in enumerate(_ORDER)}
    return sorted(found, key=lambda one: place.get(type(one).__name__, -1)), remarks


@dataclass
class Growth:
    """Result of `growth`, with the aspects that were measured; it shows itself as tables."""

    setting: Setting
    stamp: str
    workers: dict[int, Comparison] = field(default_factory=dict)
    sizes: dict[int, Comparison] = field(default_factory=dict)
    memory: MemoryAt = field(default_factory=dict)
    images: dict[str, dict[int, float]] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    def goals(self) -> list[goals.Goal]:
        """Return the goals of the kit with the measured values."""
        return [*goals.of_memory(self.memory), *goals.of_mapping(self.images)]

    def tables(self) -> list[Table]:
        """Return one table per aspect: one row per pool, one column per number of workers, size or number of images."""
        made = []
        for what, found in (("workers", self.workers), ("pixels a side", self.sizes)):
            if found:
                cells = {name: {n: str(s) for n, s in of.items()} for name, of in _speeds(found).items()}
                made.append(_grid(f"images/s with {what}", cells, "Medians and ranges of interleaved rounds."))
        if self.memory:
            cells = {
                p: {n: f"{m.opened_mb:.0f} / {m.worked_mb:.0f}" for n, m in of.items()} for p, of in self.memory.items()
            }
            made.append(_grid("MB opened / after work, with workers", cells, "Beyond a process that has one model."))
        if self.images:
            cells = {pool: {n: f"{mb:.1f}" for n, mb in of.items()} for pool, of in self.images.items()}
            made.append(_grid("MB more after images of one map", cells, "64x64 pixels each."))
        if promised := self.goals():
            made.append(goals.table(promised))
        return made

    def plots(self) -> dict[str, Figure]:
        """Return one figure per aspect, by name."""
        made, speed, more = {}, "images per second", "MB beyond a process with one model"
        for x, found in (("workers", self.workers), ("pixels a side", self.sizes)):
            if found:
                made[f"speed_by_{x.split()[0]}"] = plots.lines(
                    _speeds(found), f"Throughput against {x}", (x, speed), self.stamp
                )
        for name, when in (("opened_mb", "opened"), ("worked_mb", "after work")) if self.memory else ():
            lines = {p: {n: Spread.of([getattr(m, name)]) for n, m in of.items()} for p, of in self.memory.items()}
            made[f"memory_{when.replace(' ', '_')}"] = plots.lines(
                lines, f"Memory against workers, {when}", ("workers", more), self.stamp, log=True
            )
        if self.images:
            lines = {p: {n: Spread.of([mb]) for n, mb in of.items()} for p, of in self.images.items()}
            made["memory_by_images"] = plots.lines(
                lines, "Memory while mapping", ("images mapped", "MB more than before"), self.stamp
            )
        return made

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain numbers and strings, for a JSON file."""
        return {
            "setting": str(self.setting),
            "stamp": self.stamp,
            "remarks": self.remarks,
            "workers": {n: found.to_dict() for n, found in self.workers.items()},
            "sizes": {n: found.to_dict() for n, found in self.sizes.items()},
            "memory_mb": {p: {n: m._asdict() for n, m in of.items()} for p, of in self.memory.items()},
            "images_mb": self.images,
            "goals": goals.to_dict(self.goals()),
        }

    def __str__(self) -> str:
        return "\n\n".join(
            [*map(str, self.tables()), "\n".join([f"Where not varied: {self.setting}. {self.stamp}", *self.remarks])]
        )


def growth(
    setting: Setting | None = None,
    *,
    of: Collection[str] = ASPECTS,
    counts: Sequence[int] = COUNTS,
    sizes: Sequence[int] = SIZES,
    pools: Sequence[str] = GROWING,
    rounds: int = 3,
    images: int = 16,
    mapped: int = 10_000,
) -> Growth:
    """Measure how speed and memory of pools grow; all aspects take about half an hour on two CPU cores.

    Args:
        setting: everything that is not varied.
        of: any of "workers", "sizes" (images per second of pools and bare forward passes), "memory" (with workers) and
            "images" (memory while many are mapped).
        counts: numbers of workers. `BatchingWorker` has one worker, and batches of that many images.
        sizes: sides of images in pixels.
        pools: the names of pools.
        rounds: interleaved rounds per number and size, 1 or more.
        images: images per pool and round; at least two per worker are done.
        mapped: the number of images of one `map` call during which memory is read, 10 or more.

    Raises:
        ArgumentError, DeviceError, WeightsError: at once.
    """
    kinds, setting = _kinds(pools), setting or Setting()
    if unknown := set(of) - set(ASPECTS):
        raise ArgumentError(f"{', '.join(sorted(unknown))}: not known; give any of {', '.join(ASPECTS)}.")
    by_workers = {n: replace(setting, workers=n, batch=n) for n in counts}
    by_size = {n: replace(setting, imgsz=n) for n in sizes}
    at_least_one("rounds", rounds)
    at_least_one("images", images)
    if mapped < 10:
        raise ArgumentError(f"mapped={mapped} is too few images; give 10 or more.")
    first, remarks = setting.pools(kinds)
    done = Growth(setting, stamp(first[0].device), remarks=remarks)
    kinds = [type(pool) for pool in first]
    if "workers" in of:
        done.workers = {n: _compare(s, kinds, rounds, max(images, 2 * n)) for n, s in by_workers.items()}
    if "sizes" in of:
        done.sizes = {n: _compare(s, kinds, rounds, images) for n, s in by_size.items()}
    if "memory" in of:
        done.memory = memory_at(by_workers, kinds)
    if "images" in of:
        small = [type(pool)(**{**setting.made(), "imgsz": 64}) for pool in first]
        done.images = {type(pool).__name__: growth_while_mapping(pool, mapped) for pool in small}
    return done


def memory_at(settings: Mapping[int, Setting], kinds: Sequence[type[Pool]]) -> MemoryAt:
    """Measure the memory of pools with each number of workers."""
    pools = {(kind, count): setting.pools([kind])[0][0] for count, setting in settings.items() for kind in kinds}
    with ThreadPoolExecutor(_AT_ONCE) as several:  # each waits for a process of its own
        used = dict(zip(pools, several.map(memory_of, pools.values()), strict=True))
    return {kind.__name__: {count: used[kind, count] for count in settings} for kind in kinds}


def _kinds(names: Sequence[str]) -> list[type[Pool]]:
    known = {kind.__name__: kind for kind in POOLS}
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise ArgumentError(f"{', '.join(unknown) or 'Nothing'}: no pools; give one or more of {', '.join(known)}.")
    return [known[name] for name in names]


def _compare(setting: Setting, kinds: Sequence[type[Pool]], rounds: int, images: int) -> Comparison:
    pools, _ = setting.pools(kinds)
    ceiling = BareForward(ModelPerThread(**setting.made()))
    return compare([*pools, ceiling], setting.images(images), rounds, latency=False)


def _speeds(found: Mapping[int, Comparison]) -> dict[str, dict[int, Spread]]:
    names = dict.fromkeys(measurement.pool for comparison in found.values() for measurement in comparison)
    return {name: {n: comparison.of(name).images_per_s for n, comparison in found.items()} for name in names}


def _grid(corner: str, cells: Mapping[str, Mapping[int, str]], caption: str) -> Table:
    columns = list(dict.fromkeys(column for of in cells.values() for column in of))
    rows = [[name, *(of[column] for column in columns)] for name, of in cells.items()]
    return Table([corner, *(f"{column:,}" for column in columns)], rows, caption)
