"""How far a run is, how fast it goes now and so far, and how long it still takes."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from time import perf_counter

_NOW_S = 1.0  # what "now" means


class Progress:
    """Counts what is done of a total, with the moments. One thread counts; any may read.

    Args:
        total: how many there are to do.
        clock: gives seconds.
    """

    def __init__(self, total: int, clock: Callable[[], float] = perf_counter) -> None:
        self.total, self.done = total, 0
        self._clock, self._began = clock, clock()
        self._ended: float | None = None
        self.moments: list[float] = []  # when each was done

    def begin(self) -> None:
        """Count the time from now on: what came before was getting ready."""
        self._began = self._clock()

    def step(self) -> None:
        """One more is done."""
        self.done += 1
        self.moments.append(self._clock())

    def end(self) -> None:
        """Stop the clock."""
        self._ended = self._clock()

    @property
    def seconds(self) -> float:
        """Since `begin`, until now or until `end`."""
        return (self._ended or self._clock()) - self._began

    @property
    def so_far(self) -> float:
        """Done per second since `begin`."""
        return self.done / self.seconds if self.done else 0.0

    @property
    def now(self) -> float:
        """Done per second in the last second."""
        moment = self._ended or self._clock()
        here = len(self.moments) - bisect_right(self.moments, moment - _NOW_S)
        return here / min(_NOW_S, max(self.seconds, 1e-9))

    @property
    def left_s(self) -> float | None:
        """Seconds that the rest takes at the speed so far; None while that is not known."""
        return (self.total - self.done) / self.so_far if self.done else None
