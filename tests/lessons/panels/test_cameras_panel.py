"""Panel for cameras: counting frame by frame agrees with counting at the end, and moved numbers are marked."""

from collections.abc import Iterable, Iterator
from functools import cache
from itertools import chain, pairwise

import numpy as np
import pytest
import torch
from fakes import WAIT_S, FakeError
from ultralytics.engine.results import Results

from yolothreads.devices import torch_threads_kept
from yolothreads.errors import ArgumentError, PanelError
from yolothreads.lessons import Lesson
from yolothreads.lessons.panels import cameras as module
from yolothreads.lessons.panels.base import Stopped
from yolothreads.lessons.panels.cameras import (
    FOR_ALL,
    FOR_EACH,
    SEEDS,
    SHAPE,
    CamerasPanel,
    CamerasRun,
    CamerasRunSettings,
    View,
    described,
    drawn,
)
from yolothreads.scenes import Scene, clip
from yolothreads.tracking import Camera, identity_switches

FRAMES = 18


@cache
def film(camera: int) -> list[Scene]:
    """Return the frames of a camera of a run."""
    return list(clip(SEEDS[camera], FRAMES, SHAPE, first_id=1000 * camera))


class Oracle:
    """Fake pool that detects the true boxes of the films and can fail at one frame."""

    device, fails_at = "cpu", -1

    def __init__(self) -> None:
        self.is_open, self._given = False, 0
        self._boxes = {scene.image.tobytes(): scene.boxes for camera in range(3) for scene in film(camera)}

    def map(self, images: Iterable[np.ndarray], *, errors: str = "raise", **settings: float) -> Iterator[Results]:
        for image in images:
            if self._given == self.fails_at:
                raise FakeError("a frame is lost")
            self._given += 1
            rows = [[*box, 0.9, 0] for box in self._boxes[image.tobytes()].tolist()]
            yield Results(image, path="", names={0: "disc"}, boxes=torch.tensor(rows).reshape(-1, 6))

    def __enter__(self) -> "Oracle":
        self.is_open = True
        return self

    def __exit__(self, *error: object) -> None:
        self.is_open = False


def followed(tracker: str, tick=lambda: None) -> CamerasRun:
    run = CamerasRun(CamerasRunSettings(2, tracker, FRAMES, "Replicas"))
    run.go(Oracle(), tick)
    return run


def test_one_tracker_counted_live_agrees_with_counting_at_the_end() -> None:
    run = followed(FOR_ALL)
    frames = list(chain.from_iterable(zip(film(0), film(1), strict=True)))
    results = Camera(Oracle()).follow(frame.image for frame in frames)
    assert run.count.so_far == identity_switches(frames, results)
    assert run.count.so_far.transfers >= run.between > 5


def test_one_tracker_for_each_counted_live_agrees_with_counting_at_the_end() -> None:
    run = followed(FOR_EACH)
    so_far = [identity_switches(film(i), Camera(Oracle()).follow(frame.image for frame in film(i))) for i in (0, 1)]
    names = ("matched", "missed", "false", "switches", "transfers")
    assert [getattr(run.count.so_far, n) for n in names] == [sum(getattr(one, n) for one in so_far) for n in names]
    assert run.between == 0


def test_counts_only_grow() -> None:
    seen = []
    run = CamerasRun(CamerasRunSettings(3, FOR_ALL, FRAMES, "Replicas"))
    run.go(Oracle(), lambda: seen.append((run.count.so_far.matched, run.count.so_far.transfers, run.done)))
    assert all(before <= after for one in zip(*seen, strict=True) for before, after in pairwise(one))
    assert seen[-1][2] == 3 * FRAMES


def test_the_text_says_where_a_moved_number_was_before() -> None:
    run = followed(FOR_ALL)
    said = [described(view) for view in run.most_moved]
    assert sum(words.count(" was object ") for words in said) == sum(len(view.moved) for view in run.most_moved) > 0
    assert " was object " in said[1]
    assert "of camera 1" in said[1]


def test_the_mark_of_a_moved_number_disappears_after_some_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yolothreads.lessons.panels.cameras._MARKED_FRAMES", 0)
    run = followed(FOR_ALL)
    assert run.between > 5
    assert all(not view.moved for view in run.most_moved)


def test_stop_ends_between_frames_and_closes_the_pool() -> None:
    oracle, run = Oracle(), CamerasRun(CamerasRunSettings(2, FOR_EACH, FRAMES, "Replicas"))

    def tick() -> None:
        if run.done == 7:
            raise Stopped

    run.go(oracle, tick)
    assert run.stopped
    assert run.done == 7
    assert not oracle.is_open


# --- drawing ---


def view(numbers: tuple[int, ...], moved: dict[int, int]) -> View:
    boxes = np.array([[40 + 90 * i, 60, 90 + 90 * i, 110] for i in range(len(numbers))], np.float32)
    return View(np.zeros((240, 320, 3), np.uint8), boxes, numbers, moved, np.empty((0, 4), np.float32))


def test_a_number_has_the_same_colour_everywhere() -> None:
    one, two = drawn(view((3,), {})), drawn(view((3, 8), {}))
    assert (one[85, 40] == two[85, 40]).all()
    assert one[85, 40].any()
    assert (drawn(view((4,), {}))[85, 40] != one[85, 40]).any()


def test_a_moved_number_has_a_second_box_and_the_image_is_not_changed() -> None:
    seen = view((3, 8), {1: 1003})
    pixels = drawn(seen)
    assert tuple(pixels[85, 127]) == module._MARK
    assert tuple(pixels[85, 37]) != module._MARK
    assert not seen.image.any()


def test_words_do_not_cover_one_another() -> None:
    pixels = np.zeros((240, 320, 3), np.uint8)
    first = module._write(pixels, "from cam 2", 40, 100, 0.36, module._MARK, 0)
    second = module._write(pixels, "from cam 3", 60, 104, 0.36, module._MARK, 0, [first])
    assert first[0] < second[0] < first[2]
    assert second[1] == first[3]


def test_a_missed_object_has_its_own_box() -> None:
    empty = view((), {})
    missed = View(empty.image, empty.boxes, (), {}, np.array([[200, 60, 250, 110]], np.float32))
    assert not drawn(empty).any()
    assert tuple(drawn(missed)[85, 200]) == module._PALE
    assert described(missed) == "no numbers; missed: 1"


# --- the panel ---


@pytest.fixture
def panel(monkeypatch: pytest.MonkeyPatch) -> Iterator[CamerasPanel]:
    with CamerasPanel(Lesson("cpu", quick=True, count=1), tracker=FOR_ALL, frames=FRAMES) as made:
        monkeypatch.setattr(made, "_pool", lambda settings: Oracle())
        yield made


def test_the_table_has_one_row_per_run(panel: CamerasPanel) -> None:
    assert panel.table().rows == []
    panel.result(WAIT_S)
    panel.settings["tracker"].value = FOR_EACH
    panel.run()
    panel.result(WAIT_S)
    one, each = panel.table().to_dicts()
    assert (one["tracker"], each["tracker"], each["transfers"]) == (FOR_ALL, FOR_EACH, 0)
    assert one["transfers"] > 5
    assert each["matched"] > one["matched"]


def test_one_run_can_compare_both_kinds_of_tracker(panel: CamerasPanel) -> None:
    panel.settings["tracker"].value = "both, one after the other"
    sentence, table, *pictures = panel._outputs(panel.result(WAIT_S))
    assert sentence.index("Identities of cameras are mixed.") < sentence.index("No number went from one camera")
    assert len(table.rows) == len(pictures) == 2
    assert "was object" in pictures[0].text
    assert "was object" not in pictures[1].text


def test_pictures_have_alternative_texts(panel: CamerasPanel) -> None:
    panel.result(WAIT_S)
    assert panel.live.value.count('<img alt="camera ') == 2
    assert "transfers" in panel.live.value
    assert "Identities of cameras are mixed." in panel.status.value


def test_a_frame_that_fails_ends_the_run_and_it_runs_again(
    panel: CamerasPanel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Oracle, "fails_at", 9)
    panel.run()
    with pytest.raises(FakeError, match="a frame is lost"):
        panel.result(WAIT_S)
    assert "Failed. FakeError: a frame is lost" in panel.status.value
    monkeypatch.setattr(Oracle, "fails_at", -1)
    panel.run()
    assert panel.result(WAIT_S)[0].done == 2 * FRAMES


def test_stopped_before_any_frame_there_is_no_result(panel: CamerasPanel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(panel, "_pool", lambda settings: panel.stop() or Oracle())
    panel.run()
    with pytest.raises(PanelError, match="stopped before"):
        panel.result(WAIT_S)
    assert panel.table().rows == []


@pytest.mark.parametrize("pool", ["Replicas", "BatchingWorker"])
def test_with_real_pools_cameras_are_kept_apart(pool: str) -> None:
    lesson = Lesson("cpu", quick=True, count=1)
    with torch_threads_kept(), CamerasPanel(lesson, tracker=FOR_EACH, frames=4, pool=pool, imgsz=160) as panel:
        (run,) = panel.result(5 * WAIT_S)
        assert run.done == 8
        assert run.count.so_far.matched > 10
        assert run.count.so_far.transfers == 0


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"tracker": "none"}, "one for all cameras"),
        ({"pool": "SharedModel"}, "Replicas"),
        ({"cameras": 1}, "from 2 to 4"),
        ({"cameras": 5}, "cameras=5"),
        ({"frames": 0}, "frames=0"),
    ],
)
def test_bad_arguments_are_refused_when_the_panel_is_made(given, problem: str) -> None:
    with pytest.raises(ArgumentError, match=problem):
        CamerasPanel(Lesson("cpu", quick=True, count=1), **given)
