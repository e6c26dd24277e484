"""Each rule by which an instruction is no switch point: where it applies, and near misses that a switch can harm."""

import sys

import operand_programs
import pytest
from deadlines import scaled
from operand_programs import APPLIES, NEAR_MISSES
from test_tracing import VERSIONS, interpreter, run

from yolothreads.races import explore, operands

pytestmark = pytest.mark.timeout(scaled(120))


@pytest.mark.parametrize("line", [line for lines in APPLIES.values() for line in lines])
def test_an_instruction_that_touches_nothing_shared_is_no_place(line: str) -> None:
    assert operand_programs.fault(line, applies=True) == ""


@pytest.mark.parametrize("line", [line for lines in NEAR_MISSES.values() for line in lines])
def test_one_that_looks_alike_stays_a_place(line: str) -> None:
    assert operand_programs.fault(line, applies=False) == ""


def test_every_rule_has_a_reason_and_lines_of_both_kinds() -> None:
    names = {rule.__name__ for rule in operands.RULES}
    assert set(APPLIES) == set(NEAR_MISSES) == names
    assert all(rule.__doc__ for rule in operands.RULES)


@pytest.mark.nightly
@pytest.mark.parametrize("version", VERSIONS)
def test_the_rules_hold_on_other_pythons(version: str) -> None:
    reported = run(interpreter(version), "operand_programs.py")
    assert {line: told for line, told in reported.items() if told} == {} and len(reported) > 50


# --- what reading the variables of a function must not change


class Counter:
    """Counts in a variable of a closure, under a lock, after an instruction that may be a place."""

    def __init__(self) -> None:
        import threading

        n, lock = 0, threading.Lock()

        def add(k: list[int]) -> None:
            nonlocal n
            _ = k + k + k
            with lock:
                n = n + 1

        self.add, self.value = add, lambda: n


def test_a_variable_that_another_thread_stores_meanwhile_keeps_its_value() -> None:
    found = explore(lambda s: s.add([1]), lambda s: s.add([2]), setup=Counter, observe=lambda s: s.value())
    assert found.safe, str(found)


class Watched:
    """A target of weak references."""


def drop(s: dict[str, object]) -> bool:
    import weakref

    thing = Watched()
    seen = weakref.ref(thing)
    x = 1 if s["n"] * 2 > 1 and thing is not None else 2
    del thing
    return seen() is None and x > 0


def test_what_a_function_deletes_is_gone_at_once() -> None:
    found = explore(drop, lambda s: s.update(n=1), setup=lambda: {"n": 0})
    assert found.safe and all(trial.results[0] for trial in found.trials if trial.results), str(found)
    assert {found.replay(trial.schedule).results[0] for trial in found.trials} == {True}


def deep(depth: int) -> object:
    return (deep(depth - 1),) if depth else ()


def test_a_tuple_that_is_nested_deeply_does_no_harm() -> None:
    nested = deep(500)
    assert not operands.is_plain(nested) and operands.is_plain(((1, "a"), None))
    found = explore(
        lambda s: (s["n"], 1 if s["t"] else 2), lambda s: s.update(n=1), setup=lambda: {"n": 0, "t": nested}
    )
    assert found.safe, str(found)


def names(s: dict[str, int]) -> tuple[object, int]:
    given = locals()
    x = 1 if s["n"] * 2 > 1 else 2
    return sorted(given), x


def test_a_function_that_reads_all_its_names_is_left_alone() -> None:
    found = explore(names, lambda s: s.update(n=1), setup=lambda: {"n": 0})
    assert found.safe and not operands.checks_of(names.__code__)
    assert operands.checks_of(drop.__code__), sys.version
