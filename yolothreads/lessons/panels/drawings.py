"""The moving timeline: the last seconds of a recording, a lane for each thread, as one SVG made of a few paths.

Text stands beside the SVG and not in it, so that the lanes can stretch with the window and letters cannot.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from html import escape
from time import perf_counter

from yolothreads.trace import Span

LANE = 24  # height of a lane in pixels
_WIDTH = 1000  # units of the SVG; it is stretched to the room there is

# Colour, first pixel and height of a bar in its lane. Without a colour it is a box with a pattern, else a thick line:
# that takes half as many letters, and there are hundreds of bars in each of ten redraws a second.
_BARS = {
    "wait": ("", 3, 18),
    "load": ("", 3, 18),
    "preprocess": ("#56b4e9", 3, 9),
    "infer": ("#0072b2", 3, 18),
    "postprocess": ("#e69f00", 12, 9),
}
_WORDS = {"wait": "waits for a lock", "load": "loads", "infer": "in the network"}
_INK = "var(--jp-ui-font-color1, currentColor)"
_PATTERNS = (
    '<pattern id="yolothreads-wait" width="7" height="7" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    f'<path d="M0 0V7" stroke="{_INK}" stroke-width="2.5"/></pattern>'
    '<pattern id="yolothreads-load" width="6" height="6" patternUnits="userSpaceOnUse">'
    f'<circle cx="3" cy="3" r="1.4" fill="{_INK}"/></pattern>'
)


def _style(stage: str) -> str:
    colour, _, height = _BARS[stage]
    if colour:
        return f'stroke="{colour}" stroke-width="{height}"'
    return f'fill="url(#yolothreads-{stage})" stroke="{_INK}" stroke-width="1" vector-effect="non-scaling-stroke"'


class Lanes:
    """Draws the end of a list of spans that grows, again and again; each span is turned into a bar once.

    Args:
        spans: in the order in which they ended, as `trace.recording` adds them.
        seconds: how much of the past is shown.
    """

    def __init__(self, spans: Sequence[Span], seconds: float = 2.0) -> None:
        self.spans, self.seconds = spans, seconds
        self._scale = _WIDTH / seconds
        self._zero: float | None = None  # the moment from which on bars are measured
        self._taken = 0  # spans that have become bars
        # Of each stage what came from one redraw to the next, as one string, and when it ended.
        self._bars: dict[str, deque[tuple[float, str]]] = {stage: deque() for stage in _BARS}
        self._rows: dict[str, int] = {}  # threads keep the lane that they had first

    def html(self, now: float | None = None) -> str:
        """The timeline up to `now`, seconds of `time.perf_counter`; by default this moment."""
        begin = (perf_counter() if now is None else now) - self.seconds
        self._zero = begin if self._zero is None else self._zero
        self._take(begin, self._zero)
        drawn = []
        for stage, bars in self._bars.items():
            while bars and bars[0][0] < begin:
                bars.popleft()
            if bars:
                drawn.append(f'<path {_style(stage)} d="{"".join(several for _, several in bars)}"/>')
        shift = (self._zero - begin) * self._scale
        return self._frame(f'<g transform="translate({shift:.1f})">{"".join(drawn)}</g>')

    def _take(self, begin: float, zero: float) -> None:
        """Turn the spans that came since the last redraw into bars."""
        new: dict[str, list[str]] = {}
        last = begin
        for thread, stage, start, end in self.spans[self._taken : len(self.spans)]:
            self._taken += 1
            row = self._rows.setdefault(thread, len(self._rows))
            if stage in _BARS and end > begin:
                bar = _bar(stage, row, (start - zero) * self._scale, max(1.0, (end - start) * self._scale))
                new.setdefault(stage, []).append(bar)
                last = max(last, end)
        for stage, bars in new.items():
            self._bars[stage].append((last, "".join(bars)))

    def _frame(self, drawn: str) -> str:
        names = "".join(f"<span>{escape(thread)}</span>" for thread in self._rows)
        rows = max(1, len(self._rows))
        height = LANE * rows
        lines = "".join(f"M0 {LANE * row + LANE}h{_WIDTH}" for row in range(rows))
        label = f"Timeline of {len(self._rows)} threads over the last {self.seconds:g} seconds"
        return (
            f'<div class="yolothreads-lanes">{names}<svg role="img" aria-label="{label}" height="{height}" '
            f'viewBox="0 0 {_WIDTH} {height}" preserveAspectRatio="none" style="grid-row:1/span {rows}">'
            f'<defs>{_PATTERNS}</defs><path d="{lines}" stroke="#999" stroke-width="1"/>{drawn}</svg>'
            f'<span class="axis"><span>{self.seconds:g} s ago</span><span>now</span></span></div>'
        )


def _bar(stage: str, row: int, left: float, width: float) -> str:
    colour, top, height = _BARS[stage]
    if colour:
        return f"M{left:.1f} {LANE * row + top + height / 2:g}h{width:.1f}"
    return f"M{left:.1f} {LANE * row + top}h{width:.1f}v{height}h-{width:.1f}z"


def legend() -> str:
    """What the bars mean."""
    parts = []
    for stage in _BARS:
        colour, top, height = _BARS[stage]
        bar = f'<path {_style(stage)} d="M0 {top - 3 + height / 2:g}h28"/>'
        if not colour:
            bar = f'<rect x="0" y="{top - 3}" width="28" height="{height - 2}" {_style(stage)}/>'
        parts.append(
            f'<span><svg viewBox="0 0 28 16" aria-hidden="true"><defs>{_PATTERNS}</defs>{bar}</svg>'
            f"{_WORDS.get(stage, stage)}</span>"
        )
    return f'<div class="yolothreads-legend">{"".join(parts)}</div>'
