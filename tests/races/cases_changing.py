"""Results that the program changes after it has returned them. Runs on Python 3.11 and newer."""

from __future__ import annotations

from collections import deque, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from cases import Cases, bad

from yolothreads.races import explore
from yolothreads.races.judge import same, same_error, snapshot

CASES = Cases()


@dataclass
class Number:
    """Equal to others with the same number."""

    n: int = 0


def lose(get: Callable[[], int], put: Callable[[int], object], state: Any) -> bool:
    """Return whether a lost update is found in one state that is compared, and set back before each run."""

    def bump() -> None:
        n = get()
        put(n + 1)

    return bool(explore(bump, bump, observe=lambda: state, restore=lambda _: put(0)).forbidden)


@CASES.gives([True] * 5)
def a_state_that_restore_sets_back() -> Any:
    items, table, queue, number, space = [0], {"n": [0]}, deque([0]), Number(), SimpleNamespace(n=Number())
    return [
        lose(lambda: items[0], lambda n: items.__setitem__(0, n), items),
        lose(lambda: table["n"][0], lambda n: table["n"].__setitem__(0, n), table),
        lose(lambda: queue[0], lambda n: queue.__setitem__(0, n), queue),
        lose(lambda: number.n, lambda n: setattr(number, "n", n), (number, "in a tuple")),
        lose(lambda: space.n.n, lambda n: setattr(space.n, "n", n), space),
    ]


class Emptied:
    """Gives its items, and removes them when it is left."""

    def __init__(self) -> None:
        self.items: list[int] = []

    def __enter__(self) -> Emptied:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.items.clear()


def append(s: Any) -> Any:
    n = len(s.items)
    s.items.append(n)
    return s.items


@CASES.gives([["wrong result: gave ([0, 0], [0, 0]); one after the other they give ([0, 1], [0, 1])"]] * 2)
def items_that_are_removed_when_the_state_is_left() -> Any:
    return [bad(explore(append, append, setup=Emptied)), bad(explore(append, append, setup=Emptied, preemptions=2))]


@CASES.gives([True, False])
def groups_of_other_exceptions() -> Any:
    def bump(s: Any) -> None:
        n = s.n
        s.n = n + 1
        raise ExceptionGroup("both", [ValueError(s.n)])

    found = explore(bump, bump, setup=lambda: SimpleNamespace(n=0))
    return [bool(found.forbidden), found.safe]


@CASES.gives([True, True, False, True, False, False])
def equal_exceptions() -> Any:
    one, two = ExceptionGroup("g", [KeyError(1), ValueError(2)]), ExceptionGroup("g", [ValueError(2), KeyError(1)])
    return [
        same_error(one, one),
        same_error(one, two),
        same_error(one, ExceptionGroup("g", [KeyError(1), ValueError(3)])),
        same_error(ValueError("<f at 0x7f2372bc3560>"), ValueError("<f at 0x7f2372bc3999>")),
        same_error(ValueError("flags 0x1"), ValueError("flags 0x2")),
        same_error(ValueError("0xff"), ValueError("0xfe")),
    ]


@CASES.gives(["kept"] * 5 + ["copied"] * 3)
def what_is_copied() -> Any:
    class Uncopied:
        def __eq__(self, other: object) -> bool:
            return True

        def __copy__(self) -> Any:
            raise ValueError

    loop: list[Any] = []
    loop.append(loop)
    only = object()
    values = [only, (1, only), ValueError([]), Uncopied(), append, loop, [only], {"k": [1]}]
    found = ["kept" if snapshot(value) is value else "copied" for value in values]
    again = snapshot(loop)
    assert again[0] is again and snapshot([only])[0] is only and snapshot(Number) is Number
    return found


@CASES.gives([True] * 3)
def values_that_are_equal() -> Any:
    pairs = [(namedtuple("Pair", "a b")(1, [2]) for _ in range(2)), (memoryview(b"ab") for _ in range(2))]
    return [*(same(*pair) for pair in pairs), not same(memoryview(b"ab"), memoryview(b"ac"))]


if __name__ == "__main__":
    CASES.main()
