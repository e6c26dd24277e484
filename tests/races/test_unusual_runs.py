"""Errors outside the bodies, random results, budgets and recursion: the same on every Python found on this machine."""

from typing import Any

import cases_budget
import cases_changing
import cases_outside_bodies
import cases_recursion
import cases_repeatable
import pytest
from deadlines import scaled
from test_tracing import VERSIONS, interpreter, run

pytestmark = pytest.mark.timeout(scaled(240))
SLOW = (
    "recursion_under_a_lock",
    "recursion_by_line",
    "recursion_by_instruction",
    "a_recursion_error_that_is_caught",
    "a_body_that_changes_the_limit",
)
MODULES = (cases_outside_bodies, cases_repeatable, cases_budget, cases_recursion, cases_changing)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        pytest.param(module, name, marks=[pytest.mark.nightly] * (name in SLOW))
        for module in MODULES
        for name in module.CASES.expected
    ],
    ids=[name for module in MODULES for name in module.CASES.expected],
)
def test_case(module: Any, name: str) -> None:
    assert module.CASES.functions[name]() == module.CASES.expected[name]


@pytest.mark.nightly
@pytest.mark.parametrize("module", MODULES, ids=[module.__name__ for module in MODULES])
@pytest.mark.parametrize("version", VERSIONS)
def test_cases_on_other_pythons(version: str, module: Any) -> None:
    assert run(interpreter(version), f"{module.__name__}.py") == module.CASES.expected
