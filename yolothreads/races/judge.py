"""Decides whether an outcome is right, which means that some sequential order of the bodies has the same outcome."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from yolothreads.errors import ExploreError
from yolothreads.races.results import EXCEPTION, RIGHT, WRONG
from yolothreads.races.schedule import label


def same(a: Any, b: Any) -> bool:
    """Return whether two values are equal: numbers (nan too), strings, arrays, tensors, containers, and any with `==`.

    Raises:
        ExploreError: the values are equal only to themselves.
    """
    if a is b:
        return True
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float) and isinstance(b, float):
        return a == b or (a != a and b != b)
    if hasattr(a, "shape") and hasattr(b, "shape"):
        return tuple(a.shape) == tuple(b.shape) and bool(((a == b) | ((a != a) & (b != b))).all())
    if isinstance(a, BaseException) and isinstance(b, BaseException):
        return _same_error(a, b)
    if type(a) is type(b) and getattr(type(a), "__eq__", None) is object.__eq__:
        raise ExploreError(
            f"Two results of type {type(a).__name__} cannot be compared, because each is equal only to itself; "
            f"pass same=, or let the bodies return a value that can be compared."
        )
    return bool(a == b)


Same = Callable[[Any, Any], bool]
Describe = Callable[[Sequence[Any], Sequence[Sequence[Any]]], str]


class Judge:
    """Knows the results of the sequential orders, and compares each run with them.

    The results of a run are one result or exception for each body, then the observed value.
    """

    def __init__(self, bodies: int, same: Same, describe: Describe | None):
        self._bodies, self._same, self._describe = bodies, same, describe
        self.references: list[tuple[Any, ...]] = []

    def equal(self, results: tuple[Any, ...], reference: tuple[Any, ...]) -> bool:
        """Return whether two runs had the same results; exceptions are compared by type and text."""
        return all(self._are_equal(a, b) for a, b in zip(results, reference, strict=True))

    def _are_equal(self, a: Any, b: Any) -> bool:
        if isinstance(a, BaseException) or isinstance(b, BaseException):
            return _same_error(a, b)
        try:
            return bool(self._same(a, b))
        except ExploreError:
            raise
        except Exception as error:
            name = type(a).__name__
            raise ExploreError(f"Two results of type {name} cannot be compared ({error!r}); pass same=.") from error

    def kind(self, results: tuple[Any, ...]) -> tuple[str, str]:
        """Return the kind of a run's outcome, and its description in words."""
        if not self.references:  # no order ends by itself: the bodies need one another
            self.references.append(results)
        if any(self.equal(results, reference) for reference in self.references):
            return RIGHT, "as in some sequential order"
        for i, result in enumerate(results):
            is_error = isinstance(result, BaseException)
            if is_error and not any(_same_error(reference[i], result) for reference in self.references):
                name = label(i) if i < self._bodies else "observe"
                return EXCEPTION, f"{name} raised {type(result).__name__}: {result}"
        if self._describe is not None and (description := self._describe(results, self.references)):
            return WRONG, description
        orders = " or ".join(dict.fromkeys(short(reference) for reference in self.references[:3]))
        return WRONG, f"gave {short(results)}; one after the other they give {orders}"


def _same_error(a: Any, b: Any) -> bool:
    return type(a) is type(b) and str(a) == str(b)


def short(value: Any) -> str:
    """Return a value in a few words."""
    if isinstance(value, tuple):
        return f"({', '.join(map(short, value))})"
    return repr(value) if isinstance(value, BaseException) else reprlib.repr(value)
