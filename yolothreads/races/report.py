"""An exploration, rendered: the table, the watched source with its marks, several side by side, one schedule drawn."""

from __future__ import annotations

import linecache
import os
import re
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from html import escape
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

from yolothreads.errors import ExploreError, YoloThreadsError
from yolothreads.palette import DARK_TEXT, INK, LIGHT_BLUE, LIGHT_ORANGE, LIGHT_RED, MIDDLE_GREY, THREADS
from yolothreads.races import page
from yolothreads.races.results import KINDS, RIGHT, Outcome, Timeout, Trial, Where

_LISTED = 20  # functions that a remark lists at most
_VERDICT_END = re.compile(r"[:;]| so ")
PAGES = "YOLOTHREADS_PAGES"
"""The environment variable with the folder in which `explore` saves a page of what it found."""

NOTHING_COMPARED = "No result was compared, only exceptions and deadlocks: no body returned a value; pass observe=."

_PRE = "font-family:monospace;line-height:1.3;white-space:pre;overflow-x:auto"
_MARKS = {"!!": LIGHT_RED, "!": LIGHT_ORANGE, ".": LIGHT_BLUE}


def _listed(names: Sequence[str], most: int = 3) -> str:
    """Return some names as text: `a, b and 5 more`."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table as text."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def html_table(rows: Sequence[Sequence[str]], caption: str) -> str:
    """Return a table as HTML."""
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in rows[0])
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows[1:])
    title = f'<caption style="text-align:left"><b>{escape(caption)}</b></caption>' if caption else ""
    return f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


class _Shown:
    """Base class of everything that is shown as text or as HTML."""

    def __repr__(self) -> str:
        return str(self)


@dataclass(frozen=True, repr=False)
class SourceMap(_Shown):
    """The watched source. Each line that ran is marked with how many of the schedules that stopped there were bad."""

    executed: tuple[Where, ...]
    stops: Counter[Where]
    bad: Counter[Where]

    LEGEND = (
        "!! every switch just before this line or inside it went wrong;  ! some did;  . none did;  "
        "blank: none was tried  "
        "(numbers: bad/all schedules that switched there)"
    )

    def _mark(self, place: Where) -> str:
        bad, stops = self.bad[place], self.stops[place]
        return " " if not stops else "." if not bad else "!!" if bad == stops else "!"

    def lines(self) -> list[tuple[str, str, Where]]:
        """Return mark, bad/all, and place of each line, in the order of the source."""
        places = sorted(dict.fromkeys(self.executed), key=lambda place: (place.file, place.line))
        return [(self._mark(p), f"{self.bad[p]}/{self.stops[p]}" if self.stops[p] else "", p) for p in places]

    def worst(self, count: int = 5) -> list[Where]:
        """Return the lines before which the largest share of the switches was bad; of equal shares, most switches."""
        return sorted(self.bad, key=lambda place: (-self.bad[place] / self.stops[place], -self.bad[place]))[:count]

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
        out = []
        for line in str(self).splitlines()[1:]:
            colour = _MARKS.get(line[:2].strip())
            style = f"background:{colour};color:{DARK_TEXT}" if colour else "background:transparent"
            out.append(f'<span style="{style}">{escape(line)}</span>')
        return f'<div>{escape(self.LEGEND)}</div><pre style="{_PRE}">{chr(10).join(out)}</pre>'


class Stretch(NamedTuple):
    """The time from `start` to `end` (seconds of `perf_counter`) in which a thread had the turn.

    It ran `lines` watched lines, from `where` on. The fields include those of a recorded span, so that both can be
    shown on one timeline.
    """

    thread: str
    stage: str
    start: float
    end: float
    where: Where
    lines: int


@dataclass(frozen=True, repr=False)
class Drawing(_Shown):
    """A picture of one schedule over time, with one lane per thread."""

    trial: Trial

    @property
    def stretches(self) -> list[Stretch]:
        """The stretches in the order of time; each ends where the next one begins."""
        turns = [list(steps) for _, steps in groupby(self.trial.steps, attrgetter("thread"))]
        ends = [turn[0].at_s for turn in turns[1:]] + [max(self.trial.ended_s, turn[-1].at_s) for turn in turns[-1:]]
        lines = [len(list(groupby(turn, attrgetter("where")))) for turn in turns]  # which may have several parts
        return [
            Stretch(turn[0].thread, "turn", turn[0].at_s, end, turn[0].where, n)
            for turn, end, n in zip(turns, ends, lines, strict=True)
        ]

    def __str__(self) -> str:
        lines = [f"{s.thread} runs {s.lines} line{'s' * (s.lines > 1)}, from {s.where}" for s in self.stretches]
        return "\n".join([*lines, f"{self.trial.kind}: {self.trial.detail}"])

    def _repr_html_(self) -> str:
        stretches = self.stretches
        lanes = sorted({s.thread for s in stretches})
        begin, end = (stretches[0].start, stretches[-1].end) if stretches else (0.0, 0.0)
        scale = 620 / max(end - begin, 1e-6)
        parts = []
        for y, lane in enumerate(lanes):
            parts.append(f'<text x="4" y="{30 * y + 21}" fill="currentColor">{lane}</text>')
            parts.append(f'<path d="M40 {30 * y + 17}H660" stroke="{MIDDLE_GREY}" stroke-dasharray="3 3"/>')
        for s in stretches:
            y, x, title = lanes.index(s.thread), 40 + (s.start - begin) * scale, escape(f"{s.thread} from {s.where}")
            parts.append(
                f'<rect x="{x:.1f}" y="{30 * y + 6}" width="{max(2.0, (s.end - s.start) * scale):.1f}" height="22" '
                f'fill="{THREADS[y % len(THREADS)][0]}" stroke="{INK}"><title>{title}</title></rect>'
            )
        bottom = 30 * len(lanes) + 20
        axis = f"0 to {1000 * (end - begin):.1f} ms; one lane per thread, filled while it has the turn"
        parts.append(f'<text x="40" y="{bottom}" fill="currentColor">{axis}</text>')
        svg = (
            f'<svg role="img" aria-label="{escape(str(self))}" viewBox="0 0 680 {bottom + 8}" '
            f'style="max-width:680px;font:13px sans-serif">{"".join(parts)}</svg>'
        )
        return f'{svg}<pre style="{_PRE}">{escape(str(self))}</pre>'


@dataclass(frozen=True, repr=False)
class Exploration(_Shown):
    """The result of an exploration. It shows itself as a table; see also `source_map()` and `draw()`."""

    trials: tuple[Trial, ...]
    run: int  # schedules that were run; the others cannot differ from one of them
    total: int
    bound: str  # the task in words, and the reason why it ended
    exhausted: bool  # every schedule within the bound was run
    seconds: float
    executed: tuple[Where, ...]  # the watched lines that ran
    unsplit: tuple[Where, ...] = ()  # lines that were not split, although a switch inside them can matter
    uncontrolled: tuple[str, ...] = ()  # names of threads that ran freely
    timeouts: tuple[Timeout, ...] = ()  # the waits with a time-out
    notes: tuple[str, ...] = ()  # whatever else limits the verdict
    replayer: Callable[..., Trial] | None = None  # schedule, and a function to inspect (options, state) -> trial
    unwatched: tuple[str, ...] = ()  # functions outside `watch` that controlled threads ran
    watched: tuple[str, ...] = ()  # names of what was watched
    compares_nothing: bool = False  # there was state, but no value was returned or observed
    interrupted: bool = False  # the search was ended by Ctrl-C or `stop`

    @property
    def schedules(self) -> int:
        """The number of schedules with a known outcome."""
        return len(self.trials)

    @property
    def covered(self) -> int:
        """The number of schedules that were not run, because they cannot differ from one that was."""
        return self.schedules - self.run

    @property
    def forbidden(self) -> tuple[Trial, ...]:
        """The bad trials: no sequential order of the bodies has their outcome."""
        return tuple(trial for trial in self.trials if trial.kind != RIGHT)

    @property
    def safe(self) -> bool:
        """Whether every schedule within the bound was run, under control, with an outcome of some sequential order.

        This holds for the code that was watched (see `unwatched`), and is False if a line was not split (`unsplit`).
        """
        return self.exhausted and not self.forbidden and not self.uncontrolled and not self.unsplit

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """One row for each kind of outcome that occurred, the bad ones last."""
        counts = Counter(trial.kind for trial in self.trials)
        examples = {trial.kind: trial.schedule for trial in reversed(self.trials)}
        return tuple(
            Outcome(kind, counts[kind], counts[kind] / self.schedules, examples[kind]) for kind in KINDS if counts[kind]
        )

    @property
    def verdict(self) -> str:
        """One sentence that claims no more than the trials show."""
        bad = len(self.forbidden)
        if bad:
            return f"NOT SAFE: {bad} of {self.schedules} schedules gave a result that no sequential order gives."
        if self.uncontrolled:
            names = ", ".join(self.uncontrolled)
            return f"UNCONTROLLED: no fault in {self.schedules} schedules, but {names} ran freely."
        if not self.exhausted:
            return f"NOTHING FOUND so far in {self.schedules} schedules; the search did not run all of them."
        head, limits = "SAFE" + " between lines" * bool(self.unsplit), []
        if self.unwatched:
            head += f" in {_listed(self.watched)}"
            limits.append(f"not looked into: {_listed(self.unwatched)}")
        if self.unsplit:
            limits.append(f"not split: {len(self.unsplit)} of the lines (granularity='auto' splits them)")
        if deadlines := [timeout.where for timeout in self.timeouts if not timeout.is_choice]:
            limits.append(f"long waits not cut short: {_listed(deadlines)}")
        if limits:
            limited = "; ".join([head, *limits])
            return f"{limited}. Each of {self.schedules} schedules gave the result of some sequential order."
        return f"SAFE within the bound: each of {self.schedules} schedules gave the result of some sequential order."

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return the table, with one dict per row."""
        return [{**asdict(outcome), "meaning": KINDS[outcome.kind]} for outcome in self.outcomes]

    def remarks(self) -> list[str]:
        """Return the sentences below the table: the bound, what was left out, and what the search could not see."""
        return [
            f"{self.bound} {self.run} were run, {self.covered} are equivalent to one of these; {self.seconds:.1f} s.",
            *(f"This line was not split: {place}  (granularity='auto' splits it)" for place in self.unsplit),
            *([f"Not looked into: {_listed(self.unwatched, _LISTED)}; watch= can name them."] * bool(self.unwatched)),
            *(f"This thread was not controlled: {name}" for name in self.uncontrolled),
            *(f"Wait with a time-out of {timeout}" for timeout in self.timeouts),
            *self.notes,
            *([NOTHING_COMPARED] if self.compares_nothing else []),
        ]

    def __str__(self) -> str:
        rows = [("outcome", "count", "share", "example")]
        rows += [(o.kind, str(o.count), f"{o.share:.1%}", o.example) for o in self.outcomes]
        return "\n".join([self.verdict, *aligned(rows), *self.remarks()])

    def _repr_html_(self) -> str:
        rows = [("outcome", "count", "share", "what it means", "example")]
        rows += [(o.kind, str(o.count), f"{o.share:.1%}", KINDS[o.kind], o.example) for o in self.outcomes]
        remarks = "".join(f"<div>{escape(remark)}</div>" for remark in self.remarks())
        return f"{html_table(rows, self.verdict)}{remarks}"

    def source_map(self, function: str | None = None) -> SourceMap:
        """Return the watched lines that ran, each with the effect of a switch just before or inside it.

        Args:
            function: the name of the only function to show.
        """
        stops: Counter[Where] = Counter()
        bad: Counter[Where] = Counter()
        for trial in self.trials:
            stops.update(set(trial.switches))
            bad.update(set(trial.switches) if trial.kind != RIGHT else ())
        executed = [place for place in (*self.executed, *stops) if function in (None, place.function)]
        return SourceMap(tuple(executed), stops, bad)

    def blame(self, count: int = 3) -> list[str]:
        """Return the fault of the first bad schedule in words, and the lines before which most switches did harm."""
        if not self.forbidden:
            return []
        lines = [f"  {_from_here(p.file)}:{p.line} in {p.function}: {p.text}" for p in self.source_map().worst(count)]
        first = self.forbidden[0]
        return [
            "Lines to blame (a switch just before or inside them went wrong):",
            *lines,
            f"{first.kind}: {first.detail}",
        ]

    def replay(self, schedule: str) -> Trial:
        """Run one schedule again, and return the trial with its steps."""
        assert self.replayer is not None
        return self.replayer(schedule)

    def draw(self, schedule: str | None = None) -> Drawing:
        """Return a picture of one schedule, by default the first bad one: when each thread ran, and the switches."""
        return Drawing(self.replay(self._chosen(schedule)))

    def save_page(self, path: str | os.PathLike[str], schedule: str | None = None, *, values: bool = True) -> Path:
        """Save one schedule as a page to step through: one HTML file that opens from disk, without a network.

        It shows the source with the place of each thread, what the threads share, and who waits for what. What they
        share is what `observe` returns, if that is given, and otherwise the state that `setup` made.

        Args:
            path: the file; an existing one is replaced.
            schedule: the schedule, by default the first bad one.
            values: whether values are shown, each cut to 200 characters; if False, results and details are left out
                as well, so that the page holds nothing but source.

        Raises:
            ExploreError: the schedule cannot be followed.
            OutputError: the file could not be written.
        """
        chosen, replayer = self._chosen(schedule), self.replayer
        assert replayer is not None
        known = next((trial for trial in self.trials if trial.schedule == chosen), None)
        remarks = [remark for remark in self.remarks() if values or remark not in self.notes]
        page.save(Path(path), partial(replayer, chosen), known, self.verdict, remarks, values=values)
        return Path(path)

    def _chosen(self, schedule: str | None) -> str:
        """Return a schedule, by default the first bad one, or else the first one."""
        if schedule is None and not self.trials:
            raise ExploreError("No schedule was run, so none can be shown; explore again with a larger budget_s.")
        return (self.forbidden or self.trials)[0].schedule if schedule is None else schedule


def keep_page(found: Exploration) -> None:
    """Save the page of the first bad schedule, if there is one and the variable `PAGES` names a folder.

    The name of the file begins with the time: nanoseconds since 1970.
    """
    folder = os.environ.get(PAGES, "")
    if folder and found.forbidden:
        try:
            found.save_page(Path(folder, f"{time.time_ns()}_{os.getpid()}.html"))
        except YoloThreadsError as error:  # what was found counts for more
            warnings.warn(f"A page of this exploration could not be saved: {error}", stacklevel=2)


def _from_here(file: str) -> str:
    """Return the path of a file as it is short to read: relative, if it is below the current folder."""
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file


@dataclass(frozen=True, repr=False)
class SideBySide(_Shown):
    """Explorations side by side: the number of schedules with each outcome, even if it is 0."""

    explorations: dict[str, Exploration]

    def rows(self) -> list[tuple[str, ...]]:
        """Return the header, one row for each kind, and then the schedules and the verdicts."""
        columns = self.explorations.values()
        return [
            ("outcome", *self.explorations),
            *((kind, *(str(sum(t.kind == kind for t in f.trials)) for f in columns)) for kind in KINDS),
            ("schedules", *(str(f.schedules) for f in columns)),
            ("exhausted", *map(_exhausted, columns)),
            ("verdict", *(_VERDICT_END.split(f.verdict)[0] for f in columns)),
        ]

    def to_dicts(self) -> list[dict[str, str]]:
        """Return one dict per row."""
        header, *rows = self.rows()
        return [dict(zip(header, row, strict=True)) for row in rows]

    def __str__(self) -> str:
        return "\n".join(aligned(self.rows()))

    def _repr_html_(self) -> str:
        return html_table(self.rows(), "")


def _exhausted(found: Exploration) -> str:
    """Return "yes", or "no" with the number of schedules that are known, if not all of these have an outcome."""
    if found.exhausted:
        return "yes"
    return f"no, of {found.total}" if found.total > found.schedules else "no"


def side_by_side(**explorations: Exploration) -> SideBySide:
    """Return several explorations in one table: `side_by_side(racy=found1, repaired=found2)`."""
    return SideBySide(explorations)
