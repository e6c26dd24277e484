"""The command line: its output, its exit codes, and the arguments that it passes on."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from yolothreads import bench, cli
from yolothreads.errors import DeviceError
from yolothreads.headless import doctor, notebooks
from yolothreads.headless.notebooks import NotebookRun
from yolothreads.tables import Table

GOOD = NotebookRun("00_good", 1.5, True, "", ({"claim": "tiny", "word": "confirmed"},))
BAD = NotebookRun("01_bad", 0.5, False, "Cell [2] raised ValueError: no", ())


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", os.environ.copy())


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Replace `notebooks.run` by a function that records its arguments and returns one good run."""
    noted: dict[str, Any] = {}

    def run(
        sources: object, parameters: object, out: object, timeout_s: object, *_: object, pages: bool
    ) -> list[NotebookRun]:
        noted.update(notebooks=sources, parameters=parameters, out=out, timeout_s=timeout_s, pages=pages)
        return [GOOD]

    monkeypatch.setattr(notebooks, "find", lambda names: [Path(name) for name in names])
    monkeypatch.setattr(notebooks, "run", run)
    return noted


def test_run_passes_on_names_parameters_folder_and_timeout(called: dict[str, Any]) -> None:
    words = "run 0 1 -p workers 4 -p conf 0.5 -p quick True -p device cuda:0 --out there --timeout 9"
    assert cli.main(words.split()) == 0
    assert called["parameters"] == {"workers": 4, "conf": 0.5, "quick": True, "device": "cuda:0"}
    assert (called["notebooks"], called["out"], called["timeout_s"]) == ([Path("0"), Path("1")], Path("there"), 9)


def test_a_relative_path_starts_at_the_working_directory(
    called: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    cli.main(["run", "-p", "images", "mine", "-p", "weights", "yolo11n.pt"])
    assert called["parameters"] == {"images": str(tmp_path / "mine"), "weights": "yolo11n.pt"}


def test_quick_is_passed_on_to_the_kernels(called: dict[str, Any]) -> None:
    cli.main(["run", "--quick"])
    assert os.environ["YOLOTHREADS_QUICK"] == "1"
    assert os.environ["YOLO_AUTOINSTALL"] == "false"


def test_run_prints_a_table_and_returns_1_if_a_notebook_failed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*args: Any, pages: bool) -> list[NotebookRun]:
        args[-1](BAD)
        return [GOOD, BAD]

    monkeypatch.setattr(notebooks, "find", lambda names: [])
    monkeypatch.setattr(notebooks, "run", run)
    assert cli.main(["run"]) == 1
    printed = capsys.readouterr()
    assert "00_good" in printed.out
    assert "tiny confirmed" in printed.out
    assert printed.err == "01_bad: Cell [2] raised ValueError: no\n"


def test_only_a_report_needs_pages_of_schedules(called: dict[str, Any], tmp_path: Path) -> None:
    cli.main(["run"])
    assert called["pages"] is False
    cli.main(["run", "--report", str(tmp_path / "report")])
    assert called["pages"] is True


def test_a_report_that_cannot_be_written_is_refused_before_any_notebook_runs(
    called: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["run", "--report", "/dev/null/here"]) == 2
    assert 'could not be written to "/dev/null/here"' in capsys.readouterr().err
    assert called == {}


def test_an_error_prints_one_sentence_and_returns_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "no_such_lesson"]) == 2
    assert capsys.readouterr().err.startswith('error: There is no notebook "no_such_lesson"')


@pytest.mark.parametrize(("state", "code"), [("ok", 0), ("problem: do this", 1)])
def test_doctor_returns_1_on_a_problem(monkeypatch: pytest.MonkeyPatch, state: str, code: int) -> None:
    monkeypatch.setattr(doctor, "checkup", lambda: Table(("item", "found", "state"), [("disk", "1 GB", state)]))
    assert cli.main(["doctor"]) == code


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fake `bench` and `growth` that return their settings, and have a figure."""

    def note(setting: bench.Setting, **asked: Any) -> SimpleNamespace:
        figure = SimpleNamespace(savefig=lambda path, **_: path.write_text("drawn"))
        told = {"setting": str(setting), **asked}
        return SimpleNamespace(to_dict=lambda: told, plots=lambda: {"speed": figure})

    monkeypatch.setattr(bench, "bench", note)
    monkeypatch.setattr(bench, "growth", note)


def test_bench_writes_json_to_a_file(measured: None, tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    assert cli.main(["bench", "--rounds", "2", "--batch", "4", "--json", str(file)]) == 0
    asked = json.loads(file.read_text())
    assert asked == {"setting": str(bench.Setting(batch=4)), "rounds": 2, "memory": True}


def test_bench_quick_is_small(measured: None, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["bench", "--quick", "--json"])
    asked = json.loads(capsys.readouterr().out)
    assert asked == {"setting": str(bench.Setting(imgsz=160)), "rounds": 1, "images": 4, "memory": False}


def test_growth_takes_its_own_options_and_those_of_bench(measured: None, capsys: pytest.CaptureFixture[str]) -> None:
    words = "bench --workers 3 growth --of memory sizes --counts 1 8 --pools Replicas --rounds 2 --imgsz 320 --json"
    assert cli.main(words.split()) == 0
    asked = json.loads(capsys.readouterr().out)
    assert asked.pop("setting") == str(bench.Setting(workers=3, imgsz=320))
    assert (asked.pop("of"), asked.pop("counts"), asked.pop("pools")) == (["memory", "sizes"], [1, 8], ["Replicas"])
    assert asked == {"rounds": 2}


@pytest.mark.parametrize("words", ["bench", "bench growth"])
def test_figures_are_saved_in_the_folder(words: str, measured: None, tmp_path: Path) -> None:
    assert cli.main([*words.split(), "--plots", str(tmp_path / "here")]) == 0
    assert (tmp_path / "here" / "speed.png").read_text() == "drawn"


def test_bench_prints_json_instead_of_text(measured: None, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["bench", "--json"])
    assert json.loads(capsys.readouterr().out)["memory"] is True


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_an_error_that_names_the_file(measured: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "--json", "/dev/full"]) == 2
    assert 'error: "/dev/full" could not be written' in capsys.readouterr().err


def test_a_device_that_is_not_here_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise DeviceError("There is no device.")

    monkeypatch.setattr(bench, "bench", refuse)
    assert cli.main(["bench", "--device", "cuda:99"]) == 2
    assert capsys.readouterr().err == "error: There is no device.\n"


def test_claims_lists_the_claims_of_the_guide(capsys: pytest.CaptureFixture[str]) -> None:
    from yolothreads.lessons import CLAIMS

    assert cli.main(["claims"]) == 0
    printed = capsys.readouterr().out
    assert all(claim.id in printed and claim.says in printed for claim in CLAIMS.values())


@pytest.fixture
def lab_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """File to which a fake Python for JupyterLab writes its arguments and settings folders; it returns 7."""
    noted = tmp_path / "noted"
    noting = f"pathlib.Path({str(noted)!r}).write_text(repr([*sys.argv[1:], os.environ['JUPYTER_CONFIG_PATH']]))"
    fake = tmp_path / "python"
    fake.write_text(f"#!{sys.executable}\nimport os, pathlib, sys\n{noting}\nsys.exit(7)\n")
    fake.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(fake))
    monkeypatch.setattr(notebooks, "find", lambda names: [Path("notebooks/00_start_here.ipynb")])
    return noted


def test_lab_opens_the_first_lesson_on_this_machine_only_and_returns_its_code(lab_words: Path) -> None:
    assert cli.main(["lab", "--", "--no-browser"]) == 7
    words = ast.literal_eval(lab_words.read_text())
    assert words[:4] == ["-m", "jupyterlab", str(Path("notebooks/00_start_here.ipynb")), "--ServerApp.ip=127.0.0.1"]
    assert "--no-browser" in words
    assert not any("token" in word for word in words)


def test_lab_opens_another_folder_if_one_is_given(lab_words: Path) -> None:
    cli.main(["lab", "--", "--ServerApp.root_dir=mine"])
    words = ast.literal_eval(lab_words.read_text())
    assert "--ServerApp.root_dir=mine" in words
    assert str(Path("notebooks/00_start_here.ipynb")) not in words


def test_lab_does_not_ask_for_news_or_a_newer_version(lab_words: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", "own")
    cli.main(["lab"])
    ours, own = ast.literal_eval(lab_words.read_text())[-1].split(os.pathsep)
    (settings,) = json.loads((Path(ours) / "labconfig" / "default_setting_overrides.json").read_text()).values()
    assert settings == {"checkForUpdates": False, "fetchNews": "false"}
    assert own == "own"


def test_help_does_not_wait_for_torch() -> None:
    check = "import sys; from yolothreads import cli; cli._parser(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
