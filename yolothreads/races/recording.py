"""Records what the threads of a run read and write, instruction by instruction, in all Python code that they run.

Only CPython 3.11 is known here (`can_read_stack`): the operands of an instruction are read from its frame's stack.
"""

from __future__ import annotations

import dis
import gc
import sys
import weakref
from _thread import get_ident
from collections.abc import Callable, Mapping
from pathlib import Path
from types import CodeType, FrameType, FunctionType, GeneratorType
from typing import Any

from yolothreads.races import harmless
from yolothreads.races.accesses import ITERATORS, PYTHON, VIEWS, Accesses
from yolothreads.races.by_code import variable_names
from yolothreads.races.bytecode import LOCAL
from yolothreads.races.frames import NOTHING, Frame
from yolothreads.races.pieces import Piece
from yolothreads.races.threads import LogEntry, Task
from yolothreads.races.unhooked import is_hidden, name_of, type_of

_EXPLORER = f"{Path(__file__).parent}/"

Handler = Callable[[Accesses, Frame, Any], None]


class Instructions:
    """What the instructions of a code object touch: `handlers` holds a function and its argument, by the offset."""

    def __init__(self, code: CodeType):
        self.code = code
        self.handlers: dict[int, tuple[Handler, Any]] = {}
        targets = {entry.target for entry in dis._parse_exception_table(code)}  # type: ignore[attr-defined]
        keywords: tuple[str, ...] = ()
        last: dis.Instruction | None = None
        for i in dis.get_instructions(code):
            is_target = i.is_jump_target or i.offset in targets
            made, last = None if is_target or last is None else self._making(last), i
            handler, argument = _HANDLERS.get(i.opname), i.argval
            if i.opname == "KW_NAMES":
                keywords = code.co_consts[i.arg or 0]
            elif i.opname == "CALL":
                argument, keywords = (i.arg, keywords), ()
            elif i.opname in _BY_NUMBER:
                argument = i.arg
            if handler is None and i.opname not in LOCAL:
                handler, argument = _unknown, i.opname
            if made is not None and handler is not None:
                handler = _one_after_the_other(made, handler)
            if handler is not None or made is not None:
                self.handlers[i.offset] = handler or made, argument  # type: ignore[assignment]

    def _making(self, instruction: dis.Instruction) -> Handler | None:
        """Return what notes, after an instruction, that it has made a new object; None if it makes none."""
        if instruction.opname in ("BUILD_LIST", "BUILD_MAP", "BUILD_SET", "BUILD_CONST_KEY_MAP"):
            return lambda seen, stack, _: seen.made.add(id(stack.peek()))
        if instruction.opname == "GET_ITER":
            return lambda seen, stack, _: seen.made.add(id(stack.peek())) if seen.makes_iterator else None
        if instruction.opname == "RESUME" and instruction.arg == 0 and self.code.co_cellvars:
            inside = self.code.co_cellvars
            cells = [i for i, name in enumerate(variable_names(self.code)) if name in inside]
            return lambda seen, stack, _: seen.made.update([id(stack.cell(i)) for i in cells])
        return None


_OPERATORS = (
    "add", "and", "floordiv", "lshift", "matmul", "mul", "mod", "or", "pow", "rshift", "sub", "truediv", "xor",
)  # fmt: skip  # in the order of their numbers; those in place follow


def _method_names(number: int) -> tuple[str, ...]:
    name = _OPERATORS[number % len(_OPERATORS)]
    own = (f"__{name}__", f"__r{name}__")
    return own if number < len(_OPERATORS) else (f"__i{name}__", *own)


def _one_after_the_other(first: Callable[..., None], second: Callable[..., None]) -> Callable[..., None]:
    def both(seen: Accesses, stack: Frame, argument: Any) -> None:
        first(seen, stack, argument)
        second(seen, stack, argument)

    return both


def _unknown(seen: Accesses, stack: Frame, name: str) -> None:
    seen.everything(name)


def _load_global(seen: Accesses, stack: Frame, name: str) -> None:
    space, others = stack.frame.f_globals, stack.frame.f_builtins
    if type(space) is not dict or type(others) is not dict:
        seen.everything("looks up a global name in a mapping")
        return
    seen.read(id(space), name)
    if name not in space:
        seen.read(id(others), name)


def _load_name(seen: Accesses, stack: Frame, name: str) -> None:
    own = stack.frame.f_locals
    if type(own) is not dict:
        seen.everything("LOAD_NAME")
    elif own is not stack.frame.f_globals:
        seen.read(id(own), name)
        if name in own:
            return
    _load_global(seen, stack, name)


def _store_name(seen: Accesses, stack: Frame, name: str) -> None:
    own = stack.frame.f_locals
    if type(own) is not dict:
        seen.everything("STORE_NAME")
    else:
        seen.write_key(own, name)


def _store_global(seen: Accesses, stack: Frame, name: str) -> None:
    seen.write_key(stack.frame.f_globals, name)


def _load_cell(seen: Accesses, stack: Frame, at: int) -> None:
    seen.read(id(stack.cell(at)))


def _store_cell(seen: Accesses, stack: Frame, at: int) -> None:
    seen.write(id(stack.cell(at)))


def _load_attribute(seen: Accesses, stack: Frame, name: str) -> None:
    seen.get_attribute(stack.peek(), name)


def _store_attribute(seen: Accesses, stack: Frame, name: str) -> None:
    seen.set_attribute(stack.peek(), name)


def _import(seen: Accesses, stack: Frame, name: str) -> None:
    modules, space = sys.modules, stack.frame.f_builtins
    seen.read(id(space), "__import__")
    if space.get("__import__") is not _IMPORT or stack.peek(2) != 0:
        seen.everything("imports a module")
        return
    parts = name.split(".")
    for i in range(len(parts)):
        part = ".".join(parts[: i + 1])
        seen.read(id(modules), part)
        if part not in modules or getattr(getattr(modules[part], "__spec__", None), "_initializing", False):
            seen.everything("imports a module")


_IMPORT = __import__


def _enter(seen: Accesses, stack: Frame, argument: Any) -> None:
    manager = stack.peek()
    method = seen.find(type(manager), "__enter__")
    if type(method) in PYTHON or method is NOTHING:
        return
    seen.call(method, (manager,))


def _leave(seen: Accesses, stack: Frame, argument: Any) -> None:
    seen.call(stack.peek(4), (None, None, None))


def _raise(seen: Accesses, stack: Frame, count: int) -> None:
    for n in range(1, count + 1):
        error = stack.peek(n)
        if issubclass(type_of(error), type):
            seen.call(error, ())
        else:
            seen.write(id(error))


def _call(seen: Accesses, stack: Frame, argument: tuple[int, tuple[str, ...]]) -> None:
    count, keywords = argument
    function, own = stack.peek(count + 2), stack.peek(count + 1)
    if function is NOTHING:
        function, own = own, NOTHING
    if type(function) is FunctionType:
        return
    arguments = tuple([stack.peek(n) for n in range(count, 0, -1)])
    if own is not NOTHING:
        arguments = own, *arguments
    _called(seen, function, arguments, keywords)


def _called(seen: Accesses, function: Any, arguments: tuple[Any, ...], keywords: tuple[str, ...]) -> None:
    count = len(arguments) - len(keywords)
    seen.call(function, arguments[:count], dict(zip(keywords, arguments[count:], strict=True)))


def _call_ex(seen: Accesses, stack: Frame, flags: int) -> None:
    has_keywords = flags & 1
    keywords = stack.peek() if has_keywords else {}
    arguments = stack.peek(1 + has_keywords)
    function = stack.peek(2 + has_keywords)
    if type(function) is FunctionType and type(arguments) is tuple and not keywords:
        return
    if type(arguments) not in (tuple, list) or type(keywords) is not dict:
        seen.everything("calls with *arguments")
        return
    seen.consume(arguments)
    seen.consume_hashed(keywords)
    seen.call(function, tuple(arguments), dict(keywords))


def _unpack(seen: Accesses, stack: Frame, argument: Any) -> None:
    seen.consume(stack.peek())


def _format(seen: Accesses, stack: Frame, flags: int) -> None:
    value = stack.peek(2 if flags & 4 else 1)
    if not (seen.is_text if flags & 2 else seen.is_printable)(value):
        seen.everything(f"formats a {name_of(type_of(value))}")


def _get_iterator(seen: Accesses, stack: Frame, argument: Any) -> None:
    thing = stack.peek()
    seen.makes_iterator = type(thing) in (list, tuple, dict, set, range, str, *VIEWS)
    seen.iterate(thing)


def _send(seen: Accesses, stack: Frame, argument: Any) -> None:
    if type(stack.peek(2)) is GeneratorType or type(stack.peek(2)) in ITERATORS:
        seen.advance(stack.peek(2))
    else:
        seen.everything("awaits")


def _hashed(n: int) -> Callable[..., None]:
    def handle(seen: Accesses, stack: Frame, argument: Any) -> None:
        if not seen.is_hashable(stack.peek(n)):
            seen.everything("hashes a value")

    return handle


def _build_map(seen: Accesses, stack: Frame, count: int) -> None:
    if not all(seen.is_hashable(stack.peek(2 * n + 2)) for n in range(count)):
        seen.everything("hashes a value")


def _build_set(seen: Accesses, stack: Frame, count: int) -> None:
    if not all(seen.is_hashable(stack.peek(n + 1)) for n in range(count)):
        seen.everything("hashes a value")


def _merge(seen: Accesses, stack: Frame, argument: Any) -> None:
    mapping = stack.peek()
    if type(mapping) is dict:
        seen.consume_hashed(mapping)
    else:
        seen.everything("merges a mapping")


_TRUTH_TESTS = (
    "POP_JUMP_FORWARD_IF_TRUE", "POP_JUMP_FORWARD_IF_FALSE",
    "POP_JUMP_BACKWARD_IF_TRUE", "POP_JUMP_BACKWARD_IF_FALSE", "JUMP_IF_TRUE_OR_POP", "JUMP_IF_FALSE_OR_POP",
    "UNARY_NOT",
)  # fmt: skip
_HANDLERS: dict[str, Callable[..., None]] = {
    "LOAD_GLOBAL": _load_global, "LOAD_NAME": _load_name, "STORE_NAME": _store_name, "DELETE_NAME": _store_name,
    "STORE_GLOBAL": _store_global, "DELETE_GLOBAL": _store_global, "LOAD_DEREF": _load_cell, "STORE_DEREF": _store_cell,
    "DELETE_DEREF": _store_cell, "LOAD_CLASSDEREF": _load_cell, "LOAD_ATTR": _load_attribute,
    "LOAD_METHOD": _load_attribute, "STORE_ATTR": _store_attribute,
    "DELETE_ATTR": _store_attribute, "IMPORT_NAME": _import, "IMPORT_FROM": _load_attribute,
    "BINARY_SUBSCR": lambda seen, stack, _: seen.get_item(stack.peek(2), stack.peek()),
    "STORE_SUBSCR": lambda seen, stack, _: seen.set_item(stack.peek(2), stack.peek()),
    "DELETE_SUBSCR": lambda seen, stack, _: seen.set_item(stack.peek(2), stack.peek(), True),
    "BINARY_OP": lambda seen, stack, n: seen.binary(stack.peek(2), stack.peek(), _method_names(n), n >= 13),
    "COMPARE_OP": lambda seen, stack, _: seen.compare(stack.peek(2), stack.peek()),
    "CONTAINS_OP": lambda seen, stack, _: seen.contains(stack.peek(), stack.peek(2)),
    "UNARY_NEGATIVE": lambda seen, stack, _: seen.binary(stack.peek(), 0, ("__neg__",), False),
    "UNARY_INVERT": lambda seen, stack, _: seen.binary(stack.peek(), 0, ("__invert__",), False),
    "GET_ITER": _get_iterator,
    "GET_YIELD_FROM_ITER": lambda seen, stack, _: seen.iterate(stack.peek()),
    "FOR_ITER": lambda seen, stack, _: seen.advance(stack.peek()),
    "GET_LEN": lambda seen, stack, _: seen.length(stack.peek()),
    "SEND": _send, "UNPACK_SEQUENCE": _unpack, "UNPACK_EX": _unpack, "LIST_EXTEND": _unpack,
    "SET_UPDATE": lambda seen, stack, _: seen.consume_hashed(stack.peek()), "DICT_UPDATE": _merge,
    "DICT_MERGE": _merge, "SET_ADD": _hashed(1), "MAP_ADD": _hashed(2), "BUILD_MAP": _build_map,
    "BUILD_SET": _build_set, "CALL": _call, "CALL_FUNCTION_EX": _call_ex, "BEFORE_WITH": _enter,
    "WITH_EXCEPT_START": _leave, "RAISE_VARARGS": _raise, "FORMAT_VALUE": _format,
    "YIELD_VALUE": lambda seen, stack, _: seen.truth(stack.peek()),
    "LOAD_BUILD_CLASS": lambda seen, stack, _: None,
    **{name: lambda seen, stack, _: seen.truth(stack.peek()) for name in _TRUTH_TESTS},
}  # fmt: skip
_BY_NUMBER = {
    "LOAD_DEREF", "STORE_DEREF", "DELETE_DEREF", "LOAD_CLASSDEREF", "BINARY_OP", "CALL_FUNCTION_EX", "BUILD_MAP",
    "BUILD_SET", "RAISE_VARARGS", "FORMAT_VALUE",
}  # fmt: skip


_instructions: dict[int, Instructions] = {}  # by the id of the code object, which is kept in it


class Recorder:
    """Records a run: its pieces, in the order in which they took place.

    Args:
        task_of: the controlled threads, by their identifiers.
        log: returns the log of the run.
        stop: the label of a thread, and the index in the log where it is stopped: what happens after it has gone on
            is not recorded.
        has_hidden_callbacks: whether there are any before the run.
    """

    def __init__(
        self,
        task_of: Mapping[int, Task],
        log: Callable[[], list[LogEntry]],
        stop: tuple[str, int],
        has_hidden_callbacks: bool = False,
    ) -> None:
        self.pieces: list[Piece] = []
        self.stop, self.is_over = stop, False
        self._threads: list[_RecordedThread] = []
        self._task_of, self._log, self._has_hidden_callbacks = task_of, log, has_hidden_callbacks

    def trace_functions(self, inner: Callable[[FrameType, str, Any], Any]) -> Callable[..., Any]:
        """Make the trace function of the calling thread; `inner` is the one that stops it."""
        log = self._log()
        thread = _RecordedThread(self._task_of[get_ident()].label, log, self)
        self._threads.append(thread)
        known, record = _instructions, thread.record

        def local(frame: FrameType, kind: str, arg: Any) -> Any:
            if len(log) != thread.length:
                thread.begin_piece(frame.f_back)
            if self.is_over:
                frame.f_trace_opcodes = False
            elif kind == "opcode" and (found := known[id(frame.f_code)].handlers.get(frame.f_lasti)) is not None:
                record(frame, *found)
            return local

        def with_inner(function: Any, has_points: bool) -> Any:
            def both(frame: FrameType, kind: str, arg: Any) -> Any:
                function(frame, kind, arg)
                local(frame, kind, arg)
                frame.f_trace_opcodes = has_points or not self.is_over
                return both

            return both

        def call(frame: FrameType, kind: str, arg: Any) -> Any:
            code = frame.f_code
            if len(log) != thread.length:
                thread.begin_piece(frame.f_back)
            if code.co_filename.startswith(_EXPLORER):
                caller = "" if frame.f_back is None else frame.f_back.f_code.co_filename
                if not (self.is_over or caller.startswith(_EXPLORER)):
                    thread.enter_explorer(frame)
                return None
            frame.f_trace_opcodes = False
            function = inner(frame, kind, arg)
            has_points = frame.f_trace_opcodes
            if self.is_over:
                return function
            if id(code) not in known:
                known[id(code)] = Instructions(code)
            frame.f_trace_opcodes = True
            frame.f_trace_lines = frame.f_trace_lines and function is not None
            return local if function is None else with_inner(function, has_points)

        return call

    @property
    def has_hidden_callbacks(self) -> bool:
        """Whether there is a weak reference that calls a C function when its object vanishes."""
        return self._has_hidden_callbacks or any(thread.seen.makes_hidden_callbacks for thread in self._threads)


class _RecordedThread:
    """Records one thread."""

    def __init__(self, name: str, log: list[LogEntry], recorder: Recorder):
        self._name, self._log, self._recorder, self._pieces = name, log, recorder, recorder.pieces
        self.seen = Accesses()
        self.length = self._entry = -1  # of the log when the last piece began; the thread's last entry then
        self._awaited: int | None = None  # the id of the lock that the thread has asked for last
        self._last: dict[int, tuple[int, list[Any]]] = {}  # by the id of a frame: its last instruction, its accesses

    def record(self, frame: FrameType, handler: Handler, argument: Any) -> None:
        """Record an instruction that is about to run."""
        seen = self.seen
        seen.own.clear()
        now: list[Any] = []
        seen.now = now
        try:
            handler(seen, Frame(frame, seen.own), argument)
        except Exception as error:
            seen.everything(f"could not be recorded: {type(error).__name__}")
        if now:
            self._last[id(frame)] = frame.f_lasti, now

    def enter_explorer(self, frame: FrameType) -> None:
        """Record the call of a function of this package, such as the one that takes the place of a lock's `acquire`."""
        seen, own, name = self.seen, frame.f_locals, frame.f_code.co_name
        seen.own.clear()
        self._awaited = None
        if name == "acquire" and own.get("timeout") == -1:
            self._awaited = id(own["self"])
            seen.write(self._awaited)
        elif name == "now":
            seen.write(harmless.CLOCK)
        else:
            seen.everything(f"calls {name}")

    def begin_piece(self, frame: FrameType | None) -> None:
        """Begin a piece; `frame` is the caller of the current one.

        C code that is in the middle of an instruction, because it has called Python code, may go on to touch what it
        touches. A thread that comes back from a wait for a lock takes it.
        """
        seen, log, name = self.seen, self._log, self._name
        self.length = len(log)
        if name == self._recorder.stop[0] and len(log) > self._recorder.stop[1]:
            self._recorder.is_over = True
        if self._recorder.is_over:
            return
        entry = next((i for i in range(len(log) - 1, -1, -1) if log[i][0].label == name), -1)
        if not self._pieces or self._pieces[-1].name != name:
            seen.begin_turn()
        for i in range(self._entry + 1, entry):
            if log[i][0].label == name:  # C code alone ran there, perhaps
                missed = Piece(name, i + 1, i)
                missed.touched.everything = "not seen"
                self._pieces.append(missed)
        piece, self._entry = Piece(name, len(log), entry), entry
        self._pieces.append(piece)
        seen.touched, seen.of_new, seen.now = piece.touched, piece.of_new, []
        if entry >= 0 and isinstance(log[entry][1], str):
            if self._awaited is None:
                seen.everything("waits")
            else:
                seen.write(self._awaited)
        while frame is not None:
            at, accesses = self._last.get(id(frame), (-1, []))
            for access in accesses if at == frame.f_lasti else ():
                if isinstance(access, str):
                    seen.everything(access)
                else:
                    (seen.write if access[0] else seen.read)(*access[1:])
            frame = frame.f_back


def has_hidden_callbacks() -> bool:
    """Return whether a weak reference calls a C function when its object vanishes, which no instruction shows."""
    for thing in gc.get_objects():
        if issubclass(type(thing), weakref.ReferenceType) and is_hidden(thing.__callback__):
            return True
    return False
