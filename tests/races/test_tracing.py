"""The lines at which threads stop, on every Python found on this machine; overhead of watching; other tracing tools."""

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from deadlines import scaled
from programs import PROGRAMS, kinds

from benchmarks import bodies
from benchmarks.bodies import state
from yolothreads.races import explore
from yolothreads.races.tracing import MONITORING

pytestmark = pytest.mark.timeout(scaled(240))

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
VERSIONS = ("3.12", "3.13")


def interpreter(version: str) -> str:
    """Return the path of a Python of this version, or skip the test if none starts."""
    folder = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = [str(path / "bin" / "python") for path in sorted(folder.glob(f"{version}.*"), reverse=True)]
    for path in [*found, shutil.which(f"python{version}")]:
        if path and subprocess.run([path, "-c", ""], capture_output=True, timeout=20).returncode == 0:
            return path
    pytest.skip(f"no Python {version} on this machine")


def run(python: str, script: str, *arguments: str) -> dict[str, object]:
    """Run a script of this folder with a Python that can import only this package; return the JSON that it prints."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}"}
    done = subprocess.run(
        [python, str(HERE / script), *arguments], env=environment, capture_output=True, text=True, timeout=scaled(100)
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


@pytest.mark.parametrize("version", ["3.12", pytest.param("3.13", marks=pytest.mark.nightly)])
def test_the_programs_have_the_same_outcomes_on_other_pythons(version: str) -> None:
    reported = run(interpreter(version), "programs.py")
    assert reported.pop("counter in one line, by other granularities") == [[], ["wrong result"]]
    assert reported == {name: [sorted(kinds) for kinds in program.bad] for name, program in PROGRAMS.items()}


@pytest.mark.nightly  # depends on the speed of the machine
@pytest.mark.parametrize(("cost", "most"), [("watched", 30), ("split", 80)])
@pytest.mark.parametrize("version", ["", *VERSIONS])
def test_watched_code_is_less_than_30_times_slower_and_split_code_less_than_80_times(
    version: str, cost: str, most: int
) -> None:
    python = interpreter(version) if version else sys.executable
    for _ in range(3):  # the machine is shared: one quiet moment is enough
        slower = float(run(python, "costs.py")[cost])  # type: ignore[arg-type]
        if slower < most:
            return
    pytest.fail(f"{slower:.1f} times slower")


@pytest.mark.nightly  # depends on the speed of the machine
@pytest.mark.parametrize("version", VERSIONS)
def test_unwatched_code_is_less_than_2_percent_slower(version: str) -> None:
    python = interpreter(version)
    ratios = []
    for _ in range(4):  # the machine is shared: one quiet moment is enough
        ratios.append(float(run(python, "costs.py")["unwatched"]))  # type: ignore[arg-type]
        if ratios[-1] < 1.02:
            return
    pytest.fail(f"ratios {ratios}")


# --- watched lines


def nested(s: bodies.State) -> int:
    def inner() -> int:
        return s.n + 1

    return inner()


class Watched:
    """A class to watch, with every kind of method."""

    def __init__(self) -> None:
        self.n = 0

    def method(self) -> None:
        self.n = 1
        self.n = self.prop

    @property
    def prop(self) -> int:
        return self.n + 1

    @staticmethod
    def static() -> int:
        return 1

    @classmethod
    def of_class(cls) -> int:
        return 2


def use_all(s: Watched) -> None:
    s.method()
    s.static()
    s.of_class()


def functions(found: object) -> set[str]:
    return {place.function for place in found.executed}  # type: ignore[attr-defined]


def test_watching_a_class_covers_its_methods_properties_and_static_methods() -> None:
    found = explore(use_all, use_all, setup=Watched, watch=[Watched, use_all])
    assert functions(found) == {"use_all", "method", "prop", "static", "of_class"}, "__init__ runs in setup"


def test_watching_a_function_covers_nested_functions() -> None:
    assert functions(explore(nested, nested, setup=state(n=0), watch=[nested])) == {"nested", "inner"}


def test_only_the_named_functions_are_watched() -> None:
    def both(s: bodies.State) -> None:
        bodies.bump(s)
        bodies.read_only(s)

    found = explore(both, both, setup=state(n=0), watch=[bodies.bump])
    assert functions(found) == {"bump"}


def test_watching_a_package_covers_all_its_modules() -> None:
    import json.decoder

    def load(s: bodies.State) -> object:
        return json.loads("[1, 2]")

    found = explore(load, load, setup=state(n=0), watch=["json"])
    assert {Path(place.file).name for place in found.executed} == {"__init__.py", "decoder.py"} and found.safe


def test_an_exploration_works_outside_the_main_thread() -> None:
    got: list[object] = []
    thread = threading.Thread(target=lambda: got.append(kinds(PROGRAMS["counter"].explore())))
    thread.start()
    thread.join(scaled(60))
    assert got == [{"wrong result"}]


# --- other tracing tools


def test_another_tracing_debugger_is_reported_and_stays_installed() -> None:
    def debugger(frame: object, kind: str, value: object) -> None:
        return None

    before = sys.gettrace()
    sys.settrace(debugger)
    try:
        found = PROGRAMS["counter"].explore()
        assert sys.gettrace() is debugger
    finally:
        sys.settrace(before)
    assert kinds(found) == {"wrong result"} and any("Also traces this process" in note for note in found.notes)


@pytest.mark.skipif(not MONITORING, reason="sys.monitoring needs Python 3.12")
def test_the_sys_monitoring_tool_is_released() -> None:
    taken = [sys.monitoring.get_tool(i) for i in range(6)]
    PROGRAMS["counter"].explore()
    assert [sys.monitoring.get_tool(i) for i in range(6)] == taken


def test_tracing_ends_with_the_exploration() -> None:
    before = sys.gettrace(), threading.gettrace()
    PROGRAMS["counter"].explore()
    PROGRAMS["crossed locks"].explore()
    assert (sys.gettrace(), threading.gettrace()) == before


def test_thread_locals_and_context_variables_are_new_in_every_schedule() -> None:
    """The explorer reuses threads for several runs; the code that they run must not notice."""
    import contextvars

    local, variable = threading.local(), contextvars.ContextVar("variable", default=0)

    def count(s: bodies.State) -> tuple[int, int]:
        local.n = getattr(local, "n", 0) + 1
        variable.set(variable.get() + 1)
        return local.n, variable.get()

    found = explore(count, count, setup=state(n=0), watch=[count])
    assert found.safe and not found.forbidden
