"""Random priorities, as the PCT algorithm draws them."""

from __future__ import annotations

import random
from collections.abc import Sequence

from yolothreads.races.schedule import Random
from yolothreads.races.task import Task


class Priorities:
    """Every thread gets a random high priority; at `depth - 1` random steps the running one falls below all others.

    S. Burckhardt, P. Kothari, M. Musuvathi, S. Nagarakatte: "A randomized scheduler with probabilistic guarantees of
    finding bugs", ASPLOS 2010.
    """

    def __init__(self, plan: Random):
        self._chance = random.Random(f"{plan.depth}/{plan.steps}/{plan.seed}")
        steps = [self._chance.randint(1, plan.steps) for _ in range(plan.depth - 1)]
        self._falls = {step: float(-1 - i) for i, step in enumerate(steps)}
        self._of: dict[str, float] = {}

    def _get(self, task: Task) -> float:
        return self._of.setdefault(task.label, self._chance.random())

    def best(self, tasks: Sequence[Task]) -> Task:
        """The thread with the highest priority."""
        return max(tasks, key=self._get)

    def step(self, number: int, running: Task, others: Sequence[Task]) -> Task:
        """Who goes on at this step."""
        if number in self._falls:
            self._of[running.label] = self._falls[number]
        return self.best([running, *others])
