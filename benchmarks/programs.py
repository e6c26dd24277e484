"""Small programs that any explorer can be tried on: whether each has a bug, and which values show that it came."""

from __future__ import annotations

import threading  # not its names: frontrun sees only locks that are made by `threading.Lock()`
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

State = Any


def _bump(s: State) -> None:
    value = s.n
    s.n = value + 1


def _bump_in_one_line(s: State) -> None:
    s.n += 1


def _bump_locked(s: State) -> None:
    with s.a:
        value = s.n
        s.n = value + 1


def _first_then_second(s: State) -> None:
    with s.a:  # noqa: SIM117 - two lines, so that a switch fits in between
        with s.b:
            s.n += 1


def _second_then_first(s: State) -> None:
    with s.b:  # noqa: SIM117
        with s.a:
            s.n += 1


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


def _number(s: State) -> Any:
    return s.n


def _seen(s: State) -> Any:
    return s.seen


PROGRAMS = (
    Program("counter, read then write", True, (_bump, _bump), lambda: SimpleNamespace(n=0), _number, (2,)),
    Program("x += 1 on one line", True, (_bump_in_one_line,) * 2, lambda: SimpleNamespace(n=0), _number, (2,)),
    Program(
        "counter under a lock", False, (_bump_locked,) * 2,
        lambda: SimpleNamespace(n=0, a=threading.Lock()), _number, (2,),
    ),
    Program(
        "AB/BA locks", True, (_first_then_second, _second_then_first),
        lambda: SimpleNamespace(n=0, a=threading.Lock(), b=threading.Lock()), _number, (2,),
    ),
    Program("lazy init", True, (_make_once,) * 2, lambda: SimpleNamespace(n=0, made=None), _number, (1,)),
    Program(
        "transfer, total seen", True, (_transfer, _total), lambda: SimpleNamespace(a=100, b=0, seen=0), _seen, (100,)
    ),
    Program(
        "needs two preemptions", True, (_write_twice, _read_twice), lambda: SimpleNamespace(n=0, seen=None), _seen,
        (False,), 2,
    ),
)  # fmt: skip
