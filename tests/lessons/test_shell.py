"""What every panel does, shown by one that only waits: a run in the background, Stop, refusals, errors, no threads."""

import threading
from threading import Event

import pytest
from fakes import WAIT_S

from yolothreads.errors import PanelError, YoloThreadsError
from yolothreads.lessons import Lesson
from yolothreads.lessons.panels import front_end, shell
from yolothreads.lessons.panels.shell import Shell, Stopped


class Waits(Shell[str]):
    """A run that says when it is inside, and goes on until it is let go, is stopped, or is told to fail."""

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

    def _leaves(self, outcome):
        yield self._sentence(outcome)


@pytest.fixture
def panel():
    with Waits() as made:
        yield made
    assert not [t for t in threading.enumerate() if t.name == "panel"]


def started(panel):
    panel.run()
    assert panel.inside.wait(WAIT_S)
    return panel


def test_a_run_is_in_the_background_and_its_result_is_waited_for(panel):
    started(panel)
    assert panel.is_running
    panel.go_on.set()
    assert panel.result(WAIT_S) == "result 0"
    assert panel.threads != [threading.current_thread()]
    assert "It gave result 0." in panel.status.value


def test_it_redraws_while_it_runs_and_keeps_how_long_that_took(panel):
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


def test_a_second_run_is_refused_in_a_sentence_and_the_first_goes_on(panel):
    started(panel)
    with pytest.raises(PanelError, match="running"):
        panel.run()
    panel.run_button.click()  # the button says it, and raises nothing
    assert "running" in panel.status.value
    assert panel.is_running


def test_another_panel_is_refused_while_this_one_runs(panel):
    started(panel)
    with Waits() as other, pytest.raises(PanelError, match="Another panel"):
        other.run()


def test_it_runs_again_with_other_settings(panel):
    panel.go_on.set()
    panel.run_button.click()
    assert panel.result(WAIT_S) == "result 0"
    panel.settings["number"].value = 7
    panel.run_button.click()
    assert panel.result(WAIT_S) == "result 7"
    assert panel.run_button.description == "Run again"


def test_an_error_is_shown_and_raised_where_the_result_is_asked_for(panel):
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


def test_where_there_was_no_run_yet_asking_for_the_result_runs(panel):
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
    assert panel.run_button.comm is None  # the widgets are gone, too
    assert not any(thread.is_alive() for thread in panel.threads)


def test_the_end_of_a_lesson_ends_the_run(panel):
    lesson = Lesson("cpu", quick=True)
    started(panel)
    assert "Nothing is left running" in lesson.end()
    assert not panel.is_running
    shell.end_run()  # with nothing to end, it does nothing


def test_without_a_front_end_it_runs_once_in_the_callers_thread_and_leaves_a_sentence(panel, capsys):
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


class Front:
    """A front end's messages, as `front_end` gets them from IPython."""

    def __init__(self, monkeypatch):
        self.message = {"content": {"allow_stdin": True, "code": "panel.show()"}, "metadata": {"cellId": "one"}}
        monkeypatch.setattr(front_end, "_request", lambda: self.message)
        monkeypatch.setattr(front_end, "_shown", {})


@pytest.fixture
def front(monkeypatch):
    return Front(monkeypatch)


def test_with_a_front_end_it_waits_for_run(front, panel):
    panel.show()
    assert not panel.threads


def test_a_cell_that_runs_again_closes_the_panel_that_it_showed(front, panel):
    panel.show()
    started(panel)
    with Waits() as new:
        new.show()
        assert not panel.is_running


def test_a_panel_of_another_cell_goes_on(front, panel):
    panel.show()
    started(panel)
    front.message["metadata"]["cellId"] = "two"
    with Waits() as other:
        other.show()
        assert panel.is_running


def test_a_deleted_cell_takes_its_panel_with_it(front, panel):
    panel.show()
    started(panel)
    front.message["metadata"] = {"cellId": "two", "deletedCells": ["one"]}
    front_end._close_deleted()
    assert not panel.is_running


def test_headless_runners_are_no_front_end(front):
    assert front_end.is_there()
    front.message["content"]["allow_stdin"] = False
    assert not front_end.is_there()


def test_a_run_that_is_stopped_raises_stopped_inside(panel):
    seen = []
    work = panel._work

    def noted(tick):
        try:
            return work(tick)
        except Stopped:
            seen.append("stopped")
            raise

    panel._work = noted
    started(panel)
    panel.stop(WAIT_S)
    assert seen == ["stopped"]
