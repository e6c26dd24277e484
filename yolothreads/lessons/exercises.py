"""Exercises: a task, a stub, `check()`, staged hints, and a folded solution.

A check runs the reader's function and answers in one of three ways: correct, not yet (with what was seen, never the
answer), or not started. The exercises themselves stand in `tasks/`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from html import escape
from types import FunctionType
from typing import Any

from yolothreads.errors import ArgumentError

CORRECT, NOT_YET, NOT_STARTED = "correct", "not yet", "not started"
_COLOURS = {
    CORRECT: "#009e73",
    NOT_YET: "#e69f00",
    NOT_STARTED: "#999999",
}  # a line below the word: text has the theme's


@dataclass(frozen=True)
class Answer:
    """What a check has to say: one of `CORRECT`, `NOT_YET`, `NOT_STARTED`, and what was seen."""

    outcome: str
    seen: str

    def __repr__(self) -> str:
        return f"{self.outcome}: {self.seen}"

    def _repr_html_(self) -> str:
        word = f'<strong style="border-bottom:4px solid {_COLOURS[self.outcome]}">{self.outcome}</strong>'
        return f"<p>{word}: {escape(self.seen)}</p>"


@dataclass(frozen=True)
class Folded:
    """Text that a reader opens when they want to see it."""

    title: str
    text: str

    def __repr__(self) -> str:
        return f"{self.title}\n{self.text}"

    def _repr_html_(self) -> str:
        return f"<details><summary>{escape(self.title)}</summary><pre>{escape(self.text)}</pre></details>"


@dataclass
class Exercise:
    """One task.

    Attributes:
        name: of the function that the reader writes.
        starter: the stub as it stands in the notebook. answer: a correct function, shown by `solution()`.
        also_right, wrong: further answers, from which the tests are made.
        hints: one after another, each saying more.
        see: runs the reader's function; gives None if it is correct, or what was seen instead.
    """

    name: str
    starter: str
    answer: str
    hints: tuple[str, ...]
    see: Callable[[Callable[..., Any]], str | None]
    also_right: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()
    _hinted: int = field(default=0, repr=False)

    def check(self, function: Callable[..., Any]) -> Answer:
        """Run the reader's function and say how it did. An exception in it is "not yet", with the exception named."""
        if not callable(function):
            return Answer(NOT_YET, f"check() takes your function {self.name} itself, without calling it.")
        if _code(function) == _code(_compiled(self.starter, self.name)):
            return Answer(NOT_STARTED, f"{self.name} is still as it was given; change it and run the check again.")
        try:
            seen = self.see(function)
        except Exception as error:
            message = str(error).partition("\n")[0]
            return Answer(NOT_YET, f"your code raised {type(error).__name__}: {message}")
        return Answer(NOT_YET, seen) if seen else Answer(CORRECT, f"{self.name} does what was asked.")

    def hint(self) -> Folded:
        """The next hint; the last one stays."""
        self._hinted = min(self._hinted + 1, len(self.hints))
        return Folded(f"Hint {self._hinted} of {len(self.hints)}", self.hints[self._hinted - 1])

    def solution(self) -> Folded:
        """One correct answer, folded."""
        return Folded("Solution", self.answer)


def _compiled(source: str, name: str) -> Callable[..., Any]:
    space: dict[str, Any] = {}
    exec(source, space)  # the exercise's own stub, not the reader's code
    return space[name]


def _code(function: Callable[..., Any]) -> object:
    """What tells whether two functions were written alike: bytecode, names and constants, inner functions too."""
    inner = inspect.unwrap(function)
    if not isinstance(inner, FunctionType):
        return function

    def shape(code: Any) -> tuple[Any, ...]:
        consts = tuple(shape(c) if hasattr(c, "co_code") else repr(c) for c in code.co_consts)
        return code.co_code, code.co_names, code.co_varnames, code.co_freevars, consts

    return inner is function, shape(inner.__code__)


def get(name: str) -> Exercise:
    """The exercise whose function has this name.

    Raises:
        ArgumentError: there is none; the message names those there are.
    """
    from yolothreads.lessons.tasks import EXERCISES

    if name not in EXERCISES:
        raise ArgumentError(f'There is no exercise "{name}"; there are {", ".join(EXERCISES)}.')
    return EXERCISES[name]
