"""A bounded queue of calls with deadlines, from which batches of calls that belong together are taken."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from yolothreads.errors import DeadlineError, PoolClosedError, QueueFullError

if TYPE_CHECKING:
    from ultralytics.engine.results import Results


@dataclass(eq=False)
class Call:
    """One image that somebody waits for. Times in seconds of `time.monotonic`.

    pixels: (H, W, 3) uint8, BGR. together: calls may share a batch if these are equal. due: the deadline, or None.
    """

    pixels: NDArray[np.uint8]
    name: str
    settings: dict[str, Any]
    together: Hashable
    asked: float
    due: float | None = None
    future: Future[Results] = field(default_factory=Future)

    def is_wanted(self, now: float) -> bool:
        """Whether somebody still waits for it: it was not cancelled, and is not too late."""
        return not self.future.done() and (self.due is None or self.due > now)


class CallQueue:
    """Callers put, one worker gathers. A thread of its own keeps the deadlines, once there is one to keep.

    Args:
        size: how many calls may wait.
        call_worker: called, in the thread that puts, when a call comes and no worker is there. The worker then gathers
            until nothing is left, by which it leaves. May raise PoolClosedError.
    """

    def __init__(self, size: int, call_worker: Callable[[], object]) -> None:
        self.size = size
        self._call_worker = call_worker
        self._worker_is_there = False
        self._waiting: deque[Call] = deque()
        self._timed: set[Call] = set()  # calls with a deadline, waiting or in the worker's hands
        self._changed = threading.Condition()
        self._closed = False
        self._clock: threading.Thread | None = None
        self._clock_ends = False

    def __len__(self) -> int:
        return sum(not call.future.done() for call in self._waiting.copy())

    def put(self, call: Call, *, block: bool) -> None:
        """Add a call; where there is no room, wait for it (at most until the call is due), or refuse.

        Raises:
            QueueFullError, PoolClosedError, DeadlineError: the call was not taken.
        """
        with self._changed:
            if not (block or self._closed or self._has_room()):
                raise QueueFullError(f"{len(self)} calls wait already; ask again later, or make queue_size larger.")
            wait_s = None if call.due is None else max(0.0, call.due - monotonic())
            if not self._changed.wait_for(lambda: self._closed or self._has_room(), wait_s):
                raise _too_late(call)
            if self._closed:
                raise PoolClosedError("This BatchingWorker has been shut down; open it again.")
            if not self._worker_is_there:
                self._call_worker()
                self._worker_is_there = True
            self._waiting.append(call)
            if call.due is not None:
                self._timed.add(call)
                self._start_clock()
            self._changed.notify_all()

    def gather(self, most: int, wait_s: float) -> list[Call]:
        """Take up to `most` calls that may share a batch with the oldest; an empty list if no call waits: then go.

        Waits until there are so many, or until the oldest has waited for `wait_s` seconds, or for half of the time it
        was given. Where the queue is full or closed, nobody else can come, and it does not wait.
        """
        with self._changed:
            while waiting := [call for call in self._waiting if call.is_wanted(monotonic())]:
                oldest = waiting[0]
                batch = [call for call in waiting if call.together == oldest.together][:most]
                patience_s = wait_s if oldest.due is None else min(wait_s, (oldest.due - oldest.asked) / 2)
                left_s = oldest.asked + patience_s - monotonic()
                if len(batch) == most or left_s <= 0 or self._closed or not self._has_room():
                    if taken := self._take(batch):
                        return taken
                else:
                    self._changed.wait(left_s)
            self._waiting.clear()
            self._worker_is_there = False
            return []

    def settle(self, call: Call, outcome: Results | BaseException) -> None:
        """Give the caller a result or an error, unless the deadline came before."""
        with self._changed:
            self._timed.discard(call)
        with suppress(InvalidStateError):
            if isinstance(outcome, BaseException):
                call.future.set_exception(outcome)
            else:
                call.future.set_result(outcome)

    def close(self, *, cancel: bool) -> None:
        """Take no more calls; drop those that wait if `cancel`."""
        with self._changed:
            self._closed = True
            dropped = list(self._waiting) if cancel else []
            self._changed.notify_all()
        for call in dropped:
            call.future.cancel()

    def end(self) -> None:
        """Join the thread that keeps the deadlines; call it when every call has been answered."""
        with self._changed:
            self._clock_ends = True
            self._changed.notify_all()
        if self._clock is not None:
            self._clock.join()

    def _start_clock(self) -> None:
        if self._clock is None:
            # A daemon: at the end of the interpreter it has nothing to lose, and must not keep it alive.
            self._clock = threading.Thread(target=self._keep_deadlines, name="BatchingWorker deadlines", daemon=True)
            self._clock.start()

    def _keep_deadlines(self) -> None:
        """Fail each call at the moment when it is due and has no answer yet."""
        while not self._clock_ends:
            with self._changed:
                now = monotonic()
                late = [call for call in self._timed if call.due is not None and call.due <= now]
                # The worker must not take what is about to fail.
                self._waiting = deque(call for call in self._waiting if call not in late)
                if not late and not self._clock_ends:
                    due = min((call.due for call in self._timed if call.due is not None), default=None)
                    self._changed.wait(None if due is None else due - now)
            for call in late:  # without the lock: a callback of the future may well ask again
                self.settle(call, _too_late(call))

    def _has_room(self) -> bool:
        return len(self) < self.size

    def _take(self, batch: list[Call]) -> list[Call]:
        """Those calls of a batch that nobody has cancelled; from now on nobody can."""
        for call in batch:
            self._waiting.remove(call)
        self._changed.notify_all()
        return [call for call in batch if call.future.set_running_or_notify_cancel()]


def _too_late(call: Call) -> DeadlineError:
    given_s = 0.0 if call.due is None else call.due - call.asked
    return DeadlineError(f"No answer within the deadline of {given_s:.3g} s; give it more, or send less at a time.")
