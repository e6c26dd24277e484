"""Every notebook with other settings than its own: other workers, the user's own pictures, another weights file."""

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import pytest

from yolothreads import scenes, weights

PATHS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A folder of pictures and a weights file such as a user may have."""
    folder = tmp_path_factory.mktemp("own")
    for i, shape in enumerate([(480, 640), (640, 384), (300, 500)]):
        cv2.imwrite(str(folder / f"picture {i}.jpg"), scenes.scene(700 + i, shape).image)
    shutil.copy(weights.bundled(), folder / "my weights.pt")
    return folder


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("out")


@pytest.fixture(scope="module")
def runs(request, own, out):
    """A future for each notebook that is to be tested. Two run at once, in processes as a user's."""
    words = ["--quick", "--timeout", "240", "--out", str(out)]
    parameters = {"workers": 3, "images": own, "weights": own / "my weights.pt", "quick": True}
    for name, value in parameters.items():
        words += ["-p", name, str(value)]

    def run(path):
        command = [sys.executable, "-m", "yolothreads", "run", str(path), *words]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    tests = [item for item in request.session.items if item.getparent(pytest.Module) is request.node]
    with ThreadPoolExecutor(2) as pool:
        yield {path: pool.submit(run, path) for path in [test.callspec.params["path"] for test in tests]}
        pool.shutdown(cancel_futures=True)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("path", PATHS, ids=lambda p: p.stem)
def test_it_runs_with_other_settings(path, runs, out):
    done = runs[path].result()
    assert done.returncode == 0, done.stderr
    assert (out / path.name).exists()
