"""Sees to it that a run ends: what stalls is passed by, what hangs is ended, and nothing is left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING
from weakref import WeakSet

from yolothreads.races.task import State, Task, acquire, taken

if TYPE_CHECKING:
    from yolothreads.races.scheduler import Scheduler

STALL_S = 0.5  # without a switch point and without using the processor: blocked by something unknown (unmeasured)
HELP_S = 1.0  # how long to wait for a thread that is not controlled, where nobody else can go on (unmeasured)
END_S = 5.0  # how long a body is asked to end

_never_helped: WeakSet[threading.Thread] = WeakSet()
"""Threads of this process that were waited for once, in vain, such as those of Jupyter: none waits for them again."""


class Watchdog:
    """The part of the scheduler that runs in the caller's thread while the bodies run in theirs."""

    def __init__(self, scheduler: Scheduler, limit_s: float):
        self.scheduler, self.limit_s = scheduler, limit_s
        self.first_runs = True  # help of others is waited for; if none came then, none is expected later
        self.leaked: list[str] = []
        self.stop: Callable[[], bool] | None = None  # asked whether to end it all
        self._over = taken()
        self.begin()

    def begin(self) -> None:
        """Forget the last run."""
        self.failure = self.stacks = ""
        self.endless = False
        self.stalls: list[str] = []
        self._needs_help = False
        while acquire(self._over, False):
            pass

    def wake(self, needs_help: bool = False) -> None:
        """Called by the thread that had the turn: the run is over, or nobody can go on."""
        self._needs_help = needs_help
        self._over.release()

    def obey(self) -> None:
        """End it all if that is wanted, as Ctrl-C would."""
        if self.stop is not None and self.stop():
            raise KeyboardInterrupt

    def fail(self, failure: str, endless: bool = False) -> None:
        """The run is given up."""
        bodies = [t for t in self.scheduler.crowd.bodies if t.under_way]
        self.failure, self.endless = failure, endless
        self.stacks = "\n".join(f"{t.label} {t.place()}\n{t.stack()}" for t in bodies)

    def watch_over(self) -> None:
        """Wait until the run is over, and help it to get there."""
        scheduler = self.scheduler
        began = since = time.monotonic()
        last, used = -1, 0.0
        while True:
            if acquire(self._over, timeout=0.05):
                if not self._needs_help or not self._help():
                    return
                continue
            self.obey()
            now, running = time.monotonic(), scheduler.current
            if now - began > self.limit_s:
                late = ", ".join(t.label for t in scheduler.crowd.bodies if t.under_way)
                self.fail(f"{late} had still not ended after {self.limit_s:.3g} s", endless=True)
                return
            if running is None or len(scheduler.log) != last:
                last, since = len(scheduler.log), now
                used = running.processor_s() if running is not None else 0.0
            elif now - since > STALL_S and self._does_nothing(running, used, now - since):
                self._pass_by(running)
                last = -1

    @staticmethod
    def _does_nothing(running: Task, used: float, seconds: float) -> bool:
        """Whether a thread sleeps; on a busy machine one that would run gets little processor time too."""
        return running.processor_s() - used < 0.1 * seconds and not running.is_ready_to_run()

    def _pass_by(self, running: Task) -> None:
        """The thread that has the turn is blocked by something unknown: another one goes on."""
        scheduler = self.scheduler
        with scheduler.mutex:
            if scheduler.current is not running or running.state != State.RUNNING:
                return
            self.stalls.append(f"{running.label} {running.place()}")
            running.state = State.STALLED
            scheduler.current = None
            others = scheduler.crowd.able()
            if others:
                scheduler.current = others[0]
        if others:
            scheduler.resume(others[0])

    def _help(self) -> bool:
        """Wait for a thread that is not controlled to wake one that is; if none does, the run hangs."""
        scheduler = self.scheduler
        self._needs_help = False
        own = [t for t in scheduler.workers.own if t.is_alive()]
        strangers = own or self._strangers()
        patience = (
            self.limit_s if own or scheduler.workers.uncontrolled else HELP_S if self.first_runs and strangers else 0.0
        )
        until = time.monotonic() + patience
        while not (able := scheduler.crowd.able()):
            if time.monotonic() >= until:
                waits = "; ".join(
                    f"{t.label} waits for {t.what}" for t in scheduler.crowd.bodies if t.state == State.BLOCKED
                )
                self.fail(f"{waits}; nobody can go on")
                _never_helped.update(strangers)
                return False
            self.obey()
            time.sleep(0.0005)
        scheduler.workers.uncontrolled.update(dict.fromkeys(t.name for t in strangers))
        scheduler.resume(able[0])
        return True

    def _strangers(self) -> list[threading.Thread]:
        """Threads that are alive, and neither controlled nor the caller's."""
        controlled = {task.thread for task in self.scheduler.crowd.everybody}
        alive = [t for t in threading.enumerate() if t not in controlled and t.ident != self.scheduler.owner]
        return [t for t in alive if t not in _never_helped]

    def end(self) -> None:
        """Leave no body behind: what is still running is ended by an exception; then nobody is controlled."""
        scheduler = self.scheduler
        scheduler.undisturbed = None
        scheduler.abandoning = any(t.under_way for t in scheduler.crowd.bodies)
        if scheduler.abandoning:
            stuck = [
                w
                for w in scheduler.crowd.workers
                if w.state in (State.BLOCKED, State.READY, State.RUNNING) and not w.idle
            ]
            for task in [*scheduler.crowd.bodies, *stuck]:
                if task.under_way:
                    self._end_task(task)
        scheduler.on = False
        scheduler.workers.release()

    def _end_task(self, task: Task) -> None:
        assert task.thread is not None
        self.scheduler.current = task
        if task.state in (State.READY, State.BLOCKED) or self.failure:
            task.baton.release()
            task.wait_done(0.5)
        if not task.end(END_S):
            self.leaked.append(f"{task.label} {task.place()}")
