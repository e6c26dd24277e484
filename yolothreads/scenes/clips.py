"""Clips of a fixed camera: objects keep their looks and move steadily from frame to frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from yolothreads.errors import ArgumentError
from yolothreads.scenes.drawing import CLASSES, ONE, Look, background, cast_shadow, direction, margin, reach_of
from yolothreads.scenes.stills import Scene, check_shape

_OBJECTS = (4, 7)
_RADIUS_PERMILLE = (80, 130)  # of the shorter side
_SPEED_PERMILLE = (8, 20)  # of the shorter side, a frame
_LOOK_AHEAD, _CROSSING_FRAMES = 60, 8
_MIN_VISIBLE = 0.4  # share of an object that must be seen: with less of it, it has no box


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
    size = check_shape(seed, shape, "clip")
    if isinstance(frames, bool) or not isinstance(frames, int | np.integer) or frames < 1:
        raise ArgumentError(f"frames={frames!r} is not a number of frames; use a whole number, 1 or more.")
    return _frames(np.random.RandomState(seed), frames, *size, first_id)


@dataclass
class _Mover:
    """An object on its way. `cover` (0 to 256), `colour` and `solid` are (2r, 2r) around its centre at (y, x).

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
        near = np.abs(away).max(axis=0) // ONE < (len(self.solid) + len(other.solid)) // 4
        return int(near.sum()) + _LOOK_AHEAD * int(near[0])

    def box_in(self, height: int, width: int) -> NDArray[np.int64]:
        """Return its box, clipped to the image."""
        centre = self.x // ONE, self.y // ONE
        return (self.box + [*centre, *centre]).clip(0, [width, height, width, height])

    def in_sight(self, height: int, width: int) -> bool:
        """Whether its box reaches into the image."""
        x1, y1, x2, y2 = self.box_in(height, width)
        return bool(x1 < x2 and y1 < y2)


def _frames(random: np.random.RandomState, frames: int, height: int, width: int, identity: int) -> Iterator[Scene]:
    behind = background(random, height, width)
    wanted = random.randint(_OBJECTS[0], _OBJECTS[1] + 1)
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
    random: np.random.RandomState, behind: NDArray[np.int64], others: list[_Mover], identity: int, at_border: bool
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
    # Two that cross are half over each other for some frames; two on the same way would be so for good.
    return min(candidates, key=lambda new: sum(max(_CROSSING_FRAMES, new.frames_over(other)) for other in others))


def _mover(random: np.random.RandomState, behind: NDArray[np.int64], identity: int) -> _Mover:
    height, width = behind.shape[:2]
    short = min(height, width)
    radius = max(8, short * random.randint(_RADIUS_PERMILLE[0], _RADIUS_PERMILLE[1] + 1) // 1000)
    kind, turn = random.randint(0, len(CLASSES)), random.randint(0, 360)
    reach = reach_of(radius, short)
    cover = (128 + margin(CLASSES[kind], radius, turn, 2 * reach, 2 * reach, reach, reach) // 4).clip(0, 256)
    solid = cover > 128
    ys, xs = np.flatnonzero(solid.any(axis=1)) - reach, np.flatnonzero(solid.any(axis=0)) - reach
    box = np.array([xs[0], ys[0], xs[-1] + 1, ys[-1] + 1])
    # All ways lead through the middle half of the picture.
    y, x = random.randint(height // 4, height * 3 // 4), random.randint(width // 4, width * 3 // 4)
    cos, sin = direction(random.randint(0, 360))
    speed = short * ONE * random.randint(_SPEED_PERMILLE[0], _SPEED_PERMILLE[1] + 1) // 1000
    # Of eight looks, the one that stands out most wherever it comes by.
    way = [(y + sin * i * short // (8 * ONE), x + cos * i * short // (8 * ONE)) for i in range(-8, 9)]
    seen = np.array([behind[v, u] for v, u in way if 0 <= v < height and 0 <= u < width])
    look = max((Look.drawn(random) for _ in range(8)), key=lambda k: int(np.abs(k.first - seen).sum(axis=1).min()))
    place = y * ONE, x * ONE, sin * speed // ONE, cos * speed // ONE
    return _Mover(identity, kind, cover, look.filling(*cover.shape), solid, box, *place)


def _frame(behind: NDArray[np.int64], movers: list[_Mover]) -> Scene:
    """Draw the objects, each over the previous ones, with the truth about the visible ones."""
    height, width = behind.shape[:2]
    image, top = behind.copy(), np.zeros((height, width), np.int64)  # top: number of the object seen at each pixel
    for number, mover in enumerate(movers, 1):
        reach = len(mover.solid) // 2
        y, x = mover.y // ONE - reach, mover.x // ONE - reach
        window = slice(max(0, y), max(0, y + 2 * reach)), slice(max(0, x), max(0, x + 2 * reach))
        own = slice(max(0, -y), max(0, height - y)), slice(max(0, -x), max(0, width - x))
        part, cover = image[window], mover.cover[own]
        cast_shadow(part, cover, max(2, min(height, width) // 120))
        part += (mover.colour[own] - part) * cover[..., None] // 256
        top[window][mover.solid[own]] = number
    seen = np.bincount(top.ravel(), minlength=len(movers) + 1)[1:]
    shown = [m for m, pixels in zip(movers, seen, strict=True) if pixels >= _MIN_VISIBLE * m.solid.sum()]
    boxes = np.array([m.box_in(height, width) for m in shown], np.float32).reshape(-1, 4)
    kinds, ids = np.array([m.kind for m in shown], np.int64), np.array([m.identity for m in shown], np.int64)
    return Scene(np.ascontiguousarray(image, np.uint8), boxes, kinds, ids)
