"""Programs that race inside one line, and repaired ones. Runs on Python 3.11 and newer.

As a script, it explores all of them and prints what was wrong as JSON, so that a test can check other interpreters.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

from yolothreads.races import Exploration, explore

State = Any
RACY: dict[str, tuple[tuple[Callable[..., Any], ...], Callable[[], Any]]] = {}
SAFE: dict[str, tuple[tuple[Callable[..., Any], ...], Callable[[], Any]]] = {}


def number() -> State:
    return SimpleNamespace(n=0, lock=threading.Lock())


def pair() -> State:
    return SimpleNamespace(pair=(0, 0))


def set_pair(s: State) -> None:
    s.pair = 1, 1


def set_number(s: State) -> None:
    s.n = -1


def racy(name: str, setup: Callable[[], Any], *others: Callable[..., Any]) -> Callable[[Any], Any]:
    """Register a body that races with `others`, or with itself."""

    def register(body: Callable[..., Any]) -> Callable[..., Any]:
        RACY[name] = (body, *(others or (body,))), setup
        return body

    return register


def safe(name: str, setup: Callable[[], Any], *others: Callable[..., Any]) -> Callable[[Any], Any]:
    """Register a body that is safe beside `others`, or beside itself."""

    def register(body: Callable[..., Any]) -> Callable[..., Any]:
        SAFE[name] = (body, *(others or (body,))), setup
        return body

    return register


# --- those of the findings

racy("pop if there", lambda: [1])(lambda q: q.pop() if q else None)
racy("item if there", lambda: {"k": 1}, lambda d: d.clear())(lambda d: d["k"] if "k" in d else None)  # noqa: SIM401
racy("append the length", list)(lambda items: items.append(len(items)))
racy("update by keyword", lambda: {"n": 0})(lambda d: d.update(n=d["n"] + 1))
racy("setattr of getattr", number)(lambda s: setattr(s, "n", getattr(s, "n") + 1))  # noqa: B009
racy("evict the first", lambda: {"a": 1, "b": 2})(lambda c: c.pop(next(iter(c))))


# --- reads and writes


@racy("delete the first", lambda: {"a": 1, "b": 2, "c": 3})
def delete_first(d: State) -> None:
    del d[next(iter(d))]


@racy("increment of an item", lambda: {"n": 0})
def increment_item(d: State) -> None:
    d["n"] += 1


@racy("increment of an item of a list", lambda: [0])
def increment_in_list(items: State) -> None:
    items[-1] = items[0] + 1


@racy("assigned twice", number)
def swap(s: State) -> None:
    s.n, s.last = s.n + 1, s.n


@racy("under a lock in one line, and not", number, lambda s: setattr(s, "n", s.n + 1))
def under_lock(s: State) -> None:
    with s.lock: s.n += 1  # fmt: skip # noqa: E701


@racy("slice of itself", lambda: [1, 2, 3])
def drop_first(items: State) -> None:
    items[:] = items[1:]


@racy("walrus", number)
def once(s: State) -> None:
    if (n := s.n) == 0: s.n = n + 1; s.made = getattr(s, "made", 0) + 1  # fmt: skip # noqa: E701, E702


class Numbers:
    """A counter of the class."""

    last = 0


def reset() -> None:
    global total
    Numbers.last = total = 0


total = 0


@racy("attribute of a class", reset)
def next_number(_: None) -> int:
    Numbers.last += 1; return Numbers.last  # fmt: skip # noqa: E702


@racy("global variable", reset)
def add_to_total(_: None) -> int:
    global total
    total += 1; return total  # fmt: skip # noqa: E702


class Cell:
    """Holds a closure that counts in a variable of its own."""

    def __init__(self) -> None:
        n = 0

        def add() -> None:
            nonlocal n
            n += 1

        self.add, self.value = add, lambda: n


@racy("variable of a closure", Cell)
def add_in_closure(s: State) -> None:
    s.add()


# --- torn reads: the other body makes one step only

racy("torn sum", pair, set_pair)(lambda s: s.pair[0] + s.pair[1])
racy("torn text", pair, set_pair)(lambda s: f"{s.pair[0]} {s.pair[1]}")
racy("torn tuple", pair, set_pair)(lambda s: (s.pair[0], s.pair[1]))
racy("torn arguments", pair, set_pair)(lambda s: pow(s.pair[0] + 2, s.pair[1]))
racy("torn comprehension", number, set_number)(lambda s: [s.n for _ in range(2)])
racy("torn set", number, set_number)(lambda s: {s.n for _ in range(2)})
racy("torn dict", number, set_number)(lambda s: {i: s.n for i in range(2)})  # noqa: C420
racy("torn generator expression", number, set_number)(lambda s: sum(s.n for _ in range(2)))
racy("chained comparison", number, set_number)(lambda s: s.n <= s.n <= s.n)
racy("torn and", number, set_number)(lambda s: s.n == 0 and s.n == -1)
racy("torn dictionary display", number, set_number)(lambda s: {**vars(s), "again": s.n}["n"] == s.n)


@racy("torn unpacking", pair, set_pair)
def unpack(s: State) -> tuple[int, int]:
    a, b = s.pair[0], s.pair[1]
    return a, b


@racy("torn assertion", number, set_number)
def check(s: State) -> None:
    assert s.n == s.n


@racy("torn default arguments", number, set_number)
def define(s: State) -> tuple[int, int]:
    def inner(a: int = s.n, b: int = s.n) -> tuple[int, int]:
        return a, b

    return inner()


@racy("torn generator", number, set_number)
def consume(s: State) -> list[int]:
    return list(generate(s))


def generate(s: State) -> Iterator[int]:
    yield s.n; yield s.n  # fmt: skip # noqa: E702


@racy("torn match", number, set_number)
def match(s: State) -> bool:
    match s.n, s.n:
        case a, b:
            return a == b
    raise AssertionError


@racy("loop in one line", list)
def fill(q: State) -> int:
    while len(q) < 2: q.append(len(q))  # fmt: skip # noqa: E701
    return len(q)


# --- names that change meanwhile


def first(s: State) -> int:
    return 1


def second(s: State) -> int:
    return 2


helper = first


class Stepper:
    """An object of which a method is replaced."""

    def __init__(self) -> None:
        global helper
        helper = first

    def step(self) -> int:
        return 1


def replace_step(s: Stepper) -> None:
    s.step = lambda: 2  # type: ignore[method-assign]


def replace_helper(s: Stepper) -> None:
    global helper
    helper = second


def two() -> int:
    return 2


racy("a method is replaced", Stepper, replace_step)(lambda s: s.step() + s.step())
racy("a method is replaced by name", Stepper, lambda s: setattr(s, "step", two))(lambda s: s.step() + s.step())
racy("a method is replaced in the dictionary", Stepper, lambda s: s.__dict__.update(step=two))(
    lambda s: s.step() + s.step()
)


class Other(Stepper):
    """Has the same method, but written in C, as below; so no line of it is a switch point."""

    step = staticmethod(partial(int, 2))  # type: ignore[assignment]


class InC(Stepper):
    """An object whose class is replaced."""

    step = staticmethod(partial(int, 1))  # type: ignore[assignment]


def replace_class(s: Stepper) -> None:
    s.__class__ = Other


racy("the class is replaced", InC, replace_class)(lambda s: s.step() + s.step())
racy("a global function is replaced", Stepper, replace_helper)(lambda s: helper(s) + helper(s))
racy("a global function is replaced in a module", Stepper, lambda s: setattr(sys.modules[__name__], "helper", second))(
    lambda s: helper(s) + helper(s)
)


def step_by_any_name(s: Stepper) -> None:
    for name in NAMES:
        setattr(s, name, two)


NAMES = ["step"]
racy("a method is replaced by a name that no code holds", Stepper, step_by_any_name)(lambda s: s.step() + s.step())


def read_twice(s: Any) -> int:
    x = s.n + s.n
    return int(x)


def with_function_in_c() -> State:
    s = Stepper()
    s.put, s.n = partial(setattr, s, chr(110)), 0  # type: ignore[attr-defined]  # the name stands nowhere else
    return s


racy("an attribute is stored by a function in C", with_function_in_c, lambda s: s.put(5))(read_twice)


# --- safe ones

safe("one call", list)(lambda items: items.append(1))
safe("setdefault", dict)(lambda d: d.setdefault("k", 1))
safe("get", dict, lambda d: d.update(k=1))(lambda d: d.get("k"))
safe("methods that nobody replaces", Stepper)(lambda s: s.step() + s.step())
safe("a comprehension over its own list", number)(lambda s: [i * i for i in range(2)])


@safe("under a lock in one line", number)
def locked(s: State) -> None:
    with s.lock: s.n += 1  # fmt: skip # noqa: E701


@safe("pop, and nothing if it is empty", lambda: [1])
def pop_or_none(q: State) -> int | None:
    try: return q.pop()  # fmt: skip # noqa: E701
    except IndexError: return None  # fmt: skip # noqa: E701


@safe("check and pop under a lock", lambda: SimpleNamespace(q=[1], lock=threading.Lock()))
def pop_locked(s: State) -> int | None:
    with s.lock: return s.q.pop() if s.q else None  # fmt: skip # noqa: E701


def explored(name: str, **options: Any) -> Exploration:
    """Explore one of the programs."""
    bodies, setup = RACY.get(name) or SAFE[name]
    return explore(*bodies, setup=setup, observe=seen, **options)


def seen(s: Any) -> str:
    """Return what a reader of the state sees."""
    values = vars(s) if hasattr(s, "__dict__") else {"it": s}
    value = s.value() if isinstance(s, Cell) else {k: v for k, v in values.items() if k != "lock" and not callable(v)}
    return f"{value} {total} {Numbers.last}"


def faults(name: str, replays: int = 1000) -> list[str]:
    """Return what is wrong with the verdicts about one program, and with so many replays."""
    found, by_line = explored(name), explored(name, granularity="line")
    if name in SAFE:
        return [] if found.safe and found.exhausted else [f"{name}: {found}"]
    wrong = [] if found.forbidden and not found.unsplit else [f"{name} is not found: {found}"]
    if not by_line.forbidden and (by_line.safe or not by_line.unsplit):
        wrong.append(f"{name} is called safe by line: {by_line}")
    for trial in (*found.forbidden, *found.trials)[:replays]:
        if found.replay(trial.schedule).kind != trial.kind:
            wrong.append(f"{name}: {trial.schedule} has another outcome when it is replayed")
    return wrong


def main() -> None:
    """Print all faults."""
    print(json.dumps({name: faults(name) for name in (*RACY, *SAFE)}))


if __name__ == "__main__":
    sys.exit(main())
