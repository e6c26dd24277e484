"""A lesson checks its settings at once, and finds what is left running."""

import logging
import subprocess
import sys
import threading

import cv2
import pytest
from deadlines import scaled

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


def test_quick_mode_is_set_by_argument_or_environment(monkeypatch):
    monkeypatch.setenv("YOLOTHREADS_QUICK", "0")
    assert Lesson("cpu").trials(60, quick=20) == 60
    assert Lesson("cpu", quick=True).trials(60, quick=20) == 20
    monkeypatch.setenv("YOLOTHREADS_QUICK", "1")
    assert Lesson("cpu").trials(60, quick=20) == 20


def test_ending_a_lesson_that_left_nothing_running_says_so():
    assert Lesson("cpu").end() == "Nothing is left running: no thread, no process."


def test_a_thread_left_running_is_named(monkeypatch):
    monkeypatch.setattr(module, "_END_S", 0.1)
    lesson, stop = Lesson("cpu"), threading.Event()
    thread = threading.Thread(target=stop.wait, name="forgotten")
    thread.start()
    with pytest.raises(YoloThreadsError, match="thread forgotten"):
        lesson.end()
    stop.set()
    thread.join()


def test_own_pictures_replace_the_scenes(tmp_path):
    cv2.imwrite(str(tmp_path / "mine.png"), scene(1, (64, 64)).image)
    lesson = Lesson("cpu", images=str(tmp_path), count=3)
    assert [p.name for p in lesson.images] == ["mine.png"] * 3
    assert lesson.pictures.truth is None


def test_a_broken_file_is_omitted_and_named(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(ImageError, match="broken"):
        Lesson("cpu", images=str(tmp_path))
    cv2.imwrite(str(tmp_path / "whole.png"), scene(1, (64, 64)).image)
    with pytest.warns(UserWarning, match="broken"):
        lesson = Lesson("cpu", images=str(tmp_path), count=4)
    assert [p.name for p in lesson.images] == ["whole.png"] * 4
    assert "broken.png" in lesson.unreadable[0]


def test_the_most_crowded_picture_is_found_or_an_error_says_there_is_none(tmp_path):
    lesson = Lesson("cpu", count=3)
    counts = {id(image): i for i, image in enumerate(lesson.images)}
    assert lesson.crowded(lambda image: counts[id(image)]) is lesson.images[2]
    with pytest.raises(ImageError, match="fewer than two objects"):
        lesson.crowded(lambda image: 1)


def test_a_lesson_keeps_ultralytics_quiet():
    from ultralytics.utils import LOGGER
    from ultralytics.utils.events import events

    events.enabled = True
    LOGGER.setLevel("INFO")
    Lesson("cpu")
    assert events.enabled is False
    assert not LOGGER.isEnabledFor(logging.INFO) and LOGGER.isEnabledFor(logging.WARNING)


def test_importing_lessons_loads_nothing_heavy():
    code = "import sys, yolothreads.lessons; print(*{m.partition('.')[0] for m in sys.modules})"
    modules = subprocess.check_output([sys.executable, "-c", code], text=True, timeout=scaled(100)).split()
    assert {"torch", "ray", "ultralytics", "matplotlib", "ipywidgets"} & set(modules) == set()
