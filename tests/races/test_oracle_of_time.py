"""Compares the explorer with a model without threads, on random programs with time-outs, services and split lines."""

import random
from collections import Counter
from dataclasses import replace
from itertools import permutations, product
from typing import Any

import pytest
from deadlines import scaled
from random_programs import OPERATIONS, Case, Program, Step, random_case
from timed_model import HUNG, SHORT, Model

from yolothreads.races import DEADLOCK, explore

pytestmark = pytest.mark.timeout(scaled(120))
SEEDS = range(131, 167)  # many of these end in deadlocks, or have a service that matters
OFTEN = [seed for seed in SEEDS[::3] if seed != 152]  # which has the most schedules

# The waits of bodies overlap in a schedule, and follow one another in a sequential order. So a service cannot wake up
# as rarely in the order that gives the same, and the explorer calls it wrong: an alarm too many, and none too few.
FALSE_ALARMS = {281: (2, 0, 0, (7, 1), 2, (0, False)), 320: (1, 0, 0, (7,), 1, 0, 0)}


LEAST = {
    "hung": 6, "wrong": 12, "safe": 10, "a short time-out": 15, "a long one": 8, "a split line": 20, "a service": 20,
    "a service that matters": 4,
}  # fmt: skip


def bound(seed: int, case: Case) -> int:
    """Return a preemption bound that leaves the number of schedules in the hundreds."""
    size = sum(len(body.steps) for body in case.bodies)
    is_small = size <= (20 if case.service is None else 10)
    return random.Random(-seed).choice([0, 1, 2, 2, 2]) if is_small else 1


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
    alarms = {FALSE_ALARMS[seed]} if seed in FALSE_ALARMS else set()
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
        if not found.exhausted or found.notes or found.unwatched or lost or more != alarms:
            return f"reduce={reduce} preemptions={preemptions} lost: {lost} more: {more}\n{found}\n{module.__file__}"
    return ""


def plain(result: Any) -> Any:
    return type(result).__name__ if isinstance(result, BaseException) else result


@pytest.mark.parametrize(
    "seed",
    [
        *OFTEN,
        *(pytest.param(seed, marks=pytest.mark.nightly) for seed in range(336) if seed not in OFTEN),
    ],
)
def test_the_explorer_finds_exactly_the_bad_outcomes_of_the_model(
    seed: int, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert difference(seed, tmp_path, monkeypatch) == ""


def test_the_random_programs_cover_what_they_are_for() -> None:
    """Without all of these, the comparison above would prove little."""
    seen: Counter[str] = Counter()
    for seed in SEEDS:
        case = random_case(seed)
        outcomes, allowed = Model(case).outcomes(bound(seed, case)), right(case)
        bad = outcomes - allowed
        seen.update({"hung": HUNG in bad, "wrong": bool(bad - {HUNG}), "safe": not bad and bool(allowed)})
        steps = [step for body in case.bodies for step in body.steps]
        waits = [step.timeout for step in steps if step.kind in ("lock", "await") and step.timeout is not None]
        seen.update(
            {"a short time-out": bool(waits) and min(waits) <= SHORT, "a long one": max(waits, default=0) > SHORT}
        )
        lines = [line.strip() for body in case.bodies for line in body.lines]
        seen["a split line"] += any(len(OPERATIONS.get(line, ())) > 1 for line in lines)
        if case.service is not None:
            seen["a service"] += 1
            seen["a service that may change what is right"] += right(case, 2) != allowed
            alone = Model(replace(case, service=None)).outcomes(bound(seed, case))
            seen["a service that matters"] += alone - allowed != bad
    assert all(seen[what] >= count for what, count in LEAST.items()), seen


def test_the_model_gives_the_known_outcomes_of_small_programs() -> None:
    ignored = _body("got_0 = s.l.acquire(timeout=0.125)", Step("lock", "l", 0.125, "got_0"), "s.x += 1")
    ignored.steps.append(Step("unlock", "l", answer="got_0"))
    assert _numbers(ignored, 1) == {2} and _numbers(ignored, 2) == {1, 2}
    patient = _body("", Step("lock", "l", 2.0, "got_0"), "s.x += 1")
    patient.steps.append(Step("unlock", "l", answer="got_0"))
    assert _numbers(patient, 3) == {2}, "a long time-out passes only where nobody else can go on"
    bare = _body("", Step("sleep", timeout=0.25), "s.x += 1")
    assert _numbers(bare, 0) == {2} and _numbers(bare, 1) == {1, 2}


def test_a_service_of_the_model_does_not_hide_a_deadlock_and_can_cause_one() -> None:
    found = {}
    for first, second in (("lm", "ml"), ("lm", "lm"), ("ml", "ml")):
        service = Program(steps=[Step("sleep", timeout=0.5), *_nested("ml")])
        case = _case(Program(steps=_nested(first)), Program(steps=_nested(second)), service=service)
        found[first, second] = [HUNG in Model(case).outcomes(preemptions) for preemptions in range(3)]
    assert found["lm", "ml"] == [False, True, True], "a deadlock of the bodies"
    assert found["lm", "lm"] == [False, True, True], "a deadlock with the service"
    assert found["ml", "ml"] == [False, False, False]


def _nested(order: str) -> list[Step]:
    return [*(Step("lock", lock) for lock in order), *(Step("unlock", lock) for lock in reversed(order))]


def _body(line: str, first: Step, operation: str) -> Program:
    body = Program(lines=[line], steps=[first])
    body.do(operation)
    return body


def _case(*bodies: Program, service: Program | None = None) -> Case:
    for body in bodies:
        if body.steps[-1].kind != "end":
            body.end()
    return Case(list(bodies), service, 0.5, True)


def _numbers(body: Program, preemptions: int) -> set[Any]:
    """Return what two bodies like this may leave in x."""
    return {outcome[0] for outcome in Model(_case(replace(body), replace(body))).outcomes(preemptions)}
