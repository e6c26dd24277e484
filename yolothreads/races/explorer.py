"""Run small functions under every schedule with at most so many preemptions, over unmodified code.

The method is that of CHESS: bounded preemptions, free choice wherever a thread blocks or ends (Musuvathi and Qadeer,
"Iterative context bounding for systematic testing of multithreaded programs", PLDI 2007). The random strategy is PCT
(Burckhardt et al., "A randomized scheduler with probabilistic guarantees of finding bugs", ASPLOS 2010).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from yolothreads.errors import ExploreError
from yolothreads.races import random_runs
from yolothreads.races.outcomes import Exploration, Trial
from yolothreads.races.schedule import Schedule, parse
from yolothreads.races.search import Search
from yolothreads.races.trial import Trials

Body = Callable[..., Any]
Progress = Callable[[int, int], None]
OnTrial = Callable[[Trial], None]
Stop = Callable[[], bool]


def explore(
    *bodies: Body,
    setup: Callable[[], Any] | None = None,
    watch: Sequence[Any] = (),
    observe: Callable[[Any], Any] | None = None,
    same: Callable[[Any, Any], bool] | None = None,
    preemptions: int = 1,
    granularity: str = "line",
    budget_s: float = 60.0,
    seed: int = 0,
    restore: Callable[[Any], Any] | None = None,
    strategy: str = "exhaustive",
    depth: int = 3,
    runs: int = 1000,
    reduce: bool = True,
    max_steps: int = 100_000,
    describe: Callable[[Sequence[Any], Sequence[Sequence[Any]]], str] | None = None,
    progress: Progress | None = None,
    on_trial: OnTrial | None = None,
    stop: Stop | None = None,
) -> Exploration:
    """Run bodies concurrently under every schedule within a bound, and hold each outcome against the sequential ones.

    A result is right if some order of the bodies, run one after the other, gives it. Ctrl-C, or `stop`, ends the
    search; what was found until then is returned.

    Args:
        *bodies: two or more functions. Each is called with the value of `setup()`, or with nothing if there is none.
        setup: makes fresh state for every schedule. If it gives a context manager (a pool, say), that is entered, its
            value is what the bodies get, and it is left afterwards.
        watch: modules, packages, classes or functions (names or objects) whose lines are switch points; if none is
            named, the modules in which the bodies were defined.
        observe: state -> value, compared as one more result after all bodies ended.
        same: whether two results are equal; the default knows numbers, texts, arrays, tensors and containers.
        preemptions: how often a thread may be stopped that could have gone on, 0 or more.
        granularity: "line", or "instruction" to switch inside lines too.
        budget_s: seconds after which no further schedule is begun, counted from the end of the sequential runs.
        seed: the order in which schedules are tried, and the draws of the random strategy.
        restore: state -> anything; brings the state back to what `setup` made, which is then called only once.
        strategy: "exhaustive", or "random" for runs with random priorities (PCT).
        depth: for "random": how many ordering constraints a bug may need.
        runs: for "random": how many runs.
        reduce: leave out schedules that cannot differ from one that is run.
        max_steps: watched lines of all bodies together, after which a run counts as one without end.
        describe: (results, those of each sequential order) -> what is wrong, in a few words.
        progress: called with the number of schedules done and known so far.
        on_trial: called with each schedule and its outcome, as soon as that is known.
        stop: asked about 20 times a second, while a schedule runs too, whether to end the search.

    Raises:
        KeyboardInterrupt: it was to end before anything was found.
        ExploreError: something makes no sense, or nothing could be learned: a body runs no watched line, never ends,
            gives what cannot be compared, or gives something else each time it runs alone.
    """
    _check(bodies, preemptions, granularity, strategy, depth, runs)
    began = time.perf_counter()
    trials = Trials(bodies, setup, watch, observe, same, granularity, restore, describe, max_steps, budget_s, stop)
    with trials:
        trials.learn_references()
        if strategy == "random":
            found = random_runs.search(trials, depth, runs, seed, time.perf_counter() + budget_s, progress, on_trial)
        else:
            until = time.perf_counter() + budget_s
            search = Search(trials, preemptions, seed, reduce, until, progress, on_trial)
            found = search.found()

    def replayer(schedule: str) -> Trial:
        return replay(
            schedule, *bodies, setup=setup, watch=watch, observe=observe, same=same, restore=restore, describe=describe,
            max_steps=max_steps,
        )  # fmt: skip

    return found(seconds=time.perf_counter() - began, replayer=replayer)


def replay(
    schedule: str,
    *bodies: Body,
    setup: Callable[[], Any] | None = None,
    watch: Sequence[Any] = (),
    observe: Callable[[Any], Any] | None = None,
    same: Callable[[Any, Any], bool] | None = None,
    restore: Callable[[Any], Any] | None = None,
    describe: Callable[[Sequence[Any], Sequence[Sequence[Any]]], str] | None = None,
    max_steps: int = 100_000,
    inspect: Callable[[Any], Any] | None = None,
    stop: Stop | None = None,
) -> Trial:
    """One schedule again, from its string, with the same outcome; `steps` say who ran which line.

    Args:
        schedule: as `explore` printed it.
        inspect: state -> anything, called before each watched line and kept in `steps`.
        *bodies: as for `explore`.
        setup: as for `explore`.
        watch: as for `explore`.
        observe: as for `explore`.
        same: as for `explore`.
        restore: as for `explore`.
        describe: as for `explore`.
        max_steps: as for `explore`.
        stop: as for `explore`.

    Raises:
        KeyboardInterrupt: it was to end.
        ExploreError: the schedule was made for another version or another source, has a typing error, or cannot be
            followed.
    """
    _check(bodies)
    said = schedule.partition("|")[0]
    granularity = "instruction" if "+" in said or "instruction" in said else "line"
    trials = Trials(bodies, setup, watch, observe, same, granularity, restore, describe, max_steps, 60.0, stop)
    with trials:
        wanted: Schedule = parse(schedule, trials.version)
        trials.learn_references()
        return trials.replay(wanted, inspect)


def _check(
    bodies: Sequence[Any],
    preemptions: int = 1,
    granularity: str = "line",
    strategy: str = "exhaustive",
    depth: int = 1,
    runs: int = 1,
) -> None:
    """Refuse what makes no sense, before anything is run."""
    if len(bodies) < 2:
        raise ExploreError(f"{len(bodies)} bodies were given; it takes two or more functions for a race.")
    for body in bodies:
        if not callable(body):
            raise ExploreError(f"The body {body!r} is no function; give functions, such as lambda state: state.work().")
    if not isinstance(preemptions, int) or preemptions < 0:
        raise ExploreError(f"preemptions={preemptions!r} makes no sense; give 0, 1, 2, ...")
    if granularity not in ("line", "instruction"):
        raise ExploreError(f"granularity='{granularity}' is unknown; give 'line' or 'instruction'.")
    if strategy not in ("exhaustive", "random"):
        raise ExploreError(f"strategy='{strategy}' is unknown; give 'exhaustive' or 'random'.")
    if depth < 1 or runs < 1:
        raise ExploreError(f"depth={depth} and runs={runs} make no sense; give 1 or more of each.")
