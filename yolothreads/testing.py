"""The pytest plugin: a fixture that runs functions under every thread schedule, and fails the test unless it is safe.

    def test_no_sale_is_lost(every_schedule):
        every_schedule(Cart.add, Cart.add, setup=Cart, observe=lambda cart: cart.total, preemptions=2)

A failure shows the outcomes, the lines to blame, and a command that replays one bad schedule. pytest finds this module
by its entry point. Of the package, it imports nothing until a test asks for the fixture, because a coverage tool starts
later than plugins do.
"""

from __future__ import annotations

import argparse
import inspect
import math
import os
import shlex
from collections.abc import Iterator, Sequence
from itertools import groupby
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

if TYPE_CHECKING:
    from yolothreads.races import Exploration, Trial, explore

__all__ = ["EverySchedule"]

_NAME = "every_schedule"
_LIMITS = {
    "unfinished": "not every schedule was run; give more seconds (budget_s, --explore-budget) or fewer preemptions",
    "uncontrolled": "threads ran freely",
    "unsplit": "some lines were not split; pass granularity='auto'",
}
"""Why nothing bad was found and nothing proved either, by the words that `allow` takes."""
_VERDICT, _SCHEDULE, _NOTE, _REPLAY = (f"yolothreads.{name}" for name in ("verdict", "schedule", "note", "replay"))
_MOST_STEPS = 100
_OTHER_SOURCE = (
    "\nThe schedule was made for other code ({} instead of {}), so lines may have moved. The outcome counts even so.",
    "\nThis says nothing: the schedule was made for other code ({} instead of {}). Run the test without --schedule.",
)
"""What is added to a bad and to a right outcome."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the command-line options."""
    group = parser.getgroup("yolothreads", "every thread schedule (the fixture every_schedule)")
    group.addoption("--schedule", metavar="SCHEDULE", help="replay this schedule in the one test that is selected")
    text = "replay it in the N-th call of every_schedule in that test (1); the calls before it explore as usual"
    group.addoption("--schedule-call", type=_number, default=1, metavar="N", help=text)
    text = "seconds after which a call of every_schedule begins no further schedule, whatever the test says"
    group.addoption("--explore-budget", type=_seconds, metavar="SECONDS", help=text)
    text = f"let tests pass in which nothing bad was found although nothing was proved: {', '.join(_LIMITS)}"
    group.addoption("--explore-allow", action="append", default=[], choices=[*_LIMITS], metavar="REASON", help=text)


def _number(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} makes no sense; give the number of a call: 1, 2, ...")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} makes no sense; give a number of seconds, more than 0")
    return value


def pytest_configure(config: pytest.Config) -> None:
    """Describe the marker for `pytest --markers`."""
    config.addinivalue_line(
        "markers",
        f"{_NAME}(allow=(), **options): options of yolothreads.explore for all calls of the fixture {_NAME} in this "
        f"test, such as budget_s=10 or preemptions=2; a call's own arguments come before them. `allow` lists what may "
        f"keep a test from being proved without failing it: {', '.join(_LIMITS)}.",
    )


def pytest_collection_finish(session: pytest.Session) -> None:
    """Refuse to replay one schedule in several tests."""
    wrong = _wrong_selection(session)
    if wrong and not hasattr(session.config, "workerinput"):  # a worker of pytest-xdist would crash: there, tests fail
        raise pytest.UsageError(wrong)


def _wrong_selection(session: pytest.Session) -> str:
    if session.config.getoption("--schedule") is None:
        return ""
    count = sum(_NAME in getattr(item, "fixturenames", ()) for item in session.items)
    if count == 1:
        return ""
    found = f"{count} of the selected tests use" if count else "none of the selected tests uses"
    return f'--schedule replays one test, but {found} {_NAME}; name one: pytest "path::test" --schedule "...".'


@pytest.fixture
def every_schedule(request: pytest.FixtureRequest) -> Iterator[EverySchedule]:
    """Run two or more functions under every thread schedule; fail the test unless each gave a sequential outcome.

    It takes the arguments of `yolothreads.races.explore`, and returns the same `Exploration`.
    """
    run = EverySchedule(request.node)
    yield run
    run.end()


class EverySchedule:
    """The value of the fixture `every_schedule`: calls `explore`, and fails the test unless `found.safe`."""

    def __init__(self, item: pytest.Item):
        self._item, self._config = item, item.config
        self._options = _options_of(item)
        self._allowed = {*self._options.pop("allow", ()), *self._config.getoption("--explore-allow")}
        self._schedule: str | None = self._config.getoption("--schedule")
        self._replayed_call: int = self._config.getoption("--schedule-call")
        self._calls = 0
        self._tables: list[str] = []  # of the calls that passed

    if TYPE_CHECKING:
        __call__ = staticmethod(explore)
    else:

        def __call__(self, *bodies: Any, **options: Any) -> Exploration:
            """Explore with these arguments; with --schedule, replay that schedule instead.

            Raises:
                pytest.fail.Exception: an outcome is bad, or nothing was proved; the message says which.
                ExploreError: as for `explore`.
            """
            __tracebackhide__ = True
            if wrong := _wrong_selection(self._item.session):
                pytest.fail(wrong, pytrace=False)
            self._calls += 1
            options = {**self._options, **options}
            is_replay = self._schedule is not None and self._calls == self._replayed_call
            try:
                return self._replay(bodies, options) if is_replay else self._explore(bodies, options)
            except BaseException as error:
                _hide_ours(error)
                raise

    def _explore(self, bodies: Sequence[Any], options: dict[str, Any]) -> Exploration:
        from yolothreads.races import RIGHT, explore
        from yolothreads.races.report import NOTHING_COMPARED

        if (budget_s := self._config.getoption("--explore-budget")) is not None:
            options["budget_s"] = budget_s
        bad: list[Trial] = []
        on_trial = options.get("on_trial")

        def keep(trial: Trial) -> None:
            if trial.kind != RIGHT:
                bad.append(trial)
            if on_trial is not None:
                on_trial(trial)

        try:
            found = explore(*bodies, **{**options, "on_trial": keep})
        except BaseException:  # a time limit, for example: what was found before must not be lost
            if bad:
                self._item.add_report_section("call", _NAME, f"Found before the exploration ended:\n{bad[0]}")
            raise
        if found.interrupted and "stop" not in options:  # Ctrl-C is meant for all tests
            raise KeyboardInterrupt(f"{found.verdict} {' '.join(trial.schedule for trial in found.forbidden[:1])}")
        self._keep(_VERDICT, found.verdict)
        if found.compares_nothing:
            self._keep(_NOTE, f"{self._item.nodeid}: {NOTHING_COMPARED}")
        self._note_blind_tracers()
        if found.forbidden:
            self._keep(_SCHEDULE, found.forbidden[0].schedule)
            self._fail(self._why_bad(found))
        limits = _limits(found)
        if not found.safe and not (limits and limits <= self._allowed):
            self._fail(_why_unproved(found, limits))
        self._tables.append(str(found))
        return found

    def _replay(self, bodies: Sequence[Any], options: dict[str, Any]) -> Exploration:
        from yolothreads.races import RIGHT, replay, replayed

        known = inspect.signature(replay).parameters
        assert self._schedule is not None
        options = {name: value for name, value in options.items() if name in known}
        # Its digest is that of the code that was reached. Alone, a test may reach more than after others, which leave
        # things in caches.
        found = replayed(self._schedule, *bodies, any_digest=True, **options)
        (trial,) = found.trials
        text = "\n".join([*_steps(trial), f"{trial.kind}: {trial.detail}"])
        self._keep(_VERDICT, f"{trial.kind}, replayed")
        self._keep(_SCHEDULE, self._schedule)
        if trial.schedule.split()[-1] != self._schedule.split()[-1]:
            text += _OTHER_SOURCE[trial.kind == RIGHT].format(self._schedule.split()[-1], trial.schedule.split()[-1])
            self._fail(text)
        if trial.kind != RIGHT:
            self._fail(text)
        self._keep(_REPLAY, text)
        return found

    def _fail(self, message: str) -> NoReturn:
        self._tables.clear()  # the message says enough
        pytest.fail(message, pytrace=False)

    def end(self) -> None:
        """Keep the tables for `pytest -rP`; fail if the test did not make the call that should have been replayed."""
        if self._tables:
            self._item.add_report_section("teardown", _NAME, "\n\n".join(self._tables))
        if self._schedule is not None and self._calls < self._replayed_call:
            self._fail(f"The schedule was not replayed: the test has no call {self._replayed_call} of {_NAME}.")

    def _keep(self, name: str, text: str) -> None:
        """Keep a text with the test's report: in JUnit's XML, and across the processes of pytest-xdist."""
        self._item.user_properties.append((name, text))

    def _note_blind_tracers(self) -> None:
        from yolothreads.races.tracing import MONITORING, other_tracers

        for tracer in () if MONITORING else other_tracers():
            text = f"{tracer} does not see the lines that run under {_NAME}; from Python 3.12 on, it does."
            self._keep(_NOTE, text)

    def _why_bad(self, found: Exploration) -> str:
        trial = found.forbidden[0]
        file, *names = self._item.nodeid.split("::", 1)
        file = os.path.relpath(self._config.rootpath / file, self._config.invocation_params.dir)
        command = f"pytest {_quoted('::'.join([file, *names]))} --schedule {_quoted(trial.schedule)}"
        if self._calls > 1:
            command += f" --schedule-call {self._calls}"
        return "\n".join([str(found), "", *found.blame(), "", "Replay it:", f"  {command}"])


def _options_of(item: pytest.Item) -> dict[str, Any]:
    """Return the options of a test's markers, of which the closest count most."""
    from yolothreads.races import explore

    known = {*inspect.signature(explore).parameters, "allow"} - {"bodies"}
    options: dict[str, Any] = {}
    for marker in reversed(list(item.iter_markers(_NAME))):
        wrong = [*map(repr, marker.args), *(name for name in marker.kwargs if name not in known)]
        if wrong:
            text = f"The marker {_NAME} does not take {wrong[0]}; it takes {', '.join(sorted(known))}, by name."
            pytest.fail(text, pytrace=False)
        options.update(marker.kwargs)
    allowed = options.get("allow", ())
    if isinstance(allowed, str) or not set(allowed) <= set(_LIMITS):
        text = f"The marker {_NAME} has allow={allowed!r}; it takes a list of {', '.join(_LIMITS)}."
        pytest.fail(text, pytrace=False)
    return options


def _limits(found: Exploration) -> set[str]:
    """Return the reasons why nothing was proved, in the words of `_LIMITS`."""
    reasons = {"unfinished": not found.exhausted}
    reasons |= {"uncontrolled": bool(found.uncontrolled), "unsplit": bool(found.unsplit)}
    return {name for name, holds in reasons.items() if holds}


def _why_unproved(found: Exploration, limits: set[str]) -> str:
    advice = f"To let this test pass all the same: @pytest.mark.{_NAME}(allow={sorted(limits)})"
    return "\n".join([
        "Nothing bad was found, and nothing was proved:",
        *(f"  {name}: {text}" for name, text in _LIMITS.items() if name in limits),
        *([advice] if limits else []), "", str(found),
    ])  # fmt: skip


def _steps(trial: Trial) -> list[str]:
    """Return the lines that ran, in order, with their threads; of very many, the last ones."""
    lines = [text for text, _ in groupby(f"{step.thread}  {step.where}" for step in trial.steps)]
    left_out = len(lines) - _MOST_STEPS
    return lines if left_out <= 0 else [f"({left_out} earlier lines)", *lines[left_out:]]


def _quoted(text: str) -> str:
    """Return a text in double quotes, which all shells know, if that is safe."""
    return shlex.quote(text) if set(text) & set('"$`\\!') else f'"{text}"'


def _hide_ours(error: BaseException | None) -> None:
    """Take the frames of this package out of an error's traceback, and out of those of the errors that led to it."""
    while error is not None:
        error.__traceback__ = _without_ours(error.__traceback__)
        if type(error).__module__.partition(".")[0] == __name__.partition(".")[0]:
            error.__suppress_context__ = True  # its message says what happened
        error = error.__cause__ or error.__context__


def _without_ours(traceback: TracebackType | None) -> TracebackType | None:
    """Return a traceback without the frames of this package: a test's author looks for their own lines."""
    if traceback is None:
        return None
    after, here = _without_ours(traceback.tb_next), traceback.tb_frame
    if here.f_globals.get("__name__", "").partition(".")[0] == __name__.partition(".")[0]:
        return after
    return TracebackType(after, here, traceback.tb_lasti, traceback.tb_lineno)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Show what was replayed without a failure, and name once each tool that sees no explored line."""
    reports = [report for found in terminalreporter.stats.values() for report in found]
    kept = [(name, text, report) for report in reports for name, text in getattr(report, "user_properties", ())]
    notes = dict.fromkeys(text for name, text, _ in kept if name == _NOTE)
    replayed = dict.fromkeys(f"{report.nodeid}\n{text}" for name, text, report in kept if name == _REPLAY)
    if notes or replayed:
        terminalreporter.section(_NAME)
    for text in [*replayed, *notes]:
        terminalreporter.line(text)
