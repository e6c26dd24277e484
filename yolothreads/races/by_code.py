"""Keeps what a function finds out about a code object, for as long as the process runs."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from types import CodeType
from typing import TypeVar

_Facts = TypeVar("_Facts")


def once_per_code(function: Callable[[CodeType], _Facts]) -> Callable[[CodeType], _Facts]:
    """Make a function look at each code object once.

    `functools.cache` would compare code objects by what they contain: that is slow, and takes two of them for one.
    """
    kept: dict[int, tuple[CodeType, _Facts]] = {}  # the code object is kept, and so its id

    @wraps(function)
    def of(code: CodeType) -> _Facts:
        if id(code) not in kept:
            kept[id(code)] = code, function(code)
        return kept[id(code)][1]

    return of


def cell_name(code: CodeType, name: str) -> str:
    """Return the name under which a variable of an enclosing function is known: one of all those of a file."""
    return f"cell {name} of {code.co_filename}"


def variable_names(code: CodeType) -> list[str]:
    """Return the variables of a function in the order in which its frame holds them, those of enclosing ones last."""
    cells = (name for name in code.co_cellvars if name not in code.co_varnames)
    return [*code.co_varnames, *cells, *code.co_freevars]
