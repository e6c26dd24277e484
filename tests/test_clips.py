"""Clips: the same everywhere, steady from frame to frame, with correct identities."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from itertools import islice

import numpy as np
import pytest
from deadlines import scaled
from ultralytics.utils.metrics import bbox_ioa

from yolothreads import scenes
from yolothreads.errors import ArgumentError
from yolothreads.scenes import CLASSES, Scene, clip, scene

pytestmark = pytest.mark.timeout(scaled(120))
SHAPE = (120, 160)


@pytest.fixture(scope="module")
def many() -> list[list[Scene]]:
    """12 clips of 40 frames."""
    return [list(clip(seed, 40, SHAPE)) for seed in range(12)]


def test_a_seed_gives_the_same_clip_on_every_platform() -> None:
    frames = list(clip(7, 12, (160, 160)))
    parts = [b"".join(f.image.tobytes() for f in frames), b"".join(f.boxes.tobytes() for f in frames)]
    assert [hashlib.sha256(part).hexdigest() for part in parts] == [
        "cd7fef7c479f1976f81225bc00c4324bcc62d97bb79bcd06d3f55f463a78e44a",
        "1909262608d4106468c24d4a97ef7b19a1215c89a2bfa97f0b19007f5b50442d",
    ]
    assert frames[0].ids.tolist() == [0, 1, 2, 3, 4]


def test_frames_are_drawn_lazily_and_a_longer_clip_begins_with_the_frames_of_a_shorter_one() -> None:
    endless = clip(3, 10**9, SHAPE)
    assert isinstance(endless, Iterator)
    np.random.seed(3)
    for short, long in zip(clip(3, 30, SHAPE), islice(endless, 30), strict=True):
        assert (short.image == long.image).all() and short.ids.tolist() == long.ids.tolist()
    assert np.random.get_state()[1][0] == 3  # the global stream is not touched either


@pytest.mark.parametrize("shape", [(64, 64), (65, 300), (160, 96)])
def test_shapes_and_types_are_as_documented(shape: tuple[int, int]) -> None:
    for frame in clip(1, 3, shape):
        n = len(frame.ids)
        assert frame.image.shape == (*shape, 3) and frame.image.dtype == np.uint8
        assert frame.boxes.shape == (n, 4) and frame.boxes.dtype == np.float32
        assert frame.classes.shape == frame.ids.shape == (n,)
        assert frame.classes.dtype == frame.ids.dtype == np.int64


def test_a_scene_that_stands_alone_has_no_identities() -> None:
    assert scene(1, (64, 64)).ids is None


def test_identities_are_numbered_from_first_id(many: list[list[Scene]]) -> None:
    shifted = list(clip(0, 40, SHAPE, first_id=100))
    assert [f.ids.tolist() for f in shifted] == [(f.ids + 100).tolist() for f in many[0]]
    assert {int(k) for frames in many for f in frames for k in f.classes} == set(range(len(CLASSES)))


def test_objects_keep_their_class_and_move_steadily(many: list[list[Scene]]) -> None:
    for frames in many:
        places: dict[int, list[tuple[int, int, np.ndarray]]] = defaultdict(list)
        for number, frame in enumerate(frames):
            x1, y1, x2, y2 = frame.boxes.T
            whole = (x1 > 0) & (y1 > 0) & (x2 < SHAPE[1]) & (y2 < SHAPE[0])
            for i in np.flatnonzero(whole):
                places[int(frame.ids[i])].append((number, int(frame.classes[i]), frame.boxes[i]))
        for seen in places.values():
            (first, kind, start), (last, _, end) = seen[0], seen[-1]
            assert {k for _, k, _ in seen} == {kind}
            for number, _, box in seen:  # on the straight line from its first place to its last, to a pixel
                expected = start + (end - start) * (number - first) / max(1, last - first)
                assert np.abs(box - expected).max() <= 1
            assert np.abs(end - start).max() <= 0.02 * SHAPE[0] * (last - first) + 1


def test_objects_cross_leave_and_enter(many: list[list[Scene]]) -> None:
    overlaps, left, came = [], 0, 0
    for frames in many:
        first, last = set(frames[0].ids.tolist()), set(frames[-1].ids.tolist())
        left, came = left + len(first - last), came + len(last - first)
        for frame in frames:
            overlap = bbox_ioa(frame.boxes, frame.boxes, iou=True)
            overlaps.append((overlap - np.eye(len(overlap))).max())
    assert max(overlaps) > 0.4 and np.mean(np.array(overlaps) > 0.2) < 0.5
    assert left >= 3 and came >= 2


def test_the_background_does_not_move(many: list[list[Scene]]) -> None:
    for frames in many[:3]:
        free = np.ones(SHAPE, bool)
        a, b = frames[10], frames[14]
        steady = (a.image == b.image).all(axis=2)
        for x1, y1, x2, y2 in np.concatenate([a.boxes, b.boxes]).astype(int):
            free[max(0, y1 - 2) : y2 + 5, max(0, x1 - 2) : x2 + 5] = False  # a box and its shadow
        assert steady[free].mean() > 0.9  # the rest are objects on the border that are too little visible to have a box


@pytest.fixture
def mover() -> scenes._Mover:
    return scenes._mover(np.random.RandomState(5), np.full((*SHAPE, 3), 90, np.int64), identity=8)


def test_a_box_contains_the_drawn_object(mover: scenes._Mover) -> None:
    blank = np.full((*SHAPE, 3), 90, np.int64)
    frame = scenes._frame(blank, [mover])
    ys, xs = np.nonzero((frame.image != 90).any(axis=2))
    x1, y1, x2, y2 = frame.boxes[0]
    assert abs(xs.min() - x1) <= 1 and abs(ys.min() - y1) <= 1
    assert 0 <= xs.max() + 1 - x2 <= 4 and 0 <= ys.max() + 1 - y2 <= 4  # the shadow falls to this side


def test_an_object_that_is_covered_or_outside_has_no_box(mover: scenes._Mover) -> None:
    blank = np.full((*SHAPE, 3), 90, np.int64)
    above = scenes._mover(np.random.RandomState(5), blank, identity=9)
    assert scenes._frame(blank, [mover, above]).ids.tolist() == [9]
    above.y += (len(above.solid) // 2) * scenes._ONE
    assert scenes._frame(blank, [mover, above]).ids.tolist() == [8, 9]
    radius = len(mover.solid) // 2
    mover.x = radius // 2 * scenes._ONE  # a quarter of its width is outside
    frame = scenes._frame(blank, [mover])
    assert frame.ids.tolist() == [8] and frame.boxes[0, 0] == 0
    mover.x = -(radius // 2) * scenes._ONE
    assert scenes._frame(blank, [mover]).boxes.shape == (0, 4)


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5, None])
def test_a_bad_seed_is_named(seed: object) -> None:
    with pytest.raises(ArgumentError, match=f"seed={seed!r} is not a seed of a clip"):
        clip(seed, 3)


@pytest.mark.parametrize("frames", [0, -1, 2.0, "3", True, None])
def test_a_bad_number_of_frames_is_named(frames: object) -> None:
    with pytest.raises(ArgumentError, match=f"frames={frames!r} is not a number of frames"):
        clip(1, frames)


def test_a_bad_shape_is_named() -> None:
    with pytest.raises(ArgumentError, match="shape="):
        clip(1, 3, (63, 640))
