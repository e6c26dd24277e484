"""The moving picture of a queue: its length, its batches and their waiting times, in three strips above one another.

As in `lanes`, each thing becomes a piece of a path once, and text stands beside the SVG, which can stretch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, log10
from typing import TypeVar

from yolothreads.lessons.panels.batching_run import BatchingRun
from yolothreads.lessons.panels.looks import BAD, GOOD, ODD

_T = TypeVar("_T")

SECONDS = 10.0  # how much of the past is shown
MARKS = {"refused": BAD, "late": ODD}
"""Colours of the ticks for calls that came to nothing."""

_UNITS = 100  # of the SVG, a second
_HEIGHT = 78  # of a strip, in pixels
_ABOVE = 0.32  # room above the highest value, as a share of it: there stand marks of calls that came to nothing
_BLUE, _SKY = "#0072b2", "#56b4e9"
_INK = "var(--jp-ui-font-color1, currentColor)"
_LINE = 'fill="none" vector-effect="non-scaling-stroke"'


class _Pieces:
    """Pieces of a path, each with the moment when it ends; those that have left the picture are dropped."""

    def __init__(self) -> None:
        self._kept: deque[tuple[float, str]] = deque()
        self.dropped = ""  # the last one

    def add(self, moment: float, piece: str) -> None:
        self._kept.append((moment, piece))

    def since(self, begin: float) -> str:
        while self._kept and self._kept[0][0] < begin:
            self.dropped = self._kept.popleft()[1]
        return "".join(piece for _, piece in self._kept)


class Strips:
    """Draws the last seconds of a run, again and again.

    Args:
        run: it may go on meanwhile.
    """

    def __init__(self, run: BatchingRun) -> None:
        self.run = run
        self._taken: dict[str, int] = {}  # of each list of the run, how many have become pieces
        self._waiting, self._sizes, self._waits = _Pieces(), _Pieces(), _Pieces()
        self._ticks = {outcome: _Pieces() for outcome in MARKS}
        self._longest: deque[tuple[float, float]] = deque()  # when a batch began, and its longest wait in ms

    def html(self, now: float) -> str:
        """The strips up to `now`, seconds of the run's clock."""
        choice, begin = self.run.choice, now - SECONDS
        self._take()
        while self._longest and self._longest[0][0] < begin:
            self._longest.popleft()
        size, batch = choice.queue_size, choice.max_batch
        wait = _round_up(max((wait for _, wait in self._longest), default=1))
        sizes = f'<path d="{self._sizes.since(begin)}" fill="{_BLUE}"/>'
        waits = (
            f'<path d="{self._waits.since(begin)}" stroke="{GOOD}" stroke-width="4" stroke-linecap="round" {_LINE}/>'
        )
        refused, late = self._marks("refused", begin, size), self._marks("late", begin, wait)
        strips = (
            _Strip("images waiting", size, f"room for {size}", "refused", self._queue(begin, now) + refused),
            _Strip("images in a batch", batch, f"at most {batch}", "", sizes),
            _Strip("waited (ms)", wait, "", "late" if choice.deadline_s is not None else "", waits + late),
        )
        x = self._x(begin)
        axis = f'<span class="axis"><span>{SECONDS:g} s ago</span><span>now</span></span>'
        return f'<div class="yolothreads-strips">{"".join(strip.html(x) for strip in strips)}{axis}</div>'

    def _x(self, moment: float) -> int:
        return round(_UNITS * (moment - self.run.began))

    def _take(self) -> None:
        """Turn what is new in the run into pieces."""
        run = self.run
        for moment, waiting in self._new("lengths", run.lengths):
            self._waiting.add(moment, f"H{self._x(moment)}V{-waiting}")
        for batch in self._new("batches", run.batches):
            left, width = self._x(batch.start), max(1, self._x(batch.end) - self._x(batch.start))
            self._sizes.add(batch.end, f"M{left} 0v{-batch.size}h{width}v{batch.size}z")
            low, high = 1000 * min(batch.waits_s), 1000 * max(batch.waits_s)
            self._waits.add(batch.start, f"M{left} {-low:.1f}V{-high:.1f}")
            self._longest.append((batch.start, high))
        for outcome, ticks in self._ticks.items():
            for moment in dict.fromkeys(self._new(outcome, run.calls.became[outcome])):
                ticks.add(moment, f"M{self._x(moment)} 0v1")

    def _new(self, name: str, kept: Sequence[_T]) -> Sequence[_T]:
        new = kept[self._taken.get(name, 0) :]
        self._taken[name] = len(kept)
        return new

    def _queue(self, begin: float, now: float) -> str:
        """The line of the images that wait, and what is below it."""
        steps = self._waiting.since(begin)
        before = self._waiting.dropped.partition("V")[2] or "0"
        line = f"V{before}{steps}H{self._x(now)}"
        left = self._x(max(begin, self.run.began))
        return (
            f'<path d="M{left} 0{line}V0z" fill="{_SKY}" fill-opacity="0.5"/>'
            f'<path d="M{left} {before}{line}" stroke="{_BLUE}" stroke-width="2" {_LINE}/>'
        )

    def _marks(self, outcome: str, begin: float, top: float) -> str:
        """A tick above the highest value for each moment at which calls came to nothing."""
        place = f'transform="translate(0 {-top * (1 + _ABOVE):g}) scale(1 {top * _ABOVE * 0.7:g})"'
        d = self._ticks[outcome].since(begin)
        return f'<path {place} d="{d}" stroke="{MARKS[outcome]}" stroke-width="2" {_LINE}/>'


@dataclass(frozen=True)
class _Strip:
    """One strip: what it shows, its highest value, what the line there and the ticks above it mean, and what is drawn.

    Text is empty where there is no line, or no ticks.
    """

    title: str
    top: float
    line: str
    ticks: str
    drawn: str

    def html(self, x: int) -> str:
        """The strip from `x` on, with its words."""
        high, width = self.top * (1 + _ABOVE), int(SECONDS * _UNITS)
        level = f'<path d="M{x} {-self.top}h{width}" stroke="{_INK}" stroke-dasharray="6 4" {_LINE}/>'
        label = f"{self.title} over the last {SECONDS:g} seconds, from 0 to {self.top:g}"
        ticks = f'<span><i class="tick" style="color:{MARKS[self.ticks]}"></i>{self.ticks}</span>' if self.ticks else ""
        line = f'<span><i class="line"></i>{self.line}</span>' if self.line else ""
        return (
            f'<div class="title"><b>{self.title}</b>{line}{ticks}</div>'
            f'<div class="scale"><span>{self.top:g}</span><span>0</span></div>'
            f'<svg role="img" aria-label="{label}" height="{_HEIGHT}" viewBox="{x} {-high:g} {width} {high:g}" '
            f'preserveAspectRatio="none">{level if self.line else ""}{self.drawn}</svg>'
        )


def _round_up(value: float) -> float:
    """The next of 1, 2, 5, 10, 20, 50, ...; a scale that changes with each batch could not be read."""
    power = 10.0 ** floor(log10(max(value, 1.0)))
    return next(step * power for step in (1, 2, 5, 10) if value <= step * power)
