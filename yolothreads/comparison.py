"""What was measured: the figures of each pool, and all of them beside one another."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, overload

from yolothreads.errors import ArgumentError
from yolothreads.memory import Memory
from yolothreads.pools import Pool
from yolothreads.tables import Table


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
