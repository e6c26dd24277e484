"""Run small functions under every schedule with a bounded number of preemptions, over unmodified code.

The method is that of CHESS: bounded preemptions, free choice wherever a thread blocks or ends (Musuvathi and Qadeer,
"Iterative context bounding for systematic testing of multithreaded programs", PLDI 2007). The random strategy is PCT
(Burckhardt et al., "A randomized scheduler with probabilistic guarantees of finding bugs", ASPLOS 2010).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

from yolothreads.races.judge import Describe, Same
from yolothreads.races.report import Exploration, keep_page
from yolothreads.races.results import Trial
from yolothreads.races.schedule import parse
from yolothreads.races.search import LevelSearch, RandomSearch
from yolothreads.races.session import Body, Options, Progress, Session, Strategy
from yolothreads.races.watching import Granularity, granularity_of


def explore(
    *bodies: Body,
    setup: Callable[[], Any] | None = None,
    watch: Sequence[Any] = (),
    observe: Callable[[Any], Any] | None = None,
    same: Same | None = None,
    preemptions: int = 1,
    granularity: Granularity = "auto",
    timeouts_s: float = 1.0,
    budget_s: float = 60.0,
    seed: int = 0,
    restore: Callable[[Any], Any] | None = None,
    strategy: Strategy = "exhaustive",
    depth: int = 3,
    runs: int = 1000,
    reduce: bool | Literal["dependency"] = True,
    max_steps: int = 100_000,
    describe: Describe | None = None,
    progress: Progress | None = None,
    on_trial: Callable[[Trial], object] | None = None,
    stop: Callable[[], bool] | None = None,
) -> Exploration:
    """Run bodies concurrently under every schedule within a bound, and compare each outcome with the sequential ones.

    A result is right if some sequential order of the bodies gives it; which of two equal bodies (same code, arguments
    and closure) gave which result does not matter. An exception that `setup`, `restore`, `observe`, `same` or leaving
    the state raises is an outcome of its schedule. Ctrl-C, or `stop`, ends the search; the trials up to then are
    returned.

    Args:
        *bodies: two or more functions. Each is called with the value of `setup()`, or without arguments if there is
            no `setup`.
        setup: makes fresh state for every schedule. If it returns a context manager (a pool, for example), that is
            entered, the bodies get its value, and it is left afterwards.
        watch: modules, packages, classes or functions (names or objects) whose lines are switch points. By default
            that is all code that they reach, except Python's own and that of installed packages.
        observe: state -> value, which is compared as one more result after all bodies have ended.
        same: (a, b) -> whether two results are equal; the default compares numbers, strings, arrays, tensors and
            containers.
        preemptions: how often a thread may be stopped that could have gone on, 0 or more.
        granularity: "auto" for switches between lines, and inside a line where it touches what threads share more than
            once; "line" for switches between lines only; "instruction" for switches before every such instruction.
        timeouts_s: a wait with a time-out of at most so many seconds may end at any time, which counts as a
            preemption. A longer one only keeps a program from hanging: it ends when nobody else can go on.
        budget_s: seconds after which no further run begins. The sequential runs count, too; the first of them always
            takes place.
        seed: determines the order in which schedules are tried, and the draws of the random strategy.
        restore: state -> anything; brings the state back to what `setup` made, which is then called only once.
        strategy: "exhaustive", or "random" for runs with random priorities (PCT).
        depth: for "random": the number of ordering constraints that a bug may need.
        runs: for "random": the number of runs.
        reduce: leave out schedules that cannot differ from one that is run. "dependency" also records what two bodies
            read and write, and leaves out stops between steps that do not depend on each other (CPython 3.11).
        max_steps: the number of watched lines of all bodies together after which a run counts as endless.
        describe: (results, results of each sequential order) -> the fault in a few words.
        progress: called with the number of schedules that are done, and of those known so far.
        on_trial: called with each trial as soon as its outcome is known.
        stop: called about 20 times per second, also while a schedule runs; if it returns True, the search ends.

    Raises:
        KeyboardInterrupt: the search was stopped before anything was found.
        ExploreError: an argument makes no sense, or nothing could be learned: a body runs no watched line, never ends,
            returns a value that cannot be compared, or gives another outcome when the same is run again.
        Exception: the first call of `setup` raised it.
    """
    # The arguments have the names of the fields. A new option needs a line above, a field, and its use.
    options, began = Options(**locals()), time.perf_counter()
    with Session(options) as session:
        session.learn_references()
        search = RandomSearch(session) if strategy == "random" else LevelSearch(session)
        search.search()
        notes = (*search.notes, *session.notes())
    found = Exploration(
        tuple(search.trials), search.run_count, search.total, search.bound, search.exhausted,
        time.perf_counter() - began, session.executed, session.unsplit,
        session.uncontrolled, session.scheduler.timeouts, notes,
        _replayer(replace(options, budget_s=60.0, stop=None)),
        tuple(session.watch.unwatched), tuple(session.watch.names), session.compares_nothing,
        interrupted=search.ended_by == "interrupted",
    )  # fmt: skip
    keep_page(found)
    return found


def replay(
    schedule: str,
    *bodies: Body,
    setup: Callable[[], Any] | None = None,
    watch: Sequence[Any] = (),
    observe: Callable[[Any], Any] | None = None,
    same: Same | None = None,
    restore: Callable[[Any], Any] | None = None,
    timeouts_s: float = 1.0,
    describe: Describe | None = None,
    max_steps: int = 100_000,
    inspect: Callable[[Any], Any] | None = None,
    stop: Callable[[], bool] | None = None,
) -> Trial:
    """Run one schedule again, from its string, with the same outcome; `steps` lists the lines and their threads.

    Args:
        schedule: a schedule as `explore` printed it.
        *bodies: as for `explore`, and so are the other arguments.
        setup: as for `explore`.
        watch: as for `explore`.
        observe: as for `explore`.
        same: as for `explore`.
        restore: as for `explore`.
        timeouts_s: as for `explore`.
        describe: as for `explore`.
        max_steps: as for `explore`.
        inspect: state -> value, called before each watched line; the value is kept in `steps`.
        stop: as for `explore`.

    Raises:
        KeyboardInterrupt: the replay was stopped.
        ExploreError: the schedule was made for another version or another source, is misspelt, or cannot be followed.
    """
    options = locals()
    return _replay(options.pop("schedule"), Options(**options))


def replayed(schedule: str, *bodies: Body, any_digest: bool = False, **options: Any) -> Exploration:
    """Replay one schedule, and return an exploration that holds it alone and is shown, drawn and saved like others.

    Args:
        schedule: as for `replay`, and so are the others.
        *bodies: the functions.
        any_digest: replay a schedule of other source, too. A bad outcome is one all the same; a right one says nothing.
        **options: the options.

    Raises:
        KeyboardInterrupt, ExploreError: as for `replay`.
    """
    began, replayer = time.perf_counter(), _replayer(Options(bodies=bodies, **options), any_digest)
    trial = replayer(schedule)
    return Exploration(
        trials=(trial,), run=1, total=1, bound="One schedule was replayed:", exhausted=False,
        seconds=time.perf_counter() - began, executed=tuple(dict.fromkeys(step.where for step in trial.steps)),
        replayer=replayer,
    )  # fmt: skip


def _replayer(options: Options, any_digest: bool = False) -> Callable[..., Trial]:
    """Return (schedule, inspect=None) -> trial; `inspect` is called with the options and the state."""
    return lambda schedule, inspect=None: _replay(
        schedule, replace(options, inspect=inspect and partial(inspect, options)), any_digest
    )


def _replay(schedule: str, options: Options, any_digest: bool = False) -> Trial:
    strategy: Strategy = "random" if schedule.lstrip().startswith("random") else "exhaustive"
    with Session(replace(options, granularity=granularity_of(schedule), strategy=strategy)) as session:
        session.learn_references()
        return session.replay(parse(schedule, session.version, any_digest))
