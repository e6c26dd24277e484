"""What the exercises look at: each function runs the reader's own and says what it saw, or None if it is correct."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from yolothreads.lessons.stand_in import StandIn

_MEET_S = 2.0  # how long the threads of a correct answer may take to meet


def _together(*calls: Callable[[], Any]) -> list[Any]:
    """Run calls in threads of their own at the same time; give their results, or raise the first error."""
    results: list[Any] = [None] * len(calls)
    errors: list[BaseException] = []

    def run(i: int) -> None:
        try:
            results[i] = calls[i]()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(i,), name=f"check-{i}", daemon=True) for i in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5 * _MEET_S)
    if any(thread.is_alive() for thread in threads):
        raise TimeoutError("two calls at the same time did not end within 10 s; do they wait for each other?")
    if errors:
        raise errors[0]
    return results


def see_count_objects(count_objects: Callable[..., Any]) -> str | None:
    """Whether it counts the objects of one class in a result, and none where there are none."""
    from ultralytics.engine.results import Results

    rows = [(0, 0, 9, 9, 0.9, 1), (5, 5, 20, 20, 0.8, 0), (30, 5, 40, 20, 0.7, 1)]
    names = {0: "disc", 1: "star"}
    blank = np.zeros((64, 64, 3), np.uint8)
    result = Results(blank, path="", names=names, boxes=np.array(rows, np.float32))
    empty = Results(blank, path="", names=names, boxes=np.zeros((0, 6), np.float32))
    for given, name, right in ((result, "star", 2), (result, "disc", 1), (empty, "star", 0)):
        got = count_objects(given, name)
        if got != right:
            return f'a result with {right} objects of the class "{name}" gave {got!r}.'
    return None


def see_run_in_threads(run_in_threads: Callable[..., Any]) -> str | None:
    """Whether three calls run at the same time, in threads that have ended when the function returns."""
    before = set(threading.enumerate())
    meet = threading.Barrier(3)

    def work(item: int) -> int:
        meet.wait(_MEET_S)
        return item * item

    try:
        got = run_in_threads(work, [1, 2, 3])
    except threading.BrokenBarrierError:
        return "the three calls never ran at the same time."
    if left := [t.name for t in set(threading.enumerate()) - before if t.is_alive()]:
        return f"threads were still running when your function returned: {', '.join(left)}."
    return None if got == [1, 4, 9] else f"the squares of [1, 2, 3] came back as {got!r}."


def see_make_detector(make_detector: Callable[..., Any]) -> str | None:
    """Whether two calls that meet in the model are each answered with their own `conf`."""
    detect = make_detector(StandIn)
    asked = [(1, 0.25), (2, 0.75)]
    got = _together(*(lambda a=a: detect(*a) for a in asked))
    for (image, conf), answer in zip(asked, got, strict=True):
        if answer != (image, conf):
            return f"the call for image {image} with conf={conf} was answered with {answer!r}."
    return None


def see_save_to(save_to: Callable[..., Any]) -> str | None:
    """Whether four workers save to four places inside the folder."""
    places = [save_to("runs", worker) for worker in range(4)]
    for worker, place in enumerate(places):
        if not isinstance(place, dict) or set(place) - {"project", "name", "exist_ok"}:
            return f"worker {worker} got {place!r}, which is no dict of the settings project and name."
        if not str(place.get("project", "")).startswith("runs"):
            return f"worker {worker} saves in the project {place.get('project')!r}, not in the folder it was given."
    distinct = {(str(p.get("project")), str(p.get("name"))) for p in places}
    return None if len(distinct) == 4 else f"4 workers share {len(distinct)} folder(s)."


def see_make_worker(make_worker: Callable[..., Any]) -> str | None:
    """Whether two threads load one model each, however many images they do."""
    made: list[StandIn] = []

    def load() -> StandIn:
        made.append(StandIn())
        return made[-1]

    detect = make_worker(load)
    _together(*(lambda: [detect(image, 0.25) for image in (1, 2, 3)] for _ in range(2)))
    if any(model.crowded for model in made):
        return "two threads were inside the same model at once."
    if len(made) != 2:
        return f"2 threads that did 3 images each loaded {len(made)} models."
    return None


def see_detect_all(detect_all: Callable[..., Any]) -> str | None:
    """Whether two callers of the stream stay out of each other's way inside the model."""
    model = StandIn()
    got = _together(*(lambda i=i: list(detect_all(model, i)) for i in (1, 2)))
    if model.crowded:
        return "two threads were inside the model at once, although both hold the lock while they call it."
    return None if got == [[10, 11, 12], [20, 21, 22]] else f"the results of images 1 and 2 came back as {got!r}."
