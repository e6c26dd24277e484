"""Every notebook as a learner runs it, who has other settings than its own: opened in JupyterLab, Run All.

Other workers, the user's own pictures, another weights file. (With their own settings notebooks are run by nbval.)
Pictures of them are left in build/browser.
"""

import shutil
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import cv2
import nbformat
import pytest

from yolothreads import scenes, weights
from yolothreads.headless import runner

from .jupyter import Lab, Notebook

PICTURES = Path(__file__).parents[2] / "build" / "browser"
NAMES = [path.stem for path in runner.find()]
AT_ONCE = 2
LIMIT_S = 240.0  # for one notebook, from Run All to its end


@dataclass(frozen=True)
class Ran:
    """How Run All of one notebook came out."""

    answer: object
    cell_errors: Sequence[str]
    console_errors: Sequence[str]
    outside_requests: Sequence[str]
    pop_ups: Sequence[str]


class Series:
    """Runs notebooks, some at once; whoever asks for a result drives those that still run, too."""

    def __init__(self, lab: Lab, names: Sequence[str]) -> None:
        self._lab, self._waiting = lab, deque(names)
        self._running: dict[str, tuple[Notebook, float]] = {}
        self._done: dict[str, Ran | Exception] = {}

    def result(self, name: str) -> Ran:
        while name not in self._done:
            while self._waiting and len(self._running) < AT_ONCE:
                self._start(self._waiting.popleft())
            for running in list(self._running):
                self._look(running)
        if isinstance(done := self._done[name], Exception):
            raise done
        return done

    def _start(self, name: str) -> None:
        try:
            self._running[name] = self._lab.open(name), monotonic() + LIMIT_S
            self._running[name][0].start_all()
        except Exception as error:  # it belongs to this notebook's test, and another one may be waiting here
            self._done[name] = error

    def _look(self, name: str) -> None:
        notebook, deadline = self._running[name]
        try:
            if notebook.finished(within_s=0.2) or monotonic() > deadline:
                self._done[name] = self._ran(name, notebook)
        except Exception as error:
            self._done[name] = error
        if name in self._done:
            del self._running[name]
            notebook.shutdown()

    def _ran(self, name: str, notebook: Notebook) -> Ran:
        notebook.screenshot(PICTURES / f"{name}.png")
        return Ran(
            notebook.answer(),
            notebook.cell_errors(),
            notebook.console_errors,
            notebook.outside_requests,
            notebook.pop_ups(),
        )

    def end(self) -> None:
        for notebook, _ in self._running.values():
            notebook.shutdown()


@pytest.fixture(scope="module")
def other_settings(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A folder of pictures and a weights file such as a user may have, named in every notebook's settings."""
    own = tmp_path_factory.mktemp("own")
    for i, shape in enumerate([(480, 640), (640, 384), (300, 500)]):
        cv2.imwrite(str(own / f"picture {i}.jpg"), scenes.scene(700 + i, shape).image)
    shutil.copy(weights.bundled(), own / "my weights.pt")
    settings = {"device": "auto", "weights": str(own / "my weights.pt"), "workers": 3, "images": str(own)}
    for name in NAMES:
        file = lab.notebooks / f"{name}.ipynb"
        notebook = nbformat.read(file, as_version=4)
        (cell,) = (c for c in notebook.cells if "parameters" in c.metadata.get("tags", []))
        cell.source = "\n".join(f"{name} = {value!r}" for name, value in {**settings, "quick": True}.items())
        nbformat.write(notebook, file)


@pytest.fixture(scope="module")
def series(lab: Lab, request: pytest.FixtureRequest, other_settings: None) -> Iterator[Series]:
    mine = [item for item in request.session.items if item.getparent(pytest.Module) is request.node]
    series = Series(lab, [item.callspec.params["name"] for item in mine if hasattr(item, "callspec")])
    yield series
    series.end()


@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", NAMES)
def test_run_all_reaches_the_end_without_an_error_or_a_word_from_outside(name: str, series: Series) -> None:
    ran = series.result(name)
    assert ran.cell_errors == []
    assert ran.answer is True
    assert ran.console_errors == []
    assert ran.outside_requests == []
    assert ran.pop_ups == []
