"""Unforced trials: run something many times, and report the rate of each outcome with its confidence interval."""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from yolothreads.errors import ArgumentError
from yolothreads.races.results import EXCEPTION, RIGHT, WRONG

_Z = 1.959964  # two-sided 95 % of the normal distribution


@dataclass(frozen=True)
class Rate:
    """The number of times that each outcome came in `trials` trials.

    `switch_interval_s` is the interpreter's thread switch interval in seconds.
    """

    counts: Mapping[str, int]
    trials: int
    switch_interval_s: float

    def __getitem__(self, kind: str) -> int:
        """Return how many trials had this outcome; 0 for an outcome that did not occur."""
        return self.counts.get(kind, 0)

    def interval(self, kind: str) -> tuple[float, float]:
        """Return the 95 % confidence interval of the share of this outcome, from 0 to 1.

        This is Wilson's score interval (E. B. Wilson, 1927). Where the outcome did not occur, the upper bound is 3/n,
        the "rule of three" (Hanley and Lippman-Hand, 1983): the outcome is rare, but it may still occur.
        """
        n, k = self.trials, self[kind]
        if k == 0:
            return 0.0, min(1.0, 3 / n)
        p, z2 = k / n, _Z * _Z
        middle = (p + z2 / (2 * n)) / (1 + z2 / n)
        half = _Z / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
        return max(0.0, middle - half), min(1.0, middle + half)

    def describe(self, kind: str) -> str:
        """Return one phrase with the count, the share, and its 95 % interval or bound."""
        low, high = self.interval(kind)
        if self[kind] == 0:
            return f"0 of {self.trials} {kind} (fewer than {high:.1%}, with 95 % confidence)"
        share = self[kind] / self.trials
        return f"{self[kind]} of {self.trials} {kind} ({share:.1%}, 95 % interval {low:.1%} to {high:.1%})"

    def rows(self) -> list[tuple[str, int, str, str]]:
        """Return kind, count, share and 95 % interval of the three main outcomes and of any other that occurred."""
        kinds = dict.fromkeys((RIGHT, WRONG, EXCEPTION, *self.counts))
        return [
            (kind, self[kind], f"{self[kind] / self.trials:.1%}", "{:.1%} to {:.1%}".format(*self.interval(kind)))
            for kind in kinds
        ]

    def __str__(self) -> str:
        return "\n".join(self.describe(kind) for kind, *_ in self.rows())


def rate(trial: Callable[[int], str], trials: int, *, stop: Callable[[Rate], bool] | None = None) -> Rate:
    """Run `trial(i)` for i = 0, 1, ... without forcing a schedule, and count the outcomes.

    Args:
        trial: returns the kind of its outcome: `RIGHT`, `WRONG`, or another word. An exception counts as `EXCEPTION`.
        trials: the number of trials, 1 or more.
        stop: called after each trial with the rate so far; if it returns True, no further trial is run.

    Raises:
        ArgumentError: `trials` is below 1.
    """
    if trials < 1:
        raise ArgumentError(f"trials={trials} makes no sense; give a whole number, 1 or more.")
    counts: Counter[str] = Counter()
    for done in range(1, trials + 1):
        try:
            counts[trial(done - 1)] += 1
        except Exception:
            counts[EXCEPTION] += 1
        so_far = Rate(dict(counts), done, sys.getswitchinterval())
        if stop is not None and stop(so_far):
            break
    return so_far
