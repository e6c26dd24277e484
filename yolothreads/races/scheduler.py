"""Runs bodies in real threads, one at a time, under one schedule.

Exactly one controlled thread holds the turn; all others are parked, each on a lock of its own, its baton. The turn
passes at a switch point if the schedule says so, and whenever its holder ends or would block (see `blocking`). The
thread that called `run` watches (see `watchdog`): it is not controlled itself.
"""

from __future__ import annotations

import concurrent.futures.thread
import threading
import time
from _thread import get_ident
from collections.abc import Callable, Sequence
from functools import partial
from types import CodeType
from typing import Any

from yolothreads.races import blocking
from yolothreads.races.priorities import Priorities
from yolothreads.races.runner import Runner
from yolothreads.races.schedule import END, SLEEP, WAIT, Schedule, Stop
from yolothreads.races.switch import Watch, tracer
from yolothreads.races.task import (
    BLOCKED, DONE, NEW, READY, RUNNING, STALLED, Abandoned, Mutex, Passed, Run, Task, acquire, taken,
)  # fmt: skip
from yolothreads.races.watchdog import HELP_S, Watchdog

PATIENCE = 10  # sleeps in a row before the others have to run: a loop that polls gets nowhere alone (unmeasured)
CLEAN_UP = 1000  # switch points that an abandoned body may still pass, in its `finally` and `except` blocks


class Scheduler:
    """A context manager around everything that may start threads: `setup`, the runs, and the end of the state."""

    def __init__(self, watch: Watch, instructions: bool, max_steps: int, limit_s: float):
        self.max_steps = max_steps
        self.tracer = tracer(watch, self.point, instructions)
        self.tasks: dict[int, Task] = {}  # by thread identifier
        self.bodies: list[Task] = []
        self.workers: list[Task] = []
        self.own_threads: list[threading.Thread] = []  # started by a body itself
        self.on = self.closed = False
        self.owner = get_ident()
        self.look: Callable[[], Any] | None = None
        self.brisk = False  # watch only as far as the schedule needs it
        self.mutex = Mutex()
        self.watchdog = Watchdog(self, limit_s)
        self._runners: dict[str, Runner] = {}
        self._clear(Schedule(""), (), False)

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
        for runner in self._runners.values():
            runner.close()
        for worker in self.workers:
            if worker.state == DONE and worker.thread is not None:
                worker.thread.join(1)

    def _clear(self, schedule: Schedule, order: Sequence[int], branching: bool) -> None:
        self.order, self.branching = order, branching
        self.current: Task | None = None
        self.log: list[Passed] = []
        self.switched: list[Passed] = []
        self.seen: list[Any] = []
        self.followed = 0
        self.diverged = ""
        self.abandoning = self.unwatched = False
        self.priorities = Priorities(schedule.random) if schedule.random is not None else None
        self._plan, self._next = list(schedule.stops), None
        self._await_next_stop()

    @property
    def everybody(self) -> list[Task]:
        """Bodies and workers, in the order in which they are asked to go on."""
        return [*self.bodies, *self.workers]

    # --- one run ---------------------------------------------------------------------------------------------------

    def run(
        self, bodies: Sequence[Callable[[], Any]], schedule: Schedule, order: Sequence[int] = (), branching: bool = True
    ) -> Run:
        """Run the bodies under a schedule; or with `order`, one after the other, each to its end.

        `branching` keeps in the log who else could have gone on at each switch point.

        Raises:
            KeyboardInterrupt: after every body has been ended.
        """
        began = time.perf_counter()
        self._clear(schedule, order, branching)
        self.watchdog.begin()
        self.bodies = [Task(chr(65 + i), body) for i, body in enumerate(bodies)]
        for task in self.bodies:
            task.runner = self._runner(task.label)
            task.thread = task.runner.thread
        self.workers = [worker for worker in self.workers if worker.state != DONE]
        try:
            self._gather_workers()
            self.resume(self._first(schedule))
            self.watchdog.watch_over()
        finally:
            self.watchdog.end()
        unfollowed = [*([self._next] if self._next else []), *self._plan]
        return Run(
            self.log, self.bodies, self.followed, self.switched, unfollowed, self.watchdog.failure,
            self.watchdog.stacks, self.diverged, self.watchdog.stalls, self.seen, time.perf_counter() - began,
        )  # fmt: skip

    def _runner(self, label: str) -> Runner:
        runner = self._runners.get(label)
        if runner is None or not runner.is_free():
            runner = self._runners[label] = Runner(label)
        return runner

    def _first(self, schedule: Schedule) -> Task:
        if self.order:
            return self.bodies[self.order[0]]
        if self.priorities is not None:
            return self.priorities.best(self.bodies)
        return next((t for t in self.bodies if t.label == schedule.first), self.bodies[0])

    def _run_body(self, task: Task) -> None:
        assert task.body is not None
        self.tasks[get_ident()] = task
        try:
            if not self.unwatched:
                self.tracer.begin_thread()
            task.result = task.body()
        except Abandoned:
            pass
        except BaseException as error:
            task.error = error.with_traceback(None)  # a traceback would keep frames, and what they hold, alive
        finally:
            self.tracer.end_thread()
            self._finish(task)

    def _finish(self, task: Task) -> None:
        del self.tasks[get_ident()]
        with self.mutex:
            held = self.current in (task, None)
            task.state = DONE
        if held and self.on and not self.abandoning:
            self._pass_on(task, END)

    # --- passing the turn ------------------------------------------------------------------------------------------

    def point(self, code: CodeType, at: int) -> None:
        """A thread is about to run a watched line (or instruction)."""
        me = self.tasks.get(get_ident())
        if me is None or not self.on:
            return
        if self.current is not me:
            self._rejoin(me)
        if self.abandoning:
            self._clean_up(me)
            return
        log = self.log
        log.append((me, code, at, self._others(me) if self.branching else ()))
        if self.look is not None:
            self.seen.append(self.look())
        if len(log) > self.max_steps:
            self._give_up(me, f"after {self.max_steps} watched lines {me.label} had still not ended (livelock)")
        stop = self._next
        if stop is not None:
            if stop.thread == me.label and stop.matches(code.co_name, at):
                self._visits_left -= 1
                if self._visits_left == 0:
                    self._follow(me, stop)
        elif self.priorities is not None:
            self._obey(me, self.priorities)
        elif self.brisk and self.switched:
            self.unwatched = True  # no stop is left, and the thread that was switched to does run
        if self.unwatched:
            self.tracer.end_thread()

    def _follow(self, me: Task, stop: Stop) -> None:
        self._await_next_stop()
        target = next((t for t in self.everybody if t.label == stop.next), None)
        if target is None or target is me or not self.allowed(target):
            self.diverged = f"{stop.next} cannot go on at {stop.place()}"
        else:
            self._switch(me, target)

    def _await_next_stop(self) -> None:
        """Wait for the next stop of the schedule; visits that were made already count."""
        self.followed = len(self.log)
        self._next = stop = self._plan.pop(0) if self._plan else None
        if stop is not None and stop.line:
            made = sum(
                task.label == stop.thread and not isinstance(code, str) and stop.matches(code.co_name, at)
                for task, code, at, _ in self.log
            )
            self._visits_left = stop.visit - made

    def _switch(self, me: Task, target: Task) -> None:
        self.switched.append(self.log[-1])
        me.state = READY
        self.resume(target)
        self._park(me)

    def resume(self, target: Task) -> None:
        """Give the turn to a thread."""
        new = target.state == NEW
        target.state, target.naps = RUNNING, 0
        self.current = target
        if new and target.runner is not None:
            target.runner.begin(partial(self._run_body, target), self._start)
        else:
            target.baton.release()

    def _start(self, thread: threading.Thread) -> None:
        """Start a thread; whoever does so really waits until it has begun."""
        starter = self.tasks.get(get_ident())
        if starter is not None:
            starter.bypass = True
        blocking.start(thread)
        if starter is not None:
            starter.bypass = False

    def _park(self, me: Task) -> None:
        acquire(me.baton)
        if self.abandoning and self.on:
            raise Abandoned

    def allowed(self, task: Task) -> bool:
        """Whether a thread may be given the turn; in a sequential order, bodies that come later may not."""
        return task.can_run() and (not self.order or task.body is None or task is self._turn_of_order())

    def _turn_of_order(self) -> Task | None:
        return next((self.bodies[i] for i in self.order if self.bodies[i].state != DONE), None)

    def _others(self, me: Task) -> tuple[str, ...]:
        """Who else could go on now."""
        return tuple([t.label for t in self.everybody if t is not me and t.can_run()])

    def _pass_on(self, me: Task, why: str) -> bool:
        """Give the turn away because its holder ended or blocks; False if it comes back to the holder at once."""
        able = [t for t in self.everybody if self.allowed(t)] or self._out_of_time()
        if not able:
            self._nobody()
            return True
        target = able[0]
        if self.priorities is not None:
            target = self.priorities.best(able)
        elif len(able) > 1:
            target = self._chosen(me, why, able)
        if target is me:
            me.state = RUNNING
            return False
        self.resume(target)
        return True

    def _out_of_time(self) -> list[Task]:
        """Nobody can go on, so time passes: the shortest time-out is over."""
        waiting = [t for t in self.everybody if t.state == BLOCKED and t.timeout is not None]
        waiting = [t for t in waiting if not self.order or t.body is None or t is self._turn_of_order()]
        if not waiting:
            return []
        first = min(waiting, key=lambda t: t.timeout or 0.0)
        first.timed_out = True
        return [first]

    def _nobody(self) -> None:
        """Nobody can go on: the run is over, or it hangs, or somebody who is not controlled has to help."""
        self.current = None
        if all(t.state == DONE for t in self.bodies):
            self.watchdog.wake()
        elif not any(t.state == STALLED for t in self.bodies):
            self.watchdog.wake(needs_help=True)

    def _chosen(self, me: Task, why: str, able: list[Task]) -> Task:
        """Of several that can go on: the one the schedule names, else the first."""
        me.choices += 1
        stop, target = self._next, able[0]
        self.log.append((me, why, me.choices, tuple([t.label for t in able[1:]])))
        if stop is not None and (stop.function, stop.thread, stop.visit) == (why, me.label, me.choices):
            self._await_next_stop()
            target = next((t for t in able if t.label == stop.next), target)
            if target.label != stop.next:
                self.diverged = f"{stop.next} cannot go on at {stop.place()}"
        return target

    # --- waiting ---------------------------------------------------------------------------------------------------

    def block(
        self, me: Task, ready: Callable[[], bool], timeout: float | None, what: str, why: str = WAIT, idle: bool = False
    ) -> bool | None:
        """Wait until `ready()`: True then, False after the time-out, None if the caller has to wait by itself."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self.on:  # nobody is controlled now, so nobody passes a turn on
            if self.closed:
                return None
            if ready():
                return True
            if deadline is not None and time.monotonic() > deadline:
                return False
            acquire(me.baton, timeout=0.001)
        if ready():
            return True
        if self.abandoning and not (me.body is None and idle):
            raise Abandoned
        me.ready, me.timeout, me.what, me.idle, me.timed_out = ready, timeout, what, idle, False
        with self.mutex:
            if self.current is None and not self.abandoning:  # it had stalled, and nobody else could go on
                self.current = me
            me.state = BLOCKED
        self.log.append((me, why, 0, ()))
        if self.current is not me or self._pass_on(me, WAIT):
            self._park(me)
        me.ready = None
        return not me.timed_out if self.on else self.block(me, ready, timeout, what, why, idle)

    def sleep(self, me: Task) -> None:
        """A controlled thread sleeps: no time passes, but another thread may be switched to."""
        if self.current is not me:
            self._rejoin(me)
        if self.abandoning:
            raise Abandoned
        me.sleeps += 1
        me.naps += 1
        self.log.append((me, SLEEP, me.sleeps, self._others(me)))
        if len(self.log) > self.max_steps:
            self._give_up(me, f"{me.label} slept {me.sleeps} times and had still not ended (livelock)")
        stop = self._next
        if stop is not None and (stop.function, stop.thread, stop.visit) == (SLEEP, me.label, me.sleeps):
            self._follow(me, stop)
        elif me.naps >= PATIENCE and (others := [t for t in self.everybody if t is not me and self.allowed(t)]):
            target = self._chosen(me, WAIT, others) if len(others) > 1 else others[0]
            me.state = READY
            self.resume(target)
            self._park(me)

    def _obey(self, me: Task, priorities: Priorities) -> None:
        """The random strategy: whoever has the highest priority goes on."""
        best = priorities.step(len(self.log), me, [t for t in self.everybody if t is not me and t.can_run()])
        if best is not me:
            self._switch(me, best)

    def _rejoin(self, me: Task) -> None:
        """A thread that ran without having the turn (it had stalled) waits until it is given one."""
        with self.mutex:
            me.state = READY
            if self.current is None and not self.abandoning:
                self.current, me.state = me, RUNNING
                return
        self._park(me)

    def _give_up(self, me: Task, failure: str) -> None:
        """The thread that has the turn ends the run."""
        self.watchdog.fail(failure)
        self.watchdog.wake()
        acquire(me.baton)
        raise Abandoned

    def _clean_up(self, me: Task) -> None:
        me.cleaning += 1
        if me.cleaning > CLEAN_UP:
            raise Abandoned

    # --- threads of a pool -----------------------------------------------------------------------------------------

    def start_thread(self, thread: threading.Thread) -> None:
        """Somebody starts a thread: what `setup` or an executor starts is scheduled too, what a body starts is named."""
        starter = self.tasks.get(get_ident())
        worker = getattr(thread, "_target", None) is concurrent.futures.thread._worker
        if get_ident() != self.owner and (starter is None or starter.bypass):
            blocking.start(thread)
        elif starter is None or worker:
            self._adopt(thread)
        else:
            self.watchdog.uncontrolled[thread.name] = None
            self.own_threads.append(thread)
            self._start(thread)

    def _adopt(self, thread: threading.Thread) -> None:
        """A pool's worker starts: it is scheduled like the bodies, as W1, W2, ..."""
        task = Task(f"W{len(self.workers) + 1}", thread=thread, state=STALLED)
        run, arrived = thread.run, taken()

        def controlled() -> None:
            self.tasks[get_ident()] = task
            self.tracer.begin_thread()
            try:
                if self.on:
                    task.state = READY
                arrived.release()
                if task.state == READY:
                    self._park(task)
                run()
            finally:
                self.tracer.end_thread()
                self._finish(task)

        thread.run = controlled  # type: ignore[method-assign]
        self.workers.append(task)
        self._start(thread)
        acquire(arrived, timeout=10)

    def _gather_workers(self) -> None:
        """Take control: every worker has to be parked before the first body begins."""
        self.current, self.on = Task(""), True
        until = time.monotonic() + HELP_S
        parked = (BLOCKED, READY, DONE)
        while any(w.state not in parked for w in self.workers) and time.monotonic() < until:
            time.sleep(0.0002)
        for worker in self.workers:
            if worker.state not in parked and worker.thread is not None:
                self.watchdog.uncontrolled[worker.thread.name] = None
