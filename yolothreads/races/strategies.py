"""Who goes on: as a schedule says, or as random priorities have it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from types import CodeType

from yolothreads.races.crowd import Crowd
from yolothreads.races.schedule import Random, Schedule, Stop
from yolothreads.races.task import Passed, Task

NOWHERE, ANYWHERE = -1, -2
"""Instead of a line: no point, or every point, is to be asked about."""


class Follow:
    """Goes by a schedule: a thread runs on until the next stop; of several that can go on, the first one does."""

    def __init__(self, schedule: Schedule, log: list[Passed]):
        self._first, self._plan, self._log = schedule.first, list(schedule.stops), log
        self.diverged = ""
        self._await_next()

    def _await_next(self) -> None:
        """Wait for the next stop; visits that were made already count."""
        self.followed = len(self._log)
        self.stop: Stop | None = self._plan.pop(0) if self._plan else None
        self.at = self.stop.at if self.stop is not None else NOWHERE
        if self.stop is not None and self.stop.line:
            made = sum(
                not isinstance(code, str) and self.stop.is_at(task.label, code.co_name, at)
                for task, code, at, _ in self._log
            )
            self._visits_left = self.stop.visit - made

    @property
    def unfollowed(self) -> list[Stop]:
        """The stops that no thread came to."""
        return [*([self.stop] if self.stop else []), *self._plan]

    def first(self, bodies: Sequence[Task]) -> Task:
        """Who begins."""
        return next((t for t in bodies if t.label == self._first), bodies[0])

    def at_point(self, me: Task, code: CodeType, at: int, crowd: Crowd) -> Task:
        """Who goes on at a switch point."""
        if self.stop is None or not self.stop.is_at(me.label, code.co_name, at):
            return me
        self._visits_left -= 1
        return me if self._visits_left else self._taken(me, crowd.able(me))

    def at_event(self, me: Task, name: str, number: int, able: Sequence[Task], default: Task) -> Task:
        """Who goes on where a thread waits, ends or sleeps for the `number`-th time."""
        stop = self.stop
        if stop is None or (stop.function, stop.thread, stop.visit) != (name, me.label, number):
            return default
        return self._taken(default, able)

    def _taken(self, default: Task, able: Sequence[Task]) -> Task:
        assert self.stop is not None
        target = next((t for t in able if t.label == self.stop.next), None)
        if target is None:
            self.diverged = f"{self.stop.next} cannot go on at {self.stop.place()}"
        self._await_next()
        return target or default


class Priorities(Follow):
    """Every thread gets a random high priority; at `depth - 1` random steps the running one falls below all others.

    S. Burckhardt, P. Kothari, M. Musuvathi, S. Nagarakatte: "A randomized scheduler with probabilistic guarantees of
    finding bugs", ASPLOS 2010.
    """

    def __init__(self, plan: Random, log: list[Passed]):
        super().__init__(Schedule(""), log)
        self._chance = random.Random(f"{plan.depth}/{plan.steps}/{plan.seed}")
        steps = [self._chance.randint(1, plan.steps) for _ in range(plan.depth - 1)]
        self._falls = {step: float(-1 - i) for i, step in enumerate(steps)}
        self._of: dict[str, float] = {}
        self.at = ANYWHERE

    def _get(self, task: Task) -> float:
        return self._of.setdefault(task.label, self._chance.random())

    def first(self, bodies: Sequence[Task]) -> Task:
        """Who begins."""
        return max(bodies, key=self._get)

    def at_point(self, me: Task, code: CodeType, at: int, crowd: Crowd) -> Task:
        """Who goes on at a switch point: whoever has the highest priority."""
        if len(self._log) in self._falls:
            self._of[me.label] = self._falls[len(self._log)]
        return max((me, *crowd.able(me)), key=self._get)

    def at_event(self, me: Task, name: str, number: int, able: Sequence[Task], default: Task) -> Task:
        """Who goes on where a thread waits, ends or sleeps."""
        return max(able, key=self._get)
