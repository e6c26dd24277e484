"""The exercise on worker processes: replace one that died, and do its image again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from yolothreads.errors import WorkerDiedError
from yolothreads.lessons.exercises import Exercise

_STARTS = 20  # more than any right answer needs


class _SeenError(BaseException):
    """What was seen instead of the right thing; no `except Exception` of the reader's catches it."""


class _Office:
    """Starts stand-ins for worker processes, and keeps a record of what becomes of them and of the images."""

    def __init__(self, deaths: Mapping[str, int]) -> None:
        self.deaths = dict(deaths)  # how many workers an image still ends
        self.staff: list[_Worker] = []
        self.given: list[str] = []

    def start(self) -> _Worker:
        """Start one more worker."""
        if len(self.staff) == _STARTS:
            raise _SeenError(f"{_STARTS} workers had been started, and it went on; some images end every worker.")
        self.staff.append(_Worker(self))
        return self.staff[-1]


class _Worker:
    """Detects in an image, or dies of it; once dead, it stays so."""

    def __init__(self, office: _Office) -> None:
        self._office = office
        self.state = "at work"

    def detect(self, image: str) -> str:
        """The boxes of an image. Raises WorkerDiedError if this worker dies of it, or is dead already."""
        if self.state != "at work":
            how = {"dead": "died", "ended": "been ended"}[self.state]
            raise _SeenError(f'"{image}" was given to a worker that had {how} before.')
        self._office.given.append(image)
        if self._office.deaths.get(image):
            self._office.deaths[image] -= 1
            self.state = "dead"
            raise WorkerDiedError(f'the worker died while it had "{image}"')
        return f"boxes of {image}"

    def end(self) -> None:
        """End the process; for one that has died, this does nothing."""
        if self.state == "at work":
            self.state = "ended"


_SCRIPTS: tuple[Mapping[str, int], ...] = (
    {},
    {"b": 1},
    {"a": 1, "d": 1},  # the first and the last
    {"b": 1, "c": 1},  # a death right after a death
    {"c": 2},
    {"b": 99, "d": 99},
)


def see_answer_all(answer_all: Callable[..., Any]) -> str | None:
    """Whether each image is answered once, whoever dies of it, and no worker is left."""
    for script in _SCRIPTS:
        office = _Office(script)
        try:
            _see_answers(script, office, answer_all(office.start, ["a", "b", "c", "d"]))
        except _SeenError as seen:
            return f"{_told(script)}, {seen}"
        except WorkerDiedError as error:
            return f"{_told(script)}, your function itself raised WorkerDiedError: {error}."
    return None


def _told(script: Mapping[str, int]) -> str:
    ends = [f'"{image}" ends {"one worker" if n == 1 else "two workers or more"}' for image, n in script.items()]
    return f"When {' and '.join(ends) or 'no worker dies'}"


def _see_answers(script: Mapping[str, int], office: _Office, answers: Any) -> None:
    images = ["a", "b", "c", "d"]
    if not isinstance(answers, list) or len(answers) != len(images):
        raise _SeenError(f"{answers!r} came back; a list with an answer for each of {images} was asked for.")
    for image, answer in zip(images, answers, strict=True):
        if (times := office.given.count(image)) > 1 + script.get(image, 0) or times > 2:
            raise _SeenError(f'"{image}" was given to a worker {times} times.')
        lost = script.get(image, 0) > 1
        if (lost and not isinstance(answer, WorkerDiedError)) or (not lost and answer != f"boxes of {image}"):
            raise _SeenError(f'the answer to "{image}" was {answer!r}.')
    if left := sum(worker.state == "at work" for worker in office.staff):
        raise _SeenError(f"workers still running after your function had returned: {left}.")


_STARTER = (
    "def answer_all(start, images):\n"
    "    worker = start()\n"
    "    return [worker.detect(image) for image in images]\n"
)  # fmt: skip
_HEAD = "from yolothreads.errors import WorkerDiedError\n\n\n"
_ANSWER = (
    "def answer_all(start, images):\n"
    "    worker, answers = start(), []\n"
    "    for image in images:\n"
    "        for _ in range(2):\n"
    "            try:\n"
    "                answer = worker.detect(image)\n"
    "                break\n"
    "            except WorkerDiedError as error:\n"
    "                answer = error\n"
    "                worker = start()\n"
    "        answers.append(answer)\n"
    "    worker.end()\n"
    "    return answers\n"
)

EXERCISES = (
    Exercise(
        name="answer_all",
        starter=_STARTER,
        answer=_HEAD + _ANSWER,
        hints=(
            "Catch WorkerDiedError around detect, start a new worker, and ask it for the same image.",
            "Count the tries of each image: after the second death, the exception is the image's answer.",
            "Whoever starts a worker ends it: call worker.end() when all images have their answers.",
        ),
        see=see_answer_all,
        also_right=(
            _HEAD + "def answer_all(start, images):\n"
            "    def attempt(image):\n"
            "        worker = start()\n"
            "        try:\n"
            "            return worker.detect(image)\n"
            "        finally:\n"
            "            worker.end()\n"
            "    def answer(image):\n"
            "        try:\n"
            "            return attempt(image)\n"
            "        except WorkerDiedError:\n"
            "            try:\n"
            "                return attempt(image)\n"
            "            except WorkerDiedError as error:\n"
            "                return error\n"
            "    return [answer(image) for image in images]\n",
        ),
        wrong=(
            _HEAD + _ANSWER.replace("range(2)", "range(3)"),
            _HEAD + _ANSWER.replace("range(2)", "iter(int, 1)"),
            _HEAD + _ANSWER.replace("range(2)", "range(1)"),
            _HEAD + _ANSWER.replace("                worker = start()\n", ""),
            _HEAD + _ANSWER.replace("    worker.end()\n", ""),
            _HEAD + _ANSWER.replace("answer = error", "answer = None"),
            _HEAD + _ANSWER.replace("                break\n", ""),
            _HEAD + "def answer_all(start, images):\n"
            "    for _ in range(9):\n"
            "        worker = start()\n"
            "        try:\n"
            "            return [worker.detect(image) for image in images]\n"
            "        except WorkerDiedError:\n"
            "            pass\n"
            "        finally:\n"
            "            worker.end()\n",
        ),
    ),
)
