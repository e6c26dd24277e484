"""Stop a thread just before a line, or an instruction, of watched code.

From Python 3.12 on this uses sys.monitoring, before that sys.settrace. Code that is not watched runs as ever. With
sys.monitoring that costs nothing; Python 3.11 slows down every line of a traced thread, watched or not.
"""

from __future__ import annotations

import sys
import threading
from _thread import get_ident
from collections.abc import Callable
from sys import getrecursionlimit, setrecursionlimit
from types import CodeType, FrameType, FunctionType
from typing import Any

from yolothreads.errors import ExploreError
from yolothreads.races.headroom import HEADROOM, set_at_any_depth
from yolothreads.races.operands import Check, touches_nothing
from yolothreads.races.recording import Recorder
from yolothreads.races.returns import goes_on_after
from yolothreads.races.watching import Watch

Checks = dict[int, Check]

MONITORING = sys.version_info >= (3, 12)
_FREE_TOOLS = (4, 3)  # the ids that sys.monitoring reserves for no particular kind of tool
_OWNERS = {0: "a debugger", 1: "a coverage tool", 2: "a profiler"}


class Tracer:
    """Calls `event(code, at)` just before each watched place is reached, in the thread that is about to run it.

    The first instruction of a line that touches something is no event: the line has just been one.
    """

    def __init__(self, watch: Watch, event: Callable[[CodeType, int], None]):
        self.watch, self.event = watch, event
        self.recorder: Recorder | None = None  # of the next run
        self._noting: set[int] = set()  # identifiers of the threads that are watched no longer
        self.turns = 0  # counts how often the turn has passed on
        self._on_call = self._trace_functions()

    def open(self) -> None:
        """Begin to watch."""

    def close(self) -> None:
        """Stop watching."""

    def begin_thread(self) -> None:
        """Watch the calling thread, which is controlled."""
        sys.settrace(self._on_call if self.recorder is None else self.recorder.trace_functions(self._on_call))

    def end_thread(self) -> None:
        """Stop watching the calling thread."""
        self._noting.discard(get_ident())
        sys.settrace(None)

    def only_note(self) -> None:
        """Watch the calling thread no longer; but note the code that it runs, because that may store further names."""
        self._noting.add(get_ident())
        sys.settrace(self._on_call)
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            frame.f_trace, frame = None, frame.f_back

    def has_lost_thread(self) -> bool:
        """Return whether Python has stopped to watch the calling thread, because the trace function raised an error."""
        return sys.gettrace() is None

    def refresh(self) -> None:
        """Learn which points have been added to code that is watched already."""

    def _at_end(self, frame: FrameType) -> None:
        """Stop a thread at the end of a watched function, also by an exception, if C code may go on after that."""
        code, offset = frame.f_code, frame.f_lasti
        line = self.watch.facts(code).line_at.get(offset)
        if line is None or not goes_on_after(frame, self.watch):
            return
        if self.watch.granularity == "line":
            self.watch.unsplit_ends.add((id(code), line))
        else:
            self.event(code, ~offset)

    def _trace_functions(self) -> Callable[[FrameType, str, Any], Any]:
        """Make the trace function, which Python calls whenever a traced thread enters a function.

        It is made of closures, because every call pays for it.
        """
        watch, known, noted, event = self.watch, self.watch.known, self.watch.noted, self.event
        noting, at_end = self._noting, self._at_end

        def line(frame: FrameType, kind: str, arg: Any) -> Any:
            if kind == "line":
                event(frame.f_code, frame.f_lineno)
            elif kind == "return":
                at_end(frame)
            return line

        def with_points(points: frozenset[int], checks: Checks) -> Callable[[FrameType, str, Any], Any]:
            """Make the trace function of one frame."""
            begun, turns = False, -1  # whether nothing has been touched since the line began; the turns then

            def line_or_instruction(frame: FrameType, kind: str, arg: Any) -> Any:
                nonlocal begun, turns
                if kind == "opcode":
                    if frame.f_lasti in points:
                        check = checks.get(frame.f_lasti)
                        if check is not None and turns == self.turns and touches_nothing(check, frame, watch):
                            return line_or_instruction
                        was_begun, begun = begun, False
                        if not was_begun:
                            event(frame.f_code, ~frame.f_lasti)
                elif kind == "line":
                    begun = True
                    event(frame.f_code, frame.f_lineno)
                    turns = self.turns
                elif kind == "return":
                    at_end(frame)
                return line_or_instruction

            return line_or_instruction

        def call(frame: FrameType, kind: str, arg: Any) -> Any:
            code = frame.f_code
            key = id(code)
            if key not in noted:
                limit = getrecursionlimit()  # in this frame, so that no deeper one is needed than for other calls
                setrecursionlimit(limit + HEADROOM)
                try:
                    watch.note(frame)
                finally:
                    set_at_any_depth(limit)
            if known[key] is None or (noting and get_ident() in noting):
                return None
            if watch.by_line and not watch.points[key]:
                return line
            frame.f_trace_opcodes, frame.f_trace_lines = True, watch.by_line
            checks = known[key].checks if watch.by_line else {}  # type: ignore[union-attr]
            return with_points(watch.points[key], checks)

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
            events = monitoring.events
            self._threads: set[int] = set()  # identifiers of the controlled threads
            self._switched_on: dict[int, CodeType] = {}
            self._entries: dict[int, int] = {}  # by the id of the code, instructions that stand for the first line
            self._turns: dict[int, int] = {}  # by the id of the frame, the turns when its line began
            self._begun: set[int] = set()  # ids of the frames that have touched nothing since their line began
            self._callbacks = {
                events.PY_START: self._start, events.PY_RESUME: self._start,
                events.LINE: self._line, events.INSTRUCTION: self._instruction,
                events.PY_RETURN: self._return, events.PY_UNWIND: self._return,
            }  # fmt: skip
            monitoring.use_tool_id(self._tool, "yolothreads")
            self._misses_first_line = self._has_no_first_line_event()
            for kind, callback in self._callbacks.items():
                monitoring.register_callback(self._tool, kind, callback)
            monitoring.set_events(self._tool, events.PY_START | events.PY_RESUME | events.PY_UNWIND)
            monitoring.restart_events()

        def close(self) -> None:
            """Switch everything off again."""
            monitoring.set_events(self._tool, 0)
            for code in self._switched_on.values():
                monitoring.set_local_events(self._tool, code, 0)
            for kind in self._callbacks:
                monitoring.register_callback(self._tool, kind, None)
            monitoring.free_tool_id(self._tool)

        def begin_thread(self) -> None:
            """Watch the calling thread, which is controlled."""
            self._threads.add(get_ident())

        def end_thread(self) -> None:
            """Forget the calling thread."""
            self._threads.discard(get_ident())

        def has_lost_thread(self) -> bool:
            """Return False: this does not happen with sys.monitoring."""
            return False

        def refresh(self) -> None:
            """Learn which points have been added to code that is watched already."""
            for code in self._switched_on.values():
                self._switch_on(code)
            monitoring.restart_events()

        def _has_no_first_line_event(self) -> bool:
            """Return whether Python forgets the event of a line on which its function begins, as 3.13 does."""
            seen: list[int] = []
            probe: FunctionType = lambda: 0  # type: ignore[assignment]  # noqa: E731
            monitoring.register_callback(self._tool, monitoring.events.LINE, lambda code, line: seen.append(line))
            monitoring.set_local_events(self._tool, probe.__code__, monitoring.events.LINE)
            probe()
            monitoring.set_local_events(self._tool, probe.__code__, 0)
            return not seen

        def _start(self, code: CodeType, offset: int) -> Any:
            if get_ident() not in self._threads:
                return self._learn(code, False)
            limit = getrecursionlimit()
            setrecursionlimit(limit + HEADROOM)
            try:
                return self._learn(code, True)
            finally:
                set_at_any_depth(limit)

        def _learn(self, code: CodeType, is_controlled: bool) -> Any:
            """Watch code that begins for the first time."""
            if is_controlled and id(code) not in self.watch.noted:
                self.watch.note(sys._getframe(2))
            if self.watch.get(code) is not None and id(code) not in self._switched_on:
                self._switched_on[id(code)] = code
                self._switch_on(code)
            return monitoring.DISABLE if id(code) in self.watch.noted else None

        def _switch_on(self, code: CodeType) -> None:
            entry = self.watch.facts(code).entry if self._misses_first_line and self.watch.by_line else None
            if entry is not None:
                self._entries[id(code)] = entry
            events = monitoring.events.PY_RETURN | (monitoring.events.LINE if self.watch.by_line else 0)
            if entry is not None or self.watch.points[id(code)]:
                events |= monitoring.events.INSTRUCTION
            monitoring.set_local_events(self._tool, code, events)

        def _line(self, code: CodeType, line: int) -> Any:
            key = id(code)
            if key in self._entries and sys._getframe(1).f_lasti == self._entries[key]:
                return None  # its instruction is the event: this one comes only as long as PY_START is switched on
            frame = id(sys._getframe(1))
            if self.watch.points[key]:
                self._begun.add(frame)
            self.event(code, line)
            self._turns[frame] = self.turns

        def _instruction(self, code: CodeType, offset: int) -> Any:
            key, frame = id(code), id(sys._getframe(1))
            if self._entries.get(key) == offset:
                self._begun.add(frame)
                self.event(code, self.watch.facts(code).line_at[offset])
                self._turns[frame] = self.turns
            elif offset not in self.watch.points[key]:
                return monitoring.DISABLE
            if offset not in self.watch.points[key]:
                return None
            check = self.watch.facts(code).checks.get(offset) if self.watch.by_line else None
            is_alone = self._turns.get(frame) == self.turns
            if check is not None and is_alone and touches_nothing(check, sys._getframe(1), self.watch):
                return None
            if frame in self._begun:
                self._begun.remove(frame)
                return None
            return self.event(code, ~offset)

        def _return(self, code: CodeType, offset: int, value: Any) -> None:
            if id(code) in self._switched_on and get_ident() in self._threads:
                self._at_end(sys._getframe(1))


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
