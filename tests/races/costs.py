"""Prints as JSON how much slower watched and unwatched code runs in an exploration. test_tracing.py runs it.

Rounds inside a controlled thread alternate with rounds outside, so that a change in the machine's speed affects both.
The slowdown is the smaller of two ratios: that of the medians and that of the fastest rounds.
"""

import json
import time
from collections.abc import Callable
from statistics import median
from types import SimpleNamespace
from typing import Any

from yolothreads import races
from yolothreads.races.watching import Granularity

ROUNDS = 30


def step(n: int) -> int:
    return n * 3 + 1


def unwatched(turns: int) -> int:
    total = 0
    for i in range(turns):
        total += step(i) & 7
        if total > 1000:
            total -= 1000
    return total


def watched(turns: int) -> int:
    total = 0
    for i in range(turns):
        total += step(i) & 7
        if total > 1000:
            total -= 1000
    return total


def timed(work: Callable[[int], int], turns: int) -> float:
    """Return the processor seconds that the work took in this thread."""
    began = time.thread_time()
    work(turns)
    return time.thread_time() - began


def slowdown(work: Callable[[int], int], turns: int, watch: list[Any], granularity: Granularity = "line") -> float:
    """Return the time in a controlled thread divided by the time outside."""
    inside: list[float] = []
    outside: list[float] = []

    def body(s: Any) -> None:
        s.n = 1
        inside.append(timed(work, turns))

    def setup() -> Any:
        outside.append(timed(work, turns))
        return SimpleNamespace(n=0)

    while len(outside) < ROUNDS:
        races.explore(
            body, body, setup=setup, watch=[body, *watch], granularity=granularity, preemptions=0, max_steps=10**6
        )
    return min(median(inside) / median(outside), min(inside) / min(outside))


if __name__ == "__main__":
    costs = {"unwatched": slowdown(unwatched, 20_000, []), "watched": slowdown(watched, 300, [watched])}
    print(json.dumps({**costs, "split": slowdown(watched, 300, [watched], "auto")}))
