"""Panel for pools, with fake models: its counts, the first wrong result, and what it keeps of its runs."""

import threading
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from fakes import WAIT_S, FakeError, FakeModel, FakeModels, picture

from yolothreads import trace
from yolothreads.errors import ArgumentError
from yolothreads.lessons import Lesson, Panel
from yolothreads.lessons.panels import base, pools
from yolothreads.scenes import Pictures


@pytest.fixture
def lesson(fakes: FakeModels, monkeypatch: pytest.MonkeyPatch) -> Lesson:
    monkeypatch.setattr(trace, "recording", lambda: nullcontext([]))  # it wraps the real YOLO
    monkeypatch.setattr(
        pools, "PER_IMAGE_SETTINGS", ({"conf": 0.1}, {"conf": 0.5})
    )  # the only settings that fakes know
    made = Lesson("cpu", quick=True, count=1)
    made.pictures = Pictures([picture(tag) for tag in (1, 2, 3)], ["one", "two", "three"], None)
    return made


@pytest.fixture
def panel(lesson: Lesson) -> Panel:
    with Panel(lesson, "LockedModel", images=6) as made:
        yield made


def in_the_pool(fakes: FakeModels, do) -> None:
    """Make every model but the first, which gives the right results, do something in each predict."""
    fakes.inside = lambda model, tag: None if model is fakes.built[0] else do(model, tag)


def overwritten(model: FakeModel, tag: int) -> None:
    model.settings["conf"] = 0.5  # as if another thread had asked for this


def test_each_image_is_counted_once(panel: Panel) -> None:
    run = panel.result(WAIT_S)
    assert (run.right, run.wrong, run.errors, run.done) == (6, 0, 0, 6)
    assert "6 right, 0 silently wrong, 0 errors" in panel.status.value


def test_a_result_with_the_settings_of_another_thread_counts_as_wrong(panel: Panel, fakes: FakeModels) -> None:
    in_the_pool(fakes, overwritten)
    run = panel.result(WAIT_S)
    assert (run.right, run.wrong) == (3, 3)  # every second call has that setting anyway
    assert "<b>3</b>silently wrong" in panel.live.value


def test_the_first_wrong_result_is_shown_beside_the_right_one(panel: Panel, fakes: FakeModels) -> None:
    in_the_pool(fakes, overwritten)
    panel.settings["workers"].value = 1
    mistake = panel.result(WAIT_S).mistake
    assert mistake is not None
    assert (mistake.number, len(mistake.got), len(mistake.expected)) == (0, 1, 2)
    shown = panel._wrong.value
    assert "objects expected: 2<" in shown
    assert "objects returned: 1<" in shown
    assert shown.count("<img alt=") == 2


def test_no_wrong_image_is_shown_where_all_are_right(panel: Panel) -> None:
    panel.result(WAIT_S)
    assert panel._wrong.value == ""


def test_an_image_that_fails_is_counted_as_an_error(panel: Panel, fakes: FakeModels) -> None:
    def fail(model: FakeModel, tag: int) -> None:
        if tag == 2:
            raise FakeError("picture 2 is refused")

    in_the_pool(fakes, fail)
    run = panel.result(WAIT_S)
    assert (run.right, run.wrong, run.errors) == (4, 0, 2)
    assert "The first error is in image 2: FakeError: picture 2 is refused." in panel.status.value


def test_with_the_same_settings_for_all_nothing_is_overwritten(panel: Panel, fakes: FakeModels) -> None:
    in_the_pool(fakes, lambda model, tag: model.settings.update(conf=0.05))
    panel.settings["differ"].value = False
    assert panel.result(WAIT_S).right == 6


def test_the_table_has_one_row_per_run(panel: Panel) -> None:
    assert panel.table().rows == []
    panel.result(WAIT_S)
    panel.settings["pool"].value = "ModelPerThread"
    panel.settings["workers"].value = 3
    panel.run()
    panel.result(WAIT_S)
    assert [row[:2] for row in panel.table().rows] == [("LockedModel", 2), ("ModelPerThread", 3)]


def test_stop_keeps_the_finished_images(panel: Panel, fakes: FakeModels) -> None:
    reached, go_on = threading.Event(), threading.Event()

    def hold(model: FakeModel, tag: int) -> None:
        if tag == 3:
            reached.set()
            go_on.wait(WAIT_S)

    in_the_pool(fakes, hold)
    panel.run()
    assert reached.wait(WAIT_S)
    panel.stop()
    go_on.set()
    run = panel.result(WAIT_S)
    assert run.stopped
    assert run.done < 6
    assert "Stopped. LockedModel" in panel.status.value
    assert f"{run.done} of 6 images" in panel.status.value


def test_a_pool_that_cannot_be_opened_is_an_error_of_the_run(panel: Panel, fakes: FakeModels) -> None:
    fakes.refuse_to_load = {1}
    panel.run()
    with pytest.raises(FakeError, match="model 1 does not load"):
        panel.result(WAIT_S)
    assert "Failed. FakeError: model 1 does not load" in panel.status.value


def test_right_results_are_computed_once_for_all_runs(panel: Panel, fakes: FakeModels) -> None:
    panel.result(WAIT_S)
    calls = len(fakes.built[0].used_by)
    panel.run()
    panel.result(WAIT_S)
    assert calls == 6  # three pictures with two settings each
    assert len(fakes.built[0].used_by) == calls


def test_without_a_front_end_it_shows_a_sentence_a_table_and_pictures(panel: Panel, fakes: FakeModels) -> None:
    in_the_pool(fakes, overwritten)
    sentence, table, timeline, wrong = panel._outputs(panel.result(WAIT_S))
    assert "LockedModel, workers: 2, different settings in each thread: 6 of 6 images" in sentence
    assert len(table.rows) == 1
    assert timeline.alt.startswith("No thread was seen at work")
    assert "returned: disc 1" in wrong.text


def test_with_a_front_end_figures_are_folded_below_the_panel(panel: Panel, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []
    monkeypatch.setattr(base, "has_front_end", lambda: True)
    panel._output_below = SimpleNamespace(update=lambda output: shown.append(output._repr_html_()))
    panel.result(WAIT_S)
    assert shown[0].index("<table") < shown[0].index("<details>") < shown[0].index("<img")


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"pool": "NoPool"}, "'NoPool' cannot be chosen"),
        ({"workers": 0}, "workers=0"),
        ({"workers": 17}, "from 1 to 16"),
        ({"images": 2.5}, "images=2.5"),
    ],
)
def test_bad_arguments_are_refused_when_the_panel_is_made(lesson: Lesson, given, problem: str) -> None:
    with pytest.raises(ArgumentError, match=problem):
        Panel(lesson, **given)


def test_the_pools_to_choose_from_can_be_given(lesson: Lesson) -> None:
    with Panel(lesson, "Replicas", pools=("Replicas", "LockedModel")) as panel:
        assert panel.settings["pool"].options == ("Replicas", "LockedModel")
