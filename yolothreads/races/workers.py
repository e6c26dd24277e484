"""The threads that are not bodies: a pool's workers are scheduled too, others are named."""

from __future__ import annotations

import concurrent.futures.thread
import threading
import time
from _thread import get_ident
from typing import TYPE_CHECKING

from yolothreads.races import blocking
from yolothreads.races.task import Abandoned, State, Task, acquire, taken

if TYPE_CHECKING:
    from yolothreads.races.scheduler import Scheduler

GATHER_S = 1.0  # how long a worker may take to become idle before the bodies begin (unmeasured)


class Workers:
    """What `setup` starts, and what an executor starts at any time, is scheduled like the bodies: W1, W2, ...

    A thread that a body starts by itself is not: it is named, so that nobody takes the outcome for proof.
    """

    def __init__(self, scheduler: Scheduler):
        self._scheduler, self._crowd = scheduler, scheduler.crowd
        self.own: list[threading.Thread] = []  # started by a body itself
        self.uncontrolled: dict[str, None] = {}

    def start(self, thread: threading.Thread) -> None:
        """Somebody starts a thread."""
        starter = self._scheduler.tasks.get(get_ident())
        of_executor = getattr(thread, "_target", None) is concurrent.futures.thread._worker
        if get_ident() != self._scheduler.owner and (starter is None or starter.bypass):
            blocking.start(thread)
        elif starter is None or of_executor:
            self._adopt(thread)
        else:
            self.uncontrolled[thread.name] = None
            self.own.append(thread)
            self.start_really(thread)

    def start_really(self, thread: threading.Thread) -> None:
        """Start a thread; whoever does so waits until it has begun, without giving the turn away."""
        starter = self._scheduler.tasks.get(get_ident())
        if starter is not None:
            starter.bypass = True
        blocking.start(thread)
        if starter is not None:
            starter.bypass = False

    def _adopt(self, thread: threading.Thread) -> None:
        scheduler, run, arrived = self._scheduler, thread.run, taken()
        task = Task(f"W{len(self._crowd.workers) + 1}", thread=thread, state=State.STALLED)

        def controlled() -> None:
            scheduler.tasks[get_ident()] = task
            scheduler.tracer.begin_thread()
            try:
                if scheduler.on:
                    task.state = State.READY
                arrived.release()
                if task.state == State.READY:
                    scheduler.park(task)
                run()
            except Abandoned:
                pass
            finally:
                scheduler.tracer.end_thread()
                scheduler.finish(task)

        thread.run = controlled  # type: ignore[method-assign]
        self._crowd.workers.append(task)
        self.start_really(thread)
        acquire(arrived, timeout=10)

    def gather(self) -> None:
        """Before the first body begins every worker has to be parked; one that is not ready by then is named."""
        self._crowd.workers = [worker for worker in self._crowd.workers if worker.state != State.DONE]
        until = time.monotonic() + GATHER_S
        while any(map(_is_under_way, self._crowd.workers)) and time.monotonic() < until:
            time.sleep(0.0002)
        for worker in self._crowd.workers:
            worker.choices = worker.sleeps = worker.naps = 0
            if _is_under_way(worker) and worker.thread is not None:
                self.uncontrolled[worker.thread.name] = None

    def release(self) -> None:
        """After a run nobody is controlled: workers wait by themselves; what bodies started gets time to end."""
        for worker in self._crowd.workers:
            if worker.state in (State.BLOCKED, State.READY):
                worker.state = State.STALLED
                worker.baton.release()
        for thread in self.own:
            thread.join(1)
        self.own = [thread for thread in self.own if thread.is_alive()]

    def close(self) -> None:
        """Join those that have ended."""
        for worker in self._crowd.workers:
            if worker.state == State.DONE and worker.thread is not None:
                worker.thread.join(1)


def _is_under_way(worker: Task) -> bool:
    """Whether it runs on its own: it is not parked, and has not ended."""
    return worker.state not in (State.BLOCKED, State.READY, State.DONE)
