"""Calls that come at random moments, what becomes of each, and their moving picture; with a worker of made-up time."""

import xml.etree.ElementTree as ET
from collections import Counter, deque
from concurrent.futures import Future
from time import thread_time

import pytest
from fakes import FakeError, picture

from yolothreads.errors import DeadlineError, QueueFullError
from yolothreads.lessons.panels.batching_run import OUTCOMES, Arrivals, BatchingRun, Calls, Choice
from yolothreads.lessons.panels.shell import Stopped
from yolothreads.lessons.panels.strips import Strips
from yolothreads.pools import Batch, Counters

# --- when calls come ---


def test_calls_come_as_often_as_the_rate_says() -> None:
    arrivals = Arrivals(rate=50, now=0.0)
    counts = [arrivals.until(second) for second in range(1, 401)]
    assert sum(counts) / 400 == pytest.approx(50, rel=0.02)
    mean = sum(counts) / len(counts)
    spread = sum((count - mean) ** 2 for count in counts) / len(counts)
    assert spread == pytest.approx(mean, rel=0.2)  # of a Poisson process both are the same


def test_how_often_one_looks_changes_nothing() -> None:
    often, seldom = Arrivals(rate=20, now=0.0), Arrivals(rate=20, now=0.0)
    assert sum(often.until(i / 100) for i in range(1, 1001)) == seldom.until(10.0)


def test_a_new_rate_holds_at_once() -> None:
    arrivals = Arrivals(rate=0, now=0.0)
    assert arrivals.until(100.0) == 0
    assert arrivals.wait_s == float("inf")
    arrivals.rate = 1000
    assert arrivals.wait_s < 0.02
    assert arrivals.until(101.0) == pytest.approx(1000, rel=0.1)


# --- what becomes of them ---


def test_each_outcome_is_entered_under_its_name() -> None:
    made: list[Future] = []

    def submit() -> Future:
        if len(made) == 5:
            raise QueueFullError("full")
        made.append(Future())
        return made[-1]

    calls = Calls(submit)
    for moment in range(6):
        calls.ask(float(moment))
    made[0].set_result("boxes")
    made[1].set_exception(DeadlineError("too late"))
    made[2].set_exception(FakeError("a bad picture"))
    made[3].cancel()
    calls.look(7.0)
    assert calls.counts == dict.fromkeys(OUTCOMES, 1)
    assert calls.became["refused"] == [5.0]
    assert (calls.under_way, calls.error) == (1, "FakeError: a bad picture")


class Worker:
    """In place of a `BatchingWorker`: does up to 4 at once in 0.05 s of a clock that goes on when somebody sleeps."""

    max_batch, room = 4, 16

    def __init__(self) -> None:
        self.now, self.counts, self.history = 100.0, Counter(), deque()
        self._waiting: deque[tuple[float, Future]] = deque()
        self._free_at = 0.0

    @property
    def counters(self) -> Counters:
        return Counters(waiting=len(self._waiting), **self.counts)

    def submit(self, image: object, deadline_s: float | None = None) -> Future:
        if len(self._waiting) == self.room:
            self.counts["refused"] += 1
            raise QueueFullError("full")
        self._waiting.append((self.now, Future()))
        return self._waiting[-1][1]

    def map(self, images):
        for image in images:
            self.submit(image)
            if len(self._waiting) == self.max_batch:
                self._do()
            yield image

    def sleep(self, seconds: float) -> None:
        until = self.now + seconds
        while self.now < until:
            self.now += 0.001
            if self._waiting and self.now >= self._free_at:
                self._do()

    def _do(self) -> None:
        batch = [self._waiting.popleft() for _ in range(min(self.max_batch, len(self._waiting)))]
        start = max(self.now, self._free_at)
        self._free_at = start + 0.05
        self.history.append(Batch(start, start + 0.05, tuple(start - asked for asked, _ in batch), 0))
        for _, future in batch:
            self.counts["answered"] += 1
            future.set_result("boxes")

    def __enter__(self):
        return self

    def __exit__(self, kind, *rest):
        for _, future in self._waiting:
            self.counts["cancelled"] += future.cancel()
        self._waiting.clear()


def went(rate, tick=lambda: None, seconds: float = 10.0) -> BatchingRun:
    worker = Worker()
    run = BatchingRun(Choice(4, 0.0, Worker.room, None, seconds), lambda: worker.now, worker.sleep)
    run.go(worker, [picture(1)], rate, tick)
    return run


def test_less_than_it_can_do_is_all_answered() -> None:
    run = went(lambda share: 20.0)
    assert run.capacity == pytest.approx(80)
    assert run.calls.counts["answered"] == len(run.calls.asked) == pytest.approx(200, rel=0.2)
    assert run.is_accounted_for


def test_more_than_it_can_do_is_refused_and_each_is_accounted_for() -> None:
    run = went(lambda share: 200.0)
    counts = run.calls.counts
    assert counts["refused"] > 500
    assert counts["answered"] + counts["refused"] == len(run.calls.asked)
    assert run.is_accounted_for
    assert run.most_waiting == Worker.room
    assert run.whole().batch == pytest.approx(4, rel=0.05)


def test_the_rate_may_change_in_the_middle() -> None:
    run = went(lambda share: 10.0 if share < 0.5 else 100.0)
    middle = run.began + 5
    assert run.between(run.began, middle).came == pytest.approx(10, rel=0.4)
    assert run.between(middle, run.began + 10).came == pytest.approx(100, rel=0.2)
    assert run.rates == [10.0, 100.0]


def test_stop_drops_what_waits_and_that_is_accounted_for_too() -> None:
    ticks = 0

    def tick() -> None:
        nonlocal ticks
        ticks += 1
        if ticks == 300:
            raise Stopped

    run = went(lambda share: 200.0, tick)
    assert run.stopped
    assert run.calls.counts["cancelled"] > 0
    assert run.is_accounted_for


def test_a_worker_that_has_counted_something_else_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Worker.counters.fget
    monkeypatch.setattr(Worker, "counters", property(lambda worker: Counters(**{**vars(honest(worker)), "late": 1})))
    assert not went(lambda share: 20.0).is_accounted_for


def test_waiting_times_are_those_of_the_batches_of_that_time() -> None:
    run = went(lambda share: 20.0)
    run.batches = [Batch(1.0, 1.1, (0.010, 0.030), 0), Batch(2.0, 2.1, (0.1,), 0)]
    assert run.between(0.5, 1.5)[2:] == pytest.approx((2.0, 20.0, 29.0))
    assert run.between(2.5, 3.0)[2:] == (None, None, None)


# --- how it looks ---


def test_the_strips_say_in_words_what_their_lines_and_ticks_mean() -> None:
    run = went(lambda share: 200.0)
    html = Strips(run).html(run.ended)
    shown = " ".join(ET.fromstring(html).itertext())
    assert all(word in shown for word in ("images waiting", "room for 16", "refused", "at most 4", "waited (ms)"))
    assert html.count('role="img"') == 3


def test_a_refusal_is_a_tick_at_its_moment() -> None:
    run = went(lambda share: 20.0)
    run.calls.became["refused"] = [run.began + 2.0, run.began + 9.0]
    strips = Strips(run)
    assert "M200 0v1M900 0v1" in strips.html(run.began + 10)
    assert "M200 0v1" not in strips.html(run.began + 13)  # it has left the picture


def test_a_redraw_of_a_rush_takes_less_than_3_ms() -> None:
    run, took = went(lambda share: 1000.0), []
    strips = Strips(run)
    for tenth in range(100):
        start = thread_time()
        strips.html(run.began + tenth / 10)
        took.append(thread_time() - start)
    assert sorted(took)[50] < 0.003
