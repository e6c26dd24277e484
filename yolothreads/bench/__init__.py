"""Benchmarks of the pools beside upper bounds and common alternatives, of how each grows, and the goals of the kit.

The goals are for two CPU cores, yolo11n and 640 pixels; those for CUDA for one GPU and 32 callers. `contenders` has the
setting, the alternatives and the upper bounds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from yolothreads import charts
from yolothreads.bench import contenders
from yolothreads.bench.contenders import BareForward, BareOnnx, EveryTask, PlainThreads, Setting
from yolothreads.errors import ArgumentError, DeviceError, ExtraError, at_least_one
from yolothreads.measure import Comparison, Contender, Spread, compare, stamp
from yolothreads.memory import Memory, growth_while_mapping, memory_of
from yolothreads.pools import POOLS, ModelPerThread, Pool, RayActors, Replicas
from yolothreads.tables import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Bench", "Goal", "Growth", "Setting", "bench", "growth"]

ASPECTS = ("workers", "sizes", "memory", "images")
UNVARIED = ("Sequential", "SharedModel", "ModelsBuiltOutside")  # one has one worker, and two are not for use
GROWING = tuple(kind.__name__ for kind in POOLS if kind.__name__ not in UNVARIED)
"""Pools whose number of workers matters."""
_AT_ONCE = 2  # fresh processes at the same time: each may start 16 more

MemoryAt = dict[str, dict[int, Memory]]
"""Memory of each pool at each number of workers."""

# Contenders whose ratio matters stand side by side, so that the drift of a machine affects both alike.
_ORDER = (
    ("EveryTask", "Sequential", "SharedModel", "LockedModel", "BatchingWorker", "PredictList", "RayActors")
    + ("ProcessExecutor", "ModelPerProcess", "ModelsBuiltOutside", "BareForward", "Replicas", "PlainThreads")
    + ("ModelPerThread", "OnnxSession", "BareOnnx", "BareOpenVino")
)

# --- the goals ---

BARE, PLAIN = BareForward.name, PlainThreads.name
RATIOS = (
    ("Replicas", BARE, 0.95),
    ("Replicas", "ModelPerThread", 1.0),
    ("ModelPerThread", BARE, None),
    ("ModelPerThread", EveryTask.name, None),
    ("ModelPerThread", PLAIN, 0.97),  # the overhead of the pool itself: below 3 %
    ("OnnxSession", "ModelPerThread", 1.2),
    ("OnnxSession", BareOnnx.name, 0.9),
    ("ModelPerProcess", BARE, 0.85),
)
ON_CPU, ON_CUDA = ("BatchingWorker", "LockedModel", 1.0), ("BatchingWorker", "ModelPerThread", 4.0)
FURTHER_MB, OF_MODELS = 2.0, 0.15
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

    def cells(self) -> tuple[str, str, str, str]:
        """Return its row of the table: name, measured value, bound, and whether it is met."""
        bound = "-" if self.most is None else f"{self.most:g} or less"
        bound = bound if self.least is None else f"{self.least:g} or more"
        return self.what, f"{self.measured:.2f}", bound, {None: "-", True: "yes", False: "no"}[self.met]


def goals_of_speed(found: Comparison, device: str) -> Iterator[Goal]:
    """Yield the ratios between contenders that were measured."""
    names = {measurement.pool for measurement in found}
    for one, other, least in (*RATIOS, ON_CUDA if device.startswith("cuda") else ON_CPU):
        if {one, other} <= names:
            yield Goal(f"{one} / {other}", found.ratio(one, other), least)


def goals_of_memory(found: Mapping[str, Mapping[int, Memory]]) -> Iterator[Goal]:
    """Yield the MB per further worker of `Replicas`, and its memory relative to that of as many YOLO objects."""
    replicas, models = found.get("Replicas", {}), found.get("ModelPerThread", {})
    few, many = min(replicas, default=0), max(replicas, default=0)
    # After work both include what allocators keep per thread, which is no part of a model and has no goal.
    for name, when, further_mb, of_models in (
        ("opened_mb", "opened", FURTHER_MB, OF_MODELS),
        ("worked_mb", "after work", None, None),
    ):
        if few < many:
            grown = getattr(replicas[many], name) - getattr(replicas[few], name)
            yield Goal(f"MB of a further worker of Replicas, {when}", _one(grown / (many - few)), most=further_mb)
        if 8 in replicas and 8 in models:
            share = getattr(replicas[8], name) / getattr(models[8], name)
            yield Goal(f"Replicas / ModelPerThread, MB of 8 workers, {when}", _one(share), most=of_models)


def goals_of_mapping(found: Mapping[str, Mapping[int, float]]) -> Iterator[Goal]:
    """Yield the growth of each pool's memory over a long `map`."""
    for pool, marks in found.items():
        yield Goal(f"MB more after mapping {max(marks):,} images, {pool}", _one(marks[max(marks)]), most=FLAT_MB)


def _goal_table(goals: Sequence[Goal], caption: str = "") -> Table:
    return Table(("ratio or amount", "measured (range)", "goal", "met"), [goal.cells() for goal in goals], caption)


def _goal_dict(goals: Sequence[Goal]) -> dict[str, Any]:
    return {g.what: {**asdict(g.measured), "least": g.least, "most": g.most, "met": g.met} for g in goals}


def _one(value: float) -> Spread:
    return Spread.of([value])


# --- the pools beside upper bounds and alternatives ---


@dataclass(frozen=True)
class Bench:
    """Result of `bench`; it shows itself as two tables: all contenders, and the goals."""

    comparison: Comparison
    setting: Setting
    images: int
    memory: MemoryAt = field(default_factory=dict)
    remarks: Sequence[str] = ()

    def goals(self) -> list[Goal]:
        """Return the goals of the kit with the measured values."""
        return [*goals_of_speed(self.comparison, self.setting.device), *goals_of_memory(self.memory)]

    def tables(self) -> tuple[Table, Table]:
        """Return all contenders, with their ratio to the bare forward passes; and the goals."""
        everyone = self.comparison.table()
        ratios = [f"{self.comparison.ratio(measurement.pool, BARE).median:.2f}" for measurement in self.comparison]
        rows = [[*row, ratio] for row, ratio in zip(everyone.rows, ratios, strict=True)]
        caption = " ".join([f"{self.setting}, {self.images} images per round.", everyone.caption, *self.remarks])
        about = "Ratios are taken in each round. The goals are for two CPU cores, yolo11n and 640 pixels."
        return Table([*everyone.headers, f"of {BARE}"], rows, caption), _goal_table(self.goals(), about)

    def plots(self) -> dict[str, Figure]:
        """Return the figures of throughput and latency by name."""
        return {"throughput": charts.speeds(self.comparison, BARE), "latency": charts.latencies(self.comparison)}

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain numbers and strings, for a JSON file."""
        return {
            "setting": str(self.setting),
            "images": self.images,
            "remarks": self.remarks,
            **self.comparison.to_dict(),
            "memory_mb": _memory_dict(self.memory),
            "goals": _goal_dict(self.goals()),
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
    taken = _memory_at(counts, (Replicas, ModelPerThread)) if memory else {}
    return Bench(found, setting, images, taken, tuple(dict.fromkeys(remarks)))


def _contenders(setting: Setting) -> tuple[list[Pool | Contender], list[str]]:
    """Return the contenders that this machine can run, and one remark per contender that it cannot."""
    pools, remarks = setting.pools()
    like = ModelPerThread(**setting.made())
    found: list[Pool | Contender] = [*pools, contenders.PredictList(like, setting.batch)]
    for kind in (EveryTask, contenders.ProcessExecutor, BareForward, PlainThreads, BareOnnx, contenders.BareOpenVino):
        try:
            found.append(kind(like))
        except (ExtraError, DeviceError) as error:
            remarks.append(f"Not measured: {error}")
    if any(isinstance(one, RayActors) for one in found):
        remarks.append("Ray runs beside all of them, and takes about 5 % of a core while it is idle.")
    place = {name: number for number, name in enumerate(_ORDER)}
    return sorted(found, key=lambda one: place.get(type(one).__name__, -1)), remarks


def _memory_at(settings: Mapping[int, Setting], kinds: Sequence[type[Pool]]) -> MemoryAt:
    """Measure the memory of pools with each number of workers."""
    pools = {(kind, count): setting.pools([kind])[0][0] for count, setting in settings.items() for kind in kinds}
    with ThreadPoolExecutor(_AT_ONCE) as several:  # each waits for a process of its own
        used = dict(zip(pools, several.map(memory_of, pools.values()), strict=True))
    return {kind.__name__: {count: used[kind, count] for count in settings} for kind in kinds}


def _memory_dict(memory: MemoryAt) -> dict[str, Any]:
    return {pool: {count: used._asdict() for count, used in of.items()} for pool, of in memory.items()}


# --- how pools grow ---


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

    def goals(self) -> list[Goal]:
        """Return the goals of the kit with the measured values."""
        return [*goals_of_memory(self.memory), *goals_of_mapping(self.images)]

    def _speeds(self) -> Iterator[tuple[str, dict[str, dict[int, Spread]]]]:
        """Yield what was varied, and the speed of each contender at each step of it."""
        for what, found in (("workers", self.workers), ("pixels a side", self.sizes)):
            if found:
                names = dict.fromkeys(m.pool for comparison in found.values() for m in comparison)
                yield what, {name: {n: of.of(name).images_per_s for n, of in found.items()} for name in names}

    def tables(self) -> list[Table]:
        """Return one table per aspect: one row per pool, one column per number of workers, size or number of images."""
        made = [
            _grid(f"images/s with {what}", speeds, "{:.1f}", "Medians and ranges of interleaved rounds.")
            for what, speeds in self._speeds()
        ]
        if self.memory:
            cell, about = "{0.opened_mb:.0f} / {0.worked_mb:.0f}", "Beyond a process that has one model."
            made.append(_grid("MB opened / after work, with workers", self.memory, cell, about))
        if self.images:
            made.append(_grid("MB more after images of one map", self.images, "{:.1f}", "64x64 pixels each."))
        return made + [_goal_table(goals) for goals in [self.goals()] if goals]

    def plots(self) -> dict[str, Figure]:
        """Return one figure per aspect, by name."""
        made = {}
        for x, speeds in self._speeds():
            title, labels = f"Throughput against {x}", (x, "images per second")
            made[f"speed_by_{x.split()[0]}"] = charts.lines(speeds, title, labels, self.stamp)
        for name, when in (("opened_mb", "opened"), ("worked_mb", "after work")) if self.memory else ():
            lines = {p: {n: _one(getattr(m, name)) for n, m in of.items()} for p, of in self.memory.items()}
            title, labels = f"Memory against workers, {when}", ("workers", "MB beyond a process with one model")
            made[f"memory_{when.replace(' ', '_')}"] = charts.lines(lines, title, labels, self.stamp, log=True)
        if self.images:
            lines = {pool: {n: _one(mb) for n, mb in of.items()} for pool, of in self.images.items()}
            labels = ("images mapped", "MB more than before")
            made["memory_by_images"] = charts.lines(lines, "Memory while mapping", labels, self.stamp)
        return made

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain numbers and strings, for a JSON file."""
        return {
            "setting": str(self.setting),
            "stamp": self.stamp,
            "remarks": self.remarks,
            "workers": {n: found.to_dict() for n, found in self.workers.items()},
            "sizes": {n: found.to_dict() for n, found in self.sizes.items()},
            "memory_mb": _memory_dict(self.memory),
            "images_mb": self.images,
            "goals": _goal_dict(self.goals()),
        }

    def __str__(self) -> str:
        about = "\n".join([f"Where not varied: {self.setting}. {self.stamp}", *self.remarks])
        return "\n\n".join([*map(str, self.tables()), about])


def growth(
    setting: Setting | None = None,
    *,
    of: Collection[str] = ASPECTS,
    counts: Sequence[int] = (1, 2, 4, 8, 16),
    sizes: Sequence[int] = (320, 640, 1280),
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
    setting, known = setting or Setting(), {kind.__name__: kind for kind in POOLS}
    if (strangers := [name for name in pools if name not in known]) or not pools:
        raise ArgumentError(f"{', '.join(strangers) or 'Nothing'}: no pools; give one or more of {', '.join(known)}.")
    if unknown := set(of) - set(ASPECTS):
        raise ArgumentError(f"{', '.join(sorted(unknown))}: not known; give any of {', '.join(ASPECTS)}.")
    by_workers = {n: replace(setting, workers=n, batch=n) for n in counts}
    by_size = {n: replace(setting, imgsz=n) for n in sizes}
    at_least_one("rounds", rounds)
    at_least_one("images", images)
    if mapped < 10:
        raise ArgumentError(f"mapped={mapped} is too few images; give 10 or more.")
    first, remarks = setting.pools([known[name] for name in pools])
    done = Growth(setting, stamp(first[0].device), remarks=remarks)
    kinds = [type(pool) for pool in first]
    if "workers" in of:
        done.workers = {n: _compare(s, kinds, rounds, max(images, 2 * n)) for n, s in by_workers.items()}
    if "sizes" in of:
        done.sizes = {n: _compare(s, kinds, rounds, images) for n, s in by_size.items()}
    if "memory" in of:
        done.memory = _memory_at(by_workers, kinds)
    if "images" in of:
        small = {**setting.made(), "imgsz": 64}
        done.images = {kind.__name__: growth_while_mapping(kind(**small), mapped) for kind in kinds}
    return done


def _compare(setting: Setting, kinds: Sequence[type[Pool]], rounds: int, images: int) -> Comparison:
    pools, _ = setting.pools(kinds)
    ceiling = BareForward(ModelPerThread(**setting.made()))
    return compare([*pools, ceiling], setting.images(images), rounds, latency=False)


def _grid(corner: str, values: Mapping[str, Mapping[int, Any]], cell: str, caption: str) -> Table:
    columns = list(dict.fromkeys(column for of in values.values() for column in of))
    rows = [[name, *(cell.format(of[column]) for column in columns)] for name, of in values.items()]
    return Table([corner, *(f"{column:,}" for column in columns)], rows, caption)
