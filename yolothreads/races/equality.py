"""When two results are the same, for what Python and arrays offer; more is handed down by who knows more."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

from yolothreads.errors import ExploreError


def same(a: Any, b: Any) -> bool:
    """Whether two values are equal: numbers (nan too), texts, arrays, tensors, containers, and what defines `==`.

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
    if (
        type(a) is type(b)
        and getattr(type(a), "__eq__", None) is object.__eq__
        and not isinstance(a, Set | BaseException)
    ):
        raise ExploreError(
            f"Two results of type {type(a).__name__} cannot be compared, for each is equal only to itself; "
            f"pass same=, or let the bodies give something that has a value."
        )
    if isinstance(a, BaseException) and isinstance(b, BaseException):
        return type(a) is type(b) and str(a) == str(b)
    return bool(a == b)
