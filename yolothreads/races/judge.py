"""Decides whether an outcome is right, which means that some sequential order of the bodies has the same outcome."""

from __future__ import annotations

import copy
import operator
import re
import reprlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any, NamedTuple

from yolothreads.errors import ExploreError
from yolothreads.races.results import EXCEPTION, RIGHT, WRONG
from yolothreads.races.schedule import label

_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{7,}")  # a shorter number is no address
_CANNOT_CHANGE = (
    type(None), bool, int, float, complex, str, bytes, range, type, FunctionType, BuiltinFunctionType, MethodType,
)  # fmt: skip


def same(a: Any, b: Any) -> bool:
    """Return whether two values are equal: numbers (nan too), strings, arrays, tensors, containers, and any with `==`.

    Raises:
        ExploreError: the values are equal only to themselves.
    """
    if a is b:
        return True
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return _class_of(a) == _class_of(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float) and isinstance(b, float):
        return a == b or (a != a and b != b)
    if hasattr(a, "shape") and hasattr(b, "shape"):
        if tuple(a.shape) != tuple(b.shape):
            return False
        equal = a == b
        return equal if isinstance(equal, bool) else bool((equal | ((a != a) & (b != b))).all())
    if isinstance(a, BaseException) and isinstance(b, BaseException):
        return same_error(a, b)
    if type(a) is type(b) and getattr(type(a), "__eq__", None) is object.__eq__:
        raise ExploreError(
            f"Two results of type {type(a).__name__} cannot be compared, because each is equal only to itself; "
            f"pass same=, or let the bodies return a value that can be compared."
        )
    return bool(a == b)


def snapshot(value: Any) -> Any:
    """Return a value as it is now: a copy of all in it that `same` compares by its content and that can change.

    The program may go on to change what it returned: in `restore`, for instance, or when the state is left. What cannot
    be copied is returned itself.
    """
    try:
        return _snapshot(value, {})
    except Exception:
        return value


def _snapshot(value: Any, known: dict[int, Any]) -> Any:
    kind = type(value)
    if kind in _CANNOT_CHANGE or isinstance(value, BaseException):
        return value
    if id(value) in known:
        return known[id(value)]
    if isinstance(value, tuple):
        copies = [_snapshot(part, known) for part in value]
        return value if all(map(operator.is_, copies, value)) else tuple.__new__(kind, copies)
    made = known[id(value)] = _copied(value)
    if made is not value:
        for parts in (getattr(made, "__dict__", {}), made):
            items = parts.items() if isinstance(parts, dict) else enumerate(parts) if _is_list(parts) else ()
            for key, part in list(items):
                if (new := _snapshot(part, known)) is not part:
                    parts[key] = new
    return made


def _is_list(value: Any) -> bool:
    return isinstance(value, list | deque)


def _copied(value: Any) -> Any:
    """Return a copy, whose parts are the same; or the value itself, if it is equal only to itself."""
    kind = type(value)
    with suppress(Exception):
        if hasattr(kind, "shape"):
            return value.clone() if hasattr(kind, "clone") else value.copy()
        if getattr(kind, "__eq__", None) is not object.__eq__ and not hasattr(kind, "__del__"):
            return copy.copy(value)
    return value


Same = Callable[[Any, Any], bool]
Describe = Callable[[Sequence[Any], Sequence[Sequence[Any]]], str]


class Results(NamedTuple):
    """All that a run gave.

    `values` holds a result or an exception for each body, then the observed value, if any. `outside` holds the
    exceptions that were raised outside the bodies, by what raised them, such as "leaving the state". `beats` names the
    services, threads that `setup` started, as often as their time-outs passed: each time they may do something.
    """

    values: tuple[Any, ...]
    outside: Mapping[str, BaseException]
    beats: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[Any, ...]:
        """The values, then the exceptions from outside the bodies."""
        return (*self.values, *self.outside.values())


class Judge:
    """Knows the results of sequential orders, and compares those of other runs with them.

    Args:
        groups: for each body the index of the first one that is equal to it. Which of two equal bodies gave which
            result does not matter.
        same: whether two results are equal.
        describe: see `explore`.
    """

    def __init__(self, groups: Sequence[int], same: Same, describe: Describe | None):
        self._groups, self._same, self._describe = groups, same, describe
        self.references: list[Results] = []

    def equal(self, a: Results, b: Results, exchange: bool = False) -> bool:
        """Return whether two runs had the same results; exceptions are compared by type and text.

        Args:
            a: the results of one run.
            b: those of the other.
            exchange: whether equal bodies may have exchanged their results.
        """
        if len(a.values) != len(b.values) or a.outside.keys() != b.outside.keys():
            return False
        if not all(same_error(error, b.outside[what]) for what, error in a.outside.items()):
            return False
        count, given = len(self._groups), dict[int, int]()
        if not exchange:
            return all(map(self._are_equal, a.values, b.values))
        return all(map(self._are_equal, a.values[count:], b.values[count:])) and all(
            self._assign(i, a.values, b.values, given, set()) for i in range(len(a.values[:count]))
        )

    def _assign(self, i: int, a: Sequence[Any], b: Sequence[Any], given: dict[int, int], tried: set[int]) -> bool:
        """Give body `i` of one run the result of an equal body of another run: an augmenting path of a matching."""
        others = [j for j in range(len(self._groups)) if self._groups[j] == self._groups[i] and j != i]
        for j in (i, *others):
            if j not in tried and self._are_equal(a[i], b[j]):
                tried.add(j)
                if j not in given or self._assign(given[j], a, b, given, tried):
                    given[j] = i
                    return True
        return False

    def _are_equal(self, a: Any, b: Any) -> bool:
        if isinstance(a, BaseException) or isinstance(b, BaseException):
            return same_error(a, b)
        try:
            return bool(self._same(a, b))
        except ExploreError:
            raise
        except Exception as error:
            name = type(a).__name__
            raise ExploreError(f"Two results of type {name} cannot be compared ({error!r}); pass same=.") from error

    def kind(self, results: Results) -> tuple[str, str]:
        """Return the kind of a run's outcome, compared with the references known, and its description in words."""
        failed: BaseException | None = None
        for reference in self.references:
            try:
                if self.equal(results, reference, exchange=True):
                    return RIGHT, "as in some sequential order"
            except ExploreError as error:
                failed = error.__cause__ or error
        if raised := self._new_error(results):
            return EXCEPTION, raised
        if failed is not None:
            return EXCEPTION, f"same raised {named(failed)}"
        return WRONG, self._description(results)

    def _new_error(self, results: Results) -> str:
        """Return the first exception that occurs in no reference, in words; "" if there is none."""
        count = len(self._groups)
        for i, value in enumerate(results.values):
            equals = [j for j in range(count) if self._groups[j] == self._groups[i]] if i < count else [i]
            known = [reference.values[j] for reference in self.references for j in equals]
            if isinstance(value, BaseException) and not any(same_error(value, other) for other in known):
                return f"{label(i) if i < count else 'observe'} raised {named(value)}"
        for what, error in results.outside.items():
            if not any(same_error(error, reference.outside.get(what)) for reference in self.references):
                return f"{what} raised {named(error)}"
        return ""

    def _description(self, results: Results) -> str:
        if self._describe is not None:
            try:
                if description := self._describe(results.values, [reference.values for reference in self.references]):
                    return str(description)
            except Exception as error:  # the outcome is wrong all the same
                return f"gave {short(results.all)}; describe raised {named(error)}"
        orders = " or ".join(dict.fromkeys(short(reference.all) for reference in self.references[:3]))
        return f"gave {short(results.all)}; one after the other they give {orders}"


def _class_of(value: Any) -> tuple[str, str]:
    """Return the name of a class, which is the same for two that were made by the same lines."""
    return type(value).__module__, type(value).__qualname__


def text_of(error: BaseException) -> str:
    """Return the message of an exception."""
    try:
        return str(error)
    except Exception as failed:
        return f"(its message cannot be shown: {type(failed).__name__})"


def without_addresses(text: str) -> str:
    """Return a text in which all addresses of objects, which differ from run to run, are alike."""
    return _ADDRESS.sub("0x...", text)


def same_error(a: Any, b: Any) -> bool:
    """Return whether two exceptions are of one type, or of two classes made by the same lines, and say the same."""
    return (
        isinstance(a, BaseException)
        and isinstance(b, BaseException)
        and _class_of(a) == _class_of(b)
        and without_addresses(text_of(a)) == without_addresses(text_of(b))
        and _same_parts(a, b)
    )


def _same_parts(a: BaseException, b: BaseException) -> bool:
    """Return whether two groups of exceptions hold the same ones, in any order; True for other exceptions."""
    if not isinstance(a, BaseExceptionGroup) or not isinstance(b, BaseExceptionGroup):
        return True
    left = list(b.exceptions)
    for part in a.exceptions:
        at = next((i for i, other in enumerate(left) if same_error(part, other)), None)
        if at is None:
            return False
        del left[at]
    return not left


def named(error: BaseException) -> str:
    """Return the type and the message of an exception."""
    return f"{type(error).__name__}: {text_of(error)}"


def short(value: Any) -> str:
    """Return a value in a few words."""
    if isinstance(value, tuple):
        return f"({', '.join(map(short, value))})"
    if not isinstance(value, BaseException):
        return reprlib.repr(value)
    try:
        return repr(value)
    except Exception:
        return f"{type(value).__name__}({text_of(value)})"
