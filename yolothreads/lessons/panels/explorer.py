"""The panel that explores: schedules fill a list as they run, and each can be replayed step by step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from threading import Lock
from typing import Any

from yolothreads import detections
from yolothreads.errors import ArgumentError, PanelError
from yolothreads.lessons import figures
from yolothreads.lessons.panels.schedule_list import ScheduleList
from yolothreads.lessons.panels.shared_state import Looks, SharedState
from yolothreads.lessons.panels.shell import Shell, Stopped, Tick
from yolothreads.lessons.panels.stepper import Stepper
from yolothreads.lessons.panels.steps import Steps
from yolothreads.races import KINDS, Drawing, Exploration, is_exploring
from yolothreads.tables import Table

_CHOICES: dict[str, list[Any]] = {"preemptions": [0, 1, 2, 3], "granularity": ["line", "instruction"]}
_DEFAULTS: dict[str, Any] = {"preemptions": 1, "granularity": "line", "budget_s": 60.0}
_OF_REPLAY = ("setup", "watch", "observe", "same", "restore", "describe", "max_steps")
_MOMENT_S = 2.0  # for a replay that has nothing left to do but to show what came of it


class ExplorerPanel(Shell[Exploration]):
    """Explore in the background, see each schedule as soon as it has run, and replay any of them step by step.

        panel = ExplorerPanel(few, many, setup=lambda: model, watch=["ultralytics.engine.model"])
        panel.show()
        found = panel.result()

    The first bad schedule is replayed by itself, any other one when its row is chosen. `stepper.steps` is what was
    replayed last.

    Args:
        *bodies: as for `explore`.
        inspect: what threads share, shown at each step: name -> function of the state, or of nothing where there
            is no `setup`. By default it is chosen from the state (see `SharedState`).
        **options: those of `explore`; `preemptions`, `granularity` and `budget_s` can be changed in the panel.

    Raises:
        ArgumentError: the panel cannot be set to one of these three.
    """

    def __init__(self, *bodies: Callable[..., Any], inspect: Looks | None = None, **options: Any) -> None:
        self.bodies, self.inspect, self.options = bodies, inspect, options
        self.schedules, self.stepper = ScheduleList(self._on_choice), Stepper()
        self._found: Exploration | None = None  # by the last exploration, once it is done
        self._guard = Lock()  # of the next two
        self._wanted = ""  # the schedule to replay next
        self._is_replaying = False
        self._stopped = False
        self._said = ""
        pictures = [self.schedules.counts, self.schedules.rows, self.stepper.widget]
        super().__init__("Explore schedules, and step through any of them", _settings(options), pictures)

    def replay(self, schedule: str) -> None:
        """Replay a schedule in the background; one that is just being replayed is given up.

        Raises:
            PanelError: an exploration is running, or there was none yet.
        """
        if self._found is None:
            raise PanelError("A schedule can be replayed when the exploration is done; wait for it, or press Stop.")
        with self._guard:
            self._wanted = schedule
            if self._is_replaying:
                return
        if self._thread is not None and not is_exploring():
            self._thread.join(_MOMENT_S)
        try:
            self.run()
        except BaseException:
            self._wanted = ""
            raise

    def _begin(self) -> None:
        if is_exploring() and not self.is_running:
            raise PanelError("An exploration is running in this notebook already; wait until it is done, or stop it.")
        super()._begin()

    # A run is an exploration, or a replay of one of its schedules.

    def _work(self, tick: Tick) -> Exploration:
        self._stopped = False
        if self._wanted and self._found is not None:
            self._replay_wanted(tick)
            return self._found
        self._found, self._wanted = None, ""
        self.schedules.clear()
        self.stepper.show(None)
        found = self._explore(tick)
        self.schedules.finish(found)
        self._said = found.verdict
        if found.forbidden and not self._stopped:
            self._wanted, self._is_replaying = found.forbidden[0].schedule, True
        self._found = found
        self._replay_wanted(tick)
        return found

    def _explore(self, tick: Tick) -> Exploration:
        options = {**self.options, **{name: widget.value for name, widget in self.settings.items()}}
        try:
            return detections.explore(
                *self.bodies,
                **options,
                on_trial=self.schedules.take,
                progress=lambda done, known: setattr(self.schedules, "known", known),
                stop=lambda: self._is_stopped(tick),
            )
        except KeyboardInterrupt:
            if self._stopped:
                raise Stopped from None
            raise

    def _is_stopped(self, tick: Tick) -> bool:
        # Raised inside of `explore`, `Stopped` would lose what was found.
        try:
            tick()
        except Stopped:
            self._stopped = True
        return self._stopped

    def _replay_wanted(self, tick: Tick) -> None:
        """Replay what is wanted, if anything, and whatever is wanted instead meanwhile."""
        while True:
            with self._guard:
                schedule, self._wanted = "" if self._stopped else self._wanted, ""
                self._is_replaying = bool(schedule)
            if not schedule:
                return
            try:
                self._replay(schedule, tick)
            except KeyboardInterrupt:
                if not (self._stopped or self._wanted):
                    self._is_replaying = False
                    raise
            except Exception as error:
                self._said = f"This schedule could not be replayed. {error}"

    def _replay(self, schedule: str, tick: Tick) -> None:
        self._say("Replaying …")
        self.schedules.choose(schedule)
        shared = SharedState(self.inspect, self.options.get("setup") is not None)
        trial = detections.replay(
            schedule,
            *self.bodies,
            **{name: self.options[name] for name in _OF_REPLAY if name in self.options},
            inspect=shared,
            stop=lambda: self._is_stopped(tick) or bool(self._wanted),
        )
        self.stepper.show(Steps(trial, len(self.bodies), shared))
        shared.forget()
        self._said = f"{self._found.verdict if self._found else ''} One schedule is shown below, step by step."

    def _on_choice(self, schedule: str) -> None:
        try:
            self.replay(schedule)
        except PanelError as error:
            self._say(str(error))
            self.schedules.choose(None)

    def _draw(self) -> None:
        self.schedules.draw()

    def _sentence(self, found: Exploration) -> str:
        return self._said

    def _leaves(self, found: Exploration) -> Iterator[Any]:
        yield found.verdict
        rows = [(o.kind, o.count, f"{o.share:.1%}", KINDS[o.kind], o.example) for o in found.outcomes]
        yield Table(["outcome", "count", "share", "what it means", "example"], rows, " ".join(found.remarks()))
        if (steps := self.stepper.steps) is not None:
            drawing = Drawing(steps.trial)
            title = f"Who had the turn in {steps.trial.schedule.partition(' |')[0]}"
            yield replace(figures.timeline(drawing.stretches, title), text=str(drawing))  # type: ignore[arg-type]
            if self._place is None:  # or else the panel shows the steps
                yield steps.table()


def _settings(options: dict[str, Any]) -> dict[str, Any]:
    """The widgets of what can be changed, set to what was given."""
    from ipywidgets import BoundedFloatText, Dropdown

    given = {name: options.get(name, default) for name, default in _DEFAULTS.items()}
    for name, known in _CHOICES.items():
        if given[name] not in known:
            raise ArgumentError(f"{name}={given[name]!r} cannot be chosen in a panel; give one of {known}.")
    budget_s = given["budget_s"]
    if not isinstance(budget_s, int | float) or budget_s <= 0:
        raise ArgumentError(f"budget_s={budget_s!r} makes no sense; give a number of seconds.")
    settings = {name: Dropdown(options=known, value=given[name], description=name) for name, known in _CHOICES.items()}
    most = max(3600.0, budget_s)
    return settings | {"budget_s": BoundedFloatText(value=budget_s, min=0.0, max=most, description="seconds at most")}
