"""The exercise on clusters: keep a bounded number of images under way, and give the results in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from itertools import islice
from threading import Condition, Thread
from typing import Any, NamedTuple

from yolothreads.lessons.exercises import Exercise

_PATIENCE_S = 1.5  # a right answer never has to be waited for


class _SeenError(BaseException):
    """What was seen instead of the right thing; no `except Exception` of the reader's catches it."""


class _Script(NamedTuple):
    images: int
    at_once: int
    order: Sequence[int]  # in which the images are answered; the others are not
    taken: int  # results that the caller takes before it stops
    bad: int = -1  # this image fails


_SCRIPTS = (
    _Script(7, 3, (2, 0, 3, 1, 4, 6, 5), 8),
    _Script(3, 1, (0, 1, 2), 4),
    _Script(2, 5, (1, 0), 3),
    _Script(0, 2, (), 1),
    _Script(10**9, 3, (1, 0), 2),  # an endless camera, and a caller that has seen enough
    _Script(9, 2, (0, 1), 3, bad=1),
)


class _Cluster:
    """Answers the images of a script in its order, and looks how many are under way."""

    def __init__(self, script: _Script) -> None:
        self.script, self.futures = script, dict[int, Future[str]]()
        self.given = 0  # results that the caller has
        self._changed, self._over, self._seen = Condition(), False, ""
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
        """Images 0, 1, 2, ..., each made when it is asked for."""
        for image in range(self.script.images):
            if image > self.given + self.script.at_once:
                raise _SeenError(f"image {image} was taken when {self.given} results had been given.")
            yield image

    def submit(self, image: int) -> Future[str]:
        """A future that is answered when its turn has come."""
        with self._changed:
            if self._seen or image in self.futures:
                raise _SeenError(self._seen or f"image {image} was submitted twice.")
            if (under_way := len(self.futures) + 1 - self.given) > self.script.at_once:
                raise _SeenError(f"{under_way} images had been submitted whose results had not been given.")
            self.futures[image] = Future()
            self._changed.notify()
            return self.futures[image]

    def _answer(self) -> None:
        for image in self.script.order:
            if not self._is_so(lambda image=image: image in self.futures):  # type: ignore[misc]
                return
            if image == self.script.bad:
                self.futures[image].set_exception(ValueError(f"image {image} is damaged"))
            elif self.futures[image].set_running_or_notify_cancel():
                self.futures[image].set_result(f"boxes of {image}")
        self._is_so(lambda: False)

    def _is_so(self, holds: Callable[[], bool]) -> bool:
        """Wait until it holds or all is over; if neither comes, the function waits in vain, and is told so."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._over or holds(), _PATIENCE_S):
                waiting = [image for image, future in self.futures.items() if not future.done()]
                self._seen = f"it waited for an answer while only these images were under way: {waiting}."
                for image in waiting:
                    self.futures[image].set_exception(_SeenError(self._seen))
            return not self._over and not self._seen


def see_map_bounded(map_bounded: Callable[..., Any]) -> str | None:
    """Whether results come in order, as many images as allowed are under way, and none when the caller stops."""
    for script in _SCRIPTS:
        how_many = f"{script.images} images" if script.images < 10**9 else "an endless camera"
        try:
            _see(script, map_bounded)
        except _SeenError as seen:
            return f"With {how_many} and at_once={script.at_once}, {seen}"
    return None


def _see(script: _Script, map_bounded: Callable[..., Any]) -> None:
    got: list[str] = []
    with _Cluster(script) as cluster:
        results = map_bounded(cluster.submit, cluster.camera(), script.at_once)
        if not hasattr(results, "close"):
            raise _SeenError(f"{type(results).__name__} came back; a generator was asked for (use yield).")
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
        raise _SeenError(f"{got} came instead of {wanted}.")
    if left:
        raise _SeenError(f"the caller had stopped, and these images were still under way: {left}.")


_STARTER = (
    "def map_bounded(submit, images, at_once):\n"
    "    futures = [submit(image) for image in images]\n"
    "    for future in futures:\n"
    "        yield future.result()\n"
)
_HEAD = "from collections import deque\n\n\n"
_ANSWER = (
    "def map_bounded(submit, images, at_once):\n"
    "    under_way = deque()\n"
    "    try:\n"
    "        for image in images:\n"
    "            under_way.append(submit(image))\n"
    "            if len(under_way) == at_once:\n"
    "                yield under_way.popleft().result()\n"
    "        while under_way:\n"
    "            yield under_way.popleft().result()\n"
    "    finally:\n"
    "        for future in under_way:\n"
    "            future.cancel()\n"
)

EXERCISES = (
    Exercise(
        name="map_bounded",
        starter=_STARTER,
        answer=_HEAD + _ANSWER,
        hints=(
            "Keep the futures under way in a collections.deque: append on the right, popleft the oldest one.",
            "Submit one image at a time; as soon as at_once are under way, yield the result of the oldest.",
            "A caller that stops ends your generator at its yield: cancel in a `finally` what is still under way.",
        ),
        see=see_map_bounded,
        also_right=(
            "def map_bounded(submit, images, at_once):\n"
            "    under_way = []\n"
            "    try:\n"
            "        for image in images:\n"
            "            if len(under_way) == at_once:\n"
            "                yield under_way.pop(0).result()\n"
            "            under_way.append(submit(image))\n"
            "        yield from (future.result() for future in under_way)\n"
            "    finally:\n"
            "        [future.cancel() for future in under_way]\n",
            "from concurrent.futures import wait\n"
            + _HEAD
            + _ANSWER.replace(
                "            if len(under_way) == at_once:\n",
                "            if len(under_way) == at_once:\n                wait([under_way[0]])\n",
            ),
        ),
        wrong=(
            _HEAD + _ANSWER.replace("== at_once", "> at_once"),
            _HEAD + _ANSWER.replace("== at_once", "== 1"),
            _HEAD + _ANSWER.replace("popleft", "pop"),
            _HEAD + _ANSWER.replace("while under_way", "while False"),
            _HEAD + _ANSWER.replace("future.cancel()", "pass"),
            _HEAD + _ANSWER.replace("future.cancel()", "future.result()"),
            _HEAD + _ANSWER.replace("in images:", "in list(images):"),
            _HEAD + _ANSWER.replace("    finally:", "    except ValueError:\n        pass\n    finally:"),
            "def map_bounded(submit, images, at_once):\n    return [submit(image).result() for image in images]\n",
            "from concurrent.futures import as_completed\nfrom itertools import islice\n"
            "def map_bounded(submit, images, at_once):\n"
            "    while futures := [submit(image) for image in islice(images, at_once)]:\n"
            "        yield from (future.result() for future in as_completed(futures))\n",
            "from itertools import islice\n"
            "def map_bounded(submit, images, at_once):\n"
            "    while futures := [submit(image) for image in islice(images, at_once)]:\n"
            "        yield from (future.result() for future in futures)\n",
        ),
    ),
)
