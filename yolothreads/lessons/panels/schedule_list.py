"""The list of schedules that fills while they run, and the counts of what came of them."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence

from yolothreads.lessons.panels import looks
from yolothreads.races import DEADLOCK, EXCEPTION, RIGHT, WRONG, Exploration, Trial

MOST, MOST_MEANWHILE = 500, 60
"""So many schedules are listed at the end, and so many while they run; of the others only their number is said."""

_SIGNS = {RIGHT: ("✓", looks.GOOD), WRONG: ("✗", looks.BAD), EXCEPTION: ("!", looks.ODD), DEADLOCK: ("=", "#767676")}
_TITLE = "Schedules, the bad ones first; choose one to replay it"
_LONGEST = 70  # characters of what came of a schedule
_SPACE, _BREAK = " ", " \u200b"  # ipywidgets makes spaces unbreakable; a line of the list may be broken here


class ScheduleList:
    """Counts, a bar, and a list box with a row for each schedule. `rows.value` is the one that is chosen.

    Args:
        on_choice: called with the schedule when somebody chooses a row.
    """

    def __init__(self, on_choice: Callable[[str], None]) -> None:
        from ipywidgets import HTML, Select

        self.counts = HTML()
        self.rows = Select(options=[], rows=8, description=_TITLE, layout={"width": "100%"})
        self.rows.observe(lambda change: self._tell(change.new), "value")
        for widget, name in ((self.counts, "live"), (self.rows, "rows")):
            widget.add_class(f"yolothreads-{name}")
        self._on_choice, self._is_heard = on_choice, True
        self.clear()

    def clear(self) -> None:
        """Begin anew."""
        self.known = 0  # schedules that are known to exist
        self._kinds: Counter[str] = Counter()
        # The newest come first; older ones than are listed are let go.
        self._bad, self._good = (deque[Trial](maxlen=MOST_MEANWHILE) for _ in range(2))
        self._drawn = -1
        self.draw()

    def take(self, trial: Trial) -> None:
        """One more has run."""
        self._kinds[trial.kind] += 1
        (self._good if trial.kind == RIGHT else self._bad).appendleft(trial)

    def draw(self) -> None:
        """Show those that have run so far: the newest, bad ones first."""
        if self._kinds.total() != self._drawn:
            self._drawn = self._kinds.total()
            self._show([*self._bad, *self._good][:MOST_MEANWHILE])

    def finish(self, found: Exploration) -> None:
        """Show all of them, in the order of the program."""
        self._drawn = self._kinds.total()
        self._show([*found.forbidden, *(trial for trial in found.trials if trial.kind == RIGHT)][:MOST])

    def choose(self, schedule: str | None) -> None:
        """Choose a row, or none, as if nobody had."""
        if schedule is None or schedule in self._listed:
            self._is_heard = False
            self.rows.value = schedule
            self._is_heard = True

    def _tell(self, schedule: str | None) -> None:
        if self._is_heard and schedule is not None:
            self._on_choice(schedule)

    def _show(self, trials: Sequence[Trial]) -> None:
        done = self._kinds.total()
        counts = {f"{sign} {kind}": (self._kinds[kind], colour) for kind, (sign, colour) in _SIGNS.items()}
        bar = looks.bar(done, max(1, self.known), "schedules whose outcome is known")
        self.counts.value = f"{looks.counts(counts)}<div>{done} of {self.known} schedules known so far</div>{bar}"
        self.choose(None)  # or else the first of the new ones would be
        self._listed = {trial.schedule for trial in trials}
        with self.rows.hold_sync():
            self.rows.options = [(_row(trial), trial.schedule) for trial in trials]
            self.rows.description = _TITLE + f" ({done - len(trials)} are not listed)" * (done > len(trials))


def _row(trial: Trial) -> str:
    """A schedule as one line of the list."""
    came = "" if trial.kind == RIGHT else trial.detail.splitlines()[0]
    came = came if len(came) <= _LONGEST else f"{came[: _LONGEST - 1]}…"
    words = f"{_SIGNS[trial.kind][0]} {trial.kind:<13} {trial.schedule.partition(' |')[0]:<24}"
    return f"{words} {came.replace(_SPACE, _BREAK)}"
