"""The modules of races import one another in one direction only, also for type checking."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

from yolothreads import races

FOLDER = Path(races.__file__).parent


def imported(file: Path) -> set[str]:
    """The modules of races that a file imports anywhere."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            full = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            full = [alias.name for alias in node.names]
        else:
            continue
        names |= {name.split(".")[2] for name in full if name.startswith("yolothreads.races.")}
    return names & {path.stem for path in FOLDER.glob("*.py")}


def test_no_two_modules_import_each_other_in_a_circle() -> None:
    order = list(TopologicalSorter({path.stem: imported(path) for path in FOLDER.glob("*.py")}).static_order())
    assert order[-1] == "__init__" and order.index("blocking") < order.index("scheduler") < order.index("explorer")


def test_blocking_knows_nothing_of_the_scheduler() -> None:
    assert imported(FOLDER / "blocking.py") == set()
