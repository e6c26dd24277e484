"""Races inside one line are found: a line that touches shared things more than once is split."""

import dis
import json
import subprocess
import sys
from typing import Any

import one_line_programs
import pytest
import random_lines
from deadlines import scaled
from test_tracing import VERSIONS, interpreter, run

from yolothreads.races import bytecode, explore

pytestmark = pytest.mark.timeout(scaled(120))
ALL = [*one_line_programs.RACY, *one_line_programs.SAFE]


@pytest.mark.parametrize("replays", [2, pytest.param(1000, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("name", ALL)
def test_a_race_in_one_line_is_found_and_only_there(name: str, replays: int) -> None:
    assert one_line_programs.faults(name, replays) == []


@pytest.mark.nightly
@pytest.mark.parametrize("version", VERSIONS)
def test_races_in_one_line_are_found_on_other_pythons(version: str) -> None:
    reported = run(interpreter(version), "one_line_programs.py")
    assert reported == {name: [] for name in ALL}


# --- random programs


def nightly_but(each: int, seeds: range) -> list[Any]:
    """Return the seeds, of which only each so many-th is run with every change."""
    return [seed if n % each == 0 else pytest.param(seed, marks=pytest.mark.nightly) for n, seed in enumerate(seeds)]


@pytest.mark.parametrize("seed", nightly_but(8, range(200)))
def test_a_search_finds_in_random_lines_what_one_without_any_reduction_finds(seed: int) -> None:
    assert random_lines.difference(seed) == ""


@pytest.mark.parametrize("seed", nightly_but(3, range(200, 206)))
def test_so_does_a_search_with_two_preemptions(seed: int) -> None:
    assert random_lines.difference(seed, preemptions=2) == ""


@pytest.mark.nightly
@pytest.mark.parametrize("version", VERSIONS)
def test_so_do_searches_on_other_pythons(version: str) -> None:
    reported = run(interpreter(version), "random_lines.py", "200", "230")
    assert {seed: told for seed, told in reported.items() if told} == {} and len(reported) == 30


# --- names that only a racy schedule stores


class Late:
    """Its method is replaced by code that no sequential order runs."""

    def __init__(self) -> None:
        self.is_open = False

    def step(self) -> int:
        return 1


def step_twice(s: Late) -> int:
    s.is_open = True
    steps = s.step() + s.step()
    s.is_open = False
    return steps


def replace_while_open(s: Late) -> None:
    if s.is_open:
        replace(s)


def replace(s: Late) -> None:
    s.step = lambda: 2  # type: ignore[method-assign]


@pytest.mark.parametrize("granularity", ["auto", "instruction"])
def test_all_is_run_again_where_a_racy_schedule_stores_a_name(granularity: str) -> None:
    found = explore(step_twice, replace_while_open, setup=Late, granularity=granularity)
    assert found.exhausted and {trial.results[0] for trial in found.forbidden} == {3, 4}, str(found)
    assert len({trial.schedule for trial in found.trials}) == found.schedules == found.total
    for trial in found.trials:
        assert found.replay(trial.schedule).kind == trial.kind, "a new replay does not know that the name is stored"


@pytest.mark.parametrize("each", [5, pytest.param(1, marks=pytest.mark.nightly)])
def test_a_random_search_trusts_no_name_because_its_runs_have_to_be_repeated(each: int) -> None:
    found = explore(step_twice, replace_while_open, setup=Late, strategy="random", runs=60)
    assert {trial.results[0] for trial in found.forbidden} == {3, 4}
    for trial in found.trials[::each]:
        assert found.replay(trial.schedule).results == (trial.results or found.replay(trial.schedule).results)


# --- the tables of instructions


def opcodes(python: str) -> set[str]:
    """Return the names of the instructions of a Python."""
    done = subprocess.run([python, "-c", "import dis, json; print(json.dumps(list(dis.opmap)))"], capture_output=True)
    return set(json.loads(done.stdout))


def test_every_instruction_that_is_taken_for_local_exists_in_some_python() -> None:
    known = set().union(*(opcodes(interpreter(version)) for version in ("3.11", *VERSIONS)))
    assert known > bytecode.LOCAL
    assert all(len(names) == len(set(names)) for names in bytecode.LOCAL_BECAUSE.values())


@pytest.mark.parametrize("version", ["", *VERSIONS])
def test_no_instruction_that_reads_or_calls_is_taken_for_local(version: str) -> None:
    words = (
        "ATTR",
        "SUBSCR",
        "GLOBAL",
        "NAME",
        "DEREF",
        "CALL",
        "ITER",
        "BINARY",
        "UNARY",
        "COMPARE",
        "FORMAT",
        "YIELD",
    )
    every = opcodes(interpreter(version) if version else sys.executable)
    found = {name for name in every & bytecode.LOCAL if any(word in name for word in words)}
    assert found <= {"KW_NAMES", "PRECALL", "SET_FUNCTION_ATTRIBUTE"}, "parts of a call, and of a new function"


def points(source: str, stored: set[str] | None = None) -> list[str]:
    """Return the instructions of the only function of a source at which its lines are split."""
    space: dict[str, object] = {}
    exec(source, space)
    code = space["f"].__code__  # type: ignore[attr-defined]
    found = bytecode.Code(code).points(stored or set())
    return [i.opname for i in dis.get_instructions(code) if i.offset in found]


@pytest.mark.parametrize(
    "line",
    [
        "return x", "y = x", "q.append(1)", "return len(q)", "return [1, 2, 3]",
        "return x is None or y is None",
        "if x in q: pass", "if not x: return y", "if q: pass", "x = [1, 2, x]", "return helper(x)",
        "return 3 if x < 2 else y",
        "raise", "return not x",
    ],
)  # fmt: skip
def test_a_line_with_one_operation_is_not_split(line: str) -> None:
    assert points(f"def f(x, y, q):\n    {line}\n") == []


@pytest.mark.parametrize(
    ("line", "name"), [("helper(x)", "helper"), ("q.append(1)", "append"), ("return q.append(x)", "append")]
)
def test_a_name_that_some_code_stores_is_looked_up_as_a_part_of_its_own(line: str, name: str) -> None:
    source = f"def f(x, q):\n    {line}\n"
    assert points(source) == [] and len(points(source, {name})) == 2


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("def f(s): s.step = 1", "step"), ("def f(s): del s.step", "step"),
        ("def f():\n global step\n step = 1", "step"),
        ("def f(s): setattr(s, 'step', 1)", "step"), ("def f(s): s.update(step=1)", "step"),
        ("def f(s): s.update({'step': 1, 'x': s})", "step"),
        ("def f():\n def g():\n  return n\n n = 1\n return g", "cell n"),
        ("def f(q):\n for n in q:\n  q.append(lambda: n)", "cell n"),
        ("def f(a):\n n = 1\n def g():\n  nonlocal n\n  n = a\n return g", "cell n"),
    ],
)  # fmt: skip
def test_the_names_that_code_may_store(source: str, name: str) -> None:
    space: dict[str, object] = {}
    exec(source, space)
    assert name in {name.partition(" of ")[0] for name in bytecode.stored_names(space["f"].__code__)}  # type: ignore[attr-defined]


def test_a_variable_that_is_stored_before_any_function_can_know_it_is_as_good_as_a_constant() -> None:
    space: dict[str, object] = {}
    exec("def f(a):\n n = a + 1\n def g():\n  return n + n\n return g", space)
    code = space["f"].__code__  # type: ignore[attr-defined]
    assert bytecode.fixed_cells(code) == {"n"} and not bytecode.stored_names(code)


def test_a_cell_has_another_name_than_an_attribute() -> None:
    code = compile("def f(s):\n    s.n = 1\n", "", "exec").co_consts[0]
    assert bytecode.stored_names(code) == {"n"}
