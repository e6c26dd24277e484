"""Programs in which code outside the bodies raises an exception. Runs on Python 3.11 and newer."""

from __future__ import annotations

import itertools
import signal
from types import SimpleNamespace
from typing import Any

from cases import Cases, bad

from yolothreads.races import RIGHT, explore

CASES = Cases()


class Pool:
    """A state that complains when it is left, unless both bodies have counted."""

    def __init__(self) -> None:
        self.n = 0

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self.n != 2:
            raise RuntimeError("closed while in use")


class Strict(Pool):
    """A state that always complains when it is left."""

    def __exit__(self, *exc_info: object) -> None:
        raise RuntimeError("never closed quietly")


def bump(s: Any) -> None:
    n = s.n
    s.n = n + 1


def look(s: Any) -> None:
    s.seen = True


def fresh() -> SimpleNamespace:
    return SimpleNamespace(n=0)


@CASES.gives(["exception: leaving the state raised RuntimeError: closed while in use"])
def an_exit_that_raises_after_a_race() -> Any:
    found = explore(bump, bump, setup=Pool)
    assert found.exhausted and 0 < len(found.forbidden) < found.schedules
    assert isinstance(found.forbidden[0].results[-1], RuntimeError)
    assert found.replay(found.forbidden[0].schedule).detail == found.forbidden[0].detail
    return bad(found)


@CASES.gives(["exception: leaving the state raised RuntimeError: closed while in use"])
def an_exit_that_raises_is_kept_beside_a_wrong_value() -> Any:
    return bad(explore(bump, bump, setup=Pool, observe=lambda s: s.n))


@CASES.gives([])
def an_exit_that_always_raises() -> Any:
    found = explore(bump, look, setup=Strict)
    assert found.safe
    return bad(found)


@CASES.gives(["wrong result: gave (None, None, 1, RuntimeError('never closed quietly')); one after the other they give "
              "(None, None, 2, RuntimeError('never closed quietly'))"])  # fmt: skip
def an_exit_that_always_raises_hides_no_race() -> Any:
    return bad(explore(bump, bump, setup=Strict, observe=lambda s: s.n))


@CASES.gives(["exception: setup raised OSError: address in use", "wrong result: gave (None, None, 1); one after the "
              "other they give (None, None, 2)"])  # fmt: skip
def a_later_setup_that_raises_loses_no_finding() -> Any:
    races: list[int] = []
    failures = itertools.count()

    def setup() -> SimpleNamespace:
        if len(races) > 15 and next(failures) % 2:
            raise OSError("address in use")
        return fresh()

    def observe(s: Any) -> int:
        if s.n == 1:
            races.append(1)
        return int(s.n)

    found = explore(bump, bump, setup=setup, observe=observe, preemptions=3)
    assert not found.exhausted and any(trial.results == (None, None, 1) for trial in found.trials)
    return bad(found)


@CASES.gives(["exception: restore raised ValueError: half written"])
def a_restore_that_raises() -> Any:
    def restore(s: Any) -> None:
        if s.n == 1:
            raise ValueError("half written")
        s.n = 0

    return bad(explore(bump, bump, setup=fresh, restore=restore))


@CASES.gives(["exception: leaving the state after the last schedule raised RuntimeError: broken by a race"])
def a_kept_state_that_raises_at_the_very_end() -> Any:
    class Kept(Pool):
        broken = False

        def __exit__(self, *exc_info: object) -> None:
            if self.broken:
                raise RuntimeError("broken by a race")

    def restore(s: Any) -> None:
        s.broken |= s.n == 1
        s.n = 0

    return bad(explore(bump, bump, setup=Kept, restore=restore))


@CASES.gives(["exception: observe raised KeyError: 1"])
def an_observe_that_raises() -> Any:
    return bad(explore(bump, bump, setup=fresh, observe=lambda s: {2: "right"}[s.n]))


@CASES.gives(["exception: same raised TypeError: cannot compare 1"])
def a_same_that_raises() -> Any:
    def same(a: Any, b: Any) -> bool:
        if 1 in (a, b):
            raise TypeError("cannot compare 1")
        return bool(a == b)

    found = explore(bump, bump, setup=fresh, observe=lambda s: s.n, same=same)
    assert any(trial.kind == RIGHT for trial in found.trials)
    return bad(found)


@CASES.gives(["wrong result: gave (None, None, 1); describe raised IndexError: list index out of range"])
def a_describe_that_raises() -> Any:
    return bad(explore(bump, bump, setup=fresh, observe=lambda s: s.n, describe=lambda results, references: ["one"][7]))


class MuteError(Exception):
    """An exception without a message."""

    def __str__(self) -> str:
        raise RuntimeError


@CASES.gives(["exception: A raised MuteError: (its message cannot be shown: RuntimeError)",
              "exception: B raised MuteError: (its message cannot be shown: RuntimeError)"])  # fmt: skip
def an_exception_that_cannot_be_shown() -> Any:
    def take(s: Any) -> None:
        if s.n == 0:
            bump(s)
        if s.n == 2:
            raise MuteError

    return bad(explore(take, take, setup=fresh))


def _stopped_at(call: int, where: str) -> Any:
    """Send Ctrl-C in a later call of this method; return whether the findings were kept."""
    calls = itertools.count(1)

    def count(method: str) -> None:
        if method == where and next(calls) == call:
            signal.raise_signal(signal.SIGINT)

    class State(Pool):
        def __enter__(self) -> State:
            count("enter")
            return self

        def __exit__(self, *exc_info: object) -> None:
            count("exit")

    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        found = explore(bump, bump, setup=State, observe=lambda s: s.n, preemptions=4)
    finally:
        signal.signal(signal.SIGINT, handler)
    return found.forbidden != () and "interrupted" in found.bound and not found.exhausted


@CASES.gives([True, True])
def ctrl_c_while_the_state_is_entered_or_left() -> Any:
    return [_stopped_at(50, "enter"), _stopped_at(50, "exit")]


if __name__ == "__main__":
    CASES.main()
