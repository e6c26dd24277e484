"""Scenes: the same everywhere, different from each other, with correct boxes."""

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from deadlines import scaled

from yolothreads.errors import ArgumentError, ImageError
from yolothreads.scenes import CLASSES, SHAPES, Scene, pictures, scene

pytestmark = pytest.mark.timeout(scaled(120))


@pytest.fixture(scope="module")
def many() -> list[Scene]:
    """50 scenes in the shapes of SHAPES."""
    return [scene(seed, SHAPES[seed % len(SHAPES)]) for seed in range(50)]


def test_a_seed_gives_the_same_scene_on_every_platform() -> None:
    made = scene(7, (480, 640))
    digests = [hashlib.sha256(np.ascontiguousarray(part).tobytes()).hexdigest() for part in (made.image, made.boxes)]
    assert digests == [
        "9013bcccba716786b7de1a36778afd6c376074190b03d45f4e4ac87d634cf05b",
        "f5bdd8673c36f94935287a2889c04f5f0ee0f68cff26784da52d10cb78ba3908",
    ]
    assert made.classes.tolist() == [0, 0, 4, 1, 2, 4]


def test_a_scene_does_not_depend_on_what_was_drawn_before() -> None:
    np.random.seed(3)
    first = scene(11).image
    scene(12)
    assert (scene(11).image == first).all()
    assert np.random.get_state()[1][0] == 3  # the global stream is not touched either


def test_different_seeds_give_different_pixels_and_boxes(many: list[Scene]) -> None:
    assert len({s.image.tobytes() for s in many}) == len(many)
    assert len({s.boxes.tobytes() for s in many}) == len(many)


@pytest.mark.parametrize("shape", [*SHAPES, (64, 64), (65, 300)])
def test_shapes_and_types_are_as_documented(shape: tuple[int, int]) -> None:
    made = scene(1, shape)
    n = len(made.classes)
    assert made.image.shape == (*shape, 3) and made.image.dtype == np.uint8
    assert made.boxes.shape == (n, 4) and made.boxes.dtype == np.float32
    assert made.classes.shape == (n,) and made.classes.dtype == np.int64


def test_a_scene_holds_3_to_12_objects_of_every_class(many: list[Scene]) -> None:
    counts = [len(s.classes) for s in many]
    assert min(counts) >= 3 and max(counts) <= 12 and len(set(counts)) > 5
    assert {int(c) for s in many for c in s.classes} == set(range(len(CLASSES)))


def test_boxes_lie_inside_the_image_and_are_large_enough(many: list[Scene]) -> None:
    for made in many:
        height, width = made.image.shape[:2]
        x1, y1, x2, y2 = made.boxes.T
        assert (x1 >= 0).all() and (y1 >= 0).all() and (x2 <= width).all() and (y2 <= height).all()
        assert np.minimum(x2 - x1, y2 - y1).min() >= 12


def test_boxes_overlap_at_times_but_never_coincide(many: list[Scene]) -> None:
    overlaps = []
    for made in many:
        for i, a in enumerate(made.boxes):
            for b in made.boxes[:i]:
                w, h = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
                both = max(0, w) * max(0, h)
                overlaps.append(both / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - both))
    assert 0.1 < max(overlaps) <= 0.35
    assert np.mean(np.array(overlaps) > 0) < 0.5


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5, "7", None])
def test_a_bad_seed_is_named(seed: object) -> None:
    with pytest.raises(ArgumentError, match=f"seed={seed!r}"):
        scene(seed)


@pytest.mark.parametrize("shape", [(63, 640), (640, 0), (640,), (640, 640, 3), (480.0, 640), 640, "640"])
def test_a_bad_shape_is_named(shape: object) -> None:
    with pytest.raises(ArgumentError, match="shape="):
        scene(1, shape)


def test_pictures_are_scenes_with_their_truth() -> None:
    images, names, truth = pictures(count=7, seed=20)
    assert [i.shape[:2] for i in images] == [SHAPES[k % len(SHAPES)] for k in range(7)]
    assert names[0] == "scene 20" and len(set(names)) == 7
    assert all((i == t.image).all() for i, t in zip(images, truth, strict=True))
    assert (images[0] == scene(20, SHAPES[0]).image).all()


def test_pictures_of_a_folder_are_its_files_repeated(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "notes.txt"):
        (tmp_path / name).write_bytes(cv2.imencode(".png", np.zeros((9, 9, 3), np.uint8))[1].tobytes())
    (tmp_path / "folder.png").mkdir()
    images, names, truth = pictures(tmp_path, count=5)
    assert names == ["a.png", "b.JPG", "a.png", "b.JPG", "a.png"] and truth is None
    assert images == [tmp_path / name for name in names]
    assert pictures(str(tmp_path), count=1).names == ["a.png"]


def test_pictures_of_one_file_are_that_file(tmp_path: Path) -> None:
    file = tmp_path / "one.png"
    file.write_bytes(b"")  # it is read and checked only when a pool detects in it
    assert pictures(file, count=3) == ([file] * 3, ["one.png"] * 3, None)


def test_no_pictures_is_an_error_that_names_the_place(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"holds no pictures.*\.png"):
        pictures(tmp_path)
    with pytest.raises(ImageError, match="nowhere"):
        pictures(tmp_path / "nowhere")
    for count in (0, -1):
        with pytest.raises(ArgumentError, match=f"count={count}"):
            pictures(count=count)
