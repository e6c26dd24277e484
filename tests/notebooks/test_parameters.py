"""Every notebook with other settings than its own: other workers, the user's own pictures, another weights file."""

import shutil
from pathlib import Path

import cv2
import pytest

from yolothreads import scenes, weights
from yolothreads.headless.runner import run

PATHS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A folder of pictures and a weights file such as a user may have."""
    folder = tmp_path_factory.mktemp("own")
    for i, shape in enumerate([(480, 640), (640, 384), (300, 500)]):
        cv2.imwrite(str(folder / f"picture {i}.jpg"), scenes.scene(700 + i, shape).image)
    shutil.copy(weights.bundled(), folder / "my weights.pt")
    return folder


@pytest.mark.timeout(300)
@pytest.mark.parametrize("path", PATHS, ids=lambda p: p.stem)
def test_it_runs_with_other_settings(path, own, tmp_path):
    parameters = {"workers": 3, "images": str(own), "weights": str(own / "my weights.pt"), "quick": True}
    (done,) = run([path], parameters, tmp_path, timeout_s=240)
    assert done.ok, done.error
    assert (tmp_path / path.name).exists()
