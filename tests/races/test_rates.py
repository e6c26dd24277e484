"""Rates of unforced trials: correct counts, known confidence intervals, and no claim of "never"."""

import sys

import pytest
from deadlines import scaled

from yolothreads.errors import ArgumentError
from yolothreads.races import EXCEPTION, RIGHT, WRONG, Rate, rate

pytestmark = pytest.mark.timeout(scaled(120))


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    # Wilson intervals without continuity correction; Newcombe (1998), table I; the small ones by hand
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (1, 29, 0.0061, 0.1718), (5, 10, 0.2366, 0.7634)],
)
def test_the_interval_is_the_wilson_interval(k: int, n: int, low: float, high: float) -> None:
    got = Rate({WRONG: k, RIGHT: n - k}, n, 0.005).interval(WRONG)
    assert got == pytest.approx((low, high), abs=5e-5)


def test_the_interval_of_a_certain_outcome_ends_at_one() -> None:
    low, high = Rate({WRONG: 10}, 10, 0.005).interval(WRONG)
    assert low == pytest.approx(0.7225, abs=5e-5) and high == pytest.approx(1)


@pytest.mark.parametrize(("n", "bound"), [(1, 1.0), (2, 1.0), (3, 1.0), (60, 0.05), (3000, 0.001)])
def test_zero_of_n_trials_bounds_the_rate_by_three_in_n(n: int, bound: float) -> None:
    assert Rate({RIGHT: n}, n, 0.005).interval(WRONG) == (0, pytest.approx(bound))


def test_no_report_says_never_or_always() -> None:
    for counts in ({RIGHT: 300}, {WRONG: 300}, {RIGHT: 299, WRONG: 1}):
        reported = str(Rate(counts, 300, 0.005)).lower()
        assert not any(word in reported for word in ("never", "always", "impossible", "safe"))
    assert "0 of 300 wrong result (fewer than 1.0%, with 95 % confidence)" in str(Rate({RIGHT: 300}, 300, 0.005))


def test_one_in_a_thousand_is_not_called_0_percent() -> None:
    seen = Rate({RIGHT: 999, WRONG: 1}, 1000, 0.005)
    assert "(0%" not in seen.describe(WRONG) and "(100%" not in seen.describe(RIGHT)
    assert [row[2] for row in seen.rows()] == ["99.9%", "0.1%", "0.0%"]


def test_outcomes_are_counted_and_each_trial_receives_its_number() -> None:
    asked = []

    def trial(i: int) -> str:
        asked.append(i)
        return WRONG if i % 3 == 0 else "hang" if i == 1 else RIGHT

    found = rate(trial, 10)
    assert asked == list(range(10))
    assert (found[RIGHT], found[WRONG], found["hang"], found[EXCEPTION], found["other"]) == (5, 4, 1, 0, 0)
    assert (found.trials, found.switch_interval_s) == (10, sys.getswitchinterval())


def test_an_exception_is_an_outcome_but_ctrl_c_is_not() -> None:
    assert rate(lambda i: [][i], 4)[EXCEPTION] == 4

    def interrupted(i: int) -> str:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rate(interrupted, 4)


def test_stop_ends_the_trials_and_the_rate_counts_those_that_ran() -> None:
    found = rate(lambda i: WRONG if i == 4 else RIGHT, 1000, stop=lambda so_far: so_far[WRONG] > 0)
    assert (found.trials, found[RIGHT], found[WRONG]) == (5, 4, 1)


def test_rows_name_the_three_outcomes_and_any_other() -> None:
    rows = Rate({RIGHT: 3, "hang": 1}, 4, 0.005).rows()
    assert [(kind, count) for kind, count, *_ in rows] == [(RIGHT, 3), (WRONG, 0), (EXCEPTION, 0), ("hang", 1)]


@pytest.mark.parametrize("trials", [0, -1])
def test_a_rate_needs_at_least_one_trial(trials: int) -> None:
    with pytest.raises(ArgumentError, match=f"trials={trials}"):
        rate(lambda i: RIGHT, trials)
