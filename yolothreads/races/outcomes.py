"""What an exploration found: the table, the watched source with its marks, the comparison of two, a picture."""

from __future__ import annotations

import linecache
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from yolothreads.races.switch import Where
from yolothreads.races.trials import DEADLOCK, EXCEPTION, RIGHT, WRONG

KINDS = {
    RIGHT: "what the bodies give one after the other, in some order",
    WRONG: "no order of the bodies gives this, and no error says so",
    EXCEPTION: "a body raised what it raises in no order of the bodies",
    DEADLOCK: "nobody could go on, or no end came",
}
"""The kinds of outcome, and what each means."""


@dataclass(frozen=True)
class Outcome:
    """One row: how many schedules ended this way, their share, and one of them to replay."""

    kind: str
    count: int
    share: float
    example: str


class Step(NamedTuple):
    """One watched line, about to be run by a thread, and what `look` saw just before."""

    thread: str
    where: Where
    seen: Any = None


@dataclass(frozen=True, slots=True)
class Trial:
    """One schedule and its outcome.

    `where` is the line at which the (last) thread was stopped: it was about to run. `results` are what the bodies gave,
    or their exceptions. `steps` are kept by `replay` only.
    """

    schedule: str
    kind: str
    detail: str
    where: Where
    results: tuple[Any, ...] = ()
    switches: tuple[Where, ...] = ()
    steps: tuple[Step, ...] = field(default=(), repr=False)

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}\n  stopped before {self.where}\n  schedule: {self.schedule}"


@dataclass(frozen=True)
class Found:
    """What an exploration found. Shows itself as a table; see also `source_map()` and `draw()`.

    `schedules` counts those whose outcome is known, of `total`: `run` of them were run, the others cannot differ from
    one that was. `forbidden` holds those whose outcome no order of the bodies gives.
    """

    trials: tuple[Trial, ...]
    run: int
    total: int
    bound: str  # what was to be run, and what ended it
    exhausted: bool
    seconds: float
    executed: tuple[Where, ...]
    unsplit: tuple[Where, ...] = ()
    uncontrolled: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    replayer: Callable[[str], Trial] | None = field(default=None, repr=False)

    @property
    def schedules(self) -> int:
        """How many schedules have a known outcome."""
        return len(self.trials)

    @property
    def covered(self) -> int:
        """How many of them were not run, because they cannot differ from one that was."""
        return self.schedules - self.run

    @property
    def forbidden(self) -> tuple[Trial, ...]:
        """The bad ones."""
        return tuple(trial for trial in self.trials if trial.kind != RIGHT)

    @property
    def safe(self) -> bool:
        """Whether every schedule within the bound was run, under control, and gave what some order gives."""
        return self.exhausted and not self.forbidden and not self.uncontrolled

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """One row for each kind that came, the bad ones last."""
        counts = Counter(trial.kind for trial in self.trials)
        examples = {trial.kind: trial.schedule for trial in reversed(self.trials)}
        return tuple(
            Outcome(kind, counts[kind], counts[kind] / self.schedules, examples[kind]) for kind in KINDS if counts[kind]
        )

    @property
    def verdict(self) -> str:
        """One sentence that claims no more than was seen."""
        bad = len(self.forbidden)
        if bad:
            return f"NOT SAFE: {bad} of {self.schedules} schedules gave what no order of the bodies gives."
        if self.uncontrolled:
            return (
                f"UNCONTROLLED: no fault in {self.schedules} schedules, but {', '.join(self.uncontrolled)} ran freely."
            )
        if not self.exhausted:
            return f"NOTHING FOUND so far in {self.schedules} schedules; not every one was run."
        return f"SAFE within the bound: each of {self.schedules} schedules gave what some order of the bodies gives."

    def to_dicts(self) -> list[dict[str, Any]]:
        """The table, one dict a row."""
        return [{**asdict(outcome), "meaning": KINDS[outcome.kind]} for outcome in self.outcomes]

    def remarks(self) -> list[str]:
        """What has to be said beside the table: the bound, what was left out, and what the search could not see."""
        said = [
            f"{self.bound} {self.run} run, {self.covered} more shown to be equal to one of them, {self.seconds:.1f} s."
        ]
        said += [f"Lines cannot split: {place}  (try granularity='instruction')" for place in self.unsplit]
        said += [f"Not controlled: {name}" for name in self.uncontrolled]
        return [*said, *self.notes]

    def __str__(self) -> str:
        rows = [("outcome", "count", "share", "example")]
        rows += [(o.kind, str(o.count), f"{o.share:.1%}", o.example) for o in self.outcomes]
        return "\n".join([self.verdict, *_aligned(rows), *self.remarks()])

    def _repr_html_(self) -> str:
        rows = [("outcome", "count", "share", "what it means", "example")]
        rows += [(o.kind, str(o.count), f"{o.share:.1%}", KINDS[o.kind], o.example) for o in self.outcomes]
        remarks = "".join(f"<div>{escape(remark)}</div>" for remark in self.remarks())
        return f"{_html_table(rows, self.verdict)}{remarks}"

    def source_map(self, function: str | None = None) -> SourceMap:
        """The watched lines that ran, each with what a switch just before it did.

        Args:
            function: show this one only.
        """
        stops: Counter[Where] = Counter()
        bad: Counter[Where] = Counter()
        for trial in self.trials:
            stops.update(set(trial.switches))
            bad.update(set(trial.switches) if trial.kind != RIGHT else ())
        executed = [place for place in self.executed if function in (None, place.function)]
        return SourceMap(tuple(executed), stops, bad)

    def replay(self, schedule: str) -> Trial:
        """One schedule again, with its steps."""
        assert self.replayer is not None
        return self.replayer(schedule)

    def draw(self, schedule: str | None = None) -> Drawing:
        """A picture of one schedule (the first bad one if none is named): who ran when, and where the switches are."""
        if schedule is None:
            schedule = (self.forbidden or self.trials)[0].schedule
        return Drawing(self.replay(schedule))


def compare(**found: Found) -> Comparison:
    """Several explorations in one table: `compare(racy=found1, repaired=found2)`."""
    return Comparison(found)


@dataclass(frozen=True)
class Comparison:
    """Explorations side by side: how many schedules of each ended in each way, the outcomes that never came too."""

    found: dict[str, Found]

    def rows(self) -> list[tuple[str, ...]]:
        """The header and one row for each kind, then what was run."""
        rows = [("outcome", *self.found)]
        for kind in KINDS:
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
        return "\n".join(_aligned(self.rows()))

    def _repr_html_(self) -> str:
        return _html_table(self.rows(), "")


@dataclass(frozen=True)
class SourceMap:
    """Watched source; each line that ran carries how many of the schedules that stopped there were bad."""

    executed: tuple[Where, ...]
    stops: Counter[Where]
    bad: Counter[Where]

    LEGEND = (
        "!! every switch here went wrong   ! some did   . none did   blank: no switch was tried   "
        "(bad/all schedules with a switch just before the line)"
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

    def _repr_html_(self) -> str:
        colours = {"!!": "#f4b6a6", "!": "#fbe3c0", ".": "#dcebf7", " ": "transparent"}
        out = []
        for line in str(self).splitlines()[1:]:
            colour = colours.get(line[:2].strip() or " ", "transparent") if line[:3].strip() else "transparent"
            colour = colour if line[:2].strip() in ("!!", "!", ".") else "transparent"
            dark = "" if colour == "transparent" else ";color:#111"
            out.append(f'<span style="background:{colour}{dark}">{escape(line)}</span>')
        return f'<div>{escape(self.LEGEND)}</div><pre style="line-height:1.3">{chr(10).join(out)}</pre>'


@dataclass(frozen=True)
class Drawing:
    """One schedule as lanes, a thread each, from left to right in the order of the watched lines."""

    trial: Trial

    def stretches(self) -> list[tuple[str, int, int, Where]]:
        """Thread, first and last step, and the line at which it began, for each time a thread had the turn."""
        out: list[tuple[str, int, int, Where]] = []
        for i, step in enumerate(self.trial.steps):
            if out and out[-1][0] == step.thread:
                out[-1] = (step.thread, out[-1][1], i, out[-1][3])
            else:
                out.append((step.thread, i, i, step.where))
        return out

    def __str__(self) -> str:
        lines = [f"{t} runs {b - a + 1} lines, from {w.function}:{w.line}  {w.text}" for t, a, b, w in self.stretches()]
        return "\n".join([*lines, f"{self.trial.kind}: {self.trial.detail}"])

    def _repr_html_(self) -> str:
        lanes = sorted({step.thread for step in self.trial.steps})
        scale, height = 640 / max(1, len(self.trial.steps)), 30
        parts = []
        for y, lane in enumerate(lanes):
            top = y * height + 6
            parts.append(f'<text x="4" y="{top + 15}" fill="currentColor">{lane}</text>')
            parts.append(
                f'<line x1="30" x2="670" y1="{top + 11}" y2="{top + 11}" stroke="#999" stroke-dasharray="3 3"/>'
            )
        for thread, first, last, where in self.stretches():
            x, top = 30 + first * scale, lanes.index(thread) * height + 6
            width = max(2.0, (last - first + 1) * scale)
            parts.append(
                f'<rect x="{x:.1f}" y="{top}" width="{width:.1f}" height="22" fill="{_FILLS[lanes.index(thread) % 4]}" '
                f'stroke="#333"><title>{thread} from {escape(str(where))}</title></rect>'
            )
        bottom = len(lanes) * height + 20
        parts.append(
            f'<text x="30" y="{bottom}" fill="currentColor">watched lines, in the order in which they ran</text>'
        )
        svg = (
            f'<svg role="img" aria-label="{escape(str(self))}" viewBox="0 0 680 {bottom + 8}" '
            f'style="max-width:680px;font:13px sans-serif">{"".join(parts)}</svg>'
        )
        return f"{svg}<pre>{escape(str(self))}</pre>"


_FILLS = (
    "#0072b2",
    "#e69f00",
    "#009e73",
    "#cc79a7",
)  # Okabe and Ito's palette, which colour-blind readers can tell apart


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _html_table(rows: Sequence[Sequence[str]], caption: str) -> str:
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in rows[0])
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows[1:])
    title = f'<caption style="text-align:left"><b>{escape(caption)}</b></caption>' if caption else ""
    return f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
