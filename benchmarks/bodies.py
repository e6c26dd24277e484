"""Bodies of small programs with known outcomes, for benchmarks and tests. A switch can come between any two lines."""

# ruff: noqa: D103 - their names say what they do

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

State = Any
_local = threading.local()


def state(**values: Any) -> Callable[[], State]:
    """A setup that makes fresh state of these values; a callable is called for its value."""
    return lambda: SimpleNamespace(**{key: v() if callable(v) else v for key, v in values.items()})


# --- counters ---


def bump(s: State) -> None:
    value = s.n
    s.n = value + 1


def bump_in_one_line(s: State) -> None:
    s.n += 1


def bump_locked(s: State) -> None:
    with s.lock:
        value = s.n
        s.n = value + 1


def look_locked(s: State) -> None:
    with s.lock:
        s.seen = s.n >= 0


def number(s: State) -> Any:
    return s.n


def harmless(s: State) -> int:
    mine = [1, 2]
    mine.append(3)
    return sum(mine)


def read_only(s: State) -> bool:
    seen = s.n
    return seen >= 0


# --- locks ---


# The with statements stand on two lines, so that a switch fits in between.


def first_then_second(s: State) -> None:
    with s.a:  # noqa: SIM117
        with s.b:
            s.n += 1


def second_then_first(s: State) -> None:
    with s.b:  # noqa: SIM117
        with s.a:
            s.n += 1


def frames(lock: Any) -> Iterator[int]:
    with lock:
        yield 1
        yield 2


def first_stream(s: State) -> int:
    total = 0
    for frame in frames(s.a):
        with s.b:
            total += frame
    return total


def second_stream(s: State) -> int:
    total = 0
    for frame in frames(s.b):
        with s.a:
            total += frame
    return total


def leave_half_consumed(s: State) -> int:
    s.kept = frames(s.a)
    return next(s.kept)


def consume(s: State) -> int:
    return sum(frames(s.a))


# --- check, then act ---


def build_once(s: State) -> int:
    if "model" not in s.cache:
        s.built += 1
        s.cache["model"] = s.built
    return s.cache["model"]


def pop_if_there(s: State) -> Any:
    if s.cache:
        return s.cache.pop("model")
    return None


def move_one(s: State) -> None:
    money = s.accounts["one"]
    s.accounts["one"] = money - 10
    money = s.accounts["two"]
    s.accounts["two"] = money + 10


def move_back(s: State) -> None:
    money = s.accounts["two"]
    s.accounts["two"] = money - 7
    money = s.accounts["one"]
    s.accounts["one"] = money + 7


def take_if(s: State) -> int:
    with s.changed:
        if not s.items:
            s.changed.wait()
        return s.items.pop(0)


def take_while(s: State) -> int:
    with s.changed:
        while not s.items:
            s.changed.wait()
        return s.items.pop(0)


def put_two(s: State) -> None:
    for item in (1, 2):
        with s.changed:
            s.items.append(item)
            s.changed.notify()


# --- what is no fault ---


def always_raises(s: State) -> None:
    s.tries += 1
    raise ValueError("no such image")


def append_a(s: State) -> None:
    s.order.append("a")


def append_b(s: State) -> None:
    s.order.append("b")


# --- more preemptions ---


def two_stages(s: State) -> None:
    s.stage = 1
    s.stage = 2


def see_both_stages(s: State) -> bool:
    first = s.stage
    second = s.stage
    return (first, second) == (1, 2)


def four_stages(s: State) -> None:
    s.stage = 1
    s.stage = 2
    s.stage = 3


def see_three_stages(s: State) -> bool:
    first = s.stage
    second = s.stage
    third = s.stage
    return (first, second, third) == (1, 2, 3)


# --- time and threads ---


def bump_around_a_sleep(s: State) -> None:
    value = s.n
    time.sleep(3600)
    s.n = value + 1


def poll(s: State) -> int:
    while not s.flag:
        time.sleep(0.01)
    return s.n


def raise_flag(s: State) -> None:
    s.n = 7
    s.flag = True


def raise_flag_too_early(s: State) -> None:
    s.flag = True
    s.n = 7


def count_own_calls(s: State) -> int:
    _local.calls = getattr(_local, "calls", 0) + 1
    return _local.calls


def start_own_thread(s: State) -> None:
    helper = threading.Thread(target=s.order.append, args=(1,), name="helper of a body")
    helper.start()
    helper.join()


# --- no end ---


def after_you(s: State) -> None:
    s.first = True
    while s.second:
        pass
    s.first = False


def no_after_you(s: State) -> None:
    s.second = True
    while s.first:
        pass
    s.second = False


def below_zero(s: State) -> None:
    s.n = -1
    s.n = 3


def count_down(s: State) -> None:
    while s.n != 0:
        s.n = s.n - 1
