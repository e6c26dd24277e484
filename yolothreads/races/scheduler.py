"""Runs bodies in real threads, one at a time, under one schedule; starts and ends these threads and others.

The thread that called `run` is not controlled; it is the watchdog meanwhile.
"""

from __future__ import annotations

import threading
from _thread import get_ident
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from math import inf
from time import monotonic, perf_counter, process_time, sleep
from typing import Any

from yolothreads.races import blocking, process_locks
from yolothreads.races.executors import Emptying, order_threads
from yolothreads.races.orders import QUIET, Between
from yolothreads.races.schedule import Schedule
from yolothreads.races.threads import Abandoned, State, Task, acquire, locked
from yolothreads.races.turns import Execution, Turns

WORKERS_IDLE_S = 1.0  # the time that a worker gets to become idle before the bodies begin (unmeasured)
WORKER_ENDS_S = 0.2  # the time that a worker of a state that is gone gets to end


class Scheduler(Turns):
    """A context manager around everything that may start threads: `setup`, the runs, and the end of the state.

    It is the `blocking.Hooks` of its exploration. Workers, the threads that `setup` or a body starts, are scheduled
    like bodies: W1, W2, ... A thread that cannot be is reported by name, because the outcome is then no proof.
    """

    def __enter__(self) -> Scheduler:
        blocking.install(self, process_locks.replacements())
        try:
            self.tracer.open()
            self.guard.open()
        except BaseException:
            blocking.uninstall()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.closed = True
        try:
            self.guard.close()
        finally:
            blocking.uninstall()
            self.tracer.close()
            self.tasks.close()
            self.clear(Schedule(""), False)

    def run(
        self,
        bodies: Mapping[str, Callable[[], Any]],
        schedule: Schedule,
        order: Sequence[int],
        keep_alternatives: bool,
        between: Between = QUIET,
    ) -> Execution:
        """Run the bodies under a schedule; or with `order`, one after the other, each to its end.

        Args:
            bodies: the functions, by the labels of their threads.
            schedule: the schedule.
            order: the order of the bodies, as indices.
            keep_alternatives: whether the log says which threads could have gone on instead at each switch point.
            between: what workers do before, between and after the bodies of an order.

        Raises:
            KeyboardInterrupt: after every body has been ended.
        """
        began, cpu_before = perf_counter(), process_time()
        self.guard.pause()
        self.clear(schedule, keep_alternatives)
        blocking.stop_clocks()
        self.watchdog.begin()
        self.tasks.begin(bodies, order)
        run, tasks = self.execution, self.tasks.bodies
        try:
            with self.garbage.kept():
                services = self._run_bodies(order, between)
        finally:
            self.watchdog.end()
            self.headroom.give_back()
            self.tasks.end_run()
            self.guard.resume()
        run.results = tuple([task.result if task.error is None else task.error for task in tasks])
        run.thread_errors = tuple([worker.error for worker in self.tasks.workers if worker.error is not None])
        run.wakes = tuple(sorted(self.wakes))
        run.beats = tuple([name for name in run.wakes if name in services])
        run.seconds, run.cpu_s = perf_counter() - began, process_time() - cpu_before
        return run

    def _run_bodies(self, order: Sequence[int], between: Between) -> set[str]:
        """Let the bodies run to their end; return the origins of the workers that wake up by time."""
        tasks = self.tasks.bodies
        self.current, self.is_settling = Task("", threading.current_thread()), True
        self.on = True
        self._wait_until_workers_are_idle()
        services = {worker.origin for worker in self.tasks.workers if worker.waits_by_time()}
        self.between = between
        first = self.worker_between_bodies() if order else None
        self.resume(first or (tasks[order[0]] if order else self.strategy.first(tasks)))
        self.watchdog.watch_over()
        return services

    def start_body(self, task: Task) -> None:
        """Let the thread of a body begin."""
        self.tasks.threads[task.label].begin(partial(self._run_body, task), self._start_for_real)

    def _run_body(self, task: Task) -> None:
        assert task.body is not None
        self.task_of[get_ident()] = task
        try:
            (self.tracer.only_note if self.stopped_tracing else self.tracer.begin_thread)()
            self.headroom.give_back()  # the thread that gave the turn to this one had taken it
            task.result = task.body()
        except Abandoned:
            pass
        except BaseException as error:
            task.error = error.with_traceback(None)  # a traceback would keep frames, and their variables, alive
        finally:
            if not self.stopped_tracing and not self.abandoning and self.tracer.has_lost_thread():
                self.uncontrolled[f"{task.label} after a RecursionError"] = None  # Python stops tracing then
            self.tracer.end_thread()
            self._inspect_end(task)
            self.finish(task)

    # --- the threads of the program

    def start_thread(self, thread: threading.Thread) -> None:
        """Start a thread: controlled, if a controlled one or the explorer's own thread starts it."""
        starter = self.task_of.get(get_ident())
        if not getattr(thread, "_initialized", False) or thread.ident is not None:
            blocking.start_for_real(thread)  # an error: it has been started before, or never made
        elif get_ident() == self.owner or (starter is not None and not starter.waits_for_real):
            self._start_controlled(thread, starter)
        else:
            blocking.start_for_real(thread)

    def start_raw_thread(self, function: Callable[..., Any]) -> None:
        """Take note that a thread is started which cannot be controlled."""
        if self.caller():
            self.uncontrolled[f"a thread of _thread.start_new_thread that runs {_name(function)}"] = None

    def _start_for_real(self, thread: threading.Thread) -> None:
        """Start a thread, and wait until it has begun without passing the turn on."""
        starter = self.task_of.get(get_ident())
        if starter is not None:
            starter.waits_for_real = True
        blocking.start_for_real(thread)
        if starter is not None:
            starter.waits_for_real = False

    def _start_controlled(self, thread: threading.Thread, starter: Task | None) -> None:
        if not self.on:
            self.tasks.forget_ended()
        run, arrived, task = thread.run, locked(), self.tasks.new_worker(thread, starter)
        self._undisturbed = None  # it can be switched to from now on
        if task.executor is not None:
            order_threads(task.executor())
        elif starter is not None:
            thread.daemon = True  # if it never ends, the interpreter must not wait for it

        def run_controlled() -> None:
            self.task_of[get_ident()] = task
            self.tracer.begin_thread()
            try:
                if self.on:
                    task.state = State.READY
                arrived.release()
                if task.state == State.READY:
                    self.park(task)
                    self.headroom.give_back()
                run()
            except (Abandoned, SystemExit):
                pass
            except BaseException as error:
                task.error = error.with_traceback(None)
            finally:
                self.tracer.end_thread()
                self.finish(task)

        thread.run = run_controlled  # type: ignore[method-assign]
        self._start_for_real(thread)
        thread._daemonic = task.is_daemon  # type: ignore[attr-defined]  # the threads that it starts inherit this
        acquire(arrived, timeout=10)

    def join(self, thread: threading.Thread, timeout: float | None) -> None:
        """Wait for the end of a thread; a controlled one has ended as soon as it does nothing any more."""
        me = self.task_of.get(get_ident())
        if me is None:
            self.wait_for_real(
                lambda seconds: _join(thread, None if seconds < 0 else seconds), -1 if timeout is None else timeout
            )
            return
        wait = not me.waits_for_real and thread is not me.thread and thread.ident is not None
        worker = self.tasks.worker(thread)
        what = f"the end of {worker.label if worker is not None else f'thread {thread.name}'}"
        me.joins = thread if worker is None else None
        has_ended = self.wait(lambda: self._has_ended(thread), timeout, what) if wait else True
        me.joins = None
        if has_ended is False:
            return
        me.waits_for_real, before = True, me.waits_for_real
        try:
            blocking.join_for_real(thread, timeout)
        finally:
            me.waits_for_real = before

    def is_alive(self, thread: threading.Thread) -> bool:
        """Return whether a thread has begun and not ended."""
        if not self.caller() or thread.ident is None:
            return blocking.is_alive_for_real(thread)
        return not self._has_ended(thread)

    def _has_ended(self, thread: threading.Thread) -> bool:
        worker = self.tasks.worker(thread)
        return not blocking.is_alive_for_real(thread) if worker is None else worker.state == State.DONE

    def wait_for_real(self, attempt: Callable[[float], Any], timeout: float) -> Any:
        """Wait in a thread that is not controlled; the guard can end a wait of the explorer's own thread."""
        if get_ident() != self.owner or not self.guard.is_on or not isinstance(timeout, int | float) or timeout < -1:
            return attempt(timeout)
        until = monotonic() + timeout if timeout >= 0 else inf
        while True:
            self.guard.check()
            left = until - monotonic()
            if (answer := attempt(max(0, min(left, 0.1)))) or left <= 0.1:
                return answer

    def _wait_until_workers_are_idle(self) -> None:
        """Let every worker run until it waits, before the first body begins; one that takes too long is named."""
        self.tasks.forget_ended()
        parked = (State.BLOCKED, State.READY, State.DONE)
        until = monotonic() + WORKERS_IDLE_S
        waited_for = [worker for worker in self.tasks.workers if worker.origin not in self._never_idle]
        while any(worker.state not in parked for worker in waited_for) and monotonic() < until:
            sleep(0.0002)
        self.is_settling = False
        for worker in self.tasks.workers:
            worker.choices = worker.sleeps = worker.sleeps_in_a_row = worker.looks_at_clock = 0
            worker.points_before_bodies = 0
            worker.runs_freely = worker.state not in parked
            if worker.runs_freely and worker.origin not in self._never_idle:
                self._never_idle.add(worker.origin)
                self.uncontrolled[worker.thread.name] = None

    def end_control(self) -> None:
        """End the control after a run: workers wait by themselves."""
        with self.mutex:
            self.on = False
            for worker in self.tasks.workers:
                if worker.state in (State.BLOCKED, State.READY):
                    worker.state = State.STALLED
                    worker.baton.release()

    def end_workers(self, of_bodies: bool = False) -> None:
        """End the workers that a state leaves behind, where they wait; or only those that bodies started.

        The worker of an executor ends when it is idle.
        """
        left = [w for w in self.tasks.workers if w.state != State.DONE and (w.of_body or not of_bodies)]
        executors = {id(e): e for w in left if w.executor is not None and (e := w.executor()) is not None}
        for worker in left:
            worker.doomed = True
        with ExitStack() as stack:
            for executor in executors.values():
                if executor._threads <= {worker.thread for worker in left}:
                    stack.enter_context(Emptying(executor))
            for worker in left:
                if not worker.ends_by_itself(WORKER_ENDS_S) and not worker.end(WORKER_ENDS_S):
                    self.watchdog.leaked.append(f"{worker.thread.name} {worker.place()}")
                    self.tasks.workers.remove(worker)
        self.tasks.forget_ended()


def _join(thread: threading.Thread, timeout: float | None) -> bool:
    blocking.join_for_real(thread, timeout)
    return not blocking.is_alive_for_real(thread)


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", repr(function))
