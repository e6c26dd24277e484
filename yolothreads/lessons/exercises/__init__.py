"""The exercises of the lessons: each has a stub, a check, hints that come one by one, and a folded solution."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from types import FunctionType
from typing import Any

from yolothreads import palette
from yolothreads.errors import ArgumentError
from yolothreads.lessons.exercises import threads, workers
from yolothreads.lessons.exercises.threads import CheckFailed, Function
from yolothreads.lessons.texts import sections

__all__ = ["CORRECT", "EXERCISES", "NOT_STARTED", "NOT_YET", "Answer", "CheckFailed", "Exercise", "Folded", "get"]

CORRECT, NOT_YET, NOT_STARTED = "correct", "not yet", "not started"
_COLOURS = {CORRECT: palette.GREEN, NOT_YET: palette.ORANGE, NOT_STARTED: palette.MIDDLE_GREY}


@dataclass(frozen=True)
class Answer:
    """The result of a check: one of `CORRECT`, `NOT_YET` and `NOT_STARTED`, and what the check saw."""

    outcome: str
    seen: str

    def __repr__(self) -> str:
        return f"{self.outcome}: {self.seen}"

    def _repr_html_(self) -> str:
        # The colour is a line below the word; the word itself keeps the colour of the theme.
        word = f'<strong style="border-bottom:4px solid {_COLOURS[self.outcome]}">{self.outcome}</strong>'
        return f"<p>{word}: {escape(self.seen)}</p>"


@dataclass(frozen=True)
class Folded:
    """Text that readers open when they want to see it."""

    title: str
    text: str

    def __repr__(self) -> str:
        return f"{self.title}\n{self.text}"

    def _repr_html_(self) -> str:
        return f"<details><summary>{escape(self.title)}</summary><pre>{escape(self.text)}</pre></details>"


@dataclass(repr=False, eq=False)  # a repr would show the answer
class Exercise:
    """One task of a lesson. Its stub, its answer and its hints stand in texts/exercises.toml.

    Attributes:
        name: the name of the function that the reader writes.
        checker: calls the reader's function, and raises `CheckFailed` where it sees something wrong.
        starter: the source of the stub, as it stands in the notebook.
        answer: the source of a correct function, which `solution()` shows.
        hints: texts that are shown one by one; each says more than the one before.
    """

    name: str
    checker: Callable[[Function], None]
    starter: str
    answer: str
    hints: list[str]
    _hinted: int = 0

    def check(self, function: Function) -> Answer:
        """Run the reader's function and say whether it is correct. An exception in it means "not yet"."""
        if not callable(function):
            return Answer(NOT_YET, f"check() takes your function {self.name} itself, without calling it.")
        space: dict[str, Any] = {}
        exec(self.starter, space)  # the exercise's own stub, not the reader's code
        if _shape(function) == _shape(space[self.name]):
            return Answer(NOT_STARTED, f"{self.name} is still as it was given; change it and run the check again.")
        try:
            self.checker(function)
        except CheckFailed as failed:
            return Answer(NOT_YET, str(failed))
        except Exception as error:
            message = str(error).partition("\n")[0]
            return Answer(NOT_YET, f"Your code raised {type(error).__name__}: {message}")
        return Answer(CORRECT, f"{self.name} does what was asked.")

    def hint(self) -> Folded:
        """Return the next hint, or the last one again."""
        self._hinted = min(self._hinted + 1, len(self.hints))
        return Folded(f"Hint {self._hinted} of {len(self.hints)}", self.hints[self._hinted - 1])

    def solution(self) -> Folded:
        """Return one correct answer, folded."""
        return Folded("Solution", self.answer)


def _shape(function: Function) -> object:
    """Return what is equal for two functions written alike: bytecode, names and constants, of inner functions too."""
    inner = inspect.unwrap(function)
    if not isinstance(inner, FunctionType):
        return function

    def shape(code: Any) -> tuple[Any, ...]:
        consts = tuple(shape(c) if hasattr(c, "co_code") else repr(c) for c in code.co_consts)
        return code.co_code, code.co_names, code.co_varnames, code.co_freevars, consts

    return inner is function, shape(inner.__code__)


_CHECKERS = {**vars(threads), **vars(workers)}
EXERCISES = {name: Exercise(name, _CHECKERS[f"check_{name}"], **texts) for name, texts in sections("exercises").items()}
"""All exercises in the order of the lessons, by the name of the function that the reader writes."""


def get(name: str) -> Exercise:
    """Return the exercise whose function has this name.

    Raises:
        ArgumentError: there is no such exercise; the message names all exercises.
    """
    if name not in EXERCISES:
        raise ArgumentError(f'There is no exercise "{name}"; the exercises are {", ".join(EXERCISES)}.')
    return EXERCISES[name]
