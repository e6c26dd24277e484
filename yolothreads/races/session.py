"""Everything that stays the same from one schedule to the next: the options, the state, and the sequential results."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import permutations
from time import perf_counter
from types import CodeType, CoroutineType
from typing import Any, Literal, get_args

from yolothreads.errors import ExploreError
from yolothreads.races.judge import Describe, Judge, Same, same, short
from yolothreads.races.results import DEADLOCK, RIGHT, Step, Trial, Where
from yolothreads.races.schedule import LOCKED, WAIT, Schedule, Stop, label
from yolothreads.races.scheduler import FIRST_LIMIT_S, Execution, Scheduler
from yolothreads.races.tracing import MONITORING, other_tracers
from yolothreads.races.watchdog import STALL_S
from yolothreads.races.watching import Granularity, Watch

Body = Callable[..., Any]
Strategy = Literal["exhaustive", "random"]
Progress = Callable[[int, int], object]

SLOW_S = 0.02
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
    reduce: bool = True
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
        if not isinstance(self.preemptions, int) or self.preemptions < 0:
            raise ExploreError(f"preemptions={self.preemptions!r} makes no sense; pass 0, 1, 2, ...")
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
        self._stack = ExitStack()
        self.labels = [label(i) for i in range(len(options.bodies))]
        self.judge = Judge(len(options.bodies), options.same or same, options.describe)
        watch = options.watch or dict.fromkeys(_module_of(body) for body in options.bodies)
        self.watch = Watch(
            watch, options.granularity, all_of_user=not options.watch, by_names=options.strategy != "random"
        )
        self.scheduler = Scheduler(self.watch, options.max_steps, options.timeouts_s, options.budget_s, options.stop)
        self.sequential: dict[str, Execution] = {}  # the schedules without a stop, by first thread, if already run
        self.steps = 0  # switch points of the longest run so far
        self._executed: dict[tuple[int, int], tuple[CodeType, int]] = {}  # watched places, by the id of the code
        self._slow = False  # whether it costs more to trace a run to its end than that can teach
        self._stalls: dict[str, None] = {}
        self._idle: list[str] = []  # the labels of bodies that ran no watched line
        self._state: Any = None
        self._has_state = False
        self._state_stack = ExitStack()  # closes the state if it is a context manager

    def __enter__(self) -> Session:
        self._stack.enter_context(self.scheduler)
        self._stack.callback(self._drop_state)
        return self

    def __exit__(self, *exc_info: object) -> None:
        try:
            self._stack.close()
        finally:
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

    def _fresh_state(self) -> Any:
        setup, restore = self.options.setup, self.options.restore
        is_new = not self._has_state or restore is None
        if is_new:
            self._drop_state()
            state: Any = None if setup is None else setup()
            # A lock can be entered too, but it is the bodies that enter it.
            is_manager = hasattr(type(state), "__enter__") and not hasattr(state, "acquire")
            self._state = self._state_stack.enter_context(state) if is_manager else state
            self._has_state = True
        if restore is not None and not (is_new and setup is None):
            restore(self._state)
        return self._state

    def _drop_state(self) -> None:
        self._has_state, self._state = False, None
        self.scheduler.time_flies = True
        try:
            self._state_stack.close()
            self.scheduler.end_workers()
        finally:
            self.scheduler.time_flies = False

    # --- runs

    def run(
        self,
        schedule: Schedule,
        order: Sequence[int] = (),
        keep_alternatives: bool = False,
        inspect: Callable[[Any], Any] | None = None,
        stop_early: bool = False,
    ) -> Execution:
        """Run the bodies once, on fresh state, and observe the state afterwards."""
        scheduler, observe = self.scheduler, self.options.observe
        scheduler.watchdog.check_stop()
        state = self._fresh_state()
        arguments = () if self.options.setup is None else (state,)
        scheduler.inspect = None if inspect is None else lambda: inspect(state)
        scheduler.stop_early = stop_early and self._slow
        bodies = {name: _call(body, *arguments) for name, body in zip(self.labels, self.options.bodies, strict=True)}
        run = scheduler.run(bodies, schedule, order, keep_alternatives)
        if self.options.restore is not None:
            scheduler.end_workers(of_bodies=True)
        if self.watch.refresh():
            scheduler.tracer.refresh()
        if self.watch.granularity == "line":
            self._note_lines(run)
        if run.failure:
            self._drop_state()  # a body that was ended by force may have left it in any condition
            if scheduler.stopped_tracing:  # a livelock is recognised by its lines, which were not counted
                return self.run(schedule, order, keep_alternatives, inspect)
        elif observe is not None:
            try:
                run.results += (observe(*arguments),)
            except Exception as error:
                run.results += (error,)
        self._stalls.update(dict.fromkeys(run.stalls))
        return run

    def learn_references(self) -> None:
        """Run the bodies one after the other, in every order, to know which results are right."""
        orders = list(permutations(range(len(self.options.bodies))))
        # The first call in a process may do things that later ones do not, so the first order is run twice.
        first = self.run(Schedule(""), orders[0])
        generation = self.watch.generation
        runs = [first] if first.endless else []  # one endless run takes long enough
        runs += [self.run(Schedule(""), order, keep_alternatives=True) for order in orders[len(runs) :]]
        ran: set[str] = set()
        for order, run in zip(orders, runs, strict=True):
            ran |= self._note_lines(run)
            if not run.failure:
                self.judge.references.append(run.results)
                if len(order) == 2 and not any(isinstance(code, str) for _, code, *_ in run.log):
                    self.sequential[label(order[0])] = run
        if all(run.endless for run in runs):
            raise ExploreError(
                f"The bodies end in no sequential order: {runs[0].failure}. Pass bodies that end by themselves."
            )
        if generation != self.watch.generation:
            self.sequential.clear()  # some of these runs passed fewer switch points than they would now
        if not ran:
            raise ExploreError(
                f"Bodies {', '.join(self.labels)} ran no line of the watched code, so nothing could be learned; "
                f"name the modules that hold their lines in watch=."
            )
        if not any(name.startswith("W") for name in ran):
            self._idle = [name for name in self.labels if name not in ran]
        if not first.failure and not runs[0].failure:
            self._check_repeatable(orders[0], first.results, runs[0].results)
        longest = max((run.seconds for run in runs if not run.failure), default=0.0)
        self._slow = longest > SLOW_S and not MONITORING
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

    def _check_repeatable(self, order: Sequence[int], first: tuple[Any, ...], second: tuple[Any, ...]) -> None:
        """Refuse bodies whose results differ in the same order: then no outcome has a meaning."""
        if self.judge.equal(first, second):
            return
        third = self.run(Schedule(""), order).results  # the very first run may differ, because it leaves things behind
        if not self.judge.equal(second, third):
            raise ExploreError(
                f"The bodies were run one after the other in the same order twice, and gave {short(second)} and then "
                f"{short(third)}; let setup= or restore= renew everything that they change, or pass same=."
            )

    # --- trials

    def trial(self, schedule: Schedule, run: Execution) -> Trial:
        """Return the trial of a run."""
        if run.failure:
            kind, detail = DEADLOCK, f"{run.failure}\n{run.stacks}"
        else:
            kind, detail = self.judge.kind(run.results)
        where = self.watch.where
        switches = tuple(where(code, at) for _, code, at, _ in run.switched if not isinstance(code, str))
        last = switches[-1:] or [where(code, at) for _, code, at in run.lines()][-1:]
        return Trial(
            schedule.text(self.version), kind, detail, last[0] if last else _NO_LINE,
            () if kind == RIGHT else run.results, switches,
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
            for (task, code, at, _), length, (at_s, awaited, value) in run.inspected
            if not isinstance(code, str)
        )  # fmt: skip
        at_end = waits[-1] if run.failure else ()
        inspected = None if run.at_end is None else run.at_end[-1]
        return replace(
            self.trial(schedule, run), results=run.results, steps=steps, ended_s=ended, waits=at_end,
            inspected=inspected,
        )  # fmt: skip

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
        """Whether there is state, but neither `observe` nor a body returned a value, so that every run looks alike."""
        results = [result for reference in self.judge.references for result in reference]
        return self.options.setup is not None and bool(results) and all(result is None for result in results)

    def notes(self) -> Iterator[str]:
        """Yield the remarks about all the runs together."""
        stalled = f"Stalled for {STALL_S} s, by something that is no lock of Python's"
        yield from (f"{stalled}: {stall}" for stall in self._stalls)
        yield from (f"Body {name} ran no watched line, so it was not stopped anywhere." for name in self._idle)
        unseen = "" if MONITORING else ", and does not see the bodies"
        yield from (f"Also traces this process{unseen}: {other}" for other in other_tracers())
        yield from (f"Could not be ended, and is still running: {name}" for name in self.scheduler.watchdog.leaked)


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


def _module_of(body: Any) -> str:
    name = getattr(_function_of(body), "__module__", None)
    if name is None or name not in sys.modules:
        raise ExploreError(f"watch= is empty, and the module of {body!r} is unknown; name the code to watch.")
    return name
