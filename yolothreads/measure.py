"""Measure any pool: correctness, throughput, latency, start-up and memory, beside others in interleaved rounds."""

from __future__ import annotations

import math
import platform
import statistics
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import date
from time import perf_counter
from typing import TYPE_CHECKING, Any, Self, overload

from yolothreads import devices
from yolothreads.detections import finds_all, same
from yolothreads.errors import ArgumentError, DeviceError, ExtraError
from yolothreads.memory import Memory, memory_of
from yolothreads.pools import POOLS, Image, Pool, Sequential, make_pool
from yolothreads.scenes import Scene
from yolothreads.tables import Table

if TYPE_CHECKING:
    from ultralytics.engine.results import Results

__all__ = ["Comparison", "Contender", "Measurement", "Spread", "compare", "measure", "pools_here", "stamp", "turns"]


@dataclass(frozen=True)
class Spread:
    """Median, smallest and largest of some rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Make it from one value for each round."""
        return cls(statistics.median(values), min(values), max(values))

    def __format__(self, spec: str) -> str:
        if self.low == self.high:
            return format(self.median, spec)
        return " ".join((format(self.median, spec), f"({format(self.low, spec)} to {format(self.high, spec)})"))

    def __str__(self) -> str:
        return format(self, ".1f")


@dataclass
class Measurement:
    """What one pool, or what stands beside the pools, did.

    Counts are of images over all rounds; they and the latency are None where nobody looked, `true_right` and
    `true_wrong` where the truth is not known.
    """

    pool: str
    workers: int
    right: int = 0
    wrong: int = 0
    errors: int = 0
    true_right: int | None = None
    true_wrong: int | None = None
    speeds: tuple[float, ...] = ()  # images per second of each round
    latency_p50_ms: float | None = None
    latency_p99_ms: float | None = None
    start_up_s: float = 0.0
    memory: Memory | None = None

    @property
    def images_per_s(self) -> Spread:
        """Median and range of the rounds."""
        return Spread.of(self.speeds)

    @property
    def memory_per_worker_mb(self) -> float | None:
        """What the pool adds to a process that has one model already, after it has worked, divided by its workers."""
        return None if self.memory is None else self.memory.worked_mb / self.workers

    @property
    def judged(self) -> bool:
        """Whether its results were looked at; a `Contender`'s are not."""
        return bool(self.right or self.wrong or self.errors)


class Comparison(Sequence[Measurement]):
    """The measurements of some pools on the same images; shows itself as a table."""

    def __init__(self, measurements: Sequence[Measurement], rounds: int, stamped: str) -> None:
        self._measurements, self.rounds, self.stamp = tuple(measurements), rounds, stamped

    @overload
    def __getitem__(self, index: int) -> Measurement: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Measurement]: ...
    def __getitem__(self, index: int | slice) -> Measurement | Sequence[Measurement]:
        return self._measurements[index]

    def __len__(self) -> int:
        return len(self._measurements)

    def of(self, pool: type[Pool] | str) -> Measurement:
        """The measurement of one pool, by class or name."""
        name = pool if isinstance(pool, str) else pool.__name__
        for measurement in self:
            if measurement.pool == name:
                return measurement
        raise ArgumentError(f'"{name}" was not measured here; {", ".join(m.pool for m in self)} were.')

    def ratio(self, pool: type[Pool] | str, other: type[Pool] | str) -> Spread:
        """How many times as fast one was as another: taken in each round, then the median of the rounds."""
        return Spread.of([a / b for a, b in zip(self.of(pool).speeds, self.of(other).speeds, strict=True)])

    def table(self) -> Table:
        """Counts, speed, latency, start-up and memory of every pool, the columns that were measured."""
        columns: dict[str, list[Any]] = {
            "pool": [m.pool for m in self],
            "workers": [m.workers for m in self],
            **{name: [getattr(m, name) if m.judged else "-" for m in self] for name in ("right", "wrong", "errors")},
            "true boxes found": [
                f"{m.true_right} of {m.true_right + (m.true_wrong or 0)} images" if m.true_right is not None else "-"
                for m in self
            ],
            "images/s (range)": [str(m.images_per_s) for m in self],
            "p50 ms": [_number(m.latency_p50_ms) for m in self],
            "p99 ms": [_number(m.latency_p99_ms) for m in self],
            "start-up s": [f"{m.start_up_s:.1f}" for m in self],
            "MB opened": [_number(m.memory and m.memory.opened_mb) for m in self],
            "MB per worker": [_number(m.memory_per_worker_mb) for m in self],
        }
        asked_for = {name: column for name, column in columns.items() if set(column) != {"-"}}
        caption = f"Images/s: medians of {self.rounds} interleaved rounds. {self.stamp}."
        return Table(list(asked_for), list(zip(*asked_for.values(), strict=True)), caption)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers and strings, for a JSON file."""
        rows = [{**asdict(m), "memory": m.memory and m.memory._asdict()} for m in self]
        return {"rounds": self.rounds, "stamp": self.stamp, "measured": rows}

    def __str__(self) -> str:
        return str(self.table())

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


def stamp(device: str = "cpu") -> str:
    """What a number must carry: device, cores, versions and date, in one line."""
    import torch
    import ultralytics

    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else platform.machine()
    return (
        f"{device} ({name}), {devices.cores()} cores, Python {platform.python_version()}, torch {torch.__version__}, "
        f"ultralytics {ultralytics.__version__}, {date.today()}"
    )


class Contender(ABC):
    """Another way to do the same images, to be measured beside pools."""

    name: str
    workers: int

    def __enter__(self) -> Self:
        """Get ready; what is done here is its start-up."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Give back what `__enter__` took."""

    @abstractmethod
    def run(self, images: Sequence[Image]) -> int:
        """Do images; gives how many were done."""


def measure(pool: Pool, images: Sequence[Image], rounds: int = 5, **kwargs: Any) -> Measurement:
    """Measure one pool; see `compare`."""
    return compare([pool], images, rounds, **kwargs)[0]


def pools_here(kinds: Iterable[Callable[..., Pool]] = POOLS, **made: Any) -> tuple[list[Pool], list[str]]:
    """Make a pool of each kind; where its library is missing, or cannot use the device, say so in a sentence instead.

    Raises:
        ArgumentError, DeviceError, WeightsError: at once; DeviceError if no pool could use that device.
    """
    devices.resolve(made.get("device", "auto"))
    pools, remarks = [], []
    for kind in kinds:
        try:
            pools.append(make_pool(kind, **made))
        except (ExtraError, DeviceError) as error:
            remarks.append(f"Not measured: {error}")
    return pools, remarks


def compare(
    pools: Sequence[Pool | Contender],
    images: Sequence[Image],
    rounds: int = 5,
    *,
    per_image_settings: Sequence[Mapping[str, Any]] = ({},),
    truth: Sequence[Scene] | None = None,
    latency: bool = True,
    memory: bool = False,
    progress: Callable[[Sequence[Measurement]], None] = lambda measured: None,
) -> Comparison:
    """Measure pools side by side: every round runs all of them, the order turned round each time.

    Args:
        pools: pools that are not open yet, made with the same weights, device, imgsz and settings; among them, what
            else is to do the same images in the same rounds.
        images: what each pool does in each round.
        rounds: how many rounds, 1 or more. Loading and warm-up come before and do not count.
        per_image_settings: predict settings of the first image, the second, ...; repeated where there are too few.
        truth: the scenes that the images are of, where known.
        latency: also have as many callers ask as the pool with most workers has, in as many rounds again: so many for
            every pool, for who serves one caller at a time is no quicker for several.
        memory: also start a fresh process a pool and see what it adds to its unique set size.
        progress: called with what is known so far before each pool is opened, after each turn, and as memory comes in;
            what it raises ends the measurement.

    Raises:
        ArgumentError: no pools, images, rounds or settings, another number of true scenes than of images, or pools
            made with different weights, device, imgsz or settings.
    """
    own = [pool for pool in pools if isinstance(pool, Pool)]
    if not own or not images or rounds < 1:
        raise ArgumentError(f"{len(own)} pools, {len(images)} images, {rounds} rounds: give 1 or more of each.")
    first = own[0]
    if any(vars(p)[name] != vars(first)[name] for p in own for name in ("weights", "device", "imgsz", "settings")):
        raise ArgumentError("These pools differ in weights, device, imgsz or settings; compare like with like.")
    if not per_image_settings or (truth is not None and len(truth) != len(images)):
        raise ArgumentError(
            "per_image_settings or truth do not fit the images; give one setting or more, and one scene per image."
        )
    work = [(image, dict(per_image_settings[i % len(per_image_settings)])) for i, image in enumerate(images)]
    with Sequential(first.weights, device=first.device, imgsz=first.imgsz, **first.settings) as reference:
        expected = _outcomes(reference, work)
    made = [
        Measurement(pool.name if isinstance(pool, Contender) else type(pool).__name__, pool.workers) for pool in pools
    ]
    with ExitStack() as stack:
        for pool, measurement in zip(pools, made, strict=True):
            progress(made)
            start = perf_counter()
            stack.enter_context(pool)
            measurement.start_up_s = perf_counter() - start
        for index in turns(len(pools), rounds):
            _take_turn(pools[index], made[index], work, expected, truth)
            progress(made)
        if latency:
            _measure_latencies(pools, made, work, rounds, progress)
    if memory:
        latest_first = own[::-1]  # those that start processes take longest, and stand last as a rule
        # Each waits for a process of its own, which waits a little, too.
        with ThreadPoolExecutor(devices.cores() + 1) as several:
            for pool, used in zip(latest_first, several.map(memory_of, latest_first), strict=True):
                made[pools.index(pool)].memory = used
                progress(made)
    return Comparison(made, rounds, stamp(first.device))


def turns(contenders: int, rounds: int) -> Iterator[int]:
    """Whose turn it is: all of them each round, forwards and backwards in turn, so that a drift hits all alike."""
    for number in range(rounds):
        order = range(contenders)
        yield from order if number % 2 == 0 else reversed(order)


def _take_turn(
    pool: Pool | Contender,
    measurement: Measurement,
    work: Sequence[tuple[Image, dict[str, Any]]],
    expected: Sequence[Results | Exception],
    truth: Sequence[Scene] | None,
) -> None:
    start = perf_counter()
    if isinstance(pool, Contender):
        done = pool.run([image for image, _ in work])
        measurement.speeds += (done / (perf_counter() - start),)
    else:
        outcomes = _outcomes(pool, work)
        measurement.speeds += (len(work) / (perf_counter() - start),)
        _count(measurement, outcomes, expected, truth)


def _outcomes(pool: Pool, work: Sequence[tuple[Image, dict[str, Any]]]) -> list[Results | Exception]:
    futures = [pool.submit(image, **settings) for image, settings in work]
    return [future.exception() or future.result() for future in futures]


def _count(
    measurement: Measurement,
    outcomes: Sequence[Results | Exception],
    expected: Sequence[Results | Exception],
    truth: Sequence[Scene] | None,
) -> None:
    for i, (got, wanted) in enumerate(zip(outcomes, expected, strict=True)):
        if isinstance(got, Exception):
            measurement.errors += 1
        elif not isinstance(wanted, Exception) and same(got, wanted):
            measurement.right += 1
        else:
            measurement.wrong += 1
        if truth is not None:
            found = not isinstance(got, Exception) and finds_all(got, truth[i])
            measurement.true_right = (measurement.true_right or 0) + found
            measurement.true_wrong = (measurement.true_wrong or 0) + (not found)


def _measure_latencies(
    pools: Sequence[Pool | Contender],
    made: Sequence[Measurement],
    work: Sequence[tuple[Image, dict[str, Any]]],
    rounds: int,
    progress: Callable[[Sequence[Measurement]], None],
) -> None:
    seconds: list[list[float]] = [[] for _ in pools]
    callers = max(pool.workers for pool in pools if isinstance(pool, Pool))
    for index in turns(len(pools), rounds):
        pool = pools[index]
        if isinstance(pool, Pool):
            seconds[index] += _latencies(pool, work, callers)
            progress(made)
    for measurement, of in zip(made, seconds, strict=True):
        if of:
            measurement.latency_p50_ms = statistics.median(of) * 1000
            measurement.latency_p99_ms = sorted(of)[math.ceil(0.99 * len(of)) - 1] * 1000


def _latencies(pool: Pool, work: Sequence[tuple[Image, dict[str, Any]]], callers: int) -> list[float]:
    """Seconds from asking to having; so many callers, each asking again when it is answered."""

    def ask(item: tuple[Image, dict[str, Any]]) -> float:
        start = perf_counter()
        pool.submit(item[0], **item[1]).exception()
        return perf_counter() - start

    with ThreadPoolExecutor(callers, thread_name_prefix="caller") as threads:
        return list(threads.map(ask, work))
