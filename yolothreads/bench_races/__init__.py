"""How fast the explorer of `races` is here, what it costs the code that it watches, and what frontrun does instead."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

from yolothreads.arguments import at_least_one
from yolothreads.bench_races.costs import Speed, slowdowns, speeds, warm_predict
from yolothreads.bench_races.explorers import FRONTRUN, Search, searches
from yolothreads.bench_races.programs import PROGRAMS
from yolothreads.measure import Spread, stamp
from yolothreads.tables import Table


@dataclass(frozen=True)
class BenchRaces:
    """What was measured; shows itself as three tables."""

    searches: dict[str, dict[str, list[Search]]]
    speeds: list[Speed]
    slowdowns: dict[str, Spread]
    stamp: str

    @property
    def misjudged(self) -> list[str]:
        """Where an explorer did not see a bug in each round, or saw one where none is."""
        return [
            f"{explorer}: {program.name}"
            for program in PROGRAMS
            for explorer, found in self.searches[program.name].items()
            if any(s.bug != program.bug for s in found)
        ]

    def tables(self) -> tuple[Table, Table, Table]:
        """The explorers side by side, schedules per second, and what watching costs."""
        told = f"Misjudged: {'; '.join(self.misjudged) or 'nothing'}. Medians of interleaved rounds, on one core. "
        if not any(FRONTRUN in of for of in self.searches.values()):
            told += "frontrun is not installed (pip install frontrun). "
        told += "A doubt: the report names lines that it could not split. "
        first = ("program", "explorer", "bug at schedule", "ms to it", "schedules", "ms to the end", "times frontrun's")
        second = ("what", "reduction", "schedules", "of", "run", "s", "schedules/s")
        rates = [
            (s.what, "yes" if s.reduce else "no", s.schedules, s.total, s.run, f"{s.seconds:.1f}",
             f"{s.schedules / s.seconds:.0f}")
            for s in self.speeds
        ]  # fmt: skip
        costs = [(name, f"{s.median:.3g} ({s.low:.3g} to {s.high:.3g})") for name, s in self.slowdowns.items()]
        return (
            Table(first, list(self._rows()), told + self.stamp),
            Table(second, rates, "Schedules whose outcome is known; 'of' counts those known to exist by then."),
            Table(("code", "times slower (range)"), costs, "Explored, divided by not explored, in each round."),
        )

    def _rows(self) -> Iterator[tuple[str, ...]]:
        for name, of in self.searches.items():
            for explorer, found in of.items():
                ratios = [ours.end_ms / its.end_ms for ours, its in zip(found, of.get(FRONTRUN, []), strict=False)]
                first, ms = (statistics.median(getattr(s, key) for s in found) for key in ("first", "first_ms"))
                none = "none, but a doubt" if any(s.doubt for s in found) else "none"
                yield (
                    name, explorer, *((f"{first:.0f}", f"{ms:.1f}") if first else (none, "-")),
                    f"{statistics.median(s.schedules for s in found):.0f}", str(Spread.of([s.end_ms for s in found])),
                    f"{statistics.median(ratios):.2f}" if ratios else "-",
                )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers and strings, for a JSON file."""
        return {**asdict(self), "misjudged": self.misjudged}

    def __str__(self) -> str:
        return "\n\n".join(map(str, self.tables()))


def bench_races(rounds: int = 5, budget_s: float = 20.0) -> BenchRaces:
    """Measure the explorer on this machine; takes a minute or two.

    Args:
        rounds: how many interleaved rounds, 1 or more.
        budget_s: seconds for each of the two explorations of two predict() calls.

    Raises:
        ArgumentError: `rounds` is below 1.
    """
    at_least_one("rounds", rounds)
    found = searches(rounds)
    with warm_predict() as predict:
        rates, costs = speeds(predict, budget_s), slowdowns(predict, rounds)
    packages = f", frontrun {version('frontrun')}" if find_spec("frontrun") else ""
    return BenchRaces(found, rates, costs, stamp() + packages)
