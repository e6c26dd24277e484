"""Compares the explorer with a model without threads, on random programs with time-outs, services and split lines."""

import random
from itertools import permutations, product
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
    return 1 if size > 12 or case.service is not None else random.Random(-seed).choice([0, 1, 2, 2])


def right(case: Case, wakes: int = 0) -> set[Any]:
    """Return what the sequential orders give, with up to so many wake-ups of the service before each body."""
    model, count = Model(case), len(case.bodies)
    gaps = list(product(range(wakes + 1), repeat=count))
    return {model.sequential(order, gap) for order in permutations(range(count)) for gap in gaps} - {HUNG}


def difference(seed: int, folder: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return what the explorer and the model do not agree on."""
    case = random_case(seed)
    preemptions, allowed = bound(seed, case), right(case)
    if not allowed:  # then the explorer takes the first outcome for the right one
        return ""
    outcomes = Model(case).outcomes(preemptions)
    # Where the service can change the results of an order, it depends on how often it woke up what is right.
    surely = outcomes - right(case, 2) if case.service is not None else outcomes - allowed
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
        bad = {HUNG if t.kind == DEADLOCK else (*t.results[-1], *map(plain, t.results[:-1])) for t in found.forbidden}
        lost, more = surely - bad, bad - (surely if surely == outcomes - allowed else outcomes)
        if not found.exhausted or found.notes or found.unwatched or lost or more:
            return f"reduce={reduce} preemptions={preemptions} lost: {lost} more: {more}\n{found}\n{module.__file__}"
    return ""


def plain(result: Any) -> Any:
    return type(result).__name__ if isinstance(result, BaseException) else result


@pytest.mark.parametrize("seed", SEEDS)
def test_the_explorer_finds_exactly_the_bad_outcomes_of_the_model(
    seed: int, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert difference(seed, tmp_path, monkeypatch) == ""
