"""The progress of a series of notebooks."""

from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from yolothreads.headless.notebooks import NotebookRun, Progress, expected_seconds


def write(file: Path, *seconds: float | None) -> Path:
    """Write a notebook with one cell per duration, as papermill records it."""
    notes = [{} if s is None else {"papermill": {"duration": s}} for s in seconds]
    nbformat.write(new_notebook(cells=[new_code_cell("1", metadata=note) for note in notes]), file)
    return file


def test_cells_count_equally_without_an_earlier_run(tmp_path: Path) -> None:
    source = write(tmp_path / "00_x.ipynb", None, None)
    assert expected_seconds(source, tmp_path / "none.ipynb") == [1.0, 1.0]
    assert expected_seconds(source, source) == [1.0, 1.0]


@pytest.mark.parametrize("earlier", [(2.0, 5.0), (9.0, 2.0, 5.0)], ids=["as it is", "with injected parameters"])
def test_cells_count_by_their_duration_in_an_earlier_run(tmp_path: Path, earlier: tuple[float, ...]) -> None:
    source = write(tmp_path / "00_x.ipynb", None, None)
    assert expected_seconds(source, write(tmp_path / "earlier.ipynb", *earlier)) == [2.0, 5.0]


def test_without_a_terminal_there_is_one_line_per_notebook(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(tmp_path / "00_x.ipynb", None, None)
    with Progress([source], tmp_path / "out") as shown:
        shown.cell(source, 1)
        shown.done(NotebookRun("00_x", 1.5, True, "", ()))
    assert capsys.readouterr().err == "00_x: 1.5 s\n"


def test_in_a_terminal_a_bar_names_notebook_cell_and_time_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    source = write(tmp_path / "00_x.ipynb", None, None)
    with Progress([source], tmp_path / "out") as shown:
        shown.cell(source, 1)
        shown.done(NotebookRun("00_x", 1.5, False, "Cell [2] raised ValueError: no", ()))
    printed = capsys.readouterr().err
    assert "00_x, cell 2 of 2" in printed
    assert " left" in printed
    assert "00_x: Cell [2] raised ValueError: no\n" in printed
