"""Stop a thread just before a line, or an instruction, of watched code: sys.monitoring from Python 3.12 on, else
sys.settrace.

Code that is not watched runs as ever. With sys.monitoring that costs nothing; Python 3.11 slows every line of a traced
thread, whether it is watched or not.
"""

from __future__ import annotations

import dis
import hashlib
import importlib
import inspect
import linecache
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from types import CodeType, FrameType, FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

from yolothreads.errors import ExploreError

Event = Callable[[CodeType, int], None]
MONITORING = sys.version_info >= (3, 12)
_FREE_TOOLS = (4, 3)  # the ids that sys.monitoring keeps for no particular kind of tool
_OWNERS = {0: "a debugger", 1: "a coverage tool", 2: "a profiler"}

# Instructions that touch nothing but the thread's own names. A switch before such a one gives what a switch after it
# gives, provided that a name's old value vanishes without effect.
_LOCAL = frozenset(
    "RESUME NOP CACHE PUSH_NULL PRECALL KW_NAMES EXTENDED_ARG LOAD_CONST RETURN_GENERATOR COPY SWAP POP_TOP IS_OP "
    "LOAD_FAST LOAD_FAST_CHECK LOAD_FAST_AND_CLEAR LOAD_FAST_LOAD_FAST STORE_FAST STORE_FAST_STORE_FAST "
    "STORE_FAST_LOAD_FAST JUMP_FORWARD JUMP_BACKWARD JUMP_BACKWARD_NO_INTERRUPT POP_JUMP_IF_NONE POP_JUMP_IF_NOT_NONE "
    "POP_JUMP_FORWARD_IF_NONE POP_JUMP_FORWARD_IF_NOT_NONE POP_JUMP_BACKWARD_IF_NONE POP_JUMP_BACKWARD_IF_NOT_NONE "
    "BUILD_TUPLE BUILD_LIST BUILD_MAP MAKE_CELL COPY_FREE_VARS LOAD_CLOSURE MAKE_FUNCTION".split()
)
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


class Watch:
    """The code whose lines are switch points: modules, packages, classes or functions, by name or as they are."""

    def __init__(self, watch: Iterable[Any]):
        self.files: set[str] = set()
        self.folders: tuple[str, ...] = ()
        self.packages: list[str] = []  # the top-level names, whose versions a schedule carries
        self._codes: list[CodeType] = []  # of watched functions and classes
        self._known: dict[int, tuple[CodeType, Code | None]] = {}  # by id: comparing code objects is slow
        named = [watch] if isinstance(watch, str | ModuleType) else list(watch)
        if not named:
            raise ExploreError("watch=[] names no code; name the modules whose lines may be interrupted.")
        for entry in named:
            self._add(_module(entry) if isinstance(entry, str) else entry)

    def _add(self, entry: Any) -> None:
        if isinstance(entry, ModuleType):
            self._add_module(entry)
        else:
            codes = list(_codes(entry))
            if not codes:
                raise ExploreError(
                    f"watch holds {entry!r}, which has no Python lines; name a module, class or function."
                )
            self._codes += codes
            self.packages.append((getattr(entry, "__module__", None) or "").split(".")[0])

    def _add_module(self, module: ModuleType) -> None:
        file = getattr(module, "__file__", None)
        if hasattr(module, "__path__"):
            self.folders += tuple(f"{Path(folder)}/" for folder in module.__path__)
        elif file and file.endswith(".py"):
            self.files.add(file)
        elif module.__name__ == "__main__" and file is None:  # a notebook: its cells are known by what they defined
            self._codes += [code for thing in vars(module).values() if _of_main(thing) for code in _codes(thing)]
            self.files.update(code.co_filename for code in self._codes)
        else:
            raise ExploreError(
                f"watch names '{module.__name__}', which has no Python lines; name a module written in Python."
            )
        self.packages.append(module.__name__.split(".")[0])

    def get(self, code: CodeType) -> Code | None:
        """What is known of a code object; None if it is not watched."""
        known = self._known.get(id(code))
        if known is None:
            name = code.co_filename
            watched = name in self.files or name.startswith(self.folders or ("\0",)) or code in self._codes
            known = self._known[id(code)] = (code, Code(code) if watched else None)
        return known[1]

    def digest(self) -> str:
        """Eight letters that change with the watched source."""
        files = [Path(file) for file in sorted(self.files) if Path(file).is_file()]
        files += [file for folder in self.folders for file in sorted(Path(folder).rglob("*.py"))]
        texts = [f"{file.name}\n{file.read_text(encoding='utf-8', errors='replace')}" for file in files]
        for code in self._codes:
            lines = linecache.getlines(code.co_filename)
            if code.co_filename not in self.files:
                texts.append("".join(inspect.getblock(lines[code.co_firstlineno - 1 :])) if lines else code.co_name)
        return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:8]


def _module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ExploreError(f"watch names '{name}', but there is no module '{error.name}'; check the name.") from error


def _of_main(thing: Any) -> bool:
    return isinstance(thing, FunctionType | type) and getattr(thing, "__module__", "") == "__main__"


def _codes(thing: Any) -> Iterator[CodeType]:
    """The code objects of a function, a method, a class or what wraps them, with those nested inside."""
    if isinstance(thing, CodeType):
        yield thing
        for constant in thing.co_consts:
            if isinstance(constant, CodeType):
                yield from _codes(constant)
    elif isinstance(thing, type):
        for member in vars(thing).values():
            if not isinstance(member, type) or member.__qualname__.startswith(f"{thing.__qualname__}."):
                yield from _codes(member)
    elif isinstance(thing, property):
        for part in (thing.fget, thing.fset, thing.fdel):
            yield from _codes(part)
    elif isinstance(thing, staticmethod | classmethod | MethodType):
        yield from _codes(thing.__func__)
    elif isinstance(thing, partial):
        yield from _codes(thing.func)
    elif isinstance(thing, FunctionType):
        yield from _codes(thing.__code__)
        if hasattr(thing, "__wrapped__"):
            yield from _codes(thing.__wrapped__)


class Tracer:
    """Calls `event(code, at)` just before each watched line runs, in the thread that is about to run it.

    `at` is the line number, or with `instructions` the offset of the instruction in its code object.
    """

    def __init__(self, watch: Watch, event: Event, instructions: bool = False):
        self.watch, self.event, self.instructions = watch, event, instructions

    def open(self) -> None:
        """Begin to watch."""

    def close(self) -> None:
        """Watch no longer."""

    def begin_thread(self) -> None:
        """Watch the calling thread."""
        sys.settrace(self._call)

    def end_thread(self) -> None:
        """Watch the calling thread no longer."""
        sys.settrace(None)

    def _call(self, frame: FrameType, kind: str, arg: Any) -> Any:
        known = self.watch.get(frame.f_code)
        if known is None:
            return None
        if not self.instructions:
            return self._line
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self._opcode

    def _line(self, frame: FrameType, kind: str, arg: Any) -> Any:
        if kind == "line":
            self.event(frame.f_code, frame.f_lineno)
        return self._line

    def _opcode(self, frame: FrameType, kind: str, arg: Any) -> Any:
        if kind == "opcode" and frame.f_lasti in self.watch.get(frame.f_code).shared:  # type: ignore[union-attr]
            self.event(frame.f_code, frame.f_lasti)
        return self._opcode


if MONITORING:
    from sys import monitoring  # type: ignore[attr-defined, unused-ignore]

    class Monitor(Tracer):
        """The same by sys.monitoring, which switches single code objects on and leaves all others as they are."""

        def open(self) -> None:
            self._tool = next((i for i in _FREE_TOOLS if monitoring.get_tool(i) is None), None)
            if self._tool is None:
                raise ExploreError("Both free places of sys.monitoring are taken; close the other tracing tools.")
            events = monitoring.events
            self._kind = events.INSTRUCTION if self.instructions else events.LINE
            self._switched_on: list[CodeType] = []
            monitoring.use_tool_id(self._tool, "yolothreads")
            monitoring.register_callback(self._tool, events.PY_START, self._start)
            monitoring.register_callback(self._tool, self._kind, self._instruction if self.instructions else self.event)
            monitoring.set_events(self._tool, events.PY_START)
            monitoring.restart_events()

        def close(self) -> None:
            monitoring.set_events(self._tool, 0)
            for code in self._switched_on:
                monitoring.set_local_events(self._tool, code, 0)
            for kind in (monitoring.events.PY_START, self._kind):
                monitoring.register_callback(self._tool, kind, None)
            monitoring.free_tool_id(self._tool)

        def begin_thread(self) -> None:
            pass

        def end_thread(self) -> None:
            pass

        def _start(self, code: CodeType, offset: int) -> Any:
            if self.watch.get(code) is not None:
                self._switched_on.append(code)
                monitoring.set_local_events(self._tool, code, self._kind)
            return monitoring.DISABLE

        def _instruction(self, code: CodeType, offset: int) -> Any:
            if offset not in self.watch.get(code).shared:  # type: ignore[union-attr]
                return monitoring.DISABLE
            return self.event(code, offset)


def tracer(watch: Watch, event: Event, instructions: bool = False) -> Tracer:
    """The way to stop threads that this Python offers."""
    return Monitor(watch, event, instructions) if MONITORING else Tracer(watch, event, instructions)


def other_tracers() -> tuple[str, ...]:
    """Debuggers and coverage tools that trace this process too: they do not see what the explored threads run."""
    found = [
        f"{type(hook).__module__}.{type(hook).__qualname__}"
        for hook in {id(h): h for h in (sys.gettrace(), threading.gettrace())}.values()
        if hook is not None
    ]
    if MONITORING:
        found += [f"{what} ({monitoring.get_tool(i)})" for i, what in _OWNERS.items() if monitoring.get_tool(i)]
    return tuple(found)
