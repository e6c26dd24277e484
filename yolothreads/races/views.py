"""What was found, shown: two explorations side by side, the watched source with its marks, a schedule as a picture."""

from __future__ import annotations

import linecache
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from yolothreads.races.lines import Where
from yolothreads.races.trials import DEADLOCK, EXCEPTION, RIGHT, WRONG

if TYPE_CHECKING:
    from yolothreads.races.outcomes import Exploration, Trial

ALL_KINDS = (RIGHT, WRONG, EXCEPTION, DEADLOCK)


@dataclass(frozen=True)
class SideBySide:
    """Explorations side by side: how many schedules of each ended in each way, the outcomes that never came too."""

    found: dict[str, Exploration]

    def rows(self) -> list[tuple[str, ...]]:
        """The header and one row for each kind, then what was run."""
        rows = [("outcome", *self.found)]
        for kind in ALL_KINDS:
            counts = (sum(trial.kind == kind for trial in f.trials) for f in self.found.values())
            rows.append((kind, *map(str, counts)))
        rows.append(("schedules", *(str(f.schedules) for f in self.found.values())))
        rows.append(("every one", *("yes" if f.exhausted else f"no, of {f.total}" for f in self.found.values())))
        return [*rows, ("verdict", *(f.verdict.split(":")[0].split(" so ")[0] for f in self.found.values()))]

    def to_dicts(self) -> list[dict[str, Any]]:
        """One dict a row."""
        header, *rows = self.rows()
        return [dict(zip(header, row, strict=True)) for row in rows]

    def __str__(self) -> str:
        return "\n".join(aligned(self.rows()))

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return html_table(self.rows(), "")


@dataclass(frozen=True)
class SourceMap:
    """Watched source; each line that ran carries how many of the schedules that stopped there were bad."""

    executed: tuple[Where, ...]
    stops: Counter[Where]
    bad: Counter[Where]

    LEGEND = (
        "!! every switch just before this line went wrong;  ! some did;  . none did;  blank: none was tried  "
        "(numbers: bad/all schedules that switched there)"
    )

    def _mark(self, place: Where) -> str:
        bad, stops = self.bad[place], self.stops[place]
        return " " if not stops else "." if not bad else "!!" if bad == stops else "!"

    def lines(self) -> list[tuple[str, str, Where]]:
        """Mark, bad/all, and the line, in the order of the source."""
        places = sorted(set(self.executed), key=lambda place: (place.file, place.line))
        return [(self._mark(p), f"{self.bad[p]}/{self.stops[p]}" if self.stops[p] else "", p) for p in places]

    def worst(self, count: int = 5) -> list[Where]:
        """The lines before which most bad switches stood."""
        return [place for place, _ in self.bad.most_common(count)]

    def __str__(self) -> str:
        out, last = [], ""
        for mark, share, place in self.lines():
            head = f"{Path(place.file).name}: {place.function}"
            if head != last:
                out += ["", head]
                last = head
            source = linecache.getline(place.file, place.line).rstrip() or place.text
            out.append(f"{mark:>2} {share:>7} {place.line:5} {source}")
        return "\n".join([self.LEGEND, *out])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        colours = {"!!": "#f4b6a6", "!": "#fbe3c0", ".": "#dcebf7", " ": "transparent"}
        out = []
        for line in str(self).splitlines()[1:]:
            colour = colours.get(line[:2].strip() or " ", "transparent") if line[:3].strip() else "transparent"
            colour = colour if line[:2].strip() in ("!!", "!", ".") else "transparent"
            dark = "" if colour == "transparent" else ";color:#111"
            out.append(f'<span style="background:{colour}{dark}">{escape(line)}</span>')
        return f'<div>{escape(self.LEGEND)}</div><pre style="{_PRE}">{chr(10).join(out)}</pre>'


class Stretch(NamedTuple):
    """A thread had the turn from `start` to `end` (s of `perf_counter`), and ran so many watched lines from `where` on.

    It has the fields of a recorded span, so both can stand on one timeline.
    """

    thread: str
    stage: str
    start: float
    end: float
    where: Where
    lines: int


@dataclass(frozen=True)
class Drawing:
    """One schedule as lanes, a thread each, over time."""

    trial: Trial

    @property
    def stretches(self) -> list[Stretch]:
        """Who had the turn, in order; each stretch ends where the next one begins."""
        out: list[Stretch] = []
        for step in self.trial.steps:
            if out and out[-1].thread == step.thread:
                out[-1] = out[-1]._replace(end=step.at_s, lines=out[-1].lines + 1)
            else:
                if out:
                    out[-1] = out[-1]._replace(end=step.at_s)
                out.append(Stretch(step.thread, "turn", step.at_s, step.at_s, step.where, 1))
        if out and self.trial.ended_s > out[-1].end:
            out[-1] = out[-1]._replace(end=self.trial.ended_s)
        return out

    def __str__(self) -> str:
        lines = [f"{s.thread} runs {s.lines} line{'s' * (s.lines > 1)}, from {s.where}" for s in self.stretches]
        return "\n".join([*lines, f"{self.trial.kind}: {self.trial.detail}"])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        stretches = self.stretches
        lanes = sorted({s.thread for s in stretches})
        begin, end = (stretches[0].start, stretches[-1].end) if stretches else (0.0, 0.0)
        scale = 620 / max(end - begin, 1e-6)
        parts = []
        for y, lane in enumerate(lanes):
            parts.append(f'<text x="4" y="{30 * y + 21}" fill="currentColor">{lane}</text>')
            parts.append(f'<path d="M40 {30 * y + 17}H660" stroke="#999" stroke-dasharray="3 3"/>')
        for s in stretches:
            y, x = lanes.index(s.thread), 40 + (s.start - begin) * scale
            parts.append(
                f'<rect x="{x:.1f}" y="{30 * y + 6}" width="{max(2.0, (s.end - s.start) * scale):.1f}" height="22" '
                f'fill="{_FILLS[y % 4]}" stroke="#333"><title>{escape(f"{s.thread} from {s.where}")}</title></rect>'
            )
        bottom = 30 * len(lanes) + 20
        axis = f"0 to {1000 * (end - begin):.1f} ms; a lane a thread, filled while it has the turn"
        parts.append(f'<text x="40" y="{bottom}" fill="currentColor">{axis}</text>')
        svg = (
            f'<svg role="img" aria-label="{escape(str(self))}" viewBox="0 0 680 {bottom + 8}" '
            f'style="max-width:680px;font:13px sans-serif">{"".join(parts)}</svg>'
        )
        return f'{svg}<pre style="{_PRE}">{escape(str(self))}</pre>'


_FILLS = (
    "#0072b2",
    "#e69f00",
    "#009e73",
    "#cc79a7",
)  # Okabe and Ito\'s palette, which colour-blind readers can tell apart
_PRE = "font-family:monospace;line-height:1.3;white-space:pre;overflow-x:auto"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table as text."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def html_table(rows: Sequence[Sequence[str]], caption: str) -> str:
    """A table as HTML."""
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in rows[0])
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows[1:])
    title = f'<caption style="text-align:left"><b>{escape(caption)}</b></caption>' if caption else ""
    return f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
