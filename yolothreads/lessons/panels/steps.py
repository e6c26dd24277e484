"""A schedule step by step, in memory: where each thread is in the source, and what has changed."""

from __future__ import annotations

import ast
import linecache
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from yolothreads.lessons.panels.shared_state import SharedState
from yolothreads.races import Trial, Where, label
from yolothreads.tables import Table

RUNS, STOPPED, WAITS, NEW, ENDED = "▶", "‖", "…", "○", "■"
"""Signs of what a thread does."""

NOTHING = "–"
_SHORT = 24  # lines of a function that is shown whole
_GAP = 2  # lines between two that ran, which are shown too
_PAGE = 10  # lines: the window on a long function moves by so many
_ROWS = 40  # of the table


class Place(NamedTuple):
    """Where a thread is at a step: a sign, the same in words, and the line, where it has one."""

    thread: str
    sign: str
    says: str
    where: Where | None


class Function(NamedTuple):
    """A function, and its lines with those of its decorators."""

    file: str
    name: str
    lines: range


class Steps:
    """A replayed schedule. Its positions are the moments before each watched line, and the end.

    Args:
        trial: with its steps, at each of which `shared` looked.
        bodies: how many there are.
        shared: looks once more, to see the end.
    """

    def __init__(self, trial: Trial, bodies: int, shared: SharedState) -> None:
        self.trial, self.steps = trial, trial.steps
        seen: list[Mapping[str, str]] = [step.seen if isinstance(step.seen, dict) else {} for step in self.steps]
        seen.append(seen[-1] if trial.waits and seen else shared.at_the_end())  # what was stuck has been ended since
        self.names, self.seen = shared.names(seen), seen
        self.threads = list(dict.fromkeys([*map(label, range(bodies)), *sorted({step.thread for step in self.steps})]))
        self._own = {t: [i for i, step in enumerate(self.steps) if step.thread == t] for t in self.threads}
        self._ran = {step.where for step in self.steps}
        self.changes = [at for at in range(len(self)) if at in (0, self.end) or self._is_change(at)]

    def __len__(self) -> int:
        return len(self.steps) + 1

    @property
    def end(self) -> int:
        """The last position: all threads have ended, or nobody can go on."""
        return len(self.steps)

    def next_change(self, at: int) -> int:
        """The next position at which something else is seen, another thread has the turn, or somebody waits."""
        return self.changes[min(bisect_right(self.changes, at), len(self.changes) - 1)]

    def previous_change(self, at: int) -> int:
        """The one before `at`."""
        return self.changes[max(bisect_left(self.changes, at) - 1, 0)]

    def changed(self, at: int) -> dict[str, str]:
        """What is not as it was one step before: name -> how it was."""
        if not at:
            return {}
        before, now = self.seen[at - 1], self.seen[at]
        return {name: before.get(name, NOTHING) for name in self.names if before.get(name) != now.get(name)}

    def places(self, at: int) -> list[Place]:
        """Where each thread is."""
        return [self._place(thread, at) for thread in self.threads]

    def window(self, function: Function, focus: int) -> list[int]:
        """The lines of a function to be shown: all of a short one, of others those that ran, around line `focus`."""
        if len(function.lines) <= _SHORT:
            return list(function.lines)
        ran = sorted({w.line for w in self._ran if w.file == function.file and w.line in function.lines})
        near = {line for a, b in pairwise(ran) if b - a <= _GAP + 1 for line in range(a, b)}
        shown = sorted({function.lines.start, *ran, *near})
        if len(shown) <= _SHORT:
            return shown
        first = max(0, shown.index(focus) // _PAGE * _PAGE - _PAGE // 2)
        return shown[first : first + 2 * _PAGE]

    def table(self) -> Table:
        """The steps around each change, for the notebook."""
        shown = sorted({near for at in self.changes for near in (at - 1, at, at + 1) if 0 <= near < self.end})
        rows = [
            (at + 1, step.thread, step.where.line, step.where.text[:70])
            + tuple(self.seen[at].get(name, NOTHING) for name in self.names)
            for at, step in ((at, self.steps[at]) for at in shown[:_ROWS])
        ]
        headers = ["step", "thread", "line", "about to run", *(f"{name} now" for name in self.names)]
        cut = f", the first {_ROWS} of {len(shown)}" if len(shown) > _ROWS else ""
        return Table(headers, rows, f"{self.trial.kind}: the steps around each change{cut}; there are {self.end}")

    def _is_change(self, at: int) -> bool:
        before, now = self.steps[at - 1], self.steps[at]
        return before.thread != now.thread or before.waits != now.waits or bool(self.changed(at))

    def _place(self, thread: str, at: int) -> Place:
        own = self._own[thread]
        i = bisect_left(own, at)
        before = self.steps[own[i - 1]].where if i else None
        coming = self.steps[own[i]].where if i < len(own) else None
        if at == self.end:
            stuck = thread in self.trial.waits
            return Place(thread, WAITS, "waits for ever in", before) if stuck else Place(thread, ENDED, "is done", None)
        step = self.steps[at]
        if step.thread == thread:
            return Place(thread, RUNS, "has the turn, and is about to run", step.where)
        if thread in step.waits:
            return Place(thread, WAITS, "waits in" if before else "waits, before its first watched line", before)
        if before is None:
            return Place(thread, NEW, "has not begun", None)
        if coming is None:
            return Place(thread, ENDED, "has run its last watched line", None)
        return Place(thread, STOPPED, "is stopped before", coming)


def function_of(where: Where) -> Function:
    """The innermost function that a line belongs to; the line alone where that cannot be known."""
    around = [f for f in _functions(where.file, len(linecache.getlines(where.file))) if where.line in f.lines]
    alone = Function(where.file, where.function, range(where.line, where.line + 1))
    return min(around, key=lambda function: len(function.lines), default=alone)


@lru_cache(maxsize=100)
def _functions(file: str, _length: int) -> tuple[Function, ...]:
    try:
        return tuple(_defined(file, ast.parse("".join(linecache.getlines(file)))))
    except (SyntaxError, ValueError):
        return ()


def _defined(file: str, tree: ast.AST) -> Iterator[Function]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            first = min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", []))])
            yield Function(file, getattr(node, "name", "lambda"), range(first, (node.end_lineno or node.lineno) + 1))
