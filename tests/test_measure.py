"""Measuring: when results are equal, right, wrong or errors, and that rounds are interleaved."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from deadlines import scaled
from fakes import FakeModel, FakeModels, picture
from ultralytics.engine.results import Results

from yolothreads import measure
from yolothreads.errors import ArgumentError, DeviceError, ExtraError, PoolClosedError
from yolothreads.measure import Measurement
from yolothreads.memory import Memory
from yolothreads.pools import BatchingWorker, LockedModel, ModelPerThread, Pool, Sequential, SharedModel, make_pool
from yolothreads.scenes import Scene

pytestmark = pytest.mark.timeout(scaled(120))
ROWS = [[0, 0, 10, 10, 0.9, 0], [20, 20, 40, 40, 0.8, 1], [20, 20, 40, 40, 0.8, 2]]


def result(rows: list) -> Results:
    """Return a result with these rows: x1, y1, x2, y2, score, class."""
    boxes = torch.tensor(rows, dtype=torch.float32).reshape(-1, 6)
    return Results(np.zeros((50, 50, 3), np.uint8), path="", names=dict.fromkeys(range(5), ""), boxes=boxes)


def changed(row: int, column: int, by: float) -> Results:
    """Return ROWS with one number changed."""
    rows = [list(r) for r in ROWS]
    rows[row][column] += by
    return result(rows)


def test_same_ignores_the_order() -> None:
    assert measure.same(result(ROWS), result(ROWS[::-1]))
    assert measure.same(result([]), result([]))


@pytest.mark.parametrize(("column", "within", "beyond"), [(0, 0.9, 1.1), (3, -0.9, -1.1), (4, -0.009, -0.02)])
def test_same_allows_a_pixel_and_a_hundredth_of_score(column: int, within: float, beyond: float) -> None:
    assert measure.same(result(ROWS), changed(1, column, within))
    assert not measure.same(result(ROWS), changed(1, column, beyond))
    assert measure.same(result(ROWS), changed(1, column, beyond), pixels=2, score=0.1)


def test_same_requires_equal_classes_and_each_object_once() -> None:
    assert not measure.same(result(ROWS), changed(0, 5, 1))
    for other in (ROWS[:2], [*ROWS, ROWS[0]], [], [ROWS[0], ROWS[0], ROWS[1]]):
        assert not measure.same(result(ROWS), result(other))
        assert not measure.same(result(other), result(ROWS))


def truth_of(rows: list) -> Scene:
    """Return the scene whose truth these rows are."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Scene(np.zeros((50, 50, 3), np.uint8), table[:, :4].copy(), table[:, 5].astype(np.int64))


def test_finds_all_requires_each_object_once_with_its_class_and_place() -> None:
    truth = truth_of(ROWS)
    assert measure.finds_all(result(ROWS[::-1]), truth)
    assert measure.finds_all(changed(0, 2, 5), truth) and not measure.finds_all(changed(0, 2, 15), truth)
    assert not measure.finds_all(changed(0, 5, 1), truth)
    for other in (ROWS[:2], [*ROWS, [0, 30, 9, 39, 0.5, 0]], [ROWS[0], ROWS[1], ROWS[1]], []):
        assert not measure.finds_all(result(other), truth)
    assert not measure.finds_all(changed(0, 2, 5), truth, iou=0.9)


def test_finding_nothing_is_right_only_in_an_empty_scene() -> None:
    assert measure.finds_all(result([]), truth_of([]))
    assert not measure.finds_all(result(ROWS), truth_of([]))


def pools(*kinds: type[Pool], **kwargs: object) -> list[Pool]:
    return [make_pool(kind, workers=2, device="cpu", **kwargs) for kind in kinds]


def leak(fakes: FakeModels) -> None:
    """Make picture 1 end with the settings of picture 2 if both use one model, as a real race does by chance."""

    def inside(model: FakeModel, tag: int) -> None:
        if tag == 1 and fakes.built.index(model) == 1:  # the first is Sequential's, the second SharedModel's
            model.settings = {**model.settings, "conf": 0.95}

    fakes.inside = inside


def test_compare_counts_right_wrong_and_errors(fakes: FakeModels) -> None:
    leak(fakes)
    images = [picture(1), picture(2), np.zeros((3, 3)), picture(3)]
    found = measure.compare(
        pools(SharedModel, ModelPerThread), images, 3, per_image_settings=[{"conf": 0.1}, {"conf": 0.95}]
    )
    counts = {m.pool: (m.right, m.wrong, m.errors) for m in found}
    assert counts == {"SharedModel": (6, 3, 3), "ModelPerThread": (9, 0, 3)}
    assert found.of(SharedModel) is found.of("SharedModel") is found[0] and len(found[:]) == 2
    assert found[0].true_right is None and found[0].memory_per_worker_mb is None


def test_compare_counts_against_the_true_boxes(fakes: FakeModels) -> None:
    rows = [[2, 2, 12, 12, 1, 0], [15, 15, 30, 30, 1, 1]]  # the boxes that a fake finds, the second with conf below 0.3
    truth = [truth_of(rows), truth_of(rows[:1]), truth_of(rows)]
    images = [picture(1), picture(2), np.zeros((3, 3))]
    found = measure.compare(pools(Sequential), images, 2, per_image_settings=[{"conf": 0.1}], truth=truth)
    assert (found[0].true_right, found[0].true_wrong) == (2, 4)
    assert found.table().to_dicts()[0]["true boxes found"] == "2 of 6 images"


def test_the_reference_uses_the_settings_of_the_pools(fakes: FakeModels) -> None:
    found = measure.compare(pools(LockedModel, Sequential, conf=0.95), [picture(1)] * 2, 1)
    assert [(m.right, m.wrong, m.errors) for m in found] == [(2, 0, 0)] * 2


def test_rounds_are_interleaved_and_every_second_one_is_reversed(fakes: FakeModels) -> None:
    order: list[int] = []
    fakes.inside = lambda model, tag: order.append(fakes.built.index(model))
    measure.compare(pools(SharedModel, LockedModel), [picture(1)], 4, latency=False)
    reference, *rest = order
    assert [n for n, _ in itertools.groupby(rest)] == [1, 2, 1, 2, 1]  # A B, B A, A B, B A
    assert reference == 0 and rest.count(1) == rest.count(2) == 4
    assert list(measure.turns(3, 3)) == [0, 1, 2, 2, 1, 0, 0, 1, 2]


def test_pools_with_different_settings_are_not_compared(fakes: FakeModels) -> None:
    one, other = Sequential(device="cpu"), Sequential(device="cpu", imgsz=320)
    with pytest.raises(ArgumentError, match="imgsz"):
        measure.compare([one, other], [picture(1)])
    with pytest.raises(ArgumentError, match="settings"):
        measure.compare([one, Sequential(device="cpu", conf=0.5)], [picture(1)])
    for chosen, images, rounds in (([], [picture(1)], 1), ([one], [], 1), ([one], [picture(1)], 0)):
        with pytest.raises(ArgumentError, match="give 1 or more"):
            measure.compare(chosen, images, rounds)
    assert fakes.built == []


@pytest.mark.parametrize("wrong", [{"per_image_settings": []}, {"truth": []}])
def test_per_image_settings_and_truth_must_fit_the_images(wrong: dict, fakes: FakeModels) -> None:
    with pytest.raises(ArgumentError, match=next(iter(wrong))):
        measure.compare(pools(Sequential), [picture(1)], 1, **wrong)


def test_a_pool_that_is_open_is_not_measured(fakes: FakeModels) -> None:
    with Sequential(device="cpu") as pool, pytest.raises(PoolClosedError, match="open already"):
        measure.compare([pool], [picture(1)], 1)


def test_the_table_has_one_row_per_pool_and_names_the_machine(fakes: FakeModels) -> None:
    found = measure.compare(pools(Sequential, ModelPerThread), [picture(1)] * 3, 2)
    rows = found.table().to_dicts()
    assert [(r["pool"], r["workers"], r["right"], r["wrong"]) for r in rows] == [
        ("Sequential", 1, 6, 0),
        ("ModelPerThread", 2, 6, 0),
    ]
    assert "MB per worker" not in rows[0] and "true boxes found" not in rows[0]
    assert "2 interleaved rounds" in found.table().caption and found.stamp in str(found)
    assert "<table>" in found._repr_html_()
    for m in found:
        assert m.images_per_s.low <= m.images_per_s.median <= m.images_per_s.high
        assert 0 < m.latency_p50_ms <= m.latency_p99_ms and m.start_up_s > 0


def test_the_stamp_names_device_cores_versions_and_date() -> None:
    stamped = measure.stamp("cpu")
    assert all(word in stamped for word in ("cpu", "cores", "Python 3.", torch.__version__, "ultralytics", "20"))


def test_spread_is_median_and_range() -> None:
    spread = measure.Spread.of([3.0, 1.0, 9.0, 2.0])
    assert (spread.median, spread.low, spread.high) == (2.5, 1.0, 9.0)
    assert str(spread) == "2.5 (1.0 to 9.0)"


def test_memory_is_measured_for_pools_only(fakes: FakeModels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "memory_of", lambda pool: Memory(1.0, 10.0 * pool.workers))
    found = measure.compare([Beside(), *pools(Sequential, ModelPerThread)], [picture(1)], 1, memory=True)
    assert [m.memory_per_worker_mb for m in found] == [None, 10.0, 10.0]
    assert [row["MB opened"] for row in found.table().to_dicts()] == ["-", "1", "1"]


class Beside(measure.Contender):
    """Contender that processes one of the given images, and records when it is opened."""

    name, workers = "something else", 1

    def __init__(self) -> None:
        self.said: list[object] = []

    @contextmanager
    def ready(self) -> Iterator[Callable[[list], int]]:
        self.said.append("open")
        yield self.run
        self.said.append("closed")

    def run(self, images: list) -> int:
        self.said.append(len(images))
        return 1


def test_other_contenders_take_turns_with_the_pools(fakes: FakeModels) -> None:
    other = Beside()
    found = measure.compare([other, *pools(Sequential)], [picture(1), picture(2)], 3)
    assert other.said == ["open", 2, 2, 2, "closed"]
    assert [m.pool for m in found] == ["something else", "Sequential"] and len(found[0].speeds) == 3
    assert (found[0].judged, found[0].latency_p50_ms) == (False, None) and found[1].judged
    row = found.table().to_dicts()[0]
    assert (row["right"], row["p50 ms"]) == ("-", "-") and row["images/s (range)"] != "-"
    with pytest.raises(ArgumentError, match="0 pools"):
        measure.compare([other], [picture(1)], 1)


def test_a_ratio_is_the_median_of_the_ratios_of_each_round() -> None:
    fast, slow = (Measurement(name, 1, speeds=speeds) for name, speeds in (("a", (8, 9, 5)), ("b", (2, 1, 1))))
    again = Measurement("a", 4, speeds=(1, 1, 1))  # of several with one name, the first one counts
    assert measure.Comparison([fast, slow, again], 3, "").ratio("a", "b") == measure.Spread(5, 4, 9)


def test_each_pool_has_as_many_callers_as_the_largest_pool_has_workers(fakes: FakeModels) -> None:
    batching = BatchingWorker(device="cpu", max_batch=3, max_wait_ms=60_000)  # a batch starts when three callers ask
    found = measure.compare([batching, LockedModel(device="cpu", workers=3)], [picture(1)] * 6, 2)
    assert found[0].latency_p50_ms < 60_000
    assert {b.size for b in batching.history} == {3}


def test_pools_that_cannot_be_made_here_become_remarks() -> None:
    def needs(error: Exception) -> object:
        def make(**made: object) -> Pool:
            raise error

        return make

    kinds = [Sequential, needs(ExtraError("Lib is not installed.")), needs(DeviceError("Not there.")), LockedModel]
    made, remarks = measure.pools_here(kinds, device="cpu", workers=3)
    assert [type(pool) for pool in made] == [Sequential, LockedModel] and made[1].workers == 3
    assert remarks == ["Not measured: Lib is not installed.", "Not measured: Not there."]
    with pytest.raises(DeviceError, match="cuda:99"):
        measure.pools_here(device="cuda:99")
    with pytest.raises(ArgumentError, match="workers"):
        measure.pools_here(device="cpu", workers=0)
