"""What a pool does with workers that die, tried with workers that are none: each dies where the test says."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fakes import WAIT_S, FakeModels, WorkerHere, picture, tag_of

from yolothreads import trace
from yolothreads.errors import WorkerDiedError
from yolothreads.pools.remote import RemotePool

pytestmark = pytest.mark.timeout(120)


class Staff(RemotePool):
    """Its workers live in this process; `dies(index, what)` says whether one dies: "hired", "idle", or at a tag."""

    def __init__(self, dies: Callable[[int, Any], bool], **given: Any) -> None:
        super().__init__(device="cpu", **given)
        self.dies = dies
        self.events: list[tuple[str, int]] = []

    def _recruit(self, index: int) -> "Worker":
        self.events.append(("hired", index))
        if self.dies(index, "hired"):
            raise WorkerDiedError("SIGKILL")
        return Worker(self, index)

    def _abandon(self) -> None:
        self.events.append(("abandoned", 0))
        super()._abandon()


class Worker(WorkerHere):
    def __init__(self, pool: Staff, index: int) -> None:
        super().__init__(pool, index)
        self.pool, self.index = pool, index

    def is_alive(self) -> bool:
        return not self.pool.dies(self.index, "idle")

    def predict(self, pixels: np.ndarray, **settings: Any) -> Any:
        if self.pool.dies(self.index, int(pixels[0, 0, 0])):
            raise WorkerDiedError("SIGSEGV")
        return super().predict(pixels, **settings)

    def end(self) -> None:
        self.pool.events.append(("asked to end", self.index))

    def join(self) -> None:
        self.pool.events.append(("joined", self.index))


def times(count: int, at: Any) -> Callable[[int, Any], bool]:
    """Die so many times at one thing, then no more."""
    left = [at] * count
    return lambda index, what: what == at and bool(left) and left.pop() == at


def test_a_death_costs_an_image_one_more_try_and_nobody_else_anything(fakes: FakeModels) -> None:
    with Staff(times(1, 3), workers=1) as pool:
        assert [tag_of(result) for result in pool.map(map(picture, range(1, 7)))] == [1, 2, 3, 4, 5, 6]
        assert pool.events == [("hired", 0), ("joined", 0), ("hired", 0)]
    assert fakes.done == [1, 2, 3, 4, 5, 6]


def test_a_second_death_on_one_image_is_its_error_and_says_how(fakes: FakeModels) -> None:
    with Staff(times(2, 3), workers=1) as pool:
        one, two, three, four = pool.map(map(picture, range(1, 5)), errors="return")
    assert [tag_of(result) for result in (one, two, four)] == [1, 2, 4]
    assert isinstance(three, WorkerDiedError) and "twice" in str(three) and "SIGSEGV" in str(three)


def test_a_worker_found_dead_is_replaced_at_no_cost_to_the_image(fakes: FakeModels) -> None:
    both = [times(1, "idle"), times(1, 1)]  # found dead, and its successor dies at the image: the third one does it
    with Staff(lambda index, what: any(dies(index, what) for dies in both), workers=1) as pool:
        assert tag_of(pool.submit(picture(1)).result(WAIT_S)) == 1
        assert pool.events.count(("hired", 0)) == 3


def test_a_worker_that_cannot_be_replaced_fails_its_image_and_is_tried_again_for_the_next(fakes: FakeModels) -> None:
    dead: list[int] = []

    def dies(index: int, what: Any) -> bool:
        if what == 1:
            dead[:] = [1] * 3
        return what == 1 or (what == "hired" and bool(dead) and dead.pop() == 1)

    with Staff(dies, workers=1) as pool:
        first, second = pool.map([picture(1), picture(2)], errors="return")
    assert isinstance(first, WorkerDiedError) and "ended 3 times" in str(first) and "SIGKILL" in str(first)
    assert tag_of(second) == 2


@pytest.mark.parametrize("kills", [2, 3])
def test_a_worker_may_die_twice_before_it_has_loaded(kills: int, fakes: FakeModels) -> None:
    pool = Staff(times(kills, "hired"), workers=1)
    if kills == 3:
        with pytest.raises(WorkerDiedError, match="Worker 0 ended 3 times"):
            pool.__enter__()
        assert pool.events == [("hired", 0)] * 3 + [("abandoned", 0)]
    else:
        with pool:
            assert tag_of(pool.submit(picture(1)).result(WAIT_S)) == 1


def test_all_workers_are_asked_to_end_before_any_is_waited_for(fakes: FakeModels) -> None:
    with Staff(lambda *_: False, workers=3) as pool:
        pool.events.clear()
    assert [what for what, _ in pool.events] == ["asked to end"] * 3 + ["joined"] * 3
    assert {index for _, index in pool.events} == {0, 1, 2}


def test_an_error_of_loading_is_no_death_and_ends_all_workers(fakes: FakeModels, tmp_path: Path) -> None:
    fakes.refuse_to_load = {1}
    before, pool = torch.get_num_threads(), Staff(lambda *_: False, workers=2)
    with pytest.raises(RuntimeError, match="model 1 does not load"):
        pool.__enter__()
    whats = [what for what, _ in pool.events]
    assert whats.count("hired") == 2 and whats.count("joined") == 2 and "abandoned" in whats
    assert torch.get_num_threads() == before


def test_an_opening_that_fails_waits_for_nobody_who_still_loads(fakes: FakeModels) -> None:
    pool = Staff(lambda *_: False, workers=2)
    loads, killed = threading.Event(), threading.Event()

    class Slow(Worker):
        def load(self) -> None:
            loads.set()
            assert killed.wait(WAIT_S)
            raise WorkerDiedError("SIGKILL")

        def kill(self) -> None:
            killed.set()

    def recruit(index: int) -> Worker:
        if index == 1:
            return Slow(pool, index)
        assert loads.wait(WAIT_S)
        raise LookupError

    pool._recruit = recruit  # type: ignore[method-assign]
    with pytest.raises(LookupError):
        pool.__enter__()
    assert killed.is_set() and not pool._loading


def test_what_a_worker_did_stands_on_the_timeline_as_long_as_it_says(
    fakes: FakeModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict = Worker.predict

    def timed(self: Worker, pixels: np.ndarray, **settings: Any) -> Any:
        (result,) = predict(self, pixels, **settings)
        result.speed = {"preprocess": 1.0, "inference": 20.0, "postprocess": 3.0}
        return [result]

    monkeypatch.setattr(Worker, "predict", timed)
    monkeypatch.setattr(trace, "_spans", spans := [])  # a recording looks for the real YOLO
    with Staff(lambda index, what: False, workers=1) as pool:
        pool.submit(picture(1)).result(WAIT_S)
    took_ms = {s.stage: round(1000 * (s.end - s.start), 3) for s in spans if s.thread.startswith("Staff")}
    assert took_ms == {"preprocess": 1.0, "infer": 20.0, "postprocess": 3.0}
