"""Exercises on workers that do the work of others, in processes, threads and clusters: lessons 07 to 09."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from itertools import islice
from queue import Full
from typing import Any, NamedTuple

from yolothreads.errors import WorkerDiedError
from yolothreads.lessons.exercises.threads import CheckFailed, Function, require

_ANSWER_S = 3.0  # for what a correct function does at once
_WATCH_S = 0.1  # how long close() is watched where it must not return
_VAIN_S = 3.0  # a correct answer never waits in vain


@contextmanager
def _case(story: str) -> Iterator[None]:
    """Prefix the message of a check that fails in this block with a description of the test."""
    try:
        yield
    except CheckFailed as failed:
        raise CheckFailed(f"The test: {story} {failed}") from None


# Lesson 07: workers that die

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


class _Worker:
    """A stand-in for a worker process, which detects in images until one of them ends it.

    Args:
        deaths: for each image, how many workers it will still end.
        given: all images that were given to any worker.
    """

    def __init__(self, deaths: dict[str, int], given: list[str]) -> None:
        self._deaths, self._given = deaths, given  # for all workers
        self.state = "running"

    def detect(self, image: str) -> str:
        """Return the boxes of an image. Raises WorkerDiedError if the image ends this worker."""
        require(self.state == "running", f'"{image}" was given to a worker that had {self.state} before.')
        self._given.append(image)
        if self._deaths.get(image):
            self._deaths[image] -= 1
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
        ends = [f'"{image}" ends {"one worker" if n == 1 else "two workers or more"}' for image, n in deaths.items()]
        with _case(f"{' and '.join(ends) or 'no worker dies'}."):
            _check_deaths(deaths, answer_all)


def _check_deaths(deaths: Mapping[str, int], answer_all: Function) -> None:
    started, left, given = list[_Worker](), dict(deaths), list[str]()

    def start() -> _Worker:
        too_many = f"Your function started more than {_MOST_STARTS} workers; some images end every worker."
        require(len(started) < _MOST_STARTS, too_many)
        started.append(_Worker(left, given))
        return started[-1]

    try:
        answers = answer_all(start, list(_IMAGES))
    except WorkerDiedError as error:
        raise CheckFailed(f"Your function itself raised WorkerDiedError: {error}.") from None
    if not isinstance(answers, list) or len(answers) != len(_IMAGES):
        raise CheckFailed(f"Your function returned {answers!r} instead of a list with an answer for each of {_IMAGES}.")
    for image, answer in zip(_IMAGES, answers, strict=True):
        deadly, times = deaths.get(image, 0), given.count(image)
        require(times <= min(1 + deadly, 2), f'"{image}" was given to a worker {times} times.')
        right = isinstance(answer, WorkerDiedError) if deadly > 1 else answer == f"boxes of {image}"
        require(right, f'The answer to "{image}" was {answer!r}.')
    running = sum(worker.state == "running" for worker in started)
    require(not running, f"{running} workers were still running after your function had returned.")


# Lesson 08: a bounded queue in front of one worker thread

_BAD = 13


class _HeldWork:
    """Work that doubles an item and refuses `_BAD`. It begins one item at a time, and each waits until it is let go."""

    def __init__(self) -> None:
        self.begun, self._go = threading.Semaphore(0), threading.Semaphore(0)
        self.let_go = self._go.release  # takes the number of items that may finish

    def __call__(self, item: int) -> int:
        self.begun.release()
        self._go.acquire(timeout=2 * _ANSWER_S)
        if item == _BAD:
            raise ValueError(f"{item} is refused")
        return 2 * item


class _Call(threading.Thread):
    """A call in its own daemon thread, so that a call that hangs does not hang the reader's notebook."""

    def __init__(self, function: Function, *args: Any) -> None:
        super().__init__(daemon=True)
        self._text = f"{function.__name__}({', '.join(map(str, args))})"
        self._call, self._future = partial(function, *args), Future[Any]()
        self.start()

    def run(self) -> None:
        """Make the call."""
        try:
            self._future.set_result(self._call())
        except Exception as error:
            self._future.set_exception(error)

    def result(self) -> Any:
        """Return or raise what the call returned or raised."""
        self.join(_ANSWER_S)
        require(not self.is_alive(), f"{self._text} had not returned after {_ANSWER_S:g} s.")
        return self._future.result()


def check_serve(serve: Function) -> None:
    """Check that a full queue refuses, a failing item fails alone, and closing finishes the items that wait."""
    before, died, hook = set(threading.enumerate()), list[str](), threading.excepthook
    threading.excepthook = lambda args: died.append(args.exc_type.__name__)
    try:
        for check in (_check_full_and_failing, _check_closing):
            work = _HeldWork()
            submit, close = _Call(serve, work, 2).result()
            try:
                futures = _submit_three(work, submit)
                check(work, submit, close, futures)
            except BaseException:
                work.let_go(99)
                _Call(close).join(_ANSWER_S)
                raise
    except CheckFailed as failed:
        if died:
            raise CheckFailed(f"{failed} The worker's thread had ended with a {died[0]}.") from None
        raise
    finally:
        threading.excepthook = hook
    left = len(set(threading.enumerate()) - before)
    require(not left, f"{left} threads were still running after close().")


def _submit_three(work: _HeldWork, submit: Function) -> dict[int, Any]:
    """Submit item 0, which the worker begins, then `_BAD` and 2, which wait; return the future of each."""
    futures = {0: _Call(submit, 0).result()}
    require(work.begun.acquire(timeout=_ANSWER_S), "The work on the first item did not begin.")
    for waiting, item in enumerate((_BAD, 2)):
        try:
            futures[item] = _Call(submit, item).result()
        except Full:
            raise CheckFailed(f"There was room for 2 items, {waiting} waited, and submit raised Full.") from None
    return futures


def _check_futures(futures: dict[int, Any]) -> None:
    for item, future in futures.items():
        try:
            error = future.exception(_ANSWER_S)
        except TimeoutError:
            raise CheckFailed(f"After items {[*futures]} were submitted, no answer to item {item} came.") from None
        got = repr(error or future.result())
        wanted = repr(ValueError(f"{_BAD} is refused") if item == _BAD else 2 * item)
        require(got == wanted, f"The future of item {item} had {got} instead of {wanted}.")


def _check_full_and_failing(work: _HeldWork, submit: Function, close: Function, futures: dict[int, Any]) -> None:
    try:
        _Call(submit, 3).result()
    except Full:
        work.let_go(99)
    else:
        raise CheckFailed("There was room for 2 items, 2 waited, and a third one was accepted all the same.")
    _check_futures(futures)
    _Call(close).result()


def _check_closing(work: _HeldWork, submit: Function, close: Function, futures: dict[int, Any]) -> None:
    call = _Call(close)
    for begun in range(2):
        work.let_go(1)
        too_few = f"2 items waited when close() was called, but the work on only {begun} of them began."
        require(work.begun.acquire(timeout=_ANSWER_S), too_few)
    call.join(_WATCH_S)
    if not call.is_alive():
        call.result()
        raise CheckFailed("close() returned while the worker still had an item.")
    work.let_go(99)
    call.result()
    _check_futures(futures)


# Lesson 09: many images in progress at a time

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
        self._changed, self._over, self._vain = threading.Condition(), False, ""

    def close(self) -> None:
        """Let `answer` return."""
        with self._changed:
            self._over = True
            self._changed.notify()

    def camera(self) -> Iterator[int]:
        """Yield images 0, 1, 2, ..., each when it is asked for."""
        for image in range(self.script.images):
            too_early = f"Image {image} was taken when only {self.given} results had been yielded."
            require(image <= self.given + self.script.at_once, too_early)
            yield image

    def submit(self, image: int) -> Future[str]:
        """Return a future that is answered when its turn has come."""
        with self._changed:
            again = f"Image {image} was submitted twice."
            require(not self._vain and image not in self.futures, self._vain or again)
            waiting = len(self.futures) + 1 - self.given
            too_many = f"{waiting} images had been submitted whose results had not been yielded."
            require(waiting <= self.script.at_once, too_many)
            self.futures[image] = Future()
            self._changed.notify()
            return self.futures[image]

    def open_images(self) -> list[int]:
        """Return the images that have no answer yet."""
        return [image for image, future in self.futures.items() if not future.done()]

    def answer(self) -> None:
        """Answer one image of the script after another, and wait for the end of the run."""
        for image in self.script.order:
            if not self._comes(image):
                return
            if image == self.script.bad:
                self.futures[image].set_exception(ValueError(f"image {image} is damaged"))
            elif self.futures[image].set_running_or_notify_cancel():
                self.futures[image].set_result(f"boxes of {image}")
        self._comes(_ENDLESS)

    def _comes(self, image: int) -> bool:
        """Wait for an image or the end of the run. Otherwise the reader's function waits in vain, which ends here."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._over or image in self.futures, _VAIN_S):
                waiting = self.open_images()
                self._vain = f"Your function waited for an answer while only these images were in progress: {waiting}."
                for waits in waiting:
                    self.futures[waits].set_exception(CheckFailed(self._vain))
            return not self._over and not self._vain


def check_map_bounded(map_bounded: Function) -> None:
    """Check the order of the results, the bound on images in progress, and the end when the caller stops early."""
    for script in _SCRIPTS:
        images = f"{script.images} images" if script.images < _ENDLESS else "an endless camera"
        with _case(f"{images} and at_once={script.at_once}."):
            _check_script(script, map_bounded)


def _check_script(script: _Script, map_bounded: Function) -> None:
    got: list[str] = []
    with ThreadPoolExecutor(1) as answering, closing(_Cluster(script)) as cluster:
        answering.submit(cluster.answer)
        results = map_bounded(cluster.submit, cluster.camera(), script.at_once)
        kind = type(results).__name__
        require(hasattr(results, "close"), f"A {kind} came back; the task asks for a generator (use yield).")
        try:
            for result in islice(results, script.taken):
                got.append(result)
                cluster.given += 1
        except ValueError as error:
            got.append(str(error))
        results.close()
        left = cluster.open_images()
    good = script.bad if script.bad >= 0 else min(script.images, script.taken)
    wanted = [f"boxes of {image}" for image in range(good)]
    wanted += [f"image {script.bad} is damaged"] * (script.bad >= 0)
    require(got == wanted, f"The results were {got} instead of {wanted}.")
    require(not left, f"The caller had stopped, and these images were still in progress: {left}.")
