"""Pictures to detect in: generated scenes whose true boxes are known, or a folder of your own.

Scenes are drawn with integer arithmetic on a frozen random stream (`numpy.random.RandomState`, which NEP 19 promises
never to change), so a seed gives the same pixels on every platform and with every numpy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from yolothreads.errors import ArgumentError, ImageError

CLASSES = ("disc", "ring", "square", "triangle", "star")
SHAPES = ((480, 640), (640, 480), (640, 640), (384, 640), (640, 384))
"""Shapes (H, W) that `pictures` goes through: landscape, portrait, square and two wide ones."""

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")

_ONE = 1024  # fixed-point unit: lengths are kept in 1/1024 pixel
_OBJECTS = (3, 12)
_RADIUS_PERCENT = (6, 17)  # of the shorter side
_MIN_VISIBLE = 0.65  # share of an object that later ones may leave uncovered
_MAX_IOU = 0.35


@dataclass(frozen=True)
class Scene:
    """A picture and the truth about it.

    image: (H, W, 3) uint8, BGR. boxes: (n, 4) float32, xyxy in pixels, whole objects clipped to the image.
    classes: (n,) int64, indices into `CLASSES`.
    """

    image: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    classes: NDArray[np.int64]


class Pictures(NamedTuple):
    """What a lesson works on: `images` (arrays or paths), a name for each, and the truth where it is known."""

    images: list[NDArray[np.uint8] | Path]
    names: list[str]
    truth: list[Scene] | None


def pictures(images: str | Path = "scenes", count: int = 8, seed: int = 0) -> Pictures:
    """Give `count` pictures: generated scenes, or files from a folder of the user's own.

    Args:
        images: "scenes", a folder (its picture files in order of name, repeated if there are fewer than `count`),
            or one picture file.
        count: how many pictures, 1 or more.
        seed: seed of the first scene; the next ones follow.

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
    if not isinstance(seed, int | np.integer) or not 0 <= seed < 2**32:
        raise ArgumentError(f"seed={seed!r} makes no scene; use a whole number from 0 to 4294967295.")
    sizes = tuple(shape) if isinstance(shape, Sequence) else ()
    if len(sizes) != 2 or not all(isinstance(size, int | np.integer) and size >= 64 for size in sizes):
        raise ArgumentError(f"shape={shape!r} makes no scene; use (H, W), whole numbers of 64 pixels or more.")
    height, width = sizes
    random = np.random.RandomState(seed)
    image = _background(random, height, width)
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


@dataclass
class _Object:
    """An object to be drawn. `cover` is 0 to 256 inside `window`; `solid` (H, W) is what is still to be seen of it."""

    kind: int
    window: tuple[slice, slice]
    cover: NDArray[np.int64]
    solid: NDArray[np.bool_]
    box: tuple[int, int, int, int]
    area: int

    def fits(self, placed: list[_Object]) -> bool:
        """Whether it is large enough to recognise, apart from the others, and leaves enough of them in sight."""
        if min(self.box[2] - self.box[0], self.box[3] - self.box[1]) < 12:
            return False
        return all(
            _iou(self.box, other.box) <= _MAX_IOU and (other.solid & ~self.solid).sum() >= _MIN_VISIBLE * other.area
            for other in placed
        )


def _background(random: np.random.RandomState, height: int, width: int) -> NDArray[np.int64]:
    """A colour gradient, two layers of smooth noise, stray lines and grain, as (H, W, 3) int64 in 0..255."""
    corners = random.randint(30, 200, (2, 2, 3), dtype=np.int64)
    image = _enlarge(corners, height, width)
    for cells, strength in ((5, 90), (24, 60)):
        grid = random.randint(0, 256, (cells, cells, 1), dtype=np.int64)
        image += (_enlarge(grid, height, width) - 128) * strength // 256
    for _ in range(random.randint(0, 7)):
        _stray_line(random, image)
    image += random.randint(-9, 10, image.shape, dtype=np.int64)
    return image.clip(0, 255)


def _enlarge(grid: NDArray[np.int64], height: int, width: int) -> NDArray[np.int64]:
    """Stretch a (gh, gw, c) grid over (H, W, c) by bilinear interpolation, in integers."""
    ys = np.arange(height, dtype=np.int64) * (grid.shape[0] - 1) * _ONE // height
    xs = np.arange(width, dtype=np.int64) * (grid.shape[1] - 1) * _ONE // width
    y, fy = ys // _ONE, (ys % _ONE)[:, None, None]
    x, fx = xs // _ONE, (xs % _ONE)[None, :, None]
    rows = grid[y] * (_ONE - fy) + grid[y + 1] * fy
    return (rows[:, x] * (_ONE - fx) + rows[:, x + 1] * fx) // (_ONE * _ONE)


def _stray_line(random: np.random.RandomState, image: NDArray[np.int64]) -> None:
    """A thin line across the picture: something that is no object, so that edges alone say little."""
    height, width = image.shape[:2]
    cos, sin = _direction(random.randint(0, 360))
    across = _along(height, width, random.randint(0, height), random.randint(0, width), cos, sin)
    image[np.abs(across) < random.randint(1, 4) * _ONE] = random.randint(0, 256, 3, dtype=np.int64)


def _direction(degrees: int) -> tuple[int, int]:
    return round(math.cos(math.radians(degrees)) * _ONE), round(math.sin(math.radians(degrees)) * _ONE)


def _along(height: int, width: int, cy: int, cx: int, cos: int, sin: int) -> NDArray[np.int64]:
    """Distance of each pixel from (cy, cx) in one direction, in 1/1024 pixel."""
    dy = np.arange(height, dtype=np.int64)[:, None] - cy
    dx = np.arange(width, dtype=np.int64)[None, :] - cx
    return dx * cos + dy * sin


def _place(random: np.random.RandomState, height: int, width: int) -> _Object | None:
    """Choose class, size, place and turn of an object, or None where nothing of it would be seen."""
    short = min(height, width)
    radius = max(8, short * random.randint(_RADIUS_PERCENT[0] * 10, _RADIUS_PERCENT[1] * 10 + 1) // 1000)
    cy, cx = random.randint(radius // 2, height - radius // 2), random.randint(radius // 2, width - radius // 2)
    kind, turn = random.randint(0, len(CLASSES)), random.randint(0, 360)
    reach = radius + max(2, short // 120) + 1  # room for the shadow
    window = slice(max(0, cy - reach), cy + reach), slice(max(0, cx - reach), cx + reach)
    rows, columns = min(height, cy + reach) - window[0].start, min(width, cx + reach) - window[1].start
    margin = _margin(CLASSES[kind], radius, turn, rows, columns, cy - window[0].start, cx - window[1].start)
    cover = (128 + margin // 4).clip(0, 256)
    solid = np.zeros((height, width), bool)
    solid[window] = cover > 128
    ys, xs = np.flatnonzero(solid.any(axis=1)), np.flatnonzero(solid.any(axis=0))
    if not len(ys):
        return None
    box = int(xs[0]), int(ys[0]), int(xs[-1]) + 1, int(ys[-1]) + 1
    return _Object(kind, window, cover, solid, box, int(solid.sum()))


def _margin(name: str, radius: int, turn: int, height: int, width: int, cy: int, cx: int) -> NDArray[np.int64]:
    """How deep each pixel lies inside the object, in 1/1024 pixel; negative outside.

    Straight-edged shapes are sets of half-planes: a triangle or a square is where all of them hold, and a
    five-pointed star is where at least four of its five do.
    """
    if name in ("disc", "ring"):
        dy = np.arange(height, dtype=np.int64)[:, None] - cy
        dx = np.arange(width, dtype=np.int64)[None, :] - cx
        square = dy * dy + dx * dx
        outer = (radius * radius - square) * _ONE // (2 * radius)
        hole = radius * 11 // 20
        return outer if name == "disc" else np.minimum(outer, (square - hole * hole) * _ONE // (2 * hole))
    sides, distance, may_fail = {"triangle": (3, 512, 0), "square": (4, 724, 0), "star": (5, 316, 1)}[name]
    planes = [
        radius * distance - _along(height, width, cy, cx, *_direction(turn + 360 * k // sides)) for k in range(sides)
    ]
    return np.sort(np.stack(planes), axis=0)[may_fail]


def _iou(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> float:
    inner = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
    both = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inner
    return inner / both


def _paint(random: np.random.RandomState, image: NDArray[np.int64], new: _Object) -> None:
    """Blend an object into the image, in place: a soft shadow, then a plain, striped or shaded filling."""
    shift = max(2, min(image.shape[:2]) // 120)
    part, cover = image[new.window], new.cover
    shadow = np.zeros_like(cover)
    shadow[shift:, shift:] = cover[:-shift, :-shift]
    part -= part * shadow[..., None] * 90 // (256 * 256)

    solid = cover > 128
    behind = part[solid].sum(axis=0) // solid.sum()
    first, second = random.randint(0, 256, (2, 3), dtype=np.int64)
    if np.abs(first - behind).sum() < 120:  # an object in the colour of its background could not be seen
        first = 255 - behind
    style, wave = random.randint(0, 3), random.randint(5, 14)
    across = _along(cover.shape[0], cover.shape[1], 0, 0, *_direction(random.randint(0, 360))) // _ONE
    reach = max(cover.shape)
    mix = {0: np.zeros_like(across), 1: (across // wave % 2) * 200, 2: (across + reach) * 128 // reach}[style]
    colour = (first * (256 - mix[..., None]) + second * mix[..., None]) // 256
    part += (colour - part) * cover[..., None] // 256
