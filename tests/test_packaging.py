"""The files that install the kit say the same thing, and a failed installation never looks like a finished one."""

import os
import re
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version
from test_layers import imported

from yolothreads import errors

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text())
EXTRAS = PROJECT["optional-dependencies"]
NEEDED = [r for r in map(Requirement, chain(*EXTRAS.values())) if r.name != PROJECT["name"]]
DISTRIBUTIONS = {"PIL": "pillow", "cv2": "opencv-python"}  # named unlike the library


def pins() -> dict[str, Version]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    requirements = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"==[^*,+]+", str(r.specifier)) and not r.url for r in requirements)
    return {canonicalize_name(r.name): Version(next(iter(r.specifier)).version) for r in requirements}


@pytest.mark.parametrize("needed", NEEDED, ids=lambda r: r.name)
def test_each_dependency_is_pinned_within_its_bound(needed: Requirement) -> None:
    assert str(needed.specifier).startswith(">=")
    assert needed.specifier.contains(pins()[canonicalize_name(needed.name)])


def included(extra: str) -> set[str]:
    """Return the extras that an extra includes, itself among them."""
    ours = (Requirement(r) for r in EXTRAS[extra])
    return {extra}.union(*(included(e) for r in ours if r.name == PROJECT["name"] for e in r.extras))


def test_the_explorer_and_the_plugin_need_no_other_package() -> None:
    assert PROJECT["dependencies"] == []
    assert PROJECT["entry-points"]["pytest11"] == {"yolothreads.testing": "yolothreads.testing"}


def test_extras_stand_on_one_another() -> None:
    assert included("onnx") == {"pools", "onnx"} and included("ray") == {"pools", "ray"}
    assert included("lessons") == {"pools", "onnx", "ray", "lessons"}
    assert included("test") == set(EXTRAS)


@pytest.mark.parametrize("extra", errors.EXTRAS)
def test_an_extra_is_complete_when_its_libraries_are_there(extra: str) -> None:
    named = {canonicalize_name(DISTRIBUTIONS.get(library, library)) for library in errors.EXTRAS[extra]}
    given = {canonicalize_name(r.name) for r in map(Requirement, EXTRAS[extra]) if r.name != PROJECT["name"]}
    assert named <= given
    assert given - named <= {"rfc3987", "pytest"}, "these only make something quicker, or are for a reader's own use"


def test_each_library_that_the_package_imports_belongs_to_an_extra() -> None:
    names = chain.from_iterable(imported(file) for file in (ROOT / "yolothreads").rglob("*.py"))
    others = {name.split(".")[0] for name in names} - sys.stdlib_module_names - {"yolothreads"}
    brought = {"IPython", "bs4", "jinja2", "jupyter_client", "jupyter_core", "pygments", "traitlets"}  # by Jupyter
    compared = {"openvino", "openvino_telemetry"}  # by `yolothreads bench`, if it is there
    assert others - brought - compared - {"pytest"} <= set(chain(*errors.EXTRAS.values()))


def test_the_kit_itself_is_not_pinned() -> None:
    assert PROJECT["name"] not in pins()


def test_conda_installs_this_project_with_these_constraints() -> None:
    (pip,) = [d["pip"] for d in CONDA["dependencies"] if isinstance(d, dict)]
    assert pip == ["-c constraints.txt", "-e .[lessons]"]
    assert {"make", "pip"} < {d for d in CONDA["dependencies"] if isinstance(d, str)}
    assert CONDA["channels"] == ["conda-forge"]


def test_python_bounds_agree() -> None:
    (conda,) = [d for d in CONDA["dependencies"] if isinstance(d, str) and d.startswith("python")]
    lowest = PROJECT["requires-python"]
    assert conda.removeprefix("python").startswith(lowest)
    assert "(3, 11)" in (ROOT / "Makefile").read_text()
    assert lowest == ">=3.11"
    assert SpecifierSet(lowest).contains("3.11.0")


def test_ci_needs_a_browser_and_calls_make_test_or_on_request_make_test_all() -> None:
    script = ROOT / ".ci" / "run"
    lines = [line for line in script.read_text().splitlines() if line and not line.startswith("#")]
    assert lines[:2] == ["set -euo pipefail", 'cd "$(dirname "${BASH_SOURCE[0]}")/.."']
    assert "export YOLOTHREADS_NEED_BROWSER=1" in lines
    assert lines[-2:] == [
        "make test",
        'if [ "${YOLOTHREADS_TEST_ALL:-0}" != 0 ]; then make test-all; fi',
    ]
    assert not any(re.search(r"\b(pytest|pip|python)\b", line) for line in lines)
    assert os.access(script, os.X_OK)


def tracked_text() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode or not listed.stdout:
        pytest.skip("not a git checkout")
    files = [ROOT / name for name in listed.stdout.split("\0") if name]
    return [f for f in files if f.is_file() and b"\0" not in f.read_bytes()[:4096]]


def test_no_tracked_text_names_a_machine_or_a_registry() -> None:
    # Put together here, so that this file does not find itself.
    words = [f"/{place}/" for place in ("home", "Users", "work", "root", "opt")] + [
        "://pypi" + ".org",
        "files.python" + "hosted",
    ]
    for file in tracked_text():
        text = file.read_text(encoding="utf-8")
        assert [w for w in words if re.search(rf"(?<![\w.]){re.escape(w)}", text)] == [], file


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Folder with the files that `make` reads, and a fake `python` that pretends to install."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    fake = tmp_path / "fake-python"
    # As `python -m venv .venv` it copies itself there; as pip it does what FAKE_PIP says; and it records every call.
    fake.write_text(
        '#!/bin/sh\necho "$*" >> calls\ncase "$*" in\n'
        '"-m venv"*) mkdir -p .venv/bin; cp "$0" .venv/bin/python;;\n'
        '"-m pip"*) exit ${FAKE_PIP:-0};;\n'
        '"-c"*) exit ${FAKE_OLD:-0};;\nesac\n'
    )
    fake.chmod(0o755)
    return tmp_path


def make(clone: Path, target: str, **environment: str) -> tuple[int, str]:
    """Return the exit code of `make` and the calls of the fake Python; a `make` that runs the tests does not matter."""
    (clone / "calls").write_text("")
    command = ["make", f"PYTHON={clone / 'fake-python'}", target]
    outer = {"ARGS", "MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS", "PIP_ARGS"}
    env = {name: value for name, value in os.environ.items() if name not in outer} | environment
    done = subprocess.run(command, cwd=clone, env=env, capture_output=True, check=False)
    return done.returncode, (clone / "calls").read_text()


def test_a_second_call_installs_nothing(clone: Path) -> None:
    code, calls = make(clone, "run")
    assert code == 0
    assert "-m pip install -c constraints.txt -e .[lessons]\n-m yolothreads run\n" in calls
    assert make(clone, "run") == (0, "-m yolothreads run\n")


def test_the_tests_need_more_than_the_lessons_and_nothing_is_installed_twice(clone: Path) -> None:
    assert "pip install -c constraints.txt -e .[test]\n" in make(clone, "lint")[1]
    assert make(clone, "run") == (0, "-m yolothreads run\n")
    assert "pip" not in make(clone, "lint")[1]


def test_a_failed_installation_of_the_tests_spoils_that_of_the_lessons(clone: Path) -> None:
    make(clone, "install")
    make(clone, "lint", FAKE_PIP="1")
    assert "pip install" in make(clone, "install")[1]


@pytest.mark.parametrize("changed", ["constraints.txt", "pyproject.toml"])
def test_a_changed_file_installs_again(clone: Path, changed: str) -> None:
    make(clone, "install")
    stamp = (clone / ".venv" / ".lessons").stat().st_mtime
    os.utime(clone / changed, (stamp + 5, stamp + 5))
    assert "pip install" in make(clone, "install")[1]


def test_a_failed_installation_does_not_look_finished(clone: Path) -> None:
    make(clone, "install")
    os.utime(clone / "constraints.txt", (2**32, 2**32))
    code, calls = make(clone, "run", FAKE_PIP="1")
    assert code != 0
    assert "yolothreads" not in calls
    assert not (clone / ".venv" / ".lessons").exists()
    assert "pip install" in make(clone, "install")[1]


def test_a_python_that_is_too_old_is_refused_before_anything_is_made(clone: Path) -> None:
    code, calls = make(clone, "install", FAKE_OLD="1")
    assert code != 0
    assert "venv" not in calls
