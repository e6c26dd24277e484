"""Short texts of values, and of the state that threads share, for a reader who follows a schedule step by step.

The texts are made while other threads stand still, so no call here may wait, fail or take long: a lock that is held
makes a value unreadable (`threads.UnreadableError`), an error is shown in its place, and a slow one is given up.
"""

from __future__ import annotations

import queue
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from inspect import getclosurevars
from reprlib import Repr
from types import FunctionType, ModuleType
from typing import Any

from yolothreads.races.blocking import holder
from yolothreads.races.session import Options
from yolothreads.races.threads import UnreadableError

LONGEST = 200  # characters of a value
NAMES = 60  # parts of a state that are read; a model, for example, has many more than anyone would look at
READING_S = 1.5  # CPU time that the texts of one replay may take, all parts together
AFTERWARDS_S = 2.0  # the time that one text may take after the run, when no thread stands still for it
_SMALL = 8  # elements of an array that is shown element by element
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_LOCKS = (type(threading.Lock()), type(threading.RLock()))


def _has_no_text(x: Any) -> bool:
    return getattr(type(x), "__repr__", None) is object.__repr__


def cut(text: str, longest: int = LONGEST) -> str:
    """Return a text, cut off where it is longer than this."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


class _Brief(Repr):
    """Like `reprlib`, with words for locks and arrays, and the attributes of objects that have no text of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxother, self.maxstring, self.maxlong = 4, LONGEST, LONGEST, LONGEST

    def repr1(self, x: Any, level: int) -> str:
        """Return the text of a value at some depth."""
        if isinstance(x, _LOCKS):
            return f"held by {thread}" if (thread := holder(x)) else "free"
        if isinstance(x, queue.Queue):
            return f"{type(x).__name__}({self.repr1(list(x.queue), level)})"
        if hasattr(type(x), "shape") and hasattr(x, "dtype"):
            return self._array(x)
        if _has_no_text(x) and not isinstance(x, type):
            return self._object(x, level)
        return super().repr1(x, level)

    def _array(self, x: Any) -> str:
        shape = tuple(x.shape)
        size = 1
        for length in shape:
            size *= length
        if size <= _SMALL and hasattr(x, "tolist"):
            return f"{type(x).__name__}({x.tolist()})"
        return f"{type(x).__name__} of shape {shape}, {x.dtype}"

    def _object(self, x: Any, level: int) -> str:
        if level < self.maxlevel - 1:
            return type(x).__name__
        inside = [f"{name}={self.repr1(part, level - 2)}" for name, part in list(attributes(x).items())[: self.maxdict]]
        return f"{type(x).__name__}({', '.join(inside)})"

    def repr_instance(self, x: Any, level: int) -> str:
        """Return the text of an object that has one of its own; of a long one its type and length."""
        text = _ADDRESS.sub("", repr(x))
        if "\n" in text:
            size = f" of {len(x)} items" if hasattr(type(x), "__len__") else ""
            return f"{type(x).__name__}{size}" if size else " ".join(text.split())
        return text


_brief = _Brief()


def brief(value: Any) -> str:
    """Return a value in at most 200 characters; an error that its text raises is shown in its place."""
    try:
        return cut(_brief.repr(value))
    except UnreadableError as reason:
        return f"({type(value).__name__}: not readable now, {reason})"
    except Exception as error:
        return f"({type(value).__name__}: its text raises {type(error).__name__})"


def brief_afterwards(value: Any) -> str:
    """Return the same after a run, in a thread of its own: a lock that a thread has left locked must not hold us up."""
    texts: list[str] = []
    reader = threading.Thread(target=lambda: texts.append(brief(value)), name="text of a value", daemon=True)
    reader.start()
    reader.join(AFTERWARDS_S)
    return texts[0] if texts else f"({type(value).__name__}: its text takes too long)"


def attributes(thing: Any) -> dict[str, Any]:
    """Return the attributes that an object holds itself, without calling any code of its class."""
    found: dict[str, Any] = {}
    for kind in reversed(type(thing).__mro__):
        slots = vars(kind).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else tuple(slots):
            member = vars(kind).get(name)
            if type(member).__name__ == "member_descriptor" and hasattr(thing, name):
                found[name] = getattr(thing, name)
    own = getattr(thing, "__dict__", None)
    return found | own if isinstance(own, dict) else found


class Look:
    """The shared state as texts, before each line of a replay: the `inspect` that a page is made with.

    It shows what `observe` returns, if that is given; otherwise the attributes or the items of the state, and without
    `setup` the variables that the bodies share.

    Args:
        values: False to look at nothing.

    Attributes:
        bodies: how many there are.
        too_slow: the names of parts whose texts take too long.
    """

    def __init__(self, *, values: bool = True) -> None:
        self.values, self.bodies = values, 2
        self.too_slow: dict[str, None] = {}
        self._took: dict[str, float] = {}
        self._last: dict[str, str] = {}

    def __call__(self, options: Options, state: Any) -> dict[str, str]:
        """Return the state at this moment: name -> text."""
        self.bodies = len(options.bodies)
        if not self.values:
            return {}
        if options.observe is not None:
            arguments = () if options.setup is None else (state,)
            seen = self._observed(options.observe, arguments)
        else:
            parts = parts_of(state) if options.setup is not None else _shared_by(options.bodies)
            seen = {name: self._timed(name, len(parts), partial(brief, part)) for name, part in parts.items()}
        if seen != self._last:  # most steps change nothing, and need no memory
            self._last = seen
        return self._last

    def _observed(self, observe: Callable[..., Any], arguments: tuple[Any, ...]) -> dict[str, str]:
        def answer() -> str:
            try:
                return brief(observe(*arguments))
            except UnreadableError as reason:
                return f"(not readable now: {reason})"
            except Exception as error:
                return cut(f"({type(error).__name__}: {error})")

        return {"observed": self._timed("observed", 1, answer)}

    def _timed(self, name: str, names: int, text: Callable[[], str]) -> str:
        """Return a text, unless those of the same name have taken more than their share of the time."""
        if name in self.too_slow:
            return "(takes too long to read at each step)"
        began = time.thread_time()
        made = text()
        self._took[name] = self._took.get(name, 0.0) + time.thread_time() - began
        if self._took[name] > READING_S / names:
            self.too_slow[name] = None
        return made


def parts_of(state: Any) -> dict[str, Any]:
    """Return the parts of a state by name: the items of a mapping, the attributes of an object, or the state itself."""
    if isinstance(state, Mapping):
        found = {str(name) if isinstance(name, str) else brief(name): part for name, part in state.items()}
    else:
        found = {} if isinstance(state, list | tuple | set | frozenset) else attributes(state)
    named = {name: part for name, part in found.items() if not name.startswith("__")}
    return dict(list(named.items())[:NAMES]) or {"state": state}


def _shared_by(bodies: Any) -> dict[str, Any]:
    """Return the variables outside the bodies that these use, but no modules, functions and classes."""
    return dict(list(dict(_variables(bodies)).items())[:NAMES])


def _variables(bodies: Any) -> Iterator[tuple[str, Any]]:
    for body in bodies:
        if isinstance(body, FunctionType):
            used = getclosurevars(body)
            for name, value in (*used.nonlocals.items(), *used.globals.items()):
                if not isinstance(value, type | ModuleType) and not callable(value):
                    yield name, value
