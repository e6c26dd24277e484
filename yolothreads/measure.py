"""Measurements of pools in interleaved rounds: correctness, throughput, latency, start-up time and memory."""

from __future__ import annotations

import math
import platform
import statistics
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass
from datetime import date
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

from yolothreads import devices
from yolothreads.detections import finds_all, same
from yolothreads.errors import ArgumentError, DeviceError, ExtraError
from yolothreads.memory import Memory, memory_of
from yolothreads.pools import POOLS, Image, Pool, Sequential, make_pool
from yolothreads.scenes import Scene
from yolothreads.tables import Table

if TYPE_CHECKING:
    from ultralytics.engine.results import Results

__all__ = ["Comparison", "Contender", "Measurement", "Spread", "compare", "pools_here", "stamp", "turns"]


@dataclass(frozen=True)
class Spread:
    """Median, minimum and maximum of some rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Make it from one value per round."""
        return cls(statistics.median(values), min(values), max(values))

    def __format__(self, spec: str) -> str:
        if self.low == self.high:
            return format(self.median, spec)
        return " ".join((format(self.median, spec), f"({format(self.low, spec)} to {format(self.high, spec)})"))

    def __str__(self) -> str:
        return format(self, ".1f")


@dataclass
class Measurement:
    """Measurement of one pool or contender.

    right, wrong, errors: images over all rounds, compared with the same calls to `Sequential`. true_right, true_wrong:
    images compared with the true boxes, None if these are not known. speeds: images per second of each round.
    The latency and the memory are None if they were not measured.
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
        """Return the MB after work beyond a process with one model, divided by the number of workers."""
        return None if self.memory is None else self.memory.worked_mb / self.workers

    @property
    def judged(self) -> bool:
        """Whether its results were compared with the reference; those of a `Contender` are not."""
        return bool(self.right or self.wrong or self.errors)


class Comparison(list[Measurement]):
    """Measurements of several pools on the same images; shows itself as a table."""

    def __init__(self, measurements: Iterable[Measurement], rounds: int, stamped: str) -> None:
        super().__init__(measurements)
        self.rounds, self.stamp = rounds, stamped

    def of(self, pool: type[Pool] | str) -> Measurement:
        """Return the measurement of one pool, by class or name.

        Raises:
            ArgumentError: that pool was not measured.
        """
        name = pool if isinstance(pool, str) else pool.__name__
        by_name = {m.pool: m for m in reversed(self)}  # the first one, if there are several
        if name not in by_name:
            raise ArgumentError(f'"{name}" was not measured; name one of: {", ".join(m.pool for m in self)}.')
        return by_name[name]

    def ratio(self, pool: type[Pool] | str, other: type[Pool] | str) -> Spread:
        """Return the ratio of two pools' speeds: one ratio per round, their median and range."""
        return Spread.of([a / b for a, b in zip(self.of(pool).speeds, self.of(other).speeds, strict=True)])

    def table(self) -> Table:
        """Return one row per pool, with the columns that were measured."""
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
        """Return everything as plain numbers and strings, for a JSON file."""
        rows = [{**asdict(m), "memory": m.memory and m.memory._asdict()} for m in self]
        return {"rounds": self.rounds, "stamp": self.stamp, "measured": rows}

    def __repr__(self) -> str:
        return str(self.table())

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


def stamp(device: str = "cpu") -> str:
    """Return one line with device, cores, versions and date, which every published number carries."""
    import torch
    import ultralytics

    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else platform.machine()
    return (
        f"{device} ({name}), {devices.cores()} cores, Python {platform.python_version()}, torch {torch.__version__}, "
        f"ultralytics {ultralytics.__version__}, {date.today()}"
    )


class Contender(ABC):
    """Another way to process the same images, measured beside pools."""

    name: str
    workers: int

    @abstractmethod
    def ready(self) -> AbstractContextManager[Callable[[Sequence[Image]], int]]:
        """Get ready, in a `with` block, for a function that processes images and returns how many it has processed.

        The time that this takes is the start-up time.
        """


def pools_here(kinds: Iterable[Callable[..., Pool]] = POOLS, **made: Any) -> tuple[list[Pool], list[str]]:
    """Make one pool per kind that this machine can run, and return them with one remark per kind that it cannot.

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
    """Measure pools side by side: every round runs all of them, and each round reverses the order.

    Args:
        pools: pools that are not open yet, made with the same weights, device, imgsz and settings. There may be
            contenders among them, which process the same images in the same rounds.
        images: the images that each pool processes in each round.
        rounds: the number of rounds, 1 or more. Loading and warm-up come before them and do not count.
        per_image_settings: predict settings of the first image, the second, and so on; repeated if there are too few.
        truth: the scenes of the images, if they are known.
        latency: also measure the latency in the same number of further rounds. Every pool gets as many concurrent
            callers as the largest pool has workers, since a pool that serves one caller at a time gains nothing from
            more callers.
        memory: also measure the memory of each pool, in one fresh process per pool.
        progress: called with the measurements so far before each pool is opened, after each turn, and after each
            measurement of memory. An exception that it raises ends the measurement.

    Raises:
        ArgumentError: there are no pools, images, rounds or settings; the number of true scenes differs from that of
            the images; or the pools differ in weights, device, imgsz or settings.
    """
    own = [pool for pool in pools if isinstance(pool, Pool)]
    if not own or not images or rounds < 1:
        raise ArgumentError(
            f"{len(own)} pools, {len(images)} images and {rounds} rounds cannot be compared; give 1 or more of each."
        )
    first = own[0]
    if any(vars(p)[name] != vars(first)[name] for p in own for name in ("weights", "device", "imgsz", "settings")):
        raise ArgumentError("These pools differ in weights, device, imgsz or settings; make them all with the same.")
    if not per_image_settings or (truth is not None and len(truth) != len(images)):
        raise ArgumentError("per_image_settings or truth do not fit; give 1 setting or more, and one scene per image.")
    work = [(image, dict(per_image_settings[i % len(per_image_settings)])) for i, image in enumerate(images)]
    with Sequential(first.weights, device=first.device, imgsz=first.imgsz, **first.settings) as reference:
        expected = _outcomes(reference, work)
    made = [Measurement(p.name if isinstance(p, Contender) else type(p).__name__, p.workers) for p in pools]
    of_pools = [m for pool, m in zip(pools, made, strict=True) if isinstance(pool, Pool)]
    with ExitStack() as stack:
        runs: list[Callable[[], int | list[Results | Exception]]] = []
        for pool, measurement in zip(pools, made, strict=True):
            progress(made)
            start = perf_counter()
            if isinstance(pool, Contender):
                runs.append(partial(stack.enter_context(pool.ready()), images))
            else:
                runs.append(partial(_outcomes, stack.enter_context(pool), work))
            measurement.start_up_s = perf_counter() - start
        for index in turns(len(pools), rounds):
            start = perf_counter()
            done = runs[index]()
            seconds = perf_counter() - start
            made[index].speeds += ((done if isinstance(done, int) else len(done)) / seconds,)
            if not isinstance(done, int):
                _count(made[index], done, expected, truth)
            progress(made)
        if latency:
            latencies: list[list[float]] = [[] for _ in own]
            callers = max(pool.workers for pool in own)
            for index in turns(len(own), rounds):
                latencies[index] += _latencies(own[index], work, callers)
                progress(made)
            for measurement, ordered in zip(of_pools, map(sorted, latencies), strict=True):
                measurement.latency_p50_ms = statistics.median(ordered) * 1000
                measurement.latency_p99_ms = ordered[math.ceil(0.99 * len(ordered)) - 1] * 1000
    if memory:
        # Each thread waits for a process, which itself waits a little. The latest pools are first, since those that
        # start processes take longest, and usually stand last.
        with ThreadPoolExecutor(devices.cores() + 1) as several:
            for measurement, used in zip(of_pools[::-1], several.map(memory_of, own[::-1]), strict=True):
                measurement.memory = used
                progress(made)
    return Comparison(made, rounds, stamp(first.device))


def turns(contenders: int, rounds: int) -> Iterator[int]:
    """Yield the index of the contender whose turn it is.

    Each round holds all of them; every second round is reversed, so that a drift of the machine affects all alike.
    """
    for number in range(rounds):
        order = range(contenders)
        yield from order if number % 2 == 0 else reversed(order)


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
        failed = isinstance(got, Exception)
        right = not failed and same(got, wanted)
        measurement.errors += failed
        measurement.right += right
        measurement.wrong += not failed and not right
        if truth is not None:
            found = not isinstance(got, Exception) and finds_all(got, truth[i])
            measurement.true_right = (measurement.true_right or 0) + found
            measurement.true_wrong = (measurement.true_wrong or 0) + (not found)


def _latencies(pool: Pool, work: Sequence[tuple[Image, dict[str, Any]]], callers: int) -> list[float]:
    """Return the seconds from each call to its result, with concurrent callers that each call again when answered."""

    def ask(item: tuple[Image, dict[str, Any]]) -> float:
        start = perf_counter()
        pool.submit(item[0], **item[1]).exception()
        return perf_counter() - start

    with ThreadPoolExecutor(callers, thread_name_prefix="caller") as threads:
        return list(threads.map(ask, work))
