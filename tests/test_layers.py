"""Layers: imports run downwards and never in a circle, importing is quick, files stay small."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from deadlines import scaled

import yolothreads

pytestmark = pytest.mark.timeout(120)
ROOT = Path(yolothreads.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
# From the bottom up. Modules of one layer may import one another, but pools and races are kept apart.
LAYERS = (
    {"allocator", "child", "errors", "palette", "tables", "trace"},
    {"devices", "exported", "scenes", "sources", "weights"},
    {"pools", "races"},
    {"detections", "memory", "testing", "tracking"},
    {"bench", "charts", "hazards", "measure"},
    {"lessons"},
    {"headless"},
    {"cli"},
    {"__init__", "__main__"},
)
LEVEL = {name: level for level, layer in enumerate(LAYERS) for name in layer}
APART = {("pools", "races"), ("races", "pools")}


def part(file: Path) -> str:
    """Return the part of the package that a file belongs to: its folder, or its own name."""
    inside = file.relative_to(ROOT)
    return inside.parts[0] if len(inside.parts) > 1 else inside.stem


def imported(file: Path) -> Iterator[str]:
    """Return the full names of all modules that a file imports, inside functions too, with the imported names added."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = ["yolothreads", *file.relative_to(ROOT).parts[:-1]]
            base = ".".join([*above[: len(above) + 1 - node.level], *filter(None, [node.module])])
            base = base if node.level else node.module or ""
            yield from (f"{base}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_imports_run_downwards(file: Path) -> None:
    own = part(file)
    assert own in LEVEL, f"{own} is not in LAYERS yet"
    for name in imported(file):
        if name.split(".")[0] == "yolothreads" and own != "__init__":
            other = name.split(".")[1]
            assert other in LEVEL, f"{file.name} takes {other} from the package; take it from its own module"
            assert own == other or LEVEL[other] <= LEVEL[own], (
                f"{own} must not import {other}, which is in a higher layer"
            )
            assert (own, other) not in APART, f"{own} and {other} are kept apart"


def name_of(file: Path) -> str:
    """Return the full name of the module in a file."""
    parts = ("yolothreads", *file.relative_to(ROOT).with_suffix("").parts)
    return ".".join(part for part in parts if part != "__init__")


def test_no_two_modules_import_each_other_in_a_circle() -> None:
    names = {name_of(file): file for file in FILES}

    def module(name: str) -> str:
        return name if name in names else module(name.rpartition(".")[0])

    graph = {
        name: {module(other) for other in imported(file) if other.split(".")[0] == "yolothreads"} - {name}
        for name, file in names.items()
    }
    order = list(TopologicalSorter(graph).static_order())  # raises a CycleError that names the circle
    assert (
        order.index("yolothreads.errors") < order.index("yolothreads.races.explorer") < order.index("yolothreads.cli")
    )


@pytest.mark.parametrize("file", sorted((ROOT / "races").glob("*.py")), ids=lambda f: f.name)
def test_races_use_the_standard_library_only(file: Path) -> None:
    for name in imported(file):
        own = name.startswith(("yolothreads.races", "yolothreads.errors", "yolothreads.palette"))
        assert own or name.split(".")[0] in sys.stdlib_module_names, name


def test_the_pytest_plugin_stands_on_races_alone_and_nothing_stands_on_it() -> None:
    for file in FILES:
        names = {name for name in imported(file) if name.startswith("yolothreads.")}
        if file.name == "testing.py":
            assert all(name.startswith("yolothreads.races.") for name in names), names
        else:
            assert not any(name.startswith("yolothreads.testing") for name in names), file


def test_blocking_knows_nothing_of_the_scheduler() -> None:
    assert not any(name.startswith("yolothreads.races") for name in imported(ROOT / "races" / "blocking.py"))


def test_no_file_is_longer_than_600_lines() -> None:
    lengths = {str(f.relative_to(ROOT)): len(f.read_text(encoding="utf-8").splitlines()) for f in FILES}
    assert {name: n for name, n in lengths.items() if n > 600} == {}


def test_importing_is_quick_and_loads_nothing_heavy() -> None:
    code = (
        "import sys, time; t = time.process_time(); import yolothreads; print(time.process_time() - t); "
        "print(*{m.split('.')[0] for m in sys.modules})"
    )
    times = []
    for _ in range(3):  # the quickest counts; CPU seconds, because other programs may use the processor as well
        took, modules = subprocess.check_output(
            [sys.executable, "-c", code], text=True, timeout=scaled(100)
        ).splitlines()
        times.append(float(took))
    heavy = {"torch", "torchvision", "ultralytics", "numpy", "cv2", "matplotlib", "pandas", "IPython", "papermill"}
    assert heavy & set(modules.split()) == set()
    assert min(times) < scaled(0.2)


def test_importing_starts_no_thread_and_changes_no_environment() -> None:
    code = (
        "import os, threading; was = dict(os.environ); import yolothreads; "
        "print(threading.active_count(), dict(os.environ) == was)"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True, timeout=scaled(100)).split() == [
        "1",
        "True",
    ]


def test_each_public_name_can_be_imported() -> None:
    assert len(yolothreads.__all__) == len(set(yolothreads.__all__))
    assert {"ModelPerThread", "YoloThreadsError", "compare", "scene"} <= set(yolothreads.__all__)
    for name in yolothreads.__all__:
        assert getattr(yolothreads, name) is not None
    assert set(yolothreads.__all__) <= set(dir(yolothreads))
    with pytest.raises(AttributeError, match="no_such_name"):
        yolothreads.no_such_name  # noqa: B018
