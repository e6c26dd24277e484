"""Explorer panel on small programs: the list that fills, Stop, replays to step through, and what a run shows."""

import threading
from itertools import count
from types import SimpleNamespace

import pytest
from fakes import WAIT_S

from yolothreads import explore
from yolothreads.errors import ArgumentError, ExploreError, PanelError
from yolothreads.lessons.figures import Figure
from yolothreads.lessons.panels import explorer
from yolothreads.lessons.panels.explorer import ExplorerPanel
from yolothreads.races import RIGHT, WRONG, is_exploring
from yolothreads.tables import Table


def bump(s):
    value = s.n
    s.n = value + 1


def bump_locked(s):
    with s.lock:
        value = s.n
        s.n = value + 1


def state():
    return SimpleNamespace(n=0, lock=threading.Lock())


class Stuck:
    """A body that never ends by itself after its first calls; the sequential orders make the first six calls."""

    def __init__(self, after: int = 9):
        self.calls, self.after, self.inside = count(), after, threading.Event()

    def body(self, s):
        s.n = 1
        s.n = 2
        if next(self.calls) >= self.after:
            self.inside.set()
            work_for_ever()


def work_for_ever():
    while True:
        sum(range(1000))


def panel_of(*bodies, **options):
    return ExplorerPanel(*bodies, setup=state, observe=lambda s: s.n, **options)


@pytest.fixture
def racy():
    with panel_of(bump, bump) as panel:
        yield panel
    assert not is_exploring()
    assert not [t for t in threading.enumerate() if t.name == "panel"]


@pytest.fixture
def busy():
    """A panel whose exploration does not end by itself and is inside a schedule."""
    stuck = Stuck()
    with ExplorerPanel(stuck.body, stuck.body, setup=state, watch=[Stuck.body]) as panel:
        panel.redraws_every_s = 0.0
        panel.run()
        assert stuck.inside.wait(WAIT_S)
        yield panel


def row(panel, kind):
    """Return the schedule of the last row whose text has this kind."""
    return [schedule for text, schedule in panel.schedules.rows.options if kind in text][-1]


# --- exploring


def test_the_panel_finds_the_outcomes_of_explore(racy):
    found = racy.result(WAIT_S)
    wanted = explore(bump, bump, setup=state, observe=lambda s: s.n)
    assert [t.schedule for t in found.trials] == [t.schedule for t in wanted.trials]
    assert found.verdict in racy.status.value


def test_each_schedule_has_a_row_bad_ones_first_and_is_counted(racy):
    found = racy.result(WAIT_S)
    rows = racy.schedules.rows.options
    assert sorted(schedule for _, schedule in rows) == sorted(t.schedule for t in found.trials)
    assert [WRONG in text for text, _ in rows] == [True] * 2 + [False] * 4
    assert "<b>2</b>✗ wrong result" in racy.live.value
    assert "6 of 6 schedules" in racy.live.value


def test_rows_appear_while_it_runs(busy):
    assert busy.is_running
    assert len(busy.schedules.rows.options) >= 2
    assert "known so far" in busy.live.value


def test_rows_that_are_not_listed_are_counted(racy, monkeypatch):
    monkeypatch.setattr(explorer, "MOST_LISTED", 4)
    racy.result(WAIT_S)
    assert len(racy.schedules.rows.options) == 4
    assert "2 are not listed" in racy.schedules.rows.description


def test_settings_are_preset_and_the_chosen_ones_are_used():
    with panel_of(bump, bump, preemptions=0, granularity="instruction", budget_s=7) as panel:
        assert [widget.value for widget in panel.settings.values()] == [0, "instruction", 7]
        assert panel.result(WAIT_S).bound.startswith("At most 0 preemptions")
        panel.settings["preemptions"].value = 2
        panel.run()
        assert panel.result(WAIT_S).bound.startswith("At most 2 preemptions")


@pytest.mark.parametrize(
    ("given", "problem"),
    [({"preemptions": 4}, "preemptions=4"), ({"granularity": "word"}, "'word'"), ({"budget_s": 0}, "budget_s=0")],
)
def test_bad_arguments_are_refused_when_the_panel_is_made(given, problem):
    with pytest.raises(ArgumentError, match=problem):
        panel_of(bump, bump, **given)


def test_a_refusal_of_explore_is_shown_and_raised():
    with panel_of(bump) as panel:
        panel.run()
        with pytest.raises(ExploreError, match="two or more functions"):
            panel.result(WAIT_S)
        assert "Failed. ExploreError: 1 bodies were given" in panel.status.value


# --- stopping, refusing


def test_stop_in_the_middle_of_a_schedule_keeps_the_outcomes_so_far(busy):
    busy.stop(WAIT_S)
    found = busy.result(0)
    assert not busy.is_running and not is_exploring()
    assert 0 < found.schedules < found.total
    assert "interrupted" in found.bound
    assert len(busy.schedules.rows.options) == found.schedules


def test_stop_before_anything_was_found_has_no_result():
    stuck = Stuck(after=0)
    with ExplorerPanel(stuck.body, stuck.body, setup=state, watch=[Stuck.body]) as panel:
        panel.run()
        assert stuck.inside.wait(WAIT_S)
        panel.stop(WAIT_S)
        with pytest.raises(PanelError, match="stopped before"):
            panel.result()


def test_no_row_is_replayed_while_it_explores(busy):
    busy.schedules.rows.value = busy.schedules.rows.options[0][1]
    assert "when the exploration is done" in busy.status.value
    assert busy.schedules.rows.value is None
    with pytest.raises(PanelError, match="when the exploration is done"):
        busy.replay(busy.schedules.rows.options[0][1])
    assert busy.is_running


def test_another_exploration_is_not_disturbed(racy):
    def refused(trial):
        with pytest.raises(PanelError, match="running in this notebook already"):
            racy.run()

    assert explore(bump, bump, setup=state, on_trial=refused).exhausted
    assert racy.result(WAIT_S).exhausted


# --- replaying


def test_the_first_bad_schedule_is_replayed_at_once(racy):
    found = racy.result(WAIT_S)
    assert racy.stepper.steps.trial.schedule == found.forbidden[0].schedule
    assert racy.schedules.rows.value == found.forbidden[0].schedule
    assert racy.stepper.widget.layout.display == "flex"


def test_without_a_bad_schedule_there_are_no_steps_until_a_row_is_chosen():
    with panel_of(bump_locked, bump_locked) as panel:
        assert panel.result(WAIT_S).safe
        assert panel.stepper.widget.layout.display == "none"
        panel.schedules.rows.index = 3
        panel.result(WAIT_S)
        assert panel.stepper.steps.trial.kind == RIGHT


def test_a_row_that_is_chosen_is_replayed_and_the_result_stays(racy):
    found = racy.result(WAIT_S)
    racy.schedules.rows.value = row(racy, RIGHT)
    assert racy.result(WAIT_S) is found
    assert racy.stepper.steps.trial.schedule == row(racy, RIGHT)
    assert racy.stepper.at == 0


def test_of_several_chosen_rows_the_last_one_is_shown(racy):
    racy.result(WAIT_S)
    for _, schedule in racy.schedules.rows.options:
        racy.schedules.rows.value = schedule
    racy.result(WAIT_S)
    assert racy.stepper.steps.trial.schedule == racy.schedules.rows.options[-1][1]


def test_a_replay_can_be_stopped_and_the_result_stays():
    stuck = Stuck(after=1000)
    with ExplorerPanel(stuck.body, stuck.body, setup=state, watch=[Stuck.body]) as panel:
        found = panel.result(WAIT_S)
        stuck.after = 0
        panel.replay(found.trials[0].schedule)
        assert stuck.inside.wait(WAIT_S)
        panel.stop(WAIT_S)
        assert not panel.is_running
        assert panel.result() is found


def test_a_replay_that_fails_shows_a_sentence(racy):
    found = racy.result(WAIT_S)
    racy.replay("A@nothing:1#1>B | py0")
    assert racy.result(WAIT_S) is found
    assert "could not be replayed. The schedule was made for" in racy.status.value


def test_buttons_and_slider_step_forwards_and_backwards(racy):
    racy.result(WAIT_S)
    stepper, at = racy.stepper, []
    for name in ("forward", "forward", "back", "next_change", "next_change", "next_change", "previous_change", "back"):
        stepper.buttons[name].click()
        at.append(stepper.at)
    assert at == [1, 2, 1, 3, 4, 4, 3, 2]
    stepper.slider.value = 5
    assert "Step 5 of 5, the end," in stepper.threads.value


# --- what a run shows at the end


def test_without_a_front_end_it_shows_a_sentence_tables_and_a_picture(racy, capsys):
    racy.show()
    said = capsys.readouterr().out
    assert said.startswith("NOT SAFE: 2 of 6 schedules gave")
    assert "what it means" in said and "At most 1 preemption, every schedule: 6 were run" in said
    assert "A runs 1 line, from" in said
    assert "the steps around each change" in said and "n now" in said


def test_in_a_notebook_the_picture_is_below_the_panel_and_the_steps_stay_in_it(racy):
    found = racy.result(WAIT_S)
    racy._output_below = object()
    parts = list(racy._outputs(found))
    assert [type(part) for part in parts] == [str, Table, Figure]


def test_a_safe_program_has_no_picture(capsys):
    with panel_of(bump_locked, bump_locked) as panel:
        panel.show()
    assert "SAFE within the bound" in capsys.readouterr().out
    assert len(list(panel._outputs(panel.result()))) == 2
