"""Cameras: one tracker per camera over one pool, frames in their order, and identities compared with the truth."""

import threading
from collections.abc import Iterable, Iterator
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from deadlines import scaled
from fakes import WAIT_S, FakeError, FakeModels, picture, tag_of
from ultralytics import YOLO
from ultralytics.engine.results import Results

from yolothreads import tracking
from yolothreads.devices import torch_threads_kept
from yolothreads.errors import ArgumentError, PoolClosedError
from yolothreads.pools import ModelPerThread, Replicas
from yolothreads.scenes import Scene, clip
from yolothreads.tracking import Camera, Identities, IdentityCount, Seen, identity_switches
from yolothreads.weights import bundled

pytestmark = pytest.mark.timeout(scaled(120))
NAMES = {0: "disc"}


def detected(boxes: Any, image: np.ndarray | None = None) -> Results:
    rows = torch.tensor([[*box, 0.9, 0] for box in boxes], dtype=torch.float32).reshape(-1, 6)
    return Results(picture(1) if image is None else image, path="", names=NAMES, boxes=rows)


class Oracle:
    """A stand-in for a pool: it returns the true boxes of scenes, and exceptions and results as they are."""

    device = "cpu"

    def __init__(self) -> None:
        self.asked: dict[str, Any] = {}

    def map(
        self,
        frames: Iterable[Any],
        *,
        timeout: float | None,
        buffersize: int | None,
        copy: bool,
        return_exceptions: bool,
        errors: None,
        **settings: Any,
    ) -> Iterator[Any]:
        self.limits, self.asked = (timeout, buffersize, copy), settings
        for frame in frames:
            if isinstance(frame, Exception) and not return_exceptions:
                raise frame
            yield detected(frame.boxes, frame.image) if isinstance(frame, Scene) else frame


@pytest.fixture(scope="module")
def clips() -> list[list[Scene]]:
    """The clips of two cameras; no identity is in both."""
    return [list(clip(seed, 30, (120, 160), first_id=100 * seed)) for seed in (1, 2)]


def ids_of(result: Results) -> list[int]:
    return result.boxes.id.int().tolist()


# --- cameras ---


@pytest.mark.parametrize("tracker", ["bytetrack.yaml", "botsort.yaml", "ocsort.yaml", "tracktrack.yaml"])
def test_cameras_in_turn_keep_identities_apart(clips: list[list[Scene]], tracker: str) -> None:
    cameras = [Camera(Oracle(), tracker=tracker) for _ in clips]
    given = zip(*(camera.follow(frames) for camera, frames in zip(cameras, clips, strict=True)), strict=True)
    for frames, results in zip(clips, zip(*given, strict=True), strict=True):
        count = identity_switches(frames, results)
        assert count.switches <= 1 and count.idf1 > 0.9, count
        assert sorted(ids_of(results[0])) == list(range(1, len(frames[0].ids) + 1))


def test_one_camera_for_two_streams_mixes_their_identities(clips: list[list[Scene]]) -> None:
    frames = [frame for pair in zip(*clips, strict=True) for frame in pair]
    count = identity_switches(frames, Camera(Oracle()).follow(frames))
    assert count.transfers > 5 and count.idf1 < 0.8


def test_a_camera_that_is_made_later_changes_no_ids() -> None:
    first, places = Camera(Oracle()), [[0, 0, 9, 9], [0, 15, 9, 24]]
    assert [ids_of(r) for r in first.follow([detected(places)] * 2)] == [[1, 2]] * 2
    second = Camera(Oracle())
    assert [ids_of(r) for r in second.follow([detected(places[:1])] * 2)] == [[1]] * 2
    places += [[15, 0, 24, 9], [15, 15, 24, 24]]
    assert [sorted(ids_of(r)) for r in first.follow([detected(places)] * 3)] == [[1, 2], [1, 2, 3, 4], [1, 2, 3, 4]]


def test_frames_reach_the_tracker_in_order_even_if_the_pool_finishes_them_out_of_order(
    fakes: FakeModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    second_done = threading.Event()

    def inside(model: object, tag: int) -> None:
        if tag == 1:
            assert second_done.wait(WAIT_S)

    fakes.inside = inside
    with ModelPerThread(bundled(), workers=2, device="cpu", imgsz=32) as pool:
        camera, seen = Camera(pool), []
        update = camera._tracker.update
        monkeypatch.setattr(
            camera._tracker, "update", lambda f, i, **k: [seen.append(i[0, 0, 0]), update(f, i, **k)][1]
        )
        submit = pool._submit

        def submitted(image: np.ndarray, settings: dict[str, Any]) -> Any:
            future = submit(image, settings)
            if image[0, 0, 0] == 2:
                future.add_done_callback(lambda f: second_done.set())
            return future

        monkeypatch.setattr(pool, "_submit", submitted)
        results = list(camera.follow(picture(tag) for tag in (1, 2, 3, 4)))
    assert [tag_of(r) for r in results] == seen == [1, 2, 3, 4]
    assert [ids_of(r) for r in results] == [[1, 2]] * 4  # also the box with a score of 0.3


def test_settings_hold_for_every_frame_and_conf_is_low_by_default() -> None:
    for given, asked in (({}, {"conf": 0.1}), ({"conf": 0.3, "classes": [1]}, {"conf": 0.3, "classes": [1]})):
        camera = Camera(pool := Oracle(), **given)
        list(camera.follow([detected([])]))
        assert pool.asked == asked


def test_a_frame_that_fails_is_returned_and_the_tracker_goes_on() -> None:
    camera, there = Camera(Oracle()), detected([[0, 0, 9, 9]])
    before, failed, after = camera.follow([there, FakeError("lost"), there], return_exceptions=True)
    assert isinstance(failed, FakeError) and ids_of(before) == ids_of(after) == [1]
    followed = camera.follow([there, FakeError("lost"), there])
    assert ids_of(next(followed)) == [1]
    with pytest.raises(FakeError, match="lost"):
        next(followed)
    assert [ids_of(r) for r in camera.follow([there])] == [[1]]


def test_a_camera_allows_one_iteration_at_a_time() -> None:
    camera = Camera(Oracle())
    first = camera.follow([detected([])] * 2)
    next(first)
    with pytest.raises(ArgumentError, match="followed already"):
        next(camera.follow([detected([])]))
    first.close()
    assert len(list(camera.follow([detected([])]))) == 1


def test_detections_without_a_track_are_not_returned() -> None:
    camera = Camera(Oracle())
    nothing, _, new, known = camera.follow([detected(b) for b in ([], [], [[0, 0, 9, 9]], [[0, 0, 9, 9]])])
    assert nothing.boxes.id.tolist() == new.boxes.id.tolist() == []  # an object is tracked only when it is seen twice
    assert ids_of(known) == [1]


def test_oriented_boxes_are_followed_and_classifications_are_refused() -> None:
    turned = Results(picture(1), "", NAMES, obb=torch.tensor([[15.0, 15, 12, 8, 0.3, 0.9, 0]]))
    assert [r.obb.id.tolist() for r in Camera(Oracle()).follow([turned] * 3)] == [[1]] * 3
    with pytest.raises(ArgumentError, match="no boxes to follow"):
        list(Camera(Oracle()).follow([Results(picture(1), "", NAMES, probs=torch.ones(1))]))


def test_the_error_for_an_unusable_tracker_names_it(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r'tracker="nosuch\.yaml" is not known'):
        Camera(Oracle(), tracker="nosuch.yaml")
    for text, says in (("a: 1", "no known tracker_type"), ("tracker_type: botsort\nwith_reid: true", "with_reid")):
        (tmp_path / "own.yaml").write_text(text)
        with pytest.raises(ArgumentError, match=says):
            Camera(Oracle(), tracker=str(tmp_path / "own.yaml"))


def test_a_closed_pool_is_an_error_at_once(fakes: FakeModels) -> None:
    with pytest.raises(PoolClosedError):
        Camera(ModelPerThread(bundled(), device="cpu")).follow([])


def test_two_cameras_that_share_weights_give_the_results_of_two_models() -> None:
    seen = [[f.image for f in clip(seed, 6, (120, 160))] for seed in (1, 2)]
    with Replicas(workers=2, device="cpu", imgsz=160, threads=1) as pool:
        cameras = [Camera(pool).follow(frames) for frames in seen]
        results = list(zip(*zip(*cameras, strict=True), strict=True))
    own = {"persist": True, "tracker": "bytetrack.yaml", "imgsz": 160, "device": "cpu", "verbose": False}
    for frames, got in zip(seen, results, strict=True):
        model = YOLO(bundled())
        for frame, result in zip(frames, got, strict=True):
            with torch_threads_kept():
                boxes = model.track(frame, **own)[0].boxes
            assert len(boxes) > 1 and torch.allclose(boxes.data, result.boxes.data, atol=0.1)


def test_the_bundled_model_finds_the_objects_of_clips() -> None:
    frames = list(clip(3, 20, (192, 256)))
    with Replicas(workers=2, device="cpu", imgsz=256, threads=1) as pool:
        count = identity_switches(frames, Camera(pool).follow(f.image for f in frames))
    assert count.matched >= 0.9 * (count.matched + count.missed) and count.switches == 0 and count.idf1 > 0.9, count


# --- counting ---

A, B = [0, 0, 10, 10], [20, 20, 30, 30]
NOBODY = [12, 0, 20, 8]


def truth(*frames: dict[int, list[int]]) -> list[Scene]:
    return [
        Scene(
            picture(1), np.array([*f.values()], np.float32).reshape(-1, 4), np.zeros(len(f), int), np.array([*f], int)
        )
        for f in frames
    ]


def tracked(*frames: dict[int, list[int]]) -> list[Results]:
    rows = ([[*box, track, 0.9, 0] for track, box in frame.items()] for frame in frames)
    return [Results(picture(1), "", NAMES, boxes=torch.tensor(r, dtype=torch.float32).reshape(-1, 7)) for r in rows]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([{1: A, 2: B}] * 4, Identities(8, 0, 0, 0, 0, 1.0)),
        ([{1: A, 2: B}] * 2 + [{2: A, 1: B}] * 2, Identities(8, 0, 0, 2, 2, 0.5)),
        ([{1: A, 2: B}] * 3 + [{1: A, 3: B}], Identities(8, 0, 0, 1, 0, 7 / 8)),  # a new track for B
        ([{1: A}, {1: B}, {1: A}, {1: B}], Identities(4, 4, 0, 0, 3, 2 * 2 / 12)),  # one track on both in turn
        ([{1: A, 2: B}, {}, {1: A, 3: NOBODY}, {1: A, 2: B}], Identities(5, 3, 1, 0, 0, 2 * 5 / 14)),
        ([{}] * 4, Identities(0, 8, 0, 0, 0, 0.0)),
    ],
)
def test_counts_equal_those_made_by_hand(given: list[dict[int, list[int]]], expected: Identities) -> None:
    assert identity_switches(truth(*[{7: A, 8: B}] * 4), tracked(*given)) == expected


def test_a_pair_stays_together_while_it_overlaps_enough() -> None:
    shifted = [0, 0, 10, 8]
    count = identity_switches(truth({7: A}, {7: A}, {7: A}), tracked({1: A}, {1: shifted, 2: A}, {2: A}))
    assert count == Identities(3, 0, 1, 1, 0, 2 * 2 / 7)
    assert identity_switches(truth({7: A}), tracked({1: [0, 0, 10, 4]})).matched == 0
    assert identity_switches(truth({7: A}), tracked({1: [0, 0, 10, 4]}), iou=0.3).matched == 1


def test_frames_that_failed_or_were_not_tracked_count_as_missed() -> None:
    count = identity_switches(truth({7: A}, {7: A}, {}), [FakeError(), detected([A]), FakeError()])
    assert count == Identities(0, 2, 0, 0, 0, 0.0)
    assert identity_switches([], []) == Identities(0, 0, 0, 0, 0, 1.0)


def test_truth_without_identities_or_of_another_length_is_refused() -> None:
    alone = Scene(picture(1), np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    with pytest.raises(ArgumentError, match="no identities"):
        identity_switches([alone], tracked({}))
    with pytest.raises(ValueError, match="shorter"):
        identity_switches(truth({}, {}), tracked({}))


def test_each_frame_tells_the_object_of_a_track_and_its_previous_object() -> None:
    count = IdentityCount()
    first, crossed, back = (
        count.add(scene, result)
        for scene, result in zip(
            truth(*[{7: A, 8: B}] * 3), tracked({1: A, 2: B}, {2: A, 3: NOBODY}, {2: A}), strict=True
        )
    )
    assert first == {0: Seen(7), 1: Seen(8)}
    assert crossed == {0: Seen(7, was_identity=8)}  # the track that is on no object is left out
    assert back == {0: Seen(7)}
    assert count.so_far == Identities(4, 2, 1, 1, 1, 2 * 2 / 11)


def test_equal_numbers_from_two_trackers_are_different_tracks() -> None:
    one, two = truth({7: A}), truth({8: A})
    apart, mixed = IdentityCount(), IdentityCount()
    for camera, scenes in enumerate((one, two)):
        apart.add(scenes[0], tracked({1: A})[0], tracker=camera)
        mixed.add(scenes[0], tracked({1: A})[0])
    assert (apart.so_far.transfers, apart.so_far.idf1) == (0, 1.0)
    assert (mixed.so_far.transfers, mixed.so_far.idf1) == (1, 0.5)


def test_counting_frame_by_frame_equals_counting_at_the_end(clips: list[list[Scene]]) -> None:
    frames = [frame for pair in zip(*clips, strict=True) for frame in pair]
    results, count, transfers = list(Camera(Oracle()).follow(frames)), IdentityCount(), 0
    for frame, result in zip(frames, results, strict=True):
        transfers += sum(seen.was_identity is not None for seen in count.add(frame, result).values())
    assert count.so_far == identity_switches(frames, results)
    assert count.so_far.transfers == transfers > 5


def test_the_best_assignment_equals_that_of_an_exhaustive_search() -> None:
    random = np.random.RandomState(0)
    for _ in range(60):
        rows, columns = random.randint(1, 5, 2)
        worth = np.where(random.rand(rows, columns) < 0.6, random.rand(rows, columns) + 0.1, -1.0)
        square = np.zeros((max(rows, columns),) * 2)
        square[:rows, :columns] = worth.clip(0)
        most = max(sum(square[i, p[i]] for i in range(len(square))) for p in permutations(range(len(square))))
        pairs = list(tracking._best(worth))
        assert sum(worth[pair] for pair in pairs) == pytest.approx(most)
        assert all(worth[pair] > 0 for pair in pairs) and len({r for r, _ in pairs}) == len(
            {c for _, c in pairs}
        ) == len(pairs)
