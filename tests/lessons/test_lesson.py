"""A lesson checks its settings at once, and finds what was left running."""

import threading

import cv2
import pytest

from yolothreads.errors import ArgumentError, DeviceError, ImageError, WeightsError, YoloThreadsError
from yolothreads.lessons import lesson as module
from yolothreads.lessons.lesson import Lesson
from yolothreads.scenes import scene


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"device": "abacus"}, DeviceError),
        ({"weights": "nowhere.pt"}, WeightsError),
        ({"workers": 0}, ArgumentError),
        ({"images": "nowhere"}, ImageError),
        ({"quick": "false"}, ArgumentError),
    ],
)
def test_a_wrong_setting_fails_at_once(settings, error):
    with pytest.raises(error):
        Lesson(**{"device": "cpu", **settings})


def test_quick_mode_lowers_counts_by_argument_or_environment(monkeypatch):
    monkeypatch.setenv("YOLOTHREADS_QUICK", "0")
    assert Lesson("cpu").trials(60, quick=20) == 60
    assert Lesson("cpu", quick=True).trials(60, quick=20) == 20
    monkeypatch.setenv("YOLOTHREADS_QUICK", "1")
    assert Lesson("cpu").trials(60, quick=20) == 20


def test_it_ends_well_when_nothing_is_left():
    assert Lesson("cpu").end() == "Nothing is left running: no thread, no process."


def test_a_thread_that_is_left_is_named(monkeypatch):
    monkeypatch.setattr(module, "_PATIENCE_S", 0.1)
    lesson, stop = Lesson("cpu"), threading.Event()
    thread = threading.Thread(target=stop.wait, name="forgotten")
    thread.start()
    with pytest.raises(YoloThreadsError, match="thread forgotten"):
        lesson.end()
    stop.set()
    thread.join()


def test_pictures_of_ones_own_take_the_place_of_scenes(tmp_path):
    cv2.imwrite(str(tmp_path / "mine.png"), scene(1, (64, 64)).image)
    lesson = Lesson("cpu", images=str(tmp_path), count=3)
    assert [p.name for p in lesson.images] == ["mine.png"] * 3
    assert lesson.pictures.truth is None


def test_a_broken_file_is_left_out_and_named(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(ImageError, match="broken"):
        Lesson("cpu", images=str(tmp_path))
    cv2.imwrite(str(tmp_path / "whole.png"), scene(1, (64, 64)).image)
    with pytest.warns(UserWarning, match="broken"):
        lesson = Lesson("cpu", images=str(tmp_path), count=4)
    assert [p.name for p in lesson.images] == ["whole.png"] * 4
    assert "broken.png" in lesson.unreadable[0]


def test_the_most_crowded_picture_is_found_or_its_lack_is_said(tmp_path):
    lesson = Lesson("cpu", count=3)
    counts = {id(image): i for i, image in enumerate(lesson.images)}
    assert lesson.crowded(lambda image: counts[id(image)]) is lesson.images[2]
    with pytest.raises(ImageError, match="two objects"):
        lesson.crowded(lambda image: 1)


def test_no_statistics_are_sent_while_a_lesson_runs():
    from ultralytics.utils.events import events

    events.enabled = True
    Lesson("cpu")
    assert events.enabled is False
