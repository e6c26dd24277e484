"""Finding and executing notebooks, tried on tiny ones."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import nbformat
import papermill
import psutil
import pytest
from fakes import ctrl_c_on

from yolothreads.errors import ArgumentError, NotebookError, OutputError
from yolothreads.headless import notebooks
from yolothreads.lessons import VERDICT_MIME

KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
VERDICT = {"claim": "tiny", "word": "confirmed", "evidence": [["it ran", True]], "stamp": "here"}
SHOW_VERDICT = f"from IPython.display import display; display({{{VERDICT_MIME!r}: {VERDICT!r}}}, raw=True)"


def write(folder: Path, name: str, *cells: str, parameters: str = "workers = 2") -> Path:
    first = nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})
    notebook = nbformat.v4.new_notebook(cells=[first, *map(nbformat.v4.new_code_cell, cells)], metadata=KERNEL)
    folder.mkdir(exist_ok=True)
    nbformat.write(notebook, folder / f"{name}.ipynb")
    return folder / f"{name}.ipynb"


@pytest.fixture
def lessons(tmp_path: Path) -> Path:
    """A folder with two notebooks that are never executed."""
    write(tmp_path / "lessons", "00_start")
    write(tmp_path / "lessons", "01_go_on")
    return tmp_path / "lessons"


@pytest.mark.parametrize("name", ["1", "01", "01_go_on", "01_go_on.ipynb", "notebooks/01_go_on.ipynb"])
def test_a_notebook_is_found_by_number_name_and_file(lessons: Path, name: str) -> None:
    assert [p.stem for p in notebooks.find([name], lessons)] == ["01_go_on"]


def test_without_names_all_lessons_are_found_in_order(lessons: Path) -> None:
    (lessons / "scratch.ipynb").write_text("{}")
    assert [p.stem for p in notebooks.find((), lessons)] == ["00_start", "01_go_on"]


def test_a_name_given_twice_runs_once(lessons: Path) -> None:
    assert len(notebooks.find(["0", "00_start"], lessons)) == 1


def test_a_notebook_can_be_given_by_its_path(lessons: Path, tmp_path: Path) -> None:
    mine = write(tmp_path, "mine")
    assert notebooks.find([str(mine)], lessons) == [mine]


def test_the_error_for_an_unknown_notebook_names_the_existing_ones(lessons: Path) -> None:
    with pytest.raises(NotebookError, match='"7"; choose one of these: 00_start, 01_go_on'):
        notebooks.find(["7"], lessons)


def test_no_notebooks_at_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NotebookError, match="no notebooks"):
        notebooks.find((), tmp_path)
    with pytest.raises(NotebookError, match="no notebooks to run"):
        notebooks.run([], out=tmp_path)


def test_an_unknown_parameter_is_an_error_before_anything_runs(lessons: Path, tmp_path: Path) -> None:
    sources = [*notebooks.find((), lessons), write(lessons, "02_more", parameters="workers = 2\nspeed = 3")]
    with pytest.raises(
        NotebookError, match=r'"00_start\.ipynb" has no parameter "speed"; choose one of these: workers'
    ):
        notebooks.run(sources, {"speed": 1}, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_not_a_notebook_is_an_error(tmp_path: Path) -> None:
    broken = tmp_path / "00_broken.ipynb"
    broken.write_text("this is no JSON")
    with pytest.raises(NotebookError, match="cannot be read"):
        notebooks.run([broken], out=tmp_path / "out")


def test_two_notebooks_with_the_same_name_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(NotebookError, match="same name"):
        notebooks.run([write(tmp_path / "a", "00_x"), write(tmp_path / "b", "00_x")], out=tmp_path / "out")


def test_a_timeout_of_zero_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="timeout_s=0"):
        notebooks.run([write(tmp_path, "00_x")], timeout_s=0)


def test_a_failure_is_one_sentence_and_the_others_run(tmp_path: Path) -> None:
    bad = write(tmp_path / "in {braces}", "00_bad", "raise ValueError('no such thing\\nand more')")
    good = write(tmp_path / "in {braces}", "01_good", SHOW_VERDICT, "assert workers == 5", "import os; os.getcwd()")
    ended: list[str] = []
    runs = notebooks.run([bad, good], {"workers": 5}, tmp_path / "out", on_done=lambda r: ended.append(r.notebook))
    assert [r.ok for r in runs] == [False, True]
    assert runs[0].error == "Cell [3] raised ValueError: no such thing"
    assert runs[1].error == ""
    assert runs[1].verdicts == (VERDICT,)
    assert ended == ["00_bad", "01_good"]
    executed = nbformat.read(tmp_path / "out" / "01_good.ipynb", as_version=4)
    assert executed.cells[-1].outputs[0].data["text/plain"] == repr(str(good.parent))


def test_a_notebook_that_takes_too_long_has_failed(tmp_path: Path) -> None:
    slow = write(tmp_path, "00_slow", "import threading; threading.Event().wait(60)")
    (run,) = notebooks.run([slow], out=tmp_path / "out", timeout_s=3)
    assert not run.ok
    assert "longer than 3 s" in run.error
    assert run.seconds < 30


def test_a_kernel_that_dies_is_a_failure(tmp_path: Path) -> None:
    (run,) = notebooks.run([write(tmp_path, "00_dies", "import os; os._exit(3)")], out=tmp_path / "out")
    assert not run.ok
    assert "DeadKernelError" in run.error
    assert run.error.endswith(f"is in {tmp_path / 'out' / '00_dies.log'})")


def test_explorations_save_pages_beside_the_executed_notebook_if_asked_to(tmp_path: Path) -> None:
    explores = (
        "from benchmarks.bodies import bump, number, state; from yolothreads.races import explore\n"
        "found = explore(bump, bump, setup=state(n=0), observe=number)"
    )
    sources = [write(tmp_path / "in", "00_race", explores), write(tmp_path / "in", "01_none")]
    race, none = notebooks.run(sources, out=tmp_path / "out", pages=True)
    (page,) = race.pages
    assert page.parent == tmp_path / "out" / "00_race.pages"
    assert none.pages == () and {path.name for path in (tmp_path / "out").iterdir() if path.is_dir()} == {
        "00_race.pages"
    }
    (again,) = notebooks.run(sources[:1], out=tmp_path / "out")
    assert again.pages == () and not page.parent.exists()


def test_each_cell_is_announced_when_it_starts(tmp_path: Path) -> None:
    source = write(tmp_path, "00_x", "1", "2")
    cells: list[tuple[str, int]] = []
    notebooks.run([source], out=tmp_path / "out", on_cell=lambda path, index: cells.append((path.stem, index)))
    assert cells == [("00_x", 0), ("00_x", 1), ("00_x", 2)]


def test_a_child_process_of_a_kernel_does_not_print_to_the_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTEST_CURRENT_TEST")  # with it a kernel does not copy what its children print
    child = "import subprocess, sys; subprocess.run([sys.executable, '-c', '1 / 0'])"
    (run,) = notebooks.run([write(tmp_path, "00_x", child)], out=tmp_path / "out")
    assert run.ok
    assert "ZeroDivisionError" not in "".join(capfd.readouterr())
    assert not (tmp_path / "out" / "00_x.log").exists()


def test_a_full_disk_is_an_error_that_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: str, target: str, *args: object, **kwargs: object) -> None:
        Path(target).write_text('{"half": ')
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(papermill, "execute_notebook", full)
    with pytest.raises(OutputError, match=r'out/00_x.ipynb" could not be written \(No space left on device\)'):
        notebooks.run([write(tmp_path, "00_x")], out=tmp_path / "out")
    assert not (tmp_path / "out" / "00_x.ipynb").exists()


def test_an_output_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="could not be written"):
        notebooks.run([write(tmp_path, "00_x")], out=tmp_path / "file" / "out")


def test_two_concurrent_runs_do_not_interfere(tmp_path: Path) -> None:
    both = [write(tmp_path / name, "00_x", "import os; print(os.getcwd())") for name in ("here", "there")]
    outs = [source.parent / "out" for source in both]
    started = [
        subprocess.Popen([sys.executable, "-m", "yolothreads", "run", str(source), "--out", str(out)])
        for source, out in zip(both, outs, strict=True)
    ]
    assert [process.wait(60) for process in started] == [0, 0]
    for source, out in zip(both, outs, strict=True):
        executed = nbformat.read(out / "00_x.ipynb", as_version=4)
        assert executed.cells[-1].outputs[0].text.strip() == str(source.parent)


@pytest.mark.skipif(os.name != "posix", reason="Ctrl-C is a signal only on POSIX")
def test_ctrl_c_leaves_no_kernel_behind(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    tell = f"import os, pathlib; pathlib.Path({str(pid_file)!r}).write_text(str(os.getpid()))"
    source = write(tmp_path, "00_x", tell, "import threading; threading.Event().wait(90)")
    command = [sys.executable, "-m", "yolothreads", "run", str(source), "--out", str(tmp_path / "out")]
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=ctrl_c_on,
    )
    with process:
        try:
            kernel = psutil.Process(_wait_for_pid(pid_file))
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=30)
        finally:
            process.kill()
    assert 'cli.py", line' not in err  # no traceback from the kit; a kernel may log one of its own
    assert process.returncode == 130
    kernel.wait(timeout=10)


def _wait_for_pid(file: Path) -> int:
    deadline, pause = time.monotonic() + 60, threading.Event()
    while time.monotonic() < deadline:
        if file.is_file() and file.read_text():
            return int(file.read_text())
        pause.wait(0.05)
    raise TimeoutError(json.dumps({"no kernel wrote": str(file)}))
