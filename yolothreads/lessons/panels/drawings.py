"""Moving pictures of panels: the timeline of threads, the strips of a queue, and the progress bar.

Each is redrawn up to ten times a second. Every span or batch becomes a piece of an SVG path once, and is only moved
afterwards. Text stands beside the SVG and not in it, so that the drawing stretches with the window and letters do not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import floor, log10
from time import perf_counter
from typing import TypeVar

from yolothreads.lessons.panels.style import TEXT_COLOUR
from yolothreads.lessons.texts import section
from yolothreads.palette import BAD, BLUE, GOOD, MIDDLE_GREY, ODD, SKY, STAGES
from yolothreads.pools import Batch
from yolothreads.trace import Span

_T = TypeVar("_T")

_TEXTS = section("panels", "drawings")

MARKS = {"refused": BAD, "late": ODD}
"""Colours of the ticks for calls without a result."""


def progress_bar(done: float, total: float, label: str) -> str:
    """Return a progress bar; the label is for screen readers."""
    return f'<progress aria-label="{escape(label)}" value="{done:g}" max="{total:g}"></progress>'


def _axis(seconds: float) -> str:
    ago = _TEXTS["ago"].format(seconds=seconds)
    return f'<span class="axis"><span>{ago}</span><span>{_TEXTS["now"]}</span></span>'


class _Path:
    """Pieces of an SVG path, each with its end in time; those that have left the picture are dropped."""

    def __init__(self) -> None:
        self._pieces: deque[tuple[float, str]] = deque()
        self.last_dropped = ""

    def add(self, end: float, piece: str) -> None:
        self._pieces.append((end, piece))

    def since(self, begin: float) -> str:
        """Return the pieces that end at `begin` or later."""
        while self._pieces and self._pieces[0][0] < begin:
            self.last_dropped = self._pieces.popleft()[1]
        return "".join(piece for _, piece in self._pieces)


# --- the timeline of threads ---

LANE = 24  # height of a lane in pixels
_LANES_WIDTH = 1000  # units of the SVG, which stretches with the window

_BANDS = {"full": (3, 18), "upper": (3, 9), "lower": (12, 9)}  # first pixel and height of a bar in its lane
# Stages with these hatches are boxes with a pattern. All others are thick lines, which take half as many characters:
# there are hundreds of bars in each of ten redraws a second.
_PATTERN_IDS = {"////": "yolothreads-lines", "....": "yolothreads-dots"}
_PATTERNS = (
    '<defs><pattern id="yolothreads-lines" width="7" height="7" patternUnits="userSpaceOnUse" '
    f'patternTransform="rotate(45)"><path d="M0 0V7" stroke="{TEXT_COLOUR}" stroke-width="2.5"/></pattern>'
    '<pattern id="yolothreads-dots" width="6" height="6" patternUnits="userSpaceOnUse">'
    f'<circle cx="3" cy="3" r="1.4" fill="{TEXT_COLOUR}"/></pattern></defs>'
)
_OF_OTHER_LESSONS = ("python", "turn")  # stages that no pool has


def _stage_style(stage: str) -> str:
    colour, hatch = STAGES[stage].colour, STAGES[stage].hatch
    if hatch in _PATTERN_IDS:
        outline = f'stroke="{TEXT_COLOUR}" stroke-width="1" vector-effect="non-scaling-stroke"'
        return f'fill="url(#{_PATTERN_IDS[hatch]})" {outline}'
    return f'stroke="{colour}" stroke-width="{_BANDS[STAGES[stage].band][1]}"'


def _bar(stage: str, row: int, left: float, width: float) -> str:
    top, height = _BANDS[STAGES[stage].band]
    if STAGES[stage].hatch in _PATTERN_IDS:
        return f"M{left:.1f} {LANE * row + top}h{width:.1f}v{height}h-{width:.1f}z"
    return f"M{left:.1f} {LANE * row + top + height / 2:g}h{width:.1f}"


class Lanes:
    """Timeline of the last seconds of a growing list of spans, with one lane per thread.

    Args:
        spans: in the order of their ends, as `trace.recording` adds them.
        seconds: how much of the past is shown.
    """

    def __init__(self, spans: Sequence[Span], seconds: float = 2.0) -> None:
        self.spans, self.seconds = spans, seconds
        self._scale = _LANES_WIDTH / seconds
        self._zero: float | None = None  # the moment that bars are measured from
        self._taken = 0  # spans that have become bars
        self._bars = {stage: _Path() for stage in STAGES}
        self._rows: dict[str, int] = {}  # a thread keeps its first lane

    def html(self, now: float | None = None) -> str:
        """Return the timeline up to `now`, in seconds of `time.perf_counter`; by default this moment."""
        begin = (perf_counter() if now is None else now) - self.seconds
        self._zero = begin if self._zero is None else self._zero
        self._take_new(begin, self._zero)
        shift = (self._zero - begin) * self._scale
        paths = "".join(
            f'<path {_stage_style(stage)} d="{d}"/>' for stage, bars in self._bars.items() if (d := bars.since(begin))
        )
        return self._frame(f'<g transform="translate({shift:.1f})">{paths}</g>')

    def _take_new(self, begin: float, zero: float) -> None:
        """Turn the spans since the last redraw into bars; those of one stage become one piece."""
        new: dict[str, list[str]] = {}
        last = begin
        for thread, stage, start, end in self.spans[self._taken : len(self.spans)]:
            self._taken += 1
            row = self._rows.setdefault(thread, len(self._rows))
            if stage in self._bars and end > begin:
                bar = _bar(stage, row, (start - zero) * self._scale, max(1.0, (end - start) * self._scale))
                new.setdefault(stage, []).append(bar)
                last = max(last, end)
        for stage, bars in new.items():
            self._bars[stage].add(last, "".join(bars))

    def _frame(self, drawn: str) -> str:
        names = "".join(f"<span>{escape(thread)}</span>" for thread in self._rows)
        rows = max(1, len(self._rows))
        height = LANE * rows
        lines = "".join(f"M0 {LANE * row + LANE}h{_LANES_WIDTH}" for row in range(rows))
        label = _TEXTS["timeline"].format(threads=len(self._rows), seconds=self.seconds)
        return (
            f'<div class="yolothreads-lanes">{names}<svg role="img" aria-label="{label}" height="{height}" '
            f'viewBox="0 0 {_LANES_WIDTH} {height}" preserveAspectRatio="none" style="grid-row:1/span {rows}">'
            f'{_PATTERNS}<path d="{lines}" stroke="{MIDDLE_GREY}" stroke-width="1"/>{drawn}</svg>'
            f"{_axis(self.seconds)}</div>"
        )


def legend() -> str:
    """Return the legend of a timeline: a bar and its meaning for each stage that pools have."""
    entries = []
    for name, stage in STAGES.items():
        if name in _OF_OTHER_LESSONS:
            continue
        top, height = _BANDS[stage.band]
        bar = f'<path {_stage_style(name)} d="M0 {top - 3 + height / 2:g}h28"/>'
        if stage.hatch in _PATTERN_IDS:
            bar = f'<rect x="0" y="{top - 3}" width="28" height="{height - 2}" {_stage_style(name)}/>'
        entries.append(f'<span><svg viewBox="0 0 28 16" aria-hidden="true">{_PATTERNS}{bar}</svg>{stage.words}</span>')
    return f'<div class="yolothreads-legend">{"".join(entries)}</div>'


# --- the strips of a queue ---

STRIP_SECONDS = 10.0  # how much of the past the strips show
_UNITS = 100  # of the SVG, per second
_STRIP_HEIGHT = 78  # in pixels
_ABOVE = 0.32  # room above the highest value, as a share of it: for the ticks of calls without a result
_LINE = 'fill="none" vector-effect="non-scaling-stroke"'


class Strips:
    """Moving picture of a queue: its length, its batches and their waiting times, in three strips below one another.

    Args:
        queue_size: how many images may wait.
        max_batch: the most images in one batch.
        has_deadline: whether calls can be late.
    """

    def __init__(self, queue_size: int, max_batch: int, *, has_deadline: bool) -> None:
        self._queue_size, self._max_batch, self._has_deadline = queue_size, max_batch, has_deadline
        self._taken: dict[str, int] = {}  # how many items of each list have become pieces
        self._waiting, self._sizes, self._waits = _Path(), _Path(), _Path()
        self._ticks = {outcome: _Path() for outcome in MARKS}
        self._longest: deque[tuple[float, float]] = deque()  # the start of each batch, and its longest wait in ms
        self._zero = 0.0

    def html(
        self,
        now: float,
        zero: float,
        lengths: Sequence[tuple[float, int]],
        batches: Sequence[Batch],
        marks: Mapping[str, Sequence[float]],
    ) -> str:
        """Return the strips up to `now`. The lists may grow between two calls.

        Args:
            now: seconds of the clock that all moments are on.
            zero: the moment when the first call came.
            lengths: moments, and how many images waited from then on.
            batches: in the order of their starts.
            marks: outcome (see `MARKS`) -> moments of the calls that came to it.
        """
        self._zero, begin = zero, now - STRIP_SECONDS
        self._take_new(lengths, batches, marks)
        while self._longest and self._longest[0][0] < begin:
            self._longest.popleft()
        wait_ms = _round_up(max((wait for _, wait in self._longest), default=1))
        waits = f'stroke="{GOOD}" stroke-width="4" stroke-linecap="round" {_LINE}'
        strips = (
            _Strip(
                _TEXTS["waiting"],
                self._queue_size,
                self._queue(begin, now) + self._marks("refused", begin, self._queue_size),
                line=_TEXTS["room"].format(size=self._queue_size),
                ticks="refused",
            ),
            _Strip(
                _TEXTS["batch"],
                self._max_batch,
                f'<path d="{self._sizes.since(begin)}" fill="{BLUE}"/>',
                line=_TEXTS["at_most"].format(size=self._max_batch),
            ),
            _Strip(
                _TEXTS["waited"],
                wait_ms,
                f'<path d="{self._waits.since(begin)}" {waits}/>' + self._marks("late", begin, wait_ms),
                ticks="late" if self._has_deadline else "",
            ),
        )
        shown = "".join(strip.html(self._x(begin)) for strip in strips)
        return f'<div class="yolothreads-strips">{shown}{_axis(STRIP_SECONDS)}</div>'

    def _x(self, moment: float) -> int:
        return round(_UNITS * (moment - self._zero))

    def _take_new(
        self, lengths: Sequence[tuple[float, int]], batches: Sequence[Batch], marks: Mapping[str, Sequence[float]]
    ) -> None:
        """Turn what is new since the last redraw into pieces."""
        for moment, waiting in self._new("lengths", lengths):
            self._waiting.add(moment, f"H{self._x(moment)}V{-waiting}")
        for batch in self._new("batches", batches):
            left, width = self._x(batch.start), max(1, self._x(batch.end) - self._x(batch.start))
            self._sizes.add(batch.end, f"M{left} 0v{-batch.size}h{width}v{batch.size}z")
            low, high = 1000 * min(batch.waits_s), 1000 * max(batch.waits_s)
            self._waits.add(batch.start, f"M{left} {-low:.1f}V{-high:.1f}")
            self._longest.append((batch.start, high))
        for outcome, ticks in self._ticks.items():
            for moment in dict.fromkeys(self._new(outcome, marks[outcome])):
                ticks.add(moment, f"M{self._x(moment)} 0v1")

    def _new(self, name: str, items: Sequence[_T]) -> Sequence[_T]:
        new = items[self._taken.get(name, 0) :]
        self._taken[name] = len(items)
        return new

    def _queue(self, begin: float, now: float) -> str:
        """Return the line of the queue's length and the area below it."""
        steps = self._waiting.since(begin)
        before = self._waiting.last_dropped.partition("V")[2] or "0"
        line = f"V{before}{steps}H{self._x(now)}"
        left = self._x(max(begin, self._zero))
        return (
            f'<path d="M{left} 0{line}V0z" fill="{SKY}" fill-opacity="0.5"/>'
            f'<path d="M{left} {before}{line}" stroke="{BLUE}" stroke-width="2" {_LINE}/>'
        )

    def _marks(self, outcome: str, begin: float, top: float) -> str:
        """Return a tick above the highest value for each moment at which calls came to this outcome."""
        place = f'transform="translate(0 {-top * (1 + _ABOVE):g}) scale(1 {top * _ABOVE * 0.7:g})"'
        d = self._ticks[outcome].since(begin)
        return f'<path {place} d="{d}" stroke="{MARKS[outcome]}" stroke-width="2" {_LINE}/>'


@dataclass(frozen=True)
class _Strip:
    """One strip: its title, its highest value, the drawing, the meaning of the line at the top, and the ticks' outcome.

    `line` and `ticks` are empty where there are none.
    """

    title: str
    top: float
    drawn: str
    line: str = ""
    ticks: str = ""

    def html(self, x: int) -> str:
        """Return the strip from `x` on, with its words."""
        high, width = self.top * (1 + _ABOVE), int(STRIP_SECONDS * _UNITS)
        label = _TEXTS["strip"].format(title=self.title, seconds=STRIP_SECONDS, top=self.top)
        title, level = f"<b>{self.title}</b>", ""
        if self.line:
            title += f'<span><i class="line"></i>{self.line}</span>'
            level = f'<path d="M{x} {-self.top}h{width}" stroke="{TEXT_COLOUR}" stroke-dasharray="6 4" {_LINE}/>'
        if self.ticks:
            title += f'<span><i class="tick" style="color:{MARKS[self.ticks]}"></i>{_TEXTS[self.ticks]}</span>'
        return (
            f'<div class="title">{title}</div><div class="scale"><span>{self.top:g}</span><span>0</span></div>'
            f'<svg role="img" aria-label="{label}" height="{_STRIP_HEIGHT}" viewBox="{x} {-high:g} {width} {high:g}" '
            f'preserveAspectRatio="none">{level}{self.drawn}</svg>'
        )


def _round_up(value: float) -> float:
    """Return the next of 1, 2, 5, 10, 20, 50, ...: a scale that changed with every batch could not be read."""
    power = 10.0 ** floor(log10(max(value, 1.0)))
    return next(step * power for step in (1, 2, 5, 10) if value <= step * power)
