"""Whether an outcome is right: some order of the bodies, run one after the other, gives it."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Sequence
from typing import Any

from yolothreads.errors import ExploreError
from yolothreads.races.schedule import label
from yolothreads.races.task import Run
from yolothreads.races.trials import DEADLOCK, EXCEPTION, RIGHT, WRONG


class Judge:
    """Holds what the sequential orders give: a result or an exception for each body, then what was observed."""

    def __init__(
        self,
        same: Callable[[Any, Any], bool],
        describe: Callable[[Sequence[Any], Sequence[Sequence[Any]]], str] | None,
    ):
        self._same, self.describe = same, describe
        self.references: list[tuple[Any, ...]] = []

    def equal(self, got: tuple[Any, ...], wanted: tuple[Any, ...]) -> bool:
        """Whether two runs gave the same: results, exceptions by type and text, and what was observed."""
        for a, b in zip(got, wanted, strict=True):
            if isinstance(a, BaseException) or isinstance(b, BaseException):
                if not _same_error(a, b):
                    return False
                continue
            try:
                if not self._same(a, b):
                    return False
            except ExploreError:
                raise
            except Exception as error:
                raise ExploreError(
                    f"Two results of type {type(a).__name__} cannot be compared ({error!r}); pass same=."
                ) from error
        return True

    def kind(self, run: Run, results: tuple[Any, ...]) -> tuple[str, str]:
        """The kind of a run's outcome, and what is wrong with it in words."""
        if run.failure:
            return DEADLOCK, f"{run.failure}\n{run.stacks}"
        if not self.references:  # no order ends by itself: the bodies need one another
            self.references.append(results)
        if any(self.equal(results, wanted) for wanted in self.references):
            return RIGHT, "as some order gives"
        for i, result in enumerate(results):
            if isinstance(result, BaseException) and not any(
                _same_error(wanted[i], result) for wanted in self.references
            ):
                return EXCEPTION, f"{_name(i, len(run.bodies))} raised {type(result).__name__}: {result}"
        if self.describe is not None and (told := self.describe(results, self.references)):
            return WRONG, told
        orders = " or ".join(dict.fromkeys(short(wanted) for wanted in self.references[:3]))
        return WRONG, f"gave {short(results)}; one after the other they give {orders}"


def _same_error(a: Any, b: Any) -> bool:
    return type(a) is type(b) and str(a) == str(b)


def _name(i: int, bodies: int) -> str:
    return label(i) if i < bodies else "observe"


def short(value: Any) -> str:
    """A value in a few words."""
    if isinstance(value, tuple):
        return f"({', '.join(map(short, value))})"
    return repr(value) if isinstance(value, BaseException) else reprlib.repr(value)
