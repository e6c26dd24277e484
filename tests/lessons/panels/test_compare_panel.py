"""Panel that compares pools, with fake models: bars that grow, Stop, and what a run shows at the end."""

import re
import threading

import pytest
from fakes import WAIT_S, FakeModel, FakeModels, picture

from yolothreads.errors import ArgumentError
from yolothreads.lessons import Lesson
from yolothreads.lessons.panels.pools import ComparePanel, bars
from yolothreads.measure import Measurement
from yolothreads.scenes import Pictures

CHOSEN = ("LockedModel", "ModelPerThread")


@pytest.fixture
def panel(fakes: FakeModels) -> ComparePanel:
    lesson = Lesson("cpu", quick=True, count=1)
    lesson.pictures = Pictures([picture(tag) for tag in (1, 2, 3)], ["one", "two", "three"], None)
    with ComparePanel(
        lesson, pools=CHOSEN, images=4, rounds=2, per_image_settings=[{"conf": 0.1}, {"conf": 0.5}]
    ) as made:
        made.redraws_every_s = 0.0
        yield made


def test_every_chosen_pool_has_all_its_rounds(panel: ComparePanel) -> None:
    measured = panel.result(WAIT_S)
    assert [(m.pool, len(m.speeds), m.right) for m in measured] == [(name, 2, 8) for name in CHOSEN]


def test_bars_grow_while_it_runs(panel: ComparePanel) -> None:
    seen = []
    panel.live.observe(lambda change: seen.append(change.new.count('class="bar"')), "value")
    panel.result(WAIT_S)
    assert set(seen) == {0, 1, 2}
    assert seen == sorted(seen)


def test_stop_keeps_the_finished_rounds(panel: ComparePanel, fakes: FakeModels) -> None:
    reached, go_on = threading.Event(), threading.Event()

    def hold(model: FakeModel, tag: int) -> None:
        if panel._measured and panel._measured[0].speeds:
            reached.set()
            go_on.wait(WAIT_S)

    fakes.inside = hold
    panel.run()
    assert reached.wait(WAIT_S)
    panel.stop()
    go_on.set()
    measured = panel.result(WAIT_S)
    assert measured.rounds == 1
    assert len(measured) <= 2


def test_a_selection_of_pools_can_run_and_an_empty_one_is_an_error(panel: ComparePanel) -> None:
    panel.settings["pools"].value = ("ModelPerThread",)
    assert [m.pool for m in panel.result(WAIT_S)] == ["ModelPerThread"]
    panel.settings["pools"].value = ()
    panel.run()
    with pytest.raises(ArgumentError, match="No pool is chosen"):
        panel.result(WAIT_S)


def test_the_fastest_pool_is_never_one_with_wrong_results(panel: ComparePanel) -> None:
    measured = panel.result(WAIT_S)
    measured[0].wrong, measured[0].speeds = 3, (1000.0, 1000.0)
    sentence = panel._sentence(measured)
    assert "wrong results or errors came from LockedModel (3)" in sentence
    assert "the fastest of the others is ModelPerThread" in sentence


def test_a_run_shows_a_sentence_a_table_and_bars(panel: ComparePanel) -> None:
    sentence, table, figure = panel._outputs(panel.result(WAIT_S))
    assert sentence.startswith("In 2 rounds")
    assert [row[0] for row in table.rows] == list(CHOSEN)
    assert figure.alt.startswith("The chosen pools")


def test_a_bar_is_as_long_as_its_median_and_its_whisker_spans_its_rounds() -> None:
    html = bars([Measurement("A", 1, speeds=(10.0, 20.0, 40.0)), Measurement("B", 1, speeds=(5.0,))])
    assert re.findall(r'class="bar" style="width:([\d.]+)%', html) == ["50.0", "12.5"]
    assert re.findall(r'class="range" style="left:([\d.]+)%;width:([\d.]+)%', html) == [
        ("25.0", "75.0"),
        ("12.5", "0.0"),
    ]


def test_an_unavailable_pool_is_refused(fakes: FakeModels) -> None:
    with pytest.raises(ArgumentError, match="NoPool"):
        ComparePanel(Lesson("cpu", quick=True, count=1), pools=("NoPool",))
