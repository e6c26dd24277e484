"""Makes every call of `explore` end: a run that stalls or hangs, and code between two runs that never comes back."""

from __future__ import annotations

import ctypes
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from time import monotonic, process_time, sleep
from typing import Protocol
from weakref import WeakSet

from yolothreads.errors import ExploreError
from yolothreads.races import blocking
from yolothreads.races.threads import (
    OF_PROCESSES,
    LogEntry,
    Mutex,
    State,
    Task,
    TaskSet,
    acquire,
    locked,
    stack_of,
    waits_for_cpu,
)

TICK_S = 0.05
STALL_S = 0.5  # without a switch point and without CPU time: blocked by something unknown (unmeasured)
STALL_AGAIN_S = 0.01  # the same at a line where a thread has stalled before
HELP_AGAIN_S = 0.1  # the same for another process, after one that was waited for in vain (unmeasured)
HELP_S = 1.0  # the wait for a thread that is not controlled, where no controlled one can go on (unmeasured)
JOIN_S = 0.2  # the same where a body joins that thread, in any run (unmeasured)
END_S = 5.0  # the time that a body gets to end when its run is given up
QUIET_S = 30.0  # `setup` may use no CPU time for so long, if it has started no other process (unmeasured)
LONGEST_S = 20.0  # `setup` may take so long, or five times the budget if that is more (unmeasured)

_never_helped: WeakSet[threading.Thread] = WeakSet()
"""Threads of this process that were waited for once, in vain, such as those of Jupyter: nobody waits for them again."""


class Failure(Protocol):
    """What the watchdog writes into the record of a run that it gives up."""

    failure: str
    endless: bool
    stacks: str
    stalls: list[str]


class Run(Protocol):
    """What the watchdog needs of the scheduler."""

    tasks: TaskSet
    current: Task | None
    log: list[LogEntry]
    mutex: Mutex
    uncontrolled: dict[str, None]
    owner: int
    abandoning: bool

    @property
    def execution(self) -> Failure:
        """The record of the run."""

    def gets_help(self) -> bool:
        """Return whether time passes for real, because of threads that are not controlled or cannot be now."""

    def resume(self, target: Task) -> None:
        """Give the turn to a thread."""

    def prepare_to_end(self) -> None:
        """Note that the run is being given up, or is over."""

    def end_control(self) -> None:
        """End the control after a run."""


class Watchdog:
    """Makes a run end, from the caller's thread: skips a thread that stalls, and ends a run that hangs."""

    def __init__(self, run: Run, limit_s: float, stop: Callable[[], bool] | None):
        self._run, self._stop, self.limit_s = run, stop, limit_s
        self.expects_help = True  # from threads that are not controlled; if none came in the first runs, none will
        self._process_helps_s = HELP_S  # the wait for another process
        self.leaked: list[str] = []
        self._stalled_at: set[str] = set()
        self.begin()

    def begin(self) -> None:
        """Forget the last run."""
        self._over, self._needs_help = locked(), False

    def wake(self, needs_help: bool = False) -> None:
        """Wake the watchdog, from the thread that had the turn: the run is over, or no thread can go on."""
        self._needs_help = needs_help
        try:  # noqa: SIM105 - a function of Python would count as code that was not looked into
            self._over.release()
        except RuntimeError:  # it was woken already, by a thread that was skipped and has gone on
            pass

    def check_stop(self) -> None:
        """End the exploration if `stop` says so, as Ctrl-C would."""
        if self._stop is not None and self._stop():
            raise KeyboardInterrupt

    def fail(self, failure: str, endless: bool = False) -> None:
        """Give the run up."""
        record = self._run.execution
        record.failure, record.endless = failure, endless
        record.stacks = "\n".join(f"{t.label} {t.place()}\n{t.stack()}" for t in self._active_bodies())

    def _active_bodies(self) -> list[Task]:
        return [t for t in self._run.tasks.bodies if t.is_active]

    def watch_over(self) -> None:
        """Wait until the run is over, and make it end where it does not end by itself."""
        run = self._run
        began = before = monotonic()
        last, used, quiet_s = -1, 0.0, 0.0
        while True:
            tick_s = STALL_AGAIN_S if self._stalled_at else TICK_S
            if acquire(self._over, timeout=tick_s):
                if not self._needs_help or not self._wait_for_help():
                    return
                before = monotonic()
                continue
            self.check_stop()
            now, running = monotonic(), run.current
            # A busy machine may have kept this thread from its work, and so all others from the interpreter.
            quiet_s, before = quiet_s + min(now - before, 2 * tick_s), now
            if run.tasks.all_ended and now - began > self.limit_s:
                return
            if running is not None and running.runs_freely and not run.tasks.has_work:
                return
            if now - began > self.limit_s:
                late = ", ".join(t.label for t in self._active_bodies())
                self.fail(f"{late} had still not ended after {self.limit_s:.3g} s", endless=True)
                return
            if running is None:
                self._resume_one()
            if running is None or len(run.log) != last:
                last, quiet_s = len(run.log), 0.0
                used = running.cpu_s() if running is not None else 0.0
            elif self._stalls(running, quiet_s, used):
                self._skip_stalled(running)
                last = -1
                if not run.tasks.has_work:  # a service that waits in a way that is not seen
                    return

    def _stalls(self, running: Task, for_s: float, used_before: float) -> bool:
        """Return whether the thread that has the turn is blocked by something that is not seen."""
        if for_s < STALL_S and not (
            self._stalled_at and for_s >= STALL_AGAIN_S and running.place() in self._stalled_at
        ):
            return False
        return running.cpu_s() - used_before < 0.1 * for_s and not waits_for_cpu(running.thread)

    def _skip_stalled(self, running: Task) -> None:
        """Let another thread go on."""
        run = self._run
        with run.mutex:
            if run.current is not running or running.state != State.RUNNING:
                return
            self._stalled_at.add(running.place())
            run.execution.stalls.append(f"{running.label} {running.place()}")
            running.state = State.STALLED
            others = run.tasks.runnable()
            run.current = others[0] if others else None
        if others:
            run.resume(others[0])

    def _resume_one(self) -> bool:
        """Let a thread go on, while nobody has the turn: one that can run, or whose time-out has passed for real."""
        run, now = self._run, monotonic()
        with run.mutex:
            if run.current is not None:
                return True
            able = run.tasks.runnable()
            able += [t for t in run.tasks.waiting_with_timeout() if t.timeout is not None and now - t.since > t.timeout]
            if not able:
                return False
            run.current = able[0]
        run.resume(able[0])
        return True

    def _wait_for_help(self) -> bool:
        """Wait for a thread that is not controlled to wake one that is; if none does, give the run up."""
        run, self._needs_help = self._run, False
        known = {task.thread for task in run.tasks.all} | set(_never_helped)
        helpers = [t for t in threading.enumerate() if t not in known and t.ident != run.owner and t.name != Guard.NAME]
        limit_s = self.limit_s if run.gets_help() else HELP_S if helpers and self.expects_help else 0.0
        of_processes = any(t.state == State.BLOCKED and t.what == OF_PROCESSES for t in run.tasks.all)
        if of_processes:
            limit_s = max(limit_s, self._process_helps_s)
        joined = [t.joins for t in run.tasks.bodies if t.state == State.BLOCKED and t.joins is not None]
        if any(map(blocking.is_alive_for_real, joined)):  # it may be about to end
            limit_s = max(limit_s, JOIN_S)
        began = monotonic()
        until = began + limit_s
        while not self._resume_one():
            if monotonic() >= until:
                blocked = [t for t in run.tasks.bodies if t.state == State.BLOCKED]
                waits = "; ".join(f"{t.label} waits for {t.what}" for t in blocked)
                self.fail(f"{waits}; no thread can continue")
                _never_helped.update(helpers)
                self._process_helps_s = HELP_AGAIN_S
                return False
            self.check_stop()
            sleep(0.0005)
            if any(map(waits_for_cpu, [*joined, *helpers])):  # the machine is busy
                until = min(max(until, monotonic() + JOIN_S), began + 10 * HELP_S)
        if monotonic() < until:
            names = [t.name for t in helpers]
            run.uncontrolled.update(dict.fromkeys([*names, "another process"] if of_processes else names))
        return True

    def end(self) -> None:
        """Leave no body behind: end those that still run by an exception; then end the control."""
        run = self._run
        run.prepare_to_end()
        run.abandoning = bool(self._active_bodies())
        if run.abandoning:
            may_be_stuck = (State.BLOCKED, State.READY, State.RUNNING)
            stuck = [w for w in run.tasks.workers if w.state in may_be_stuck and not w.queue_id]
            for task in [*run.tasks.bodies, *stuck]:
                if task.is_active:
                    self._end_task(task)
        run.end_control()

    def _end_task(self, task: Task) -> None:
        self._run.current = task
        if task.state in (State.READY, State.BLOCKED) or self._run.execution.failure:
            task.baton.release()
            task.wait_finished(0.5)
        if not task.end(END_S):
            self.leaked.append(f"{task.label} {task.place()}")


class Guard:
    """Watches over the thread that called `explore` while no run goes on: in `setup`, `__exit__`, `observe`, `same`.

    If nothing seems to happen any more, its waits end with an error; so does its Python code, and a call that waits in
    the operating system if it is the main thread.
    """

    NAME = "yolothreads guard"

    def __init__(self, owner: int, budget_s: float):
        self._owner, self._longest_s = owner, max(LONGEST_S, 5 * budget_s)
        self._mutex, self._closed = Mutex(), locked()
        self.is_on = False
        self._error = ""

    def open(self) -> None:
        """Begin to watch."""
        self.resume()
        self._thread = threading.Thread(target=self._watch, name=self.NAME, daemon=True)
        blocking.start_for_real(self._thread)

    def close(self) -> None:
        """Stop watching."""
        with suppress(Hung):  # one that came too late for the code that was to be interrupted
            self.pause()
            if self._error:
                sleep(0.01)
        self._closed.release()
        blocking.join_for_real(self._thread)

    def pause(self) -> None:
        """Leave the thread alone: a run begins, which has its own watchdog."""
        with self._mutex:
            self.is_on = False

    def resume(self) -> None:
        """Watch again, from now on."""
        self._since = self._quiet_since = monotonic()
        self.is_on = True

    def check(self) -> None:
        """Raise the error, if there is one.

        Raises:
            ExploreError: the thread that is watched over did not come back.
        """
        if self._error:
            raise ExploreError(self._error)

    def _watch(self) -> None:
        used = process_time()
        while not acquire(self._closed, timeout=0.5):
            now, used_before = monotonic(), used
            used = process_time()
            if used - used_before > TICK_S or _has_children():
                self._quiet_since = now
            with self._mutex:
                if not self.is_on:
                    continue
                if self._error:  # a wait that is known has ended with it by now
                    self._interrupt()
                elif now - self._quiet_since > QUIET_S or now - self._since > self._longest_s:
                    self._error = self._describe(now - self._since)

    def _describe(self, seconds: float) -> str:
        name = next((t.name for t in threading.enumerate() if t.ident == self._owner), "the thread of explore()")
        return (
            f"{name} did not come back for {seconds:.0f} s while no schedule was running; look at what setup=, the "
            f"state's __exit__, observe= or same= waits for. It was here:\n{stack_of(self._owner)}"
        )

    def _interrupt(self) -> None:
        """Interrupt Python code, or a call that waits in the operating system."""
        is_main = self._owner == threading.main_thread().ident
        if (
            is_main
            and hasattr(signal, "pthread_kill")
            and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        ):
            signal.pthread_kill(self._owner, signal.SIGINT)
        else:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._owner), ctypes.py_object(Hung))


class Hung(BaseException):
    """Raised in the thread that called `explore`, which does not come back; it becomes an ExploreError."""


def _has_children() -> bool:
    """Return whether this process has started another one that it may be waiting for."""
    multiprocessing = sys.modules.get("multiprocessing.process")
    return bool(multiprocessing is not None and multiprocessing.active_children())
