"""The review checklist: each hazard in it exists, each link has a target, and each command does what it says."""

import inspect
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from deadlines import scaled

from yolothreads.hazards import CATALOGUE
from yolothreads.races import explore

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "checklist.md"
TEXT = PAGE.read_text(encoding="utf-8")
SHELL, FAULT, AUTHORS_COMMAND = (block.strip() for block in re.findall(r"```sh\n(.*?)```", TEXT, flags=re.S))
(TEST,) = re.findall(r"```python\n(.*?)```", TEXT, flags=re.S)
FAULTS = re.findall(r"\| `fault (\w+) (\w+) (\w+)` \|", TEXT)
IDS = re.findall(r"^\|.*\| `([\w-]+)` \|", TEXT, flags=re.M)
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")} | {
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "PYTHONPATH": str(ROOT),
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Copy of the example project, on which the page shows its commands."""
    return shutil.copytree(ROOT / "examples" / "pytest_project", tmp_path / "project")


def done(command: list[str], folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, env=ENVIRONMENT | environment, capture_output=True, text=True, timeout=scaled(600)
    )


def test_each_known_hazard_has_one_row_and_no_row_has_another() -> None:
    assert sorted(IDS) == sorted(CATALOGUE)


def test_each_row_says_block_or_remark_and_has_no_empty_cell() -> None:
    rows = [[cell.strip() for cell in line.strip("|").split(" |")] for line in re.findall(r"^\|.*", TEXT, flags=re.M)]
    rows = [row for row in rows if row[0] != "look for" and not row[0].startswith("--")]
    assert len(rows) > len(IDS)
    assert all(row[2] in ("**block**", "*remark*") and row[1].endswith("?") and all(row) for row in rows)


def test_its_links_have_targets() -> None:
    for file, anchor in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", TEXT):
        target = (PAGE.parent / file).resolve()
        assert target.is_file(), file
        if anchor:
            titles = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), flags=re.M)
            assert anchor in [title.lower().replace(" ", "-") for title in titles]


def test_readers_find_it() -> None:
    assert "(docs/checklist.md)" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_explore_command_finds_the_bug_of_the_example_project(project: Path) -> None:
    explored = done([sys.executable, "-m", *shlex.split(AUTHORS_COMMAND)], project)
    assert explored.returncode == 1 and "NOT SAFE" in explored.stdout, explored.stderr


@pytest.mark.nightly
def test_the_test_on_the_page_fails_with_the_bug_and_passes_after_the_repair(project: Path) -> None:
    words = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "yolothreads.testing",
        "-p",
        "no:cacheprovider",
        "tests/test_page.py",
    ]
    (project / "tests" / "test_page.py").write_text(TEST, encoding="utf-8")
    red = done(words, project, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
    assert "1 failed" in red.stdout and "NOT SAFE" in red.stdout, red.stdout
    repaired = TEST.replace("shop.stock", "shop.repaired").replace("vars", "lambda stock: (stock.items, stock.sold)")
    (project / "tests" / "test_page.py").write_text(repaired, encoding="utf-8")
    assert "1 passed" in done(words, project, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1").stdout


def test_every_row_of_the_authors_own_code_is_forced() -> None:
    review = runpy.run_path(str(ROOT / "examples" / "review.py"))
    assert [row[0] for row in FAULTS] == [
        name for name, value in review.items() if inspect.isclass(value) and value.__module__ == review["__name__"]
    ]
    for name, first, second in FAULTS:
        kind = review[name]
        found = explore(getattr(kind, first), getattr(kind, second), setup=kind, watch=[kind])
        assert found.forbidden, f"{name}: {found}"


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_the_shell_function_for_the_authors_own_code_ends_with_the_exit_code_of_a_fault() -> None:
    function = FAULT.rpartition("\nfault ")[0]
    calls = "".join(f"\nfault {' '.join(row)}; echo ended with $?" for row in FAULTS)
    forced = done(["bash", "-c", function + calls], ROOT)
    assert forced.stdout.count("ended with 1\n") == len(FAULTS), forced.stdout + forced.stderr


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_the_shell_function_forces_every_hazard_of_the_page(tmp_path: Path) -> None:
    function = SHELL.rpartition("\nforce ")[0]
    forced = done(["bash", "-c", f"{function}\nforce {' '.join(IDS)}"], tmp_path)
    assert forced.returncode == 0, forced.stderr
    lines = dict(re.findall(r"^([\w-]+): (reproduced|gone here|not tried)", forced.stdout, flags=re.M))
    assert [*lines] == IDS
    assert all(lines[name] != "not tried" for name in IDS if CATALOGUE[name].force is not None), forced.stdout
    assert lines["argument-leak"] == "reproduced"
