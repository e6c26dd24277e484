"""Whether code written in C called a function, and may go on to touch what threads share when the function ends.

`items.extend(map(first, items))` calls `first` again and again, and stores what it returns. No instruction of a watched
function stands between the two, so the end of `first` is a switch point of its own.
"""

from __future__ import annotations

import dis
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import CodeType, FrameType, FunctionType, MethodType
from typing import Any

from yolothreads.races.by_code import cell_name, once_per_code
from yolothreads.races.frames import is_called_from_c
from yolothreads.races.operands import Now, Step, Trust, UnknownError, attribute, before, is_consumed_by, steps_of_code
from yolothreads.races.unhooked import dict_of_type, mro, space_of

_EXPLORER = f"{Path(__file__).parent}/"  # nobody sees when a body ends
_KEYS = frozenset({"__eq__", "__hash__"})  # a search for an entry of a dictionary calls these, and goes on
# By instruction, the functions after which it has nothing left to do. None: all but those that compare keys.
_LAST_CALL: dict[str, frozenset[str] | None] = {
    **dict.fromkeys(("LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR", "STORE_ATTR", "DELETE_ATTR")),
    "BEFORE_WITH": frozenset({"__enter__"}),
    "BINARY_SUBSCR": frozenset({"__getitem__", "__missing__"}),
    "STORE_SUBSCR": frozenset({"__setitem__"}),
    "DELETE_SUBSCR": frozenset({"__delitem__"}),
    "CONTAINS_OP": frozenset({"__contains__"}),
    "GET_ITER": frozenset({"__iter__"}),
    "WITH_EXCEPT_START": frozenset({"__exit__"}),
}
_CALLS = frozenset({"CALL", "CALL_KW", "CALL_FUNCTION_EX"})
_RUNS_GENERATOR = frozenset({"FOR_ITER", "SEND"})
_GENERATOR = 0x20 | 0x80 | 0x200  # flags of a generator, a coroutine and an asynchronous generator


def goes_on_after(frame: FrameType, watch: Trust) -> bool:
    """Return whether a function that is about to end may give back control to C code which then touches something.

    Args:
        frame: that of the function.
        watch: knows what is stored.
    """
    caller = frame.f_back
    if caller is None or caller.f_code.co_filename.startswith(_EXPLORER) or not is_called_from_c(frame):
        return False
    if dis.opname[frame.f_code.co_code[frame.f_lasti]] == "YIELD_VALUE":  # a place before, by itself
        return False
    name, opname = frame.f_code.co_name, dis.opname[caller.f_code.co_code[caller.f_lasti]]
    if opname in _LAST_CALL:
        names = _LAST_CALL[opname]
        return name in _KEYS if names is None else name not in names
    if opname in _RUNS_GENERATOR:
        return not frame.f_code.co_flags & _GENERATOR
    return opname not in _CALLS or not (_is_consumed(frame, watch) or _is_called_itself(frame, caller, watch))


def _is_consumed(frame: FrameType, watch: Trust) -> bool:
    """Return whether a generator expression ends inside a function that then only returns."""
    try:
        return is_consumed_by(frame, (any, all, tuple, list), watch)
    except UnknownError:
        return False


def _is_called_itself(frame: FrameType, caller: FrameType, watch: Trust) -> bool:
    """Return whether a call calls just this function, perhaps by way of its class, of an object or of a `partial`."""
    code = frame.f_code
    try:
        function = _called(code, caller, watch)
    except UnknownError:
        return False
    while type(function) is partial:
        function = function.func
    kind = type(function)
    if kind in (FunctionType, MethodType):
        return getattr(function, "__code__", None) is code
    if not issubclass(kind, type):
        return _code_of(kind, "__call__") is code
    is_usual = _find(kind, "__call__") is _find(type, "__call__")
    return is_usual and any(_code_of(function, name) is code for name in ("__init__", "__new__"))


def _code_of(kind: type, name: str) -> CodeType | None:
    """Return the code of a method of a class."""
    method = _find(kind, name)
    method = method.__func__ if type(method) is staticmethod else method
    return method.__code__ if type(method) is FunctionType else None


def _find(kind: type, name: str) -> Any:
    return next((dict_of_type(base)[name] for base in mro(kind) if name in dict_of_type(base)), None)


def _called(code: CodeType, caller: FrameType, watch: Trust) -> Any:
    """Return what a function is calling right now, which may be the function or method with this code.

    Raises:
        UnknownError: this is not known, or may be another value than when the call began.
    """
    steps, offset = steps_of_code(caller.f_code), _loads_called(caller.f_code).get(caller.f_lasti)
    if offset is None:
        raise UnknownError
    at, now = max(n for n, step in enumerate(steps) if step.offset <= offset), Now(caller, watch)
    name = steps[at].value
    try:
        if steps[at].name not in ("LOAD_ATTR", "LOAD_METHOD"):
            return _fixed(steps, at, now)
        owner = _fixed(steps, before(steps, at), now)
        space = space_of(owner)
        if watch.trusts(name) and not (space and name in space) and _code_of(type(owner), name) is code:
            return MethodType(_find(type(owner), name), owner)
        return _fixed(steps, at, now)
    except (LookupError, TypeError) as error:
        raise UnknownError from error


@once_per_code
def _loads_called(code: CodeType) -> dict[int, int]:
    """Return which instruction loads the function of a call, by the offset of the call, where the arguments show it."""
    found, instructions = dict[int, int](), list(dis.get_instructions(code))
    for i, call in enumerate(instructions):
        if call.opname not in ("CALL", "CALL_KW", "CALL_FUNCTION_EX"):
            continue
        is_star, count = call.opname == "CALL_FUNCTION_EX", call.arg or 0
        above = 1 + (count & 1) if is_star else count + (call.opname == "CALL_KW")
        for n in range(i - 1, -1, -1):
            last = instructions[n]
            if instructions[n + 1].is_jump_target or "JUMP" in last.opname or last.opname.startswith("FOR_"):
                break
            if above == 0 and last.opname != "PUSH_NULL":
                found[call.offset] = last.offset
                break
            if above > 0 and not (last.opname == "PRECALL" and n + 1 == i):
                above -= dis.stack_effect(last.opcode, last.arg if last.opcode >= dis.HAVE_ARGUMENT else None)
    return found


def _fixed(steps: Sequence[Step], i: int, now: Now) -> Any:
    """Return the value that an instruction loads, if nobody can have changed it meanwhile."""
    step = steps[i]
    if step.name in ("LOAD_FAST", "LOAD_FAST_CHECK"):
        return now.local(step.value)
    if step.name == "LOAD_GLOBAL" and now.trusts(step.value):
        return now.named(step.value)
    if step.name == "LOAD_DEREF" and now.trusts(cell_name(now.frame.f_code, step.value)):
        return now.local(step.value)
    if step.name in ("LOAD_ATTR", "LOAD_METHOD"):
        owner = _fixed(steps, before(steps, i), now)
        if now.stays(owner, step.value):
            return attribute(owner, step.value)
    raise UnknownError
