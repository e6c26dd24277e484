"""The data of an exploration: trials, the kinds of their outcomes, and the places in the source that they name."""

from __future__ import annotations

import ast
import linecache
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

RIGHT, WRONG, EXCEPTION, DEADLOCK = "as sequential", "wrong result", "exception", "deadlock"
# The kinds of outcome of a trial, each with its meaning.
KINDS = {
    RIGHT: "some sequential order of the bodies gives the same",
    WRONG: "no sequential order of the bodies gives this, and nothing was raised",
    EXCEPTION: "a body, or the code around it, raised an exception that no sequential order raises",
    DEADLOCK: "no thread could continue, or the bodies did not end",
}


class Where(NamedTuple):
    """A place in the source: the line that is about to run."""

    file: str
    function: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{Path(self.file).name}:{self.line} in {self.function}: {self.text}"


class Timeout(NamedTuple):
    """A wait with a time-out: the place in words, its seconds, and whether it may pass at any time.

    A longer one only keeps a program from hanging: it passes where nobody else can go on.
    """

    place: str
    seconds: float
    is_choice: bool

    @property
    def where(self) -> str:
        """The place without its source, and the seconds."""
        return f"{self.place.partition(': ')[0]} ({self.seconds:.3g} s)"

    def __str__(self) -> str:
        how = "at any time" if self.is_choice else "only where nobody else can go on"
        return f"{self.seconds:.3g} s, passes {how}: {self.place}"


@dataclass(frozen=True)
class Outcome:
    """One row of the table: how many schedules had this kind of outcome, their share, and one of them to replay."""

    kind: str
    count: int
    share: float
    example: str


class Step(NamedTuple):
    """One watched line, or a part of one, that a thread ran.

    `inspected` is the value that `inspect` returned just before, at `at_s` (seconds of `perf_counter`); `waits` names
    the threads that were waiting then, and `awaited` says in words what each of them was waiting for.
    """

    thread: str
    where: Where
    inspected: Any = None
    at_s: float = 0.0
    waits: tuple[str, ...] = ()
    awaited: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Trial:
    """One schedule and its outcome.

    `where` is the line before which the (last) thread was stopped. `results` are the results of the bodies, or their
    exceptions. Four fields are filled by `replay` only: `steps`, `ended_s` (the end of the run, in seconds of
    `perf_counter`), `waits`, the threads that were waiting at the end if no thread could continue, and `inspected`, the
    value that `inspect` returned when all bodies had ended.
    """

    schedule: str
    kind: str
    detail: str
    where: Where
    results: tuple[Any, ...] = field(default=(), repr=False)
    switches: tuple[Where, ...] = ()
    steps: tuple[Step, ...] = field(default=(), repr=False)
    ended_s: float = 0.0
    waits: tuple[str, ...] = ()
    inspected: Any = field(default=None, repr=False)

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}\n  stopped before {self.where}\n  schedule: {self.schedule}"


class Function(NamedTuple):
    """A function, and its lines with those of its decorators."""

    file: str
    name: str
    lines: range


def function_of(where: Where) -> Function:
    """Return the innermost function that a line belongs to; the line alone where that cannot be known."""
    around = [f for f in _functions(where.file, "".join(linecache.getlines(where.file))) if where.line in f.lines]
    alone = Function(where.file, where.function, range(where.line, where.line + 1))
    return min(around, key=lambda function: len(function.lines), default=alone)


@lru_cache(maxsize=100)
def _functions(file: str, source: str) -> list[Function]:
    """Return the functions of a file."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return []
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            first = min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", []))])
            lines = range(first, (node.end_lineno or node.lineno) + 1)
            found.append(Function(file, getattr(node, "name", "lambda"), lines))
    return found
