"""Benchmark of the explorer of `yolothreads.races`: what it finds, its speed, and the cost of watched code.

frontrun (https://github.com/lucaswiman/frontrun), which explores threads by dynamic partial order reduction, runs
beside it. It is asked for the same: every schedule within the same number of preemptions, without its watch on input
and output and without replays of a failure.

    python -m benchmarks.races --rounds 5 --budget 20 --json races.json
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from time import perf_counter, thread_time
from typing import Any

from benchmarks import bodies, programs
from benchmarks.one_core import on_one_core
from benchmarks.programs import PROGRAMS, Program
from yolothreads import detections, races, weights
from yolothreads.devices import torch_threads_kept
from yolothreads.errors import at_least_one
from yolothreads.measure import Spread, stamp
from yolothreads.races import Exploration
from yolothreads.races.watching import Granularity
from yolothreads.scenes import scene
from yolothreads.tables import Table

LINES, DEFAULT, INSTRUCTIONS, FRONTRUN = "by line", "by default", "by instruction", "frontrun"
GRANULARITIES: dict[str, Granularity] = {LINES: "line", DEFAULT: "auto", INSTRUCTIONS: "instruction"}
IMGSZ = 160
WATCHED = ("ultralytics.engine", "ultralytics.nn.modules.head")


@dataclass(frozen=True)
class Search:
    """One search: whether a bug was found, schedules and milliseconds until then (0 if not), and to the end.

    `doubt`: no bug was found, but the report names lines that were not split.
    """

    bug: bool
    first: int
    first_ms: float
    schedules: int
    end_ms: float
    doubt: bool = False


def explored(
    program: Program, granularity: Granularity, seed: int = 0, until: int = 0, reduce: bool = True
) -> Exploration:
    """Explore a program, to the end or until progress was reported `until` times."""
    steps = count(1)

    def progress(done: int, known: int) -> None:
        if next(steps) == until:
            raise KeyboardInterrupt  # which ends the search in good order

    return races.explore(
        *program.bodies, setup=program.setup, watch=program.bodies, observe=program.observe,
        preemptions=program.preemptions, granularity=granularity, seed=seed, reduce=reduce, progress=progress,
    )  # fmt: skip


def frontrun_explored(program: Program, stop_on_first: bool) -> Any:
    """Explore a program with frontrun, at its quickest setting within the same bound."""
    import frontrun

    before = os.environ.get("FRONTRUN_ACTIVE")
    os.environ["FRONTRUN_ACTIVE"] = "1"  # what its launcher sets, which is there to preload what is switched off here
    try:
        return frontrun.explore(
            setup=program.setup, workers=list(program.bodies), invariant=lambda s: program.observe(s) in program.right,
            preemption_bound=program.preemptions, stop_on_first=stop_on_first, detect_io=False, reproduce_on_failure=0,
            trace_packages=[bodies.__name__, programs.__name__],
        )  # fmt: skip
    finally:
        os.environ.pop("FRONTRUN_ACTIVE")
        os.environ.update({} if before is None else {"FRONTRUN_ACTIVE": before})


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    start = perf_counter()
    result = work()
    return result, 1000 * (perf_counter() - start)


def search(program: Program, explorer: str, seed: int = 0) -> Search:
    """Search to the end, and again to the first bug, with `LINES`, `DEFAULT`, `INSTRUCTIONS` or `FRONTRUN`."""
    if explorer == FRONTRUN:
        done, end_ms = _timed(lambda: frontrun_explored(program, stop_on_first=False))
        if done.property_holds:
            return Search(False, 0, 0.0, done.num_explored, end_ms)
        first, first_ms = _timed(lambda: frontrun_explored(program, stop_on_first=True))
        return Search(True, first.num_explored, first_ms, done.num_explored, end_ms)
    granularity = GRANULARITIES[explorer]
    done, end_ms = _timed(lambda: explored(program, granularity, seed))
    if not done.forbidden:
        return Search(False, 0, 0.0, done.run, end_ms, bool(done.unsplit))
    until = next(n for n in count(1) if explored(program, granularity, seed, n).forbidden)  # is not timed
    first, first_ms = _timed(lambda: explored(program, granularity, seed, until))
    return Search(True, first.run, first_ms, done.run, end_ms)


def searches(rounds: int) -> dict[str, dict[str, list[Search]]]:
    """Run each program with each installed explorer, in interleaved rounds after a warm-up round."""
    explorers = (*GRANULARITIES, *((FRONTRUN,) if find_spec("frontrun") else ()))
    done: dict[str, dict[str, list[Search]]] = {p.name: {explorer: [] for explorer in explorers} for p in PROGRAMS}
    with on_one_core():
        for seed in range(rounds + 1):
            for program in PROGRAMS:
                for explorer in explorers if seed % 2 else reversed(explorers):
                    done[program.name][explorer].append(search(program, explorer, seed))
    return {name: {e: found[1:] for e, found in of.items()} for name, of in done.items()}


@dataclass(frozen=True)
class Speed:
    """Number of schedules whose outcome became known, out of `total`; `run` of them were run."""

    what: str
    reduce: bool
    schedules: int
    total: int
    run: int
    seconds: float


@contextmanager
def warm_predict() -> Iterator[Callable[[int], Any]]:
    """Yield a function of `max_det` that predicts with a warm model; torch's thread count is restored at the end."""
    from ultralytics import YOLO

    model, image = YOLO(weights.bundled()), scene(0, (IMGSZ, IMGSZ)).image

    def predict(max_det: int) -> Any:
        return model.predict(image, imgsz=IMGSZ, max_det=max_det, device="cpu", verbose=False)

    with torch_threads_kept():
        predict(1)
        yield predict


def speeds(predict: Callable[[int], Any], budget_s: float) -> list[Speed]:
    """Explore all small programs, and two predict() calls for `budget_s`, with and without reduction."""
    done = []
    for reduce in (True, False):
        with on_one_core():
            small = [explored(program, "auto", reduce=reduce) for program in PROGRAMS for _ in range(5)]
        large = detections.explore(
            lambda: predict(1), lambda: predict(50), watch=WATCHED, budget_s=budget_s, reduce=reduce
        )
        for what, found in ((f"{len(PROGRAMS)} small programs", small), ("two predict() calls", [large])):
            sums = [sum(getattr(f, name) for f in found) for name in ("schedules", "total", "run", "seconds")]
            done.append(Speed(what, reduce, *sums))
    return done


def _additions() -> int:
    total = 0
    for i in range(3000):
        total += i
        total -= 1
    return total


def _decrease(n: int) -> int:
    return n - 1


def _calls() -> int:
    n = 3000
    while n:
        n = _decrease(n)
    return n


def _mark(s: list[float]) -> None:
    s.clear()


def slowdowns(predict: Callable[[int], Any], rounds: int) -> dict[str, Spread]:
    """Measure how many times slower code runs while it is explored, watched or not: one ratio per round."""

    def large() -> Any:
        return predict(1)

    cases: list[tuple[str, Callable[[], Any], Sequence[Any], int]] = [
        ("watched: a loop of additions", _additions, (_additions,), 5),
        ("watched: predict(), the engine and the head of it", large, (*WATCHED, _mark), 5),
        ("not watched: a loop of additions", _additions, (), 20),
        ("not watched: a loop of function calls", _calls, (), 20),
        ("not watched: predict()", large, (), 15),
    ]
    found: dict[str, list[float]] = {name: [] for name, *_ in cases}
    for _ in range(rounds):
        for name, work, watch, times in cases:
            found[name].append(_slowdown(work, watch, times))
    return {name: Spread.of(ratios) for name, ratios in found.items()}


def _slowdown(work: Callable[[], Any], watch: Sequence[Any], times: int) -> float:
    """Return the median time of `work` in an explored thread, divided by that in an ordinary thread."""
    explored_s: list[float] = []

    def sampled(took: list[float]) -> None:
        _mark(took)
        for _ in range(times):
            start = thread_time()  # the clocks stand still in explored threads
            work()
            took.append(thread_time() - start)
        explored_s[:] = took

    def plain() -> list[float]:
        took: list[float] = []
        for _ in range(2):  # an explored thread is warm too when it is timed
            sampled(took)
        return took

    with ThreadPoolExecutor(1, thread_name_prefix="plain") as ordinary:  # before and after, so that a drift cancels out
        plain_s = ordinary.submit(plain).result()
        races.explore(sampled, _mark, setup=list, watch=(_mark, *watch), preemptions=0)
        watched_s = list(explored_s)  # of the last run: those before it were the sequential ones
        plain_s += ordinary.submit(plain).result()
    return statistics.median(watched_s) / statistics.median(plain_s)


@dataclass(frozen=True)
class RacesBenchmark:
    """Result of the benchmark; it shows itself as three tables."""

    searches: dict[str, dict[str, list[Search]]]
    speeds: list[Speed]
    slowdowns: dict[str, Spread]
    stamp: str

    @property
    def misjudged(self) -> list[str]:
        """Return where an explorer missed a bug in a round, or reported one that does not exist."""
        return [
            f"{explorer}: {program.name}"
            for program in PROGRAMS
            for explorer, found in self.searches[program.name].items()
            if any(s.bug != program.bug for s in found)
        ]

    def tables(self) -> tuple[Table, Table, Table]:
        """Return the explorers side by side, schedules per second, and the cost of watched code."""
        told = f"Misjudged: {'; '.join(self.misjudged) or 'nothing'}. Medians of interleaved rounds, on one core. "
        if not any(FRONTRUN in of for of in self.searches.values()):
            told += "frontrun is not installed (pip install frontrun). "
        told += "A doubt: the report names lines that it did not split. "
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
        """Return everything as plain numbers and strings, for a JSON file."""
        return {**asdict(self), "misjudged": self.misjudged}

    def __str__(self) -> str:
        return "\n\n".join(map(str, self.tables()))


def measure_races(rounds: int = 5, budget_s: float = 20.0) -> RacesBenchmark:
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
    return RacesBenchmark(found, rates, costs, stamp() + packages)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser("python -m benchmarks.races", description="Benchmark the explorer.")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="interleaved rounds (5)")
    parser.add_argument("--budget", type=float, default=20.0, metavar="S", help="seconds for two predict() calls (20)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything to FILE")
    args = parser.parse_args(argv)
    done = measure_races(args.rounds, args.budget)
    print(done)
    if args.json:
        args.json.write_text(json.dumps(done.to_dict(), indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
