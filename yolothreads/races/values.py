"""Short texts of values, and of the state that threads share, for a reader who follows a schedule step by step.

The texts are made while other threads stand still, so no call here may wait, fail or take long: a lock that is held
makes a value unreadable (`threads.UnreadableError`), an error is shown in its place, and a slow one is given up.
"""

from __future__ import annotations

import queue
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from inspect import getclosurevars, isroutine
from itertools import islice
from reprlib import Repr
from types import FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import Any

from yolothreads.races.blocking import holder
from yolothreads.races.session import Options
from yolothreads.races.threads import UnreadableError

UNREADABLE = "not readable now"
LONGEST = 200  # characters of a value
NAMES = 250  # parts of a state that are shown; a YOLO model with its predictor has about 150
SLOW_S, SLOW_TIMES = 0.0005, 10  # CPU time of a text that is slow, and how often one part may be
READING_S = 0.5  # CPU time that the texts of one part may take in a whole replay
AFTERWARDS_S = 2.0  # the time that one text may take after the run, when no thread stands still for it
_DEPTH = 3  # of objects in objects
_SCALARS = (bool, int, float, type(None))
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
        if isinstance(x, threading.Event):
            return "set" if x.is_set() else "not set"
        if isinstance(x, threading.Thread):
            return f"{type(x).__name__}({x.name})"
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
        return f"({type(value).__name__}: {UNREADABLE}, {reason})"
    except Exception as error:
        return f"({type(value).__name__}: its text raises {type(error).__name__})"


def brief_afterwards(value: Any) -> str:
    """Return the same after a run, in a thread of its own: a lock that a thread has left locked must not hold us up."""
    texts: list[str] = []
    reader = threading.Thread(target=lambda: texts.append(brief(value)), name="text of a value", daemon=True)
    reader.start()
    reader.join(AFTERWARDS_S)
    return texts[0] if texts else f"({type(value).__name__}: its text takes too long)"


@lru_cache(maxsize=1000)
def _slots(kind: type) -> tuple[str, ...]:
    found = []
    for base in reversed(kind.__mro__):
        slots = vars(base).get("__slots__", ())
        names = (slots,) if isinstance(slots, str) else tuple(slots)
        found += [name for name in names if type(vars(base).get(name)).__name__ == "member_descriptor"]
    return tuple(found)


def attributes(thing: Any) -> dict[str, Any]:
    """Return the attributes that an object holds itself, without calling any code of its class."""
    kind: Any = type(thing)
    found = {name: getattr(thing, name) for name in _slots(kind) if hasattr(thing, name)}
    own = getattr(thing, "__dict__", None)
    return {**found, **own} if isinstance(own, dict) else found


class Look:
    """The shared state as texts, before each line of a replay: the `inspect` that a page is made with.

    It shows what `observe` returns, if that is given; otherwise the attributes or the items of the state, and those of
    the objects inside that have no text of their own; and without `setup` the variables that the bodies share.

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
        self._slow: Counter[str] = Counter()
        self._objects: dict[str, list[Any]] = {}  # those that were seen under a name, in the order of appearance
        self._last: dict[str, str] = {}

    def __call__(self, options: Options, state: Any) -> dict[str, str]:
        """Return the state at this moment: name -> text."""
        self.bodies = len(options.bodies)
        if not self.values:
            return {}
        if options.observe is not None:
            arguments = () if options.setup is None else (state,)
            seen = {"observed": self._timed("observed", partial(_answer, options.observe, arguments))}
        else:
            parts = parts_of(state) if options.setup is not None else dict(_shared_by(options.bodies))
            seen = dict(islice(self._texts(parts), NAMES))
        if seen != self._last:  # most steps change nothing, and need no memory
            self._last = seen
        return self._last

    def _texts(self, parts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Yield the names and texts of parts, and after them those of the parts inside, down to a depth of three."""
        inner = dict(parts)
        for _ in range(_DEPTH):
            level, inner = inner, {}
            for name, part in level.items():
                if type(part) in _SCALARS:
                    yield name, repr(part)
                elif _is_open(part):
                    yield name, self._name_of(name, part)
                    inner |= {f"{name}.{key}": value for key, value in attributes(part).items()}
                else:
                    yield name, self._timed(name, partial(brief, part))

    def _name_of(self, name: str, part: Any) -> str:
        """Return the type of an object, with a number where it is another object than those before."""
        known = self._objects.setdefault(name, [])
        number = next((i for i, one in enumerate(known, start=1) if one is part), 0)
        if not number:
            known.append(part)
            number = len(known)
        return type(part).__name__ if number == 1 else f"{type(part).__name__} no. {number}"

    def _timed(self, name: str, text: Callable[[], str]) -> str:
        """Return a text, unless those of the same name have taken too long."""
        if name in self.too_slow:
            return "(takes too long to read at each step)"
        began = time.thread_time()
        made = text()
        took = time.thread_time() - began
        self._took[name] = self._took.get(name, 0.0) + took
        self._slow[name] += took > SLOW_S
        if self._took[name] > READING_S or self._slow[name] == SLOW_TIMES:
            self.too_slow[name] = None
        return made


def _is_open(part: Any) -> bool:
    """Return whether an object is shown by its attributes: it has some, and no text of its own."""
    has_none = _has_no_text(part) or isinstance(part, SimpleNamespace)
    return has_none and not isinstance(part, (*_LOCKS, queue.Queue)) and bool(attributes(part))


def _answer(observe: Callable[..., Any], arguments: tuple[Any, ...]) -> str:
    try:
        return brief(observe(*arguments))
    except UnreadableError as reason:
        return f"({UNREADABLE}: {reason})"
    except Exception as error:
        return cut(f"({type(error).__name__}: {error})")


def parts_of(state: Any) -> dict[str, Any]:
    """Return the parts of a state by name: the items of a mapping, the attributes of an object, or the state itself."""
    if isinstance(state, Mapping):
        found = {name if isinstance(name, str) else brief(name): part for name, part in state.items()}
    else:
        found = {} if isinstance(state, list | tuple | set | frozenset) else attributes(state)
    return {name: part for name, part in found.items() if not name.startswith("__")} or {"state": state}


def _shared_by(bodies: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    """Yield the variables outside the bodies that these use, but no modules, functions and classes; or their `self`."""
    for body in bodies:
        if isinstance(body, MethodType):
            inside = {f"self.{name}": value for name, value in attributes(body.__self__).items()}
            yield from inside.items() or {"self": body.__self__}.items()
        elif isinstance(body, FunctionType):
            used = getclosurevars(body)
            for name, value in (*used.nonlocals.items(), *used.globals.items()):
                if not isinstance(value, type | ModuleType) and not isroutine(value):
                    yield name, value
