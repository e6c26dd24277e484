"""Small programs that any explorer can be tried on: whether each has a bug, and which values show that it came."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks import bodies
from benchmarks.bodies import State, number, state


def _lock() -> Any:
    return threading.Lock()  # frontrun sees only locks that are made in this way


def _make_once(s: State) -> None:
    if s.made is None:
        s.n += 1
        s.made = []
    s.made.append(1)


def _transfer(s: State) -> None:
    s.a -= 10
    s.b += 10


def _total(s: State) -> None:
    s.seen = s.a + s.b


def _write_twice(s: State) -> None:
    s.n = 1
    s.n = 2


def _read_twice(s: State) -> None:
    first = s.n
    second = s.n
    s.seen = (first, second) == (0, 1)  # stopped after the first read, and the writer before its second write


@dataclass(frozen=True)
class Program:
    """Two bodies, what they start from, what is looked at after them, and which values of that are right."""

    name: str
    bug: bool
    bodies: tuple[Callable[[State], None], ...]
    setup: Callable[[], State]
    observe: Callable[[State], Any]
    right: tuple[Any, ...]
    preemptions: int = 1


def _seen(s: State) -> Any:
    return s.seen


PROGRAMS = (
    Program("counter, read then write", True, (bodies.bump, bodies.bump), state(n=0), number, (2,)),
    Program("x += 1 on one line", True, (bodies.bump_in_one_line, bodies.bump_in_one_line), state(n=0), number, (2,)),
    Program(
        "counter under a lock", False, (bodies.bump_locked, bodies.bump_locked), state(n=0, lock=_lock), number, (2,)
    ),
    Program(
        "AB/BA locks",
        True,
        (bodies.first_then_second, bodies.second_then_first),
        state(n=0, a=_lock, b=_lock),
        number,
        (2,),
    ),
    Program("lazy init", True, (_make_once, _make_once), state(n=0, made=None), number, (1,)),
    Program("transfer, total seen", True, (_transfer, _total), state(a=100, b=0, seen=0), _seen, (100,)),
    Program("needs two preemptions", True, (_write_twice, _read_twice), state(n=0, seen=None), _seen, (False,), 2),
)
