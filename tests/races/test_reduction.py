"""Reduction skips equivalent schedules only: kinds, verdicts and counts stay correct."""

import threading
from collections import deque
from types import ModuleType, SimpleNamespace
from typing import Any
from weakref import WeakValueDictionary

import pytest
from deadlines import scaled
from programs import PROGRAMS, kinds

from yolothreads.races import RIGHT, WRONG, explore

pytestmark = pytest.mark.timeout(scaled(120))


@pytest.mark.parametrize("name", PROGRAMS)
def test_reduction_changes_neither_kinds_nor_verdict(name: str) -> None:
    program = PROGRAMS[name]
    for preemptions in range(len(program.bad)):
        reduced, whole = (program.explore(preemptions=preemptions, reduce=reduce) for reduce in (True, False))
        assert kinds(reduced) == kinds(whole)
        assert (reduced.safe, reduced.exhausted) == (whole.safe, whole.exhausted)
        assert reduced.verdict.split(":")[0] == whole.verdict.split(":")[0]
        assert reduced.run <= whole.run and whole.covered == 0


@pytest.mark.parametrize("name", PROGRAMS)
def test_counts_add_up_and_an_exploration_is_deterministic(name: str) -> None:
    found, again = (PROGRAMS[name].explore() for _ in range(2))
    assert [(t.schedule, t.kind) for t in found.trials] == [(t.schedule, t.kind) for t in again.trials]
    assert found.schedules == found.run + found.covered == sum(outcome.count for outcome in found.outcomes)
    assert found.total == found.schedules, "exhausted: every known schedule has an outcome"
    assert sum(outcome.share for outcome in found.outcomes) == pytest.approx(1)
    assert len({trial.schedule for trial in found.trials}) == found.schedules, "no schedule is counted twice"
    assert len(found.forbidden) == sum(outcome.count for outcome in found.outcomes if outcome.kind != RIGHT)


@pytest.mark.parametrize("name", ["counter under a lock", "three bodies under a lock", "condition with while"])
def test_some_schedules_of_a_locked_program_are_covered_without_a_run(name: str) -> None:
    found = PROGRAMS[name].explore()
    assert found.safe and found.covered > 0
    assert f"{found.run} were run, {found.covered} are equivalent" in str(found)


def test_the_seed_does_not_change_the_trials_that_are_reported() -> None:
    one, other = (PROGRAMS["check then act"].explore(seed=seed) for seed in (0, 5))
    assert [(t.schedule, t.kind) for t in one.trials] == [(t.schedule, t.kind) for t in other.trials]


def pass_on(x: object) -> object:
    return x


def take_all(s: Any) -> None:
    s.taken.extend(map(pass_on, s.left))


def take_one(s: Any) -> bool:
    return (next(s.left, None), len(s.taken)) == (2, 0)


def test_what_is_done_between_two_calls_of_a_function_with_local_lines_is_not_left_out() -> None:
    found = explore(take_all, take_one, setup=lambda: SimpleNamespace(left=iter((1, 2)), taken=deque()))
    assert kinds(found) == {WRONG}, "stopped before the first call, not before the second one"


GATE = """
class Gate:
    def __init__(self, lock):
        self.waiting, self.lock = 0, lock

    def __enter__(self):
        self.waiting += 1
        self.lock.acquire()

    def __exit__(self, *exc_info):
        self.lock.release()

class Counted:
    def __init__(self, lock):
        self.waiting, self.gate_lock = 0, lock

    @property
    def gate(self):
        self.waiting += 1
        return self.gate_lock
"""


class Thing:
    """Can be looked at weakly."""


def drop(s: Any) -> None:
    thing: Any = Thing()
    s.things["k"] = thing
    other = s.things
    thing = None
    s.done = other is thing


def look_weakly(s: Any) -> tuple[int, bool]:
    return len(s.things), s.done


def test_an_object_that_vanishes_can_be_seen_by_others() -> None:
    def setup() -> SimpleNamespace:
        return SimpleNamespace(things=WeakValueDictionary(), done=None)

    found, whole = (explore(drop, look_weakly, setup=setup, reduce=reduce) for reduce in (True, False))
    assert len(found.forbidden) == len(whole.forbidden) > 0


def look_twice(s: Any) -> bool:
    with s.gate:
        first = s.gate.waiting
        second = s.gate.waiting
    return bool(first == second)


def pass_gate(s: Any) -> None:
    with s.gate:
        s.passed = True


@pytest.mark.parametrize("seed", range(6))
def test_a_thread_that_waits_in_code_that_is_not_watched_may_have_done_something_before(seed: int) -> None:
    gate = ModuleType("gate")
    exec(GATE, vars(gate))

    def setup() -> SimpleNamespace:
        return SimpleNamespace(gate=gate.Gate(threading.Lock()))

    bodies, watch = (look_twice, pass_gate), [look_twice, pass_gate]
    found, whole = (explore(*bodies, setup=setup, watch=watch, seed=seed, reduce=reduce) for reduce in (True, False))
    assert len(found.forbidden) == len(whole.forbidden) == 2


def look_at_count_twice(s: Any) -> bool:
    with s.gate:
        first = s.waiting
        second = s.waiting
    return bool(first == second)


@pytest.mark.parametrize("seed", range(4))
def test_a_lock_behind_a_property_that_is_not_watched_is_no_mere_lock(seed: int) -> None:
    gate = ModuleType("gate")
    exec(GATE, vars(gate))
    bodies: Any = look_at_count_twice, pass_gate
    found, whole = (
        explore(*bodies, setup=lambda: gate.Counted(threading.Lock()), watch=[*bodies], seed=seed, reduce=reduce)
        for reduce in (True, False)
    )
    assert len(found.forbidden) == len(whole.forbidden) == 1
