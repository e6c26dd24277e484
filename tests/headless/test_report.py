"""The report of a run: one page per notebook and an index, with nothing loaded from outside."""

import re
from datetime import UTC, datetime
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from yolothreads.errors import OutputError
from yolothreads.headless import report
from yolothreads.headless.notebooks import NotebookRun

VERDICT = {"claim": "locked-safe", "word": "confirmed in part", "evidence": ["seen: a <lock>"], "stamp": "cpu, 2 cores"}
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def write(folder: Path, name: str, *outputs: object, text: str = "# A lesson") -> NotebookRun:
    cells = [new_markdown_cell(text), new_code_cell("x = 1  # a remark", outputs=list(outputs))]
    folder.mkdir(exist_ok=True)
    nbformat.write(new_notebook(cells=cells), folder / f"{name}.ipynb")
    return NotebookRun(name, 1.25, True, "", (VERDICT,))


def shown(**data: object) -> object:
    return new_output("display_data", {name.replace("__", "/"): value for name, value in data.items()})


@pytest.fixture
def page(tmp_path: Path):
    """Function that makes the page of a notebook with one cell that has these outputs."""

    def made(*outputs: object, text: str = "# A lesson", others: tuple[NotebookRun, ...] = ()) -> BeautifulSoup:
        run = write(tmp_path / "run", "01_one", *outputs, text=text)
        report.write([run, *others], tmp_path / "run", tmp_path / "out")
        return BeautifulSoup((tmp_path / "out" / "01_one.html").read_text(encoding="utf-8"), "html.parser")

    return made


def test_there_is_a_page_for_each_notebook_and_an_index_that_leads_to_them(tmp_path: Path) -> None:
    runs = [write(tmp_path / "run", name) for name in ("01_one", "02_two")]
    index = report.write(runs, tmp_path / "run", tmp_path / "a" / "report")
    assert index == tmp_path / "a" / "report" / "index.html"
    links = {a["href"] for a in BeautifulSoup(index.read_text(), "html.parser").select("main a")}
    assert links == {"01_one.html", "02_two.html"}
    assert all((index.parent / link).is_file() for link in links)
    assert not list(index.parent.glob("*.part"))


def test_the_index_has_claim_verdict_evidence_duration_and_machine(tmp_path: Path) -> None:
    index = report.write([write(tmp_path / "run", "01_one")], tmp_path / "run", tmp_path).read_text()
    for said in (
        "ThreadingLocked lets only one thread",
        "confirmed in part",
        "seen: a &lt;lock&gt;",
        "1.2",
        "cpu, 2 cores",
    ):
        assert said in index


def test_the_page_of_a_failed_notebook_shows_the_failure_and_how_far_it_got(tmp_path: Path) -> None:
    error = new_output("error", ename="ValueError", evalue="no", traceback=["\x1b[31mValueError\x1b[0m: <no>"])
    write(tmp_path / "run", "01_one", error)
    failed = NotebookRun("01_one", 1.0, False, "Cell [2] raised ValueError: <no>", ())
    index = report.write([failed], tmp_path / "run", tmp_path).read_text()
    page = (tmp_path / "01_one.html").read_text()
    assert "failed: Cell [2] raised ValueError: &lt;no&gt;" in index
    assert "ValueError: &lt;no&gt;" in page.split("<main")[1]
    assert "\x1b" not in page


def test_the_page_of_a_notebook_whose_kernel_never_started_says_so(tmp_path: Path) -> None:
    failed = NotebookRun("01_one", 1.0, False, "DeadKernelError: it died", ())
    report.write([failed], tmp_path / "nothing", tmp_path)
    assert "DeadKernelError: it died" in (tmp_path / "01_one.html").read_text()


def test_pages_contain_tables_pictures_and_text(page) -> None:
    made = page(
        shown(text__html="<table><thead><tr><th>a</th></tr></thead></table>"),
        shown(image__png=PNG),
        new_output("stream", text="said <here>\n"),
        new_output("execute_result", {"text/plain": "'a value'"}, execution_count=1),
    )
    assert made.select_one("th")["scope"] == "col"
    assert made.select_one("img")["src"].endswith(PNG)
    assert [pre.text.strip() for pre in made.select(".outputs > pre")] == ["said <here>", "'a value'"]


def test_a_verdict_is_shown_by_its_html(page) -> None:
    bundle = {"application/vnd.yolothreads.verdict+json": VERDICT, "text/html": "<p>Here: confirmed</p>"}
    assert "Here: confirmed" in page(new_output("display_data", bundle)).text


def test_widgets_are_omitted_and_their_static_twins_kept(page) -> None:
    widget = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "text/plain": "VBox(children=())"}
    script = {"application/javascript": "element.x()", "text/plain": "<IPython.core.display.Javascript object>"}
    made = page(
        new_output("display_data", widget),
        new_output("display_data", script),
        new_output("display_data", {**widget, "text/html": "<p>what it leaves</p>"}),
    )
    assert [part.text.strip() for part in made.select(".outputs > *")] == ["what it leaves"]
    assert not made.select("script")


def test_links_between_lessons_lead_to_existing_pages(page, tmp_path: Path) -> None:
    other = write(tmp_path / "run", "02_two")
    text = "# A\n[next](02_two.ipynb) [gone](03_three.ipynb) [docs](../docs/x.md) [web](https://example.org/a)"
    section = page(text=text, others=(other,)).select_one(".text")
    assert [a["href"] for a in section.select("a")] == ["02_two.html", "https://example.org/a"]
    assert "gone" in section.text


def test_pages_link_to_each_other(page, tmp_path: Path) -> None:
    links = [a["href"] for a in page(others=(write(tmp_path / "run", "02_two"),)).select("nav a")]
    assert links == ["index.html", "02_two.html"]


def test_pages_load_nothing_from_outside(page) -> None:
    made = page(shown(image__png=PNG))
    loaded = [part.get("src") or part.get("href") for part in made.select("script, link, img, iframe, object")]
    assert loaded
    assert all(address.startswith("data:") for address in loaded)
    assert not re.search(r"url\(|@import", made.style.text)


def test_a_cell_that_found_a_bad_schedule_links_to_its_page(tmp_path: Path) -> None:
    seconds = 1_700_000_000
    ended = [datetime.fromtimestamp(seconds + at, UTC).isoformat() for at in (10, 20)]
    cells = [new_code_cell(f"x = {at}", metadata={"papermill": {"end_time": at}}) for at in ended]
    (tmp_path / "run" / "01_one.pages").mkdir(parents=True)
    nbformat.write(new_notebook(cells=cells), tmp_path / "run" / "01_one.ipynb")
    saved = tmp_path / "run" / "01_one.pages" / f"{seconds + 15}000000000_1.html"
    saved.write_text("<title>wrong result: A runs &lt;lambda&gt;</title>", encoding="utf-8")
    run = NotebookRun("01_one", 1.25, True, "", (), (saved,))
    report.write([run], tmp_path / "run", tmp_path / "out")
    made = BeautifulSoup((tmp_path / "out" / "01_one.html").read_text(encoding="utf-8"), "html.parser")
    (link,) = made.select(".schedule a")
    assert link["href"] == "01_one_schedule_1.html"
    assert link.text == "Step by step: wrong result: A runs <lambda>"
    assert (tmp_path / "out" / "01_one_schedule_1.html").read_bytes() == saved.read_bytes()
    assert made.select(".schedule")[0].find_next(class_="code") is None  # it stands below the second cell


def test_papermills_note_of_an_error_is_omitted(tmp_path: Path) -> None:
    write(tmp_path / "run", "01_one")
    file = tmp_path / "run" / "01_one.ipynb"
    notebook = nbformat.read(file, 4)
    note = new_markdown_cell("An Exception was encountered", metadata={"tags": ["papermill-error-cell-tag"]})
    notebook.cells.insert(0, note)
    nbformat.write(notebook, file)
    report.write([NotebookRun("01_one", 1.0, False, "it failed", ())], tmp_path / "run", tmp_path)
    assert "An Exception was encountered" not in (tmp_path / "01_one.html").read_text()


def test_the_error_for_a_folder_that_cannot_be_written_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r'report could not be written to ".*file"'):
        report.write([write(tmp_path / "run", "01_one")], tmp_path / "run", tmp_path / "file")


def test_the_report_of_a_later_run_replaces_the_pages(page) -> None:
    page(text="# Before")
    assert "After" in page(text="# After").text
    assert "Before" not in page(text="# After").text
