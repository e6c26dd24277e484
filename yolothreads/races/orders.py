"""Which bodies are equal, in which orders they can run one after the other, and what workers do between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations, product
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
    """What workers do before, between and after the bodies of a sequential order."""

    wakes: tuple[tuple[str, ...], ...] = ()  # in each of these gaps: the workers whose time-outs pass, by their origins
    threads_first: bool = False  # the threads that a body leaves behind run before the next body, and not last


AT_REST = Between()
MOST_WAKES = 3  # of so many time-outs each can pass in any gap; those of a longer series only where nobody can go on


def ways_between(wakes: Sequence[str], has_threads: bool, bodies: int) -> Iterator[Between]:
    """Yield what workers may have done in a sequential order, if the time-outs of these passed in another run.

    Args:
        wakes: the workers, by their origins, as often as they woke up.
        has_threads: whether a body started a thread.
        bodies: the number of bodies.
    """
    found: dict[Between, None] = {}
    for threads_first in (False, True)[: 1 + has_threads]:
        for count in range(min(len(wakes), MOST_WAKES), -1, -1):
            for woken, gaps in product(combinations(wakes, count), product(range(bodies + 1), repeat=count)):
                pairs = list(zip(woken, gaps, strict=True))
                in_gaps = tuple(tuple(origin for origin, at in pairs if at == gap) for gap in range(bodies + 1))
                found[Between(in_gaps, threads_first)] = None
    yield from found
