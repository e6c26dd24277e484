"""The example of several cameras: every frame is answered or counted as dropped, and a broken camera stops no other."""

import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest
from deadlines import scaled
from fakes import FakeModels, picture

ROOT = Path(__file__).parents[1]
FRAMES = 12

pytestmark = pytest.mark.timeout(scaled(120))


@pytest.fixture
def cameras(monkeypatch: pytest.MonkeyPatch) -> Iterator:
    """The module of the example."""
    monkeypatch.syspath_prepend(ROOT / "examples" / "cameras")
    import cameras

    yield cameras
    del sys.modules["cameras"]


@pytest.fixture
def clips(tmp_path: Path) -> list[str]:
    """Two videos."""
    files = [str(tmp_path / f"{name}.avi") for name in ("door", "yard")]
    for file in files:
        video = cv2.VideoWriter(file, cv2.VideoWriter_fourcc(*"MJPG"), 30, (32, 32))
        for tag in range(1, 1 + FRAMES):
            video.write(picture(20 * tag))
        video.release()
    return files


def test_each_frame_is_answered_or_dropped_and_a_broken_camera_stops_no_other(
    cameras, clips: list[str], tmp_path: Path, fakes: FakeModels
) -> None:
    missing = str(tmp_path / "missing.avi")
    seen = cameras.watch([*clips, missing])
    for clip in clips:
        assert seen[clip].error == ""
        assert len(seen[clip].boxes) + seen[clip].dropped == FRAMES
        assert all(age >= 0 for age in seen[clip].ages_ms)
    assert "missing.avi" in seen[missing].error and seen[missing].boxes == []
