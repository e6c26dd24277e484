"""Passes the turn on: exactly one controlled thread has it, and all others are parked, each on a lock, its baton.

The turn passes at a switch point if the strategy chooses another thread, and whenever its owner ends or would block
(see `blocking`).
"""

from __future__ import annotations

from _thread import get_ident
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf
from operator import attrgetter
from sys import getrecursionlimit, setrecursionlimit
from time import monotonic
from types import CodeType
from typing import Any

from yolothreads.races.garbage import Garbage
from yolothreads.races.headroom import HEADROOM, Headroom
from yolothreads.races.orders import QUIET
from yolothreads.races.recording import Recorder
from yolothreads.races.results import Timeout
from yolothreads.races.schedule import END, EVERY_POINT, LOCKED, SLEEP, WAIT, Follow, Priorities, Schedule
from yolothreads.races.threads import (
    TIMEOUT,
    Abandoned,
    LogEntry,
    Mutex,
    Place,
    State,
    Task,
    TaskSet,
    UnreadableError,
    acquire,
    code_of_caller,
    line_of,
    place_of_caller,
)  # fmt: skip
from yolothreads.races.tracing import tracer
from yolothreads.races.watchdog import Guard, Watchdog
from yolothreads.races.watching import Watch

FIRST_LIMIT_S = 10.0
SLEEPS_IN_A_ROW = 10  # then the others have to run, because a loop that polls needs their help (unmeasured)
LINES_IN_A_ROW = 10_000  # watched lines after which the others have to run: so does a loop that spins (unmeasured)
POINTS_BEFORE_BODIES = 10_000  # switch points that a worker may pass before the bodies begin, on its way to a wait
POINTS_IN_CLEAN_UP = 1000  # switch points that an abandoned body may still pass, in its `finally` and `except` blocks
PASSES = 1000  # time-outs that pass one after another; if no body can go on by itself then, none ever will
PASSES_AFTER_BODIES = 20  # the same once all bodies have ended: a timer that sets itself again ends no sooner
PASSES_WITH_CHOICE = 3  # of these, how many leave a choice; the others would multiply the schedules for nothing
LONG_S = 86_400.0  # what passes in a sleep at most
NAP_S = 0.001  # the least that a sleep lets pass, so that `sleep(0)` in a loop comes to an end
LOOK_S = 2.0**-20  # what a look at a clock takes, about 1 us; exact, so that sums of times stay equal
MANY_LOOKS = 1000  # after so many, a look takes NAP_S

_GO_ON = "go on"  # the answer of a wait that a run has interrupted, by its beginning or its end


@dataclass(slots=True)
class Execution:
    """One run of the bodies under one schedule."""

    strategy: Follow  # it knows how much of the schedule was followed
    log: list[LogEntry]
    switched: list[LogEntry] = field(default_factory=list)  # where a thread was stopped that could have gone on
    failure: str = ""  # deadlock or livelock, in words; empty if every body ended
    endless: bool = False  # a thread could still have gone on, and did not end
    cut_short: bool = False  # a body waited so long that its deadline passed, while another one had not ended
    stacks: str = ""
    stalls: list[str] = field(default_factory=list)
    # Each line when it ran, the length of the log then, and the inspected value.
    inspected: list[tuple[LogEntry, int, Any]] = field(default_factory=list)
    at_end: Any = None  # the inspected value when the last body has ended
    seconds: float = 0.0
    cpu_s: float = 0.0  # of the whole process
    results: tuple[Any, ...] = ()  # a result or an exception for each body, then the observed value
    outside: dict[str, BaseException] = field(default_factory=dict)  # exceptions outside the bodies, by what raised
    setup_failed: bool = False  # the bodies were not run
    began: list[str] = field(default_factory=list)  # the labels of the bodies, in the order in which they began
    ended: list[str] = field(default_factory=list)  # the labels of all threads that ended
    thread_errors: tuple[BaseException, ...] = ()  # exceptions that ended workers
    wakes: tuple[str, ...] = ()  # the workers whose time-outs passed, by their origins, sorted
    recorder: Recorder | None = None  # what it touched, if that was recorded
    beats: tuple[str, ...] = ()  # those among them that waited by time when the bodies began: services

    def lines(self, until: int | None = None) -> Iterator[tuple[Task, CodeType, int]]:
        """Yield the entries of the log that are lines (or instructions): thread, code, and place in it."""
        return ((task, code, at) for task, code, at, _ in self.log[:until] if not isinstance(code, str))


class Turns(ABC):
    """Who has the turn in a run, and how it passes on: at switch points, and where a thread waits, sleeps or ends.

    Time stands still, except that a time-out passes: at any time if it is short (at most `timeouts_s`), which is a
    choice of the schedule; otherwise only when nobody else can go on.
    """

    def __init__(
        self, watch: Watch, max_steps: int, timeouts_s: float, budget_s: float, stop: Callable[[], bool] | None
    ):
        self.max_steps, self.timeouts_s = max_steps, timeouts_s
        self.tracer = tracer(watch, self.at_point)
        self.task_of: dict[int, Task] = {}  # by thread identifier
        self.tasks = TaskSet()
        self.on = self.closed = False
        self.is_settling = False  # the bodies have not begun: workers run until they wait
        self.owner = get_ident()
        self.passed_s = 0.0
        self.inspect: Callable[[], Any] | None = None
        self.stop_early = False  # trace only as far as the schedule needs it
        self.mutex = Mutex()
        self.headroom = Headroom()
        self.uncontrolled: dict[str, None] = {}  # names of threads
        self._never_idle: set[str] = set()  # the origins of workers that were waited for in vain before the bodies
        self.skipped_s = 0.0  # the time of all runs before
        self._timeouts: dict[Place, tuple[float, bool]] = {}
        self.time_flies = False  # between two runs: sleeps and time-outs are over at once
        self.watchdog = Watchdog(self, min(FIRST_LIMIT_S, max(budget_s, 1.0)), stop)
        self.guard = Guard(self.owner, budget_s)
        self.garbage = Garbage(lambda: get_ident() in self.task_of)
        self.clear(Schedule(""), False)

    def clear(self, schedule: Schedule, keep_alternatives: bool) -> None:
        """Forget the last run, before another one begins."""
        self._keep_alternatives = keep_alternatives
        self._undisturbed: Task | None = None  # it has the turn, and nothing about the others can change
        self._alternatives: tuple[str, ...] = ()
        self._check_at = min(LINES_IN_A_ROW, self.max_steps + 1)
        self.current: Task | None = None
        self.tracer.watch.looked_at.clear()
        self.skipped_s += self.passed_s
        self.passed_s = 0.0  # the time of the run: what has passed of sleeps and time-outs
        self._passes = 0  # time-outs that passed since a body could go on by itself
        self.wakes: list[str] = []
        self.between = QUIET
        self.log: list[LogEntry] = []
        self.abandoning = self.stopped_tracing = False
        random = schedule.random
        self.strategy = Follow(schedule, self.log) if random is None else Priorities(random, self.log)
        self.execution = Execution(self.strategy, self.log)

    def finish(self, task: Task) -> None:
        """Note that a controlled thread has ended."""
        del self.task_of[get_ident()]
        self.tracer.watch.look_again()
        with self.mutex:
            had_turn = self.current in (task, None)
            task.state = State.DONE
            if self.on:  # a service ends after the run
                self.execution.ended.append(task.label)
            if task.body is not None:
                self._passes = 0
            task.ended.release()
        if had_turn and self.on and not self.abandoning:
            self._pass_turn(task, END)

    def at_point(self, code: CodeType, at: int) -> None:
        """Handle a switch point: the calling thread is about to run the watched place `at` (see `watching`)."""
        me = self.task_of.get(get_ident())
        if me is None or not self.on:
            return
        if me is self._undisturbed and at != self.strategy.at and len(self.log) < self._check_at:
            self.log.append((me, code, at, self._alternatives))  # every line pays for the code above this one
            return
        if me.inspecting:
            return
        if self.stopped_tracing:
            self.tracer.only_note()
            return
        if self.is_settling and me.points_before_bodies < POINTS_BEFORE_BODIES:
            me.points_before_bodies += 1
            return
        if not self.headroom.is_taken:  # in this frame, so that no deeper one is needed than above
            self.headroom.limit = getrecursionlimit()
            setrecursionlimit(self.headroom.limit + HEADROOM)
            self.headroom.is_taken = True
        try:
            self._stop_at_point(me, code, at)
        finally:
            self.headroom.give_back()

    def _stop_at_point(self, me: Task, code: CodeType, at: int) -> None:
        """Let the strategy choose who goes on at a switch point."""
        if self.current is not me and not self._rejoin(me):
            return
        if self.abandoning:
            me.points_in_clean_up += 1
            if me.points_in_clean_up > POINTS_IN_CLEAN_UP:
                raise Abandoned
            return
        alternatives = tuple(self.tasks.choices(me)) if self._keep_alternatives else ()
        entry: LogEntry = (me, code, at, alternatives)
        self.log.append(entry)
        self._inspect(entry)
        target = self.strategy.at_point(me, code, at, self.tasks.choices)
        if target is me and len(self.log) >= self._check_at:
            target = self._after_many_lines(me)
        switched = self.execution.switched
        if target is not me:
            if self.inspect is not None:
                self.execution.inspected.pop()  # the line runs when its thread goes on
            self._switch(me, target)
            self._inspect(entry)
        elif self.stop_early and switched and self.strategy.stop is None and me is not switched[-1][0]:
            self.stopped_tracing = not self.tasks.workers  # no stop is left, and the switched-to thread does run
        elif self.inspect is None and self.strategy.at != EVERY_POINT and self.tasks.are_steady(me):
            self._undisturbed, self._alternatives = me, alternatives
        if self.stopped_tracing:
            self.tracer.only_note()

    def _inspect(self, entry: LogEntry) -> None:
        if self.inspect is not None:
            self.execution.inspected.append((entry, len(self.log), self._read_state(entry[0])))

    def _inspect_end(self, me: Task) -> None:
        if self.inspect is None or self.abandoning or self.current is not me:
            return
        if all(task is me or task.state == State.DONE for task in self.tasks.bodies):
            with suppress(Abandoned):
                self.execution.at_end = self._read_state(me)

    def _read_state(self, me: Task) -> Any:
        """Call `inspect`: it must not pass on the turn, so a lock that it cannot take at once is an error in it."""
        assert self.inspect is not None
        me.inspecting = True
        try:
            return self.inspect()
        finally:
            me.inspecting = False
            if self.current is not me:  # it stalled in there, and lost the turn
                self._rejoin(me)

    def _after_many_lines(self, me: Task) -> Task:
        """Choose the next thread after many lines in a row: another one if one can run; end a run that is too long."""
        if self.tasks.all_ended:
            self._leave_service(me)
        if len(self.log) > self.max_steps:
            self._give_up(me, f"after {self.max_steps} watched lines {me.label} had still not ended (livelock)")
        self._check_at = min(len(self.log) + LINES_IN_A_ROW, self.max_steps + 1)
        others = self.tasks.runnable(me) or [t for t in [self._first_due(me)] if t is not None]
        return self._choose(me, WAIT, others or [me])

    def _leave_service(self, me: Task) -> None:
        """End the run, in a worker that never waits: the bodies have ended, and it would go on for ever."""
        me.state, self.current = State.READY, None
        self.watchdog.wake()
        self.park(me)

    def _switch(self, me: Task, target: Task) -> None:
        self.execution.switched.append(self.log[-1])
        me.state = State.READY
        self.resume(target)
        self.park(me)

    def resume(self, target: Task) -> None:
        """Give the turn to a thread."""
        is_new = target.state == State.NEW
        self._expire(target)
        self._undisturbed = None
        self.tracer.turns += 1
        self.tracer.watch.look_again()
        target.state, target.sleeps_in_a_row = State.RUNNING, 0
        self.current = target
        if is_new:
            self.execution.began.append(target.label)
            self.start_body(target)
        else:
            target.baton.release()

    @abstractmethod
    def start_body(self, task: Task) -> None:
        """Let the thread of a body begin."""

    @abstractmethod
    def end_control(self) -> None:
        """End the control after a run: workers wait by themselves."""

    def _expire(self, target: Task) -> None:
        """Let the time-out of a thread pass that is chosen to go on, if it still waits."""
        if target.state is State.BLOCKED and not target.can_run():
            target.timed_out = True
            self.passed_s = max(self.passed_s, target.due + LOOK_S)
            if target.body is None:
                self.wakes.append(target.origin)
            elif not target.is_short and sum(task.state != State.DONE for task in self.tasks.bodies) > 1:
                self.execution.cut_short = True

    def park(self, me: Task) -> None:
        """Wait for the turn."""
        acquire(me.baton)
        self.headroom.take()
        if self.abandoning and self.on:
            raise Abandoned

    def _pass_turn(self, me: Task, event: str) -> bool:
        """Pass the turn on because its owner ends or blocks; return False if it comes back to the owner at once."""
        runnable = self.tasks.runnable()
        if any(task.body is not None for task in runnable):
            self._passes = 0
        if self.tasks.order and (worker := self.worker_between_bodies()) is not None:
            runnable = [worker]
        if not runnable and not self.gets_help() and (first := self._let_time_pass()) is not None:
            runnable = [first]
        if not runnable:
            self.current = None
            if self.tasks.all_ended:
                self.watchdog.wake()
            elif not any(t.state == State.STALLED for t in self.tasks.bodies):
                self.watchdog.wake(needs_help=True)
            return True
        target = self._choose(me, event, runnable)
        if target is me:
            self._expire(me)
            me.state = State.RUNNING
            return False
        self.resume(target)
        return True

    def worker_between_bodies(self) -> Task | None:
        """Return the worker that goes on before the next body of a sequential order begins, if it is to."""
        bodies = [self.tasks.bodies[i] for i in self.tasks.order]
        done = sum(body.state == State.DONE for body in bodies)
        if any(body.is_active for body in bodies):
            return None
        workers = [worker for worker in self.tasks.workers if worker.state != State.DONE]
        if self.between.threads_first and (able := [w for w in workers if w.of_body and w.can_run()]):
            return able[0]
        wakes = [origin for gap in self.between.wakes[: done + 1] for origin in gap]
        for worker in workers:
            left = wakes.count(worker.origin) - self.wakes.count(worker.origin)
            if left > 0 and worker.waits_by_time() and not worker.can_run():
                return worker
        return None

    def gets_help(self) -> bool:
        """Return whether time passes for real, because of threads that are not controlled or cannot be now."""
        return bool(self.uncontrolled) or any(task.state == State.STALLED for task in self.tasks.all)

    def _first_due(self, but: Task | None = None) -> Task | None:
        """Return the thread whose time-out passes first."""
        waiting = [task for task in self.tasks.waiting_with_timeout() if task is not but]
        if self.between.exact:
            waiting = [task for task in waiting if task.body is not None and task.is_short] or waiting
        return min(waiting, key=attrgetter("due"), default=None)

    def _let_time_pass(self) -> Task | None:
        """Return the thread whose time-out passes, because nobody else can go on; None if that would not help.

        A service that wakes up again and again must not hide that no body can go on any more. The long time-outs of
        bodies are the last resort.
        """
        if self._passes < (PASSES_AFTER_BODIES if self.tasks.all_ended else PASSES):
            self._passes += 1
            return self._first_due()
        waiting = [t for t in self.tasks.waiting_with_timeout() if t.body is not None and not t.is_short]
        self._passes = 0 if waiting else PASSES
        return min(waiting, key=attrgetter("due"), default=None)

    def _choose(self, me: Task, event: str, runnable: list[Task]) -> Task:
        """Let the strategy choose the next thread, which may be one whose time-out passes.

        It is not asked where there is no choice.
        """
        choices = {task.label: task for task in runnable}
        if self._passes <= PASSES_WITH_CHOICE:
            early = self.tasks.choices().items()
            choices |= {label: task for label, task in early if label.endswith(TIMEOUT) and task is not runnable[0]}
        if len(choices) == 1:
            return runnable[0]
        me.choices += 1
        self.log.append((me, event, me.choices, tuple(choices)[1:]))
        return self.strategy.at_event(me, event, me.choices, choices, runnable[0])

    def _rejoin(self, me: Task) -> bool:
        """Let a thread that ran without having the turn, because it had stalled, wait until it is given the turn.

        Return False if the run has ended meanwhile.
        """
        with self.mutex:
            if not self.on:
                return False
            me.state = State.READY
            if self.current is None and not self.abandoning:
                self.current, me.state = me, State.RUNNING
                return True
        self.park(me)
        return True

    def _give_up(self, me: Task, failure: str) -> None:
        """End the run, in the thread that has the turn."""
        self.watchdog.fail(failure, endless=True)
        self.watchdog.wake()
        acquire(me.baton)
        raise Abandoned

    # --- hooks of `blocking`: what lets the turn pass

    def caller(self) -> str:
        """Return the label of the calling thread if it is controlled; "" if its waits are real ones."""
        me = self.task_of.get(get_ident())
        return "" if me is None or me.waits_for_real else me.label

    def clock(self) -> tuple[bool, float] | None:
        """Return the time that the calling thread sees; to look at it takes some, so that no loop looks for ever."""
        me = self.task_of.get(get_ident())
        if me is None:
            return None
        if self.on:
            me.looks_at_clock += 1
            self.passed_s += LOOK_S if me.looks_at_clock < MANY_LOOKS else NAP_S
        return self.on, self.skipped_s + self.passed_s

    def wait(
        self, ready: Callable[[], bool], timeout: float | None, what: str, on_lock: bool = False, queue_id: int = 0
    ) -> bool | None:
        """Wait until `ready()`: True then, False after the time-out, None if the caller has to wait for real."""
        if timeout is not None and timeout <= 0:
            return ready()
        me = self.task_of[get_ident()]
        if me.inspecting:
            if ready() or timeout is not None:
                return ready()
            raise UnreadableError(f"it needs {what}")
        if not self.headroom.is_taken:
            self.headroom.limit = getrecursionlimit()
            setrecursionlimit(self.headroom.limit + HEADROOM)
            self.headroom.is_taken = True
        answer: bool | str | None
        try:
            while True:
                if self.on:
                    answer = self._wait_in_run(me, ready, timeout, what, on_lock, queue_id)
                else:
                    answer = self._wait_between_runs(me, ready, timeout, bool(queue_id))
                if answer != _GO_ON:
                    return answer  # type: ignore[return-value]
        finally:
            self.headroom.give_back()

    def _wait_in_run(
        self, me: Task, ready: Callable[[], bool], timeout: float | None, what: str, on_lock: bool, queue_id: int
    ) -> bool | str:
        if ready():
            return True
        me.ready, me.timeout, me.what, me.queue_id, me.timed_out = ready, timeout, what, queue_id, False
        me.is_short = timeout is not None and timeout <= self.timeouts_s
        if timeout is not None:
            me.due, me.since = self.passed_s + timeout, monotonic()
            self._timeouts.setdefault(place_of_caller(), (timeout, me.is_short))
        if self.abandoning:
            if me.body is not None or not queue_id:
                raise Abandoned
            with self.mutex:
                if not self.on:
                    return _GO_ON
                me.state = State.BLOCKED
            acquire(me.baton)  # until no thread is controlled
            return _GO_ON
        self._undisturbed = None
        with self.mutex:
            if not self.on:  # it runs freely, and the run has just ended
                return _GO_ON
            if self.current is None and not self.abandoning:  # it had stalled, and no other could go on
                self.current = me
            me.state = State.BLOCKED
        self.log.append((me, LOCKED if on_lock and timeout is None and self._has_only_begun(me) else WAIT, 0, ()))
        if self.current is not me or self._pass_turn(me, WAIT):
            self.park(me)
        me.ready = None
        # Between two runs a worker is woken without being given the turn: it goes on waiting.
        return not me.timed_out if me.state == State.RUNNING else _GO_ON

    def _has_only_begun(self, me: Task) -> bool:
        """Return whether the code of the last switch point waits itself, and not other code that it has called."""
        codes = (code for task, code, *_ in reversed(self.log) if task is me and not isinstance(code, str))
        return next(codes, None) is code_of_caller()

    def _wait_between_runs(
        self, me: Task, ready: Callable[[], bool], timeout: float | None, for_work: bool
    ) -> bool | str | None:
        """Wait while no thread is controlled, and none passes a turn on."""
        until = inf if timeout is None else monotonic() + timeout
        while not self.on:
            if me.doomed and not (for_work and me.executor is not None):  # otherwise it finds an end of the work there
                raise Abandoned
            if self.closed:
                return None
            if ready():
                return True
            acquire(me.baton, timeout=0.001)
            if timeout is not None and self.time_flies:
                self.skipped_s += min(timeout, LONG_S)
                return False
            if monotonic() > until:
                return False
        return _GO_ON

    def sleep(self, seconds: float) -> bool:
        """Sleep for no real time; False if the caller has to sleep for real.

        A worker waits, as with a time-out. A body goes on by default, but another thread may be switched to; or so much
        time passes that a loop which looks at a clock gives up.
        """
        me = self.task_of[get_ident()]
        if me.inspecting:
            return True
        if me.body is None:
            return self.wait(_never, max(seconds, NAP_S), "the end of its sleep") is not None
        if not self.on:
            return False
        if not self.headroom.is_taken:
            self.headroom.limit = getrecursionlimit()
            setrecursionlimit(self.headroom.limit + HEADROOM)
            self.headroom.is_taken = True
        try:
            self._sleep_in_run(me, seconds)
        finally:
            self.headroom.give_back()
        return True

    def _sleep_in_run(self, me: Task, seconds: float) -> None:
        if self.current is not me and not self._rejoin(me):
            return
        if self.abandoning:
            raise Abandoned
        self._undisturbed = None
        me.sleeps += 1
        me.sleeps_in_a_row += 1
        self.passed_s += max(seconds, NAP_S)
        choices = self.tasks.choices(me)
        if me.looks_at_clock and self.timeouts_s > 0:
            choices[me.label + TIMEOUT] = me
        self.log.append((me, SLEEP, me.sleeps, tuple(choices)))
        if len(self.log) > self.max_steps:
            self._give_up(me, f"{me.label} slept {me.sleeps} times and had still not ended (livelock)")
        stop = self.strategy.stop
        target = self.strategy.at_event(me, SLEEP, me.sleeps, {me.label: me, **choices}, me)
        if target is me and stop is not self.strategy.stop:
            self.passed_s += min(self.timeouts_s, LONG_S)
        if target is me and me.sleeps_in_a_row >= SLEEPS_IN_A_ROW:
            first = self._first_due(me)
            due = [first] if first is not None and first.due <= self.passed_s else []
            if others := self.tasks.runnable(me) or due:
                target = self._choose(me, WAIT, others)
        if target is not me:
            self._switch(me, target)

    def prepare_to_end(self) -> None:
        """Note that the run is being given up, or is over: from now on all threads take the long way."""
        self._undisturbed = None

    @property
    def timeouts(self) -> tuple[Timeout, ...]:
        """The waits with a time-out."""
        return tuple(Timeout(line_of(*place), *found) for place, found in self._timeouts.items())


def _never() -> bool:
    return False
