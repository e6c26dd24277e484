"""The example project: the bug is found and replayed, the repair is proved; and it needs nothing but pytest."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from deadlines import scaled

import yolothreads

ROOT = Path(yolothreads.__file__).parents[1]
PROJECT = ROOT / "examples" / "pytest_project"
PYTHONS = ("python3.11", "python3.12", "python3.13")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Copy of the project, so that it stays as it is in the clone."""
    return shutil.copytree(PROJECT, tmp_path / "project")


def run(project: Path, *words: str, python: str | Path = sys.executable) -> subprocess.CompletedProcess[str]:
    """Run pytest on the project; with this environment's Python the plugin is that of this clone."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    if python == sys.executable:
        env |= {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        words = ("-p", "yolothreads.testing", *words)
    else:
        env.pop("PYTHONPATH", None)
    command = [str(python), "-m", "pytest", "-p", "no:cacheprovider", *words]
    return subprocess.run(
        command, cwd=project, env=env, capture_output=True, text=True, timeout=scaled(100), check=False
    )


def check(project: Path, python: str | Path = sys.executable) -> None:
    """Find the bug, replay it by the command that was printed, and see that the repair is proved."""
    found = run(project, python=python)
    assert "1 failed, 1 passed" in found.stdout, found.stdout + found.stderr
    assert f"{Path('shop', 'stock.py')}:18 in sell: self.items -= 1" in found.stdout
    command = next(line for line in found.stdout.splitlines() if line.startswith("  pytest "))
    again = run(project, *shlex.split(command)[1:], python=python)
    assert "1 failed" in again.stdout and "B  stock.py:18 in sell: self.items -= 1" in again.stdout
    assert "wrong result: gave (None, None, (-1, 2))" in again.stdout
    repaired = run(project, "-k", "after_the_repair", python=python)
    assert repaired.returncode == 0 and "1 passed" in repaired.stdout


def test_the_bug_is_found_and_replayed_and_the_repair_is_proved(project: Path) -> None:
    check(project)


def test_the_readme_shows_the_test_of_the_project() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    test = (PROJECT / "tests" / "test_stock.py").read_text(encoding="utf-8")
    assert "def test_the_last_item_is_sold_once(every_schedule):" in readme
    assert "def test_the_last_item_is_sold_once(every_schedule):" in test
    section = readme.partition("### In your own project")[2].partition("`yolothreads hazards`")[0]
    assert len(section.strip().splitlines()) <= 20


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this clone."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run(pip, check=True, capture_output=True, timeout=scaled(300))
    return next(folder.glob("*.whl"))


@pytest.mark.nightly
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", PYTHONS)
def test_in_a_fresh_environment_the_wheel_and_pytest_are_enough(
    name: str, wheel: Path, project: Path, tmp_path: Path
) -> None:
    is_this = name == f"python{sys.version_info.major}.{sys.version_info.minor}"
    base = sys.executable if is_this else shutil.which(name)
    if base is None or subprocess.run([base, "--version"], capture_output=True, check=False).returncode:
        pytest.skip(f"{name} is not on this machine")
    subprocess.run([base, "-m", "venv", tmp_path / "venv"], check=True, timeout=scaled(100))
    python = tmp_path / "venv" / "bin" / "python"
    install = [python, "-m", "pip", "install", "-c", ROOT / "constraints.txt", wheel, "pytest"]
    subprocess.run(install, check=True, capture_output=True, timeout=scaled(300))
    listed = subprocess.check_output([python, "-m", "pip", "list", "--format=freeze"], text=True, timeout=scaled(100))
    names = {line.partition("==")[0].lower() for line in listed.splitlines()}
    assert names <= {"yolothreads", "pytest", "iniconfig", "packaging", "pluggy", "pygments", "pip", "setuptools"}
    check(project, python)
    words = ["explore", "shop.stock:Stock.sell", "shop.stock:Stock.sell", "--setup", "shop.stock:Stock"]
    command = [tmp_path / "venv" / "bin" / "yolothreads", *words]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=scaled(100), check=False)
    assert done.returncode in (0, 1) and "schedules" in done.stdout, done.stderr
    done = subprocess.run([*command[:1], "lab"], capture_output=True, text=True, timeout=scaled(100), check=False)
    assert done.returncode == 2 and 'run: pip install "yolothreads[lessons]".' in done.stderr
