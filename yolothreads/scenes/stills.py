"""Single scenes, and the pictures of a lesson."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from yolothreads.errors import ArgumentError, ImageError
from yolothreads.scenes.drawing import CLASSES, Look, background, cast_shadow, margin, reach_of

SHAPES = ((480, 640), (640, 480), (640, 640), (384, 640), (640, 384))
"""Shapes (H, W) that `pictures` goes through: landscape, portrait, square and two wide ones."""

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")

_OBJECTS = (3, 12)
_RADIUS_PERCENT = (6, 17)  # of the shorter side
_MIN_VISIBLE = 0.65  # share of an object that later ones may leave uncovered
_MAX_IOU = 0.35


@dataclass(frozen=True)
class Scene:
    """A picture and the truth about it.

    image: (H, W, 3) uint8, BGR. boxes: (n, 4) float32, xyxy in pixels, whole objects clipped to the image.
    classes: (n,) int64, indices into `CLASSES`. ids: (n,) int64, which object is which from frame to frame of a clip;
    None for a scene that stands alone.
    """

    image: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    classes: NDArray[np.int64]
    ids: NDArray[np.int64] | None = None


class Pictures(NamedTuple):
    """Pictures of a lesson: `images` (arrays or paths), one name per image, and the truth if it is known."""

    images: list[NDArray[np.uint8] | Path]
    names: list[str]
    truth: list[Scene] | None


def pictures(images: str | Path = "scenes", count: int = 8, seed: int = 0) -> Pictures:
    """Return `count` pictures: generated scenes, or files of the user.

    Args:
        images: "scenes", a folder (its picture files in order of name, repeated if there are fewer than `count`),
            or one picture file.
        count: the number of pictures, 1 or more.
        seed: seed of the first scene; the next scenes have the next seeds.

    Raises:
        ArgumentError: `count` is below 1.
        ImageError: the folder or file does not exist, or the folder holds no pictures.
    """
    if count < 1:
        raise ArgumentError(f"count={count} pictures cannot be made; ask for 1 or more.")
    if str(images) == "scenes":
        made = [scene(seed + i, SHAPES[i % len(SHAPES)]) for i in range(count)]
        return Pictures([s.image for s in made], [f"scene {seed + i}" for i in range(count)], made)
    files = _picture_files(Path(images).expanduser())
    chosen = [files[i % len(files)] for i in range(count)]
    return Pictures(list(chosen), [f.name for f in chosen], None)


def _picture_files(place: Path) -> list[Path]:
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise ImageError(f'images="{place}" is neither a folder nor a file; name one that exists, or use "scenes".')
    files = sorted(f for f in place.iterdir() if f.suffix.lower() in SUFFIXES and f.is_file())
    if not files:
        raise ImageError(f'The folder "{place}" holds no pictures ({", ".join(SUFFIXES)}); add some, or use "scenes".')
    return files


def scene(seed: int, shape: tuple[int, int] = (480, 640)) -> Scene:
    """Draw a scene: 3 to 12 overlapping objects of five classes on a textured background.

    Args:
        seed: 0 to 2**32 - 1. The same seed and shape give the same pixels everywhere.
        shape: (H, W) in pixels, each 64 or more.

    Raises:
        ArgumentError: a seed or a shape outside these ranges.
    """
    height, width = check_shape(seed, shape, "scene")
    random = np.random.RandomState(seed)
    image = background(random, height, width)
    placed: list[_Object] = []
    wanted = random.randint(_OBJECTS[0], _OBJECTS[1] + 1)
    # A crowded scene may have no room for the last objects: give up after 60 tries, but never below the minimum.
    for attempt in range(400):
        if len(placed) == wanted or (attempt > 60 and len(placed) >= _OBJECTS[0]):
            break
        new = _place(random, height, width)
        if new and new.fits(placed):
            for other in placed:
                other.solid[new.window] &= ~new.solid[new.window]
            _paint(random, image, new)
            placed.append(new)
    boxes = np.array([o.box for o in placed], np.float32)
    return Scene(np.ascontiguousarray(image, np.uint8), boxes, np.array([o.kind for o in placed], np.int64))


def check_shape(seed: int, shape: tuple[int, int], what: str) -> tuple[int, int]:
    """Return (H, W), or raise an ArgumentError if no scene or clip (`what`) can be made."""
    if not isinstance(seed, int | np.integer) or not 0 <= seed < 2**32:
        raise ArgumentError(f"seed={seed!r} is not a seed of a {what}; use a whole number from 0 to 4294967295.")
    sizes = tuple(shape) if isinstance(shape, Sequence) else ()
    if len(sizes) != 2 or not all(isinstance(size, int | np.integer) and size >= 64 for size in sizes):
        raise ArgumentError(
            f"shape={shape!r} is not a shape of a {what}; use (H, W), whole numbers of 64 pixels or more."
        )
    return sizes[0], sizes[1]


@dataclass
class _Object:
    """An object to draw. `cover` is 0 to 256 inside `window`; `solid` (H, W) is its visible part."""

    kind: int
    window: tuple[slice, slice]
    cover: NDArray[np.int64]
    solid: NDArray[np.bool_]
    box: tuple[int, int, int, int]
    area: int

    def fits(self, placed: list[_Object]) -> bool:
        """Whether it is large enough, apart from the others, and leaves enough of them visible."""
        if min(self.box[2] - self.box[0], self.box[3] - self.box[1]) < 12:
            return False
        return all(
            _iou(self.box, other.box) <= _MAX_IOU and (other.solid & ~self.solid).sum() >= _MIN_VISIBLE * other.area
            for other in placed
        )


def _place(random: np.random.RandomState, height: int, width: int) -> _Object | None:
    """Draw class, size, position and rotation of an object at random; None if nothing of it would be visible."""
    short = min(height, width)
    radius = max(8, short * random.randint(_RADIUS_PERCENT[0] * 10, _RADIUS_PERCENT[1] * 10 + 1) // 1000)
    cy, cx = random.randint(radius // 2, height - radius // 2), random.randint(radius // 2, width - radius // 2)
    kind, turn = random.randint(0, len(CLASSES)), random.randint(0, 360)
    reach = reach_of(radius, short)
    window = slice(max(0, cy - reach), cy + reach), slice(max(0, cx - reach), cx + reach)
    rows, columns = min(height, cy + reach) - window[0].start, min(width, cx + reach) - window[1].start
    depth = margin(CLASSES[kind], radius, turn, rows, columns, cy - window[0].start, cx - window[1].start)
    cover = (128 + depth // 4).clip(0, 256)
    solid = np.zeros((height, width), bool)
    solid[window] = cover > 128
    ys, xs = np.flatnonzero(solid.any(axis=1)), np.flatnonzero(solid.any(axis=0))
    if not len(ys):
        return None
    box = int(xs[0]), int(ys[0]), int(xs[-1]) + 1, int(ys[-1]) + 1
    return _Object(kind, window, cover, solid, box, int(solid.sum()))


def _iou(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> float:
    inner = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
    both = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inner
    return inner / both


def _paint(random: np.random.RandomState, image: NDArray[np.int64], new: _Object) -> None:
    """Blend an object into the image, in place: a soft shadow, then a plain, striped or shaded filling."""
    shift = max(2, min(image.shape[:2]) // 120)
    part, cover = image[new.window], new.cover
    cast_shadow(part, cover, shift)
    solid = cover > 128
    behind = part[solid].sum(axis=0) // solid.sum()
    look = Look.drawn(random)
    if np.abs(look.first - behind).sum() < 120:  # an object in the colour of its background could not be seen
        look = look._replace(first=255 - behind)
    part += (look.filling(*cover.shape) - part) * cover[..., None] // 256
