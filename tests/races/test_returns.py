"""Functions that code written in C calls: a switch after they have ended, and before the C code goes on.

Each line of `CALLED_FROM_C` makes C code call a function that sets `seen`, and fill or empty `items` afterwards.
Another thread may see the one without the other, which no sequential order shows.
"""

import functools
import gc
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
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


END = 99


def popping(items: list[int]) -> Iterator[int]:
    """Return an iterator written in C that takes from the end of a list, until it meets END."""
    return iter(items.pop, END)


def count(*iterators: Iterator[int]) -> int:
    n = 0
    try:
        for _ in zip(*iterators, strict=True):
            n += 1
    except ValueError:
        pass
    return n


def fill(state: State) -> None:
    class Filled(list):
        def __new__(cls, given: Iterator[int]) -> Any:
            state.seen = True
            return list.__new__(cls)

    Filled(popping(state.items))


class Lazy:
    """Shows the entries of the cache of a property as items."""

    def __init__(self, state: State):
        self.state = state
        type(self).value.fget.cache_clear()

    def __len__(self) -> int:
        return type(self).value.fget.cache_info().currsize

    value: Any = property(functools.cache(lambda self: self.state.note()))


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
    "an iterator of arguments": (lambda s: [END, 1, 2], lambda s: s.note(*map(s.note, popping(s.items))), 2),
    "an iterator beside another": (lambda s: [END, 1, 2], lambda s: count(s.generate(), popping(s.items)), 2),
    "__new__": (lambda s: [END, 1, 2], lambda s: fill(s), 3),
    "a property that is cached": (lambda s: Lazy(s), lambda s: s.items.value, 0),
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


# --- modules that start threads and keep results


def work(state: State) -> None:
    state.seen = True


def run_in_executor(state: State) -> None:
    with ThreadPoolExecutor(1) as executor:
        state.items = executor.submit(work, state)
        state.items.result()


def run_in_thread(state: State) -> None:
    state.items = threading.Thread(target=work, args=(state,))
    state.items.start()
    state.items.join()


def look_at_future(state: State) -> tuple[bool, bool] | None:
    future = state.items
    return None if future is None else (state.seen, future.done())


def look_at_thread(state: State) -> tuple[bool, bool] | None:
    thread = state.items
    return None if thread is None else (state.seen, thread.is_alive())


@pytest.mark.parametrize(
    ("body", "look", "seen"),
    [(run_in_executor, look_at_future, (True, False)), (run_in_thread, look_at_thread, (True, True))],
)
def test_the_end_of_a_threads_work_comes_before_its_result_is_there(body: Any, look: Any, seen: Any) -> None:
    found = explore(body, look, setup=lambda: State(None), watch=[__name__], preemptions=2)
    assert seen in {trial.results[1] for trial in found.forbidden}


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

    @value.setter
    def value(self, n: int) -> None:
        self.n = n

    def __getattr__(self, name: str) -> int:
        return 0

    def generate(self) -> Iterator[int]:
        yield self.n
        yield self.n

    def look(self, *given: int, **named: int) -> int:
        return self.n


def enter(s: Plain) -> None:
    with s:
        pass


def put_value(s: Plain) -> None:
    s.value = 1


def loop(s: Plain) -> int:
    n, generator = 0, s.generate()
    for each in s.generate():
        n += each
    for each in generator:
        n += each
    return n


def star(s: Plain, *given: int, **named: int) -> int:
    return s.look(*given, **named) + total(*given, **named)


def total(*given: int, n: int) -> int:
    return n


def fail(s: Plain) -> None:
    with s:
        raise ValueError


def look_at(s: Plain) -> int:
    return s.n


LAST_CALLS: dict[str, Callable[[Plain], Any]] = {
    "class": lambda s: Plain(1).n,
    "class with names": lambda s: Plain(n=1).n,
    "object": lambda s: s(1),
    "partial": lambda s: HALF(1),
    "property": lambda s: s.value,
    "with": enter,
    "with that fails": fail,
    "missing attribute": lambda s: s.missing,
    "setter": put_value,
    "any": lambda s: any(n == s.n for n in (1, 2)),
    "loop over a generator": lambda s: [n + 1 for n in s.generate()] and loop(s),
    "star": lambda s: star(s, 1, n=2),
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
