"""Programs that recurse until a RecursionError: replays agree with their schedules. Runs on Python 3.11 and newer."""

from __future__ import annotations

import sys
import threading
from types import SimpleNamespace
from typing import Any

from cases import Cases

from yolothreads.races import RIGHT, explore

CASES = Cases()
REPLAYS, SMALL = 100, 220


def agreed(*bodies: Any, **options: Any) -> list[Any]:
    """Explore; return whether something bad was found, and how many of 100 replays of bad schedules agree with it."""
    limit, agree = sys.getrecursionlimit(), 0
    sys.setrecursionlimit(SMALL)  # which is quicker
    try:
        found = explore(*bodies, observe=lambda s: (s.n, s.y), **options)
        bad = [trial for trial in found.trials if trial.kind != RIGHT]
        for i in range(REPLAYS):
            trial = bad[i % len(bad)]
            again = found.replay(trial.schedule)
            agree += (again.kind, repr(again.results)) == (trial.kind, repr(trial.results))
        assert sys.getrecursionlimit() == SMALL
    finally:
        sys.setrecursionlimit(limit)
    return [bool(bad), agree]


def deep(s: Any, n: int) -> int:
    s.n = n
    if s.stop:
        return n
    return deep(s, n + 1)


def recurse(s: Any) -> int:
    s.x = 1
    try:
        return deep(s, 0)
    finally:
        s.x = 2


def stop_and_go(s: Any) -> int:
    s.stop = True
    s.stop = False
    return int(s.x)


def fresh() -> SimpleNamespace:
    return SimpleNamespace(n=0, x=0, y=0, stop=True, lock=threading.RLock())


@CASES.gives([True, REPLAYS])
def recursion_by_line() -> Any:
    return agreed(recurse, stop_and_go, setup=fresh, granularity="line")


@CASES.gives([True, REPLAYS])
def recursion_by_instruction() -> Any:
    return agreed(recurse, stop_and_go, setup=fresh, granularity="instruction")


def deep_with_lock(s: Any, n: int) -> int:
    with s.lock:
        s.n = n
    if s.stop:
        return n
    return deep_with_lock(s, n + 1)


def recurse_with_lock(s: Any) -> int:
    s.y = s.x
    return deep_with_lock(s, 0)


def stop_with_lock(s: Any) -> int:
    with s.lock:
        s.stop = True
        s.x = 3
    with s.lock:
        s.stop = False
    return int(s.x)


@CASES.gives([True, REPLAYS])
def recursion_under_a_lock() -> Any:
    return agreed(recurse_with_lock, stop_with_lock, setup=fresh)


def recurse_and_catch(s: Any) -> int:
    try:
        deep(s, 0)
    except RecursionError:
        s.x = 9
    return int(s.n > 100)


@CASES.gives([True, REPLAYS])
def a_recursion_error_that_is_caught() -> Any:
    return agreed(recurse_and_catch, stop_and_go, setup=fresh)


def recurse_further(s: Any) -> int:
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(limit + 50)
    try:
        return recurse(s)
    finally:
        sys.setrecursionlimit(limit)


@CASES.gives([True, REPLAYS])
def a_body_that_changes_the_limit() -> Any:
    return agreed(recurse_further, stop_and_go, setup=fresh)


@CASES.gives(True)
def it_is_said_where_python_stops_tracing() -> Any:
    def use_up(s: Any) -> None:
        s.stop = False
        try:
            deep(s, 0)
        except RecursionError:
            s.x = 1

    found = explore(use_up, use_up, setup=fresh, preemptions=0)
    named = any("after a RecursionError" in name for name in found.uncontrolled)
    return named == (sys.version_info < (3, 12)) and found.safe != named


if __name__ == "__main__":
    CASES.main()
