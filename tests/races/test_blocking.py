"""Detects blocked threads at once, whatever they wait for and whenever it was made, and names lock holders."""

import queue
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from queue import Queue, SimpleQueue
from threading import Barrier, BoundedSemaphore, Condition, Event, Lock, RLock, Semaphore, Thread
from types import SimpleNamespace
from typing import Any

import pytest
from deadlines import scaled

from yolothreads.errors import ExploreError
from yolothreads.races import Exploration, explore, holder, replay

pytestmark = pytest.mark.timeout(scaled(120))
State = Any


# --- two bodies for each object that a thread can wait for; `s.it` is that object


def bump_within(s: State) -> None:
    with s.it:
        value = s.n
        s.n = value + 1


def bump_between(s: State) -> None:
    s.it.acquire()
    value = s.n
    s.n = value + 1
    s.it.release()


def bump_twice_within(s: State) -> None:
    with s.it, s.it:
        value = s.n
        s.n = value + 1


def await_notice(s: State) -> int:
    with s.it:
        while not s.n:
            s.it.wait()
        return s.n


def await_notice_of(s: State) -> int:
    with s.it:
        s.it.wait_for(lambda: s.n)
        return s.n


def notify(s: State) -> None:
    with s.it:
        s.n = 7
        s.it.notify_all()


def await_event(s: State) -> int:
    s.it.wait()
    return s.n


def set_event(s: State) -> None:
    s.n = 7
    s.it.set()


def get(s: State) -> Any:
    first = s.it.get()
    return first, s.it.get()


def put(s: State) -> None:
    s.it.put(1)
    s.it.put(2)


def meet(s: State) -> int:
    s.n = s.n or 1
    s.it.wait()
    return s.n


def await_result(s: State) -> Any:
    return s.it.result()


def give_result(s: State) -> None:
    s.n = 7
    s.it.set_result(s.n)


PAIRS: dict[str, tuple[Callable[[], Any], Callable[[State], Any], Callable[[State], Any]]] = {
    "Lock, with": (Lock, bump_within, bump_within),
    "Lock, acquire": (Lock, bump_between, bump_within),
    "RLock": (RLock, bump_twice_within, bump_between),
    "Condition": (Condition, await_notice, notify),
    "Condition of a Lock": (lambda: Condition(Lock()), await_notice, notify),
    "Condition.wait_for": (Condition, await_notice_of, notify),
    "Condition as a lock": (Condition, bump_within, bump_between),
    "Event": (Event, await_event, set_event),
    "Semaphore": (Semaphore, bump_within, bump_between),
    "BoundedSemaphore": (BoundedSemaphore, bump_within, bump_between),
    "Queue": (Queue, get, put),
    "full Queue": (lambda: Queue(maxsize=1), get, put),
    "LifoQueue of one": (lambda: queue.LifoQueue(maxsize=1), get, put),
    "SimpleQueue": (SimpleQueue, get, put),
    "Barrier": (lambda: Barrier(2), meet, meet),
    "Future.result": (Future, await_result, give_result),
}
MADE_BEFORE = {name: make() for name, (make, *_) in PAIRS.items() if name not in ("Event", "Future.result")}
MADE_BEFORE["Event"] = Event()


def check(found: Exploration) -> None:
    """Check that every schedule was safe and none ran into a time limit, which would leave a note about a stall."""
    assert found.safe, f"{found}\n{found.forbidden[:1]}"
    assert found.run > 4 and found.notes == () and found.uncontrolled == ()


@pytest.mark.parametrize("preemptions", [1, 2])
@pytest.mark.parametrize("name", PAIRS)
def test_waiting_is_detected_for_objects_made_in_setup(name: str, preemptions: int) -> None:
    make, a, b = PAIRS[name]
    check(explore(a, b, setup=lambda: SimpleNamespace(n=0, it=make()), preemptions=preemptions))


@pytest.mark.parametrize("name", MADE_BEFORE)
def test_waiting_is_detected_for_objects_made_earlier(name: str) -> None:
    _, a, b = PAIRS[name]
    it = MADE_BEFORE[name]

    def renew() -> State:
        if isinstance(it, Event):
            it.clear()
        while hasattr(it, "get") and not it.empty():  # left by a run that was abandoned
            it.get()
        return SimpleNamespace(n=0, it=it)

    check(explore(a, b, setup=renew, watch=[__name__]))
    check(explore(b, a, setup=renew, watch=[__name__]))


@pytest.mark.parametrize("name", PAIRS)
def test_waiting_is_detected_by_instruction(name: str) -> None:
    make, a, b = PAIRS[name]
    found = explore(a, b, setup=lambda: SimpleNamespace(n=0, it=make()), granularity="instruction")
    check(found)


def join_worker(s: State) -> int:
    s.thread.join()
    return s.n


def test_a_join_waits_for_a_thread_that_setup_started() -> None:
    def setup() -> State:
        s = SimpleNamespace(n=0, it=Event())
        s.thread = Thread(target=s.it.wait)
        s.thread.start()
        return s

    check(explore(join_worker, set_event, setup=setup))


def join_only(s: State) -> None:
    s.thread.join()


def test_a_join_waits_for_a_thread_that_was_started_earlier() -> None:
    go = Event()
    helper = Thread(target=go.wait, args=(scaled(100),), name="earlier thread")
    helper.start()
    s = SimpleNamespace(n=0, it=go, thread=helper)
    found = explore(join_only, set_event, setup=lambda: s, watch=[__name__])
    until = time.monotonic() + scaled(60)
    while (
        helper in threading.enumerate() and time.monotonic() < until
    ):  # Python 3.11 may report it as stopped too early
        time.sleep(0.001)
    assert not found.forbidden and found.exhausted and found.seconds < scaled(60)


# --- the holder of a lock


def hold_then_release(s: State) -> None:
    with s.it:
        s.n = 1
    s.n = 2


def holders(s: State, a: Callable[[State], Any], b: Callable[[State], Any]) -> list[tuple[str, str]]:
    """Return the running thread and the holder of `s.it` at each step of the schedule in which A runs first."""
    schedule = explore(a, b, setup=lambda: s, watch=[__name__], preemptions=0).trials[0].schedule
    trial = replay(schedule, a, b, setup=lambda: s, watch=[__name__], inspect=lambda s: holder(s.it))
    return [(step.thread, step.inspected) for step in trial.steps]


@pytest.mark.parametrize("make", [Lock, RLock])
def test_the_holder_is_the_thread_that_acquired_the_lock_and_empty_while_it_is_free(make: Callable[[], Any]) -> None:
    reported = holders(SimpleNamespace(n=0, it=make()), hold_then_release, hold_then_release)
    assert reported[:4] == [("A", ""), ("A", "A"), ("A", "A"), ("A", "")]
    assert reported[4:] == [("B", ""), ("B", "B"), ("B", "B"), ("B", "")]


def test_a_lock_that_an_unknown_thread_acquired_is_held_by_somebody() -> None:
    with Lock() as _, (it := Lock()):
        reported = holders(SimpleNamespace(n=0, it=it), plain_bump, plain_bump)
        assert {seen for _, seen in reported} == {"somebody"}
        assert holder(it) == "somebody"
    assert holder(it) == ""


def plain_bump(s: State) -> None:
    s.n = 1


def test_a_thread_that_returns_from_a_condition_holds_its_lock_again() -> None:
    s = SimpleNamespace(n=0, it=Condition())
    schedule = explore(await_notice, notify, setup=lambda: s, preemptions=0).trials[0].schedule
    s.n = 0
    trial = replay(schedule, await_notice, notify, setup=lambda: s, inspect=lambda s: holder(s.it._lock))
    assert [(step.thread, step.inspected) for step in trial.steps if step.where.text == "return s.n"] == [("A", "A")]


def test_holder_accepts_locks_only() -> None:
    with pytest.raises(ExploreError, match="neither a Lock nor an RLock"):
        holder(Condition())


# --- waits outside Python


def token_in_a_socket(s: State) -> None:
    token = s.b.recv(1)
    value = s.n
    s.n = value + 1
    s.a.send(token)


def test_a_blocking_socket_is_reported_as_a_stall() -> None:
    def renew(s: State) -> None:
        s.n = 0

    with TokenInSockets() as s:
        found = explore(
            token_in_a_socket, token_in_a_socket, setup=lambda: s, restore=renew, observe=lambda s: s.n, budget_s=600
        )
    assert not found.forbidden and found.exhausted
    assert found.notes and all("no lock of Python's" in note and "recv" in note for note in found.notes)
    assert not found.safe and "recv" in found.uncontrolled[0] and found.verdict.startswith("UNCONTROLLED")


class TokenInSockets:
    """A pair of sockets that pass one token: a lock that Python cannot see."""

    def __enter__(self) -> State:
        self.a, self.b = socket.socketpair()
        self.a.send(b"x")
        return SimpleNamespace(n=0, a=self.a, b=self.b)

    def __exit__(self, *exc_info: object) -> None:
        self.a.close()
        self.b.close()


def test_a_thread_that_is_started_twice_raises_the_error_of_python() -> None:
    messages: set[str] = set()

    def start(threads: list[Thread]) -> bool:
        try:
            threads[0].start()
        except RuntimeError as error:
            messages.add(str(error))
            return False
        return True

    found = explore(start, start, setup=lambda: [Thread(target=list)], watch=[__name__], observe=lambda s: s[0].join())
    assert found.safe and not found.notes, found
    assert messages == {"threads can only be started once"}
