"""Runs bodies in real threads, one at a time, under one schedule.

Exactly one controlled thread has the turn; all others are parked, each on a lock of its own, its baton. The turn
passes at a switch point if the strategy chooses another thread, and whenever its owner ends or would block (see
`blocking`). The thread that called `run` is not controlled; it is the watchdog meanwhile.
"""

from __future__ import annotations

import concurrent.futures.thread
import threading
import time
from _thread import get_ident
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from types import CodeType
from typing import Any
from weakref import WeakSet

from yolothreads.races import blocking
from yolothreads.races.schedule import END, EVERY_POINT, LOCKED, SLEEP, WAIT, Follow, Priorities, Schedule
from yolothreads.races.threads import Abandoned, LogEntry, Mutex, State, Task, TaskSet, UnreadableError, acquire, locked
from yolothreads.races.tracing import tracer
from yolothreads.races.watching import Watch

SLEEPS_IN_A_ROW = 10  # then the others have to run, because a loop that polls needs their help (unmeasured)
LINES_IN_A_ROW = 10_000  # watched lines after which the others have to run: so does a loop that spins (unmeasured)
POINTS_IN_CLEAN_UP = 1000  # switch points that an abandoned body may still pass, in its `finally` and `except` blocks
STALL_S = 0.5  # without a switch point and without CPU time: blocked by something unknown (unmeasured)
HELP_S = 1.0  # the wait for a thread that is not controlled, where no controlled one can go on (unmeasured)
END_S = 5.0  # the time that a body gets to end when its run is given up
WORKERS_IDLE_S = 1.0  # the time that a worker gets to become idle before the bodies begin (unmeasured)

_never_helped: WeakSet[threading.Thread] = WeakSet()
"""Threads of this process that were waited for once, in vain, such as those of Jupyter: nobody waits for them again."""


@dataclass(slots=True)
class Execution:
    """One run of the bodies under one schedule."""

    strategy: Follow  # it knows how much of the schedule was followed
    log: list[LogEntry]
    switched: list[LogEntry] = field(default_factory=list)  # where a thread was stopped that could have gone on
    failure: str = ""  # deadlock or livelock, in words; empty if every body ended
    endless: bool = False  # a thread could still have gone on, and did not end
    stacks: str = ""
    stalls: list[str] = field(default_factory=list)
    # Each line when it ran, the length of the log then, and the inspected value.
    inspected: list[tuple[LogEntry, int, Any]] = field(default_factory=list)
    at_end: Any = None  # the inspected value when the last body has ended
    seconds: float = 0.0
    results: tuple[Any, ...] = ()  # a result or an exception for each body, then the observed value

    def lines(self, until: int | None = None) -> Iterator[tuple[Task, CodeType, int]]:
        """Yield the entries of the log that are lines (or instructions): thread, code, and place in it."""
        return ((task, code, at) for task, code, at, _ in self.log[:until] if not isinstance(code, str))


class Scheduler:
    """A context manager around everything that may start threads: `setup`, the runs, and the end of the state.

    It is the `blocking.Hooks` of its exploration. Workers, the threads that are not bodies, are scheduled like these
    if `setup` starts them, or an executor at any time: W1, W2, ... A thread that a body starts by itself is not; it is
    reported by name, because the outcome is then no proof.
    """

    def __init__(self, watch: Watch, max_steps: int, limit_s: float, stop: Callable[[], bool] | None):
        self.max_steps = max_steps
        self.tracer = tracer(watch, self.at_point)
        self.task_of: dict[int, Task] = {}  # by thread identifier
        self.tasks = TaskSet()
        self.on = self.closed = False
        self.owner = get_ident()
        self.inspect: Callable[[], Any] | None = None
        self.stop_early = False  # trace only as far as the schedule needs it
        self.mutex = Mutex()
        self.threads_of_bodies: list[threading.Thread] = []  # started by a body itself
        self.uncontrolled: dict[str, None] = {}  # names of threads
        self.watchdog = Watchdog(self, limit_s, stop)
        self._clear(Schedule(""), False)

    def __enter__(self) -> Scheduler:
        blocking.install(self)
        try:
            self.tracer.open()
        except BaseException:
            blocking.uninstall()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.closed = True
        blocking.uninstall()
        self.tracer.close()
        self.tasks.close()

    def _clear(self, schedule: Schedule, keep_alternatives: bool) -> None:
        self._keep_alternatives = keep_alternatives
        self._undisturbed: Task | None = None  # it has the turn, and nothing about the others can change
        self._alternatives: tuple[str, ...] = ()
        self._check_at = min(LINES_IN_A_ROW, self.max_steps + 1)
        self.current: Task | None = None
        self.log: list[LogEntry] = []
        self.abandoning = self.stopped_tracing = False
        random = schedule.random
        self.strategy = Follow(schedule, self.log) if random is None else Priorities(random, self.log)
        self.execution = Execution(self.strategy, self.log)

    def run(
        self, bodies: Mapping[str, Callable[[], Any]], schedule: Schedule, order: Sequence[int], keep_alternatives: bool
    ) -> Execution:
        """Run the bodies under a schedule; or with `order`, one after the other, each to its end.

        Args:
            bodies: the functions, by the labels of their threads.
            schedule: the schedule.
            order: the order of the bodies, as indices.
            keep_alternatives: whether the log says which threads could have gone on instead at each switch point.

        Raises:
            KeyboardInterrupt: after every body has been ended.
        """
        began = time.perf_counter()
        self._clear(schedule, keep_alternatives)
        self.watchdog.begin()
        self.tasks.begin(bodies, order)
        run, tasks = self.execution, self.tasks.bodies
        try:
            self.current, self.on = Task("", threading.current_thread()), True
            self._wait_until_workers_are_idle()
            self.resume(tasks[order[0]] if order else self.strategy.first(tasks))
            self.watchdog.watch_over()
        finally:
            self.watchdog.end()
        run.results = tuple([task.result if task.error is None else task.error for task in tasks])
        run.seconds = time.perf_counter() - began
        return run

    def _run_body(self, task: Task) -> None:
        assert task.body is not None
        self.task_of[get_ident()] = task
        try:
            if not self.stopped_tracing:
                self.tracer.begin_thread()
            task.result = task.body()
        except Abandoned:
            pass
        except BaseException as error:
            task.error = error.with_traceback(None)  # a traceback would keep frames, and their variables, alive
        finally:
            self.tracer.end_thread()
            self._inspect_end(task)
            self.finish(task)

    def finish(self, task: Task) -> None:
        """Note that a controlled thread has ended."""
        del self.task_of[get_ident()]
        with self.mutex:
            had_turn = self.current in (task, None)
            task.state = State.DONE
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
        if self.current is not me:
            self._rejoin(me)
        if self.abandoning:
            me.points_in_clean_up += 1
            if me.points_in_clean_up > POINTS_IN_CLEAN_UP:
                raise Abandoned
            return
        alternatives = self.tasks.alternatives(me) if self._keep_alternatives else ()
        entry: LogEntry = (me, code, at, alternatives)
        self.log.append(entry)
        self._inspect(entry)
        target = self.strategy.at_point(me, code, at, self.tasks.runnable)
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
            self.tracer.end_thread()

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
        if len(self.log) > self.max_steps:
            self._give_up(me, f"after {self.max_steps} watched lines {me.label} had still not ended (livelock)")
        self._check_at = min(len(self.log) + LINES_IN_A_ROW, self.max_steps + 1)
        return self._choose(me, WAIT, self.tasks.runnable(me) or [me])

    def _switch(self, me: Task, target: Task) -> None:
        self.execution.switched.append(self.log[-1])
        me.state = State.READY
        self.resume(target)
        self.park(me)

    def resume(self, target: Task) -> None:
        """Give the turn to a thread."""
        is_new = target.state == State.NEW
        self._undisturbed = None
        target.state, target.sleeps_in_a_row = State.RUNNING, 0
        self.current = target
        if is_new:
            self.tasks.threads[target.label].begin(partial(self._run_body, target), self._start_for_real)
        else:
            target.baton.release()

    def park(self, me: Task) -> None:
        """Wait for the turn."""
        acquire(me.baton)
        if self.abandoning and self.on:
            raise Abandoned

    def _pass_turn(self, me: Task, event: str) -> bool:
        """Pass the turn on because its owner ends or blocks; return False if it comes back to the owner at once."""
        runnable = self.tasks.runnable() or self.tasks.expire_first_timeout()
        if not runnable:
            self.current = None
            if self.tasks.all_ended:
                self.watchdog.wake()
            elif not any(t.state == State.STALLED for t in self.tasks.bodies):
                self.watchdog.wake(needs_help=True)
            return True
        target = self._choose(me, event, runnable)
        if target is me:
            me.state = State.RUNNING
            return False
        self.resume(target)
        return True

    def _choose(self, me: Task, event: str, runnable: list[Task]) -> Task:
        """Let the strategy choose the next thread; it is not asked where there is only one."""
        if len(runnable) == 1:
            return runnable[0]
        me.choices += 1
        self.log.append((me, event, me.choices, tuple([t.label for t in runnable[1:]])))
        return self.strategy.at_event(me, event, me.choices, runnable, runnable[0])

    def _rejoin(self, me: Task) -> None:
        """Let a thread that ran without having the turn, because it had stalled, wait until it is given the turn."""
        with self.mutex:
            me.state = State.READY
            if self.current is None and not self.abandoning:
                self.current, me.state = me, State.RUNNING
                return
        self.park(me)

    def _give_up(self, me: Task, failure: str) -> None:
        """End the run, in the thread that has the turn."""
        self.watchdog.fail(failure, endless=True)
        self.watchdog.wake()
        acquire(me.baton)
        raise Abandoned

    # --- the hooks of `blocking`

    def caller(self) -> str:
        """Return the label of the calling thread if it is controlled; "" if its waits are real ones."""
        me = self.task_of.get(get_ident())
        return "" if me is None or me.starting_thread else me.label

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
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self.on:  # between two runs no thread is controlled, and none passes a turn on
            if self.closed:
                return None
            if ready():
                return True
            if deadline is not None and time.monotonic() > deadline:
                return False
            acquire(me.baton, timeout=0.001)
        if ready():
            return True
        me.ready, me.timeout, me.what, me.queue_id, me.timed_out = ready, timeout, what, queue_id, False
        if self.abandoning:
            if me.body is not None or not queue_id:
                raise Abandoned
            me.state = State.BLOCKED
            acquire(me.baton)  # until no thread is controlled
            return self.wait(ready, timeout, what, on_lock, queue_id)
        self._undisturbed = None
        with self.mutex:
            if self.current is None and not self.abandoning:  # it had stalled, and no other could go on
                self.current = me
            me.state = State.BLOCKED
        self.log.append((me, LOCKED if on_lock else WAIT, 0, ()))
        if self.current is not me or self._pass_turn(me, WAIT):
            self.park(me)
        me.ready = None
        # Between two runs a worker is woken without being given the turn: it goes on waiting.
        if me.state != State.RUNNING:
            return self.wait(ready, timeout, what, on_lock, queue_id)
        return not me.timed_out

    def sleep(self) -> bool:
        """Let no time pass, but another thread may be switched to; False if the caller has to sleep for real."""
        if not self.on:
            return False
        me = self.task_of[get_ident()]
        if me.inspecting:
            return True
        if self.current is not me:
            self._rejoin(me)
        if self.abandoning:
            raise Abandoned
        self._undisturbed = None
        me.sleeps += 1
        me.sleeps_in_a_row += 1
        self.log.append((me, SLEEP, me.sleeps, self.tasks.alternatives(me)))
        if len(self.log) > self.max_steps:
            self._give_up(me, f"{me.label} slept {me.sleeps} times and had still not ended (livelock)")
        others = self.tasks.runnable(me)
        target = self.strategy.at_event(me, SLEEP, me.sleeps, [me, *others], me)
        if target is me and others and me.sleeps_in_a_row >= SLEEPS_IN_A_ROW:
            target = self._choose(me, WAIT, others)
        if target is not me:
            self._switch(me, target)
        return True

    # --- workers

    def start_thread(self, thread: threading.Thread) -> None:
        """Start a thread, controlled or not."""
        starter = self.task_of.get(get_ident())
        is_of_executor = getattr(thread, "_target", None) is concurrent.futures.thread._worker
        if get_ident() != self.owner and (starter is None or starter.starting_thread):
            blocking.start_for_real(thread)
        elif starter is None or is_of_executor:
            self._start_controlled(thread)
        else:
            self.uncontrolled[thread.name] = None
            self.threads_of_bodies.append(thread)
            self._start_for_real(thread)

    def _start_for_real(self, thread: threading.Thread) -> None:
        """Start a thread, and wait until it has begun without passing the turn on."""
        starter = self.task_of.get(get_ident())
        if starter is not None:
            starter.starting_thread = True
        blocking.start_for_real(thread)
        if starter is not None:
            starter.starting_thread = False

    def _start_controlled(self, thread: threading.Thread) -> None:
        run, arrived = thread.run, locked()
        task = Task(f"W{len(self.tasks.workers) + 1}", thread, state=State.STALLED)

        def run_controlled() -> None:
            self.task_of[get_ident()] = task
            self.tracer.begin_thread()
            try:
                if self.on:
                    task.state = State.READY
                arrived.release()
                if task.state == State.READY:
                    self.park(task)
                run()
            except Abandoned:
                pass
            finally:
                self.tracer.end_thread()
                self.finish(task)

        thread.run = run_controlled  # type: ignore[method-assign]
        self.tasks.workers.append(task)
        self._start_for_real(thread)
        acquire(arrived, timeout=10)

    def _wait_until_workers_are_idle(self) -> None:
        """Wait until every worker is parked, before the first body begins; one that takes too long is named."""
        workers = self.tasks.workers = [worker for worker in self.tasks.workers if worker.state != State.DONE]
        parked = (State.BLOCKED, State.READY, State.DONE)
        until = time.monotonic() + WORKERS_IDLE_S
        while any(worker.state not in parked for worker in workers) and time.monotonic() < until:
            time.sleep(0.0002)
        for worker in workers:
            worker.choices = worker.sleeps = worker.sleeps_in_a_row = 0
            if worker.state not in parked:
                self.uncontrolled[worker.thread.name] = None

    def end_control(self) -> None:
        """End the control after a run: workers wait by themselves, and the threads of bodies get time to end."""
        self.on = False
        for worker in self.tasks.workers:
            if worker.state in (State.BLOCKED, State.READY):
                worker.state = State.STALLED
                worker.baton.release()
        for thread in self.threads_of_bodies:
            thread.join(1)
        self.threads_of_bodies = [thread for thread in self.threads_of_bodies if thread.is_alive()]


class Watchdog:
    """Makes a run end, from the caller's thread: skips a thread that stalls, and ends a run that hangs."""

    def __init__(self, scheduler: Scheduler, limit_s: float, stop: Callable[[], bool] | None):
        self._scheduler, self._stop, self.limit_s = scheduler, stop, limit_s
        self.expects_help = True  # from threads that are not controlled; if none came in the first runs, none will
        self.leaked: list[str] = []
        self.begin()

    def begin(self) -> None:
        """Forget the last run."""
        self._over, self._needs_help = locked(), False

    def wake(self, needs_help: bool = False) -> None:
        """Wake the watchdog, from the thread that had the turn: the run is over, or no thread can go on."""
        self._needs_help = needs_help
        self._over.release()

    def check_stop(self) -> None:
        """End the exploration if `stop` says so, as Ctrl-C would."""
        if self._stop is not None and self._stop():
            raise KeyboardInterrupt

    def fail(self, failure: str, endless: bool = False) -> None:
        """Give the run up."""
        run = self._scheduler.execution
        run.failure, run.endless = failure, endless
        run.stacks = "\n".join(f"{t.label} {t.place()}\n{t.stack()}" for t in self._active_bodies())

    def _active_bodies(self) -> list[Task]:
        return [t for t in self._scheduler.tasks.bodies if t.is_active]

    def watch_over(self) -> None:
        """Wait until the run is over, and make it end where it does not end by itself."""
        scheduler = self._scheduler
        began = since = time.monotonic()
        last, used = -1, 0.0
        while True:
            if acquire(self._over, timeout=0.05):
                if not self._needs_help or not self._wait_for_help():
                    return
                continue
            self.check_stop()
            now, running = time.monotonic(), scheduler.current
            if now - began > self.limit_s:
                late = ", ".join(t.label for t in self._active_bodies())
                self.fail(f"{late} had still not ended after {self.limit_s:.3g} s", endless=True)
                return
            if running is None or len(scheduler.log) != last:
                last, since = len(scheduler.log), now
                used = running.cpu_s() if running is not None else 0.0
            elif now - since > STALL_S and running.cpu_s() - used < 0.1 * (now - since) and not running.waits_for_cpu():
                self._skip_stalled(running)
                last = -1

    def _skip_stalled(self, running: Task) -> None:
        """Let another thread go on: the one that has the turn is blocked by something unknown."""
        scheduler = self._scheduler
        with scheduler.mutex:
            if scheduler.current is not running or running.state != State.RUNNING:
                return
            scheduler.execution.stalls.append(f"{running.label} {running.place()}")
            running.state = State.STALLED
            others = scheduler.tasks.runnable()
            scheduler.current = others[0] if others else None
        if others:
            scheduler.resume(others[0])

    def _wait_for_help(self) -> bool:
        """Wait for a thread that is not controlled to wake one that is; if none does, give the run up."""
        scheduler = self._scheduler
        self._needs_help = False
        helpers = [t for t in scheduler.threads_of_bodies if t.is_alive()]
        limit_s = self.limit_s if helpers or scheduler.uncontrolled else 0.0
        if not helpers:  # any other thread that is alive
            known = {task.thread for task in scheduler.tasks.all} | set(_never_helped)
            helpers = [t for t in threading.enumerate() if t not in known and t.ident != scheduler.owner]
        if not limit_s and helpers and self.expects_help:
            limit_s = HELP_S
        until = time.monotonic() + limit_s
        while not (runnable := scheduler.tasks.runnable()):
            if time.monotonic() >= until:
                blocked = [t for t in scheduler.tasks.bodies if t.state == State.BLOCKED]
                waits = "; ".join(f"{t.label} waits for {t.what}" for t in blocked)
                self.fail(f"{waits}; no thread can continue")
                _never_helped.update(helpers)
                return False
            self.check_stop()
            time.sleep(0.0005)
        scheduler.uncontrolled.update(dict.fromkeys(t.name for t in helpers))
        scheduler.resume(runnable[0])
        return True

    def end(self) -> None:
        """Leave no body behind: end those that still run by an exception; then end the control."""
        scheduler = self._scheduler
        scheduler._undisturbed = None
        scheduler.abandoning = bool(self._active_bodies())
        if scheduler.abandoning:
            may_be_stuck = (State.BLOCKED, State.READY, State.RUNNING)
            stuck = [w for w in scheduler.tasks.workers if w.state in may_be_stuck and not w.queue_id]
            for task in [*scheduler.tasks.bodies, *stuck]:
                if task.is_active:
                    self._end_task(task)
        scheduler.end_control()

    def _end_task(self, task: Task) -> None:
        self._scheduler.current = task
        if task.state in (State.READY, State.BLOCKED) or self._scheduler.execution.failure:
            task.baton.release()
            task.wait_finished(0.5)
        if not task.end(END_S):
            self.leaked.append(f"{task.label} {task.place()}")
