"""HTML of panels: the style sheet, small pieces, and moving pictures (the timeline of threads, the strips of a queue).

Moving pictures are redrawn up to ten times a second. Every span or batch becomes a piece of an SVG path once, and is
only moved afterwards. Text stands beside the SVG and not in it, so that the drawing stretches with the window and
letters do not.
"""

from __future__ import annotations

import base64
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from math import floor, log10
from pathlib import Path
from string import Formatter
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from yolothreads.lessons.texts import section
from yolothreads.palette import BAD, BLUE, GOOD, GREY, MIDDLE_GREY, ODD, ORANGE, SKY, STAGES, WHITE
from yolothreads.pools import Batch
from yolothreads.trace import Span

_T = TypeVar("_T")
_Lengths = Sequence[tuple[float, int]]  # moments, and how many images waited from then on
_Marks = Mapping[str, Sequence[float]]  # outcome -> moments of the calls that came to it

_TEXTS = section("panels", "drawings")

_COLOURS = {"blue": BLUE, "orange": ORANGE, "white": WHITE, "good": GOOD, "bad": BAD, "odd": ODD, "grey": GREY}
SHEET = (
    f"<style>.yolothreads-panel {{ {' '.join(f'--yt-{name}: {colour};' for name, colour in _COLOURS.items())} }}\n"
    f"{Path(__file__).with_name('panels.css').read_text(encoding='utf-8')}</style>"
)
_TEXT_COLOUR = "var(--yt-text)"

_PICTURE_WIDTH = 320  # at most, in pixels

MARKS = {"refused": BAD, "late": ODD}
"""Colours of the ticks for calls without a result."""


# --- small pieces ---


def progress_bar(done: float, total: float, label: str) -> str:
    """Return a progress bar; the label is for screen readers."""
    return f'<progress aria-label="{escape(label)}" value="{done:g}" max="{total:g}"></progress>'


def filled(template: str, **fields: Any) -> str:
    """Fill in a template. Return a dash if a field is None, which means that it is not known yet."""
    formatter = Formatter()
    used = (formatter.get_field(name, (), fields)[0] for _, name, _, _ in formatter.parse(template) if name)
    return "–" if any(value is None for value in used) else template.format(**fields)


def numbers(templates: Mapping[str, str], **fields: Any) -> str:
    """Return labels with a value below each, given as label -> template."""
    boxes = "".join(f"<div>{label}<b>{filled(value, **fields)}</b></div>" for label, value in templates.items())
    return f'<div class="yolothreads-numbers">{boxes}</div>'


def counts(values: Mapping[str, int], colours: Mapping[str, str], labels: Mapping[str, str]) -> str:
    """Return one box with a growing count for each key of `colours`."""
    boxes = "".join(
        f'<div style="border-left-color:{colour}"><b>{values[key]}</b>{labels[key]}</div>'
        for key, colour in colours.items()
    )
    return f'<div class="yolothreads-counts">{boxes}</div>'


def pictures(shown: Iterable[tuple[NDArray[np.uint8], str, str]]) -> str:
    """Return images side by side, or below one another where there is no room.

    Args:
        shown: for each image its pixels (H, W, 3) uint8 BGR, its caption, and its alternative text.
    """
    import cv2

    found = ""
    for pixels, caption, alt in shown:
        scale = min(1.0, _PICTURE_WIDTH / pixels.shape[1])
        jpeg = cv2.imencode(".jpg", cv2.resize(pixels, None, fx=scale, fy=scale))[1].tobytes()
        image = f'<img alt="{escape(alt)}" src="data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}">'
        found += f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>"
    return f'<div class="yolothreads-pictures">{found}</div>'


# --- shared by both moving pictures ---


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
LANES_SECONDS = 2.0  # how much of the past the timeline shows
_LANES_WIDTH = 1000  # units of the SVG, which stretches with the window
_LANES_SCALE = _LANES_WIDTH / LANES_SECONDS

_BANDS = {"full": (3, 18), "upper": (3, 9), "lower": (12, 9)}  # first pixel and height of a bar in its lane
# Stages with these hatches are boxes with a pattern. All others are thick lines, which take half as many characters:
# there are hundreds of bars in each of ten redraws a second.
_PATTERN_IDS = {"////": "yolothreads-lines", "....": "yolothreads-dots"}
_PATTERNS = (
    '<defs><pattern id="yolothreads-lines" width="7" height="7" patternUnits="userSpaceOnUse" '
    f'patternTransform="rotate(45)"><path d="M0 0V7" stroke="{_TEXT_COLOUR}" stroke-width="2.5"/></pattern>'
    '<pattern id="yolothreads-dots" width="6" height="6" patternUnits="userSpaceOnUse">'
    f'<circle cx="3" cy="3" r="1.4" fill="{_TEXT_COLOUR}"/></pattern></defs>'
)
_OF_OTHER_LESSONS = ("python", "turn")  # stages that no pool has


def _stage_path(stage: str, d: str) -> str:
    """Return the path of a stage's bars."""
    look = STAGES[stage]
    if look.hatch in _PATTERN_IDS:
        fill, outline = f"url(#{_PATTERN_IDS[look.hatch]})", f'stroke="{_TEXT_COLOUR}" stroke-width="1"'
        return f'<path fill="{fill}" {outline} vector-effect="non-scaling-stroke" d="{d}"/>'
    return f'<path stroke="{look.colour}" stroke-width="{_BANDS[look.band][1]}" d="{d}"/>'


def _bar(stage: str, row: int, left: float, width: float) -> str:
    """Return a piece of such a path."""
    top, height = _BANDS[STAGES[stage].band]
    if STAGES[stage].hatch in _PATTERN_IDS:
        return f"M{left:.1f} {LANE * row + top}h{width:.1f}v{height}h-{width:.1f}z"
    return f"M{left:.1f} {LANE * row + top + height / 2:g}h{width:.1f}"


def legend() -> str:
    """Return the legend of a timeline: a bar and its meaning for each stage that pools have."""
    entries = "".join(
        f'<span><svg viewBox="0 3 28 18" preserveAspectRatio="none" aria-hidden="true">{_PATTERNS}'
        f"{_stage_path(name, _bar(name, 0, 0, 28))}</svg>{stage.words}</span>"
        for name, stage in STAGES.items()
        if name not in _OF_OTHER_LESSONS
    )
    return f'<div class="yolothreads-legend">{entries}</div>'


class Lanes:
    """Timeline of the last seconds of a growing list of spans, with one lane per thread.

    Args:
        spans: in the order of their ends, as `trace.recording` adds them.
    """

    def __init__(self, spans: Sequence[Span]) -> None:
        self.spans = spans
        self._zero = 0.0  # the moment that bars are measured from
        self._taken = 0  # spans that have become bars
        self._bars = {stage: _Path() for stage in STAGES}
        self._rows: dict[str, int] = {}  # a thread keeps its first lane

    def html(self, now: float) -> str:
        """Return the timeline up to `now`, in seconds of `time.perf_counter`."""
        begin = now - LANES_SECONDS
        self._zero = self._zero or begin
        self._take_new(begin)
        bars = "".join(_stage_path(stage, d) for stage, path in self._bars.items() if (d := path.since(begin)))
        names = "".join(f"<span>{escape(thread)}</span>" for thread in self._rows)
        rows = max(1, len(self._rows))
        lines = "".join(f"M0 {LANE * row + LANE}h{_LANES_WIDTH}" for row in range(rows))
        label = _TEXTS["timeline"].format(threads=len(self._rows), seconds=LANES_SECONDS)
        return (
            f'<div class="yolothreads-lanes">{names}<svg role="img" aria-label="{label}" height="{LANE * rows}" '
            f'viewBox="0 0 {_LANES_WIDTH} {LANE * rows}" preserveAspectRatio="none" style="grid-row:1/span {rows}">'
            f'{_PATTERNS}<path d="{lines}" stroke="{MIDDLE_GREY}" stroke-width="1"/>'
            f'<g transform="translate({(self._zero - begin) * _LANES_SCALE:.1f})">{bars}</g></svg>'
            f"{_axis(LANES_SECONDS)}</div>"
        )

    def _take_new(self, begin: float) -> None:
        """Turn the spans since the last redraw into bars; those of one stage become one piece."""
        new: dict[str, list[str]] = {}
        last = begin
        for thread, stage, start, end in self.spans[self._taken : len(self.spans)]:
            self._taken += 1
            row = self._rows.setdefault(thread, len(self._rows))
            if stage in self._bars and end > begin:
                bar = _bar(stage, row, (start - self._zero) * _LANES_SCALE, max(1.0, (end - start) * _LANES_SCALE))
                new.setdefault(stage, []).append(bar)
                last = max(last, end)
        for stage, bars in new.items():
            self._bars[stage].add(last, "".join(bars))


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

    def html(self, now: float, zero: float, lengths: _Lengths, batches: Sequence[Batch], marks: _Marks) -> str:
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
        sizes = f'<path d="{self._sizes.since(begin)}" fill="{BLUE}"/>'
        dots = f'stroke="{GOOD}" stroke-width="4" stroke-linecap="round" {_LINE}'
        waits = f'<path d="{self._waits.since(begin)}" {dots}/>'
        late = "late" if self._has_deadline else ""
        return (
            '<div class="yolothreads-strips">'
            f"{self._strip(begin, 'waiting', self._queue_size, self._queue(begin, now), 'room', 'refused')}"
            f"{self._strip(begin, 'batch', self._max_batch, sizes, 'at_most')}"
            f"{self._strip(begin, 'waited', wait_ms, waits, ticks=late)}{_axis(STRIP_SECONDS)}</div>"
        )

    def _x(self, moment: float) -> int:
        return round(_UNITS * (moment - self._zero))

    def _take_new(self, lengths: _Lengths, batches: Sequence[Batch], marks: _Marks) -> None:
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

    def _strip(self, begin: float, name: str, top: float, drawn: str, line: str = "", ticks: str = "") -> str:
        """Return one strip with its words.

        Args:
            begin: the moment at its left edge.
            name: the key of its title.
            top: its highest value.
            drawn: its drawing.
            line: the key of the meaning of a line at the highest value, if there is one.
            ticks: the outcome whose calls are ticks above the highest value, if there are any.
        """
        x, width, high = self._x(begin), int(STRIP_SECONDS * _UNITS), top * (1 + _ABOVE)
        title = f"<b>{_TEXTS[name]}</b>"
        if line:
            title += f'<span><i class="line"></i>{_TEXTS[line].format(size=top)}</span>'
            drawn = f'<path d="M{x} {-top}h{width}" stroke="{_TEXT_COLOUR}" stroke-dasharray="6 4" {_LINE}/>{drawn}'
        if ticks:
            title += f'<span><i class="tick" style="color:{MARKS[ticks]}"></i>{_TEXTS[ticks]}</span>'
            place = f'transform="translate(0 {-high:g}) scale(1 {top * _ABOVE * 0.7:g})"'
            d = self._ticks[ticks].since(begin)
            drawn += f'<path {place} d="{d}" stroke="{MARKS[ticks]}" stroke-width="2" {_LINE}/>'
        label = _TEXTS["strip"].format(title=_TEXTS[name], seconds=STRIP_SECONDS, top=top)
        return (
            f'<div class="title">{title}</div><div class="scale"><span>{top:g}</span><span>0</span></div>'
            f'<svg role="img" aria-label="{label}" height="{_STRIP_HEIGHT}" viewBox="{x} {-high:g} {width} {high:g}" '
            f'preserveAspectRatio="none">{drawn}</svg>'
        )


def _round_up(value: float) -> float:
    """Return the next of 1, 2, 5, 10, 20, 50, ...: a scale that changed with every batch could not be read."""
    power = 10.0 ** floor(log10(max(value, 1.0)))
    return next(step * power for step in (1, 2, 5, 10) if value <= step * power)
