"""Programs with many orders, and with little time. Runs on Python 3.11 and newer."""

from __future__ import annotations

import multiprocessing
import threading
import time
from functools import partial
from types import SimpleNamespace
from typing import Any

from cases import Cases, bad

from yolothreads.races import Exploration, Trial, explore
from yolothreads.races.orders import distinct_orders, equal_bodies

CASES = Cases()


def fresh() -> SimpleNamespace:
    return SimpleNamespace(n=0, names=[], lock=threading.Lock())


def bump(s: Any) -> None:
    n = s.n
    s.n = n + 1


def take_number(s: Any) -> int:
    with s.lock:
        s.n += 1
        return int(s.n)


def append(name: str) -> Any:
    """Return a body that no other one is equal to."""

    def body(s: Any) -> None:
        s.names.append(name)

    return body


def append_count(s: Any) -> None:
    count = len(s.names)
    s.names.append(str(count))


def names(s: Any) -> list[str]:
    return list(s.names)


def runs_before_the_search(*bodies: Any) -> int:
    """Return the number of runs that an exploration makes before it runs the first schedule."""
    calls, seen = [], list[int]()

    def setup() -> Any:
        calls.append(1)
        return fresh()

    def look(trial: Trial) -> None:
        seen.append(len(calls) - 1)

    explore(*bodies, setup=setup, preemptions=0, watch=[__name__], on_trial=look, stop=lambda: bool(seen))
    return seen[0]


class Thing:
    def work(self, s: Any) -> None:
        s.n = 1


@CASES.gives([2, 2, 2, 2, 2])
def equal_bodies_have_one_order() -> Any:
    def make(value: int) -> Any:
        def body(s: Any, more: int = 1) -> None:
            s.n = value + more

        return body

    thing = Thing()
    return [
        runs_before_the_search(*[bump] * 8),
        runs_before_the_search(*[make(1) for _ in range(8)]),
        runs_before_the_search(*[thing.work for _ in range(8)]),
        runs_before_the_search(*[partial(bump) for _ in range(8)]),
        runs_before_the_search(*[partial(make(1), more=2) for _ in range(8)]),
    ]


@CASES.gives([2, 2])
def different_bodies_run_in_one_order_until_another_is_needed() -> Any:
    return [runs_before_the_search(*map(append, "abcd")), runs_before_the_search(*map(append, "abcdefgh"))]


@CASES.gives([[0, 0, 2], [0, 1], [0, 1], [0, 1], [0, 0], [0, 1]])
def bodies_are_equal_if_nothing_tells_them_apart() -> Any:
    def make(value: Any) -> Any:
        return lambda s: value

    marked = make(1)
    marked.mark = 1
    return [
        list(equal_bodies(bodies))
        for bodies in (
            [bump, bump, take_number],
            [make([]), make([])],
            [Thing().work, Thing().work],
            [partial(bump, 1), partial(bump, True)],
            [make((1, "a")), make((1, "a"))],
            [make(1), marked],
        )
    ]


@CASES.gives([1, 2, 3, 24, 40320])
def orders_are_counted_up_to_an_exchange() -> Any:
    groups = [(0,) * 8, (0, 1), (0, 0, 2), (0, 1, 2, 3), tuple(range(8))]
    return [len(set(distinct_orders(group))) for group in groups]


@CASES.gives([[], True])
def equal_bodies_may_exchange_their_results() -> Any:
    found = explore(*[take_number] * 4, setup=fresh, preemptions=1)
    return [bad(found), found.safe]


@CASES.gives(["wrong result: gave (None, None, None, 1); one after the other they give (None, None, None, 3)",
              "wrong result: gave (None, None, None, 2); one after the other they give (None, None, None, 3)"]
)  # fmt: skip
def a_race_of_equal_bodies_is_found() -> Any:
    return bad(explore(bump, bump, bump, setup=fresh, observe=lambda s: s.n))


@CASES.gives([[], True])
def other_orders_are_run_when_an_outcome_is_new() -> Any:
    found = explore(*map(append, "abcd"), setup=fresh, observe=names, preemptions=1)
    return [bad(found), found.safe]


@CASES.gives(["wrong result"])
def a_race_of_different_bodies_is_found_after_all_orders() -> Any:
    found = explore(append_count, append("a"), append("b"), setup=fresh, observe=names)
    return sorted({trial.kind for trial in found.forbidden})


def _slow() -> SimpleNamespace:
    time.sleep(0.005)
    return fresh()


def _in_time(budget_s: float, *bodies: Any, **options: Any) -> Exploration:
    """Explore with a small budget what would take more than a minute; return what was found, if that took no minute."""
    began = time.perf_counter()
    found = explore(*bodies, setup=_slow, budget_s=budget_s, **options)
    assert time.perf_counter() - began < 30
    return found


@CASES.gives([True, True, True])
def the_budget_holds_for_six_seven_and_eight_bodies() -> Any:
    founds = [_in_time(0.3, *map(append, "abcdefgh"[:n]), observe=names, preemptions=2) for n in (6, 7, 8)]
    return [not found.forbidden and "the budget ended first" in found.bound for found in founds]


@CASES.gives([[], True, True])
def an_outcome_that_is_not_known_is_not_bad() -> Any:
    """The budget ends before all 120 orders are run, one of which might give what the race gave."""

    def observe(s: Any) -> list[str]:
        if s.names.index(next(filter(str.isdigit, s.names))) != int("".join(filter(str.isdigit, s.names))):
            time.sleep(1.1)
        return names(s)

    bodies = (append_count, *map(append, "abcd"))
    found = explore(*bodies, setup=fresh, observe=observe, budget_s=1, strategy="random", depth=2)
    note = any("so it is not counted" in note for note in found.notes)
    return [bad(found), "the budget ended first" in found.bound, note]


@CASES.gives([True, True])
def an_ended_budget_recommends_the_random_strategy() -> Any:
    advice = 'strategy="random"'
    ended = _in_time(0.3, *map(append, "abcdefgh"), preemptions=2)
    return [any(advice in note for note in ended.notes), advice not in str(explore(bump, bump, setup=fresh))]


# --- locks of multiprocessing


def _kinds(found: Exploration) -> list[str]:
    return sorted({trial.kind for trial in found.forbidden})


def bump_within(s: Any) -> None:
    with s.lock:
        n = s.n
        s.n = n + 1


def bump_by_calls(s: Any) -> None:
    s.lock.acquire()
    bump(s)
    s.lock.release()


def _with(make: Any) -> Any:
    return lambda: SimpleNamespace(n=0, lock=make())


@CASES.gives([[[], True, []]] * 6)
def locks_of_multiprocessing_are_like_others() -> Any:
    """No stall: every use would take half a second."""
    one = multiprocessing.RLock()  # made before the exploration
    makers = (
        multiprocessing.Lock, multiprocessing.RLock, multiprocessing.Semaphore, multiprocessing.BoundedSemaphore,
        multiprocessing.Condition, lambda: one,
    )  # fmt: skip
    founds = [
        explore(bump_within, bump_by_calls, setup=_with(make), observe=lambda s: s.n, watch=[__name__])
        for make in makers
    ]
    return [[_kinds(found), found.safe, list(found.notes)] for found in founds]


@CASES.gives([["deadlock"], []])
def crossed_locks_of_multiprocessing_deadlock() -> Any:
    def first_then_second(s: Any) -> None:
        with s.a, s.b:
            s.n += 1

    def second_then_first(s: Any) -> None:
        with s.b, s.a:
            s.n += 1

    def setup() -> Any:
        return SimpleNamespace(n=0, a=multiprocessing.Lock(), b=multiprocessing.RLock())

    found = explore(first_then_second, second_then_first, setup=setup)
    return [_kinds(found), list(found.notes)]


@CASES.gives([[], True, []])
def an_event_of_multiprocessing_is_waited_for() -> Any:
    def wait(s: Any) -> bool:
        return bool(s.lock.wait())

    def tell(s: Any) -> None:
        s.n = 1
        s.lock.set()

    found = explore(wait, tell, setup=_with(multiprocessing.Event), watch=[__name__])
    return [_kinds(found), found.safe, list(found.notes)]


@CASES.gives(["no lock"])
def a_wait_for_a_lock_of_multiprocessing_may_pass_without_it() -> Any:
    def try_it(s: Any) -> str:
        if not s.lock.acquire(timeout=0.1):
            return "no lock"
        s.lock.release()
        return "lock"

    found = explore(try_it, bump_within, setup=_with(multiprocessing.Lock), preemptions=2, watch=[__name__])
    return sorted({trial.results[0] for trial in found.forbidden})


if __name__ == "__main__":
    CASES.main()
