"""Stop a thread just before a line, or an instruction, of watched code.

From Python 3.12 on this uses sys.monitoring, before that sys.settrace. Code that is not watched runs as ever. With
sys.monitoring that costs nothing; Python 3.11 slows down every line of a traced thread, watched or not.
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
from functools import lru_cache, partial
from pathlib import Path
from types import CodeType, FrameType, FunctionType, MethodType, ModuleType
from typing import Any

from yolothreads.errors import ExploreError
from yolothreads.races.results import Where

MONITORING = sys.version_info >= (3, 12)
_FREE_TOOLS = (4, 3)  # the ids that sys.monitoring reserves for no particular kind of tool
_OWNERS = {0: "a debugger", 1: "a coverage tool", 2: "a profiler"}

# Instructions that touch nothing but the thread's own names. A switch before one of them has the same effect as a
# switch after it, provided that a name's old value vanishes without effect.
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


class Code:
    """Facts about one watched code object: the line of each instruction, and which of them can be told apart."""

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


def _only_locks(found: list[dis.Instruction]) -> bool:
    """Return whether a line only looks up names before it enters a `with`: `with self.lock:`."""
    first = next((i.opname for i in found if i.opname not in _LOCAL and i.opname not in _READS), "")
    return first in ("BEFORE_WITH", "LOAD_SPECIAL")


def _reads_and_writes(found: list[dis.Instruction]) -> bool:
    """Return whether one line reads and then writes the same shared thing: `x += 1`, `d[k] = d.get(k, 0) + 1`."""
    read: set[tuple[str, str]] = set()
    for instruction in found:
        reads, writes = _READS.get(instruction.opname, ""), _WRITES.get(instruction.opname, "")
        name = "" if "item" in (reads, writes) else str(instruction.argval)
        if writes and (writes, name) in read:
            return True
        read.add((reads, name))
        if reads == "attribute" and name in _ITEM_READERS:
            read.add(("item", ""))
    return False


class Watch:
    """The code whose lines are switch points: modules, packages, classes or functions, by name or as objects.

    With `instructions`, a place in a code object is the offset of an instruction, and otherwise the number of a line.
    """

    def __init__(self, watch: Iterable[Any], instructions: bool = False):
        self.instructions = instructions
        self.files: set[str] = set()
        self.folders: tuple[str, ...] = ()
        self.packages: list[str] = []  # the top-level names, whose versions a schedule carries
        self._codes: list[CodeType] = []  # of watched functions and classes
        self.known: dict[int, Code | None] = {}  # by the id of the code object: comparing code objects is slow
        self._kept: list[CodeType] = []  # the code objects with these ids, so that no other can get one of them
        for entry in [watch] if isinstance(watch, str | ModuleType) else watch:
            self._add(_import(entry) if isinstance(entry, str) else entry)
        self._ids = {id(code) for code in self._codes}

    def _add(self, entry: Any) -> None:
        is_module, file = isinstance(entry, ModuleType), getattr(entry, "__file__", None)
        name = entry.__name__ if is_module else getattr(entry, "__module__", None) or ""
        if is_module and hasattr(entry, "__path__"):
            self.folders += tuple(f"{Path(folder)}/" for folder in entry.__path__)
        elif is_module and file and file.endswith(".py"):
            self.files.add(file)
        elif is_module and name == "__main__" and file is None:  # a notebook: its cells are known by their definitions
            self._codes += [code for thing in vars(entry).values() if _is_of_main(thing) for code in _codes(thing)]
            self.files.update(code.co_filename for code in self._codes)
        elif is_module:
            raise ExploreError(f"watch names '{name}', which has no Python lines; name a module written in Python.")
        elif codes := list(_codes(entry)):
            self._codes += codes
        else:
            raise ExploreError(f"watch holds {entry!r}, which has no Python lines; name a module, class or function.")
        self.packages.append(name.split(".")[0])

    def facts(self, code: CodeType) -> Code:
        """Return the facts about a code object that is watched and has run."""
        return self.known[id(code)]  # type: ignore[return-value]

    def where(self, code: CodeType, at: int) -> Where:
        """Return the source of a place."""
        line = self.facts(code).line_at[at] if self.instructions else at
        return Where(code.co_filename, code.co_name, line, linecache.getline(code.co_filename, line).strip())

    def get(self, code: CodeType) -> Code | None:
        """Return the facts about a code object; None if it is not watched."""
        if id(code) not in self.known:
            name = code.co_filename
            watched = name in self.files or name.startswith(self.folders or ("\0",)) or id(code) in self._ids
            self._kept.append(code)
            self.known[id(code)] = _facts_about(code) if watched else None
        return self.known[id(code)]

    def version(self) -> str:
        """Return what schedules depend on: Python, the versions of the watched packages, a digest of the source."""
        words = [f"py{sys.version_info.major}.{sys.version_info.minor}"]
        for package in dict.fromkeys(self.packages):
            number = getattr(sys.modules.get(package), "__version__", None)
            if isinstance(number, str):
                words.append(f"{package}-{number}"[:30])
        return " ".join([*words[:3], self._digest()])

    def _digest(self) -> str:
        """Return eight letters that change with the watched source."""
        files = [Path(file) for file in sorted(self.files) if Path(file).is_file()]
        files += [file for folder in self.folders for file in sorted(Path(folder).rglob("*.py"))]
        texts = [_text(file, file.stat().st_mtime_ns) for file in files]
        for code in self._codes:
            lines = linecache.getlines(code.co_filename)
            if code.co_filename not in self.files:
                texts.append("".join(inspect.getblock(lines[code.co_firstlineno - 1 :])) if lines else code.co_name)
        return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:8]


_all_facts: dict[int, Code] = {}


def _facts_about(code: CodeType) -> Code:
    """Return the facts about a code object, which are kept from one exploration to the next."""
    if id(code) not in _all_facts:
        _all_facts[id(code)] = Code(code)  # which keeps the code object, and so its id
    return _all_facts[id(code)]


@lru_cache(maxsize=1000)
def _text(file: Path, modified_ns: int) -> str:
    return f"{file.name}\n{file.read_text(encoding='utf-8', errors='replace')}"


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ExploreError(f"watch names '{name}', but there is no module '{error.name}'; check the name.") from error


def _is_of_main(thing: Any) -> bool:
    return isinstance(thing, FunctionType | type) and getattr(thing, "__module__", "") == "__main__"


def _codes(thing: Any) -> Iterator[CodeType]:
    """Yield the code objects of a function, a method, a class or a wrapper of one, with those nested inside."""
    parts: Iterable[Any] = ()
    if isinstance(thing, CodeType):
        yield thing
        parts = thing.co_consts
    elif isinstance(thing, type):
        inside = f"{thing.__qualname__}."
        parts = [m for m in vars(thing).values() if not isinstance(m, type) or m.__qualname__.startswith(inside)]
    elif isinstance(thing, property):
        parts = (thing.fget, thing.fset, thing.fdel)
    elif isinstance(thing, staticmethod | classmethod | MethodType):
        parts = (thing.__func__,)
    elif isinstance(thing, partial):
        parts = (thing.func,)
    elif isinstance(thing, FunctionType):
        parts = (thing.__code__, getattr(thing, "__wrapped__", None))
    for part in parts:
        yield from _codes(part)


class Tracer:
    """Calls `event(code, at)` just before each watched line runs, in the thread that is about to run it."""

    def __init__(self, watch: Watch, event: Callable[[CodeType, int], None]):
        self.watch, self.event = watch, event
        self._on_call = self._trace_functions()

    def open(self) -> None:
        """Begin to watch."""

    def close(self) -> None:
        """Stop watching."""

    def begin_thread(self) -> None:
        """Watch the calling thread."""
        sys.settrace(self._on_call)

    def end_thread(self) -> None:
        """Stop watching the calling thread."""
        sys.settrace(None)

    def _trace_functions(self) -> Callable[[FrameType, str, Any], Any]:
        """Make the trace function, which Python calls whenever a traced thread enters a function.

        It is made of closures, because every call pays for it.
        """
        watch, known, event = self.watch, self.watch.known, self.event

        def line(frame: FrameType, kind: str, arg: Any) -> Any:
            if kind == "line":
                event(frame.f_code, frame.f_lineno)
            return line

        def opcode(frame: FrameType, kind: str, arg: Any) -> Any:
            if kind == "opcode" and frame.f_lasti in watch.facts(frame.f_code).shared:
                event(frame.f_code, frame.f_lasti)
            return opcode

        def call(frame: FrameType, kind: str, arg: Any) -> Any:
            code = frame.f_code
            if id(code) not in known:
                watch.get(code)
            if known[id(code)] is None:
                return None
            if not watch.instructions:
                return line
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
            return opcode

        return call


if MONITORING:
    from sys import monitoring  # type: ignore[attr-defined, unused-ignore]

    class Monitor(Tracer):
        """The same by sys.monitoring, which watches single code objects and leaves all others as they are."""

        def open(self) -> None:
            """Take a free tool id of sys.monitoring, and watch each function from its first start on."""
            self._tool = next((i for i in _FREE_TOOLS if monitoring.get_tool(i) is None), None)
            if self._tool is None:
                raise ExploreError("Both free places of sys.monitoring are taken; close the other tracing tools.")
            events, by_instruction = monitoring.events, self.watch.instructions
            self._kind = events.INSTRUCTION if by_instruction else events.LINE
            self._switched_on: list[CodeType] = []
            monitoring.use_tool_id(self._tool, "yolothreads")
            monitoring.register_callback(self._tool, events.PY_START, self._start)
            monitoring.register_callback(self._tool, self._kind, self._instruction if by_instruction else self.event)
            monitoring.set_events(self._tool, events.PY_START)
            monitoring.restart_events()

        def close(self) -> None:
            """Switch everything off again."""
            monitoring.set_events(self._tool, 0)
            for code in self._switched_on:
                monitoring.set_local_events(self._tool, code, 0)
            for kind in (monitoring.events.PY_START, self._kind):
                monitoring.register_callback(self._tool, kind, None)
            monitoring.free_tool_id(self._tool)

        def begin_thread(self) -> None:
            """Do nothing: all threads are watched."""

        def end_thread(self) -> None:
            """Do nothing: all threads are watched."""

        def _start(self, code: CodeType, offset: int) -> Any:
            if self.watch.get(code) is not None:
                self._switched_on.append(code)
                monitoring.set_local_events(self._tool, code, self._kind)
            return monitoring.DISABLE

        def _instruction(self, code: CodeType, offset: int) -> Any:
            if offset not in self.watch.facts(code).shared:
                return monitoring.DISABLE
            return self.event(code, offset)


def tracer(watch: Watch, event: Callable[[CodeType, int], None]) -> Tracer:
    """Return the tracer for this version of Python."""
    return Monitor(watch, event) if MONITORING else Tracer(watch, event)


def other_tracers() -> tuple[str, ...]:
    """Return the debuggers and coverage tools that trace this process too.

    With sys.monitoring they see the watched code as well; with sys.settrace they do not, for a thread has one tracer.
    """
    hooks = [hook for hook in (sys.gettrace(), threading.gettrace()) if hook is not None]
    modules = (getattr(hook, "__module__", None) or type(hook).__module__ for hook in hooks)
    found = list(dict.fromkeys(module.partition(".")[0] for module in modules))
    if MONITORING:
        found += [f"{what} ({monitoring.get_tool(i)})" for i, what in _OWNERS.items() if monitoring.get_tool(i)]
    return tuple(found)
