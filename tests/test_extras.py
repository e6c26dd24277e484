"""What works without any other package, and the sentence that names the extra where one is missing.

`python -S` stands for a fresh environment: it finds the standard library and this package, and nothing else.
"""

import subprocess
import sys
from pathlib import Path

import pytest
from deadlines import scaled

import yolothreads
from yolothreads.errors import ExtraError

ROOT = Path(yolothreads.__file__).parents[1]
RACE = """
class Cart:
    def __init__(self):
        self.total = 0

    def add(self):
        before = self.total
        self.total = before + 3

    def look(self):
        return self.total
"""


def alone(code: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run code in a Python that has this package and no other."""
    begin = f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(folder)!r}]\n"
    command = [sys.executable, "-I", "-S", "-c", begin + code]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=scaled(60), check=False)


def test_explore_replay_and_rate_need_no_other_package(tmp_path: Path) -> None:
    (tmp_path / "cart.py").write_text(RACE)
    done = alone(
        "from yolothreads import explore, replay, rate\nfrom cart import Cart\n"
        "given = {'setup': Cart, 'observe': Cart.look}\n"
        "found = explore(Cart.add, Cart.add, **given)\n"
        "again = replay(found.forbidden[0].schedule, Cart.add, Cart.add, **given)\n"
        "print(found, again, found._repr_html_(), found.source_map(), rate(lambda i: 'as sequential', 3), sep='\\n')\n"
        "assert not {'numpy', 'torch', 'tqdm', 'IPython'} & set(sys.modules)",
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("NOT SAFE") and "wrong result: gave" in done.stdout


def test_the_command_explore_needs_no_other_package(tmp_path: Path) -> None:
    (tmp_path / "cart.py").write_text(RACE)
    words = ["explore", "cart:Cart.add", "cart:Cart.add", "--setup", "cart:Cart", "--observe", "cart:Cart.look"]
    done = alone(f"from yolothreads.cli import main\nsys.exit(main({words}))", tmp_path)
    assert done.returncode == 1 and done.stdout.startswith("NOT SAFE") and done.stderr == ""


@pytest.mark.parametrize(
    ("code", "who", "extra"),
    [
        ("from yolothreads import ModelPerThread", "ModelPerThread", "pools"),
        ("from yolothreads import scene", "scene", "pools"),
        ("from yolothreads import checkup", "checkup", "lessons"),
        ("import yolothreads.pools", "yolothreads.pools", "pools"),
        ("import yolothreads.hazards", "yolothreads.hazards", "pools"),
        ("from yolothreads.lessons import Lesson", "yolothreads.lessons", "lessons"),
        ("import yolothreads; yolothreads.recording().__enter__()", "recording", "pools"),
        ("import yolothreads; str(yolothreads.Table(['a'], [['b']]))", "A table", "pools"),
    ],
)
def test_a_missing_extra_is_one_sentence_with_the_command(code: str, who: str, extra: str) -> None:
    done = alone(code)
    last = done.stderr.splitlines()[-1]
    sentence = f'{who} needs ultralytics, which is not installed; run: pip install "yolothreads[{extra}]".'
    assert done.returncode == 1 and last.endswith(f"ExtraError: {sentence}")


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        ("lab", "lessons"), ("run", "lessons"), ("doctor", "lessons"), ("claims", "lessons"),
        ("bench", "pools"), ("hazards", "pools"),
    ],
)  # fmt: skip
def test_a_command_without_its_extra_prints_one_sentence(command: str, extra: str) -> None:
    done = alone(f"from yolothreads.cli import main\nsys.exit(main(['{command}']))")
    sentence = (
        f'yolothreads {command} needs ultralytics, which is not installed; run: pip install "yolothreads[{extra}]".'
    )
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: {sentence}\n")


def test_help_shows_the_names_that_can_be_used(tmp_path: Path) -> None:
    code = "print(*dir(yolothreads)); help(yolothreads); help(yolothreads.explore)"
    done = alone(f"import yolothreads\nfrom pydoc import help\n{code}")
    assert done.returncode == 0, done.stderr
    names = done.stdout.splitlines()[0].split()
    assert {"explore", "replay", "ExtraError", "TracedLock"} <= set(names) and "ModelPerThread" not in names
    assert "preemptions" in done.stdout


def test_a_missing_extra_can_be_caught_as_an_import_error() -> None:
    assert issubclass(ExtraError, ImportError)
