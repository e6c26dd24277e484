"""Compares the explorer with a model without threads, on random programs with time-outs, services and split lines."""

import random
from itertools import permutations
from typing import Any

import pytest
from deadlines import scaled
from random_programs import Case, random_case
from timed_model import HUNG, Model

from yolothreads.races import DEADLOCK, explore

pytestmark = pytest.mark.timeout(scaled(120))
SEEDS = range(40)


def bound(seed: int, case: Case) -> int:
    """Return a preemption bound that leaves the number of schedules in the hundreds."""
    size = sum(len(body.steps) for body in case.bodies)
    return 1 if len(case.bodies) == 3 or size > 20 else random.Random(-seed).choice([0, 1, 2, 2])


def right(case: Case) -> set[Any]:
    """Return what the sequential orders of the bodies give."""
    return {Model(case).sequential(list(order)) for order in permutations(range(len(case.bodies)))} - {HUNG}


def difference(seed: int, folder: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return what the explorer and the model do not agree on."""
    case = random_case(seed)
    preemptions = bound(seed, case)
    allowed = right(case)
    if not allowed:  # then the explorer takes the first outcome for the right one
        return ""
    expected = Model(case).outcomes(preemptions) - allowed
    module = case.module(f"timed_{seed}", folder, monkeypatch)
    bodies = [getattr(module, f"body_{i}") for i in range(len(case.bodies))]
    for reduce in (True, False):
        found = explore(
            *bodies,
            setup=module.setup,
            observe=lambda s: (s.x, s.y, s.d["k"], tuple(s.q)),
            watch=[module],
            preemptions=preemptions,
            reduce=reduce,
            budget_s=scaled(120),
        )
        outcomes = {HUNG if t.kind == DEADLOCK else (*t.results[-1], *map(plain, t.results[:-1])) for t in found.forbidden}
        if not found.exhausted or found.notes or outcomes != expected:
            lost, more = expected - outcomes, outcomes - expected
            return f"reduce={reduce} preemptions={preemptions} lost: {lost} more: {more}\n{found}\n{module.__file__}"
    return ""


def plain(result: Any) -> Any:
    return type(result).__name__ if isinstance(result, BaseException) else result


@pytest.mark.parametrize("seed", SEEDS)
def test_the_explorer_finds_exactly_the_bad_outcomes_of_the_model(
    seed: int, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert difference(seed, tmp_path, monkeypatch) == ""
