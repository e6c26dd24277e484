"""Run by test_tracing.py: how much slower watched and unwatched code runs in an exploration, as JSON.

The same function is timed by turns in a controlled thread and outside, so that a change of the machine's speed meets
both; of each the quickest of many short rounds counts.
"""

import json
import time
from collections.abc import Callable
from statistics import median
from types import SimpleNamespace
from typing import Any

from yolothreads import races

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
    """Processor seconds of this thread."""
    began = time.thread_time()
    work(turns)
    return time.thread_time() - began


def ratio(work: Callable[[int], int], turns: int, watch: list[Any]) -> float:
    inside: list[float] = []
    outside: list[float] = []

    def body(s: Any) -> None:
        s.n = 1
        inside.append(timed(work, turns))

    def setup() -> Any:
        outside.append(timed(work, turns))
        return SimpleNamespace(n=0)

    while len(outside) < ROUNDS:
        races.explore(body, body, setup=setup, watch=[body, *watch], preemptions=0, max_steps=10**6)
    return min(median(inside) / median(outside), min(inside) / min(outside))


if __name__ == "__main__":
    print(json.dumps({"unwatched": ratio(unwatched, 20_000, []), "watched": ratio(watched, 300, [watched])}))
