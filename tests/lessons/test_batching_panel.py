"""The panel of lesson 08, on fakes: what it leaves of its runs, its slider, Stop, and pictures that fail."""

import threading
from contextlib import contextmanager

import pytest
from fakes import WAIT_S, FakeError, FakeModel, FakeModels, picture

from yolothreads.errors import ArgumentError
from yolothreads.lessons import Lesson
from yolothreads.lessons.panels.batching import BatchingPanel
from yolothreads.scenes import Pictures


@pytest.fixture
def lesson(fakes: FakeModels) -> Lesson:
    made = Lesson("cpu", quick=True, count=1)
    made.pictures = Pictures([picture(tag) for tag in (1, 2)], ["one", "two"], None)
    return made


@contextmanager
def panel_of(lesson: Lesson, **given):
    with BatchingPanel(lesson, **{"seconds": 1, "rush": False, "rate": 50, **given}) as panel:
        yield panel


def test_a_run_leaves_a_sentence_a_table_and_a_figure(lesson: Lesson) -> None:
    with panel_of(lesson) as panel:
        sentence, table, figure = panel._leaves(panel.result(WAIT_S))
        assert "each is accounted for" in sentence
        assert "each is accounted for" in panel.status.value
        assert table.rows == panel.table().rows
        assert "batches of 8, 5 ms, room for 16, no deadline" in table.rows[0]
        assert "images in" in figure.text


def test_every_run_stands_in_the_table(lesson: Lesson) -> None:
    with panel_of(lesson) as panel:
        assert panel.table().rows == []
        for rate in (50, 100):
            panel.settings["rate"].value = rate
            panel.run()
            panel.result(WAIT_S)
        assert [row[1] for row in panel.table().rows] == ["50", "100"]


def test_the_worker_is_made_as_chosen(lesson: Lesson) -> None:
    with panel_of(lesson, max_batch=3, queue_size=5, deadline_s=0.25) as panel:
        panel.settings["max-wait"].value = 50
        worker = panel._worker(choice := panel._choice())
        assert (worker.max_batch, worker.max_wait_ms, worker.queue_size, worker.when_full) == (3, 50, 5, "refuse")
        assert (choice.deadline_s, choice.seconds) == (0.25, 1)
        panel.settings["deadline"].label = "none"
        assert panel._choice().deadline_s is None


def test_without_a_deadline_the_list_says_none(lesson: Lesson) -> None:
    with panel_of(lesson) as panel:
        assert panel.settings["deadline"].label == "none"
        assert panel._choice().deadline_s is None


def test_slider_and_number_say_the_same(lesson: Lesson) -> None:
    with panel_of(lesson) as panel:
        panel.settings["rate"].value = 123.4
        assert panel.settings["rate-number"].value == 123
        panel.settings["rate-number"].value = 7
        assert panel._rate(0.5) == 7.0


def test_a_rush_moves_the_slider_by_what_the_worker_can_do(lesson: Lesson) -> None:
    with panel_of(lesson, rush=True) as panel:
        panel._run.capacity = 100.0
        assert [panel._rate(share) for share in (0.0, 0.4, 0.9)] == [50.0, 200.0, 50.0]
        panel.settings["rate"].value = 30  # the reader has a say all the same, until the next change
        assert panel._rate(0.95) == 30.0


def test_stop_in_the_middle_keeps_what_was_counted(lesson: Lesson, fakes: FakeModels) -> None:
    reached = threading.Event()

    def inside(model: FakeModel, tag: int) -> None:
        if len(model.batches) > 20:
            reached.set()

    fakes.inside = inside
    with panel_of(lesson, seconds=60, max_batch=1) as panel:
        panel.run()
        assert reached.wait(WAIT_S)
        panel.stop()
        run = panel.result(WAIT_S)
        assert run.stopped
        assert run.is_accounted_for
        assert "Stopped. In" in panel.status.value


def test_a_picture_that_fails_is_counted_and_named(lesson: Lesson, fakes: FakeModels) -> None:
    def inside(model: FakeModel, tag: int) -> None:
        if len(model.batches) == 10:
            raise FakeError("a bad picture")

    fakes.inside = inside
    with panel_of(lesson, max_batch=1) as panel:
        assert panel.result(WAIT_S).calls.counts["failed"] == 1
        assert "The first error: FakeError: a bad picture" in panel.status.value


@pytest.mark.parametrize(
    ("given", "problem"),
    [({"rate": 0}, "rate=0"), ({"max_batch": 17}, "1 to 16"), ({"max_wait_ms": -1}, "-1"), ({"deadline_s": -1}, "-1")],
)
def test_what_makes_no_sense_is_refused_when_the_panel_is_made(lesson: Lesson, given, problem: str) -> None:
    with pytest.raises(ArgumentError, match=problem):
        BatchingPanel(lesson, **given)
