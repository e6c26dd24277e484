"""Panel that explores: schedules fill a list as they run, and each can be replayed step by step."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from threading import Lock
from typing import Any

from yolothreads import detections
from yolothreads.errors import ArgumentError, PanelError
from yolothreads.lessons import figures
from yolothreads.lessons.panels import base, drawings
from yolothreads.lessons.panels.base import BasePanel, Stopped, Tick
from yolothreads.lessons.panels.stepper import Inspect, SharedState, Stepper, Steps, shortened
from yolothreads.lessons.texts import section
from yolothreads.palette import BAD, GOOD, GREY, ODD
from yolothreads.races import DEADLOCK, EXCEPTION, KINDS, RIGHT, WRONG, Drawing, Exploration, Trial, is_exploring
from yolothreads.tables import Table

MOST_LISTED, MOST_WHILE_RUNNING = 500, 60
"""Limits of the list of schedules, at the end and while they run; the rest are only counted."""

_CHOICES: dict[str, list[Any]] = {"preemptions": [0, 1, 2, 3], "granularity": ["auto", "line", "instruction"]}
_DEFAULTS: dict[str, Any] = {"preemptions": 1, "granularity": "auto", "budget_s": 60.0}
_OF_REPLAY = ("setup", "watch", "observe", "same", "restore", "describe", "max_steps")  # options of explore and replay
_SIGNS = {RIGHT: "✓", WRONG: "✗", EXCEPTION: "!", DEADLOCK: "="}
_COLOURS = {RIGHT: GOOD, WRONG: BAD, EXCEPTION: ODD, DEADLOCK: GREY}
_LONGEST = 70  # characters of an outcome in the list
_SPACE, _BREAK = " ", " \u200b"  # ipywidgets makes spaces unbreakable; a line of the list may be broken here

_TEXTS = section("panels", "explorer")


class ScheduleList:
    """Counts, a progress bar, and a list box with one row per schedule. `rows.value` is the chosen schedule.

    Args:
        on_choice: called with the schedule when the user chooses a row.
    """

    def __init__(self, on_choice: Callable[[str], None]) -> None:
        self.rows = base.make_widget("Select", "rows", options=[], rows=8)
        self.rows.observe(lambda change: self._on_value(change.new), "value")
        self._on_choice, self._is_user = on_choice, True
        self.clear()

    def clear(self) -> None:
        """Remove all schedules."""
        self.known = 0  # schedules that are known to exist
        self._kinds: Counter[str] = Counter()
        # The newest first; those beyond the limit are dropped.
        self._bad, self._good = (deque[Trial](maxlen=MOST_WHILE_RUNNING) for _ in range(2))
        self._show([])

    def take(self, trial: Trial) -> None:
        """Add a schedule that has run."""
        self._kinds[trial.kind] += 1
        (self._good if trial.kind == RIGHT else self._bad).appendleft(trial)

    def draw(self) -> None:
        """Show those that have run so far: bad ones first, then the newest."""
        if self._kinds.total() != self._drawn:
            self._show([*self._bad, *self._good][:MOST_WHILE_RUNNING])

    def html(self) -> str:
        """Return the counts and the progress bar."""
        done, labels = self._kinds.total(), {kind: f"{sign} {kind}" for kind, sign in _SIGNS.items()}
        known = _TEXTS["known"].format(done=done, known=self.known)
        bar = drawings.progress_bar(done, max(1, self.known), _TEXTS["bar"])
        return f"{drawings.counts(self._kinds, _COLOURS, labels)}<div>{known}</div>{bar}"

    def finish(self, found: Exploration) -> None:
        """Show all schedules: bad ones first, then in the order of the program."""
        self._show([*found.forbidden, *(trial for trial in found.trials if trial.kind == RIGHT)][:MOST_LISTED])

    def choose(self, schedule: str | None) -> None:
        """Choose a row, or none, without calling `on_choice`."""
        if schedule is None or any(schedule == listed for _, listed in self.rows.options):
            self._is_user = False
            self.rows.value = schedule
            self._is_user = True

    def _on_value(self, schedule: str | None) -> None:
        if self._is_user and schedule is not None:
            self._on_choice(schedule)

    def _show(self, trials: Sequence[Trial]) -> None:
        self._drawn = done = self._kinds.total()
        self.choose(None)  # otherwise the list box would choose the first of the new ones
        title = _TEXTS["rows_cut" if done > len(trials) else "rows"].format(count=done - len(trials))
        with self.rows.hold_sync():
            self.rows.options = [(_row(trial), trial.schedule) for trial in trials]
            self.rows.description = title


def _row(trial: Trial) -> str:
    """Return a schedule as one line of the list."""
    outcome = "" if trial.kind == RIGHT else shortened(trial.detail.splitlines()[0], _LONGEST)
    row = f"{_SIGNS[trial.kind]} {trial.kind:<13} {trial.schedule.partition(' |')[0]:<24}"
    return f"{row} {outcome.replace(_SPACE, _BREAK)}"


class ExplorerPanel(BasePanel[Exploration]):
    """Explore in the background, see each schedule as soon as it has run, and replay any of them step by step.

        panel = ExplorerPanel(few, many, setup=lambda: model, watch=["ultralytics.engine.model"])
        panel.show()
        found = panel.result()

    The first bad schedule is replayed automatically, any other one when its row is chosen. `stepper.steps` is what was
    replayed last.

    Args:
        *bodies: as for `explore`.
        inspect: what threads share, shown at each step: name -> function of the state, or of nothing where there
            is no `setup`. By default it is chosen from the state (see `SharedState`).
        **options: those of `explore`; `preemptions`, `granularity` and `budget_s` can be changed in the panel.

    Raises:
        ArgumentError: the panel has no such value for one of these three.
    """

    def __init__(self, *bodies: Callable[..., Any], inspect: Inspect | None = None, **options: Any) -> None:
        self.bodies, self.inspect, self.options = bodies, inspect, options
        self.schedules, self.stepper = ScheduleList(self._on_choice), Stepper()
        self._found: Exploration | None = None  # by the last exploration, once it is done
        self._guard = Lock()  # of the next two
        self._wanted = ""  # the schedule to replay next
        self._is_replaying = False
        self._stopped = False
        self._said = ""
        super().__init__(_TEXTS["title"], _settings(options), [self.schedules.rows, self.stepper.widget])
        self._draw()

    def replay(self, schedule: str) -> None:
        """Replay a schedule in the background; a replay that is going on is given up.

        Raises:
            PanelError: an exploration is running, or there was none yet.
        """
        if self._found is None:
            raise PanelError(_TEXTS["too_early"])
        with self._guard:
            self._wanted = schedule
            if self._is_replaying:
                return
        try:
            self.run()
        except BaseException:
            self._wanted = ""
            raise

    def _begin(self) -> None:
        if is_exploring() and not self.is_running:
            raise PanelError(_TEXTS["elsewhere"])
        super()._begin()

    # A run is an exploration, or a replay of one of its schedules.

    def _work(self, tick: Tick) -> Exploration:
        self._stopped = False
        if self._found is None or not self._wanted:
            self._found, self._wanted = None, ""
            self.schedules.clear()
            self.stepper.show(None)
            found = self._explore(tick)
            self.schedules.finish(found)
            self._said = found.verdict
            if found.forbidden and not self._stopped:
                self._wanted = found.forbidden[0].schedule
            self._is_replaying = True  # from here on, this run replays the schedules that are asked for
            self._found = found
        while schedule := self._next_wanted():
            try:
                self._replay(schedule, tick)
            except KeyboardInterrupt:
                if not (self._stopped or self._wanted):
                    self._is_replaying = False
                    raise
            except Exception as error:
                self._said = _TEXTS["not_replayed"].format(error=error)
        return self._found

    def _next_wanted(self) -> str:
        with self._guard:
            schedule, self._wanted = "" if self._stopped else self._wanted, ""
            self._is_replaying, self.is_over = bool(schedule), not schedule
        return schedule

    def _explore(self, tick: Tick) -> Exploration:
        try:
            return detections.explore(
                *self.bodies,
                **{**self.options, **self._chosen()},
                on_trial=self.schedules.take,
                progress=lambda done, known: setattr(self.schedules, "known", known),
                stop=lambda: self._is_stopped(tick),
            )
        except KeyboardInterrupt:
            if self._stopped:
                raise Stopped from None
            raise

    def _is_stopped(self, tick: Tick) -> bool:
        # `Stopped` must not be raised inside `explore`, which would lose what was found.
        try:
            tick()
        except Stopped:
            self._stopped = True
        return self._stopped

    def _replay(self, schedule: str, tick: Tick) -> None:
        self._say(_TEXTS["replaying"])
        self.schedules.choose(schedule)
        shared = SharedState(self.inspect, has_state=self.options.get("setup") is not None)
        trial = detections.replay(
            schedule,
            *self.bodies,
            **{name: self.options[name] for name in _OF_REPLAY if name in self.options},
            inspect=shared,
            stop=lambda: self._is_stopped(tick) or bool(self._wanted),
        )
        self.stepper.show(Steps(trial, len(self.bodies), shared))
        self._said = _TEXTS["replayed"].format(verdict=self._found.verdict if self._found else "").strip()

    def _on_choice(self, schedule: str) -> None:
        try:
            self.replay(schedule)
        except PanelError as error:
            self._say(str(error))
            self.schedules.choose(None)

    def _draw(self) -> None:
        self.schedules.draw()
        self.live.value = self.schedules.html()

    def _sentence(self, found: Exploration) -> str:
        return self._said

    def _outputs(self, found: Exploration) -> Iterator[Any]:
        yield found.verdict
        rows = [(o.kind, o.count, f"{o.share:.1%}", KINDS[o.kind], o.example) for o in found.outcomes]
        yield Table(_TEXTS["headers"], rows, " ".join(found.remarks()))
        if (steps := self.stepper.steps) is not None:
            drawing = Drawing(steps.trial)
            title = _TEXTS["timeline"].format(schedule=steps.trial.schedule.partition(" |")[0])
            yield replace(figures.timeline(drawing.stretches, title), text=str(drawing))  # type: ignore[arg-type]
            if self._output_below is None:  # otherwise the panel shows the steps
                yield steps.table()


def _settings(options: dict[str, Any]) -> dict[str, Any]:
    """Return the widgets of what can be changed, set to the given options."""
    given = _DEFAULTS | options
    budget_s = given["budget_s"]
    if not isinstance(budget_s, int | float) or budget_s <= 0:
        raise ArgumentError(f"budget_s={budget_s!r} is out of range; give a number of seconds above 0.")
    lists = {name: base.field(name, given[name], known) for name, known in _CHOICES.items()}
    limits = {"min": 0.0, "max": max(3600.0, budget_s)}
    budget = base.make_widget("BoundedFloatText", value=budget_s, description=_TEXTS["budget_s"], **limits)
    return lists | {"budget_s": budget}
