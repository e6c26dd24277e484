"""Our explorer and frontrun on the same programs: what each finds, after how many schedules and how long.

frontrun (https://github.com/lucaswiman/frontrun) explores threads by dynamic partial order reduction. It is asked for
what our explorer does: every schedule within the same number of preemptions, with all switched off that it can go
without (input and output, replays of a failure).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import count
from time import perf_counter
from typing import Any, Literal

from yolothreads import races
from yolothreads.bench_races import programs
from yolothreads.bench_races.programs import PROGRAMS, Program
from yolothreads.races import Exploration

LINES, INSTRUCTIONS, FRONTRUN = "by line", "by instruction", "frontrun"


@dataclass(frozen=True)
class Search:
    """One search: whether a bug was seen, schedules and milliseconds until then (0 if not), and to the end.

    `doubt`: none was seen, but the report names lines that it could not see into.
    """

    bug: bool
    first: int
    first_ms: float
    schedules: int
    end_ms: float
    doubt: bool = False


def explored(
    program: Program, granularity: Literal["line", "instruction"], seed: int = 0, until: int = 0, reduce: bool = True
) -> Exploration:
    """A program under our explorer, to the end or, if `until` is given, until so many steps forward were reported."""
    steps = count(1)

    def progress(done: int, known: int) -> None:
        if next(steps) == until:
            raise KeyboardInterrupt  # which ends the search in good order

    return races.explore(
        *program.bodies, setup=program.setup, watch=program.bodies, observe=program.observe,
        preemptions=program.preemptions, granularity=granularity, seed=seed, reduce=reduce, progress=progress,
    )  # fmt: skip


def frontrun_explored(program: Program, stop_on_first: bool) -> Any:
    """A program under frontrun, at its quickest setting within the same bound."""
    import frontrun

    before = os.environ.get("FRONTRUN_ACTIVE")
    os.environ["FRONTRUN_ACTIVE"] = "1"  # what its launcher sets, which is there to preload what is switched off here
    try:
        return frontrun.explore(
            setup=program.setup, workers=list(program.bodies), invariant=lambda s: program.observe(s) in program.right,
            preemption_bound=program.preemptions, stop_on_first=stop_on_first, detect_io=False, reproduce_on_failure=0,
            trace_packages=[programs.__name__],
        )  # fmt: skip
    finally:
        os.environ.pop("FRONTRUN_ACTIVE")
        os.environ.update({} if before is None else {"FRONTRUN_ACTIVE": before})


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    start = perf_counter()
    result = work()
    return result, 1000 * (perf_counter() - start)


def search(program: Program, explorer: str, seed: int = 0) -> Search:
    """One search to the end, and another one to the first bug, by `LINES`, `INSTRUCTIONS` or `FRONTRUN`."""
    if explorer == FRONTRUN:
        done, end_ms = _timed(lambda: frontrun_explored(program, stop_on_first=False))
        if done.property_holds:
            return Search(False, 0, 0.0, done.num_explored, end_ms)
        first, first_ms = _timed(lambda: frontrun_explored(program, stop_on_first=True))
        return Search(True, first.num_explored, first_ms, done.num_explored, end_ms)
    granularity: Literal["line", "instruction"] = "line" if explorer == LINES else "instruction"
    done, end_ms = _timed(lambda: explored(program, granularity, seed))
    if not done.forbidden:
        return Search(False, 0, 0.0, done.run, end_ms, bool(done.unsplit))
    until = next(n for n in count(1) if explored(program, granularity, seed, n).forbidden)  # is not timed
    first, first_ms = _timed(lambda: explored(program, granularity, seed, until))
    return Search(True, first.run, first_ms, done.run, end_ms)


@contextmanager
def on_one_core() -> Iterator[None]:
    """Keep this thread, and those it starts, on one core: turns are handed over sooner, by any explorer."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def searches(rounds: int) -> dict[str, dict[str, list[Search]]]:
    """Each program under each explorer that is installed, in interleaved rounds after one that does not count."""
    explorers = (LINES, INSTRUCTIONS, *((FRONTRUN,) if find_spec("frontrun") else ()))
    done: dict[str, dict[str, list[Search]]] = {p.name: {explorer: [] for explorer in explorers} for p in PROGRAMS}
    with on_one_core():
        for seed in range(rounds + 1):
            for program in PROGRAMS:
                for explorer in explorers if seed % 2 else reversed(explorers):
                    done[program.name][explorer].append(search(program, explorer, seed))
    return {name: {e: found[1:] for e, found in of.items()} for name, of in done.items()}
