"""Exercises on workers elsewhere, in processes and on clusters: lessons 07 and 09."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from itertools import islice
from threading import Condition, Thread
from typing import Any, NamedTuple

from yolothreads.errors import WorkerDiedError
from yolothreads.lessons.exercises.exercise import CheckFailed, Function

_IMAGES = ["a", "b", "c", "d"]
_MOST_STARTS = 20  # more workers than any correct answer needs
_DEATHS: tuple[Mapping[str, int], ...] = (  # how many workers each image ends
    {},
    {"b": 1},
    {"a": 1, "d": 1},  # the first and the last
    {"b": 1, "c": 1},  # a death right after a death
    {"c": 2},
    {"b": 99, "d": 99},
)


class _Workers:
    """Starts stand-ins for worker processes, and records what happens to them and to the images."""

    def __init__(self, deaths: Mapping[str, int]) -> None:
        self.deaths = dict(deaths)  # how many workers each image still ends
        self.started: list[_Worker] = []
        self.given: list[str] = []

    def start(self) -> _Worker:
        """Start one more worker."""
        if len(self.started) == _MOST_STARTS:
            raise CheckFailed(f"Your function started more than {_MOST_STARTS} workers; some images end every worker.")
        self.started.append(_Worker(self))
        return self.started[-1]


class _Worker:
    """A worker that detects in images until one of them ends it."""

    def __init__(self, workers: _Workers) -> None:
        self._workers = workers
        self.state = "running"

    def detect(self, image: str) -> str:
        """Return the boxes of an image. Raises WorkerDiedError if the image ends this worker."""
        if self.state != "running":
            raise CheckFailed(f'"{image}" was given to a worker that had {self.state} before.')
        self._workers.given.append(image)
        if self._workers.deaths.get(image):
            self._workers.deaths[image] -= 1
            self.state = "died"
            raise WorkerDiedError(f'the worker died while it had "{image}"')
        return f"boxes of {image}"

    def end(self) -> None:
        """End the process; if it has died, this does nothing."""
        if self.state == "running":
            self.state = "been ended"


def check_answer_all(answer_all: Function) -> None:
    """Check that each image is answered once, whichever worker it ends, and that no worker is left."""
    for deaths in _DEATHS:
        workers = _Workers(deaths)
        try:
            _check_answers(deaths, workers, answer_all(workers.start, list(_IMAGES)))
        except CheckFailed as failed:
            raise CheckFailed(f"{_story(deaths)} {failed}") from None
        except WorkerDiedError as error:
            raise CheckFailed(f"{_story(deaths)} Your function itself raised WorkerDiedError: {error}.") from None


def _story(deaths: Mapping[str, int]) -> str:
    ends = [f'"{image}" ends {"one worker" if n == 1 else "two workers or more"}' for image, n in deaths.items()]
    return f"The test: {' and '.join(ends) or 'no worker dies'}."


def _check_answers(deaths: Mapping[str, int], workers: _Workers, answers: Any) -> None:
    if not isinstance(answers, list) or len(answers) != len(_IMAGES):
        raise CheckFailed(f"Your function returned {answers!r} instead of a list with an answer for each of {_IMAGES}.")
    for image, answer in zip(_IMAGES, answers, strict=True):
        if (times := workers.given.count(image)) > 1 + deaths.get(image, 0) or times > 2:
            raise CheckFailed(f'"{image}" was given to a worker {times} times.')
        lost = deaths.get(image, 0) > 1
        if (lost and not isinstance(answer, WorkerDiedError)) or (not lost and answer != f"boxes of {image}"):
            raise CheckFailed(f'The answer to "{image}" was {answer!r}.')
    if left := sum(worker.state == "running" for worker in workers.started):
        raise CheckFailed(f"{left} workers were still running after your function had returned.")


_VAIN_S = 3.0  # a correct answer never waits in vain
_ENDLESS = 10**9


class _Script(NamedTuple):
    images: int
    at_once: int
    order: Sequence[int]  # of the images that are answered; the others are not
    taken: int  # results that the caller takes before it stops
    bad: int = -1  # this image fails


_SCRIPTS = (
    _Script(7, 3, (2, 0, 3, 1, 4, 6, 5), 8),
    _Script(3, 1, (0, 1, 2), 4),
    _Script(2, 5, (1, 0), 3),
    _Script(0, 2, (), 1),
    _Script(_ENDLESS, 3, (1, 0), 2),  # an endless camera, and a caller that stops early
    _Script(9, 2, (0, 1), 3, bad=1),
)


class _Cluster:
    """Answers the images of a script in its order, and checks how many are in progress."""

    def __init__(self, script: _Script) -> None:
        self.script, self.futures = script, dict[int, Future[str]]()
        self.given = 0  # results that the caller has
        self._changed, self._over, self._vain = Condition(), False, ""
        self._thread = Thread(target=self._answer)

    def __enter__(self) -> _Cluster:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        with self._changed:
            self._over = True
            self._changed.notify()
        self._thread.join()

    def camera(self) -> Iterator[int]:
        """Yield images 0, 1, 2, ..., each when it is asked for."""
        for image in range(self.script.images):
            if image > self.given + self.script.at_once:
                raise CheckFailed(f"Image {image} was taken when only {self.given} results had been yielded.")
            yield image

    def submit(self, image: int) -> Future[str]:
        """Return a future that is answered when its turn has come."""
        with self._changed:
            if self._vain or image in self.futures:
                raise CheckFailed(self._vain or f"Image {image} was submitted twice.")
            if (waiting := len(self.futures) + 1 - self.given) > self.script.at_once:
                raise CheckFailed(f"{waiting} images had been submitted whose results had not been yielded.")
            self.futures[image] = Future()
            self._changed.notify()
            return self.futures[image]

    def _answer(self) -> None:
        for image in self.script.order:
            if not self._comes(lambda image=image: image in self.futures):  # type: ignore[misc]
                return
            if image == self.script.bad:
                self.futures[image].set_exception(ValueError(f"image {image} is damaged"))
            elif self.futures[image].set_running_or_notify_cancel():
                self.futures[image].set_result(f"boxes of {image}")
        self._comes(lambda: False)

    def _comes(self, holds: Callable[[], bool]) -> bool:
        """Wait until it holds or the run is over. Otherwise the reader's function waits in vain, which ends here."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._over or holds(), _VAIN_S):
                waiting = [image for image, future in self.futures.items() if not future.done()]
                self._vain = f"Your function waited for an answer while only these images were in progress: {waiting}."
                for image in waiting:
                    self.futures[image].set_exception(CheckFailed(self._vain))
            return not self._over and not self._vain


def check_map_bounded(map_bounded: Function) -> None:
    """Check the order of the results, the bound on images in progress, and the end when the caller stops early."""
    for script in _SCRIPTS:
        try:
            _check_script(script, map_bounded)
        except CheckFailed as failed:
            images = f"{script.images} images" if script.images < _ENDLESS else "an endless camera"
            raise CheckFailed(f"The test: {images} and at_once={script.at_once}. {failed}") from None


def _check_script(script: _Script, map_bounded: Function) -> None:
    got: list[str] = []
    with _Cluster(script) as cluster:
        results = map_bounded(cluster.submit, cluster.camera(), script.at_once)
        if not hasattr(results, "close"):
            raise CheckFailed(f"A {type(results).__name__} came back; the task asks for a generator (use yield).")
        try:
            for result in islice(results, script.taken):
                got.append(result)
                cluster.given += 1
        except ValueError as error:
            got.append(str(error))
        results.close()
        left = [image for image, future in cluster.futures.items() if not future.done()]
    good = script.bad if script.bad >= 0 else min(script.images, script.taken)
    wanted = [f"boxes of {image}" for image in range(good)]
    wanted += [f"image {script.bad} is damaged"] * (script.bad >= 0)
    if got != wanted:
        raise CheckFailed(f"The results were {got} instead of {wanted}.")
    if left:
        raise CheckFailed(f"The caller had stopped, and these images were still in progress: {left}.")
