"""An exploration restores everything that it patches in Python, even after an error or Ctrl-C."""

import _multiprocessing
import _queue
import _thread
import gc
import itertools
import multiprocessing.synchronize
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext
from threading import Condition, Event, Lock, Thread
from types import SimpleNamespace
from typing import Any

import pytest
from deadlines import scaled
from programs import PROGRAMS, kinds

from yolothreads.races import WRONG, Exploration, explore

pytestmark = pytest.mark.timeout(scaled(120))
State = Any


def patched_attributes() -> dict[str, Any]:
    """Return every attribute that an exploration may patch, by name."""
    kinds = (_thread.LockType, _thread.RLock, _queue.SimpleQueue, _multiprocessing.SemLock)
    types = {kind: gc.get_referents(kind.__dict__)[0] for kind in kinds}
    return {
        **{f"{kind}.{name}": names.get(name) for kind, names in types.items() for name in names},
        **{f"Condition.{name}": thing for name, thing in vars(Condition).items()},
        **{f"Thread.{name}": thing for name, thing in vars(Thread).items()},
        **{f"SemLock.{name}": thing for name, thing in vars(multiprocessing.synchronize.SemLock).items()},
        **{f"process.Condition.{name}": thing for name, thing in vars(multiprocessing.synchronize.Condition).items()},
        **{f"time.{name}": thing for name, thing in vars(time).items()},
    }


@pytest.fixture(autouse=True)
def everything_is_restored() -> Iterator[None]:
    before, threads = patched_attributes(), set(threading.enumerate())
    yield
    after = patched_attributes()
    assert before.keys() == after.keys() and all(before[name] is after[name] for name in before)
    assert set(threading.enumerate()) == threads


class SetupError(Exception):
    """Raised by the setup of a test."""


@pytest.mark.parametrize(("call", "raises"), [(1, True), (3, True), (6, False)])
def test_everything_is_restored_after_an_exception_in_setup(call: int, raises: bool) -> None:
    calls = itertools.count(1)

    def setup() -> State:
        if next(calls) == call:
            raise SetupError
        return SimpleNamespace(n=0)

    counter = PROGRAMS["counter"]
    with pytest.raises(SetupError) if raises else nullcontext():
        counter.explore(setup=setup)
    assert kinds(counter.explore()) == {WRONG}


def interrupted_at(call: int, where: str) -> Exploration:
    """Explore the counter, and send Ctrl-C at this call of its setup or of a body."""
    calls = 0

    def count() -> None:
        nonlocal calls
        calls += 1
        if calls == call:
            signal.raise_signal(signal.SIGINT)

    def setup() -> State:
        if where == "setup":
            count()
        return SimpleNamespace(n=0)

    def body(s: State) -> None:
        if where == "body":
            count()
        value = s.n
        s.n = value + 1

    return explore(body, body, setup=setup, watch=[body], observe=lambda s: s.n, preemptions=2)


@pytest.mark.parametrize(("where", "call"), [("setup", 12), ("body", 24)])
def test_ctrl_c_returns_the_findings_so_far(where: str, call: int) -> None:
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        found = interrupted_at(call, where)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert 0 < found.schedules < interrupted_at(0, where).schedules
    assert not found.exhausted and not found.safe and "interrupted" in str(found)


def test_ctrl_c_stops_a_body_that_never_ends() -> None:
    calls = 0

    def body(s: State) -> None:
        nonlocal calls
        calls += 1
        if calls > 14:
            endless()
        value = s.n
        s.n = value + 1

    def endless() -> None:
        signal.raise_signal(signal.SIGINT)
        while True:
            pass

    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        found = explore(body, body, setup=lambda: SimpleNamespace(n=0), watch=[body], preemptions=2)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert "interrupted" in str(found) and found.schedules > 0


def test_threads_outside_an_exploration_wait_as_usual_during_it() -> None:
    lock, seen, stop = Lock(), [], Event()

    def bystander() -> None:
        while not stop.wait(0.001):
            with lock:
                seen.append(1)

    thread = Thread(target=bystander)
    thread.start()
    try:
        found = PROGRAMS["condition with while"].explore()
    finally:
        stop.set()
        thread.join()
    assert found.safe and seen
