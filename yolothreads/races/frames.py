"""Reads what CPython keeps in the frame of a running function, and does not show: variables, stack, kind of the caller.

Each reading is tried once, on a frame whose contents are known; a Python whose frames look different is not read.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Generator
from functools import lru_cache
from types import CodeType, FrameType
from typing import Any

from yolothreads.races.by_code import once_per_code, variable_names

NOTHING = object()
"""Instead of a value that there is not."""

# Offsets: of the interpreter's frame in a frame object, and inside that.
_FRAME, _PREVIOUS, _STACK_TOP, _IS_ENTRY, _OWNER, _LOCALS = 24, 8, 64, 68, 70, 72
_OWNED_BY_C = 3
_pointer, _object = ctypes.c_void_p.from_address, ctypes.py_object.from_address
_byte, _integer, _references = ctypes.c_uint8.from_address, ctypes.c_int.from_address, ctypes.c_ssize_t.from_address

_is_cpython = sys.implementation.name == "cpython" and sys.maxsize > 1 << 32
_is_311 = _is_cpython and sys.version_info[:2] == (3, 11)
_get_variable: Any = getattr(ctypes.pythonapi, "PyFrame_GetVar", None) if _is_cpython else None  # from Python 3.12 on
if _get_variable is not None:
    _get_variable.restype, _get_variable.argtypes = ctypes.py_object, (ctypes.py_object, ctypes.py_object)


class Frame:
    """The value stack of a frame in Python 3.11, as it is before the next instruction.

    `own` gets the ids of those values that were looked at and that nothing but the stack refers to.
    """

    __slots__ = ("base", "frame", "own", "top")

    def __init__(self, frame: FrameType, own: set[int]):
        self.frame, self.own = frame, own
        start = _inside(frame)
        self.base: int = start + _LOCALS
        self.top = self.base + 8 * _integer(start + _STACK_TOP).value

    def peek(self, n: int = 1) -> Any:
        """Return the n-th value from the top of the stack; `NOTHING` where there is none."""
        at = self.top - 8 * n
        address = _pointer(at).value
        if address is None:
            return NOTHING
        if _references(address).value == 1:
            self.own.add(address)
        return _object(at).value

    def cell(self, i: int) -> Any:
        """Return a variable of the frame."""
        at = self.base + 8 * i
        return _object(at).value if _pointer(at).value else NOTHING


def _inside(frame: FrameType) -> int:
    return _pointer(id(frame) + _FRAME).value  # type: ignore[return-value]


def variable(frame: FrameType, name: str) -> Any:
    """Return a variable of a function, also of an enclosing one.

    Raises:
        LookupError: it has no value, or this Python does not show it.
    """
    if _get_variable is not None:
        try:
            return _get_variable(frame, name)
        except NameError as error:
            raise LookupError(name) from error
    if not can_read_stack():
        raise LookupError(name)
    place, is_cell = _variables(frame.f_code)[name]
    value = Frame(frame, set()).cell(place)
    if value is NOTHING:
        raise LookupError(name)
    try:
        return value.cell_contents if is_cell else value
    except ValueError as error:
        raise LookupError(name) from error


@once_per_code
def _variables(code: CodeType) -> dict[str, tuple[int, bool]]:
    """Return where in the frame each variable is, and whether it stands in a cell there."""
    cells = {*code.co_cellvars, *code.co_freevars}
    return {name: (i, name in cells) for i, name in enumerate(variable_names(code))}


@lru_cache(maxsize=1)
def can_read_stack() -> bool:
    """Return whether the stack and the variables are where they are expected: those of a generator, which waits."""
    if not _is_311:
        return False
    marker = object()

    def wait(given: object) -> Generator[None, None, list[object]]:
        return [given, (yield)]

    generator = wait(marker)
    next(generator)
    frame = Frame(generator.gi_frame, set())  # type: ignore[attr-defined]
    return frame.peek() is marker and frame.cell(0) is marker


def is_called_from_c(frame: FrameType) -> bool:
    """Return whether code written in C called a function, not a Python function; True where this is not known."""
    return not _knows_caller() or _is_called_from_c(frame)


def _is_called_from_c(frame: FrameType) -> bool:
    if _is_311:
        return bool(_byte(_inside(frame) + _IS_ENTRY).value)
    return _byte(_pointer(_inside(frame) + _PREVIOUS).value + _OWNER).value == _OWNED_BY_C  # type: ignore[operator]


@lru_cache(maxsize=1)
def _knows_caller() -> bool:
    """Return whether it is seen which of three calls of a function comes from C code."""
    if not _is_cpython or sys.version_info[:2] not in ((3, 11), (3, 12), (3, 13)):
        return False

    def look(_: object = None) -> bool:
        return _is_called_from_c(sys._getframe())

    function: Callable[..., bool] = look
    return [function(), *map(function, "a"), function()] == [False, True, False]
