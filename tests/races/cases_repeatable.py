"""Programs whose outcomes differ from run to run. Runs on Python 3.11 and newer."""

from __future__ import annotations

import itertools
import random
import threading
from types import SimpleNamespace
from typing import Any

from cases import Cases, bad

from yolothreads.errors import ExploreError
from yolothreads.races import explore

CASES = Cases()


def refused(*bodies: Any, **options: Any) -> bool:
    """Return whether an exploration ends with the error that the results are not repeatable."""
    try:
        explore(*bodies, **options)
    except ExploreError as error:
        return "not repeatable" in str(error) and "random.seed(0)" in str(error) and "same=" in str(error)
    return False


def heads() -> bool:
    return random.random() < 0.5


def one() -> int:
    ran = [1]
    return len(ran)


@CASES.gives([True] * 8)
def a_random_result() -> Any:
    return [refused(heads, heads) for _ in range(8)]


@CASES.gives([True] * 8)
def a_random_result_of_one_body() -> Any:
    return [refused(heads, one) for _ in range(8)]


@CASES.gives(True)
def a_result_that_is_another_one_once_in_a_while() -> Any:
    calls = itertools.count()

    def body() -> int:
        n = next(calls)
        return int(n == 13)

    return refused(body, body, watch=[body])


@CASES.gives(True)
def a_random_observation() -> Any:
    return refused(heads, heads, observe=lambda: random.random(), same=lambda a, b: a == b)


@CASES.gives(True)
def a_random_number_in_a_message() -> Any:
    def fail() -> None:
        raise ValueError(f"no file /tmp/{random.random()}")

    return refused(fail, fail, watch=[fail])


@CASES.gives([])
def a_seeded_random_result() -> Any:
    def setup() -> random.Random:
        return random.Random(0)

    def draw(chance: random.Random) -> float:
        return chance.random()

    found = explore(draw, draw, setup=setup)
    assert found.safe
    return bad(found)


@CASES.gives([])
def an_address_in_a_message() -> Any:
    def fail() -> None:
        thing = object()
        raise ValueError(f"{thing} cannot be used")

    found = explore(fail, fail, watch=[fail])
    assert found.safe
    return bad(found)


@CASES.gives([])
def an_exception_of_a_class_that_each_call_makes() -> Any:
    def fail() -> None:
        class LocalError(Exception):
            pass

        raise LocalError

    found = explore(fail, fail, watch=[fail])
    assert found.safe
    return bad(found)


class Head:
    """Keeps the shape of the last picture, and makes its anchors anew when the shape is another one."""

    def __init__(self) -> None:
        self.shape, self.anchors = 0, 0

    def detect(self, shape: int) -> int:
        if self.shape != shape:
            self.anchors = 10 * shape
            self.shape = shape
        return shape

    def forget(self) -> None:
        self.shape = self.anchors = 0


def wide(head: Head) -> int:
    return head.detect(2)


def tall(head: Head) -> int:
    return head.detect(1)


@CASES.gives([True, True, True])
def a_shared_model_that_remembers_the_last_shape() -> Any:
    """The last body of a run may leave another shape behind, so the next run goes another way."""
    shared = Head()
    found = explore(wide, tall, setup=lambda: shared, watch=[Head.detect])
    notes = " ".join(found.notes)
    told = "The state changed between runs" in notes and "restore=" in notes and "in detect:" in notes
    cured = explore(wide, tall, setup=Head, watch=[Head.detect])
    restored = explore(wide, tall, setup=Head, restore=Head.forget, watch=[Head.detect])
    return [told and not found.safe and not found.exhausted, cured.exhausted, restored.exhausted]


@CASES.gives([[], True])
def a_race_that_can_be_repeated() -> Any:
    def bump(s: Any) -> None:
        n = s.n
        s.n = n + 1

    found = explore(bump, bump, setup=lambda: SimpleNamespace(n=0), observe=lambda s: s.n)
    return [list(found.notes), bool(found.forbidden)]


@CASES.gives([])
def names_of_threads_in_a_list() -> Any:
    """Equal bodies are told apart by the names of their threads, so all six orders are right, and are run if needed."""

    def body(s: Any) -> None:
        s.names.append(threading.current_thread().name)

    setup, observe = (lambda: SimpleNamespace(names=[])), (lambda s: list(s.names))
    found = explore(body, body, body, setup=setup, observe=observe, watch=[body])
    assert found.safe
    return bad(found)


if __name__ == "__main__":
    CASES.main()
