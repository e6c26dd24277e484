"""Calls that come at a `BatchingWorker` at random moments, how long they wait, and what becomes of each."""

from __future__ import annotations

import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import cycle
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

import numpy as np

from yolothreads.errors import DeadlineError, QueueFullError
from yolothreads.lessons.panels.shell import Stopped, Tick
from yolothreads.pools import Batch, BatchingWorker, Image

OUTCOMES = ("answered", "refused", "late", "failed", "cancelled")
"""What may become of a call."""

_LOOK_S = 0.01  # between two looks at what has come and what is answered, if nothing comes before
_TRIED = 3  # batches in which the worker shows how fast it is, after a first one


class Arrivals:
    """Calls that come at random moments, `rate` of them a second on average: a Poisson process.

    The rate may be changed at any time. How many calls are *expected* grows by rate x time; between two calls it grows
    by an exponential number with mean 1, whatever the rate is (Brown et al. 2002, doi:10.1162/08997660252741149).

    Args:
        rate: calls a second, 0 or more.
        now: the moment (s) from which on calls come.
        seed: the same seed gives the same calls.
    """

    def __init__(self, rate: float, now: float, seed: int = 8) -> None:
        self.rate, self.expected = rate, 0.0
        self._random = np.random.default_rng(seed)
        self._next = self._random.exponential()
        self._looked = now

    def until(self, now: float) -> int:
        """How many have come since the last look; the rate is taken to have been what it is now."""
        self.expected += self.rate * (now - self._looked)
        self._looked = now
        come = 0
        while self._next <= self.expected:
            self._next += self._random.exponential()
            come += 1
        return come

    @property
    def wait_s(self) -> float:
        """Seconds from the last look until the next one comes, if the rate stays."""
        return (self._next - self.expected) / self.rate if self.rate else float("inf")


class Calls:
    """The book of all calls: the moments when they were made, and when it was seen what became of each.

    Args:
        submit: makes a call, as `BatchingWorker.submit` does.
    """

    def __init__(self, submit: Callable[[], Future[Any]]) -> None:
        self.asked: list[float] = []
        self.became: dict[str, list[float]] = {outcome: [] for outcome in OUTCOMES}
        self.error = ""  # the first one that is neither a refusal nor a deadline
        self._submit = submit
        self._done: SimpleQueue[Future[Any]] = SimpleQueue()

    def ask(self, now: float) -> None:
        """Make a call."""
        self.asked.append(now)
        try:
            self._submit().add_done_callback(self._done.put)
        except QueueFullError:
            self.became["refused"].append(now)

    def look(self, now: float) -> None:
        """Enter the calls that are done by now."""
        while True:
            try:
                future = self._done.get_nowait()
            except Empty:
                return
            self.became[self._outcome(future)].append(now)

    def _outcome(self, future: Future[Any]) -> str:
        if future.cancelled():
            return "cancelled"
        if (error := future.exception()) is None:
            return "answered"
        if isinstance(error, DeadlineError):
            return "late"
        self.error = self.error or f"{type(error).__name__}: {error}"
        return "failed"

    @property
    def counts(self) -> dict[str, int]:
        """How many had which outcome."""
        return {outcome: len(moments) for outcome, moments in self.became.items()}

    @property
    def under_way(self) -> int:
        """Calls of which nothing has become yet."""
        return len(self.asked) - sum(self.counts.values())


@dataclass(frozen=True)
class Choice:
    """What a run is made with: of the worker all but `seconds`, in which calls come."""

    max_batch: int
    max_wait_ms: float
    queue_size: int
    deadline_s: float | None
    seconds: float


class Rates(NamedTuple):
    """What went on for a time: calls and answers a second, images in a batch, and how long they had waited for it."""

    came: float
    answered: float
    batch: float | None
    p50_ms: float | None
    p95_ms: float | None


class BatchingRun:
    """One run, and how far it is. Moments are seconds of `clock`, which for a real worker is `time.monotonic`.

    capacity: images/s that the worker has shown it can do. rates: those that were set, in order.
    lengths: moments and how many waited then, noted when it changes. batches: those done so far.
    """

    def __init__(
        self,
        choice: Choice,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.choice, self.state, self.stopped = choice, "has not begun", False
        self.capacity = 0.0
        self.rates: list[float] = []
        self.lengths: list[tuple[float, int]] = []
        self.batches: list[Batch] = []
        self.calls = Calls(Future)
        self.began = self.ended = 0.0
        self.agrees = True  # the worker's own counters with the book of calls
        self._clock, self._sleep = clock, sleep

    def go(self, pool: BatchingWorker, images: Sequence[Image], rate: Callable[[float], float], tick: Tick) -> None:
        """Do it. Ends early, with `stopped`, if `tick` raises `Stopped`.

        Args:
            pool: not open yet.
            images: of (H, W, 3) uint8, BGR, all of one shape; asked for in turn.
            rate: calls a second, given the share (0 to 1) of the time that is over.
            tick: called often.
        """
        already = 0  # answered before any call came
        try:
            self.state = "is being opened"
            tick()
            with pool:
                self.state = "shows how fast it is"
                self.capacity = _speed(pool, images, tick)
                already = pool.counters.answered
                asked = cycle(images)
                self.calls = Calls(lambda: pool.submit(next(asked), deadline_s=self.choice.deadline_s))
                self.state = "works"
                self._let_come(pool, rate, tick)
                self.state = "does what still waits"
                while self.calls.under_way:
                    self._look(pool, tick)
                    self._sleep(_LOOK_S)
        except Stopped:
            self.stopped = True
        if self.began:
            self._close(pool, already)
        self.state = "is done"

    def _let_come(self, pool: BatchingWorker, rate: Callable[[float], float], tick: Tick) -> None:
        self.began = now = self._clock()
        arrivals = Arrivals(rate(0.0), now)
        while (share := (now - self.began) / self.choice.seconds) < 1:
            arrivals.rate = rate(share)
            if not self.rates or self.rates[-1] != arrivals.rate:
                self.rates.append(arrivals.rate)
            for _ in range(arrivals.until(now)):
                self.calls.ask(now)
            self._look(pool, tick)
            self._sleep(min(arrivals.wait_s, _LOOK_S))
            now = self._clock()

    def _look(self, pool: BatchingWorker, tick: Tick) -> None:
        now, waiting = self._clock(), pool.counters.waiting
        if not self.lengths or self.lengths[-1][1] != waiting:
            self.lengths.append((now, waiting))
        self._note(pool, now)
        tick()

    def _note(self, pool: BatchingWorker, now: float) -> None:
        self.calls.look(now)
        while pool.history:  # taken out of it: it keeps the latest 10,000 only
            self.batches.append(pool.history.popleft())

    def _close(self, pool: BatchingWorker, already: int) -> None:
        """Enter what the end of the pool has settled, and hold the book against the worker's own counters."""
        self.ended = self._clock()
        self._note(pool, self.ended)
        self.lengths.append((self.ended, pool.counters.waiting))
        own = {outcome: getattr(pool.counters, outcome) for outcome in OUTCOMES}
        self.agrees = own | {"answered": own["answered"] - already} == self.calls.counts

    @property
    def is_accounted_for(self) -> bool:
        """Whether something has become of each call, and the worker has counted the same."""
        return not self.calls.under_way and self.agrees

    @property
    def most_waiting(self) -> int:
        """How many waited at most, of those moments that were looked at."""
        return max((waiting for _, waiting in self.lengths), default=0)

    @property
    def seconds(self) -> float:
        """How long calls have come, and waited, so far."""
        return ((self.ended or self._clock()) - self.began) if self.began else 0.0

    @property
    def answered_per_s(self) -> float:
        """Answers a second, so far."""
        return len(self.calls.became["answered"]) / self.seconds if self.seconds else 0.0

    def whole(self) -> Rates:
        """What has gone on so far; calls come in the chosen time, and are answered in this and the rest."""
        rates = self.between(self.began, self.began + self.seconds)
        came = len(self.calls.asked) / min(self.seconds, self.choice.seconds) if self.seconds else 0.0
        return rates._replace(came=came)

    def between(self, begin: float, end: float) -> Rates:
        """What went on between two moments, begin left out and end in."""
        seconds = max(end - begin, 1e-9)
        came, answered = (
            bisect_right(moments, end) - bisect_right(moments, begin)
            for moments in (self.calls.asked, self.calls.became["answered"])
        )
        first = bisect_left(self.batches, begin, key=lambda batch: batch.start)
        of = [batch.waits_s for batch in self.batches[first:] if batch.start <= end]
        if not of:
            return Rates(came / seconds, answered / seconds, None, None, None)
        p50, p95 = np.percentile([1000 * wait_s for waits_s in of for wait_s in waits_s], (50, 95)).tolist()
        return Rates(came / seconds, answered / seconds, sum(map(len, of)) / len(of), p50, p95)


def _speed(pool: BatchingWorker, images: Sequence[Image], tick: Tick) -> float:
    """Images/s of an open pool whose batches are full; its history is empty after that."""
    asked = cycle(images)
    for _ in pool.map(next(asked) for _ in range((1 + _TRIED) * pool.max_batch)):
        tick()
    first, *rest = pool.history
    pool.history.clear()
    return sum(batch.size for batch in rest) / (rest[-1].end - first.end) if rest else 0.0
