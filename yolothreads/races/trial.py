"""One trial: fresh state, one run, and the kind of its outcome."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import permutations
from time import perf_counter
from types import CodeType, TracebackType
from typing import Any

from yolothreads.errors import ExploreError
from yolothreads.races import equality
from yolothreads.races.judge import Judge, short
from yolothreads.races.lines import Where
from yolothreads.races.outcomes import Step, Trial
from yolothreads.races.schedule import END, LOCKED, SLEEP, WAIT, Schedule, Stop, label, version_of
from yolothreads.races.scheduler import Scheduler
from yolothreads.races.switch import MONITORING, other_tracers
from yolothreads.races.task import Run
from yolothreads.races.trials import RIGHT
from yolothreads.races.watch import Watch
from yolothreads.races.watchdog import STALL_S

FIRST_LIMIT_S = 10.0
SLOW_S = 0.02
_NOWHERE = Where("", "", 0, "(no watched line)")
_LISTED = 20  # so many lines that cannot be split are named


class Trials:
    """Everything that stays the same from one schedule to the next. A context manager."""

    def __init__(
        self,
        bodies: Sequence[Callable[..., Any]],
        setup: Callable[[], Any] | None,
        watch: Sequence[Any],
        observe: Callable[[Any], Any] | None,
        same: Callable[[Any, Any], bool] | None,
        granularity: str,
        restore: Callable[[Any], Any] | None,
        describe: Callable[[Sequence[Any], Sequence[Sequence[Any]]], str] | None,
        max_steps: int,
        budget_s: float,
        stop: Callable[[], bool] | None = None,
    ):
        self.bodies, self.setup, self.observe, self.restore = bodies, setup, observe, restore
        self.judge = Judge(same or equality.same, describe)
        self.watch = Watch(watch or dict.fromkeys(_module_of(body) for body in bodies))
        self.version = version_of(self.watch)
        self.instructions = granularity == "instruction"
        self.scheduler = Scheduler(self.watch, self.instructions, max_steps, min(FIRST_LIMIT_S, max(budget_s, 1.0)))
        self.scheduler.watchdog.stop = stop
        self.learned: dict[str, tuple[Run, tuple[Any, ...]]] = {}  # the schedules without a stop, as far as they ran
        self._ran: set[str] = set()
        self._slow = False  # a run takes so long that watching it to its end costs more than it tells
        self.steps = 0  # switch points of the longest run so far
        self.executed: dict[Where, None] = {}
        self.unsplit: dict[Where, None] = {}
        self.stalls: dict[str, None] = {}
        self._state: Any = None
        self._stack: ExitStack | None = None

    def __enter__(self) -> Trials:
        self.scheduler.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        try:
            self._drop_state()
        finally:
            self.scheduler.__exit__()

    def _fresh_state(self) -> Any:
        if self._stack is not None and self.restore is not None:
            self.restore(self._state)
            return self._state
        self._drop_state()
        self._stack = ExitStack()
        if self.setup is not None:
            state = self.setup()
            # A lock can be entered too, but is meant for the bodies.
            manager = hasattr(type(state), "__enter__") and not hasattr(state, "acquire")
            self._state = self._stack.enter_context(state) if manager else state
            if self.restore is not None:
                self.restore(self._state)
        return self._state

    def _drop_state(self) -> None:
        stack, self._stack, self._state = self._stack, None, None
        if stack is not None:
            stack.close()

    def run(
        self,
        schedule: Schedule,
        order: Sequence[int] = (),
        branching: bool = False,
        inspect: Callable[[Any], Any] | None = None,
        brisk: bool = False,
    ) -> tuple[Run, tuple[Any, ...]]:
        """One run, and what it gave: a result or an exception for each body, then what was observed."""
        self.scheduler.watchdog.obey()
        state = self._fresh_state()
        arguments = () if self.setup is None else (state,)
        self.scheduler.inspect = None if inspect is None else lambda: inspect(state)
        self.scheduler.brisk = brisk and self._slow
        run = self.scheduler.run([_Call(body, arguments) for body in self.bodies], schedule, order, branching)
        results: list[Any] = [task.result if task.error is None else task.error for task in run.bodies]
        if self.observe is not None and not run.failure:
            try:
                results.append(self.observe(*arguments))
            except Exception as error:
                results.append(error)
        if run.failure:
            self._drop_state()  # whatever was ended by force may have left it in any condition
            if self.scheduler.unwatched:  # a livelock is known by its steps, which were not counted
                return self.run(schedule, order, branching, inspect)
        self.stalls.update(dict.fromkeys(run.stalls))
        return run, tuple(results)

    def learn_references(self) -> None:
        """Run the bodies one after the other, in every order, to know what is right."""
        orders = list(permutations(range(len(self.bodies))))
        # What happens only at the first call in a process is not to be counted, so the first order is run twice.
        failed, first = self.run(Schedule(""), orders[0])
        runs = [(orders[0], failed, first)] if failed.endless else []  # once is long enough
        runs += [(order, *self.run(Schedule(""), order, branching=True)) for order in orders[len(runs) :]]
        for order, run, results in runs:
            self._note(run)
            if not run.failure:
                self.judge.references.append(results)
                if len(order) == 2 and not any(isinstance(code, str) for _, code, *_ in run.log):
                    self.learned[label(order[0])] = run, results
        if all(run.endless for _, run, _ in runs):
            raise ExploreError(
                f"In no order do the bodies end by themselves: {runs[0][1].failure}. Give bodies that end."
            )
        self._check_watched()
        if not failed.failure and not runs[0][1].failure:
            self._check_repeatable(orders[0], first, runs[0][2])
        longest = max((run.seconds for _, run, _ in runs if not run.failure), default=0.0)
        self._slow = longest > SLOW_S and not MONITORING
        self.scheduler.watchdog.first_runs = False
        self.scheduler.watchdog.limit_s = max(FIRST_LIMIT_S / 2, 30 * longest)

    def _note(self, run: Run) -> None:
        self.steps = max(self.steps, len(run.log))
        for _, code, at, _ in run.log:
            known = None if isinstance(code, str) else self.watch.get(code)
            if known is not None:
                place = known.where(at, self.instructions)
                self.executed[place] = None
                if not self.instructions and place.line in known.unsplit_lines:
                    self.unsplit[place] = None
        self._ran |= {task.label for task, code, *_ in run.log if not isinstance(code, str)}

    def _check_watched(self) -> None:
        idle = [label(i) for i in range(len(self.bodies)) if label(i) not in self._ran]
        if idle and not any(thread.startswith("W") for thread in self._ran):
            raise ExploreError(
                f"Body {', '.join(idle)} ran no line of the watched code, so nothing could be learned; "
                f"name the modules that hold its lines in watch=."
            )

    def _check_repeatable(self, order: Sequence[int], first: tuple[Any, ...], second: tuple[Any, ...]) -> None:
        """If the same order gives something else each time, no outcome means anything."""
        if self.judge.equal(first, second):
            return
        _, third = self.run(Schedule(""), order)  # the very first run may differ, for what it leaves in the process
        if not self.judge.equal(second, third):
            raise ExploreError(
                f"The bodies, run one after the other in the same order twice, gave {short(second)} and then "
                f"{short(third)}; let setup= or restore= renew everything they change, or pass same=."
            )

    def trial(self, schedule: Schedule, run: Run, results: tuple[Any, ...]) -> Trial:
        """The trial that a run was."""
        switches = tuple(self._switches(run))
        kind, detail = self.judge.kind(run, results)
        last = next(
            (self.where(code, at) for _, code, at, _ in reversed(run.log) if not isinstance(code, str)), _NOWHERE
        )
        return Trial(
            schedule.text(self.version), kind, detail, switches[-1] if switches else last,
            () if kind == RIGHT else results, switches,
        )  # fmt: skip

    def line(self, code: CodeType, at: int) -> tuple[int, int | None]:
        """The line of a switch point, and the offset of its instruction where instructions are told apart."""
        known = self.watch.get(code)
        return (known.line_at[at], at) if self.instructions and known is not None else (at, None)

    def where(self, code: CodeType, at: int) -> Where:
        """The source of a switch point."""
        known = self.watch.get(code)
        return _NOWHERE if known is None else known.where(at, self.instructions)

    def _switches(self, run: Run) -> list[Where]:
        """Where the turn was taken from a thread that could have gone on."""
        return [self.where(code, at) for _, code, at, _ in run.switched if not isinstance(code, str)]

    def replay(self, schedule: Schedule, inspect: Callable[[Any], Any] | None) -> Trial:
        """One trial with its steps."""
        run, results = self.run(schedule, inspect=lambda state: (perf_counter(), _seen(inspect, state)))
        ended = perf_counter()
        if run.diverged or run.unfollowed:
            raise ExploreError(
                f"The schedule cannot be followed: {run.diverged or self._missed(run.unfollowed[0], run)}."
            )
        waits = _waits(run)
        return replace(
            self.trial(schedule, run, results), results=results, steps=tuple(self._steps(run, waits)), ended_s=ended,
            waits=waits[-1] if run.failure else (),
        )  # fmt: skip

    def _steps(self, run: Run, waits: Sequence[tuple[str, ...]]) -> Iterator[Step]:
        """The watched lines in the order in which they ran: one before which a thread was stopped, when it went on."""
        seen = iter(run.seen)
        found: list[tuple[float, Step]] = []
        for i, (task, code, at, _) in enumerate(run.log):
            if isinstance(code, str):
                continue
            place, after = float(i), i + 1
            when, saw = next(seen)
            if any(entry is run.log[i] for entry in run.switched):
                if i not in run.resumed:
                    continue
                later, (when, saw) = run.resumed[i]
                place, after = later - 0.5, later
            found.append((place, Step(task.label, self.where(code, at), saw, when, waits[after])))
        return (step for _, step in sorted(found, key=lambda pair: pair[0]))

    def _missed(self, stop: Stop, run: Run) -> str:
        if stop.function in (WAIT, END, SLEEP):
            return f"{stop.thread} never came to '{stop.place()}'"
        visits = sum(not isinstance(c, str) and stop.is_at(t.label, c.co_name, at) for t, c, at, _ in run.log)
        names = sorted({c.co_name for _, c, _, _ in run.log if not isinstance(c, str)})
        return (
            f"{stop.thread} came {visits} times to {stop.place()}; functions that were run are "
            f"{', '.join(names[:_LISTED])}"
        )

    def facts(self, notes: Sequence[str] = ()) -> dict[str, Any]:
        """Fields of `Exploration` about all the runs together."""
        return {
            "executed": tuple(self.executed),
            "unsplit": tuple(self.unsplit),
            "uncontrolled": tuple(self.scheduler.workers.uncontrolled),
            "notes": (*notes, *self._notes()),
        }

    def _notes(self) -> list[str]:
        said = [f"Stalled for {STALL_S} s, by something that is no lock of Python's: {stall}" for stall in self.stalls]
        said += [f"Also traces this process, and does not see the bodies: {other}" for other in other_tracers()]
        said += [f"Could not be ended, and is still running: {name}" for name in self.scheduler.watchdog.leaked]
        return said


class _Call:
    """A body with its arguments; knows the code object that the body starts with."""

    def __init__(self, body: Callable[..., Any], arguments: tuple[Any, ...]):
        self.body, self.arguments = body, arguments
        self.code: CodeType | None = getattr(body, "__code__", None)

    def __call__(self) -> Any:
        return self.body(*self.arguments)


def _waits(run: Run) -> list[tuple[str, ...]]:
    """Who waits before the first entry of a log, and after each."""
    waiting: dict[str, None] = {}
    found: list[tuple[str, ...]] = [()]
    for task, code, at, _ in run.log:
        if code in (WAIT, LOCKED) and not at:  # otherwise `at` counts choices of who goes on
            waiting[task.label] = None
        elif not isinstance(code, str):
            waiting.pop(task.label, None)
        found.append(tuple(waiting))
    return found


def _seen(inspect: Callable[[Any], Any] | None, state: Any) -> Any:
    try:
        return None if inspect is None else inspect(state)
    except Exception as error:  # what looks on must not change what happens
        return error


def _module_of(body: Any) -> str:
    name = getattr(body, "__module__", None)
    if name is None or name not in sys.modules:
        raise ExploreError(f"watch= is empty, and the module of {body!r} is not known; name what is to be watched.")
    return name
