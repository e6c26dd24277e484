"""Stop a thread just before a line, or an instruction, of watched code: sys.monitoring from Python 3.12 on, else
sys.settrace.

Code that is not watched runs as ever. With sys.monitoring that costs nothing; Python 3.11 slows every line of a traced
thread, whether it is watched or not.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any

from yolothreads.errors import ExploreError
from yolothreads.races.watch import Watch

Event = Callable[[CodeType, int], None]
MONITORING = sys.version_info >= (3, 12)
_FREE_TOOLS = (4, 3)  # the ids that sys.monitoring keeps for no particular kind of tool
_OWNERS = {0: "a debugger", 1: "a coverage tool", 2: "a profiler"}


class Tracer:
    """Calls `event(code, at)` just before each watched line runs, in the thread that is about to run it.

    `at` is the line number, or with `instructions` the offset of the instruction in its code object.
    """

    def __init__(self, watch: Watch, event: Event, instructions: bool = False):
        self.watch, self.event, self.instructions = watch, event, instructions
        self._on_call = self._calls()

    def open(self) -> None:
        """Begin to watch."""

    def close(self) -> None:
        """Watch no longer."""

    def begin_thread(self) -> None:
        """Watch the calling thread."""
        sys.settrace(self._on_call)

    def end_thread(self) -> None:
        """Watch the calling thread no longer."""
        sys.settrace(None)

    def _calls(self) -> Callable[[FrameType, str, Any], Any]:
        """What Python calls whenever a traced thread enters a function: closures, since every call pays for it."""
        known, get, event = self.watch.known, self.watch.get, self.event

        def line(frame: FrameType, kind: str, arg: Any) -> Any:
            if kind == "line":
                event(frame.f_code, frame.f_lineno)
            return line

        def opcode(frame: FrameType, kind: str, arg: Any) -> Any:
            if kind == "opcode" and frame.f_lasti in get(frame.f_code).shared:  # type: ignore[union-attr]
                event(frame.f_code, frame.f_lasti)
            return opcode

        def call(frame: FrameType, kind: str, arg: Any) -> Any:
            code = frame.f_code
            if id(code) not in known:
                get(code)
            if known[id(code)] is None:
                return None
            if not self.instructions:
                return line
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
            return opcode

        return call


if MONITORING:
    from sys import monitoring  # type: ignore[attr-defined, unused-ignore]

    class Monitor(Tracer):
        """The same by sys.monitoring, which switches single code objects on and leaves all others as they are."""

        def open(self) -> None:
            """Take a place of sys.monitoring, and hear of each function's first start."""
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
            """Switch everything off again."""
            monitoring.set_events(self._tool, 0)
            for code in self._switched_on:
                monitoring.set_local_events(self._tool, code, 0)
            for kind in (monitoring.events.PY_START, self._kind):
                monitoring.register_callback(self._tool, kind, None)
            monitoring.free_tool_id(self._tool)

        def begin_thread(self) -> None:
            """All threads are watched."""

        def end_thread(self) -> None:
            """All threads are watched."""

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
