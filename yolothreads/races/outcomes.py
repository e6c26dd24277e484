"""What an exploration found: the table, the watched source with its marks, the comparison of two, a picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from html import escape
from typing import Any, NamedTuple

from yolothreads.races.lines import Where
from yolothreads.races.trials import DEADLOCK, EXCEPTION, RIGHT, WRONG
from yolothreads.races.views import Drawing, SideBySide, SourceMap, aligned, html_table

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
    """One watched line that a thread ran: what `inspect` gave before it, when (s of `perf_counter`), and who waited."""

    thread: str
    where: Where
    seen: Any = None
    at_s: float = 0.0
    waits: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Trial:
    """One schedule and its outcome.

    `where` is the line at which the (last) thread was stopped: it was about to run. `results` are what the bodies gave,
    or their exceptions. Kept by `replay` only: `steps`, when the run ended (s of `perf_counter`), and who waited then
    if nobody could go on.
    """

    schedule: str
    kind: str
    detail: str
    where: Where
    results: tuple[Any, ...] = field(default=(), repr=False)
    switches: tuple[Where, ...] = ()
    steps: tuple[Step, ...] = field(default=(), repr=False)
    ended_s: float = 0.0
    waits: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}\n  stopped before {self.where}\n  schedule: {self.schedule}"


@dataclass(frozen=True)
class Exploration:
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
        return "\n".join([self.verdict, *aligned(rows), *self.remarks()])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        rows = [("outcome", "count", "share", "what it means", "example")]
        rows += [(o.kind, str(o.count), f"{o.share:.1%}", KINDS[o.kind], o.example) for o in self.outcomes]
        remarks = "".join(f"<div>{escape(remark)}</div>" for remark in self.remarks())
        return f"{html_table(rows, self.verdict)}{remarks}"

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
        executed = [place for place in (*self.executed, *stops) if function in (None, place.function)]
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


def side_by_side(**found: Exploration) -> SideBySide:
    """Several explorations in one table: `side_by_side(racy=found1, repaired=found2)`."""
    return SideBySide(found)
