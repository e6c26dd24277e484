"""Pictures to detect in: generated scenes and camera clips whose truth is known, or a folder of your own.

Scenes are drawn with integer arithmetic and a frozen random stream (`numpy.random.RandomState`, which NEP 19 promises
never to change), so a seed gives the same pixels on every platform and with every version of numpy.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

from yolothreads.errors import ArgumentError, ImageError, at_least_one

CLASSES = ("disc", "ring", "square", "triangle", "star")

SHAPES = ((480, 640), (640, 480), (640, 640), (384, 640), (640, 384))
"""Shapes (H, W) that `pictures` goes through: landscape, portrait, square and two wide ones."""

_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
_ONE = 1024  # fixed-point unit: lengths are kept in 1/1024 pixel

_OBJECTS, _MOVERS = (3, 12), (4, 7)  # in a scene, and in a frame of a clip
_RADIUS, _MOVER_RADIUS = (60, 170), (80, 130)  # in 1/1000 of the shorter side
_SPEED = (8, 20)  # in 1/1000 of the shorter side per frame
_MAX_IOU, _UNCOVERED = 0.35, 0.65  # of two objects of a scene; the share of an object that later ones leave uncovered
_MIN_VISIBLE = 0.4  # share of an object of a clip that must be seen: with less of it, it has no box
_LOOK_AHEAD, _CROSSING_FRAMES = 60, 8


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
    at_least_one("count", count)
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
    files = sorted(f for f in place.iterdir() if f.suffix.lower() in _SUFFIXES and f.is_file())
    if not files:
        raise ImageError(f'The folder "{place}" holds no pictures ({", ".join(_SUFFIXES)}); add some, or use "scenes".')
    return files


def scene(seed: int, shape: tuple[int, int] = (480, 640)) -> Scene:
    """Draw a scene: 3 to 12 overlapping objects of five classes on a textured background.

    Args:
        seed: 0 to 2**32 - 1. The same seed and shape give the same pixels everywhere.
        shape: (H, W) in pixels, each 64 or more.

    Raises:
        ArgumentError: a seed or a shape outside these ranges.
    """
    height, width = _checked_shape(seed, shape, "scene")
    random = RandomState(seed)
    image = _background(random, height, width)
    placed: list[_Object] = []
    wanted = random.randint(_OBJECTS[0], _OBJECTS[1] + 1)
    # A crowded scene may have no room for the last objects: give up after 60 tries, but never below the minimum.
    for attempt in range(400):
        if len(placed) == wanted or (attempt > 60 and len(placed) >= _OBJECTS[0]):
            break
        new = _placed_object(random, height, width)
        if new.fits(placed):
            for other in placed:
                other.solid &= ~new.solid
            _paint(random, image, new)
            placed.append(new)
    boxes, kinds = np.array([o.box for o in placed], np.float32), np.array([o.kind for o in placed], np.int64)
    return Scene(np.ascontiguousarray(image, np.uint8), boxes, kinds)


def clip(seed: int, frames: int, shape: tuple[int, int] = (480, 640), *, first_id: int = 0) -> Iterator[Scene]:
    """Draw the frames of a fixed camera lazily, one by one; their `ids` identify each object.

    4 to 7 objects of the five classes move in straight lines over a fixed background; they cross, leave the picture,
    and new objects replace them. An object that has left does not come back. An object that is less than 40 % visible
    has no box; a box holds the whole object, clipped to the image, as in a scene.

    Args:
        seed: 0 to 2**32 - 1. The same seed and shape give the same frames everywhere; a longer clip begins with the
            frames of a shorter one.
        frames: the number of frames, 1 or more.
        shape: (H, W) in pixels, each 64 or more.
        first_id: the identity of the first object; later ones follow. Clips that are used together need
            different ones.

    Raises:
        ArgumentError: a value outside these ranges.
    """
    height, width = _checked_shape(seed, shape, "clip")
    if isinstance(frames, bool) or not isinstance(frames, int | np.integer) or frames < 1:
        raise ArgumentError(f"frames={frames!r} is not a number of frames; use a whole number, 1 or more.")
    return _frames(RandomState(seed), frames, height, width, first_id)


def _checked_shape(seed: int, shape: tuple[int, int], what: str) -> tuple[int, int]:
    """Return (H, W), or raise an ArgumentError if no scene or clip (`what`) can be made."""
    if not isinstance(seed, int | np.integer) or not 0 <= seed < 2**32:
        raise ArgumentError(f"seed={seed!r} is not a seed of a {what}; use a whole number from 0 to 4294967295.")
    sizes = tuple(shape) if isinstance(shape, Sequence) else ()
    if len(sizes) != 2 or not all(isinstance(size, int | np.integer) and size >= 64 for size in sizes):
        raise ArgumentError(
            f"shape={shape!r} is not a shape of a {what}; use (H, W), whole numbers of 64 pixels or more."
        )
    return sizes[0], sizes[1]


# --- scenes ---


@dataclass
class _Object:
    """An object to draw. `cover` is 0 to 256 inside `window`; `solid` (H, W) is its visible part; `box` is xyxy."""

    kind: int
    window: tuple[slice, slice]
    cover: NDArray[np.int64]
    solid: NDArray[np.bool_]
    box: tuple[int, int, int, int]
    area: int

    def fits(self, placed: list[_Object]) -> bool:
        """Whether it is large enough, apart from the others, and leaves enough of them visible."""
        return min(self.box[2] - self.box[0], self.box[3] - self.box[1]) >= 12 and all(
            _iou(self.box, other.box) <= _MAX_IOU and (other.solid & ~self.solid).sum() >= _UNCOVERED * other.area
            for other in placed
        )


def _placed_object(random: RandomState, height: int, width: int) -> _Object:
    """Draw class, size, position and rotation of an object at random."""
    radius, reach = _drawn_size(random, _RADIUS, height, width)
    cy, cx = random.randint(radius // 2, height - radius // 2), random.randint(radius // 2, width - radius // 2)
    kind, turn = random.randint(0, len(CLASSES)), random.randint(0, 360)
    window, inside = _window(cy - reach, cx - reach, reach, height, width)
    cover, solid = _cover(CLASSES[kind], radius, turn, reach)[inside], np.zeros((height, width), bool)
    solid[window] = cover > 128
    return _Object(kind, window, cover, solid, _extent(solid), int(solid.sum()))


def _iou(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> float:
    inner = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
    both = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inner
    return inner / both


def _paint(random: RandomState, image: NDArray[np.int64], new: _Object) -> None:
    """Blend an object into the image, in place: a soft shadow, then a plain, striped or shaded filling."""
    _cast_shadow(image, new.window, new.cover)
    part, solid = image[new.window], new.cover > 128
    behind = part[solid].sum(axis=0) // solid.sum()
    look = _Look.drawn(random)
    if np.abs(look.first - behind).sum() < 120:  # an object in the colour of its background could not be seen
        look = look._replace(first=255 - behind)
    part += (look.filling(*new.cover.shape) - part) * new.cover[..., None] // 256


# --- clips ---


@dataclass
class _Mover:
    """A moving object. `cover` (0 to 256), `colour` and `solid` are (2r, 2r) around its centre at (y, x).

    y, x, dy and dx are in 1/1024 pixel; box is xyxy in pixels, from the centre.
    """

    identity: int
    kind: int
    cover: NDArray[np.int64]
    colour: NDArray[np.int64]
    solid: NDArray[np.bool_]
    box: NDArray[np.int64]
    y: int
    x: int
    dy: int
    dx: int

    def move(self, steps: int) -> None:
        """Move by a number of frames, backwards if it is negative."""
        self.y, self.x = self.y + steps * self.dy, self.x + steps * self.dx

    def frames_over(self, other: _Mover) -> int:
        """Count the next frames in which the two overlap by half or more; very many if they overlap now."""
        steps = np.arange(_LOOK_AHEAD)
        away = [other.y - self.y + steps * (other.dy - self.dy), other.x - self.x + steps * (other.dx - self.dx)]
        near = np.abs(away).max(axis=0) // _ONE < (len(self.solid) + len(other.solid)) // 4
        return int(near.sum()) + _LOOK_AHEAD * int(near[0])

    def box_in(self, height: int, width: int) -> NDArray[np.int64]:
        """Return its box, clipped to the image."""
        centre = self.x // _ONE, self.y // _ONE
        return (self.box + [*centre, *centre]).clip(0, [width, height, width, height])

    def in_sight(self, height: int, width: int) -> bool:
        """Whether its box reaches into the image."""
        x1, y1, x2, y2 = self.box_in(height, width)
        return bool(x1 < x2 and y1 < y2)


def _frames(random: RandomState, frames: int, height: int, width: int, identity: int) -> Iterator[Scene]:
    behind = _background(random, height, width)
    wanted = random.randint(_MOVERS[0], _MOVERS[1] + 1)
    movers: list[_Mover] = []
    for number in range(frames):
        for mover in movers:
            mover.move(1)
        movers = [m for m in movers if m.in_sight(height, width)]
        while len(movers) < wanted:
            movers.append(_newcomer(random, behind, movers, identity, at_border=number > 0))
            identity += 1
        yield _frame(behind, movers)


def _newcomer(
    random: RandomState, behind: NDArray[np.int64], others: list[_Mover], identity: int, at_border: bool
) -> _Mover:
    """Make an object that heads for the middle or comes in at the border: of 12, the one that overlaps least."""
    height, width = behind.shape[:2]
    candidates = []
    for _ in range(12):
        new = _mover(random, behind, identity)
        if at_border:
            while new.in_sight(height, width):
                new.move(-1)
            new.move(1)
        else:
            new.move(-random.randint(0, 11))
        candidates.append(new)
    # Two that cross overlap by half for some frames; two on the same path would do so for good.
    return min(candidates, key=lambda new: sum(max(_CROSSING_FRAMES, new.frames_over(other)) for other in others))


def _mover(random: RandomState, behind: NDArray[np.int64], identity: int) -> _Mover:
    height, width = behind.shape[:2]
    short = min(height, width)
    radius, reach = _drawn_size(random, _MOVER_RADIUS, height, width)
    kind, turn = random.randint(0, len(CLASSES)), random.randint(0, 360)
    cover = _cover(CLASSES[kind], radius, turn, reach)
    solid = cover > 128
    # All paths lead through the middle half of the picture.
    y, x = random.randint(height // 4, height * 3 // 4), random.randint(width // 4, width * 3 // 4)
    cos, sin = _direction(random.randint(0, 360))
    speed = short * _ONE * random.randint(_SPEED[0], _SPEED[1] + 1) // 1000
    # Of eight looks, the one that stands out most along the path.
    path = [(y + sin * i * short // (8 * _ONE), x + cos * i * short // (8 * _ONE)) for i in range(-8, 9)]
    seen = np.array([behind[v, u] for v, u in path if 0 <= v < height and 0 <= u < width])
    look = max((_Look.drawn(random) for _ in range(8)), key=lambda k: int(np.abs(k.first - seen).sum(axis=1).min()))
    place = y * _ONE, x * _ONE, sin * speed // _ONE, cos * speed // _ONE
    return _Mover(identity, kind, cover, look.filling(*cover.shape), solid, np.array(_extent(solid)) - reach, *place)


def _frame(behind: NDArray[np.int64], movers: list[_Mover]) -> Scene:
    """Draw the objects, each over the previous ones, with the truth about the visible ones."""
    height, width = behind.shape[:2]
    image, top = behind.copy(), np.zeros((height, width), np.int64)  # top: number of the object seen at each pixel
    for number, mover in enumerate(movers, 1):
        reach = len(mover.solid) // 2
        window, inside = _window(mover.y // _ONE - reach, mover.x // _ONE - reach, reach, height, width)
        part, cover = image[window], mover.cover[inside]
        _cast_shadow(image, window, cover)
        part += (mover.colour[inside] - part) * cover[..., None] // 256
        top[window][mover.solid[inside]] = number
    seen = np.bincount(top.ravel(), minlength=len(movers) + 1)[1:]
    shown = [m for m, pixels in zip(movers, seen, strict=True) if pixels >= _MIN_VISIBLE * m.solid.sum()]
    boxes = np.array([m.box_in(height, width) for m in shown], np.float32).reshape(-1, 4)
    kinds, ids = np.array([m.kind for m in shown], np.int64), np.array([m.identity for m in shown], np.int64)
    return Scene(np.ascontiguousarray(image, np.uint8), boxes, kinds, ids)


# --- drawing, in integers ---


def _background(random: RandomState, height: int, width: int) -> NDArray[np.int64]:
    """Draw a colour gradient, two layers of smooth noise, stray lines and grain, as (H, W, 3) int64 in 0..255."""
    image = _enlarge(random.randint(30, 200, (2, 2, 3), dtype=np.int64), height, width)
    for cells, strength in ((5, 90), (24, 60)):
        grid = random.randint(0, 256, (cells, cells, 1), dtype=np.int64)
        image += (_enlarge(grid, height, width) - 128) * strength // 256
    for _ in range(random.randint(0, 7)):  # thin lines that are not objects, so that an edge alone reveals no object
        cos, sin = _direction(random.randint(0, 360))
        across = _along(height, width, random.randint(0, height), random.randint(0, width), cos, sin)
        image[np.abs(across) < random.randint(1, 4) * _ONE] = random.randint(0, 256, 3, dtype=np.int64)
    image += random.randint(-9, 10, image.shape, dtype=np.int64)
    return image.clip(0, 255)


def _enlarge(grid: NDArray[np.int64], height: int, width: int) -> NDArray[np.int64]:
    """Stretch a (gh, gw, c) grid over (H, W, c) by bilinear interpolation."""
    ys = np.arange(height, dtype=np.int64) * (grid.shape[0] - 1) * _ONE // height
    xs = np.arange(width, dtype=np.int64) * (grid.shape[1] - 1) * _ONE // width
    y, fy = ys // _ONE, (ys % _ONE)[:, None, None]
    x, fx = xs // _ONE, (xs % _ONE)[None, :, None]
    rows = grid[y] * (_ONE - fy) + grid[y + 1] * fy
    return (rows[:, x] * (_ONE - fx) + rows[:, x + 1] * fx) // (_ONE * _ONE)


def _direction(degrees: int) -> tuple[int, int]:
    """Return cosine and sine, in 1/1024."""
    return round(math.cos(math.radians(degrees)) * _ONE), round(math.sin(math.radians(degrees)) * _ONE)


def _along(height: int, width: int, cy: int, cx: int, cos: int, sin: int) -> NDArray[np.int64]:
    """Return the distance of each pixel from (cy, cx) in one direction, in 1/1024 pixel."""
    dy = np.arange(height, dtype=np.int64)[:, None] - cy
    dx = np.arange(width, dtype=np.int64)[None, :] - cx
    return dx * cos + dy * sin


def _drawn_size(random: RandomState, permille: tuple[int, int], height: int, width: int) -> tuple[int, int]:
    """Draw the radius of an object; return it and how far from its centre the object and its shadow reach."""
    radius = max(8, min(height, width) * random.randint(permille[0], permille[1] + 1) // 1000)
    return radius, radius + _shadow_shift(height, width) + 1


def _shadow_shift(height: int, width: int) -> int:
    return max(2, min(height, width) // 120)


def _window(y: int, x: int, reach: int, height: int, width: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return the part of the image that an object of (2 reach, 2 reach) at (y, x) covers, and that part of the object.

    y, x: the upper left corner, which may lie outside the image.
    """
    window = slice(max(0, y), max(0, y + 2 * reach)), slice(max(0, x), max(0, x + 2 * reach))
    return window, (slice(max(0, -y), max(0, height - y)), slice(max(0, -x), max(0, width - x)))


def _cover(name: str, radius: int, turn: int, reach: int) -> NDArray[np.int64]:
    """Return how much of each pixel an object covers, (2 reach, 2 reach), 0 to 256: more than 128 is inside.

    Straight-edged shapes are sets of half-planes: a triangle or a square is where all of them hold, and a
    five-pointed star is where at least four of its five do.
    """
    dy = np.arange(-reach, reach, dtype=np.int64)[:, None]
    dx = dy.T
    if name in ("disc", "ring"):
        square, hole = dy * dy + dx * dx, radius * 11 // 20
        depth = (radius * radius - square) * _ONE // (2 * radius)  # inside the object, in 1/1024 pixel
        if name == "ring":
            depth = np.minimum(depth, (square - hole * hole) * _ONE // (2 * hole))
    else:
        sides, distance, may_fail = {"triangle": (3, 512, 0), "square": (4, 724, 0), "star": (5, 316, 1)}[name]
        directions = [_direction(turn + 360 * k // sides) for k in range(sides)]
        depth = np.sort([radius * distance - dx * cos - dy * sin for cos, sin in directions], axis=0)[may_fail]
    return (128 + depth // 4).clip(0, 256)


def _extent(solid: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Return the box around the true elements, xyxy."""
    ys, xs = np.flatnonzero(solid.any(axis=1)), np.flatnonzero(solid.any(axis=0))
    return int(xs[0]), int(ys[0]), int(xs[-1]) + 1, int(ys[-1]) + 1


class _Look(NamedTuple):
    """The filling of an object: two BGR colours (3,), a style (0 plain, 1 striped, 2 shaded), stripe width, turn."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    style: int
    wave: int
    turn: int

    @classmethod
    def drawn(cls, random: RandomState) -> _Look:
        """Draw a random look."""
        first, second = random.randint(0, 256, (2, 3), dtype=np.int64)
        return cls(first, second, random.randint(0, 3), random.randint(5, 14), random.randint(0, 360))

    def filling(self, height: int, width: int) -> NDArray[np.int64]:
        """Return the colours of a window that an object lies in: (height, width, 3), 0 to 255."""
        across = _along(height, width, 0, 0, *_direction(self.turn)) // _ONE
        reach = max(height, width)
        mix = (np.zeros_like(across), (across // self.wave % 2) * 200, (across + reach) * 128 // reach)[self.style]
        return (self.first * (256 - mix[..., None]) + self.second * mix[..., None]) // 256


def _cast_shadow(image: NDArray[np.int64], window: tuple[slice, slice], cover: NDArray[np.int64]) -> None:
    """Darken a window of the image, in place, by the soft shadow of an object that covers it (0 to 256 per pixel)."""
    shift, part, shadow = _shadow_shift(*image.shape[:2]), image[window], np.zeros_like(cover)
    shadow[shift:, shift:] = cover[:-shift, :-shift]
    part -= part * shadow[..., None] * 90 // (256 * 256)
