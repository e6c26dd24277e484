"""Reduction skips equivalent schedules only: kinds, verdicts and counts stay correct."""

from collections import deque
from types import SimpleNamespace
from typing import Any

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
def test_counts_add_up(name: str) -> None:
    found = PROGRAMS[name].explore()
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


@pytest.mark.parametrize("name", PROGRAMS)
def test_an_exploration_is_deterministic(name: str) -> None:
    first, again = (PROGRAMS[name].explore() for _ in range(2))
    assert [(t.schedule, t.kind) for t in first.trials] == [(t.schedule, t.kind) for t in again.trials]


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
