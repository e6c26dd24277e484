"""Controlled threads: the bodies and the workers of pools, their states, and the threads that bodies use again."""

from __future__ import annotations

import ctypes
import linecache
import sys
import threading
import time
from _thread import LockType, allocate_lock
from collections.abc import Callable, Mapping, Sequence
from contextvars import Context
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from yolothreads.races.executors import executor_of

CAN_CLEAR_LOCALS = sys.version_info < (3, 13)  # later versions keep them where they cannot be reached
acquire = LockType.acquire  # the C method itself, which stays when `blocking` replaces it
_HERE = str(Path(__file__).parent)
_LIBRARY = Path(threading.__file__).parent
_WAITERS = (
    _HERE,
    *(str(_LIBRARY / name) for name in ("threading.py", "queue.py", "selectors.py", "concurrent", "asyncio")),
)
_thread_dict = ctypes.pythonapi.PyThreadState_GetDict
_thread_dict.restype = ctypes.c_void_p  # a borrowed reference, which `py_object` would take for its own


class State:
    """The states of a controlled thread."""

    NEW, READY, RUNNING, BLOCKED, STALLED, DONE = "new", "ready", "running", "blocked", "stalled", "done"


_RUNNABLE = (State.READY, State.NEW)
TIMEOUT = "(timeout)"
"""Follows the label of a thread that goes on because its time-out passes."""


OF_PROCESSES = "a lock of multiprocessing"
"""What a thread waits for that another process can give it."""


class Abandoned(BaseException):
    """Raised inside a body to end it, once its schedule has been given up."""


class UnreadableError(Exception):
    """Raised inside an inspection that would have to wait: nobody could go on meanwhile."""


class Mutex:
    """A lock that `blocking` does not see."""

    def __init__(self) -> None:
        self._lock = allocate_lock()

    def __enter__(self) -> None:
        acquire(self._lock)

    def __exit__(self, *exc_info: object) -> None:
        self._lock.release()


def locked() -> Any:
    """Return a locked lock, which another thread has to release before it can be acquired."""
    lock = allocate_lock()
    acquire(lock)
    return lock


class ReusableThread:
    """A thread that runs one body after another: to start a new one for each run takes longer than most bodies.

    To the code that it runs it looks like a new thread: no `threading.local` value or context variable is left from
    the last time. Where these cannot be cleared, a new thread is used instead.
    """

    def __init__(self, name: str):
        self.thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._work: Callable[[], None] | None = None
        self._begin = locked()
        self._idle = allocate_lock()  # locked while the thread is at work

    def begin(self, work: Callable[[], None], start: Callable[[threading.Thread], None]) -> None:
        """Let the thread run `work`; `start` starts a thread."""
        self._work = work
        acquire(self._idle, timeout=1)
        if self.thread.ident is None:
            start(self.thread)
            self.thread._daemonic = False  # type: ignore[attr-defined]  # the threads that a body starts inherit this
        self._begin.release()

    def is_free(self) -> bool:
        """Return whether the thread can run another body; wait up to 1 s if it is about to finish one."""
        if not CAN_CLEAR_LOCALS and self.thread.ident is not None:
            self.thread.join(1)
            return False
        if not acquire(self._idle, timeout=1):
            return False
        self._idle.release()
        return True

    def close(self) -> None:
        """End the thread, unless it is still busy."""
        if self.thread.is_alive() and acquire(self._idle, False):
            self._work = None
            self._begin.release()
            self.thread.join(1)

    def _serve(self) -> None:
        while True:
            acquire(self._begin)
            if self._work is None:
                return
            Context().run(*[self._work])  # a call without `*` would get quicker later on, and need less of the stack
            self._work = None  # it knows the state, whose finalizer must not run in the midst of the next run
            if not CAN_CLEAR_LOCALS:
                return
            ctypes.cast(_thread_dict(), ctypes.py_object).value.clear()
            self._idle.release()


@dataclass(eq=False, slots=True)
class Task:
    """A controlled thread: a body, or a worker (then `body` is None), which somebody else started."""

    label: str
    thread: threading.Thread
    body: Callable[[], Any] | None = None
    baton: Any = field(default_factory=locked)  # released to give the thread the turn
    ended: Any = field(default_factory=locked)  # released when the thread has finished with the body
    state: str = State.NEW
    ready: Callable[[], bool] | None = None  # the condition that it waits for, while it is blocked
    what: str = ""  # the same in words
    timeout: float | None = None
    due: float = 0.0  # when the time-out passes, on the clock of the run
    since: float = 0.0  # when the wait with a time-out began, on the real clock
    is_short: bool = False  # the time-out may pass at any time; a longer one only when nobody else can go on
    timed_out: bool = False
    waits_for_real: bool = False  # its waits are real ones
    origin: str = ""  # the same in all runs: "W1" for a thread that `setup` started, "A.2" for the second that A did
    started: int = 0  # how many threads it has started
    of_body: bool = False  # a body, or a thread of one, started it
    is_daemon: bool = False
    doomed: bool = False  # it has to end where it waits
    runs_freely: bool = False  # it did not come to a wait before the bodies began
    queue_id: int = 0  # the id of the queue where it waits for work, as a pool's worker does
    executor: Callable[[], Any] | None = None  # a weak reference to the executor that it works for
    result: Any = None
    error: BaseException | None = None
    choices: int = 0  # how often it blocked where several others could go on
    sleeps: int = 0
    joins: threading.Thread | None = None  # while it waits for the end of one that is not controlled
    looks_at_clock: int = 0  # how often, in this run
    sleeps_in_a_row: int = 0  # since another thread last ran
    points_before_bodies: int = 0
    points_in_clean_up: int = 0
    inspecting: bool = False  # it is at a switch point, and reads the state for `inspect`

    @property
    def is_active(self) -> bool:
        """Whether it has begun and not ended."""
        return self.state not in (State.NEW, State.DONE)

    @property
    def has_finished(self) -> bool:
        """Whether it has left its work: a body has ended, or a pool's worker waits for more work."""
        return self.state == State.DONE or (self.body is None and self.state == State.BLOCKED and self.queue_id != 0)

    def can_run(self) -> bool:
        """Return whether it would go on if it had the turn."""
        state = self.state
        return state in _RUNNABLE or (state is State.BLOCKED and self.ready is not None and self.ready())

    def waits_by_time(self) -> bool:
        """Return whether it waits with a time-out."""
        return self.state is State.BLOCKED and self.timeout is not None

    def can_expire(self) -> bool:
        """Return whether its time-out may pass at any time; ask only a task that cannot run."""
        return self.is_short and self.state is State.BLOCKED

    def cpu_s(self) -> float:
        """Return the CPU seconds that the thread has used; 0 where the system does not say."""
        if self.thread.ident is None or not hasattr(time, "pthread_getcpuclockid"):
            return 0.0
        try:
            return time.clock_gettime(time.pthread_getcpuclockid(self.thread.ident))
        except OSError:  # it has just ended
            return 0.0

    def ends_by_itself(self, timeout_s: float) -> bool:
        """Wait for the end of the thread, which has been told to end; longer if it gets no CPU."""
        until, used = time.monotonic() + 10 * timeout_s, self.cpu_s()
        while not acquire(self.ended, timeout=timeout_s):
            is_starved = waits_for_cpu(self.thread) and self.cpu_s() - used < 0.1 * timeout_s
            if not is_starved or time.monotonic() > until:
                return False
        return True

    def end(self, timeout_s: float) -> bool:
        """Raise `Abandoned` in the thread until it has ended; return False if it does not end in time."""
        until = time.monotonic() + timeout_s
        while not self.has_finished and self.thread.is_alive() and time.monotonic() < until:
            ident = ctypes.c_ulong(self.thread.ident or 0)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(Abandoned))
            self.wait_finished(0.1)
        return self.has_finished or not self.thread.is_alive()

    def wait_finished(self, timeout_s: float) -> None:
        """Wait until the thread has finished with the body; or until a pool's worker is idle again."""
        if self.body is not None:
            if acquire(self.ended, timeout=timeout_s):
                self.ended.release()
            return
        until = time.monotonic() + timeout_s
        while not self.has_finished and time.monotonic() < until:
            time.sleep(0.0002)

    def place(self) -> str:
        """Return the innermost line outside this package, in words."""
        frames = self._frames()
        return "at " + line_of(*frames[-1]) if frames else "is outside Python code"

    def stack(self) -> str:
        """Return the lines of the stack, the innermost last, without those of this package."""
        return stack_of(self.thread.ident or 0)

    def _frames(self) -> list[tuple[str, int, str]]:
        return _frames_of(self.thread.ident or 0)


def stack_of(thread: int) -> str:
    """Return the lines of the stack of a thread, the innermost last, without those of this package."""
    return "\n".join(f"  {line_of(*frame)}" for frame in _frames_of(thread))


def _frames_of(thread: int) -> list[tuple[str, int, str]]:
    """Return the user's frames of a thread: the innermost ones, up to the explorer, which called them."""
    frame = sys._current_frames().get(thread)
    frames: list[tuple[str, int, str]] = []
    while frame is not None and not (frames and frame.f_code.co_filename.startswith(_HERE)):
        file = frame.f_code.co_filename
        if not file.startswith((_HERE, threading.__file__)):
            frames.append((file, frame.f_lineno, frame.f_code.co_name))
        frame = frame.f_back
    return frames[::-1]


Place = tuple[str, int, str]
"""A file, a line, and the name of a function."""


def place_of_caller() -> Place:
    """Return the innermost line of the calling thread outside this package and the library's modules that wait."""
    frame = _frame_of_caller()
    return frame.f_code.co_filename, frame.f_lineno or 0, frame.f_code.co_name


def code_of_caller() -> CodeType:
    """Return the innermost code of the calling thread outside this package and the library's modules that wait."""
    return _frame_of_caller().f_code


def _frame_of_caller() -> FrameType:
    """It calls no function of another module, because that would be traced."""
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_WAITERS):
        frame = frame.f_back
    return frame


def line_of(file: str, line: int, function: str) -> str:
    """Return a place in words."""
    return f"{Path(file).name}:{line} in {function}: {linecache.getline(file, line or 0).strip()}"


LogEntry = tuple[Task, CodeType | str, int, tuple[str, ...]]
"""A switch point that a thread passed: the thread; the code, or the event (schedule.WAIT ...); the place in the code
(see `watching`) or the number of the event; and the labels of the threads that could have gone on instead."""


def waits_for_cpu(thread: threading.Thread) -> bool:
    """Return whether a thread would run if a CPU were free; False where the system does not say (not Linux)."""
    try:
        return Path(f"/proc/self/task/{thread.native_id}/stat").read_text().rpartition(")")[2].split()[0] == "R"
    except OSError:
        return False


class TaskSet:
    """All controlled threads: the bodies, in their order, and the workers of pools after them."""

    def __init__(self) -> None:
        self.bodies: list[Task] = []
        self.workers: list[Task] = []
        self.order: Sequence[int] = ()  # bodies run one after the other, in this order; if empty, concurrently
        self.threads: dict[str, ReusableThread] = {}  # those of the bodies, by label

    def begin(self, bodies: Mapping[str, Callable[[], Any]], order: Sequence[int]) -> None:
        """Make the tasks of the next run; bodies are given by their labels."""
        self.order, self.bodies = order, []
        for label, body in bodies.items():
            if label not in self.threads:
                self.threads[label] = ReusableThread(label)
            self.bodies.append(Task(label, self.threads[label].thread, body))

    def end_run(self) -> None:
        """Wait until the threads of the bodies have let go of the state; a busy one is not used again."""
        self.threads = {label: thread for label, thread in self.threads.items() if thread.is_free()}

    def close(self) -> None:
        """End the threads of the bodies, and join the workers that have ended.

        They are forgotten at once: garbage collection might end their life where a later body has used up its stack.
        """
        for thread in self.threads.values():
            thread.close()
        self.forget_ended()
        self.threads, self.bodies = {}, []

    def forget_ended(self) -> None:
        """Join the workers that have ended, and forget them."""
        for worker in self.workers:
            if worker.state == State.DONE and worker.thread.is_alive():
                worker.thread.join(1)
        self.workers = [worker for worker in self.workers if worker.state != State.DONE]

    def new_worker(self, thread: threading.Thread, starter: Task | None) -> Task:
        """Make the task of a further worker, whose label no other has in this run."""
        numbers = [int(worker.label[1:]) for worker in self.workers]
        label = origin = f"W{max(numbers, default=0) + 1}"
        if starter is not None:
            starter.started += 1
            origin = f"{starter.origin or starter.label}.{starter.started}"
        self.workers.append(
            Task(
                label, thread, state=State.STALLED, origin=origin, of_body=starter is not None, is_daemon=thread.daemon,
                executor=executor_of(thread),
            )
        )  # fmt: skip
        return self.workers[-1]

    def worker(self, thread: threading.Thread) -> Task | None:
        """Return the task of a thread that is a worker."""
        return next((worker for worker in self.workers if worker.thread is thread), None)

    @property
    def all(self) -> list[Task]:
        """All tasks, those that have ended too."""
        return [*self.bodies, *self.workers]

    @property
    def all_ended(self) -> bool:
        """Whether every body has ended."""
        return all(t.state == State.DONE for t in self.bodies)

    @property
    def has_work(self) -> bool:
        """Whether a body, or a thread that one has started, has not finished."""
        return not self.all_ended or any(worker.of_body and not worker.has_finished for worker in self.workers)

    def runnable(self, but: Task | None = None) -> list[Task]:
        """Return the tasks that may be given the turn now, without `but`."""
        return [t for t in self._without_interchangeable() if t is not but and t.can_run() and self._is_its_turn(t)]

    def choices(self, but: Task | None = None) -> dict[str, Task]:
        """Return the tasks that could go on instead of `but`, those by a time-out too, by label (and TIMEOUT)."""
        found = {}
        for task in self._without_interchangeable():
            if task is not but:
                if task.can_run():
                    found[task.label] = task
                elif task.can_expire():
                    found[task.label + TIMEOUT] = task
        return found

    def are_steady(self, but: Task) -> bool:
        """Return whether all tasks stay as they are while `but` has the turn, because none of them waits."""
        return not self.workers and all(
            t.state not in (State.BLOCKED, State.STALLED) for t in self.bodies if t is not but
        )

    def waiting_with_timeout(self) -> list[Task]:
        """Return the tasks whose time-out would let them go on; once all bodies have ended, only what is left of them.

        A service that wakes up by time does not keep a run from ending; but a timer that a body has set belongs to it.
        """
        over = self.all_ended
        return [
            t
            for t in self.all
            if t.waits_by_time() and self._is_its_turn(t) and (not over or (t.of_body and not t.is_daemon))
        ]

    def _is_its_turn(self, task: Task) -> bool:
        """Return whether a sequential order, if there is one, has come to this task."""
        if not self.order or task.body is None:
            return True
        return task is next((self.bodies[i] for i in self.order if self.bodies[i].state != State.DONE), None)

    def _without_interchangeable(self) -> list[Task]:
        """Return all tasks, but only the first of the workers that wait for work at the same queue."""
        if not self.workers:
            return self.bodies
        found: dict[int | Task, Task] = {}
        for worker in self.workers:
            waits_for_work = worker.state == State.BLOCKED and worker.queue_id
            found.setdefault(worker.queue_id if waits_for_work else worker, worker)
        return [*self.bodies, *found.values()]
