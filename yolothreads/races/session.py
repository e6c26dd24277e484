"""Everything that stays the same from one schedule to the next: the options, the state, and the sequential results."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from numbers import Real
from time import perf_counter
from types import CodeType, CoroutineType
from typing import Any, Literal, get_args

from yolothreads.errors import ExploreError
from yolothreads.races.frames import can_read_stack
from yolothreads.races.judge import Describe, Judge, Results, Same, named, same, same_error, short, snapshot
from yolothreads.races.orders import QUIET, Between, equal_bodies
from yolothreads.races.recording import Recorder, has_hidden_callbacks
from yolothreads.races.references import BudgetEndedError, References
from yolothreads.races.results import RIGHT, Step, Trial, Where
from yolothreads.races.schedule import LOCKED, WAIT, Follow, Schedule, Stop, label
from yolothreads.races.scheduler import Scheduler
from yolothreads.races.threads import Task
from yolothreads.races.tracing import MONITORING, other_tracers
from yolothreads.races.turns import FIRST_LIMIT_S, Execution
from yolothreads.races.watchdog import STALL_S
from yolothreads.races.watching import Granularity, Watch

Body = Callable[..., Any]
Strategy = Literal["exhaustive", "random"]
Progress = Callable[[int, int], object]

SLOW_S = 0.02
RECORDING_SLOWS = 10  # so many times longer a recorded run may take: predict() takes nine times as long
_NO_LINE = Where("", "", 0, "(no watched line)")
_LISTED = 20  # function names that a message lists at most


@dataclass(frozen=True, kw_only=True)
class Options:
    """The arguments of `explore` and `replay`, under the same names; see there.

    Raises:
        ExploreError: an argument makes no sense.
    """

    bodies: Sequence[Body]
    setup: Callable[[], Any] | None = None
    watch: Sequence[Any] = ()
    observe: Callable[[Any], Any] | None = None
    same: Same | None = None
    preemptions: int = 1
    granularity: Granularity = "auto"
    timeouts_s: float = 1.0
    budget_s: float = 60.0
    seed: int = 0
    restore: Callable[[Any], Any] | None = None
    strategy: Strategy = "exhaustive"
    depth: int = 3
    runs: int = 1000
    reduce: bool | Literal["dependency"] = True
    max_steps: int = 100_000
    describe: Describe | None = None
    inspect: Callable[[Any], Any] | None = None
    progress: Progress | None = None
    on_trial: Callable[[Trial], object] | None = None
    stop: Callable[[], bool] | None = None

    def __post_init__(self) -> None:
        if len(self.bodies) < 2:
            raise ExploreError(f"{len(self.bodies)} bodies were given; a race needs two or more functions.")
        for body in self.bodies:
            if not callable(body):
                raise ExploreError(
                    f"The body {body!r} is not a function; pass functions, such as lambda state: state.work()."
                )
        for name in ("setup", "observe", "same", "restore", "describe", "inspect", "progress", "on_trial", "stop"):
            if (given := getattr(self, name)) is not None and not callable(given):
                raise ExploreError(f"{name}={given!r} is not a function; pass one, or leave {name}= out.")
        for name in ("seed", "depth", "runs", "max_steps"):
            if not isinstance(given := getattr(self, name), int):
                raise ExploreError(f"{name}={given!r} makes no sense; pass a whole number.")
        for name in ("budget_s", "timeouts_s"):
            if not isinstance(given := getattr(self, name), Real) or given != given:
                raise ExploreError(f"{name}={given!r} makes no sense; pass a number of seconds.")
        if not isinstance(self.preemptions, int) or self.preemptions < 0:
            raise ExploreError(f"preemptions={self.preemptions!r} makes no sense; pass 0, 1, 2, ...")
        if self.reduce not in (True, False, "dependency"):
            raise ExploreError(f"reduce={self.reduce!r} is unknown; pass True, False or 'dependency'.")
        if self.granularity not in get_args(Granularity):
            raise ExploreError(f"granularity='{self.granularity}' is unknown; pass 'auto', 'line' or 'instruction'.")
        if self.strategy not in ("exhaustive", "random"):
            raise ExploreError(f"strategy='{self.strategy}' is unknown; pass 'exhaustive' or 'random'.")
        if self.depth < 1 or self.runs < 1:
            raise ExploreError(f"depth={self.depth} and runs={self.runs} make no sense; pass 1 or more for each.")
        if not self.timeouts_s >= 0:
            raise ExploreError(f"timeouts_s={self.timeouts_s!r} makes no sense; pass seconds, 0 or more (inf: all).")


class Session:
    """The context of all runs of one exploration. A context manager."""

    def __init__(self, options: Options):
        self.options = options
        self.until = perf_counter() + options.budget_s
        self._stack = ExitStack()
        self.labels = [label(i) for i in range(len(options.bodies))]
        groups = equal_bodies(options.bodies)
        self.judge = Judge(groups, options.same or same, options.describe)
        self.references = References(self, groups)
        watch = options.watch or dict.fromkeys(map(_module_of, options.bodies))
        self.watch = Watch(
            watch, options.granularity, all_of_user=not options.watch, by_names=options.strategy != "random"
        )
        self.scheduler = Scheduler(self.watch, options.max_steps, options.timeouts_s, options.budget_s, options.stop)
        self.steps = 0  # switch points of the longest run so far
        self._executed: dict[tuple[int, int], tuple[CodeType, int]] = {}  # watched places, by the id of the code
        self._slow = False  # whether it costs more to trace a run to its end than that can teach
        self._stalls = Counter[str]()  # by thread and place, in how many runs
        self._idle: list[str] = []  # the labels of bodies that ran no watched line
        self._state: Any = None
        self._has_hidden_callbacks: bool | None = None  # when the first recorded run began
        self._has_state = False
        self._state_stack = ExitStack()  # closes the state if it is a context manager

    def __enter__(self) -> Session:
        self._stack.enter_context(self.scheduler)
        self._stack.callback(self._leave_state, {})
        return self

    def __exit__(self, *exc_info: object) -> None:
        try:
            self._stack.close()
        finally:
            self.references.sequential.clear()
            self.scheduler.guard.check()

    @cached_property
    def version(self) -> str:
        """What schedules depend on; it is known as soon as the sequential orders have run."""
        return self.watch.version(tuple(_name_of(body) for body in self.options.bodies))

    @property
    def executed(self) -> tuple[Where, ...]:
        """The watched lines that ran."""
        return tuple(dict.fromkeys(self.watch.where(*place) for place in self._executed.values()))

    @property
    def unsplit(self) -> tuple[Where, ...]:
        """The lines among them that are not split, although a switch inside them can matter."""
        watch = self.watch
        places = (watch.where(*place) for place in self._executed.values() if watch.is_unsplit(*place))
        return tuple(dict.fromkeys(places))

    # --- the state

    def _renew_state(self, outside: dict[str, BaseException]) -> None:
        """Make the state fresh, or add the exception that prevented this to `outside`."""
        setup, restore, doing = self.options.setup, self.options.restore, "setup"
        is_new = not self._has_state
        try:
            if is_new:
                state: Any = None if setup is None else setup()
                # A lock can be entered too, but it is the bodies that enter it.
                is_manager = hasattr(type(state), "__enter__") and not hasattr(state, "acquire")
                doing = "entering the state"
                self._state = self._state_stack.enter_context(state) if is_manager else state
                self._has_state = True
            if restore is not None and not (is_new and setup is None):
                doing = "restore"
                restore(self._state)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self.scheduler.guard.check()
            outside[doing] = error

    def _leave_state(self, outside: dict[str, BaseException]) -> None:
        """Leave the state, or add the exception that this raised to `outside`."""
        self._has_state, self._state = False, None
        self.scheduler.time_flies = True
        try:
            self._state_stack.close()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self.scheduler.guard.check()
            outside["leaving the state"] = error
        finally:
            self.scheduler.end_workers()
            self.scheduler.time_flies = False

    def leave_kept_state(self) -> BaseException | None:
        """Leave the state that `restore` kept; return the exception that this raises only after concurrent runs."""
        left, after_one = dict[str, BaseException](), dict[str, BaseException]()
        with suppress(KeyboardInterrupt):  # the findings matter more
            self._leave_state(left)
            if left:
                self.run(Schedule(""), range(len(self.labels)))
                self._leave_state(after_one)
        usual = [*after_one.values()]
        new = [error for error in left.values() if not any(same_error(error, other) for other in usual)]
        return new[0].with_traceback(None) if new else None

    # --- runs

    def run(
        self,
        schedule: Schedule,
        order: Sequence[int] = (),
        keep_alternatives: bool = False,
        inspect: Callable[[Any], Any] | None = None,
        stop_early: bool = False,
        between: Between = QUIET,
        record: tuple[str, int] | None = None,
    ) -> Execution:
        """Run the bodies once, on fresh state, and observe the state afterwards."""
        scheduler, observe, outside = self.scheduler, self.options.observe, dict[str, BaseException]()
        scheduler.watchdog.check_stop()
        self._renew_state(outside)
        if outside:
            self._leave_state({})
            return Execution(Follow(Schedule(""), []), [], outside=outside, setup_failed=True)
        state = self._state
        arguments = () if self.options.setup is None else (state,)
        scheduler.inspect = None if inspect is None else lambda: inspect(state)
        scheduler.stop_early = stop_early and self._slow
        bodies = {name: _call(body, *arguments) for name, body in zip(self.labels, self.options.bodies, strict=True)}
        scheduler.tracer.recorder = None if record is None else self._recorder(record)
        limit_s, slower = scheduler.watchdog.limit_s, 1 if scheduler.tracer.recorder is None else RECORDING_SLOWS
        scheduler.watchdog.limit_s *= slower
        try:
            run = scheduler.run(bodies, schedule, order, keep_alternatives, between)
        finally:
            scheduler.watchdog.limit_s = limit_s
        run.recorder, scheduler.tracer.recorder = scheduler.tracer.recorder, None
        for i, error in enumerate(sorted(run.thread_errors, key=named), start=1):
            run.outside[f"a thread{f' ({i})' * (i > 1)}"] = error
        if self.options.restore is not None:
            scheduler.end_workers(of_bodies=True)
        if self.watch.refresh():
            scheduler.tracer.refresh()
        if self.watch.granularity == "line":
            self._note_lines(run)
        if observe is not None and not run.failure:
            run.results += (_result_of(observe, *arguments),)
        run.results = snapshot(run.results)
        # A body that was ended by force may have left the state in any condition.
        if self.options.restore is None or run.failure:
            self._leave_state(run.outside)
        if run.failure and scheduler.stopped_tracing:  # a livelock is recognised by its lines, which were not counted
            return self.run(schedule, order, keep_alternatives, inspect, between=between)
        self._stalls.update(set(run.stalls))
        return run

    def _recorder(self, stop: tuple[str, int]) -> Recorder | None:
        """Return what records the next run until a stopped thread goes on, if this Python can do that."""
        if not can_read_stack():
            return None
        if self._has_hidden_callbacks is None:
            self._has_hidden_callbacks = has_hidden_callbacks()
        scheduler = self.scheduler
        return Recorder(scheduler.task_of, lambda: scheduler.log, stop, self._has_hidden_callbacks)

    def learn_references(self) -> None:
        """Run the bodies one after the other, to know which results are right, and which lines are reached."""
        runs = self.references.learn()
        ran = set[str]().union(*map(self._note_lines, runs))
        if not ran:
            raise ExploreError(
                f"Bodies {', '.join(self.labels)} ran no line of the watched code, so nothing could be learned; "
                f"name the modules that hold their lines in watch=."
            )
        if not any(name.startswith("W") for name in ran):
            self._idle = [name for name in self.labels if name not in ran]
        longest = max((run.seconds for run in runs if not run.failure), default=0.0)
        # By processor time, and the shortest: what is run must not depend on other work of the machine.
        self._slow = min((run.cpu_s for run in runs if not run.failure), default=0.0) > SLOW_S and not MONITORING
        self.scheduler.watchdog.expects_help = False
        self.scheduler.watchdog.limit_s = max(FIRST_LIMIT_S / 2, 30 * longest)

    def _note_lines(self, run: Execution) -> set[str]:
        """Remember the lines that ran; return the labels of the threads that ran one."""
        self.steps = max(self.steps, len(run.log))
        ran = set()
        for task, code, at in run.lines():
            ran.add(task.label)
            self._executed[id(code), at] = code, at
        return ran

    # --- trials

    def trial(self, schedule: Schedule, run: Execution) -> Trial:
        """Return the trial of a run.

        Raises:
            BudgetEndedError: the outcome is not known, because there was no time left to run further sequential orders.
        """
        kind, detail = self.references.kind(run)
        where = self.watch.where
        switches = tuple(where(code, at) for _, code, at, _ in run.switched if not isinstance(code, str))
        last = switches[-1:] or [where(code, at) for _, code, at in run.lines()][-1:]
        return Trial(
            schedule.text(self.version), kind, detail, last[0] if last else _NO_LINE,
            () if kind == RIGHT else Results(run.results, run.outside).all, switches,
        )  # fmt: skip

    def replay(self, schedule: Schedule) -> Trial:
        """Run one schedule, and return the trial with its steps."""
        for stop in schedule.stops:
            if stop.offset is not None:
                self.watch.want_point(stop.is_in, stop.offset)
        if self.watch.refresh():
            self.scheduler.tracer.refresh()
        run = self.run(schedule, inspect=lambda state: (perf_counter(), self._awaited(), self._inspect(state)))
        ended = perf_counter()
        followed = run.strategy
        if followed.diverged or followed.unfollowed:
            reason = followed.diverged or _reason_for_missing(followed.unfollowed[0], run)
            raise ExploreError(f"The schedule cannot be followed: {reason}.")
        waits = _waits(run)
        steps = tuple(
            Step(
                task.label, self.watch.where(code, at), value, at_s,
                waits[length], tuple([awaited.get(name, "") for name in waits[length]]),
            )
            for (task, code, at, _), length, (at_s, awaited, value) in self._steps_of(run)
        )  # fmt: skip
        at_end = waits[-1] if run.failure else ()
        inspected = None if run.at_end is None else run.at_end[-1]
        results = Results(run.results, run.outside).all
        try:
            trial = self.trial(schedule, run)
        except BudgetEndedError:
            raise ExploreError(
                f"The schedule gave {short(results)}, and there was no time to run all sequential orders, one of which "
                f"might give the same; replay it with fewer bodies."
            ) from None
        return replace(trial, results=results, steps=steps, ended_s=ended, waits=at_end, inspected=inspected)

    def _steps_of(self, run: Execution) -> Iterator[tuple[tuple[Task, CodeType, int, Any], int, Any]]:
        """Yield the lines that a replay ran; and where a thread came back into the middle of a line."""
        last: Task | None = None
        for entry, length, value in run.inspected:
            task, code, at, others = entry
            if isinstance(code, str):
                continue
            if at > 0 or task is not last or self.watch.granularity == "instruction":
                yield (task, code, at, others), length, value
            last = task

    def _awaited(self) -> dict[str, str]:
        """Return the labels of the threads that wait, each with what it waits for."""
        return {task.label: task.what for task in self.scheduler.tasks.all if task.ready is not None}

    def _inspect(self, state: Any) -> Any:
        try:
            return None if self.options.inspect is None else self.options.inspect(state)
        except Exception as error:  # an inspection must not change the run
            return error

    @property
    def compares_nothing(self) -> bool:
        """Whether there is state, but no `observe`, and no body returned a value, so that every run looks alike."""
        results = [result for reference in self.judge.references for result in reference.all]
        is_seen = self.options.setup is None or self.options.observe is not None
        return bool(results) and not is_seen and all(result is None for result in results)

    @property
    def uncontrolled(self) -> tuple[str, ...]:
        """The names of the threads that ran freely, or did so again and again after they had stalled.

        A thread that stalled in one run only may have waited for a busy machine.
        """
        stalled = [f"{stall} (a wait that is not seen)" for stall, runs in self._stalls.items() if runs > 1]
        return (*self.scheduler.uncontrolled, *stalled)

    def notes(self) -> Iterator[str]:
        """Yield the remarks about all the runs together."""
        stalled = f"Stalled for {STALL_S} s, by something that is no lock of Python's"
        yield from (f"{stalled}: {stall}" for stall in self._stalls)
        yield from self.references.always_raised()
        if self.options.reduce == "dependency" and not can_read_stack():
            yield "reduce='dependency' needs CPython 3.11; no more was left out than with reduce=True."
        yield from (f"Body {name} ran no watched line, so it was not stopped anywhere." for name in self._idle)
        unseen = "" if MONITORING else ", and does not see the bodies"
        yield from (f"Also traces this process{unseen}: {other}" for other in other_tracers())
        yield from (f"Could not be ended, and is still running: {name}" for name in self.scheduler.watchdog.leaked)


def _result_of(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a function returns, or the exception that it raises."""
    try:
        return function(*arguments)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return error.with_traceback(None)


def _call(body: Body, *arguments: Any) -> Callable[[], Any]:
    """Return a function that calls a body; a coroutine that it returns is run in an event loop of its own."""

    def call() -> Any:
        result = body(*arguments)
        if not isinstance(result, CoroutineType):
            return result
        import asyncio

        return asyncio.run(result)

    return call


def _waits(run: Execution) -> list[tuple[str, ...]]:
    """Return the labels of the waiting threads before the first entry of a log, and after each entry."""
    waiting: dict[str, None] = {}
    found: list[tuple[str, ...]] = [()]
    for task, code, at, _ in run.log:
        if code in (WAIT, LOCKED) and not at:  # otherwise `at` counts the choices of the next thread
            waiting[task.label] = None
        elif not isinstance(code, str):
            waiting.pop(task.label, None)
        found.append(tuple(waiting))
    return found


def _reason_for_missing(stop: Stop, run: Execution) -> str:
    """Return the reason why a stop was not reached."""
    if not stop.line:
        return f"{stop.thread} never came to '{stop.place()}'"
    visits = sum(stop.is_at(task.label, code.co_name, at) for task, code, at in run.lines())
    names = sorted({code.co_name for _, code, _ in run.lines()})
    return (
        f"{stop.thread} came {visits} times to {stop.place()}; the functions that ran are {', '.join(names[:_LISTED])}"
    )


def _function_of(body: Body) -> Body:
    """Return the function inside a `functools.partial`."""
    return _function_of(body.func) if isinstance(body, partial) else body


def _name_of(body: Body) -> tuple[str, str]:
    """Return a name of a body that stays the same as long as its source does."""
    body = _function_of(body)
    code = getattr(body, "__code__", None)
    return getattr(code, "co_filename", ""), getattr(body, "__qualname__", type(body).__qualname__)


def _module_of(body: Any) -> Any:
    """Return the name of the module of a body; or its function, if that has been loaded in another way."""
    function = _function_of(body)
    name = getattr(function, "__module__", None)
    if name is None or name not in sys.modules:
        if hasattr(function, "__code__"):
            return function
        raise ExploreError(f"watch= is empty, and the module of {body!r} is unknown; name the code to watch.")
    return name
