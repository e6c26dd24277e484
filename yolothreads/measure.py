"""Measure any pool: correctness, throughput, latency, start-up and memory, beside others in interleaved rounds."""

from __future__ import annotations

import math
import platform
import statistics
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import date
from time import perf_counter
from typing import TYPE_CHECKING, Any, overload

from yolothreads.detections import finds_all, same
from yolothreads.errors import ArgumentError
from yolothreads.memory import memory_mb
from yolothreads.pools import Pool, Sequential
from yolothreads.pools import device as devices
from yolothreads.pools.image import Image
from yolothreads.scenes import Scene
from yolothreads.tables import Table

if TYPE_CHECKING:
    from ultralytics.engine.results import Results


def stamp(device: str = "cpu") -> str:
    """What a number must carry: device, cores, versions and date, in one line."""
    import torch
    import ultralytics

    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else platform.machine()
    return (
        f"{device} ({name}), {devices.cores()} cores, Python {platform.python_version()}, torch {torch.__version__}, "
        f"ultralytics {ultralytics.__version__}, {date.today()}"
    )


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

    def __str__(self) -> str:
        return f"{self.median:.1f} ({self.low:.1f} to {self.high:.1f})"


@dataclass
class Measurement:
    """What one pool did. Counts are of images over all rounds; `true_right` is None where the truth is not known."""

    pool: str
    workers: int
    right: int = 0
    wrong: int = 0
    errors: int = 0
    true_right: int | None = None
    true_wrong: int | None = None
    images_per_s: Spread = field(default_factory=lambda: Spread(0, 0, 0))
    latency_p50_ms: float = 0.0
    latency_p99_ms: float = 0.0
    start_up_s: float = 0.0
    memory_per_worker_mb: float | None = None


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

    def table(self) -> Table:
        """Counts, speed, latency, start-up and memory of every pool, the columns that were measured."""
        headers = ["pool", "workers", "right", "wrong", "errors", "images/s (range)", "p50 ms", "p99 ms", "start-up s"]
        rows: list[list[Any]] = [
            [m.pool, m.workers, m.right, m.wrong, m.errors, str(m.images_per_s)]
            + [f"{m.latency_p50_ms:.0f}", f"{m.latency_p99_ms:.0f}", f"{m.start_up_s:.1f}"]
            for m in self
        ]
        if any(m.true_right is not None for m in self):
            headers.insert(5, "true boxes found")
            for row, m in zip(rows, self, strict=True):
                row.insert(5, f"{m.true_right} of {(m.true_right or 0) + (m.true_wrong or 0)} images")
        if any(m.memory_per_worker_mb is not None for m in self):
            headers.append("MB per worker")
            for row, m in zip(rows, self, strict=True):
                row.append("-" if m.memory_per_worker_mb is None else f"{m.memory_per_worker_mb:.0f}")
        return Table(headers, rows, f"Images/s: medians of {self.rounds} interleaved rounds. {self.stamp}")

    def __str__(self) -> str:
        return str(self.table())

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


def measure(pool: Pool, images: Sequence[Image], rounds: int = 5, **kwargs: Any) -> Measurement:
    """Measure one pool; see `compare`."""
    return compare([pool], images, rounds, **kwargs)[0]


def compare(
    pools: Sequence[Pool],
    images: Sequence[Image],
    rounds: int = 5,
    *,
    asks: Sequence[Mapping[str, Any]] = ({},),
    truth: Sequence[Scene] | None = None,
    memory: bool = False,
) -> Comparison:
    """Measure pools side by side: every round runs all of them, the order turned round each time.

    Args:
        pools: pools that are not open yet, made with the same weights, device, imgsz and settings.
        images: what each pool does in each round.
        rounds: how many rounds, 1 or more. Loading and warm-up come before and do not count.
        asks: predict settings of the first image, the second, ...; repeated if there are fewer than images.
        truth: the scenes that the images are of, where known.
        memory: also start a fresh process a pool and see what one worker adds to its unique set size.

    Raises:
        ArgumentError: no pools, images, rounds or asks, another number of true scenes than of images, or pools made
            with different weights, device, imgsz or settings.
    """
    if not pools or not images or rounds < 1:
        raise ArgumentError(f"{len(pools)} pools, {len(images)} images, {rounds} rounds: give 1 or more of each.")
    first = pools[0]
    if any(vars(p)[name] != vars(first)[name] for p in pools for name in ("weights", "device", "imgsz", "settings")):
        raise ArgumentError("These pools differ in weights, device, imgsz or settings; compare like with like.")
    if not asks or (truth is not None and len(truth) != len(images)):
        raise ArgumentError("asks or truth do not fit the images; give 1 or more asks, and one true scene an image.")
    work = [(image, dict(asks[i % len(asks)])) for i, image in enumerate(images)]
    with Sequential(first.weights, device=first.device, imgsz=first.imgsz, **first.settings) as reference:
        expected = _outcomes(reference, work)
    made = [Measurement(type(pool).__name__, pool.workers) for pool in pools]
    speeds: list[list[float]] = [[] for _ in pools]
    latencies: list[list[float]] = [[] for _ in pools]
    with ExitStack() as stack:
        for pool in pools:
            stack.enter_context(pool)
        for index in turns(len(pools), rounds):
            start = perf_counter()
            outcomes = _outcomes(pools[index], work)
            speeds[index].append(len(work) / (perf_counter() - start))
            _count(made[index], outcomes, expected, truth)
            latencies[index] += _latencies(pools[index], work)
    for pool, measurement, speed, latency in zip(pools, made, speeds, latencies, strict=True):
        measurement.images_per_s = Spread.of(speed)
        measurement.latency_p50_ms = statistics.median(latency) * 1000
        measurement.latency_p99_ms = sorted(latency)[math.ceil(0.99 * len(latency)) - 1] * 1000
        measurement.start_up_s = pool.start_up_s
    if memory:
        with ThreadPoolExecutor(devices.cores()) as several:  # each waits for a process of its own
            for measurement, used_mb in zip(made, several.map(memory_mb, pools), strict=True):
                measurement.memory_per_worker_mb = used_mb / measurement.workers
    return Comparison(made, rounds, stamp(first.device))


def turns(contenders: int, rounds: int) -> Iterator[int]:
    """Whose turn it is: all of them each round, forwards and backwards in turn, so that a drift hits all alike."""
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


def _latencies(pool: Pool, work: Sequence[tuple[Image, dict[str, Any]]]) -> list[float]:
    """Seconds from asking to having, with as many callers as workers, each asking again once it has its answer."""

    def ask(item: tuple[Image, dict[str, Any]]) -> float:
        start = perf_counter()
        pool.submit(item[0], **item[1]).exception()
        return perf_counter() - start

    with ThreadPoolExecutor(pool.workers, thread_name_prefix="caller") as callers:
        return list(callers.map(ask, work))
