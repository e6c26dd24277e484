"""What is known of watched code: the line of each instruction, and which of them a switch can tell apart."""

from __future__ import annotations

import dis
import linecache
from pathlib import Path
from types import CodeType
from typing import NamedTuple

# Instructions that touch nothing but the thread's own names. A switch before such a one gives what a switch after it
# gives, provided that a name's old value vanishes without effect.
_LOCAL = frozenset({
    "RESUME", "NOP", "CACHE", "PUSH_NULL", "PRECALL", "KW_NAMES", "EXTENDED_ARG", "LOAD_CONST", "RETURN_GENERATOR",
    "COPY", "SWAP", "POP_TOP", "IS_OP", "LOAD_FAST", "LOAD_FAST_CHECK", "LOAD_FAST_AND_CLEAR", "LOAD_FAST_LOAD_FAST",
    "STORE_FAST", "STORE_FAST_STORE_FAST", "STORE_FAST_LOAD_FAST", "JUMP_FORWARD", "JUMP_BACKWARD",
    "JUMP_BACKWARD_NO_INTERRUPT", "POP_JUMP_IF_NONE",
    "POP_JUMP_IF_NOT_NONE", "POP_JUMP_FORWARD_IF_NONE", "POP_JUMP_FORWARD_IF_NOT_NONE",
    "POP_JUMP_BACKWARD_IF_NONE", "POP_JUMP_BACKWARD_IF_NOT_NONE", "BUILD_TUPLE", "BUILD_LIST", "BUILD_MAP", "MAKE_CELL",
    "COPY_FREE_VARS", "LOAD_CLOSURE", "MAKE_FUNCTION",
})  # fmt: skip
_READS = {
    "LOAD_GLOBAL": "global", "LOAD_NAME": "global", "LOAD_DEREF": "cell", "LOAD_ATTR": "attribute",
    "LOAD_METHOD": "attribute", "BINARY_SUBSCR": "item", "CONTAINS_OP": "item",
}  # fmt: skip
_WRITES = {
    "STORE_GLOBAL": "global", "STORE_NAME": "global", "STORE_DEREF": "cell", "STORE_ATTR": "attribute",
    "STORE_SUBSCR": "item",
}  # fmt: skip
_ITEM_READERS = {"get", "pop", "setdefault", "popitem", "keys", "values", "items", "copy"}


class Where(NamedTuple):
    """A place in the source: the line about to run."""

    file: str
    function: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{Path(self.file).name}:{self.line} in {self.function}: {self.text}"


class Code:
    """What is known of one watched code object: the line of each instruction, and which of them can be told apart."""

    def __init__(self, code: CodeType):
        self.code = code
        self.line_at = {i: line for start, end, line in code.co_lines() if line for i in range(start, end, 2)}
        lines: dict[int, list[dis.Instruction]] = {}
        for instruction in dis.get_instructions(code):
            if instruction.offset in self.line_at:
                lines.setdefault(self.line_at[instruction.offset], []).append(instruction)
        self.local_lines = {n for n, found in lines.items() if all(i.opname in _LOCAL for i in found)}
        self.unsplit_lines = {n for n, found in lines.items() if _reads_and_writes(found)}
        self.lock_lines = {n for n, found in lines.items() if _only_locks(found)}
        self.shared = {i.offset for found in lines.values() for i in found if i.opname not in _LOCAL}

    def where(self, at: int, instructions: bool = False) -> Where:
        """The place of a line number, or of the offset of an instruction."""
        line = self.line_at[at] if instructions else at
        text = linecache.getline(self.code.co_filename, line).strip()
        return Where(self.code.co_filename, self.code.co_name, line, text)


def _only_locks(found: list[dis.Instruction]) -> bool:
    """Whether a line does nothing before it enters a `with` but look up names: `with self.lock:`."""
    for instruction in found:
        if instruction.opname in ("BEFORE_WITH", "LOAD_SPECIAL"):
            return True
        if instruction.opname not in _LOCAL and instruction.opname not in _READS:
            return False
    return False


def _reads_and_writes(found: list[dis.Instruction]) -> bool:
    """Whether one line reads and then writes the same shared thing: `x += 1`, `d[k] = d.get(k, 0) + 1`."""
    read: set[tuple[str, str]] = set()
    for instruction in found:
        kind, name = _READS.get(instruction.opname, ""), str(instruction.argval)
        if kind:
            read.add((kind, "" if kind == "item" else name))
            if kind == "attribute" and name in _ITEM_READERS:
                read.add(("item", ""))
        kind = _WRITES.get(instruction.opname, "")
        if kind and (kind, "" if kind == "item" else name) in read:
            return True
    return False
