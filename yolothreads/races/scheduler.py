"""Runs bodies in real threads, one at a time, under one schedule.

Exactly one controlled thread holds the turn; all others are parked, each on a lock of its own, its baton. The turn
passes at a switch point if the strategy says so, and whenever its holder ends or would block (see `blocking`). The
thread that called `run` watches (see `watchdog`): it is not controlled itself.
"""

from __future__ import annotations

import time
from _thread import get_ident
from collections.abc import Callable, Sequence
from functools import partial
from types import CodeType
from typing import Any

from yolothreads.races import blocking
from yolothreads.races.crowd import Crowd
from yolothreads.races.runner import Runners
from yolothreads.races.schedule import END, SLEEP, WAIT, Schedule, label
from yolothreads.races.strategies import ANYWHERE, Follow, Priorities
from yolothreads.races.switch import tracer
from yolothreads.races.task import Abandoned, Mutex, Passed, Run, State, Task, acquire
from yolothreads.races.watch import Watch
from yolothreads.races.watchdog import Watchdog
from yolothreads.races.workers import Workers

PATIENCE = 10  # sleeps in a row before the others have to run: a loop that polls gets nowhere alone (unmeasured)
FAIR = 10_000  # watched lines before the others have to run: so does a loop that spins (unmeasured)
CLEAN_UP = 1000  # switch points that an abandoned body may still pass, in its `finally` and `except` blocks


class Scheduler:
    """A context manager around everything that may start threads: `setup`, the runs, and the end of the state."""

    def __init__(self, watch: Watch, instructions: bool, max_steps: int, limit_s: float):
        self.max_steps = max_steps
        self.tracer = tracer(watch, self.point, instructions)
        self.tasks: dict[int, Task] = {}  # by thread identifier
        self.crowd = Crowd()
        self.on = self.closed = False
        self.owner = get_ident()
        self.inspect: Callable[[], Any] | None = None
        self.brisk = False  # watch only as far as the schedule needs it
        self.mutex = Mutex()
        self.workers = Workers(self)
        self.watchdog = Watchdog(self, limit_s)
        self._runners = Runners()
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
        self._runners.close()
        self.workers.close()

    def _clear(self, schedule: Schedule, order: Sequence[int], branching: bool) -> None:
        self.crowd.order, self.branching = order, branching
        self.undisturbed: Task | None = None  # it has the turn, and nothing about the others can change
        self._others: tuple[str, ...] = ()
        self._check_at = min(FAIR, self.max_steps + 1)
        self.current: Task | None = None
        self.log: list[Passed] = []
        self.switched: list[Passed] = []
        self.seen: list[Any] = []
        self.resumed: dict[int, tuple[int, Any]] = {}
        self.abandoning = self.unwatched = False
        random = schedule.random
        self.strategy = Follow(schedule, self.log) if random is None else Priorities(random, self.log)

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
        self.crowd.bodies = tasks = [self._runners.task(label(i), body) for i, body in enumerate(bodies)]
        try:
            self.current, self.on = Task(""), True
            self.workers.gather()
            self.resume(tasks[order[0]] if order else self.strategy.first(tasks))
            self.watchdog.watch_over()
        finally:
            self.watchdog.end()
        dog, strategy, took = self.watchdog, self.strategy, time.perf_counter() - began
        return Run(
            self.log, tasks, strategy.followed, self.switched, strategy.unfollowed, dog.failure, dog.endless,
            dog.stacks, strategy.diverged, dog.stalls, self.seen, self.resumed, took,
        )  # fmt: skip

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
            self.finish(task)

    def finish(self, task: Task) -> None:
        """A controlled thread has ended."""
        del self.tasks[get_ident()]
        with self.mutex:
            held = self.current in (task, None)
            task.state = State.DONE
            task.over.release()
        if held and self.on and not self.abandoning:
            self._pass_on(task, END)

    def point(self, code: CodeType, at: int) -> None:
        """A thread is about to run a watched line (or instruction)."""
        me = self.tasks.get(get_ident())
        if me is None or not self.on:
            return
        if me is self.undisturbed and at != self.strategy.at and len(self.log) < self._check_at:
            self.log.append((me, code, at, self._others))  # every line pays for what stands above this one
            return
        if self.current is not me:
            self._rejoin(me)
        if self.abandoning:
            self._clean_up(me)
            return
        others = self.crowd.others(me) if self.branching else ()
        self.log.append((me, code, at, others))
        if self.inspect is not None:
            self.seen.append(self.inspect())
        target = self.strategy.at_point(me, code, at, self.crowd)
        if target is me and len(self.log) >= self._check_at:
            target = self._after_long(me)
        if target is not me:
            self._switch(me, target)
        elif self.brisk and self.switched and self.strategy.stop is None and me is not self.switched[-1][0]:
            self.unwatched = not self.crowd.workers  # no stop is left, and the thread that was switched to does run
        elif self.inspect is None and self.strategy.at != ANYWHERE and self.crowd.is_steady(me):
            self.undisturbed, self._others = me, others
        if self.unwatched:
            self.tracer.end_thread()

    def _after_long(self, me: Task) -> Task:
        """Who goes on when nobody has had to wait for very long: the others, if they can; nobody if it is too long."""
        if len(self.log) > self.max_steps:
            self._give_up(me, f"after {self.max_steps} watched lines {me.label} had still not ended (livelock)")
        self._check_at = min(len(self.log) + FAIR, self.max_steps + 1)
        able = self.crowd.able(me)
        return me if not able else able[0] if len(able) == 1 else self._chosen(me, WAIT, able)

    def _switch(self, me: Task, target: Task) -> None:
        stopped = len(self.log) - 1
        self.switched.append(self.log[stopped])
        me.state = State.READY
        self.resume(target)
        self.park(me)
        if self.inspect is not None:
            self.resumed[stopped] = len(self.log), self.inspect()

    def resume(self, target: Task) -> None:
        """Give the turn to a thread."""
        new = target.state == State.NEW
        self.undisturbed = None
        target.state, target.naps = State.RUNNING, 0
        self.current = target
        if new and target.runner is not None:
            target.runner.begin(partial(self._run_body, target), self.workers.start_really)
        else:
            target.baton.release()

    def park(self, me: Task) -> None:
        """Wait for the turn."""
        acquire(me.baton)
        if self.abandoning and self.on:
            raise Abandoned

    def _pass_on(self, me: Task, why: str) -> bool:
        """Give the turn away because its holder ended or blocks; False if it comes back to the holder at once."""
        able = self.crowd.able() or self.crowd.out_of_time()
        if not able:
            self._nobody()
            return True
        target = able[0] if len(able) == 1 else self._chosen(me, why, able)
        if target is me:
            me.state = State.RUNNING
            return False
        self.resume(target)
        return True

    def _chosen(self, me: Task, why: str, able: list[Task]) -> Task:
        me.choices += 1
        self.log.append((me, why, me.choices, tuple([t.label for t in able[1:]])))
        return self.strategy.at_event(me, why, me.choices, able, able[0])

    def _nobody(self) -> None:
        """Nobody can go on: the run is over, or it hangs, or somebody who is not controlled has to help."""
        self.current = None
        if self.crowd.over():
            self.watchdog.wake()
        elif not any(t.state == State.STALLED for t in self.crowd.bodies):
            self.watchdog.wake(needs_help=True)

    def block(
        self, me: Task, ready: Callable[[], bool], timeout: float | None, what: str, why: str = WAIT, idle: int = 0
    ) -> bool | None:
        """Wait until `ready()`: True then, False after the time-out, None if the caller has to wait by itself."""
        if timeout is not None and timeout <= 0:
            return ready()
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
        me.ready, me.timeout, me.what, me.idle, me.timed_out = ready, timeout, what, idle, False
        if self.abandoning:
            if me.body is not None or not idle:
                raise Abandoned
            me.state = State.BLOCKED
            acquire(me.baton)  # until nobody is controlled
            return self.block(me, ready, timeout, what, why, idle)
        self.undisturbed = None
        with self.mutex:
            if self.current is None and not self.abandoning:  # it had stalled, and nobody else could go on
                self.current = me
            me.state = State.BLOCKED
        self.log.append((me, why, 0, ()))
        if self.current is not me or self._pass_on(me, WAIT):
            self.park(me)
        me.ready = None
        # Between two runs a worker is woken without being given the turn: it goes on waiting.
        return not me.timed_out if me.state == State.RUNNING else self.block(me, ready, timeout, what, why, idle)

    def sleep(self, me: Task) -> None:
        """A controlled thread sleeps: no time passes, but another thread may be switched to."""
        if self.current is not me:
            self._rejoin(me)
        if self.abandoning:
            raise Abandoned
        self.undisturbed = None
        me.sleeps += 1
        me.naps += 1
        self.log.append((me, SLEEP, me.sleeps, self.crowd.others(me)))
        if len(self.log) > self.max_steps:
            self._give_up(me, f"{me.label} slept {me.sleeps} times and had still not ended (livelock)")
        able = self.crowd.able(me)
        target = self.strategy.at_event(me, SLEEP, me.sleeps, [me, *able], me)
        if target is me and able and me.naps >= PATIENCE:
            target = able[0] if len(able) == 1 else self._chosen(me, WAIT, able)
        if target is not me:
            self._switch(me, target)

    def _rejoin(self, me: Task) -> None:
        """A thread that ran without having the turn (it had stalled) waits until it is given one."""
        with self.mutex:
            me.state = State.READY
            if self.current is None and not self.abandoning:
                self.current, me.state = me, State.RUNNING
                return
        self.park(me)

    def _give_up(self, me: Task, failure: str) -> None:
        """The thread that has the turn ends the run."""
        self.watchdog.fail(failure, endless=True)
        self.watchdog.wake()
        acquire(me.baton)
        raise Abandoned

    def _clean_up(self, me: Task) -> None:
        me.cleaning += 1
        if me.cleaning > CLEAN_UP:
            raise Abandoned
