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
from typing import Any, NamedTuple

from yolothreads.races.by_code import cell_name, once_per_code
from yolothreads.races.frames import is_called_from_c, variable
from yolothreads.races.operands import Now, Step, Trust, UnknownError, attribute, before, is_consumed_by, steps_of_code
from yolothreads.races.unhooked import dict_of_type, mro, space_of
from yolothreads.races.watching import Watch

_EXPLORER = f"{Path(__file__).parent}/"  # nobody sees when a body ends
# By instruction, functions that Python itself calls for it, and nothing after them.
_LAST_CALL = {
    "LOAD_ATTR": {"__getattr__", "__getattribute__", "__get__"},
    "LOAD_METHOD": {"__getattr__", "__getattribute__", "__get__"},
    "STORE_ATTR": {"__setattr__", "__set__"},
    "DELETE_ATTR": {"__delattr__", "__delete__"},
    "BEFORE_WITH": {"__enter__"},
    "WITH_EXCEPT_START": {"__exit__"},
    "GET_ITER": {"__iter__"},
}
_CALLS = frozenset({"CALL", "CALL_KW", "CALL_FUNCTION_EX"})
_PREPARES_COMPREHENSION = frozenset({"LOAD_FAST_AND_CLEAR", "SWAP", "BUILD_LIST", "BUILD_SET", "BUILD_MAP"})
_COROUTINE = 0x80 | 0x200  # flags of a coroutine and of an asynchronous generator


def goes_on_after(frame: FrameType, watch: Watch) -> bool:
    """Return whether what called a function may go on to touch something, without a switch point of its own before.

    C code does, and so do the modules that start threads and keep results. Of the Python code of libraries the verdict
    says that it was not looked into, nor is then what C code does for it.

    Args:
        frame: that of the function, which is about to end.
        watch: knows what is watched, and what is stored.
    """
    caller, code = frame.f_back, frame.f_code
    if caller is None or caller.f_code.co_filename.startswith(_EXPLORER):
        return False
    if dis.opname[code.co_code[frame.f_lasti]] == "YIELD_VALUE":  # a place before, by itself
        return False
    if watch.is_waiting_module(caller):
        return True
    if watch.is_of_library(caller) or not is_called_from_c(frame):
        return False
    try:
        return not _is_last_call(frame, caller, watch)
    except Exception:  # nothing is known then
        return True


def _is_last_call(frame: FrameType, caller: FrameType, watch: Trust) -> bool:
    """Return whether the C code that a function is running has nothing left to do after another function has ended."""
    opname = dis.opname[caller.f_code.co_code[caller.f_lasti]]
    if opname in _LAST_CALL:
        return frame.f_code.co_name in _LAST_CALL[opname] or _is_of_property(frame, caller)
    if opname == "SEND":
        return bool(frame.f_code.co_flags & _COROUTINE)
    if opname == "FOR_ITER":
        return _is_iterated_itself(frame, caller, watch)
    if opname not in _CALLS:
        return False
    return _is_end_of_with(frame, caller) or _is_consumed(frame, watch) or _is_called_itself(frame, caller, watch)


def _is_end_of_with(frame: FrameType, caller: FrameType) -> bool:
    """Return whether `with` calls the `__exit__` of its manager, which it does with None three times."""
    call = _calls_of(caller.f_code).get(caller.f_lasti)
    return frame.f_code.co_name == "__exit__" and call is not None and call.function.opname == "LOAD_CONST"


def _is_of_property(frame: FrameType, caller: FrameType) -> bool:
    """Return whether a function is the getter or setter of a property, of the object that it gets first.

    A descriptor written in C may go on, to keep the value for instance.
    """
    name = next(step.value for step in steps_of_code(caller.f_code) if step.offset == caller.f_lasti)
    try:
        found = _find(type(variable(frame, frame.f_code.co_varnames[0])), name)
    except LookupError:
        return False
    methods = (found.fget, found.fset, found.fdel) if type(found) is property else ()
    return any(type(method) is FunctionType and method.__code__ is frame.f_code for method in methods)


def _is_consumed(frame: FrameType, watch: Trust) -> bool:
    """Return whether a generator expression ends inside a function that then only returns."""
    try:
        return is_consumed_by(frame, (any, all, tuple, list), watch)
    except UnknownError:
        return False


def _is_iterated_itself(frame: FrameType, caller: FrameType, watch: Trust) -> bool:
    """Return whether a loop runs through just this generator, and not through an iterator that gets it."""
    instructions = _instructions(caller.f_code)
    at = next(n for n, instruction in enumerate(instructions) if instruction.offset == caller.f_lasti)
    while instructions[at - 1].opname in _PREPARES_COMPREHENSION:
        at -= 1
    last = instructions[at - 2] if instructions[at - 1].opname == "GET_ITER" else instructions[at - 1]
    try:
        if last.opname == "LOAD_FAST":
            return getattr(variable(caller, last.argval), "gi_frame", None) is frame
        return getattr(_called(frame.f_code, caller, last.offset, watch), "__code__", None) is frame.f_code
    except (LookupError, UnknownError):
        return False


@once_per_code
def _instructions(code: CodeType) -> list[dis.Instruction]:
    """Return the instructions of a code object, without those that only prepare others."""
    return [i for i in dis.get_instructions(code) if i.opname not in ("CACHE", "EXTENDED_ARG")]


def _is_called_itself(frame: FrameType, caller: FrameType, watch: Trust) -> bool:
    """Return whether a call calls just this function, perhaps by way of its class, of an object or of a `partial`."""
    code = frame.f_code
    try:
        function = _called(code, caller, caller.f_lasti, watch)
    except UnknownError:
        return False
    while type(function) is partial:
        function = function.func
    kind = type(function)
    if kind in (FunctionType, MethodType):
        return getattr(function, "__code__", None) is code
    if not issubclass(kind, type):
        return _code_of(kind, "__call__") is code
    if _find(kind, "__call__") is not _find(type, "__call__"):
        return False
    is_last = _code_of(function, "__init__") or _find(function, "__init__") is _find(object, "__init__")
    return _code_of(function, "__init__") is code or (bool(is_last) and _code_of(function, "__new__") is code)


def _code_of(kind: type, name: str) -> CodeType | None:
    """Return the code of a method of a class."""
    method = _find(kind, name)
    method = method.__func__ if type(method) is staticmethod else method
    return method.__code__ if type(method) is FunctionType else None


def _find(kind: type, name: str) -> Any:
    return next((dict_of_type(base)[name] for base in mro(kind) if name in dict_of_type(base)), None)


def _called(code: CodeType, caller: FrameType, offset: int, watch: Trust) -> Any:
    """Return what the call at an offset of a function has called, which may be the function or method with this code.

    Raises:
        UnknownError: this is not known, or may be another value than when the call began.
    """
    steps, now = steps_of_code(caller.f_code), Now(caller, watch)
    call = _calls_of(caller.f_code).get(offset)
    if call is None or not _is_tuple(call.star, caller):  # else the call runs an iterator first
        raise UnknownError
    at = max(n for n, step in enumerate(steps) if step.offset <= call.function.offset)
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


class _Call(NamedTuple):
    """The instructions that load the function of a call, and what stands behind the star in `function(*given)`."""

    function: dis.Instruction
    star: dis.Instruction | None


@once_per_code
def _calls_of(code: CodeType) -> dict[int, _Call]:
    """Return the calls of a function, by offset, where the arguments show what is called."""
    found, instructions = dict[int, _Call](), list(dis.get_instructions(code))
    for i, call in enumerate(instructions):
        count, star = call.arg or 0, None
        if call.opname not in _CALLS:
            continue
        if call.opname == "CALL_FUNCTION_EX":
            star, count = _pushed_by(instructions, i, count & 1), 1 + (count & 1)
            if star is None:
                continue
        elif call.opname == "CALL_KW":
            count += 1
        function = _pushed_by(instructions, i, count)
        if function is not None:
            found[call.offset] = _Call(function, star)
    return found


def _is_tuple(star: dis.Instruction | None, caller: FrameType) -> bool:
    """Return whether a call gets a tuple, or has no star."""
    if star is None or star.opname != "LOAD_FAST":
        return star is None or star.opname in ("LIST_TO_TUPLE", "BUILD_TUPLE", "CALL_INTRINSIC_1")
    try:
        return type(variable(caller, star.argval)) is tuple
    except LookupError:
        return False


def _pushed_by(instructions: Sequence[dis.Instruction], i: int, above: int) -> dis.Instruction | None:
    """Return the instruction that ends the making of a value on the stack of a call, `above` others, if it is known."""
    for n in range(i - 1, -1, -1):
        last = instructions[n]
        if instructions[n + 1].is_jump_target or "JUMP" in last.opname or last.opname.startswith("FOR_"):
            break
        if above == 0 and last.opname not in ("PUSH_NULL", "PRECALL", "KW_NAMES"):
            return last
        if above > 0 and not (last.opname == "PRECALL" and n + 1 == i):
            above -= dis.stack_effect(last.opcode, last.arg if last.opcode >= dis.HAVE_ARGUMENT else None)
    return None


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
