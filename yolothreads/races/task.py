"""A controlled thread, and what can be asked of one from outside."""

from __future__ import annotations

import ctypes
import linecache
import sys
import threading
import time
from _thread import LockType, allocate_lock
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType
from typing import Any

from yolothreads.races.schedule import Stop

acquire = LockType.acquire  # the C method itself, which stays when `blocking` exchanges it
_HERE = str(Path(__file__).parent)


class State:
    """What a controlled thread is doing."""

    NEW, READY, RUNNING, BLOCKED, STALLED, DONE = "new", "ready", "running", "blocked", "stalled", "done"


_GOES_ON = (State.READY, State.NEW)


class Abandoned(BaseException):
    """Raised inside a body to end it, once its schedule has been given up."""


class Mutex:
    """A lock that `blocking` does not see."""

    def __init__(self) -> None:
        self._lock = allocate_lock()

    def __enter__(self) -> None:
        acquire(self._lock)

    def __exit__(self, *exc_info: object) -> None:
        self._lock.release()


def taken() -> Any:
    """A lock that somebody has to release before it can be acquired: a baton."""
    lock = allocate_lock()
    acquire(lock)
    return lock


@dataclass(eq=False, slots=True)
class Task:
    """A controlled thread: a body, or a worker of a pool (then `body` is None)."""

    label: str
    body: Callable[[], Any] | None = None
    runner: Any = None  # the thread of a body is used again for the next run
    thread: threading.Thread | None = None
    baton: Any = field(default_factory=taken)
    over: Any = field(default_factory=taken)  # released when the thread has finished with the body
    state: str = State.NEW
    ready: Callable[[], bool] | None = None  # what it waits for, while it is blocked
    what: str = ""  # the same in words
    timeout: float | None = None
    timed_out: bool = False
    bypass: bool = False  # its waits are real ones: it is starting a thread
    idle: int = 0  # the id of the queue that it waits at for work, as a pool's worker does
    result: Any = None
    error: BaseException | None = None
    choices: int = 0  # how often it blocked where several others could go on
    sleeps: int = 0
    naps: int = 0  # sleeps since another thread last ran
    cleaning: int = 0

    @property
    def under_way(self) -> bool:
        """Whether it has begun and not ended."""
        return self.state not in (State.NEW, State.DONE)

    def can_run(self) -> bool:
        """Whether it would go on if it had the turn."""
        state = self.state
        return state in _GOES_ON or (state is State.BLOCKED and self.ready is not None and self.ready())

    def processor_s(self) -> float:
        """Seconds of processor time that the thread has used; 0 where the system does not say."""
        ident = self.thread.ident if self.thread is not None else None
        if ident is None or not hasattr(time, "pthread_getcpuclockid"):
            return 0.0
        try:
            return time.clock_gettime(time.pthread_getcpuclockid(ident))
        except OSError:  # it has just ended
            return 0.0

    def is_ready_to_run(self) -> bool:
        """Whether the system would run the thread if a processor were free; False where it does not say (not Linux)."""
        ident = self.thread.native_id if self.thread is not None else None
        try:
            return Path(f"/proc/self/task/{ident}/stat").read_text().rpartition(")")[2].split()[0] == "R"
        except OSError:
            return False

    def end(self, patience_s: float) -> bool:
        """Raise `Abandoned` in the thread until it has ended; False if it does not."""
        assert self.thread is not None
        until = time.monotonic() + patience_s
        while not self._given_up() and self.thread.is_alive() and time.monotonic() < until:
            ident = ctypes.c_ulong(self.thread.ident or 0)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(Abandoned))
            self.wait_done(0.1)
        return self._given_up() or not self.thread.is_alive()

    def _given_up(self) -> bool:
        """Whether it has left what it was doing; a pool's worker then waits for more work."""
        return self.state == State.DONE or (self.body is None and self.state == State.BLOCKED and self.idle != 0)

    def wait_done(self, patience_s: float) -> None:
        """Wait for the thread to finish with the body; or for a pool's worker to be idle again."""
        if self.body is not None:
            if acquire(self.over, timeout=patience_s):
                self.over.release()
            return
        until = time.monotonic() + patience_s
        while not self._given_up() and time.monotonic() < until:
            time.sleep(0.0002)

    def place(self) -> str:
        """The innermost line outside this package, in words."""
        frames = self._frames()
        return "at " + _line(*frames[-1]) if frames else "is outside Python code"

    def stack(self) -> str:
        """The lines of the stack, the innermost last, without those of this package."""
        return "\n".join(f"  {_line(*frame)}" for frame in self._frames())

    def _frames(self) -> list[tuple[str, int, str]]:
        ident = self.thread.ident if self.thread is not None else None
        frame = sys._current_frames().get(ident or 0)
        found = []
        while frame is not None:
            file = frame.f_code.co_filename
            if not file.startswith((_HERE, threading.__file__)):
                found.append((file, frame.f_lineno, frame.f_code.co_name))
            frame = frame.f_back
        return found[::-1]


def _line(file: str, line: int, function: str) -> str:
    return f"{Path(file).name}:{line} in {function}: {linecache.getline(file, line).strip()}"


Passed = tuple[Task, CodeType | str, int, tuple[str, ...]]
"""A switch point that was passed: who; in which code, or why the turn was given away; where in it; who could go on."""


@dataclass(slots=True)
class Run:
    """What one run did."""

    log: list[Passed]
    bodies: Sequence[Task]
    followed: int  # how much of the log the schedule's stops determined
    switched: list[Passed]  # where a thread was stopped that could have gone on
    unfollowed: list[Stop]  # stops of the schedule that no thread came to
    failure: str  # deadlock or livelock, in words; empty if every body ended
    endless: bool  # somebody could still have gone on, and did not end
    stacks: str
    diverged: str  # why the schedule could not be followed
    stalls: list[str]
    seen: list[Any]  # what `inspect` gave at each point of the log
    resumed: dict[
        int, tuple[int, Any]
    ]  # for each switch in the log: where its thread went on, and what `inspect` gave then
    seconds: float
