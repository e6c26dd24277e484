"""Which schedules need not be run, because what they exchange does not depend on one another.

A thread is stopped before the step s, and others run until it goes on: the *gap*. If neither s nor the gap writes what
the other reads or writes, the run in which the thread is stopped after s, and which has been recorded, does the same.
So the last place of a thread is run first, and those before it are left out as far as this holds.

This is proved for two threads: then the gap of each schedule that branches off later is a part of the recorded one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from yolothreads.races.pieces import Piece, Touched
from yolothreads.races.scheduler import Scheduler
from yolothreads.races.threads import LogEntry
from yolothreads.races.turns import LINES_IN_A_ROW, Execution

DEPENDENCY = "dependency"
"""The value of the option `reduce` that asks for this."""


def is_one_stretch(log: Sequence[LogEntry], start: int, end: int) -> bool:
    """Return whether one thread passes switch points from one entry to another, and does not wait meanwhile."""
    thread = log[start][0]
    return all(task is thread and not isinstance(code, str) for task, code, *_ in log[start : end + 1])


class Dependencies:
    """Judges recorded runs; `scheduler` made them."""

    def __init__(self, scheduler: Scheduler):
        self._scheduler = scheduler

    def of(self, run: Execution, thread: str, stop: int) -> Callable[[int], bool] | None:
        """Return a function that tells whether a run can differ from this one that stops the same thread before.

        It gets the index in the log of the stop before, then of the one before that, and so on, until one can differ.

        Args:
            run: a run.
            thread: the thread that was stopped last.
            stop: the index of the stop in the log.
        """
        if run.recorder is None or not self._is_judged(run):
            return None
        pieces, end = run.recorder.pieces, stop
        gap = _gap(pieces, thread, stop)

        def can_differ(start: int) -> bool:
            nonlocal end
            steps = _steps(pieces, thread, start, end)
            answer = bool(gap.everything) or any(step.conflicts(gap) for step in steps)  # even if there is no step
            end = start
            return answer

        return can_differ

    def can_judge(self) -> bool:
        """Return whether runs can be judged, as far as is known; otherwise to record one is in vain."""
        scheduler = self._scheduler
        return len(scheduler.tasks.bodies) == 2 and not (
            scheduler.uncontrolled or scheduler.tasks.workers or scheduler.timeouts
        )

    def _is_judged(self, run: Execution) -> bool:
        """Return whether a run went its way to the end, by nothing but the recorded steps of two bodies."""
        is_usual = not (run.failure or run.stalls or run.setup_failed or run.thread_errors or run.cut_short)
        is_recorded = run.recorder is not None and not run.recorder.has_hidden_callbacks
        return is_usual and is_recorded and len(run.log) < LINES_IN_A_ROW and self.can_judge()


def _gap(pieces: Sequence[Piece], thread: str, stop: int) -> Touched:
    """Return what others touch until a stopped thread goes on, except what they have made meanwhile."""
    gap = Touched()
    for piece in pieces:
        if piece.began > stop:
            if piece.name == thread:
                break
            gap.add(piece.touched)
    return gap


def _steps(pieces: Sequence[Piece], thread: str, start: int, end: int) -> Iterator[Touched]:
    """Yield what a thread touches from one of its entries in the log up to another one."""
    for piece in pieces:
        if piece.name == thread and start <= piece.entry < end:
            yield piece.touched
            yield piece.of_new
