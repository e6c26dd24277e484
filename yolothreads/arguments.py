"""Checks of arguments that several parts of the package share."""

from __future__ import annotations

import math
from importlib.util import find_spec

from yolothreads.errors import ArgumentError, ExtraError


def at_least_one(name: str, value: int) -> int:
    """Return `value` if it is a whole number of 1 or more; otherwise raise an ArgumentError that names it."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ArgumentError(f"{name}={value!r} makes no sense; give a whole number, 1 or more.")
    return value


def not_negative(name: str, value: float) -> float:
    """Return `value` if it is a finite number of 0 or more; otherwise raise an ArgumentError that names it."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ArgumentError(f"{name}={value!r} makes no sense; give a number, 0 or more.")
    return value


def need_extra(who: str, *libraries: str, install: str) -> None:
    """Raise an ExtraError that names the remedy if a library is missing. No library is imported."""
    for library in libraries:
        if find_spec(library) is None:
            raise ExtraError(f"{who} needs {library}, which is not installed; run: pip install {install}.")
