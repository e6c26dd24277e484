"""The reduction by dependency loses no outcome: each schedule has that of a search without any reduction."""

import copy
import itertools
import random
import re
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import one_line_programs
import pytest
import random_lines
import test_oracle
import torch
from deadlines import scaled
from hidden_accesses import HIDDEN, bump, number, shared
from programs import PROGRAMS
from timed_programs import TIMED

from benchmarks.races import WATCHED, warm_predict
from yolothreads import detections
from yolothreads.errors import ExploreError
from yolothreads.races import Exploration, Trial, explore
from yolothreads.races.accesses import Accesses
from yolothreads.races.frames import can_read_stack
from yolothreads.races.harmless import MEMORY, REASONS, of_libraries
from yolothreads.races.judge import same

pytestmark = pytest.mark.timeout(scaled(300))
needs_recording = pytest.mark.skipif(not can_read_stack(), reason="accesses are recorded by CPython 3.11 only")


def outcome(trial: Trial) -> str:
    return re.sub(r"0x[0-9a-f]+", "0x...", f"{trial.kind} {trial.results!r}")


def difference(*bodies: Any, **options: Any) -> str:
    """Return what a search with the reduction found otherwise than one without any."""
    whole, reduced = (
        explore(*bodies, budget_s=600, reduce=reduce, **options) for reduce in (False, "dependency")
    )  # fmt: skip
    outcomes = {trial.schedule: outcome(trial) for trial in whole.trials}
    found = [f"{t.schedule}: {outcome(t)}, not {outcomes.get(t.schedule)}" for t in reduced.trials
             if outcomes.get(t.schedule) != outcome(t)]  # fmt: skip
    found += [f"lost: {lost}" for lost in set(outcomes.values()) - set(map(outcome, reduced.trials))]
    if (whole.exhausted, whole.safe) != (reduced.exhausted, reduced.safe) or reduced.run > whole.run:
        found.append(f"{whole.verdict} {whole.run}, {reduced.verdict} {reduced.run}")
    return "\n".join(found)


@needs_recording
def test_most_schedules_of_threads_that_share_little_are_left_out() -> None:
    def work(s: Any) -> None:
        for i in range(5):
            found = [i, i + 1]
            found.append(len(found))
        s.n += 1

    found, whole = (explore(work, work, setup=shared(n=0), observe=number, reduce=r) for r in ("dependency", False))
    assert (
        found.run < whole.run / 4
        and found.schedules == whole.schedules
        and found.covered == found.schedules - found.run
    )
    assert [(t.schedule, t.kind) for t in found.trials] == [(t.schedule, t.kind) for t in whole.trials]


SOME = ("weak reference", "goes on in C after a call")


@needs_recording
@pytest.mark.parametrize("name", [n if n in SOME else pytest.param(n, marks=pytest.mark.nightly) for n in HIDDEN])
@pytest.mark.parametrize("preemptions", [1, pytest.param(2, marks=pytest.mark.nightly)])
def test_what_is_shared_in_a_hidden_way_is_seen(name: str, preemptions: int) -> None:
    bodies, setup, observe = HIDDEN[name]
    assert difference(*bodies, setup=setup, observe=observe, preemptions=preemptions) == ""


@needs_recording
@pytest.mark.nightly
@pytest.mark.parametrize("name", [*PROGRAMS, *TIMED])
def test_no_outcome_of_a_known_program_is_lost(name: str) -> None:
    program = {**PROGRAMS, **TIMED}[name]
    for preemptions in range(len(program.bad)):
        assert difference(*program.bodies, **{**program.options, "preemptions": preemptions}) == ""


@needs_recording
@pytest.mark.nightly
@pytest.mark.parametrize("name", [*one_line_programs.RACY, *one_line_programs.SAFE])
def test_no_outcome_inside_a_line_is_lost(name: str) -> None:
    bodies, setup = {**one_line_programs.RACY, **one_line_programs.SAFE}[name]
    assert difference(*bodies, setup=setup, observe=one_line_programs.seen) == ""


@needs_recording
@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(1000, 1200))
def test_no_outcome_of_random_lines_is_lost(seed: int) -> None:
    assert random_lines.difference(seed, preemptions=1 + (seed % 10 == 0), reduce="dependency") == ""


@needs_recording
@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(100))
def test_no_outcome_of_a_random_program_is_lost(seed: int, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(seed)
    programs = [test_oracle.random_program(chance) for _ in range(2)]
    module = test_oracle.module_of(f"reduced_{seed}", programs, (seed % 3 > 0, seed % 2 > 0), tmp_path, monkeypatch)
    options: dict[str, Any] = {"setup": module.State, "observe": lambda s: (s.x, s.y), "watch": [module]}
    assert difference(module.body_0, module.body_1, preemptions=chance.choice([1, 2]), **options) == ""


@needs_recording
@pytest.mark.nightly
def test_two_predictions_need_at_most_100_runs_by_line() -> None:
    with warm_predict() as predict:
        whole, found = (
            detections.explore(
                lambda: predict(1), lambda: predict(50), watch=WATCHED, budget_s=600, granularity="line", reduce=reduce
            )
            for reduce in (False, "dependency")
        )  # fmt: skip
    assert found.exhausted and found.run <= 100 and found.schedules == whole.schedules
    assert {t.schedule: t.kind for t in found.trials} == {t.schedule: t.kind for t in whole.trials}


def test_another_value_is_refused() -> None:
    with pytest.raises(ExploreError, match="reduce='all' is unknown"):
        explore(bump, bump, setup=shared(n=0), reduce="all")  # type: ignore[arg-type]


def test_a_python_that_cannot_record_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yolothreads.races.session.can_read_stack", lambda: False)
    found: Exploration = explore(bump, bump, setup=shared(n=0), observe=number, reduce="dependency")
    assert found.run == explore(bump, bump, setup=shared(n=0), observe=number).run
    assert any("reduce='dependency' needs CPython 3.11" in note for note in found.notes)


# --- the list of harmless functions

SAMPLES: tuple[tuple[Any, ...], ...] = (
    (3,), (3, 2), (2.5,), ("a",), ("a b", "a"), ("a", ("b", "c")), (b"a",), (b"a", b"a"), (3, int), ("n", "__class__"),
    ([3, 1, 2],), ([3, 1], 0), ([3, 1], 1, 5), ([3, 1], [4]), ([True, False],), ((1, 2),), ((1, 2), 1),
    ({"k": 1},), ({"k": 1}, "k"), ({"k": 1}, "x", 2), ({"k": 1}, {"l": 2}), ({1, 2},), ({1, 2}, 1), ({1, 2}, {3}),
    (deque([1, 2]),), (deque([1, 2]), 3), (deque([1, 2]), [3]),
)  # fmt: skip
FUNCTIONS = {f"{getattr(f, '__qualname__', f)} {type(f).__name__}": (f, handler)
             for functions in REASONS.values() for f, handler in functions.items()}  # fmt: skip


def seen_in(function: Callable[..., Any], handler: Callable[..., Any], arguments: tuple[Any, ...]) -> Accesses | None:
    """Call a function; return what its entry in the list notes, or None if that does not hold for such arguments."""
    seen = Accesses()
    try:
        is_harmless = handler(seen, arguments, {}) is not False
        function(*arguments)
    except Exception:  # it is not made for such arguments
        return None
    return seen if is_harmless else None


@needs_recording
def test_a_function_of_the_list_changes_nothing_that_is_not_noted() -> None:
    tried = set()
    for name, (function, handler) in FUNCTIONS.items():
        for sample in SAMPLES:
            arguments = copy.deepcopy(sample)
            seen = seen_in(function, handler, arguments)
            if seen is not None and not seen.touched.everything:
                tried.add(name)
                assert arguments == sample or id(arguments[0]) in seen.touched.writes, name
    assert len(tried) > len(FUNCTIONS) * 3 / 4, FUNCTIONS.keys() - tried


def numbers() -> tuple[Any, ...]:
    """Return tensors and arrays, and what else functions of these take."""
    t, a = torch.arange(4.0).reshape(1, 1, 2, 2) + 1, np.arange(4.0).reshape(2, 2)
    return t, a, [t, t], [2, 2], (1, 1), 1, 2.0, torch.float32


@needs_recording
@pytest.mark.nightly
def test_a_function_of_a_library_changes_no_memory_unless_that_is_noted() -> None:
    tried = set()
    functions = dict(of_libraries())
    for function, handler in functions.items():
        for i, j in itertools.product(range(len(numbers())), repeat=2):
            values = numbers()
            for arguments in ((values[i],), (values[i], values[j]), (values[i], values[j], values[j])):
                before = copy.deepcopy(arguments)
                if (seen := seen_in(function, handler, arguments)) is not None:
                    tried.add(function)
                    assert MEMORY in seen.touched.writes or same(arguments, before), function
    assert len(tried) > len(functions) * 3 / 4, functions.keys() - tried
