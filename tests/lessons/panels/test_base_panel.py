"""Base class of the panels, tested with one that only waits: background runs, Stop, refusals, errors, progress."""

import threading
from threading import Event
from types import SimpleNamespace

import pytest
from fakes import WAIT_S

from yolothreads.errors import PanelError, YoloThreadsError
from yolothreads.lessons import Lesson
from yolothreads.lessons.panels import base
from yolothreads.lessons.panels.base import BasePanel, Run, State, Stopped


class WaitingPanel(BasePanel[str]):
    """Its run signals when it has begun, and goes on until it is released, stopped, or made to fail."""

    def __init__(self):
        from ipywidgets import IntText

        super().__init__("wait", {"number": IntText(description="number")}, [])
        self.inside, self.go_on, self.fails = Event(), Event(), None
        self.threads, self.drawn = [], 0
        self.redraws_every_s = 0.0

    def _work(self, tick):
        self.threads.append(threading.current_thread())
        self.inside.set()
        while not self.go_on.wait(0.01):
            tick()
        if self.fails:
            raise self.fails
        return f"result {self.settings['number'].value}"

    def _draw(self):
        self.drawn += 1

    def _sentence(self, outcome):
        return f"It gave {outcome}."

    def _outputs(self, outcome):
        yield self._sentence(outcome)


@pytest.fixture
def panel():
    with WaitingPanel() as made:
        yield made
    assert not [t for t in threading.enumerate() if t.name == "panel"]


def started(panel):
    panel.run()
    assert panel.inside.wait(WAIT_S)
    return panel


def test_a_run_is_in_the_background_and_result_waits_for_it(panel):
    started(panel)
    assert panel.is_running
    panel.go_on.set()
    assert panel.result(WAIT_S) == "result 0"
    assert panel.threads != [threading.current_thread()]
    assert "It gave result 0." in panel.status.value


def test_it_redraws_while_it_runs_and_records_the_time_of_redraws(panel):
    started(panel)
    panel.go_on.set()
    panel.result(WAIT_S)
    assert panel.drawn >= 1
    assert len(panel.redraws_ms) == panel.drawn - 1  # the last one, at the end, is not part of the run


def test_stop_ends_the_run_and_its_thread(panel):
    started(panel)
    panel.stop(WAIT_S)
    assert not panel.is_running
    assert "Stopped" in panel.status.value
    with pytest.raises(PanelError, match="stopped"):
        panel.result()


def test_a_second_run_is_refused_with_a_sentence_and_the_first_goes_on(panel):
    started(panel)
    with pytest.raises(PanelError, match="running"):
        panel.run()
    panel.run_button.click()  # the button shows the refusal, and raises nothing
    assert "running" in panel.status.value
    assert panel.is_running


def test_another_panel_is_refused_while_this_one_runs(panel):
    started(panel)
    with WaitingPanel() as other, pytest.raises(PanelError, match="Another panel"):
        other.run()


def test_it_runs_again_with_other_settings(panel):
    panel.go_on.set()
    panel.run_button.click()
    assert panel.result(WAIT_S) == "result 0"
    panel.settings["number"].value = 7
    panel.run_button.click()
    assert panel.result(WAIT_S) == "result 7"
    assert panel.run_button.description == "Run again"


def test_an_error_is_shown_and_raised_by_result(panel):
    panel.fails = ValueError("no <such> pool")
    panel.go_on.set()
    panel.run()
    with pytest.raises(ValueError, match="no <such> pool"):
        panel.result(WAIT_S)
    assert "ValueError: no &lt;such&gt; pool" in panel.status.value


def test_after_an_error_it_runs_again(panel):
    panel.fails = ValueError("once")
    panel.go_on.set()
    panel.run()
    with pytest.raises(ValueError, match="once"):
        panel.result(WAIT_S)
    panel.fails = None
    panel.run()
    assert panel.result(WAIT_S) == "result 0"


def test_result_starts_a_run_if_there_was_none(panel):
    panel.go_on.set()
    assert panel.result(WAIT_S) == "result 0"


def test_a_result_that_takes_too_long_is_an_error_and_the_run_goes_on(panel):
    started(panel)
    with pytest.raises(PanelError, match="still runs"):
        panel.result(0.01)
    assert panel.is_running


def test_closing_ends_the_run_and_leaves_no_thread(panel):
    started(panel)
    panel.close()
    assert not panel.is_running
    assert panel.run_button.comm is None  # the widgets are closed, too
    assert not any(thread.is_alive() for thread in panel.threads)


def test_the_end_of_a_lesson_ends_the_run(panel):
    lesson = Lesson("cpu", quick=True)
    started(panel)
    assert "Nothing is left running" in lesson.end()
    assert not panel.is_running
    base.end_run()  # without a run, it does nothing


def test_without_a_front_end_it_runs_once_in_the_callers_thread_and_shows_a_sentence(panel, capsys):
    panel.go_on.set()
    panel.show()
    assert panel.threads == [threading.current_thread()]
    assert "It gave result 0." in capsys.readouterr().out


def test_without_a_front_end_an_error_is_raised_and_the_next_run_is_possible(panel):
    panel.go_on.set()
    panel.fails = YoloThreadsError("broken")
    with pytest.raises(YoloThreadsError, match="broken"):
        panel.show()
    panel.fails = None
    assert panel.result(WAIT_S) == "result 0"


class FrontEnd:
    """Messages of a front end, as IPython delivers them."""

    def __init__(self, monkeypatch):
        self.message = {"content": {"allow_stdin": True, "code": "panel.show()"}, "metadata": {"cellId": "one"}}
        monkeypatch.setattr(base, "_request", lambda: self.message)
        monkeypatch.setattr(base, "_close_by_cell", {})


@pytest.fixture
def front(monkeypatch):
    return FrontEnd(monkeypatch)


def test_with_a_front_end_it_waits_for_the_run_button(front, panel):
    panel.show()
    assert not panel.threads


def test_a_cell_that_runs_again_closes_its_last_panel(front, panel):
    panel.show()
    started(panel)
    with WaitingPanel() as new:
        new.show()
        assert not panel.is_running


def test_a_panel_of_another_cell_goes_on(front, panel):
    panel.show()
    started(panel)
    front.message["metadata"]["cellId"] = "two"
    with WaitingPanel() as other:
        other.show()
        assert panel.is_running


def test_deleting_a_cell_closes_its_panel(front, panel):
    panel.show()
    started(panel)
    front.message["metadata"] = {"cellId": "two", "deletedCells": ["one"]}
    base._close_deleted()
    assert not panel.is_running


def test_a_headless_runner_is_no_front_end(front):
    assert base.has_front_end()
    front.message["content"]["allow_stdin"] = False
    assert not base.has_front_end()


def test_a_run_that_is_stopped_raises_stopped_inside(panel):
    seen = []
    work = panel._work

    def watched(tick):
        try:
            return work(tick)
        except Stopped:
            seen.append("stopped")
            raise

    panel._work = watched
    started(panel)
    panel.stop(WAIT_S)
    assert seen == ["stopped"]


# --- progress


@pytest.fixture
def clock():
    return SimpleNamespace(now=100.0)


@pytest.fixture
def progress(clock):
    made = Run(10, lambda: clock.now)
    clock.now += 5  # preparation
    made.begin()
    return made


def do(progress, clock, count, each_s):
    for _ in range(count):
        clock.now += each_s
        progress.step()


def test_before_the_first_is_done_the_time_left_is_unknown(progress, clock):
    clock.now += 3
    assert progress.left_s is None
    assert progress.so_far == progress.now == 0


def test_the_time_before_the_beginning_does_not_count(progress, clock):
    do(progress, clock, 2, each_s=0.5)
    assert progress.so_far == 2.0


def test_now_is_the_speed_of_the_last_second_and_so_far_the_average(progress, clock):
    do(progress, clock, 4, each_s=0.25)
    do(progress, clock, 1, each_s=3.0)
    assert progress.so_far == pytest.approx(5 / 4)
    assert progress.now == 1.0


def test_the_time_left_is_the_rest_at_the_speed_so_far(progress, clock):
    do(progress, clock, 4, each_s=0.5)
    assert progress.left_s == pytest.approx(6 * 0.5)


def test_in_the_first_second_now_is_not_too_low(progress, clock):
    do(progress, clock, 2, each_s=0.1)
    assert progress.now == pytest.approx(10.0)


def test_after_the_end_nothing_changes(progress, clock):
    do(progress, clock, 10, each_s=0.5)
    progress.end()
    clock.now += 60
    progress.end()
    assert progress.so_far == progress.now == 2.0
    assert progress.left_s == 0


# --- runs


def test_stopped_ends_a_run_and_any_other_error_goes_on():
    run = Run(3)
    with run.until_stopped():
        raise Stopped
    assert (run.stopped, run.state) == (True, State.DONE)
    failed = Run(3)
    with pytest.raises(ValueError, match="broken"), failed.until_stopped():
        raise ValueError("broken")
    assert not failed.stopped
