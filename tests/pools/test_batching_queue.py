"""The batching queue under every schedule with one preemption: no call is lost, answered twice, or left waiting."""

import threading
from collections.abc import Callable
from concurrent.futures import CancelledError
from contextlib import suppress
from time import monotonic

import numpy as np
import pytest
from deadlines import scaled
from fakes import WAIT_S

from yolothreads.errors import DeadlineError, PoolClosedError
from yolothreads.pools.batching import Call, CallQueue
from yolothreads.races import explore

pytestmark = pytest.mark.timeout(scaled(120))


class Calls:
    """A queue with two calls, and how often a worker took each."""

    def __init__(self, size: int = 2) -> None:
        self.queue = CallQueue(size, lambda: self.work.append("come"))
        self.work: list[str] = []  # the tasks of an executor with one thread
        self.calls = [Call(np.zeros((1, 1, 3), np.uint8), name, {}, "same", monotonic()) for name in "ab"]
        self.taken: list[str] = []

    def ask(self, which: int) -> None:
        """Make the call of a caller's thread, then do the work of the worker if it was started."""
        try:
            self.queue.put(self.calls[which], block=True)
        except PoolClosedError:
            self.calls[which].future.cancel()
        with suppress(IndexError):
            self.work.pop()
            self.serve()

    def serve(self) -> None:
        while batch := self.queue.gather(2, 0):
            for call in batch:
                self.taken.append(call.name)
                call.settle(call.name)

    def cancel(self) -> None:
        self.calls[0].future.cancel()

    def outcome(self) -> list[str]:
        """Return for each call whether its caller got the right answer once."""
        return [self._of(call) for call in self.calls]

    def _of(self, call: Call) -> str:
        taken = self.taken.count(call.name)
        if not call.future.done():
            return "lost"
        try:
            right = call.future.result(0) == call.name and taken == 1
        except CancelledError:
            right = taken <= 1
        return "answered once" if right else f"wrong, taken {taken} times"


def settled(calls: Calls) -> list[str]:
    calls.queue.end()
    return calls.outcome()


@pytest.mark.parametrize(
    ("third", "size"),
    [
        (None, 1),
        (Calls.cancel, 2),
        (Calls.cancel, 1),
        (lambda calls: calls.queue.close(cancel=True), 2),
        (lambda calls: calls.queue.close(cancel=False), 1),
    ],
    ids=[
        "room for one",
        "cancelled",
        "cancelled while one waits for room",
        "closed and dropped",
        "closed while one waits for room",
    ],
)
def test_under_every_schedule_each_call_is_answered_once(third: Callable[[Calls], None] | None, size: int) -> None:
    bodies = [lambda calls: calls.ask(0), lambda calls: calls.ask(1), *([third] if third else [])]
    watch = [Call, CallQueue, Calls.cancel]
    found = explore(*bodies, setup=lambda: Calls(size), watch=watch, observe=settled, preemptions=1, budget_s=60)
    assert found.exhausted and not found.forbidden, str(found)
    assert found.schedules > 50


def test_a_call_that_the_worker_finds_too_late_still_gets_its_error() -> None:
    calls, now = Calls(), monotonic()
    late = Call(np.zeros((1, 1, 3), np.uint8), "late", {}, "same", now - 2, due=now - 1)
    thread = calls.queue._deadline_thread = threading.Thread(target=calls.queue._enforce_deadlines)
    calls.queue.put(late, block=True)
    assert calls.queue.gather(2, 0) == []  # before the thread of the deadlines has come to it
    thread.start()
    assert isinstance(late.future.exception(WAIT_S), DeadlineError)
    calls.queue.end()


def test_a_call_that_is_too_late_makes_room_for_a_caller_that_waits() -> None:
    queue, picture = CallQueue(1, lambda: None), np.zeros((1, 1, 3), np.uint8)
    under_way, last = (Call(picture, name, {}, "same", monotonic()) for name in ("under way", "last"))
    queue.put(under_way, block=True)
    assert queue.gather(1, 0) == [under_way]  # the worker is busy with it
    late = Call(picture, "late", {}, "same", monotonic(), due=monotonic() + 0.1)
    queue.put(late, block=True)
    caller = threading.Thread(target=queue.put, args=(last,), kwargs={"block": True})
    caller.start()
    assert isinstance(late.future.exception(WAIT_S), DeadlineError)
    caller.join(WAIT_S)
    assert queue.gather(1, 0) == [last]
    queue.end()
