"""The batching queue under every schedule with one preemption: no call is lost, answered twice, or left waiting."""

import math
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError
from contextlib import suppress
from time import monotonic

import numpy as np
import pytest
from deadlines import scaled
from fakes import WAIT_S

from yolothreads.errors import DeadlineError, PoolClosedError, QueueFullError
from yolothreads.pools.batching import Call, CallQueue
from yolothreads.races import explore

pytestmark = pytest.mark.timeout(scaled(120))


def read_call(name: str, asked: float, due: float = math.inf) -> Call:
    """Return a call whose picture was read."""
    picture = np.zeros((1, 1, 3), np.uint8)
    return Call(picture, {}, asked, due, pixels=picture, name=name, batch_key="same")


class Calls:
    """A queue with two calls, and how often a worker took each."""

    def __init__(self, size: int = 2) -> None:
        self.queue = CallQueue(size, lambda: self.work.append("come"))
        self.work: list[str] = []  # the tasks of an executor with one thread
        self.calls = [read_call(name, monotonic()) for name in "abc"]
        self.made: set[Call] = set()
        self.taken: list[str] = []

    def ask(self, which: int, when_full: str = "block") -> None:
        """Make the call of a caller's thread, then do the work of the worker if it was started."""
        self.made.add(self.calls[which])
        try:
            self.queue.put(self.calls[which], when_full=when_full)
        except PoolClosedError:
            self.calls[which].future.cancel()
        self.work_if_started()

    def work_if_started(self) -> None:
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
        """Return for each call that was made whether its caller got the right answer once."""
        return [self._of(call) for call in self.calls if call in self.made]

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
        pytest.param(Calls.cancel, 1, marks=pytest.mark.nightly),
        pytest.param(lambda calls: calls.queue.close(cancel=True), 2, marks=pytest.mark.nightly),
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


class Unread(Calls):
    """A queue whose calls have pictures that are still to be read."""

    def __init__(self) -> None:
        super().__init__(1)
        self.to_read: list[Call] = []  # the tasks of the readers
        self.queue = CallQueue(1, lambda: self.work.append("come"), self.to_read.append)
        for call in self.calls:
            call.pixels = None

    def read(self) -> None:
        """Do the work of a reader for one picture, if there is one; that of b cannot be read."""
        if self.to_read:
            call = self.to_read.pop(0)
            if call.name == "b":
                call.settle(call.name)
            else:
                self.queue.add_pixels(call, np.zeros((1, 1, 3), np.uint8), call.name, "same")

    def outcome(self) -> list[str]:
        while self.work:
            while self.to_read:
                self.read()
            batch = self.queue.gather(2, 0)
            for call in batch:
                call.settle(call.name)
            if not batch:
                self.work.pop()
        return ["settled" if call.future.done() else "lost" for call in self.calls if call in self.made]


def test_pictures_are_read_when_their_calls_come_into_the_queue() -> None:
    unread = Unread()
    a, b, c = unread.calls
    for call in (a, b, c):
        unread.queue.put(call, when_full="line")
    assert unread.to_read == [a]  # b and c stand in the line, with pictures that take no memory yet
    unread.read()
    assert unread.queue.gather(1, 0) == [a] and unread.to_read == [b]
    unread.read()  # the picture of b cannot be read, which makes room
    assert b.future.done() and unread.to_read == [c]
    unread.read()
    assert unread.queue.gather(1, 0) == [c]


def test_the_worker_waits_for_a_picture_that_is_being_read() -> None:
    unread, gathered = Unread(), []
    unread.queue.put(unread.calls[0], when_full="line")
    worker = threading.Thread(target=lambda: gathered.extend(unread.queue.gather(1, 0)))
    worker.start()
    unread.read()
    worker.join(WAIT_S)
    assert gathered == [unread.calls[0]]


@pytest.mark.nightly
@pytest.mark.timeout(scaled(300))
def test_under_every_schedule_no_call_is_lost_while_pictures_are_read() -> None:
    def ask(calls: Unread) -> None:
        for which in (0, 1):
            calls.made.add(calls.calls[which])
            try:
                calls.queue.put(calls.calls[which], when_full="line")
            except PoolClosedError:
                calls.calls[which].future.cancel()

    bodies = [ask, Unread.read, lambda calls: calls.queue.close(cancel=False)]
    found = explore(*bodies, setup=Unread, watch=[CallQueue, Unread.read], observe=Unread.outcome, preemptions=1)
    assert found.exhausted, str(found)
    assert {outcome.kind for outcome in found.outcomes} == {"as sequential"}, str(found)


class Line(Calls):
    """A queue with room for one call, which waits in it; a second one stands in the line. Nobody serves them yet."""

    def __init__(self) -> None:
        super().__init__(1)
        for call in self.calls[:2]:
            self.made.add(call)
            self.queue.put(call, when_full="line")

    def cancel_the_second(self) -> None:
        self.calls[1].future.cancel()


@pytest.mark.parametrize("when_full", ["block", "line"])
@pytest.mark.parametrize(
    "third",
    [Line.cancel, Line.cancel_the_second, lambda line: line.queue.close(cancel=False)],
    ids=["the call in the queue is cancelled", "a call in the line is cancelled", "the queue is closed"],
)
@pytest.mark.nightly
@pytest.mark.timeout(scaled(300))
def test_under_every_schedule_no_call_in_the_line_is_forgotten(third: Callable[[Line], None], when_full: str) -> None:
    bodies = [Line.work_if_started, lambda line: line.ask(2, when_full), third]
    watch = [CallQueue, Line.cancel, Line.cancel_the_second]
    found = explore(*bodies, setup=Line, watch=watch, observe=settled, preemptions=1, budget_s=scaled(240))
    assert found.exhausted and not found.forbidden, str(found)
    assert found.schedules > 50


def test_a_cancelled_call_leaves_the_line_and_the_next_one_keeps_its_place() -> None:
    line = Line()
    line.queue.put(line.calls[2], when_full="line")
    line.cancel_the_second()
    assert line.queue.gather(2, 0) == [line.calls[0]] and len(line.queue) == 1
    assert line.queue.gather(2, 0) == [line.calls[2]] and len(line.queue) == 0


def test_nobody_overtakes_the_line() -> None:
    line = Line()
    assert line.queue.gather(1, 0) == [line.calls[0]]  # room for the second, which enters
    with pytest.raises(QueueFullError):
        line.queue.put(line.calls[2], when_full="refuse")
    assert line.queue.gather(1, 0) == [line.calls[1]]


def test_calls_that_are_too_late_keep_nobody_waiting_in_the_line() -> None:
    calls, now = Calls(1), monotonic()
    calls.queue._deadline_thread = threading.Thread(target=calls.queue._enforce_deadlines)  # comes later
    late = [read_call("late", now - 2, now - 1) for _ in range(2)]
    for call in [*late, calls.calls[0]]:
        calls.queue.put(call, when_full="line")
    assert calls.queue.gather(2, 0) == [calls.calls[0]]
    calls.queue._deadline_thread.start()
    assert all(isinstance(call.future.exception(WAIT_S), DeadlineError) for call in late)
    calls.queue.end()


def test_a_call_that_the_worker_finds_too_late_still_gets_its_error() -> None:
    calls, now = Calls(), monotonic()
    late = read_call("late", now - 2, now - 1)
    thread = calls.queue._deadline_thread = threading.Thread(target=calls.queue._enforce_deadlines)
    calls.queue.put(late, when_full="block")
    assert calls.queue.gather(2, 0) == []  # before the thread of the deadlines has come to it
    thread.start()
    assert isinstance(late.future.exception(WAIT_S), DeadlineError)
    calls.queue.end()


def test_a_call_that_is_too_late_makes_room_for_a_caller_that_waits() -> None:
    queue = CallQueue(1, lambda: None)
    under_way, last = (read_call(name, monotonic()) for name in ("under way", "last"))
    queue.put(under_way, when_full="block")
    assert queue.gather(1, 0) == [under_way]  # the worker is busy with it
    late = read_call("late", monotonic(), monotonic() + 0.1)
    queue.put(late, when_full="block")
    caller = threading.Thread(target=queue.put, args=(last,), kwargs={"when_full": "block"})
    caller.start()
    assert isinstance(late.future.exception(WAIT_S), DeadlineError)
    caller.join(WAIT_S)
    assert queue.gather(1, 0) == [last]
    queue.end()
