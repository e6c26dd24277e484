"""Schedules per second, and how much slower code runs while it is explored."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from yolothreads import detections, races, weights
from yolothreads.bench_races.explorers import explored, on_one_core
from yolothreads.bench_races.programs import PROGRAMS
from yolothreads.measure import Spread
from yolothreads.scenes import scene

IMGSZ = 160
WATCHED = ("ultralytics.engine", "ultralytics.nn.modules.head")


@dataclass(frozen=True)
class Speed:
    """So many schedules whose outcome became known, of `total`; `run` of them were run."""

    what: str
    reduce: bool
    schedules: int
    total: int
    run: int
    seconds: float


@contextmanager
def warm_predict() -> Iterator[Callable[[int], Any]]:
    """max_det -> a predict() call with it, of a model that is warm already; torch gets its thread count back."""
    import torch
    from ultralytics import YOLO

    threads = torch.get_num_threads()
    model, image = YOLO(weights.bundled()), scene(0, (IMGSZ, IMGSZ)).image

    def predict(max_det: int) -> Any:
        return model.predict(image, imgsz=IMGSZ, max_det=max_det, device="cpu", verbose=False)

    try:
        predict(1)
        yield predict
    finally:
        torch.set_num_threads(threads)


def speeds(predict: Callable[[int], Any], budget_s: float) -> list[Speed]:
    """All small programs by line, and two predict() calls for so many seconds, with and without reduction."""
    done = []
    for reduce in (True, False):
        with on_one_core():
            small = [explored(program, "line", reduce=reduce) for program in PROGRAMS for _ in range(5)]
        large = detections.explore(
            lambda: predict(1), lambda: predict(50), watch=WATCHED, budget_s=budget_s, reduce=reduce
        )
        for what, found in ((f"{len(PROGRAMS)} small programs", small), ("two predict() calls", [large])):
            sums = [sum(getattr(f, name) for f in found) for name in ("schedules", "total", "run", "seconds")]
            done.append(Speed(what, reduce, *sums))
    return done


def _additions() -> int:
    total = 0
    for i in range(3000):
        total += i
        total -= 1
    return total


def _decrease(n: int) -> int:
    return n - 1


def _calls() -> int:
    n = 3000
    while n:
        n = _decrease(n)
    return n


def _mark(s: list[float]) -> None:
    s.clear()


def slowdowns(predict: Callable[[int], Any], rounds: int) -> dict[str, Spread]:
    """How many times slower code runs while it is explored, watched or not: one ratio a round."""

    def large() -> Any:
        return predict(1)

    cases: list[tuple[str, Callable[[], Any], Sequence[Any], int]] = [
        ("watched: a loop of additions", _additions, (_additions,), 5),
        ("watched: predict(), the engine and the head of it", large, (*WATCHED, _mark), 5),
        ("not watched: a loop of additions", _additions, (), 20),
        ("not watched: a loop of function calls", _calls, (), 20),
        ("not watched: predict()", large, (), 15),
    ]
    found: dict[str, list[float]] = {name: [] for name, *_ in cases}
    for _ in range(rounds):
        for name, work, watch, times in cases:
            found[name].append(_slowdown(work, watch, times))
    return {name: Spread.of(ratios) for name, ratios in found.items()}


def _slowdown(work: Callable[[], Any], watch: Sequence[Any], times: int) -> float:
    """The time that `work` takes in an explored thread, divided by that in an ordinary one; medians of the calls."""
    explored_s: list[float] = []

    def sampled(took: list[float]) -> None:
        _mark(took)
        for _ in range(times):
            start = perf_counter()
            work()
            took.append(perf_counter() - start)
        explored_s[:] = took

    def plain() -> list[float]:
        took: list[float] = []
        for _ in range(2):  # an explored thread is warm too when it is timed
            sampled(took)
        return took

    with ThreadPoolExecutor(1, thread_name_prefix="plain") as ordinary:  # before and after, so that a drift cancels out
        plain_s = ordinary.submit(plain).result()
        races.explore(sampled, _mark, setup=list, watch=(_mark, *watch), preemptions=0)
        watched_s = list(explored_s)  # of the last run: those before it were the sequential ones
        plain_s += ordinary.submit(plain).result()
    return statistics.median(watched_s) / statistics.median(plain_s)
