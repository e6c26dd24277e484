"""Panel for `BatchingWorker`: let calls come faster or slower while it runs, and watch its queue."""

from __future__ import annotations

import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future
from itertools import cycle, islice
from typing import Any, NamedTuple

import numpy as np

from yolothreads.errors import DeadlineError, QueueFullError, not_negative
from yolothreads.lessons import figures
from yolothreads.lessons.lesson import Lesson
from yolothreads.lessons.panels import base, drawings
from yolothreads.lessons.panels.base import BasePanel, Run, State, Stopped, Tick
from yolothreads.lessons.texts import section
from yolothreads.palette import BLUE, GOOD, GREY
from yolothreads.pools import Batch, BatchingWorker, Image, read_image
from yolothreads.tables import Table

OUTCOMES = ("answered", "refused", "late", "failed", "cancelled")
"""Possible outcomes of a call."""

_POLL_S = 0.01  # between two looks at what came and what was answered
_CALIBRATION_BATCHES = 3  # in which the worker shows how fast it is, after a first one
_SHAPE = (320, 240)  # width and height: images of one batch must have one shape
_CONF = 0.05
_PER_S = range(1, 1001)
_BATCH, _QUEUE, _SECONDS = range(1, 17), range(1, 257), range(1, 121)  # a batch under way cannot be stopped
_WAITS_MS, _DEADLINES_S = (0, 5, 20, 50, 100, 500), (0.0, 0.05, 0.1, 0.2, 0.5, 1.0)  # deadline 0: none
_RUSH = ((0.25, 0.5), (0.6, 2.0), (1.0, 0.5))  # until this share of the time: the rate as a multiple of the capacity
_NOW_S = 2.0
_COLOURS = {"made": GREY, "answered": GOOD, **drawings.MARKS, "failed": BLUE, "cancelled": GREY}

_TEXTS = section("panels", "batching")


class Arrivals:
    """Moments at which calls come at random, `rate` of them per second on average: a Poisson process.

    The rate may be changed at any time. The *expected* number of calls grows by rate x time; between two calls it grows
    by an exponential number with mean 1, whatever the rate is (Brown et al. 2002, doi:10.1162/08997660252741149).

    Args:
        rate: calls per second, 0 or more.
        now: the moment (s) from which on calls come.
        seed: the same seed gives the same calls.
    """

    def __init__(self, rate: float, now: float, seed: int = 8) -> None:
        self.rate, self.expected = rate, 0.0
        self._random = np.random.default_rng(seed)
        self._next = self._random.exponential()
        self._counted_at = now

    def count_until(self, now: float) -> int:
        """Return how many came since the last count, at the rate of this moment."""
        self.expected += self.rate * (now - self._counted_at)
        self._counted_at = now
        came = 0
        while self._next <= self.expected:
            self._next += self._random.exponential()
            came += 1
        return came

    @property
    def wait_s(self) -> float:
        """Seconds from the last count to the next call, if the rate stays."""
        return (self._next - self.expected) / self.rate if self.rate else float("inf")


class Calls:
    """Record of all calls: the moments when they were made, and when each came to its outcome.

    Attributes:
        made: moments of the calls.
        moments: outcome -> the moments when it was seen.
        error: the first error that is neither a refusal nor a missed deadline.

    Args:
        submit: makes a call, as `BatchingWorker.submit` does.
    """

    def __init__(self, submit: Callable[[], Future[Any]]) -> None:
        self.made: list[float] = []
        self.moments: dict[str, list[float]] = {outcome: [] for outcome in OUTCOMES}
        self.error = ""
        self._submit = submit
        self._pending: set[Future[Any]] = set()

    def make(self, now: float) -> None:
        """Make a call."""
        self.made.append(now)
        try:
            self._pending.add(self._submit())
        except QueueFullError:
            self.moments["refused"].append(now)

    def collect(self, now: float) -> None:
        """Record the outcomes of the calls that are done by now."""
        done = [future for future in self._pending if future.done()]
        self._pending.difference_update(done)
        for future in done:
            self.moments[self._outcome(future)].append(now)

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
        """Number of calls per outcome."""
        return {outcome: len(moments) for outcome, moments in self.moments.items()}

    @property
    def pending(self) -> int:
        """Number of calls without an outcome yet."""
        return len(self._pending)


class BatchingRunSettings(NamedTuple):
    """Settings of a run: those of the worker, and for how many seconds calls come."""

    max_batch: int
    max_wait_ms: float
    queue_size: int
    deadline_s: float | None
    seconds: float


class Rates(NamedTuple):
    """Calls and answers per second, images per batch, and how long they had waited for it, in a stretch of time."""

    came: float
    answered: float
    batch: float | None
    p50_ms: float | None
    p95_ms: float | None


class BatchingRun(Run):
    """One run of a worker. Moments are seconds of `clock`, which for a real worker is `time.monotonic`.

    Attributes:
        capacity: images/s that the worker has shown it can do.
        rates: images/s that were set, in order.
        lengths: the moments when the queue's length changed, and the new length. batches: those done so far.
        agrees: whether the worker's own counters are those of `calls`.
    """

    def __init__(
        self, settings: BatchingRunSettings, clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:  # fmt: skip
        super().__init__(0, clock)
        self.settings = settings
        self.capacity = 0.0
        self.rates: list[float] = []
        self.lengths: list[tuple[float, int]] = []
        self.batches: list[Batch] = []
        self.calls = Calls(Future)
        self.agrees = True
        self._sleep = sleep

    def go(self, pool: BatchingWorker, images: Sequence[Image], rate: Callable[[float], float], tick: Tick) -> None:
        """Run. `Stopped`, raised by `tick`, ends the run early.

        Args:
            pool: not open yet.
            images: of (H, W, 3) uint8 BGR, all of one shape, used in turn.
            rate: returns calls per second, given the share (0 to 1) of the time that is over.
            tick: called often.
        """
        answered_before = 0  # any call came
        with self.until_stopped():
            self.state = State.OPENING
            tick()
            with pool:
                self.state = State.CALIBRATING
                self.capacity = _capacity(pool, images, tick)
                answered_before = pool.counters.answered
                next_image = cycle(images)
                self.calls = Calls(lambda: pool.submit(next(next_image), deadline_s=self.settings.deadline_s))
                self.state = State.WORKING
                self._let_come(pool, rate, tick)
                self.state = State.DRAINING
                while self.calls.pending:
                    self._poll(pool, tick)
                    self._sleep(_POLL_S)
        if self.began:
            self._settle(pool, answered_before)

    def _let_come(self, pool: BatchingWorker, rate: Callable[[float], float], tick: Tick) -> None:
        self.begin()
        began = now = self.began
        arrivals = Arrivals(rate(0.0), now)
        while (share := (now - began) / self.settings.seconds) < 1:
            arrivals.rate = rate(share)
            if not self.rates or self.rates[-1] != arrivals.rate:
                self.rates.append(arrivals.rate)
            for _ in range(arrivals.count_until(now)):
                self.calls.make(now)
            self._poll(pool, tick)
            self._sleep(min(arrivals.wait_s, _POLL_S))
            now = self._clock()

    def _poll(self, pool: BatchingWorker, tick: Tick) -> None:
        now, waiting = self._clock(), pool.counters.waiting
        if not self.lengths or self.lengths[-1][1] != waiting:
            self.lengths.append((now, waiting))
        self._collect(pool, now)
        tick()

    def _collect(self, pool: BatchingWorker, now: float) -> None:
        self.calls.collect(now)
        while pool.history:  # taken out of it, because it keeps only the latest 10,000
            self.batches.append(pool.history.popleft())

    def _settle(self, pool: BatchingWorker, answered_before: int) -> None:
        """Record the outcomes that closing the pool has settled, and compare them with the worker's own counters."""
        ended = self.ended
        self._collect(pool, ended)
        self.lengths.append((ended, pool.counters.waiting))
        counted = {outcome: getattr(pool.counters, outcome) for outcome in OUTCOMES}
        self.agrees = counted | {"answered": counted["answered"] - answered_before} == self.calls.counts

    @property
    def is_accounted_for(self) -> bool:
        """Whether each call has an outcome, and the worker counted the same ones."""
        return not self.calls.pending and self.agrees

    @property
    def waiting(self) -> int:
        """The length of the queue, when it was last seen."""
        return self.lengths[-1][1] if self.lengths else 0

    @property
    def most_waiting(self) -> int:
        """The longest queue that was seen."""
        return max((waiting for _, waiting in self.lengths), default=0)

    def overall(self) -> Rates:
        """Return the rates of the whole run so far. Calls come in the chosen time, answers in that and the rest."""
        seconds = self.seconds
        rates = self.between(self.began, self.began + seconds)
        return rates._replace(came=len(self.calls.made) / min(seconds, self.settings.seconds) if seconds else 0.0)

    def between(self, begin: float, end: float) -> Rates:
        """Return the rates between two moments; `begin` is excluded, `end` included."""
        seconds = max(end - begin, 1e-9)
        came, answered = (
            (bisect_right(moments, end) - bisect_right(moments, begin)) / seconds
            for moments in (self.calls.made, self.calls.moments["answered"])
        )
        first = bisect_left(self.batches, begin, key=lambda batch: batch.start)
        waits = [batch.waits_s for batch in self.batches[first:] if batch.start <= end]
        if not waits:
            return Rates(came, answered, None, None, None)
        p50, p95 = np.percentile([1000 * wait_s for of_batch in waits for wait_s in of_batch], (50, 95)).tolist()
        return Rates(came, answered, sum(map(len, waits)) / len(waits), p50, p95)


def _capacity(pool: BatchingWorker, images: Sequence[Image], tick: Tick) -> float:
    """Return the images/s of an open pool with full batches; its history is empty after that."""
    for _ in pool.map(islice(cycle(images), (1 + _CALIBRATION_BATCHES) * pool.max_batch)):
        tick()
    first, *rest = pool.history
    pool.history.clear()
    return sum(batch.size for batch in rest) / (rest[-1].end - first.end) if rest else 0.0


class BatchingPanel(BasePanel[BatchingRun]):
    """Let calls come to a `BatchingWorker` at random moments, at a rate that the reader sets, and watch its queue.

        panel = BatchingPanel(lesson, queue_size=16)
        panel.show()

    A new rate acts at once, while the run goes on; the other settings act in the next run. A call that finds the queue
    full is refused. `runs` keeps every run of this panel, and `table()` shows them.

    Args:
        lesson: its images, weights and device are used.
        rate: images/s that come at first.
        rush: whether the panel moves the rate by itself: to half of the worker's capacity, then to twice of it, then to
            half again. By default only where there is no reader to move it.
        max_batch, max_wait_ms, queue_size, deadline_s: the worker's at first, as `BatchingWorker` takes them.
        seconds: how long calls come; by default 15, or fewer without a reader, or in quick mode.
        imgsz: size in pixels that images are resized to.

    Raises:
        ArgumentError: a number is out of range.
    """

    def __init__(
        self, lesson: Lesson, *, rate: int = 20, rush: bool | None = None, max_batch: int = 8, max_wait_ms: float = 5,
        queue_size: int = 16, deadline_s: float | None = None, seconds: int | None = None, imgsz: int = 160,
    ) -> None:  # fmt: skip
        self.lesson, self.imgsz, self.runs = lesson, imgsz, list[BatchingRun]()
        has_reader = base.has_front_end()
        seconds = lesson.trials(15 if has_reader else 9, quick=3) if seconds is None else seconds
        settings = {
            **_rate_widgets(rate),
            "max_batch": base.field("max_batch", max_batch, _BATCH),
            "max_wait_ms": _time_list("max_wait_ms", _WAITS_MS, max_wait_ms, 1, "0 ms"),
            "queue_size": base.field("queue_size", queue_size, _QUEUE),
            "deadline_s": _time_list("deadline_s", _DEADLINES_S, deadline_s or 0.0, 1000, _TEXTS["no_deadline"]),
            "seconds": base.field("seconds", seconds, _SECONDS),
            "rush": base.checkbox(not has_reader if rush is None else rush, _TEXTS["rush"]),
        }
        super().__init__(_TEXTS["title"], settings)
        self._watch(BatchingRun(self._run_settings()))
        self._draw()

    def table(self) -> Table:
        """Return the table of this panel's runs, one row per run."""
        return base.runs_table(_TEXTS["headers"], [_row(run) for run in self.runs], self.lesson.stamp)

    def _run_settings(self) -> BatchingRunSettings:
        chosen = self._chosen()
        chosen["deadline_s"] = chosen["deadline_s"] or None
        return BatchingRunSettings(**{name: chosen[name] for name in BatchingRunSettings._fields})

    def _watch(self, run: BatchingRun) -> None:
        self._run, has_deadline = run, run.settings.deadline_s is not None
        self._strips = drawings.Strips(run.settings.queue_size, run.settings.max_batch, has_deadline=has_deadline)
        self._rush_factor = 0.0  # of the present phase of a rush

    def _work(self, tick: Tick) -> BatchingRun:
        import cv2

        run = BatchingRun(self._run_settings())
        self._watch(run)
        images = [np.asarray(cv2.resize(read_image(image)[0], _SHAPE), np.uint8) for image in self.lesson.images]
        run.go(self._worker(run.settings), images, self._rate, tick)
        if run.stopped and not run.calls.made:
            raise Stopped
        self.runs.append(run)
        return run

    def _worker(self, settings: BatchingRunSettings) -> BatchingWorker:
        chosen = {name: getattr(settings, name) for name in ("max_batch", "max_wait_ms", "queue_size")}
        given: dict[str, Any] = {"device": self.lesson.device, "imgsz": self.imgsz, "conf": _CONF}
        # One thread for torch: the other cores are for the calls, and for drawing.
        return BatchingWorker(self.lesson.weights, threads=1, when_full="refuse", **chosen, **given)

    def _rate(self, share: float) -> float:
        """Return the calls per second when this share of the time is over."""
        rate = self.settings["rate"]
        if self.settings["rush"].value:
            factor = next((factor for until, factor in _RUSH if share < until), self._rush_factor)
            if factor != self._rush_factor:
                self._rush_factor = factor
                rate.value = min(_PER_S[-1], max(1.0, factor * self._run.capacity))
        return float(rate.value)

    def _draw(self) -> None:
        run = self._run
        seconds, now, counts = run.settings.seconds, run.began + run.seconds, run.calls.counts
        made = {"made": len(run.calls.made), "pending": run.calls.pending}
        state = _TEXTS[run.state].format(left=max(0.0, seconds - run.seconds), capacity=run.capacity)
        # Outcomes that hardly ever happen have a box only when they do.
        rare = {outcome for outcome in ("failed", "cancelled") if not counts[outcome]}
        colours = {name: colour for name, colour in _COLOURS.items() if name not in rare}
        self.live.value = (
            f"<div>{state}</div>"
            f"{drawings.progress_bar(min(run.seconds, seconds), seconds, _TEXTS['time_over'])}"
            f"{self._numbers(run, now)}{drawings.counts(made | counts, colours, _TEXTS)}"
            f"<div>{_TEXTS['equation'].format(**made, **counts)}</div>"
            f"{self._strips.html(now, run.began, run.lengths, run.batches, run.calls.moments)}"
        )

    def _numbers(self, run: BatchingRun, now: float) -> str:
        if run.ended:
            return drawings.numbers(_TEXTS["live_in_all"], run=run, rates=run.overall())
        rates = run.between(max(run.began, now - _NOW_S), now)
        so_far = len(run.calls.moments["answered"]) / max(run.seconds, 1e-9)
        chosen = self.settings["rate"].value
        return drawings.numbers(_TEXTS["live_now"], run=run, rates=rates, chosen=chosen, so_far=so_far)

    def _sentence(self, run: BatchingRun) -> str:
        seconds, calls = min(run.seconds, run.settings.seconds), run.calls
        sentence = _TEXTS["accounted" if run.is_accounted_for else "not_accounted"]
        counted = sentence.format(seconds=seconds, made=len(calls.made), **calls.counts)
        error = _TEXTS["first_error"].format(error=calls.error) if calls.error else ""
        return f"{counted} {_TEXTS['capacity'].format(run=run)} {error}".strip()

    def _outputs(self, run: BatchingRun) -> Iterator[Any]:
        yield self._sentence(run)
        yield self.table()
        if run.batches:
            size, refused = run.settings.queue_size, run.calls.moments["refused"]
            yield figures.queue(run.batches, run.lengths, _TEXTS["figure"], size=size, refused=refused)


def _rate_widgets(rate: int) -> dict[str, Any]:
    """Return a slider and a number field that show the same rate: one is quick, the other can be read and typed."""
    from traitlets import link

    scale = {"min": 0, "max": 3, "step": 0.005, "readout": False}
    slider = base.make_widget("FloatLogSlider", value=rate, description=_TEXTS["rate"], **scale)
    number = base.field("rate", rate, _PER_S, _TEXTS["rate_number"])
    link((slider, "value"), (number, "value"), transform=(round, float))
    return {"rate": slider, "rate_number": number}


def _time_list(name: str, known: Collection[float], value: float, ms: int, zero: str) -> Any:
    """Return a list of times to choose from, in units of `ms` milliseconds; `zero` is shown for 0."""
    options = [(f"{ms * time:g} ms" if time else zero, time) for time in sorted({*known, not_negative(name, value)})]
    return base.make_widget("Dropdown", options=options, value=value, description=name.removesuffix("_s"))


def _row(run: BatchingRun) -> tuple[str | int, ...]:
    """Return a run's row of the table."""
    settings, rates = run.settings, run.overall()
    low, high = round(min(run.rates)), round(max(run.rates))
    described = _TEXTS["described" if settings.deadline_s else "described_no_deadline"]
    return (
        described.format(settings=settings, deadline_ms=1000 * (settings.deadline_s or 0)),
        f"{low}" if low == high else f"{low} – {high}",
        f"{rates.answered:.1f}",
        drawings.filled("{rates.batch:.1f}", rates=rates),
        drawings.filled("{rates.p50_ms:.0f}, {rates.p95_ms:.0f}", rates=rates),
        *(len(run.calls.moments[outcome]) for outcome in drawings.MARKS),
    )
