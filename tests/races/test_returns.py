"""Functions that code written in C calls: a switch after they have ended, and before the C code goes on.

Each line of `CALLED_FROM_C` makes C code call a function that sets `seen`, and fill or empty `items` afterwards.
Another thread may see the one without the other, which no sequential order shows.
"""

import functools
import gc
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from deadlines import scaled

from yolothreads.races import explore, replay, tracing
from yolothreads.races.watching import Granularity

pytestmark = pytest.mark.timeout(scaled(60))


class State:
    """What the threads share; also a key, an item and an iterator that note when C code asks them for something."""

    def __init__(self, items: Any):
        self.seen, self.items = False, items

    def note(self, *given: Any) -> Any:
        self.seen = True
        return 1

    def __hash__(self) -> int:
        self.seen = True
        return 1

    def __eq__(self, other: object) -> bool:
        self.seen = True
        return True

    def __iter__(self) -> "State":
        return self

    def __next__(self) -> int:
        self.seen = True
        raise StopIteration

    def generate(self) -> Iterator[int]:
        yield 1
        self.seen = True

    def look(self) -> tuple[bool, int]:
        return self.seen, len(self.items)


def replace(items: list[int], given: Any) -> None:
    items[:] = given


def store(items: dict[Any, int], key: Any) -> None:
    items[key] = 1


def find(items: dict[int, int]) -> None:
    items[1]


class Cached:
    """Shows the entries of a `functools.cache` as items."""

    def __init__(self, function: Callable[[], Any]):
        self.call = functools.cache(function)

    def __len__(self) -> int:
        return self.call.cache_info().currsize


def with_items(make: Callable[[State], Any]) -> Callable[[], State]:
    def setup() -> State:
        state = State(None)
        state.items = make(state)
        return state

    return setup


# By name: what makes the items, the body, and how many items another thread sees in the midst of it.
CALLED_FROM_C: dict[str, tuple[Callable[[State], Any], Callable[[State], Any], int]] = {
    "map": (lambda s: [], lambda s: s.items.extend(map(s.note, [1])), 0),
    "filter": (lambda s: [], lambda s: s.items.extend(filter(s.note, [1])), 0),
    "a generator that ends": (lambda s: [1, 1], lambda s: replace(s.items, s.generate()), 2),
    "an iterator that ends": (lambda s: [1, 1], lambda s: replace(s.items, s), 2),
    "__hash__": (lambda s: {}, lambda s: store(s.items, s), 0),
    "__eq__": (lambda s: [1], lambda s: s.items.remove(s), 1),
    "a key": (lambda s: [1], lambda s: s.items.sort(key=s.note), 0),
    "a default": (lambda s: defaultdict(s.note), lambda s: find(s.items), 0),
    "a cache": (lambda s: Cached(s.note), lambda s: s.items.call(), 0),
}


def results_of_look(name: str, granularity: Granularity = "auto") -> tuple[set[Any], Any]:
    """Return the results of the other thread that no sequential order gives, and the exploration."""
    make, body, _ = CALLED_FROM_C[name]
    found = explore(body, State.look, setup=with_items(make), watch=[__name__], granularity=granularity)
    return {trial.results[1] for trial in found.forbidden}, found


@pytest.mark.parametrize("name", CALLED_FROM_C)
def test_a_switch_between_the_end_of_a_function_and_the_work_of_its_c_caller_is_found(name: str) -> None:
    for granularity in ("auto", "instruction"):
        assert (True, CALLED_FROM_C[name][2]) in results_of_look(name, granularity)[0], granularity


@pytest.mark.parametrize("name", CALLED_FROM_C)
def test_the_same_stays_open_between_lines(name: str) -> None:
    assert not results_of_look(name, "line")[1].safe


def test_a_switch_there_can_be_replayed() -> None:
    make, body, _ = CALLED_FROM_C["a cache"]
    bad = results_of_look("a cache")[1].forbidden[0]
    again = replay(bad.schedule, body, State.look, setup=with_items(make), watch=[__name__])
    assert again.kind == bad.kind and again.results == bad.results


# --- calls after which the C code has nothing left to do


class Plain:
    def __init__(self, n: int = 0):
        self.n = n

    def __call__(self, n: int) -> int:
        return self.n + n

    @property
    def value(self) -> int:
        return self.n

    def __enter__(self) -> int:
        return self.n

    def __exit__(self, *error: object) -> None:
        self.n = 1

    def __getitem__(self, n: int) -> int:
        return self.n

    def __setitem__(self, n: int, value: int) -> None:
        self.n = value

    def __contains__(self, n: int) -> bool:
        return self.n == n


def enter(s: Plain) -> None:
    with s:
        pass


def put(s: Plain) -> None:
    s[0] = 1


def star(s: Plain) -> int:
    given = (s,)
    return look_at(*given)


def look_at(s: Plain) -> int:
    return s.n


LAST_CALLS: dict[str, Callable[[Plain], Any]] = {
    "class": lambda s: Plain(1).n,
    "class with names": lambda s: Plain(n=1).n,
    "object": lambda s: s(1),
    "partial": lambda s: HALF(1),
    "property": lambda s: s.value,
    "with": enter,
    "item": lambda s: s[0],
    "store": put,
    "in": lambda s: 1 in s,
    "star": star,
}
HALF = partial(Plain.__call__, Plain(1))


@pytest.mark.parametrize("name", LAST_CALLS)
def test_no_switch_is_tried_where_the_c_code_has_nothing_left_to_do(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[str] = []
    usual = tracing.goes_on_after

    def goes_on_after(frame: Any, watch: Any) -> bool:
        if answer := usual(frame, watch):
            ended.append(frame.f_code.co_name)
        return answer

    monkeypatch.setattr(tracing, "goes_on_after", goes_on_after)
    explore(LAST_CALLS[name], look_at, setup=Plain, watch=[__name__], observe=look_at)
    assert ended == []


# --- finalizers


class Closing:
    """Closes itself when it is collected, under the lock that its thread waits for."""

    def __init__(self, has_cycle: bool) -> None:
        self.changed, self.n = threading.Condition(), 0
        self.itself = self if has_cycle else None

    def go(self) -> int:
        thread = threading.Thread(target=self.work)
        thread.start()
        with self.changed:
            while not self.n:
                self.changed.wait()
        thread.join()
        return self.n

    def work(self) -> None:
        with self.changed:
            self.n += 1
            self.changed.notify_all()

    def look(self) -> bool:
        with self.changed:
            return self.n in (0, 1)

    def collect(self) -> bool:
        gc.collect()
        return self.look()

    def __del__(self) -> None:
        with self.changed:
            self.n = 2
            self.changed.notify_all()


@pytest.fixture
def small_heap() -> Iterator[None]:
    """Let a collection look only at what is made from now on."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("small_heap")
@pytest.mark.parametrize("has_cycle", [True, False])
@pytest.mark.parametrize("other", [Closing.look, Closing.collect])
def test_the_finalizer_of_an_earlier_state_is_no_part_of_a_run(other: Any, has_cycle: bool) -> None:
    found = explore(Closing.go, other, setup=lambda: Closing(has_cycle), watch=[Closing], budget_s=scaled(60))
    assert found.safe, found
