"""Facts about one code object: which instructions can touch what threads share, and which lines have to be split.

A line is *split* if a switch inside it can matter: if two or more of its instructions can touch something that threads
share, or one of them again and again. All that is not listed here counts as touching, unknown instructions too.
"""

from __future__ import annotations

import dis
from collections.abc import Iterator, Set
from functools import lru_cache
from types import CodeType

from yolothreads.races.by_code import cell_name, once_per_code, variable_names
from yolothreads.races.operands import checks_of

# A switch before one of these has the same effect as a switch after it, provided that an object that a name, or the
# stack, held last vanishes without effect.
LOCAL_BECAUSE = {
    "it moves values between the thread's own names and its stack": (
        "LOAD_CONST", "LOAD_FAST", "LOAD_FAST_CHECK", "LOAD_FAST_AND_CLEAR", "LOAD_FAST_LOAD_FAST", "STORE_FAST",
        "STORE_FAST_STORE_FAST", "STORE_FAST_LOAD_FAST", "STORE_FAST_MAYBE_NULL", "DELETE_FAST", "LOAD_CLOSURE",
        "PUSH_NULL", "COPY", "SWAP", "POP_TOP", "END_FOR", "END_SEND", "KW_NAMES", "LOAD_ASSERTION_ERROR",
    ),
    "it only chooses the next instruction, or does nothing": (
        "RESUME", "NOP", "CACHE", "PRECALL", "EXTENDED_ARG", "JUMP_FORWARD", "JUMP_BACKWARD", "IS_OP",
        "JUMP_BACKWARD_NO_INTERRUPT", "POP_JUMP_IF_NONE", "POP_JUMP_IF_NOT_NONE", "POP_JUMP_FORWARD_IF_NONE",
        "POP_JUMP_FORWARD_IF_NOT_NONE", "POP_JUMP_BACKWARD_IF_NONE", "POP_JUMP_BACKWARD_IF_NOT_NONE",
    ),
    "it makes or fills a new object, which no other thread can know yet": (
        "BUILD_TUPLE", "BUILD_LIST", "BUILD_MAP", "BUILD_CONST_KEY_MAP", "BUILD_STRING", "BUILD_SLICE", "LIST_APPEND",
        "LIST_TO_TUPLE", "MAKE_CELL", "COPY_FREE_VARS", "MAKE_FUNCTION", "SET_FUNCTION_ATTRIBUTE", "RETURN_GENERATOR",
    ),
    "it ends the function; what its caller does next is an instruction of the caller, or see `returns`": (
        "RETURN_VALUE", "RETURN_CONST", "INTERPRETER_EXIT",
    ),
    "it handles an exception, which belongs to the thread": (
        "PUSH_EXC_INFO", "POP_EXCEPT", "CHECK_EXC_MATCH", "RERAISE",
    ),
}  # fmt: skip
LOCAL = frozenset(name for names in LOCAL_BECAUSE.values() for name in names)

_BOOLS = {"CONTAINS_OP", "IS_OP", "COMPARE_OP", "UNARY_NOT"}  # they leave a new object on the stack, mostly a bool
_TRUTH = {
    "POP_JUMP_IF_TRUE", "POP_JUMP_IF_FALSE", "POP_JUMP_FORWARD_IF_TRUE", "POP_JUMP_FORWARD_IF_FALSE",
    "POP_JUMP_BACKWARD_IF_TRUE", "POP_JUMP_BACKWARD_IF_FALSE", "JUMP_IF_TRUE_OR_POP", "JUMP_IF_FALSE_OR_POP",
}  # fmt: skip
_TRUTH_IS_TESTED_BEFORE = "TO_BOOL" in dis.opmap  # from 3.13 on these, and `not`, get nothing but True or False
_LOOKUPS = {"LOAD_GLOBAL", "LOAD_NAME", "LOAD_METHOD"}
_NAME_READERS = {*_LOOKUPS, "LOAD_ATTR", "LOAD_DEREF"}
_ENTERS = {"BEFORE_WITH", "BEFORE_ASYNC_WITH", "LOAD_SPECIAL"}
_JUMPS = {*dis.hasjrel, *dis.hasjabs}
_STORES = {dis.opmap[f"{verb}_{kind}"] for verb in ("STORE", "DELETE") for kind in ("ATTR", "GLOBAL", "NAME")}
_CELL_STORES = {dis.opmap["STORE_DEREF"], dis.opmap["DELETE_DEREF"]}
_EXTENDED = dis.opmap["EXTENDED_ARG"]
_CLOSURES = ("LOAD_CLOSURE", "LOAD_FAST", "LOAD_FAST_LOAD_FAST")  # the last two from Python 3.13 on


class Code:
    """Facts about one code object: the line of each instruction, and which of them can be told apart."""

    def __init__(self, code: CodeType):
        self.code = code
        self.line_at = {i: line for start, end, line in code.co_lines() if line for i in range(start, end, 2)}
        lines: dict[int, list[dis.Instruction]] = {}
        self._loops: set[int] = set()  # lines that jump back to themselves
        self.first_line = 0  # where each call begins
        self.entry: int | None = None  # the first instruction that does something, if it is on the function's own line
        last, begun = None, False
        # By line, the instructions that touch something: the offset, and the name that somebody has to store for that.
        self._operations: dict[int, list[tuple[int, str]]] = {}
        found = [i for i in dis.get_instructions(code) if i.offset in self.line_at]
        fixed = {i.offset for i in found if i.opname == "STORE_DEREF" and i.argval in fixed_cells(code)}
        for i, instruction in enumerate(found):
            offset, line = instruction.offset, self.line_at[instruction.offset]
            lines.setdefault(line, []).append(instruction)
            if not begun and last is not None and last.opname == "RESUME":
                begun, self.entry = True, offset if self.line_at[last.offset] == line else None
                self.first_line = line
            is_jump_back = instruction.opcode in _JUMPS and instruction.argval < offset
            if is_jump_back and self.line_at.get(instruction.argval) == line:
                self._loops.add(line)
            if instruction.opname not in LOCAL and not _is_harmless(instruction, last) and offset not in fixed:
                name = _looked_up(code, instruction, found[i + 1] if i + 1 < len(found) else None)
                self._operations.setdefault(line, []).append((offset, name))
            last = instruction
        freeing = {self.line_at[i] for i in _that_free(code, found)}
        self.local_lines = {n for n, some in lines.items() if n not in freeing and all(i.opname in LOCAL for i in some)}
        self.lock_lines = {
            n: names for n, found in lines.items() if (names := _names_before_with(code, found)) is not None
        }
        self.enters = {i.offset for found in lines.values() for i in found if i.opname in _ENTERS}
        self._looks_up = {i.offset: str(i.argval) for i in found if i.opname == "LOAD_ATTR"}
        self.checks = checks_of(code)  # by offset, for instructions that touch nothing if they get certain values

    def points(self, stored: Set[str] | None, every_line: bool = False) -> frozenset[int]:
        """Return the offsets of the instructions at which a switch can matter, in all lines that have to be split.

        Args:
            stored: the names that some code may store meanwhile: the lookup of another name touches nothing. None means
                all names.
            every_line: whether the other lines are taken for lines that have to be split.
        """
        points: list[int] = []
        for line, operations in self._operations.items():
            offsets = [offset for offset, name in operations if not name or stored is None or name in stored]
            if every_line or len(offsets) > (line not in self._loops):
                points += offsets
        return frozenset(points)

    def names_for(self, point: int, points: Set[int]) -> set[str]:
        """Return the names that have to be stored, besides others, for an offset to be a point, and not the first.

        Args:
            point: the offset.
            points: those that there are.
        """
        operations = self._operations.get(self.line_at.get(point, 0), [])
        if all(offset != point for offset, _ in operations):  # the end of a function (see `returns`)
            return set()
        own = {self._looks_up.get(point, "")}
        if any(offset < point and offset in points for offset, _ in operations):
            return own | {name for offset, name in operations if offset == point}
        return own | {name for offset, name in operations if offset <= point}


def _that_free(code: CodeType, instructions: list[dis.Instruction]) -> Iterator[int]:
    """Yield the offsets of instructions that may free an object, which others can see: in a `WeakValueDictionary`, say.

    An assignment frees what the name held before, unless this was nothing or a constant.
    """
    stores: dict[str, list[tuple[int, bool]]] = {}  # by name: the offset, and whether a constant is stored
    jumps_back = [(i.argval, i.offset) for i in instructions if i.opcode in _JUMPS and i.argval < i.offset]
    parameters = code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & 4) + bool(code.co_flags & 8)
    given, last = set(code.co_varnames[:parameters]), None
    for i in instructions:
        if i.opname in ("DELETE_FAST", "POP_EXCEPT"):
            yield i.offset
        elif i.opname.startswith("STORE_FAST"):
            names = _names_in(i)
            is_constant = i.opname == "STORE_FAST" and _follows(i, last, {"LOAD_CONST"})
            for name in names[: 1 if i.opname == "STORE_FAST_LOAD_FAST" else None]:
                stores.setdefault(name, []).append((i.offset, is_constant))
        last = i
    for name, found in stores.items():
        for n, (offset, is_constant) in enumerate(found):
            is_again = not is_constant and any(start <= offset <= end for start, end in jumps_back)
            others = [constant for other, (_, constant) in enumerate(found) if other != n]
            if name in given or is_again or not all(others):
                yield offset


def _is_harmless(instruction: dis.Instruction, last: dis.Instruction | None) -> bool:
    """Return whether an instruction works only on what the one before it has just made."""
    if instruction.opname in _TRUTH or (instruction.opname == "UNARY_NOT" and _TRUTH_IS_TESTED_BEFORE):
        return _TRUTH_IS_TESTED_BEFORE or _follows(instruction, last, _BOOLS)
    return instruction.opname == "LIST_EXTEND" and _follows(instruction, last, {"LOAD_CONST"})  # [1, 2, 3]


def _follows(instruction: dis.Instruction, last: dis.Instruction | None, names: Set[str]) -> bool:
    return last is not None and last.opname in names and not instruction.is_jump_target


def _looked_up(code: CodeType, instruction: dis.Instruction, following: dis.Instruction | None) -> str:
    """Return the name that an instruction looks up, if nothing can come of that but what was stored under it; or "".

    Such are variables, and attributes that are called or entered by `with` at once. Of other attributes, an object
    written in C may change the value by itself, as a file does that of `closed`.
    """
    name, opname = instruction.argval, instruction.opname
    if opname == "LOAD_DEREF":
        return cell_name(code, name)
    if opname in ("LOAD_ATTR", "LOAD_SUPER_ATTR") and "LOAD_METHOD" not in _names_in_use():
        is_method = bool((instruction.arg or 0) & 1)
    else:
        is_method = opname in _LOOKUPS
    is_entered = opname == "LOAD_ATTR" and following is not None and following.opname in _ENTERS
    return str(name) if is_method or is_entered else ""


@lru_cache(maxsize=1)
def _names_in_use() -> frozenset[str]:
    """Return the names of the instructions that this Python's compiler produces for a call of a method."""
    code = compile("a.b()", "", "eval")
    return frozenset(i.opname for i in dis.get_instructions(code))


def _names_before_with(code: CodeType, found: list[dis.Instruction]) -> set[str] | None:
    """Return the names that a line looks up before it enters a `with`, as `with self.lock:`; None if it does more."""
    names: set[str] = set()
    for instruction in found:
        if instruction.opname in _ENTERS:
            return names
        if instruction.opname in _NAME_READERS:
            names |= {str(instruction.argval), cell_name(code, instruction.argval)}
        elif instruction.opname not in LOCAL:
            return None
    return None


@once_per_code
def stored_names(code: CodeType) -> frozenset[str]:
    """Return the names that a code object may store or delete somewhere: also every name in its string constants.

    The variables of enclosing functions (cells) are a kind of their own: `cell x` of a file.
    """
    names = set(_strings(code.co_consts))
    for is_cell, name in _stores(code):
        if not is_cell:
            names.add(name)
        elif name not in fixed_cells(code):
            names.add(cell_name(code, name))
    return frozenset(names)


def _stores(code: CodeType) -> Iterator[tuple[bool, str]]:
    """Yield each name that a code object itself stores or deletes, and whether it is a cell.

    All code that runs is looked at, so the bytes are read here: `dis` would take ten times as long.
    """
    fast = variable_names(code)
    argument = 0
    for opcode, low in zip(code.co_code[::2], code.co_code[1::2], strict=True):
        argument = argument << 8 | low
        if opcode == _EXTENDED:
            continue
        if opcode in _STORES:
            yield False, code.co_names[argument]
        elif opcode in _CELL_STORES:
            yield True, fast[argument]
        argument = 0


def _stores_cell(code: CodeType, name: str) -> bool:
    """Return whether a function, or one inside it, may store or delete a variable of an enclosing function."""
    if name in code.co_freevars:
        if (True, name) in _stores(code):
            return True
        return any(_stores_cell(inner, name) for inner in code.co_consts if isinstance(inner, CodeType))
    return False


@once_per_code
def fixed_cells(code: CodeType) -> frozenset[str]:
    """Return the variables of a function that it stores only before another function can know them."""
    return frozenset(_fixed_cells(code))


def _fixed_cells(code: CodeType) -> Iterator[str]:
    instructions = list(dis.get_instructions(code))
    jumps_back = [(i.argval, i.offset) for i in instructions if i.opcode in _JUMPS and i.argval < i.offset]
    for name in code.co_cellvars:
        stores = [i.offset for i in instructions if i.opcode in _CELL_STORES and i.argval == name]
        known = [i.offset for i in instructions if i.opname in _CLOSURES and name in _names_in(i)]
        first = min([*known, *(start for n in known for start, end in jumps_back if start <= n <= end)], default=0)
        inner = [c for c in code.co_consts if isinstance(c, CodeType)]
        if max(stores, default=0) < first and not any(_stores_cell(c, name) for c in inner):
            yield name


def _names_in(instruction: dis.Instruction) -> tuple[str, ...]:
    return instruction.argval if isinstance(instruction.argval, tuple) else (instruction.argval,)


def _strings(constants: object) -> Iterator[str]:
    if isinstance(constants, str) and constants.isidentifier():
        yield constants
    elif isinstance(constants, tuple | frozenset):
        for constant in constants:
            yield from _strings(constant)
