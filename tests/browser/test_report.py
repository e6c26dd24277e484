"""The report, opened from disk, makes no network request and has no serious axe violation in light or dark mode."""

from pathlib import Path

import nbformat
import pytest
from axe_playwright_python.sync_playwright import Axe
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from playwright.sync_api import Browser, Page

from yolothreads import cli
from yolothreads.detections import explore
from yolothreads.headless import report
from yolothreads.headless.notebooks import NotebookRun
from yolothreads.lessons import exercises, figures, judge
from yolothreads.tables import Table
from yolothreads.trace import Span

pytestmark = pytest.mark.timeout(120)
TEXT = """# A lesson

Text, `code`, **bold**, [next](02_two.ipynb).

## A part

* one

| a | b |
|---|---|
| 1 | 2 |
"""
CODE = "'''Words.'''\nimport os\n\n\nclass A:\n    def f(self, x=1.5):\n        return f\"{x}\" if x else None  # why\n"


def race(lines: list[int]) -> None:
    """A small race, like those that the lessons explore."""
    last = lines[-1]
    lines.append(last + 1)


def outputs() -> list[dict]:
    """Return one output of each kind that lessons store."""
    found = explore(race, race, setup=lambda: [0], observe=list, watch=[race])
    check = exercises.get("count_objects").check(lambda result, name: None)
    shown = [
        Table(["pool", "a long header of a column", "images/s"] * 3, [("SharedModel", "wrong", 1.0) * 3], "A caption"),
        figures.timeline([Span("a", "wait", 0.0, 1.0), Span("b", "infer", 0.5, 2.0)]),
        *(found, found.source_map(), found.draw(), check),
    ]
    verdict = judge("locked-safe", {"it held": True, "it did not": False})._repr_mimebundle_()
    made = [new_output("display_data", {"text/html": one._repr_html_()}) for one in shown]
    return [*made, new_output("display_data", verdict), new_output("stream", text="said " * 60)]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    place = tmp_path_factory.mktemp("report")
    cells = [new_markdown_cell(TEXT), new_code_cell(CODE * 2 + "y" * 200, outputs=outputs())]
    nbformat.write(new_notebook(cells=cells), place / "01_one.ipynb")
    verdict = {"claim": "locked-safe", "word": "confirmed", "evidence": ["seen: it held"], "stamp": "cpu"}
    runs = [NotebookRun("01_one", 3.0, True, "", (verdict,)), NotebookRun("02_two", 1.0, False, "It failed.", ())]
    report.write(runs, place, place)
    return sorted(place.glob("*.html"))


@pytest.mark.nightly
@pytest.mark.timeout(240)
def test_the_report_of_a_run_with_other_settings_has_no_serious_violation(chromium: Browser, tmp_path: Path) -> None:
    words = ["run", "00", "--quick", "-p", "workers", "3", "--out", str(tmp_path), "--report", str(tmp_path / "report")]
    assert cli.main(words) == 0
    page = chromium.new_page()
    page.goto((tmp_path / "report" / "00_start_here.html").as_uri())
    assert page.get_by_role("img").count() >= 2  # the detected objects, and the final image of the panel
    assert "ModelPerThread, workers: 3" in page.inner_text("main")
    assert [v["id"] for v in Axe().run(page).response["violations"] if v["impact"] in ("serious", "critical")] == []
    page.close()


@pytest.fixture(params=["light", "dark"])
def browser_page(request: pytest.FixtureRequest, chromium: Browser) -> Page:
    context = chromium.new_context(color_scheme=request.param)
    yield context.new_page()
    context.close()


def test_pages_have_no_serious_axe_violation_and_make_no_network_request(browser_page: Page, pages: list[Path]) -> None:
    asked = []
    browser_page.on("request", lambda request: asked.append(request.url))
    for page in pages:
        browser_page.goto(page.as_uri())
        found = Axe().run(browser_page).response["violations"]
        serious = [v for v in found if v["impact"] in ("serious", "critical")]
        assert [(v["id"], n["html"]) for v in serious for n in v["nodes"]] == [], page.name
    assert {address.partition(":")[0] for address in asked} <= {"file", "data"}


@pytest.mark.parametrize("width", [320, 1280])
def test_a_page_is_never_wider_than_its_window(chromium: Browser, pages: list[Path], width: int) -> None:
    context = chromium.new_context(viewport={"width": width, "height": 700})
    page = context.new_page()
    for file in pages:
        page.goto(file.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") == width, file.name
    context.close()


def test_the_keyboard_reaches_the_content_first(chromium: Browser, pages: list[Path]) -> None:
    context = chromium.new_context()
    page = context.new_page()
    page.goto(pages[0].as_uri())
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    context.close()
