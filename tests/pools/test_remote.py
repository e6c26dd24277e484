"""Pools replace workers that die: simulated worker processes die at points that a test chooses."""

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from deadlines import scaled
from fakes import WAIT_S, FakeModels, WorkerHere, picture, tag_of
from ultralytics.engine.results import Results

from yolothreads import trace
from yolothreads.errors import WorkerDiedError
from yolothreads.pools import RemotePool, pack, unpack

pytestmark = pytest.mark.timeout(scaled(120))


class DyingWorkers(RemotePool):
    """A pool whose workers live in this process; `dies(index, what)` decides: "started", "idle", or at a tag."""

    def __init__(self, dies: Callable[[int, Any], bool], **given: Any) -> None:
        super().__init__(device="cpu", **given)
        self.dies = dies
        self.events: list[tuple[str, int]] = []

    def _launch_worker(self, index: int) -> "Worker":
        self.events.append(("started", index))
        if self.dies(index, "started"):
            raise WorkerDiedError("SIGKILL")
        return Worker(self, index)

    def _kill_loading(self) -> None:
        self.events.append(("killed those that load", 0))
        super()._kill_loading()


class Worker(WorkerHere):
    def __init__(self, pool: DyingWorkers, index: int) -> None:
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
    """Die `count` times at one thing, then no more."""
    left = [at] * count
    return lambda index, what: what == at and bool(left) and left.pop() == at


def test_after_a_death_only_the_image_of_that_worker_is_tried_again(fakes: FakeModels) -> None:
    with DyingWorkers(times(1, 3), workers=1) as pool:
        assert [tag_of(result) for result in pool.map(map(picture, range(1, 7)))] == [1, 2, 3, 4, 5, 6]
        assert pool.events == [("started", 0), ("joined", 0), ("started", 0)]
    assert fakes.done == [1, 2, 3, 4, 5, 6]


def test_a_second_death_on_one_image_is_an_error_that_describes_it(fakes: FakeModels) -> None:
    with DyingWorkers(times(2, 3), workers=1) as pool:
        one, two, three, four = pool.map(map(picture, range(1, 5)), return_exceptions=True)
    assert [tag_of(result) for result in (one, two, four)] == [1, 2, 4]
    assert isinstance(three, WorkerDiedError) and "twice" in str(three) and "SIGSEGV" in str(three)


def test_replacing_a_worker_found_dead_does_not_count_as_a_try_of_the_image(fakes: FakeModels) -> None:
    both = [times(1, "idle"), times(1, 1)]  # found dead, and its successor dies at the image: the third one does it
    with DyingWorkers(lambda index, what: any(dies(index, what) for dies in both), workers=1) as pool:
        assert tag_of(pool.submit(picture(1)).result(WAIT_S)) == 1
        assert pool.events.count(("started", 0)) == 3


def test_a_worker_that_cannot_be_replaced_fails_its_image_and_is_tried_again_for_the_next(fakes: FakeModels) -> None:
    dead: list[int] = []

    def dies(index: int, what: Any) -> bool:
        if what == 1:
            dead[:] = [1] * 3
        return what == 1 or (what == "started" and bool(dead) and dead.pop() == 1)

    with DyingWorkers(dies, workers=1) as pool:
        first, second = pool.map([picture(1), picture(2)], return_exceptions=True)
    assert isinstance(first, WorkerDiedError) and "ended 3 times" in str(first) and "SIGKILL" in str(first)
    assert tag_of(second) == 2


@pytest.mark.parametrize("kills", [2, 3])
def test_a_worker_may_die_twice_before_it_has_loaded(kills: int, fakes: FakeModels) -> None:
    pool = DyingWorkers(times(kills, "started"), workers=1)
    if kills == 3:
        with pytest.raises(WorkerDiedError, match="Worker 0 ended 3 times"):
            pool.__enter__()
        assert pool.events == [("started", 0)] * 3 + [("killed those that load", 0)]
    else:
        with pool:
            assert tag_of(pool.submit(picture(1)).result(WAIT_S)) == 1


def test_all_workers_are_asked_to_end_before_any_is_waited_for(fakes: FakeModels) -> None:
    with DyingWorkers(lambda *_: False, workers=3) as pool:
        pool.events.clear()
    assert [what for what, _ in pool.events] == ["asked to end"] * 3 + ["joined"] * 3
    assert {index for _, index in pool.events} == {0, 1, 2}


def test_an_error_while_loading_is_not_a_death_and_ends_all_workers(fakes: FakeModels, tmp_path: Path) -> None:
    fakes.refuse_to_load = {1}
    before, pool = torch.get_num_threads(), DyingWorkers(lambda *_: False, workers=2)
    with pytest.raises(RuntimeError, match="model 1 does not load"):
        pool.__enter__()
    whats = [what for what, _ in pool.events]
    assert whats.count("started") == 2 and whats.count("joined") == 2 and "killed those that load" in whats
    assert torch.get_num_threads() == before


def test_a_failed_open_does_not_wait_for_workers_that_are_still_loading(fakes: FakeModels) -> None:
    pool = DyingWorkers(lambda *_: False, workers=2)
    loads, killed = threading.Event(), threading.Event()

    class Slow(Worker):
        def load(self) -> None:
            loads.set()
            assert killed.wait(WAIT_S)
            raise WorkerDiedError("SIGKILL")

        def kill(self) -> None:
            killed.set()

    def launch(index: int) -> Worker:
        if index == 1:
            return Slow(pool, index)
        assert loads.wait(WAIT_S)
        raise LookupError

    pool._launch_worker = launch  # type: ignore[method-assign]
    with pytest.raises(LookupError):
        pool.__enter__()
    assert killed.is_set() and not pool._loading


def test_the_timeline_shows_the_stages_of_a_worker_as_it_reports_them(
    fakes: FakeModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict = Worker.predict

    def timed(self: Worker, pixels: np.ndarray, **settings: Any) -> Any:
        (result,) = predict(self, pixels, **settings)
        result.speed = {"preprocess": 1.0, "inference": 20.0, "postprocess": 3.0}
        return [result]

    monkeypatch.setattr(Worker, "predict", timed)
    monkeypatch.setattr(trace, "_spans", spans := [])  # a recording wraps the real YOLO
    with DyingWorkers(lambda index, what: False, workers=1) as pool:
        pool.submit(picture(1)).result(WAIT_S)
    took_ms = {s.stage: round(1000 * (s.end - s.start), 3) for s in spans if s.thread.startswith("DyingWorkers")}
    assert took_ms == {"preprocess": 1.0, "infer": 20.0, "postprocess": 3.0}


def test_an_observer_is_called_after_loading_and_after_each_answer(fakes: FakeModels) -> None:
    seen: list[tuple[int, str, bool]] = []
    pool = DyingWorkers(times(1, 3), workers=1)
    pool.observer = lambda index, worker, stage, start, end: seen.append((index, stage, start <= end))
    with pool:
        list(pool.map(map(picture, (1, 3))))
    assert seen == [(0, stage, True) for stage in ("load", "infer", "load", "infer")]


PARTS = {
    "detect": {"boxes": torch.rand(3, 6)},
    "nothing found": {"boxes": torch.rand(0, 6)},
    "track": {"boxes": torch.rand(3, 7)},
    "segment": {"boxes": torch.rand(2, 6), "masks": torch.rand(2, 32, 40) > 0.5},
    "pose": {"boxes": torch.rand(2, 6), "keypoints": torch.rand(2, 17, 3)},
    "classify": {"probs": torch.rand(10)},
    "obb": {"obb": torch.rand(2, 7)},
}


@pytest.mark.parametrize("task", PARTS)
def test_results_of_every_task_survive_packing(task: str) -> None:
    pixels = np.zeros((32, 40, 3), np.uint8)
    result = Results(pixels, "a.png", {0: "disc"}, speed={"inference": 1.0}, **PARTS[task])
    packed = pack(result)
    for value in packed.values():
        with suppress(AttributeError):
            value.flags.writeable = False  # like arrays in shared memory
    again = unpack(packed, pixels)
    assert again.orig_img is pixels and again.path == "a.png" and again.names == {0: "disc"}
    assert again.speed == {"inference": 1.0}
    for key in result._keys:
        ours, theirs = getattr(again, key), getattr(result, key)
        assert (ours is None) == (theirs is None)
        assert ours is None or (torch.equal(ours.data, theirs.data) and ours.data.dtype == theirs.data.dtype)
