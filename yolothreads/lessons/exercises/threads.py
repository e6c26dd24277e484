"""Exercises on results, on what threads may share, on cameras, pools and caches: lessons 00 to 06 and 10 to 12.

A check calls the reader's function, and raises `CheckFailed` where it sees something wrong.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np

from yolothreads.errors import ExploreError
from yolothreads.races import RIGHT, WRONG, Trial, explore

if TYPE_CHECKING:
    import torch

Function = Callable[..., Any]

_MEET_S = 3.0  # time for the threads of a correct answer to meet
_SEARCH_S = 60.0  # a correct answer takes a tenth of a second
_ENOUGH_S = 2.0  # then a search that has found something wrong may end


class CheckFailed(BaseException):
    """Says what a check saw instead of the right thing, in whole sentences.

    It is not an `Exception`, so that an `except Exception` in the reader's code does not catch it.
    """


def require(holds: object, otherwise: str) -> None:
    """Raise CheckFailed with this message unless the condition holds."""
    if not holds:
        raise CheckFailed(otherwise)


# Lessons 00 and 01: results and threads


def check_count_objects(count_objects: Function) -> None:
    """Check that the function counts the objects of one class, also in a result without objects."""
    from ultralytics.engine.results import Results

    rows = [(0, 0, 9, 9, 0.9, 1), (5, 5, 20, 20, 0.8, 0), (30, 5, 40, 20, 0.7, 1)]
    given = {"orig_img": np.zeros((64, 64, 3), np.uint8), "path": "", "names": {0: "disc", 1: "star"}}
    result = Results(**given, boxes=np.array(rows, np.float32))
    empty = Results(**given, boxes=np.zeros((0, 6), np.float32))
    for shown, name, right in ((result, "star", 2), (result, "disc", 1), (empty, "star", 0)):
        got = count_objects(shown, name)
        require(got == right, f'For {right} objects of the class "{name}", your function returned {got!r}.')


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
    left = ", ".join(t.name for t in set(threading.enumerate()) - before if t.is_alive())
    require(not left, f"These threads were still running when your function returned: {left}.")
    require(got == [1, 4, 9], f"For the squares of [1, 2, 3], your function returned {got!r}.")


# Lessons 02, 04 and 05: a shared model, under every schedule


class _KeepsConf:
    """The smallest model that a switch can break: it keeps `conf` on itself, as YOLO keeps the arguments of a call."""

    def predict(self, image: int, conf: float = 0.25) -> tuple[int, float]:
        """Return the image and the `conf` that was really used for it."""
        self.conf = conf
        return self._run(image)

    def _run(self, image: int) -> tuple[int, float]:
        return image, self.conf

    def stream(self, image: int, conf: float = 0.25) -> Iterator[tuple[int, float]]:
        """Yield three results of an image, each made when it is taken, as with `stream=True`."""
        self.conf = conf
        return self._parts(image)

    def _parts(self, image: int) -> Iterator[tuple[int, float]]:
        for part in range(3):
            yield 10 * image + part, self.conf


_CALLS = ((1, 0.25), (2, 0.75))  # image and conf of two calls at once


def _explore(
    function: Function,
    *bodies: Callable[..., Any],
    setup: Callable[[], Any],
    used: type = _KeepsConf,
    observe: Callable[[Any], Any] | None = None,
    observed: str = "",
) -> None:
    """Run the bodies under every schedule with up to two preemptions; raise CheckFailed if any of them goes wrong.

    Args:
        function: the reader's function.
        *bodies: functions of the state.
        setup: makes the state.
        used: the class of the stand-in, whose lines are switch points, too.
        observe: state -> value, which is compared with the results of the bodies.
        observed: one sentence that says what that value is.
    """
    begin, wrong = monotonic(), list[Trial]()
    try:
        found = explore(
            *bodies, setup=setup, watch=[function, used], preemptions=2, budget_s=_SEARCH_S, max_steps=1000,
            observe=observe,
            on_trial=lambda trial: None if trial.kind == RIGHT else wrong.append(trial),
            stop=lambda: bool(wrong) and monotonic() - begin > _ENOUGH_S,
        )  # fmt: skip
    except ExploreError as error:
        raise CheckFailed(f"Your function could not be explored. {error}") from None
    if found.safe:
        return
    if not found.forbidden:
        raise CheckFailed(found.verdict)
    bad = found.forbidden[0]
    detail = bad.detail.partition("\n")[0].removesuffix(".")
    if bad.kind == WRONG and observe is not None:
        detail = f'With a switch just before "{bad.where.text}", the threads {detail}. {observed}'.removesuffix(".")
    elif bad.kind == WRONG:
        one, other = bad.results
        detail = f'With a switch just before "{bad.where.text}", the threads got {one!r} and {other!r}'
    count = sum(trial.kind == bad.kind for trial in found.forbidden)
    raise CheckFailed(f"{count} of {found.schedules} schedules ended with: {bad.kind}. {detail}.")


def _check_call(image: int, conf: float, got: Any) -> None:
    require(got == (image, conf), f"The call for image {image} with conf={conf} was answered with {got!r}.")


def check_make_detector(make_detector: Function) -> None:
    """Check that two calls are each answered with their own `conf`, under every schedule."""
    answers: dict[tuple[int, float], Any] = {}

    def call(image: int, conf: float, detect: Function) -> Any:
        answers[image, conf] = detect(image, conf)
        return answers[image, conf]

    _explore(make_detector, *(partial(call, *asked) for asked in _CALLS), setup=lambda: make_detector(_KeepsConf))
    for asked in _CALLS:
        _check_call(*asked, answers.get(asked))


def check_make_worker(make_worker: Function) -> None:
    """Check that two threads load one model each and are answered by it, under every schedule."""
    runs: list[list[_KeepsConf]] = []

    def setup() -> Any:
        made: list[_KeepsConf] = []
        runs.append(made)

        def load() -> _KeepsConf:
            made.append(_KeepsConf())
            return made[-1]

        return make_worker(load)

    def call(images: tuple[int, int], conf: float, detect: Function) -> list[Any]:
        return [detect(image, conf) for image in images]

    _explore(make_worker, partial(call, (1, 2), 0.25), partial(call, (3, 4), 0.75), setup=setup)
    _check_call(1, 0.25, make_worker(_KeepsConf)(1, 0.25))
    if loads := {len(made) for made in runs} - {2}:
        raise CheckFailed(f"2 threads that did 2 images each loaded {max(loads)} model{'s' * (max(loads) != 1)}.")


def check_detect_all(detect_all: Function) -> None:
    """Check that two callers get lists of all their own results, under every schedule."""
    kinds: set[str] = set()

    def call(image: int, conf: float, model: _KeepsConf) -> list[Any]:
        got = detect_all(model, image, conf)
        kinds.add(type(got).__name__)
        return list(got)

    _explore(detect_all, *(partial(call, *asked) for asked in _CALLS), setup=_KeepsConf)
    for image, conf in _CALLS:
        model = _KeepsConf()
        got, wanted = list(detect_all(model, image, conf)), list(model.stream(image, conf))
        require(got == wanted, f"The results of image {image} with conf={conf} were {got!r} instead of {wanted!r}.")
    require(kinds == {"list"}, f"The results came as a {', '.join(sorted(kinds))}; the task asks for a list.")


# Lesson 03: folders


def check_save_to(save_to: Function) -> None:
    """Check that four workers save to four places inside the folder."""
    distinct = set()
    for worker in range(4):
        place = save_to("runs", worker)
        if not isinstance(place, dict) or set(place) - {"project", "name", "exist_ok"}:
            raise CheckFailed(f"Worker {worker} got {place!r} instead of a dict with the settings project and name.")
        project = place.get("project")
        elsewhere = f"Worker {worker} saves in the project {project!r}, not in the folder that it was given."
        require(str(project).startswith("runs"), elsewhere)
        distinct.add((str(project), str(place.get("name"))))
    require(len(distinct) == 4, f"The four workers save to only {len(distinct)} different places.")


# Lesson 06: weights that are shared, and state that is not


def _network() -> torch.nn.Sequential:
    """Return a small network with weights and buffers, whose last layer caches, as the head of YOLO does."""
    import torch

    class Head(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(6, 2)
            self.shape: Any = None
            self.met: list[Any] = []

        def forward(self, features: torch.Tensor) -> torch.Tensor:
            if self.shape != features.shape:
                self.grid, self.shape = torch.arange(float(len(features)))[:, None], features.shape
                self.met.append(features.shape)
            out: torch.Tensor = self.linear(features) + self.grid
            return out

    layers: list[torch.nn.Module] = [torch.nn.Linear(4, 6), torch.nn.BatchNorm1d(6), Head()]
    return torch.nn.Sequential(*layers).eval()


def check_make_replica(make_replica: Function) -> None:
    """Check that a replica has the network's own tensors, a head of its own, and the same output."""
    import torch

    network, given = _network(), torch.linspace(-1, 1, 12).reshape(3, 4)
    with torch.no_grad():
        wanted, before = network(given), _addresses(network)
        replica = make_replica(network)
        kind, right = type(replica).__name__, type(network).__name__
        require(type(replica) is type(network), f"Your function returned a {kind} for a {right}.")
        require(_addresses(network) == before, "The tensors of the given network were replaced.")
        theirs = _addresses(replica)
        if apart := [name for name in before if theirs.get(name) != before[name]]:
            raise CheckFailed(f"{len(apart)} of {len(before)} tensors are not shared, for example {apart[-1]}.")
        _check_caches(network, replica, given)
        require(torch.equal(replica(given), wanted), "The replica gave another output than the network.")


def _addresses(network: torch.nn.Module) -> dict[str, int]:
    """Return the memory address of every parameter and buffer."""
    parameters = {f'the parameter "{name}"': tensor.data_ptr() for name, tensor in network.named_parameters()}
    return parameters | {f'the buffer "{name}"': tensor.data_ptr() for name, tensor in network.named_buffers()}


def _check_caches(network: Any, replica: Any, given: torch.Tensor) -> None:
    """Check that the use of each of the two changes nothing in the head of the other."""
    import torch

    pair = {"network": network, "replica": replica}
    for rows, used, other in ((2, "replica", "network"), (3, "network", "replica")):
        head = pair[other][-1]
        before = head.shape, len(head.met)
        pair[used](torch.cat([given] * rows))  # a shape that neither has met
        unchanged = (head.shape, len(head.met)) == before
        require(unchanged, f"Using the {used} changed what the head of the {other} keeps.")


# Lessons 10 and 11: cameras, and the choice of a pool

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
        require(got == right, f"For {film}, your function counted {got!r} switches. The frames were {frames}.")


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
            got, pools = choose([dict(row) for row in rows], memory_mb), ", ".join(row["pool"] for row in rows)
            require(got == right, f"With {memory_mb} MB to spare, your function chose {got!r} from {pools}.")
    got = choose([], 100)
    require(got is None, f"Without any rows, your function returned {got!r}.")


# Lesson 12: a cache that threads fill


class _Compute:
    """Work that is done for a key. It notes each key it is asked for, and fails for a key of which it knows nothing."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.values, self.asked = values, list[str]()

    def __call__(self, key: str) -> Any:
        self.asked.append(key)
        if key not in self.values:
            raise LookupError(f"nothing is known of {key}")
        return self.values[key]


class _Cached:
    """A cache of the reader's around such work."""

    def __init__(self, make_cache: Function, values: dict[str, Any]) -> None:
        self.compute = _Compute(values)
        self.get = make_cache(self.compute)

    def ask(self, keys: tuple[str, ...]) -> list[Any]:
        """Return the answer for each key; for one that fails, the error in words."""
        answers: list[Any] = []
        for key in keys:
            try:
                answers.append(self.get(key))
            except LookupError as error:
                answers.append(str(error))
        return answers


def check_make_cache(make_cache: Function) -> None:
    """Check that each key is computed once, under every schedule, and that an error is neither hidden nor kept.

    The keys and their values are drawn anew in each check; one of the values is false in a condition.
    """
    one, two, bad = (f"picture {n}" for n in random.sample(range(100, 1000), 3))
    values = {one: random.choice([None, 0, False, ""]), two: random.randrange(2, 100)}
    unknown = f"nothing is known of {bad}"
    for first, second in (((one, two), (one,)), ((bad,), (one,))):
        _explore(
            make_cache, *(partial(_ask, keys) for keys in (first, second)), setup=partial(_Cached, make_cache, values),
            used=_Compute, observe=lambda cached: sorted(cached.compute.asked),
            observed="The last of the three lists has the keys that were computed.",
        )  # fmt: skip
    for keys, wanted, computed in (
        ((one, two, one, two), [values[one], values[two]] * 2, [one, two]),
        ((bad, one, bad), [unknown, values[one], unknown], [bad, one, bad]),
    ):
        cached = _Cached(make_cache, values)
        got = cached.ask(keys)
        require(got == wanted, f"Asked for {list(keys)}, your cache answered {got!r} instead of {wanted!r}.")
        asked = cached.compute.asked
        require(asked == computed, f"Asked for {list(keys)}, your cache computed {asked} instead of {computed}.")


def _ask(keys: tuple[str, ...], cached: _Cached) -> list[Any]:
    return cached.ask(keys)
