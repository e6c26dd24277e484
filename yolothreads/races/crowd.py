"""Everybody who can be given the turn, and who of them may have it."""

from __future__ import annotations

from collections.abc import Sequence

from yolothreads.races.task import State, Task


class Crowd:
    """The bodies, in their order, and the workers of pools behind them."""

    def __init__(self) -> None:
        self.bodies: list[Task] = []
        self.workers: list[Task] = []
        self.order: Sequence[int] = ()  # bodies run one after the other, in this order; nothing: at the same time

    @property
    def everybody(self) -> list[Task]:
        """All of them, those that have ended too."""
        return [*self.bodies, *self.workers]

    def allowed(self, task: Task) -> bool:
        """Whether a thread may be given the turn; in a sequential order, bodies that come later may not."""
        return task.can_run() and self._is_its_turn(task)

    def _is_its_turn(self, task: Task) -> bool:
        if not self.order or task.body is None:
            return True
        return task is next((self.bodies[i] for i in self.order if self.bodies[i].state != State.DONE), None)

    def able(self, but: Task | None = None) -> list[Task]:
        """Who may be given the turn now."""
        return [t for t in self._each_kind() if t is not but and self.allowed(t)]

    def others(self, me: Task) -> tuple[str, ...]:
        """The labels of those who could go on instead."""
        return tuple([t.label for t in self._each_kind() if t is not me and t.can_run()])

    def is_steady(self, me: Task) -> bool:
        """Whether the others stay as they are while this thread has the turn: none of them waits for anything."""
        return not self.workers and all(
            t.state not in (State.BLOCKED, State.STALLED) for t in self.bodies if t is not me
        )

    def _each_kind(self) -> list[Task]:
        """Everybody; but of workers that idle at the same queue, which are interchangeable, only the first."""
        if not self.workers:
            return self.bodies
        queues: set[int] = set()
        found = [*self.bodies]
        for worker in self.workers:
            queue = worker.idle if worker.state == State.BLOCKED else 0
            if not queue or queue not in queues:
                found.append(worker)
                queues.add(queue)
        return found

    def out_of_time(self) -> list[Task]:
        """Nobody can go on, so time passes: the one whose time-out is over first, if any waits with one."""
        waiting = [
            t for t in self.everybody if t.state == State.BLOCKED and t.timeout is not None and self._is_its_turn(t)
        ]
        if not waiting:
            return []
        first = min(waiting, key=lambda t: t.timeout or 0.0)
        first.timed_out = True
        return [first]

    def over(self) -> bool:
        """Whether every body has ended."""
        return all(t.state == State.DONE for t in self.bodies)
