"""Explores functions that were defined in the cells of a notebook, and prints what was wrong as JSON.

It does what the kernel does: a cell has a file name without a file, its source is known to `linecache`, and its names
belong to a `__main__` without a file. Runs on Python 3.11 and newer.
"""

from __future__ import annotations

import json
import linecache
import sys
from typing import Any

from yolothreads.errors import ExploreError

SPACE: dict[str, Any] = vars(sys.modules["__main__"])
FIRST = """
from functools import cached_property, lru_cache, partial, wraps
from types import SimpleNamespace
from yolothreads.races import explore, replay

class Shared:
    def __init__(self): self.n, self.model, self.made = 0, None, 0

def seen(s): return s.n, s.made
"""
HELPER = """
def get_model(s):
    if s.model is None:
        s.made += 1
        s.model = [s.made]
    return s.model
"""
BODY = """
def handler(s):
    return len(get_model(s))
"""
EXPLORE = "found = explore(handler, handler, setup=Shared, observe=seen{options})"
CLASS = """
class Decorated:
    def __init__(self, function): self.function = function
    def __call__(self, *given): return self.function(*given)
"""
WRAPPING = """
def decorated(function):
    @wraps(function)
    def call(*given): return function(*given)
    return call
"""
# The cells after the first one, of which the last one explores.
NOTEBOOKS = {
    "a helper in another cell": [HELPER, BODY, EXPLORE],
    "a helper under lru_cache": [f"@lru_cache{HELPER}", BODY, EXPLORE],
    "a helper under a class": [CLASS, f"@Decorated{HELPER}", BODY, EXPLORE],
    "a helper under a function": [WRAPPING, f"@decorated{HELPER}", BODY, EXPLORE],
    "a helper that is a partial": [HELPER, "get = partial(get_model)", BODY.replace("get_model", "get"), EXPLORE],
    "a lambda in the cell": [
        HELPER,
        "found = explore(*[lambda s: len(get_model(s))] * 2, setup=Shared, observe=seen{options})",
    ],
    "a lambda in one line": [
        "found = explore(*[lambda s: setattr(s, 'n', s.n + 1)] * 2, setup=Shared, observe=seen{options})"
    ],
    "a partial as a body": [HELPER, "body = partial(get_model)", EXPLORE.replace("handler", "body")],
    "an object as a body": [CLASS, f"@Decorated{HELPER}", EXPLORE.replace("handler", "get_model")],
    "a body under lru_cache": [f"@lru_cache{HELPER}", EXPLORE.replace("handler", "get_model")],
    "a property": [
        "class Lazy(Shared):\n    @property\n    def it(self):\n"
        "        if not self.made:\n            self.made += 1\n        return self.made",
        "def handler(s): return s.it",
        EXPLORE.replace("Shared", "Lazy"),
    ],
    "a nested function": [
        "def outer():" + HELPER.replace("\n", "\n    ") + "return get_model\nget_model = outer()", BODY, EXPLORE
    ],
    "a list of functions": [
        HELPER, "steps = [get_model]", "def handler(s): return [step(s) for step in steps]", EXPLORE
    ],
}  # fmt: skip


def run_cell(source: str, known: bool = True) -> None:
    """Run a cell; `known` says whether Python can find its source."""
    file = f"/tmp/ipykernel_{'known' if known else 'unknown'}/{abs(hash(source))}.py"
    if known:
        linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    exec(compile(source, file, "exec"), SPACE)


def faults(name: str, options: str) -> str:
    """Return what is wrong with the exploration of one notebook; "" if nothing is."""
    *cells, last = NOTEBOOKS[name]
    for cell in (FIRST, *cells, last.format(options=options)):
        run_cell(cell)
    found = SPACE["found"]
    if not found.forbidden:
        return f"nothing was found: {found}"
    if [n for n in found.unwatched if not n.startswith("functools.")]:
        return f"not watched: {found.unwatched}"
    bad = found.forbidden[0]
    return "" if found.replay(bad.schedule).kind == bad.kind else "a replay gives something else"


def edited(known: bool, cells: tuple[str, str], replayed: str) -> str:
    """Return what is wrong with the replay of a schedule after a cell was edited."""
    old, new = cells
    for cell in (FIRST, old, BODY, EXPLORE.format(options="")):
        run_cell(cell, known)
    SPACE["old"] = SPACE["found"].forbidden[0].schedule
    run_cell(replayed, known)  # before the edit it works
    run_cell(new, known)
    try:
        run_cell(replayed, known)
    except ExploreError as error:
        return "" if "lines may have moved" in str(error) else str(error)
    return "the schedule of an edited cell was replayed"


def main() -> None:
    """Print all faults."""
    SPACE.pop("__file__")
    report: dict[str, str] = {}
    for options in ("", ", watch=['__main__']"):
        report |= {f"{name}{options}": faults(name, options) for name in NOTEBOOKS}
    replayed = "replay(old, handler, handler, setup=Shared, observe=seen)"
    edits: dict[str, tuple[str, str]] = {
        "new lines": (HELPER, f"\n\n{HELPER}"),
        "another constant": (HELPER, HELPER.replace("+= 1", "+= 2")),
        "a lambda": (
            "get_model = lambda s: setattr(s, 'n', s.n + 1) or [1]",
            "get_model = lambda s: setattr(s, 'n', s.n + 2) or [1]",
        ),
        "a decorated helper": (f"@lru_cache{HELPER}", f"@lru_cache\n{HELPER}".replace("= [", "= 2 * [")),
        "a nested constant": (
            "def get_model(s):\n    def more(n): return n + 1\n    n = s.n\n    s.n = more(n)\n    return [1]",
            "def get_model(s):\n    def more(n): return n + 2\n    n = s.n\n    s.n = more(n)\n    return [1]",
        ),
    }  # fmt: skip
    for known in (True, False):
        report |= {f"edited: {name}, {known}": edited(known, cells, replayed) for name, cells in edits.items()}
    sys.stdout.write(json.dumps(report))


if __name__ == "__main__":
    main()
