"""Explorations of pools: the explorer schedules their workers like the bodies, and finds races inside them."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
from deadlines import scaled

import yolothreads
from yolothreads import detections, scenes, weights
from yolothreads.pools import ModelPerThread, Pool, SharedModel
from yolothreads.races import DEADLOCK, EXCEPTION, RIGHT, WRONG, Exploration, explore

pytestmark = pytest.mark.timeout(scaled(120))
WAIT_S = scaled(60)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    left = {thread for thread in set(threading.enumerate()) - before if thread.name[:1] in "ABW" or not thread.daemon}
    assert not left


class Counters(ThreadPoolExecutor):
    """An executor whose workers share a counter."""

    def __init__(self, workers: int = 2) -> None:
        super().__init__(workers)
        self.n, self.lock = 0, threading.Lock()

    def racy(self) -> None:
        value = self.n
        self.n = value + 1

    def locked(self) -> None:
        with self.lock:
            value = self.n
            self.n = value + 1


def submit_racy(pool: Counters) -> None:
    pool.submit(pool.racy).result(WAIT_S)


def submit_locked(pool: Counters) -> None:
    pool.submit(pool.locked).result(WAIT_S)


def started(workers: int = 2) -> Counters:
    """Return an executor whose threads have started."""
    pool = Counters(workers)
    meeting = threading.Barrier(workers)
    for future in [pool.submit(meeting.wait, WAIT_S) for _ in range(workers)]:
        future.result(WAIT_S)
    return pool


def counted(body: Any, setup: Any, **options: Any) -> Exploration:
    return explore(body, body, setup=setup, watch=[Counters], observe=lambda pool: pool.n, budget_s=600, **options)


def reset(pool: Counters) -> None:
    pool.n = 0


@pytest.mark.parametrize("setup", [Counters, started])
def test_a_race_between_two_workers_is_found(setup: Any) -> None:
    found = counted(submit_racy, setup)
    assert {trial.kind for trial in found.forbidden} == {WRONG} and found.exhausted
    assert found.uncontrolled == () and found.notes == ()
    assert any(trial.schedule.startswith(("A", "B")) and "W" in trial.schedule for trial in found.forbidden)


@pytest.mark.parametrize("setup", [Counters, started])
def test_two_workers_that_share_a_lock_are_safe(setup: Any) -> None:
    found = counted(submit_locked, setup)
    assert found.safe and found.exhausted, f"{found}\n{found.forbidden[:1]}"


def test_one_executor_is_kept_and_restored_between_schedules() -> None:
    made: list[Counters] = []

    def setup() -> Counters:
        made.append(started())
        return made[-1]

    found = counted(submit_racy, setup, restore=reset)
    assert {trial.kind for trial in found.forbidden} == {WRONG} and found.exhausted and len(made) == 1
    assert counted(submit_locked, started, restore=reset).safe


def test_one_worker_is_safe_without_a_lock() -> None:
    assert counted(submit_racy, lambda: started(1), restore=reset).safe


def test_every_schedule_of_a_pool_can_be_replayed() -> None:
    found = counted(submit_racy, started)
    for trial in found.trials[:: max(1, found.schedules // 20)]:
        assert found.replay(trial.schedule).kind == trial.kind


def submit_nested(pool: Counters) -> Any:
    """Submit a task that waits for another task of its own pool."""
    return pool.submit(lambda: pool.submit(pool.locked).result()).result()


def test_tasks_that_wait_for_tasks_of_their_own_pool_can_deadlock(caplog: pytest.LogCaptureFixture) -> None:
    found = explore(
        submit_nested, submit_nested, setup=Counters, watch=[Counters, submit_nested], preemptions=0, budget_s=600
    )
    assert any(trial.kind == DEADLOCK for trial in found.forbidden)
    assert found.notes == () and caplog.records == [] and found.seconds < scaled(60)
    assert counted(submit_locked, Counters).safe, "the next exploration works"


def fail(pool: Counters) -> None:
    pool.submit(pool.racy).result(WAIT_S)
    pool.submit([].pop).result(WAIT_S)


def test_an_exception_in_a_worker_is_not_a_fault_if_every_order_raises_it() -> None:
    found = explore(fail, submit_locked, setup=started, watch=[Counters], budget_s=600)
    assert EXCEPTION not in {trial.kind for trial in found.trials}


class AnsweredFuture(SimpleNamespace):
    """State with a future whose result is set by a thread that setup starts."""

    def __enter__(self) -> "AnsweredFuture":
        self.asked, self.answer, self.n = threading.Event(), Future(), 0
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.asked.set()
        self.thread.join(WAIT_S)

    def serve(self) -> None:
        self.asked.wait(WAIT_S)
        self.n = self.n + 1
        self.answer.set_result(self.n)


def ask(s: AnsweredFuture) -> int:
    s.asked.set()
    return s.answer.result(WAIT_S)


def look(s: AnsweredFuture) -> bool:
    first = s.n
    return s.n != first


def test_a_thread_that_setup_starts_is_scheduled() -> None:
    found = explore(ask, look, setup=AnsweredFuture, watch=[AnsweredFuture, ask, look])
    assert found.uncontrolled == () and found.notes == ()
    assert {trial.kind for trial in found.trials} <= {RIGHT, WRONG} and found.exhausted


# --- the pools of this package, on the bundled model


def exploration(pool: type[Pool], schedules: int) -> Exploration:
    """Explore two calls that differ in max_det, until the first wrong result or for this number of schedules."""
    image = scenes.scene(3, (160, 160)).image
    reported: list[str] = []

    def describe(results: Any, references: Any) -> str:
        reported.append(detections.describe(results, references))
        return reported[-1]

    def progress(done: int, known: int) -> None:
        if reported or done >= schedules:
            raise KeyboardInterrupt

    return yolothreads.explore(
        lambda pool: pool.submit(image, max_det=1).result(timeout=WAIT_S),
        lambda pool: pool.submit(image, max_det=300).result(timeout=WAIT_S),
        setup=lambda: pool(weights.bundled(), workers=2, imgsz=160, device="cpu"),
        restore=lambda pool: None,
        watch=["ultralytics.engine.model"],
        budget_s=600,
        describe=describe,
        progress=progress,
    )


def test_a_shared_model_mixes_up_the_settings_of_two_calls() -> None:
    found = exploration(SharedModel, schedules=10_000)
    (trial,) = found.forbidden
    assert trial.kind == WRONG and "gave" in trial.detail and "box" in trial.detail
    assert found.uncontrolled == () and "interrupted" in str(found)
    assert trial.where.file.endswith("model.py") or "@" in trial.schedule
    assert found.replay(trial.schedule).kind == WRONG


def test_a_model_per_thread_keeps_the_settings_of_two_calls_apart() -> None:
    found = exploration(ModelPerThread, schedules=8)
    assert not found.forbidden and found.uncontrolled == () and found.run > 3


class OneWorker:
    """A counter and an executor whose worker was started after another one had ended: its label comes again."""

    def __init__(self) -> None:
        self.n = 0
        with ThreadPoolExecutor(1) as short:
            short.submit(len, "").result()
        self.pool = ThreadPoolExecutor(1)
        self.pool.submit(len, "").result()

    def __enter__(self) -> "OneWorker":
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown()

    def put_10(self) -> None:
        self.n = 10

    def add_1(self) -> None:
        n = self.n
        self.n = n + 1


def put_in_a_short_pool(state: OneWorker) -> None:
    with ThreadPoolExecutor(1) as short:
        short.submit(state.put_10).result()


def test_two_live_workers_that_share_a_label_are_both_scheduled() -> None:
    found = explore(
        put_in_a_short_pool,
        lambda state: state.pool.submit(state.add_1).result(),
        setup=OneWorker,
        restore=lambda state: state.__dict__.update(n=0),
        observe=lambda state: state.n,
        watch=[OneWorker.put_10, OneWorker.add_1],
    )
    assert found.forbidden, str(found)
