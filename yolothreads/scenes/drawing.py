"""Drawing of backgrounds and objects, in integers, so that every platform gives the same pixels."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

CLASSES = ("disc", "ring", "square", "triangle", "star")
ONE = 1024  # fixed-point unit: lengths are kept in 1/1024 pixel


def background(random: np.random.RandomState, height: int, width: int) -> NDArray[np.int64]:
    """Draw a colour gradient, two layers of smooth noise, stray lines and grain, as (H, W, 3) int64 in 0..255."""
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
    ys = np.arange(height, dtype=np.int64) * (grid.shape[0] - 1) * ONE // height
    xs = np.arange(width, dtype=np.int64) * (grid.shape[1] - 1) * ONE // width
    y, fy = ys // ONE, (ys % ONE)[:, None, None]
    x, fx = xs // ONE, (xs % ONE)[None, :, None]
    rows = grid[y] * (ONE - fy) + grid[y + 1] * fy
    return (rows[:, x] * (ONE - fx) + rows[:, x + 1] * fx) // (ONE * ONE)


def _stray_line(random: np.random.RandomState, image: NDArray[np.int64]) -> None:
    """Draw a thin line across the picture: not an object, so that edges alone do not give objects away."""
    height, width = image.shape[:2]
    cos, sin = direction(random.randint(0, 360))
    across = along(height, width, random.randint(0, height), random.randint(0, width), cos, sin)
    image[np.abs(across) < random.randint(1, 4) * ONE] = random.randint(0, 256, 3, dtype=np.int64)


def direction(degrees: int) -> tuple[int, int]:
    """Return cosine and sine, in 1/1024."""
    return round(math.cos(math.radians(degrees)) * ONE), round(math.sin(math.radians(degrees)) * ONE)


def along(height: int, width: int, cy: int, cx: int, cos: int, sin: int) -> NDArray[np.int64]:
    """Return the distance of each pixel from (cy, cx) in one direction, in 1/1024 pixel."""
    dy = np.arange(height, dtype=np.int64)[:, None] - cy
    dx = np.arange(width, dtype=np.int64)[None, :] - cx
    return dx * cos + dy * sin


def margin(name: str, radius: int, turn: int, height: int, width: int, cy: int, cx: int) -> NDArray[np.int64]:
    """Return how deep each pixel lies inside the object, in 1/1024 pixel; negative outside.

    Straight-edged shapes are sets of half-planes: a triangle or a square is where all of them hold, and a
    five-pointed star is where at least four of its five do.
    """
    if name in ("disc", "ring"):
        dy = np.arange(height, dtype=np.int64)[:, None] - cy
        dx = np.arange(width, dtype=np.int64)[None, :] - cx
        square = dy * dy + dx * dx
        outer = (radius * radius - square) * ONE // (2 * radius)
        hole = radius * 11 // 20
        return outer if name == "disc" else np.minimum(outer, (square - hole * hole) * ONE // (2 * hole))
    sides, distance, may_fail = {"triangle": (3, 512, 0), "square": (4, 724, 0), "star": (5, 316, 1)}[name]
    planes = [
        radius * distance - along(height, width, cy, cx, *direction(turn + 360 * k // sides)) for k in range(sides)
    ]
    return np.sort(np.stack(planes), axis=0)[may_fail]


class Look(NamedTuple):
    """The filling of an object: two BGR colours (3,), a style (0 plain, 1 striped, 2 shaded), stripe width, turn."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    style: int
    wave: int
    turn: int

    @classmethod
    def drawn(cls, random: np.random.RandomState) -> Look:
        """Draw a random look."""
        first, second = random.randint(0, 256, (2, 3), dtype=np.int64)
        return cls(first, second, random.randint(0, 3), random.randint(5, 14), random.randint(0, 360))

    def filling(self, height: int, width: int) -> NDArray[np.int64]:
        """Return the colours of a window that an object lies in: (height, width, 3), 0 to 255."""
        across = along(height, width, 0, 0, *direction(self.turn)) // ONE
        reach = max(height, width)
        mix = (np.zeros_like(across), (across // self.wave % 2) * 200, (across + reach) * 128 // reach)[self.style]
        return (self.first * (256 - mix[..., None]) + self.second * mix[..., None]) // 256


def reach_of(radius: int, short: int) -> int:
    """Return how far from its centre an object changes pixels, with its shadow; `short` is the shorter side."""
    return radius + max(2, short // 120) + 1


def cast_shadow(part: NDArray[np.int64], cover: NDArray[np.int64], shift: int) -> None:
    """Darken a part of a picture, in place, by the soft shadow of an object that covers it (0 to 256 a pixel)."""
    shadow = np.zeros_like(cover)
    shadow[shift:, shift:] = cover[:-shift, :-shift]
    part -= part * shadow[..., None] * 90 // (256 * 256)
