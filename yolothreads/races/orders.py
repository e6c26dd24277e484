"""Which bodies are equal, in which orders they can run one after the other, and what workers do between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import FunctionType, MethodType
from typing import Any

_PLAIN = (type(None), bool, int, float, complex, str, bytes)  # values that are equal if they look equal


def equal_bodies(bodies: Sequence[Callable[..., Any]]) -> tuple[int, ...]:
    """Return for each body the index of the first one that does the same: same code, arguments and closure."""
    groups: list[int] = []
    for i, body in enumerate(bodies):
        groups.append(next((j for j in groups if _do_the_same(bodies[j], body)), i))
    return tuple(groups)


def _do_the_same(a: Any, b: Any) -> bool:
    """Return whether two callables cannot be told apart by what they do; if in doubt, they can."""
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, MethodType):
        return a.__self__ is b.__self__ and _do_the_same(a.__func__, b.__func__)
    if type(a) is partial:
        return _do_the_same(a.func, b.func) and _are_one(a.args, b.args) and _are_one_each(a.keywords, b.keywords)
    if isinstance(a, FunctionType):
        return (
            a.__code__ == b.__code__
            and a.__globals__ is b.__globals__
            and _are_one(_closure(a), _closure(b))
            and _are_one(a.__defaults__, b.__defaults__)
            and _are_one_each(a.__kwdefaults__ or {}, b.__kwdefaults__ or {})
            and not a.__dict__
            and not b.__dict__
        )
    return False


def _are_one(a: Any, b: Any) -> bool:
    """Return whether two values are the same object, or plain values that are equal."""
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, _PLAIN):
        return bool(a == b)
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(_are_one, a, b))
    return False


def _are_one_each(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    return a.keys() == b.keys() and all(_are_one(a[key], b[key]) for key in a)


def _closure(function: FunctionType) -> tuple[Any, ...]:
    return tuple([getattr(cell, "cell_contents", None) for cell in function.__closure__ or ()])


def distinct_orders(groups: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Yield one of those orders that differ only by an exchange of equal bodies; the order of the arguments first.

    Args:
        groups: for each body the index of the first one that is equal to it.
    """
    left = list(range(len(groups)))

    def orders(so_far: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        if not left:
            yield so_far
        for body in [i for i in left if not any(groups[j] == groups[i] for j in left if j < i)]:
            left.remove(body)
            yield from orders((*so_far, body))
            left.append(body)
            left.sort()

    return orders(())


@dataclass(frozen=True, slots=True)
class Between:
    """What workers do before, between and after the bodies of a sequential order.

    By default nothing that can wait: a thread that a body has left behind runs last, and no time passes.
    """

    wakes: tuple[tuple[str, ...], ...] = ()  # in each of these gaps: the workers whose time-outs pass, by their origins
    threads_first: bool = False  # the threads that a body leaves behind run before the next body, and not last
    exact: bool = False  # no worker wakes up in between, while a body waits that has a time-out of its own


QUIET = Between()
