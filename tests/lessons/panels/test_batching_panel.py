"""Panel for `BatchingWorker`: calls and their outcomes with a simulated worker, and the panel with fake models."""

import threading
from collections import Counter, deque
from concurrent.futures import Future
from contextlib import contextmanager

import pytest
from fakes import WAIT_S, FakeError, FakeModel, FakeModels, picture

from yolothreads.errors import ArgumentError, DeadlineError, QueueFullError
from yolothreads.lessons import Lesson
from yolothreads.lessons.panels.base import Stopped
from yolothreads.lessons.panels.batching import (
    OUTCOMES,
    Arrivals,
    BatchingPanel,
    BatchingRun,
    BatchingRunSettings,
    Calls,
)
from yolothreads.pools import Batch, Counters
from yolothreads.scenes import Pictures

# --- when calls come


def test_calls_arrive_at_the_given_rate() -> None:
    arrivals = Arrivals(rate=50, now=0.0)
    counts = [arrivals.count_until(second) for second in range(1, 401)]
    assert sum(counts) / 400 == pytest.approx(50, rel=0.02)
    mean = sum(counts) / len(counts)
    spread = sum((count - mean) ** 2 for count in counts) / len(counts)
    assert spread == pytest.approx(mean, rel=0.2)  # of a Poisson process both are the same


def test_counting_more_often_does_not_change_the_number_of_calls() -> None:
    often, once = Arrivals(rate=20, now=0.0), Arrivals(rate=20, now=0.0)
    assert sum(often.count_until(i / 100) for i in range(1, 1001)) == once.count_until(10.0)


def test_a_new_rate_applies_at_once() -> None:
    arrivals = Arrivals(rate=0, now=0.0)
    assert arrivals.count_until(100.0) == 0
    assert arrivals.wait_s == float("inf")
    arrivals.rate = 1000
    assert arrivals.wait_s < 0.02
    assert arrivals.count_until(101.0) == pytest.approx(1000, rel=0.1)


# --- their outcomes


def test_each_outcome_is_recorded_under_its_name() -> None:
    made: list[Future] = []

    def submit() -> Future:
        if len(made) == 5:
            raise QueueFullError("full")
        made.append(Future())
        return made[-1]

    calls = Calls(submit)
    for moment in range(6):
        calls.make(float(moment))
    made[0].set_result("boxes")
    made[1].set_exception(DeadlineError("too late"))
    made[2].set_exception(FakeError("a bad picture"))
    made[3].cancel()
    calls.collect(7.0)
    assert calls.counts == dict.fromkeys(OUTCOMES, 1)
    assert calls.moments["refused"] == [5.0]
    assert (calls.pending, calls.error) == (1, "FakeError: a bad picture")


class Worker:
    """Fake `BatchingWorker`: it answers up to 4 calls in 0.05 s of a clock that only moves in `sleep`."""

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


def finished(rate, tick=lambda: None, seconds: float = 10.0) -> BatchingRun:
    worker = Worker()
    run = BatchingRun(BatchingRunSettings(4, 0.0, Worker.room, None, seconds), lambda: worker.now, worker.sleep)
    run.go(worker, [picture(1)], rate, tick)
    return run


def test_below_the_capacity_all_calls_are_answered() -> None:
    run = finished(lambda share: 20.0)
    assert run.capacity == pytest.approx(80)
    assert run.calls.counts["answered"] == len(run.calls.made) == pytest.approx(200, rel=0.2)
    assert run.is_accounted_for


def test_above_the_capacity_calls_are_refused_and_each_is_accounted_for() -> None:
    run = finished(lambda share: 200.0)
    counts = run.calls.counts
    assert counts["refused"] > 500
    assert counts["answered"] + counts["refused"] == len(run.calls.made)
    assert run.is_accounted_for
    assert run.most_waiting == Worker.room
    assert run.overall().batch == pytest.approx(4, rel=0.05)


def test_the_rate_may_change_in_the_middle() -> None:
    run = finished(lambda share: 10.0 if share < 0.5 else 100.0)
    middle = run.began + 5
    assert run.between(run.began, middle).came == pytest.approx(10, rel=0.4)
    assert run.between(middle, run.began + 10).came == pytest.approx(100, rel=0.2)
    assert run.rates == [10.0, 100.0]


def test_stop_cancels_the_waiting_calls_and_they_are_accounted_for_too() -> None:
    ticks = 0

    def tick() -> None:
        nonlocal ticks
        ticks += 1
        if ticks == 300:
            raise Stopped

    run = finished(lambda share: 200.0, tick)
    assert run.stopped
    assert run.calls.counts["cancelled"] > 0
    assert run.is_accounted_for


def test_a_worker_that_counts_differently_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Worker.counters.fget
    monkeypatch.setattr(Worker, "counters", property(lambda worker: Counters(**{**vars(honest(worker)), "late": 1})))
    assert not finished(lambda share: 20.0).is_accounted_for


def test_waiting_times_are_those_of_the_batches_in_that_period() -> None:
    run = finished(lambda share: 20.0)
    run.batches = [Batch(1.0, 1.1, (0.010, 0.030), 0), Batch(2.0, 2.1, (0.1,), 0)]
    assert run.between(0.5, 1.5)[2:] == pytest.approx((2.0, 20.0, 29.0))
    assert run.between(2.5, 3.0)[2:] == (None, None, None)


# --- the panel


@pytest.fixture
def lesson(fakes: FakeModels) -> Lesson:
    made = Lesson("cpu", quick=True, count=1)
    made.pictures = Pictures([picture(tag) for tag in (1, 2)], ["one", "two"], None)
    return made


@contextmanager
def panel_of(lesson: Lesson, **given):
    with BatchingPanel(lesson, **{"seconds": 1, "rush": False, "rate": 50, **given}) as panel:
        yield panel


def test_a_run_shows_a_sentence_a_table_and_a_figure(lesson: Lesson) -> None:
    with panel_of(lesson) as panel:
        sentence, table, figure = panel._outputs(panel.result(WAIT_S))
        assert "each is accounted for" in sentence
        assert "each is accounted for" in panel.status.value
        assert table.rows == panel.table().rows
        assert "batches of 8, 5 ms, room for 16, no deadline" in table.rows[0]
        assert "images in" in figure.text


def test_the_table_has_one_row_per_run(lesson: Lesson) -> None:
    with panel_of(lesson) as panel:
        assert panel.table().rows == []
        for rate in (50, 100):
            panel.settings["rate"].value = rate
            panel.run()
            panel.result(WAIT_S)
        assert [row[1] for row in panel.table().rows] == ["50", "100"]


def test_the_worker_has_the_chosen_settings(lesson: Lesson) -> None:
    with panel_of(lesson, max_batch=3, queue_size=5, deadline_s=0.25, imgsz=64) as panel:
        panel.settings["max_wait_ms"].value = 50
        worker = panel._worker(settings := panel._run_settings())
        assert (worker.max_batch, worker.max_wait_ms, worker.queue_size, worker.when_full) == (3, 50, 5, "refuse")
        assert (settings.deadline_s, settings.seconds, worker.imgsz) == (0.25, 1, 64)
        panel.settings["deadline_s"].label = "none"
        assert panel._run_settings().deadline_s is None


def test_without_a_deadline_the_list_shows_none(lesson: Lesson) -> None:
    with panel_of(lesson) as panel:
        assert panel.settings["deadline_s"].label == "none"
        assert panel._run_settings().deadline_s is None


def test_slider_and_number_show_the_same_rate(lesson: Lesson) -> None:
    with panel_of(lesson) as panel:
        panel.settings["rate"].value = 123.4
        assert panel.settings["rate_number"].value == 123
        panel.settings["rate_number"].value = 7
        assert panel._rate(0.5) == 7.0


def test_a_rush_moves_the_slider_by_the_capacity(lesson: Lesson) -> None:
    with panel_of(lesson, rush=True) as panel:
        panel._run.capacity = 100.0
        assert [panel._rate(share) for share in (0.0, 0.4, 0.9)] == [50.0, 200.0, 50.0]
        panel.settings["rate"].value = 30  # the reader can still move it, until the next change
        assert panel._rate(0.95) == 30.0


def test_stop_keeps_the_counted_calls(lesson: Lesson, fakes: FakeModels) -> None:
    reached = threading.Event()

    def inside(model: FakeModel, tag: int) -> None:
        if len(model.batches) > 20:
            reached.set()

    fakes.inside = inside
    with panel_of(lesson, seconds=60, max_batch=1) as panel:
        panel.run()
        assert reached.wait(WAIT_S)
        panel.stop()
        run = panel.result(WAIT_S)
        assert run.stopped
        assert run.is_accounted_for
        assert "Stopped. " in panel.status.value
        assert "calls came in" in panel.status.value


def test_a_picture_that_fails_is_counted_and_named(lesson: Lesson, fakes: FakeModels) -> None:
    def inside(model: FakeModel, tag: int) -> None:
        if len(model.batches) == 10:
            raise FakeError("a bad picture")

    fakes.inside = inside
    with panel_of(lesson, max_batch=1) as panel:
        assert panel.result(WAIT_S).calls.counts["failed"] == 1
        assert "The first error: FakeError: a bad picture" in panel.status.value


@pytest.mark.parametrize(
    ("given", "problem"),
    [({"rate": 0}, "rate=0"), ({"max_batch": 17}, "1 to 16"), ({"max_wait_ms": -1}, "-1"), ({"deadline_s": -1}, "-1")],
)
def test_bad_arguments_are_refused_when_the_panel_is_made(lesson: Lesson, given, problem: str) -> None:
    with pytest.raises(ArgumentError, match=problem):
        BatchingPanel(lesson, **given)
