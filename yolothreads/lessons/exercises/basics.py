"""Exercises on results, threads and tables: lessons 00, 01, 03, 10 and 11."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from yolothreads.lessons.exercises.exercise import CheckFailed, Function

_MEET_S = 3.0  # time for the threads of a correct answer to meet


def check_count_objects(count_objects: Function) -> None:
    """Check that the function counts the objects of one class, also in a result without objects."""
    from ultralytics.engine.results import Results

    rows = [(0, 0, 9, 9, 0.9, 1), (5, 5, 20, 20, 0.8, 0), (30, 5, 40, 20, 0.7, 1)]
    names = {0: "disc", 1: "star"}
    blank = np.zeros((64, 64, 3), np.uint8)
    result = Results(blank, path="", names=names, boxes=np.array(rows, np.float32))
    empty = Results(blank, path="", names=names, boxes=np.zeros((0, 6), np.float32))
    for given, name, right in ((result, "star", 2), (result, "disc", 1), (empty, "star", 0)):
        got = count_objects(given, name)
        if got != right:
            raise CheckFailed(f'For {right} objects of the class "{name}", your function returned {got!r}.')


def check_run_in_threads(run_in_threads: Function) -> None:
    """Check that three calls run at the same time, in threads that have ended when the function returns."""
    before = set(threading.enumerate())
    meet = threading.Barrier(3)

    def work(item: int) -> int:
        meet.wait(_MEET_S)
        return item * item

    try:
        got = run_in_threads(work, [1, 2, 3])
    except threading.BrokenBarrierError:
        raise CheckFailed("The three calls never ran at the same time.") from None
    if left := [t.name for t in set(threading.enumerate()) - before if t.is_alive()]:
        raise CheckFailed(f"These threads were still running when your function returned: {', '.join(left)}.")
    if got != [1, 4, 9]:
        raise CheckFailed(f"For the squares of [1, 2, 3], your function returned {got!r}.")


def check_save_to(save_to: Function) -> None:
    """Check that four workers save to four places inside the folder."""
    places = [save_to("runs", worker) for worker in range(4)]
    for worker, place in enumerate(places):
        if not isinstance(place, dict) or set(place) - {"project", "name", "exist_ok"}:
            raise CheckFailed(f"Worker {worker} got {place!r} instead of a dict with the settings project and name.")
        if not str(place.get("project", "")).startswith("runs"):
            project = repr(place.get("project"))
            raise CheckFailed(f"Worker {worker} saves in the project {project}, not in the folder that it was given.")
    distinct = {(str(p.get("project")), str(p.get("name"))) for p in places}
    if len(distinct) < 4:
        raise CheckFailed(f"The four workers save to only {len(distinct)} different places.")


_FILMS: tuple[tuple[str, list[dict[int, int]], int], ...] = (
    ("an object that keeps its number", [{7: 1}, {7: 1}, {7: 1}], 0),
    ("an object whose number changes once", [{7: 1}, {7: 2}, {7: 2}], 1),
    ("two objects that exchange their numbers", [{7: 1, 8: 2}, {7: 2, 8: 1}], 2),
    ("an object that is new in the second frame", [{7: 1}, {7: 1, 8: 2}], 0),
    ("an object that comes back with its old number", [{7: 1}, {}, {7: 1}], 0),
    ("an object that comes back with another number", [{7: 1}, {}, {}, {7: 3}], 1),
    ("no frames", [], 0),
)


def check_count_switches(count_switches: Function) -> None:
    """Check that each number is compared with the last one that the object had, however long ago."""
    for film, frames, right in _FILMS:
        got = count_switches([dict(frame) for frame in frames])
        if got != right:
            raise CheckFailed(f"For {film}, your function counted {got!r} switches. The frames were {frames}.")


_ROWS: tuple[dict[str, Any], ...] = (
    {"pool": "SharedModel", "wrong": 7, "images_per_s": 40.0, "memory_mb": 20.0},
    {"pool": "Replicas", "wrong": 0, "images_per_s": 30.0, "memory_mb": 25.0},
    {"pool": "ModelPerThread", "wrong": 0, "images_per_s": 31.0, "memory_mb": 60.0},
    {"pool": "LockedModel", "wrong": 0, "images_per_s": 15.0, "memory_mb": 20.0},
)
_CHOICES = {100: "ModelPerThread", 60: "ModelPerThread", 30: "Replicas", 20: "LockedModel", 5: None}


def check_choose(choose: Function) -> None:
    """Check that the fastest pool without faults that fits into memory is chosen, in any order of the rows."""
    for memory_mb, right in _CHOICES.items():
        for rows in (_ROWS, _ROWS[::-1]):
            got = choose([dict(row) for row in rows], memory_mb)
            if got != right:
                pools = ", ".join(row["pool"] for row in rows)
                raise CheckFailed(f"With {memory_mb} MB to spare, your function chose {got!r} from {pools}.")
    if (got := choose([], 100)) is not None:
        raise CheckFailed(f"Without any rows, your function returned {got!r}.")
