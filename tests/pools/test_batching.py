"""The batching worker: which calls share a batch, wait, are refused or late; and none is lost."""

import threading
from concurrent.futures import ThreadPoolExecutor, wait
from time import monotonic

import pytest
from fakes import WAIT_S, FakeError, FakeModels, picture, tag_of

from yolothreads.detections import same
from yolothreads.errors import (
    ArgumentError,
    DeadlineError,
    ImageError,
    OutOfMemoryError,
    PoolClosedError,
    QueueFullError,
)
from yolothreads.pools import BatchingWorker, Counters, Sequential
from yolothreads.scenes import scene

LONG_MS = WAIT_S * 1000  # no batch of these tests starts because of its waiting time


class Gate:
    """Holds the worker in a picture of tag 99, so that calls pile up in the queue behind it."""

    def __init__(self, fakes: FakeModels) -> None:
        self.inside, self.open = threading.Event(), threading.Event()
        fakes.inside = self._hold

    def _hold(self, model: object, tag: int) -> None:
        if tag == 99:
            self.inside.set()
            assert self.open.wait(WAIT_S)

    def close(self, pool: BatchingWorker) -> None:
        """Return when the worker is held."""
        self.held = pool.submit(picture(99))
        assert self.inside.wait(WAIT_S)


def test_a_batch_starts_when_it_is_full(fakes: FakeModels) -> None:
    with BatchingWorker(device="cpu", max_batch=4, max_wait_ms=LONG_MS) as pool:
        futures = [pool.submit(picture(tag)) for tag in range(1, 5)]
        assert [tag_of(f.result(WAIT_S / 2)) for f in futures] == [1, 2, 3, 4]
    assert fakes.built[0].batches == [4]


def test_a_batch_starts_when_the_oldest_has_waited_long_enough(fakes: FakeModels) -> None:
    with BatchingWorker(device="cpu", max_batch=4, max_wait_ms=30) as pool:
        start = monotonic()
        assert tag_of(pool.submit(picture(1)).result(WAIT_S)) == 1
        assert monotonic() - start >= 0.03


def test_leaving_the_block_starts_waiting_calls_at_once(fakes: FakeModels) -> None:
    with BatchingWorker(device="cpu", max_batch=4, max_wait_ms=LONG_MS) as pool:
        futures = [pool.submit(picture(tag)) for tag in (1, 2)]
    assert [tag_of(f.result(0)) for f in futures] == [1, 2]
    assert fakes.built[0].batches == [2]


def test_many_callers_share_batches_and_each_gets_its_own_answer(fakes: FakeModels) -> None:
    gate = Gate(fakes)
    with BatchingWorker(device="cpu", max_batch=8) as pool, ThreadPoolExecutor(16) as callers:
        gate.close(pool)
        answers = [
            callers.submit(lambda tag: tag_of(pool.submit(picture(tag)).result(WAIT_S)), t) for t in range(1, 17)
        ]
        while pool.counters.waiting < 16:
            threading.Event().wait(0.001)
        gate.open.set()
        assert [answer.result(WAIT_S) for answer in answers] == list(range(1, 17))
    assert fakes.built[0].batches == [1, 8, 8]


def test_settings_that_act_after_the_network_share_a_batch_and_hold_for_one_image_each(fakes: FakeModels) -> None:
    gate = Gate(fakes)
    confs = [0.95, 0.5, 0.1, 0.5]
    with BatchingWorker(device="cpu", max_batch=8) as pool:
        gate.close(pool)
        futures = [pool.submit(picture(1), conf=conf) for conf in confs]
        plain = pool.submit(picture(1))
        gate.open.set()
        assert [len(f.result(WAIT_S).boxes) for f in futures] == [0, 1, 2, 1]
        assert len(plain.result(WAIT_S).boxes) == 2
    assert fakes.built[0].batches == [1, 5]


def test_calls_with_different_settings_or_shapes_are_not_batched_together(fakes: FakeModels) -> None:
    gate = Gate(fakes)
    with BatchingWorker(device="cpu", max_batch=8) as pool:
        gate.close(pool)
        tall = picture(3).repeat(2, axis=0)
        futures = [pool.submit(i, **s) for i, s in [(picture(1), {}), (picture(2), {"augment": True}), (tall, {})] * 2]
        gate.open.set()
        assert [tag_of(f.result(WAIT_S)) for f in futures] == [1, 2, 3] * 2
    assert fakes.built[0].batches == [1, 2, 2, 2]


@pytest.mark.parametrize("bad", [{3}, {1, 8}, set(range(1, 9))])
def test_a_failing_image_fails_alone(fakes: FakeModels, bad: set[int]) -> None:
    fakes.refuse = bad
    with BatchingWorker(device="cpu", max_batch=8, max_wait_ms=LONG_MS) as pool:
        futures = [pool.submit(picture(tag)) for tag in range(1, 9)]
        errors = {tag for tag, f in enumerate(futures, 1) if isinstance(f.exception(WAIT_S), FakeError)}
    assert errors == bad
    assert pool.counters.failed == len(bad) and pool.counters.answered == 8 - len(bad)


def test_a_batch_too_large_for_the_memory_is_split(fakes: FakeModels) -> None:
    def full(model: object, tag: int) -> None:
        if model.batches[-1] > 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    fakes.inside = full
    with BatchingWorker(device="cpu", max_batch=8, max_wait_ms=LONG_MS) as pool:
        assert [tag_of(r) for r in pool.map(map(picture, range(1, 9)))] == list(range(1, 9))
    assert sorted(fakes.built[0].batches) == [2, 2, 2, 2, 4, 4, 8]


def test_the_error_for_an_image_too_large_for_the_memory_names_the_remedy(fakes: FakeModels) -> None:
    fakes.inside = lambda model, tag: (_ for _ in ()).throw(MemoryError())
    with BatchingWorker(device="cpu") as pool, pytest.raises(OutOfMemoryError, match="imgsz"):
        pool.submit(picture(1)).result(WAIT_S)


def test_a_full_queue_refuses_a_call_or_makes_it_wait(fakes: FakeModels) -> None:
    gate = Gate(fakes)
    with BatchingWorker(device="cpu", queue_size=2, when_full="refuse") as pool:
        gate.close(pool)
        futures = [pool.submit(picture(tag)) for tag in (1, 2)]
        with pytest.raises(QueueFullError, match="2 calls"):
            pool.submit(picture(3))
        assert pool.counters.refused == 1 and pool.counters.waiting == 2
        gate.open.set()
        assert [tag_of(f.result(WAIT_S)) for f in futures] == [1, 2]
        assert tag_of(pool.submit(picture(4)).result(WAIT_S)) == 4
    gate = Gate(fakes)
    with BatchingWorker(device="cpu", queue_size=2) as pool, ThreadPoolExecutor(1) as caller:
        gate.close(pool)
        futures = [pool.submit(picture(tag)) for tag in (1, 2)]
        third = caller.submit(pool.submit, picture(3))
        assert not wait([third], 0.05).done
        gate.open.set()
        assert [tag_of(f.result(WAIT_S)) for f in [*futures, third.result(WAIT_S)]] == [1, 2, 3]


def test_map_is_never_refused(fakes: FakeModels) -> None:
    with BatchingWorker(device="cpu", queue_size=1, when_full="refuse") as pool:
        assert [tag_of(r) for r in pool.map(map(picture, range(1, 40)))] == list(range(1, 40))


def test_a_deadline_fails_a_call_that_waits_while_the_worker_is_busy(fakes: FakeModels) -> None:
    gate = Gate(fakes)
    with BatchingWorker(device="cpu") as pool:
        gate.close(pool)
        late, patient = pool.submit(picture(1), deadline_s=0.01), pool.submit(picture(2), deadline_s=WAIT_S)
        with pytest.raises(DeadlineError, match=r"0\.01 s"):
            late.result(WAIT_S)
        assert not gate.held.done()  # the caller got the error while the worker still works
        gate.open.set()
        assert tag_of(patient.result(WAIT_S)) == 2
    assert 1 not in fakes.done
    assert pool.counters.late == 1 and pool.counters.waiting == 0


def test_a_deadline_fails_a_running_call_and_its_late_result_is_dropped(fakes: FakeModels) -> None:
    gate = Gate(fakes)
    with BatchingWorker(device="cpu", deadline_s=0.5) as pool:  # time enough for the worker to begin
        gate.close(pool)
        with pytest.raises(DeadlineError):
            gate.held.result(WAIT_S)
        gate.open.set()
        assert tag_of(pool.submit(picture(2), deadline_s=WAIT_S).result(WAIT_S)) == 2
    assert pool.counters.late == 1


def test_a_batch_does_not_wait_for_others_until_its_deadline_has_passed(fakes: FakeModels) -> None:
    with BatchingWorker(device="cpu", max_wait_ms=LONG_MS, deadline_s=1.0) as pool:
        assert tag_of(pool.submit(picture(1)).result(WAIT_S)) == 1


def test_opening_resets_the_counters(fakes: FakeModels) -> None:
    pool = BatchingWorker(device="cpu")
    for _ in range(2):
        with pool:
            pool.submit(picture(1))
        assert pool.counters == Counters(answered=1) and len(pool.history) == 1


def test_a_deadline_includes_the_time_spent_waiting_for_room(fakes: FakeModels) -> None:
    gate = Gate(fakes)
    with BatchingWorker(device="cpu", queue_size=1) as pool:
        gate.close(pool)
        waiting = pool.submit(picture(1))
        with pytest.raises(DeadlineError):
            pool.submit(picture(2), deadline_s=0.01).result(0)
        gate.open.set()
        assert tag_of(waiting.result(WAIT_S)) == 1


def test_a_cancelled_call_does_not_run_and_makes_room(fakes: FakeModels) -> None:
    gate = Gate(fakes)
    with BatchingWorker(device="cpu", queue_size=2, when_full="refuse") as pool:
        gate.close(pool)
        first, second = pool.submit(picture(1)), pool.submit(picture(2))
        assert first.cancel()
        third = pool.submit(picture(3))
        gate.open.set()
        assert [tag_of(f.result(WAIT_S)) for f in (second, third)] == [2, 3]
    assert 1 not in fakes.done
    assert pool.counters == Counters(answered=3, cancelled=1)


def test_closing_wakes_a_caller_that_waits_for_room(fakes: FakeModels) -> None:
    gate = Gate(fakes)
    with BatchingWorker(device="cpu", queue_size=1) as pool, ThreadPoolExecutor(1) as caller:
        gate.close(pool)
        waiting = pool.submit(picture(1))
        blocked = caller.submit(pool.submit, picture(2))
        assert not wait([blocked], 0.05).done
        pool.shutdown(wait=False)
        with pytest.raises(PoolClosedError):
            blocked.result(WAIT_S)
        gate.open.set()
    assert tag_of(waiting.result(0)) == 1


def test_counters_and_history_record_every_call(fakes: FakeModels) -> None:
    gate = Gate(fakes)
    with BatchingWorker(device="cpu", max_batch=4) as pool:
        gate.close(pool)
        futures = [pool.submit(picture(tag)) for tag in range(1, 7)]
        bad = pool.submit("missing.png")
        assert isinstance(bad.exception(WAIT_S), ImageError)
        assert pool.counters.waiting == 6
        gate.open.set()
        wait(futures, WAIT_S)
    assert pool.counters == Counters(waiting=0, answered=7, failed=1)
    assert [batch.size for batch in pool.history] == [1, 4, 2]
    assert [batch.left_waiting for batch in pool.history] == [6, 2, 0]
    assert all(batch.end >= batch.start and min(batch.waits_s) >= 0 for batch in pool.history)


@pytest.mark.parametrize(
    "wrong",
    [{"max_batch": 0}, {"queue_size": 0}, {"max_wait_ms": -1}, {"when_full": "drop"}, {"deadline_s": "soon"}],
    ids=str,
)
def test_the_error_for_an_invalid_argument_names_it(wrong: dict) -> None:
    with pytest.raises(ArgumentError, match=next(iter(wrong))):
        BatchingWorker(device="cpu", **wrong)


def test_real_batches_give_the_results_of_single_predictions() -> None:
    images = [scene(seed, (160, 128 + 32 * (seed % 2))).image for seed in range(8)]
    asks = [{"conf": 0.05}, {"max_det": 1}, {"classes": [0, 1]}, {}] * 2
    with Sequential(device="cpu", imgsz=160) as alone:
        expected = [alone.submit(i, **ask).result(WAIT_S) for i, ask in zip(images, asks, strict=True)]
    with BatchingWorker(device="cpu", imgsz=160, max_batch=4, max_wait_ms=200) as pool:
        futures = [pool.submit(i, **ask) for i, ask in zip(images, asks, strict=True)]
        assert all(same(f.result(60), e) for f, e in zip(futures, expected, strict=True))
        wrong, right = pool.submit(images[0], conf=7), pool.submit(images[0])
        assert "conf" in str(wrong.exception(60)) and same(right.result(60), alone_of(images[0]))
    assert sum(batch.size for batch in pool.history) == 9 and max(batch.size for batch in pool.history) == 4
    assert len({len(result.boxes) for result in expected}) > 1


def alone_of(image: object) -> object:
    """Return the result of one prediction with the usual settings."""
    with Sequential(device="cpu", imgsz=160) as pool:
        return pool.submit(image).result(60)


def test_the_worker_is_started_once_while_calls_keep_coming(fakes: FakeModels) -> None:
    with BatchingWorker(device="cpu", max_batch=4, max_wait_ms=0) as pool:
        tasks = pool._executor._work_queue
        for number, result in enumerate(pool.map(picture(i % 250) for i in range(300))):
            assert tag_of(result) == number % 250
            assert tasks.qsize() <= 1, "tasks pile up: a pool that is never idle would grow"
