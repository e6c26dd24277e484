"""What the exercises look at: each function runs the reader's own and says what it saw, or None if it is correct."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from yolothreads.errors import ExploreError
from yolothreads.races import WRONG, explore

_MEET_S = 2.0  # how long the threads of a correct answer may take to meet
_SEARCH_S = 5.0  # after which an exploration is given up; those of correct answers take a tenth of a second


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


class _KeepsConf:
    """The smallest model that a switch can break: keeps `conf` on itself, as YOLO keeps the arguments of a call."""

    def predict(self, image: int, conf: float = 0.25) -> tuple[int, float]:
        """Give the image and the `conf` that was really used for it."""
        self.conf = conf
        return self._run(image)

    def _run(self, image: int) -> tuple[int, float]:
        return image, self.conf

    def stream(self, image: int, conf: float = 0.25) -> Iterator[tuple[int, float]]:
        """Give three results of an image, one by one, as `stream=True` does: each is made when it is taken."""
        self.conf = conf
        return self._parts(image)

    def _parts(self, image: int) -> Iterator[tuple[int, float]]:
        for part in range(3):
            yield 10 * image + part, self.conf


def see_make_detector(make_detector: Callable[..., Any]) -> str | None:
    """Whether two calls are each answered with their own `conf`, however the threads are switched."""
    answers: dict[tuple[int, float], Any] = {(1, 0.25): None, (2, 0.75): None}

    def call(detect: Callable[..., Any], asked: tuple[int, float]) -> Any:
        answers[asked] = detect(*asked)
        return answers[asked]

    found = explore(
        *(partial(call, asked=asked) for asked in answers),
        setup=lambda: make_detector(_KeepsConf),
        watch=[make_detector, _KeepsConf],
        preemptions=2,
        budget_s=_SEARCH_S,
        max_steps=1000,
    )
    if found.forbidden:
        bad = found.forbidden[0]
        count = f"{sum(trial.kind == bad.kind for trial in found.forbidden)} of {found.schedules} schedules"
        if bad.kind == WRONG:
            seen = f'with a switch just before "{bad.where.text}" the answers were {bad.results}'
            return f"in {count} a call was not answered with its own conf: {seen}."
        return f"{count} ended with: {bad.kind}. {bad.detail.partition(chr(10))[0]}."
    for (image, conf), got in answers.items():
        if got != (image, conf):
            return f"the call for image {image} with conf={conf} was answered with {got!r}."
    return None if found.safe else found.verdict


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
    """Whether two threads load one model each, and are answered by it, however the threads are switched."""
    runs: list[list[_KeepsConf]] = []

    def fresh() -> Any:
        made: list[_KeepsConf] = []
        runs.append(made)

        def load() -> _KeepsConf:
            made.append(_KeepsConf())
            return made[-1]

        return make_worker(load)

    def call(detect: Callable[..., Any], images: tuple[int, int], conf: float) -> list[Any]:
        return [detect(image, conf) for image in images]

    seen = _explored(
        partial(call, images=(1, 2), conf=0.25),
        partial(call, images=(3, 4), conf=0.75),
        setup=fresh,
        watch=[make_worker, _KeepsConf],
    )
    if seen:
        return seen
    if (got := make_worker(_KeepsConf)(1, 0.25)) != (1, 0.25):
        return f"the call for image 1 with conf=0.25 was answered with {got!r}."
    loads = {len(made) for made in runs} - {2}
    return f"2 threads that did 2 images each loaded {max(loads)} model{'s' * (max(loads) != 1)}." if loads else None


def see_detect_all(detect_all: Callable[..., Any]) -> str | None:
    """Whether two callers get lists of all their own results, however the threads are switched."""
    kinds: set[str] = set()

    def call(model: _KeepsConf, image: int, conf: float) -> list[Any]:
        got = detect_all(model, image, conf)
        kinds.add(type(got).__name__)
        return list(got)

    asked = [(1, 0.25), (2, 0.75)]
    seen = _explored(
        *(partial(call, image=image, conf=conf) for image, conf in asked),
        setup=_KeepsConf,
        watch=[detect_all, _KeepsConf],
    )
    if seen:
        return seen
    for image, conf in asked:
        model = _KeepsConf()
        if (got := list(detect_all(model, image, conf))) != (wanted := list(model.stream(image, conf))):
            return f"the results of image {image} with conf={conf} came back as {got!r} instead of {wanted!r}."
    return None if kinds == {"list"} else f"the results came as a {', '.join(sorted(kinds))}; a list was asked for."


def _explored(*bodies: Callable[..., Any], **options: Any) -> str | None:
    """Run the reader's code under every schedule with up to two preemptions; None if each came out right."""
    try:
        found = explore(*bodies, preemptions=2, budget_s=_SEARCH_S, max_steps=1000, **options)
    except ExploreError as error:
        return f"your function could not be explored. {error}"
    if not found.forbidden:
        return None if found.safe else found.verdict
    bad = found.forbidden[0]
    share = f"{len(found.forbidden)} of {found.schedules} schedules ended with: {bad.kind}."
    detail = bad.detail.partition("\n")[0]
    if bad.kind == WRONG:
        return f'{share} With a switch just before "{bad.where.text}", the threads {detail}.'
    return f"{share} {detail}."
