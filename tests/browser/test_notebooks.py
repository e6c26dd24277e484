"""Runs every notebook once: in JupyterLab, as a learner does, or by nbclient where there is no browser.

All checks use this one execution: the compared outputs, the errors, the console,
the requests, the verdicts, the screenshots in build/browser and the report in build/report. The nightly tier also runs
all notebooks with other settings.
"""

import shutil
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, perf_counter
from typing import Protocol

import cv2
import nbformat
import pytest
from axe_playwright_python.sync_playwright import Axe
from comparer import differences, strip_outputs
from deadlines import scaled
from nbclient import NotebookClient
from nbformat import NotebookNode
from playwright.sync_api import Browser

from yolothreads import scenes, weights
from yolothreads.headless import notebooks, report
from yolothreads.headless.notebooks import NotebookRun
from yolothreads.lessons import CLAIMS

from .conftest import browser_needed, installed
from .jupyter import Lab, Notebook

BUILD = Path(__file__).parents[2] / "build"
PATHS = {path.stem: path for path in notebooks.find()}
AT_ONCE = 2
LIMIT_S = scaled(400)  # for one notebook, from Run All to its end
every_notebook = pytest.mark.parametrize("name", PATHS)


@dataclass(frozen=True)
class Executed:
    """The result of running all cells of one notebook; without a browser, the last three fields stay empty."""

    notebook: NotebookNode
    file: Path
    seconds: float
    answer: object = True
    console_errors: Sequence[str] = ()
    outside_requests: Sequence[str] = ()
    pop_ups: Sequence[str] = ()


class Series(Protocol):
    """Runs notebooks and keeps the result of each."""

    def result(self, name: str) -> Executed: ...


class InJupyterLab:
    """Runs notebooks in a browser, two at the same time; asking for one result also advances the others."""

    def __init__(self, lab: Lab, names: Sequence[str]) -> None:
        self._lab, self._waiting = lab, deque(names)
        self._running: dict[str, tuple[Notebook, float]] = {}
        self._done: dict[str, Executed | Exception] = {}

    def result(self, name: str) -> Executed:
        while name not in self._done:
            while self._waiting and len(self._running) < AT_ONCE:
                self._start(self._waiting.popleft())
            for running in list(self._running):
                self._poll(running)
        if isinstance(done := self._done[name], Exception):
            raise done
        return done

    def _start(self, name: str) -> None:
        try:
            strip_outputs(
                self._lab.notebooks / f"{name}.ipynb"
            )  # otherwise a cell that does not run would seem executed
            self._running[name] = self._lab.open(name), monotonic()
            self._running[name][0].start_all()
        except Exception as error:  # raised later, in the tests of this notebook: another notebook may be waiting here
            self._done[name] = error

    def _poll(self, name: str) -> None:
        notebook, began = self._running[name]
        try:
            if notebook.finished(within_s=0.2) or monotonic() > began + LIMIT_S:
                self._done[name] = self._executed(name, notebook, monotonic() - began)
        except Exception as error:
            self._done[name] = error
        if name in self._done:
            del self._running[name]
            notebook.shutdown()

    def _executed(self, name: str, notebook: Notebook, seconds: float) -> Executed:
        notebook.screenshot(BUILD / "browser" / f"{name}.png")
        answer, pop_ups, file = notebook.answer(), notebook.pop_ups(), self._lab.notebooks / f"{name}.ipynb"
        notebook.save()
        saved = nbformat.read(file, as_version=4)
        return Executed(saved, file, seconds, answer, notebook.console_errors, notebook.outside_requests, pop_ups)

    def end(self) -> None:
        for notebook, _ in self._running.values():
            notebook.shutdown()


class ByNbclient:
    """Runs notebooks without a browser, each when its result is asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._done: dict[str, Executed] = {}

    def result(self, name: str) -> Executed:
        if name not in self._done:
            notebook, start = nbformat.read(PATHS[name], as_version=4), perf_counter()
            where = {"metadata": {"path": PATHS[name].parent}}
            NotebookClient(notebook, timeout=int(LIMIT_S), allow_errors=True, resources=where).execute()
            file = self._folder / f"{name}.ipynb"
            nbformat.write(notebook, file)
            self._done[name] = Executed(notebook, file, perf_counter() - start)
        return self._done[name]


def chosen(request: pytest.FixtureRequest) -> list[str]:
    """Return the notebooks that the tests of this session need from the requesting fixture, in test order."""
    mine = [item for item in request.session.items if item.getparent(pytest.Module) is request.node]
    mine = [item for item in mine if request.fixturename in item.fixturenames]
    if any(not hasattr(item, "callspec") for item in mine):  # a test without parameters needs all notebooks
        return list(PATHS)
    return list(dict.fromkeys(item.callspec.params["name"] for item in mine))


@pytest.fixture(scope="module")
def series(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Series]:
    if installed() is None and not browser_needed():
        yield ByNbclient(tmp_path_factory.mktemp("executed"))
        return
    running = InJupyterLab(request.getfixturevalue("lab"), chosen(request))
    yield running
    running.end()


@pytest.mark.timeout(900)
@every_notebook
def test_it_runs_to_its_end_without_errors_or_outside_requests(name: str, series: Series) -> None:
    executed = series.result(name)
    assert differences(executed.notebook, nbformat.read(PATHS[name], as_version=4)) == []
    assert executed.answer is True
    assert executed.console_errors == []
    assert executed.outside_requests == []
    assert executed.pop_ups == []


@every_notebook
def test_it_shows_one_verdict_per_claim(name: str, series: Series) -> None:
    judged = {verdict["claim"] for verdict in notebooks.verdicts_of(series.result(name).file)}
    assert judged == {claim.id for claim in CLAIMS.values() if name in claim.notebooks}


@pytest.mark.timeout(900)
def test_the_report_of_these_runs_opens_from_disk_and_names_every_verdict(series: Series, chromium: Browser) -> None:
    done = {name: series.result(name) for name in PATHS}
    runs = [NotebookRun(n, e.seconds, True, "", notebooks.verdicts_of(e.file)) for n, e in done.items()]
    index = report.write(runs, next(iter(done.values())).file.parent, BUILD / "report")
    page = chromium.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(index.as_uri())
    text = page.inner_text("main")
    assert all(f"{v['word']}" in text for run in runs for v in run.verdicts)
    page.goto((index.parent / "00_start_here.html").as_uri())
    assert page.get_by_role("img").count() >= 1  # the detected objects; a live panel leaves no image
    assert [v["id"] for v in Axe().run(page).response["violations"] if v["impact"] in ("serious", "critical")] == []
    page.close()
    assert all(url.startswith(("file:", "data:")) for url in asked)


@pytest.fixture(scope="module")
def other_settings(
    lab: Lab, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Series]:
    """Run copies of the notebooks whose settings name a user's own pictures, weights and number of workers."""
    own = tmp_path_factory.mktemp("own")
    for i, shape in enumerate([(480, 640), (640, 384), (300, 500)]):
        cv2.imwrite(str(own / f"picture {i}.jpg"), scenes.scene(700 + i, shape).image)
    shutil.copy(weights.bundled(), own / "my weights.pt")
    settings = {
        "device": "auto",
        "weights": str(own / "my weights.pt"),
        "workers": 3,
        "images": str(own),
        "quick": True,
    }
    names = chosen(request)
    for name in names:
        notebook = nbformat.read(PATHS[name], as_version=4)
        (cell,) = (c for c in notebook.cells if "parameters" in c.metadata.get("tags", []))
        cell.source = "\n".join(f"{name} = {value!r}" for name, value in settings.items())
        nbformat.write(notebook, lab.notebooks / f"other_{name}.ipynb")
    running = InJupyterLab(lab, [f"other_{name}" for name in names])
    yield running
    running.end()


@pytest.mark.nightly
@pytest.mark.timeout(900)
@every_notebook
def test_it_also_runs_with_other_settings(name: str, other_settings: Series) -> None:
    executed = other_settings.result(f"other_{name}")
    assert executed.answer is True
    errors = [o for cell in executed.notebook.cells for o in cell.get("outputs", []) if o.output_type == "error"]
    assert errors == []
    assert [*executed.console_errors, *executed.outside_requests, *executed.pop_ups] == []


@pytest.mark.nightly
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("number", ["03", "07", "09", "10", "11", "12"])
def test_a_long_lesson_runs_at_full_length(number: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YOLOTHREADS_QUICK", "0")
    (run,) = notebooks.run(notebooks.find([number]), out=tmp_path, timeout_s=scaled(1500))
    assert run.error == ""
    (path,) = notebooks.find([number])
    assert differences(nbformat.read(tmp_path / path.name, as_version=4), nbformat.read(path, as_version=4)) == []
