"""The random strategy: runs with random priorities, and the guarantee that they give."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from yolothreads.races.outcomes import Exploration, Trial
from yolothreads.races.schedule import Random, Schedule
from yolothreads.races.trial import Trials


def chance(threads: int, steps: int, depth: int) -> float:
    """The least probability that one run meets a bug of this depth: 1 / (n k^(d-1)) (PCT, theorem 3)."""
    return 1 / (threads * max(1, steps) ** (depth - 1))


def search(
    trials: Trials,
    depth: int,
    runs: int,
    seed: int,
    until: float,
    progress: Callable[[int, int], None] | None,
    on_trial: Callable[[Trial], None] | None,
) -> Callable[..., Exploration]:
    """Run so many random schedules; gives what makes the report."""
    done: list[Trial] = []
    ended_by = ""
    steps = max(1, trials.steps)
    try:
        for i in range(runs):
            if time.perf_counter() > until:
                ended_by = " (the budget ended first)"
                break
            schedule = Schedule("", random=Random(depth, steps, seed * 1_000_000 + i, trials.instructions))
            run, results = trials.run(schedule)
            done.append(trials.trial(schedule, run, results))
            if on_trial is not None:
                on_trial(done[-1])
            if progress is not None:
                progress(len(done), runs)
    except KeyboardInterrupt:
        ended_by = " (interrupted)"
    threads = len(trials.scheduler.crowd.everybody)
    p = chance(threads, steps, depth)
    bound = (
        f"Random priorities, {len(done)} of {runs} runs{ended_by}: one run meets a bug of depth {depth} or less with a "
        f"probability of at least 1/({threads} x {steps}^{depth - 1}) = {p:.2g}, all of them with at least "
        f"{1 - (1 - p) ** len(done):.2g}."
    )
    return partial(Exploration, tuple(done), len(done), runs, bound, False, **trials.facts())
