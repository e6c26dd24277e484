"""Every pool from asyncio: answers, errors, cancellation and time-outs; and the event loop never waits."""

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import ultralytics.utils.patches
from deadlines import scaled
from fakes import KINDS, WAIT_S, FakeError, FakeModels, picture, tag_of

from yolothreads.errors import ArgumentError, ImageError, PoolClosedError, QueueFullError
from yolothreads.pools import BatchingWorker, Counters, Pool, SharedModel, make_pool

pytestmark = pytest.mark.timeout(scaled(120))


class Gate:
    """Holds every worker in its first picture until it is opened; `inside` is set when a worker has come to it."""

    def __init__(self, fakes: FakeModels) -> None:
        self._inside, self._open = threading.Event(), threading.Event()
        fakes.inside = self._hold

    def _hold(self, model: object, tag: int) -> None:
        self._inside.set()
        assert self._open.wait(WAIT_S)

    async def inside(self) -> None:
        assert await asyncio.to_thread(self._inside.wait, WAIT_S)

    def open(self) -> None:
        self._open.set()


async def started(*tasks: asyncio.Task) -> None:
    """Let tasks run until they wait."""
    for _ in range(3):
        await asyncio.sleep(0)
    assert not any(task.done() for task in tasks)


@pytest.mark.parametrize("kind", KINDS)
def test_coroutines_get_each_their_own_answer_with_their_own_settings(kind: type[Pool], fakes: FakeModels) -> None:
    found = {0.1: 2, 0.5: 1, 0.95: 0}
    confs = list(found) if kind is not SharedModel else [0.5]  # which mixes the settings up

    async def ask(pool: Pool) -> list:
        answers = [pool.predict(picture(tag), conf=confs[tag % len(confs)]) for tag in range(1, 61)]
        return [(tag_of(result), len(result.boxes)) for result in await asyncio.gather(*answers)]

    with make_pool(kind, workers=2, device="cpu") as pool:
        assert asyncio.run(ask(pool)) == [(tag, found[confs[tag % len(confs)]]) for tag in range(1, 61)]


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_ends_the_coroutine_of_its_image_only(kind: type[Pool], fakes: FakeModels, tmp_path: Path) -> None:
    fakes.refuse = {2}

    async def ask(pool: Pool) -> list:
        images = [picture(1), picture(2), tmp_path / "missing.png", picture(3)]
        answers = await asyncio.gather(*map(pool.predict, images), return_exceptions=True)
        with pytest.raises(ArgumentError, match='"confidence"'):
            await pool.predict(picture(1), confidence=1)
        return answers

    pool = make_pool(kind, workers=2, device="cpu")
    with pool:
        one, two, missing, three = asyncio.run(ask(pool))
    assert (tag_of(one), type(two), type(missing), tag_of(three)) == (1, FakeError, ImageError, 3)
    with pytest.raises(PoolClosedError):
        asyncio.run(pool.predict(picture(1)))


@pytest.mark.parametrize("kind", KINDS)
def test_cancelling_drops_a_call_that_waits_and_the_answer_of_one_that_runs(
    kind: type[Pool], fakes: FakeModels
) -> None:
    async def ask(pool: Pool) -> None:
        gate = Gate(fakes)
        running = asyncio.create_task(pool.predict(picture(1)))
        await gate.inside()
        waiting, last = (asyncio.create_task(pool.predict(picture(tag))) for tag in (2, 3))
        await started(waiting, last)
        running.cancel()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await waiting
        gate.open()
        assert tag_of(await asyncio.wait_for(last, WAIT_S)) == 3
        assert running.cancelled()

    with make_pool(kind, workers=1, device="cpu") as pool:
        asyncio.run(ask(pool))
    assert fakes.done == [1, 3]


@pytest.mark.parametrize("kind", KINDS)
def test_the_thread_of_the_event_loop_reads_no_file_and_copies_no_array(
    kind: type[Pool], fakes: FakeModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    did: list[tuple[str, threading.Thread]] = []

    def noted(module: object, name: str) -> None:
        function = getattr(module, name)

        def noting(*args: object, **kwargs: object) -> object:
            did.append((name, threading.current_thread()))
            return function(*args, **kwargs)

        monkeypatch.setattr(module, name, noting)

    (tmp_path / "9.png").write_bytes(cv2.imencode(".png", picture(9))[1].tobytes())

    async def ask(pool: Pool) -> list:
        view = picture(5).repeat(2, axis=1)[:, ::2]  # not contiguous: somebody has to copy it
        return await asyncio.gather(pool.predict(tmp_path / "9.png"), pool.predict(view))

    with make_pool(kind, workers=2, device="cpu") as pool:
        noted(ultralytics.utils.patches, "imread")
        noted(Path, "is_file")
        noted(np, "ascontiguousarray")
        assert [tag_of(result) for result in asyncio.run(ask(pool))] == [9, 5]
    here = threading.current_thread()
    assert {"imread", "ascontiguousarray"} <= {name for name, _ in did}
    assert [name for name, thread in did if thread is here] == []


@pytest.mark.parametrize("kind", KINDS)
def test_an_answered_call_is_freed_without_the_garbage_collector(kind: type[Pool], fakes: FakeModels) -> None:
    async def ask(pool: Pool) -> list[bool]:
        images = [picture(tag) for tag in (1, 2, 3)]
        freed = [weakref.ref(image) for image in images]
        while images:
            await pool.predict(images.pop(0))
        await asyncio.gather(pool.predict(picture(4)), pool.predict(picture(5)))  # a worker may keep its last call
        return [image() is None for image in freed]

    with make_pool(kind, workers=1, device="cpu") as pool:
        gc.disable()
        try:
            assert asyncio.run(ask(pool)) == [True, True, True]
        finally:
            gc.enable()


# --- a full queue ---


def with_full_queue(fakes: FakeModels, steps: Callable, **options: object) -> Counters:
    """Run steps(pool, gate) beside a worker that is held, and a queue for one image that is full."""

    async def run(pool: BatchingWorker) -> None:
        gate = Gate(fakes)
        first = [asyncio.create_task(pool.predict(picture(1)))]
        await gate.inside()
        first.append(asyncio.create_task(pool.predict(picture(2))))
        await started(*first)
        async with asyncio.timeout(WAIT_S):
            await steps(pool, gate)
            gate.open()
            assert [tag_of(result) for result in await asyncio.gather(*first)] == [1, 2]

    with BatchingWorker(device="cpu", max_batch=1, queue_size=1, **options) as pool:
        asyncio.run(run(pool))
        return pool.counters


def test_coroutines_before_a_full_queue_wait_without_a_thread(fakes: FakeModels) -> None:
    async def steps(pool: BatchingWorker, gate: Gate) -> None:
        threads = threading.active_count()
        tasks = [asyncio.create_task(pool.predict(picture(tag))) for tag in range(3, 103)]
        await started(*tasks)
        assert threading.active_count() == threads
        assert pool.counters.waiting == 1  # the others stand in the line
        gate.open()
        assert [tag_of(await task) for task in tasks] == list(range(3, 103))

    assert with_full_queue(fakes, steps) == Counters(answered=102)


def test_a_coroutine_that_leaves_the_line_makes_way_for_the_next(fakes: FakeModels) -> None:
    async def steps(pool: BatchingWorker, gate: Gate) -> None:
        third, fourth, fifth = (asyncio.create_task(pool.predict(picture(tag))) for tag in (3, 4, 5))
        await started(third, fourth, fifth)
        third.cancel()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await fourth
        gate.open()
        assert tag_of(await fifth) == 5

    assert with_full_queue(fakes, steps) == Counters(answered=3, cancelled=2)
    assert fakes.done == [1, 2, 5]


def test_a_full_queue_refuses_a_coroutine_that_does_not_want_to_wait(fakes: FakeModels) -> None:
    async def steps(pool: BatchingWorker, gate: Gate) -> None:
        with pytest.raises(QueueFullError):
            await pool.predict(picture(3), block=False)
        with pytest.raises(QueueFullError):
            pool.submit(picture(3), block=False)

    assert with_full_queue(fakes, steps) == Counters(answered=2, refused=2)


def test_submit_does_not_wait_in_the_thread_of_an_event_loop(fakes: FakeModels) -> None:
    async def steps(pool: BatchingWorker, gate: Gate) -> None:
        futures = [pool.submit(picture(tag)) for tag in (3, 4)]
        gate.open()
        assert [tag_of(await asyncio.wrap_future(future)) for future in futures] == [3, 4]

    assert with_full_queue(fakes, steps) == Counters(answered=4)


def test_a_callback_may_submit_to_a_full_queue_in_the_thread_of_the_worker(fakes: FakeModels) -> None:
    async def steps(pool: BatchingWorker, gate: Gate) -> None:
        asked: list = []
        third, fourth = pool.submit(picture(3)), pool.submit(picture(4))  # the fourth fills the queue when 3 is done
        third.add_done_callback(lambda _: asked.append(pool.submit(picture(5))))
        gate.open()
        assert [tag_of(await asyncio.wrap_future(f)) for f in (third, fourth)] == [3, 4]
        assert tag_of(await asyncio.wrap_future(asked[0])) == 5

    assert with_full_queue(fakes, steps) == Counters(answered=5)


def test_closing_a_pool_answers_the_calls_in_the_line(fakes: FakeModels) -> None:
    async def steps(pool: BatchingWorker, gate: Gate) -> None:
        tasks = [asyncio.create_task(pool.predict(picture(tag))) for tag in (3, 4)]
        await started(*tasks)
        pool.close(wait=False)
        with pytest.raises(PoolClosedError):
            await pool.predict(picture(5))
        gate.open()
        assert [tag_of(await task) for task in tasks] == [3, 4]

    with_full_queue(fakes, steps)


def test_event_loops_and_threads_share_a_queue_for_one_image(fakes: FakeModels) -> None:
    answers: dict[int, int] = {}

    async def ask(pool: BatchingWorker, tags: range) -> None:
        for tag, result in zip(tags, await asyncio.gather(*[pool.predict(picture(t)) for t in tags]), strict=True):
            answers[tag] = tag_of(result)

    def call(pool: BatchingWorker, tags: range) -> None:
        answers.update((tag, tag_of(pool.submit(picture(tag)).result(WAIT_S))) for tag in tags)

    with BatchingWorker(device="cpu", queue_size=1, max_wait_ms=0) as pool:
        loops = [threading.Thread(target=asyncio.run, args=(ask(pool, range(k, k + 40)),)) for k in (1, 41)]
        callers = [threading.Thread(target=call, args=(pool, range(k, k + 40))) for k in (81, 121)]
        for thread in loops + callers:
            thread.start()
        for thread in loops + callers:
            thread.join(WAIT_S)
        counters = pool.counters
    assert answers == {tag: tag for tag in range(1, 161)}
    assert counters == Counters(answered=160)


def test_a_loop_that_ended_before_the_answer_harms_nobody(fakes: FakeModels, caplog: pytest.LogCaptureFixture) -> None:
    with BatchingWorker(device="cpu") as pool:
        gate = Gate(fakes)

        async def leave() -> None:
            task = asyncio.create_task(pool.predict(picture(1)))
            await gate.inside()
            assert not task.done()

        asyncio.run(leave())
        gate.open()
        assert tag_of(pool.submit(picture(2)).result(WAIT_S)) == 2
    assert caplog.records == []
