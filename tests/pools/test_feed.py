"""The source of `map` in every pool: results when they are ready, errors in order, closing, one thread per source."""

import asyncio
import gc
import itertools
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import Any

import numpy as np
import pytest
from deadlines import scaled
from fakes import KINDS, WAIT_S, FakeError, FakeModels, picture, tag_of
from PIL import Image

from yolothreads import sources
from yolothreads.errors import DeadlineError, PoolClosedError
from yolothreads.pools import BatchingWorker, OnnxSession, Pool, Replicas, Sequential, feed, make_pool
from yolothreads.pools.feed import Feed, in_order, stop_feeds
from yolothreads.races import explore
from yolothreads.sources import Latest, Reading, running
from yolothreads.tracking import Camera

pytestmark = pytest.mark.timeout(scaled(120))
SLOW = [OnnxSession]  # to export a model takes seconds
every_pool = pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.nightly) if kind in SLOW else kind for kind in KINDS]
)


def source_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("source of")]


@pytest.fixture(autouse=True)
def no_source_is_left() -> Iterator[None]:
    yield
    assert not source_threads()


class Source:
    """A camera that gives the pictures 1, 2, ... and waits before some of them; it records what happens to it."""

    def __init__(self, last: int = 1000, *, waits_before: int = 0, fails_before: int = 0) -> None:
        self.goes_on = threading.Event()
        self.waiting = threading.Event()
        self.taken: list[int] = []
        self.closed_in: threading.Thread | None = None
        self._last, self._waits_before, self._fails_before = last, waits_before, fails_before

    def camera(self) -> Iterator[np.ndarray]:
        try:
            for tag in range(1, self._last + 1):
                if tag == self._waits_before:
                    self.waiting.set()
                    assert self.goes_on.wait(WAIT_S)
                if tag == self._fails_before:
                    raise FakeError(f"no picture {tag}")
                self.taken.append(tag)
                yield picture(tag % 200)
        finally:
            self.closed_in = threading.current_thread()


@every_pool
def test_a_result_comes_while_the_source_waits_for_the_next_picture(kind: type[Pool], fakes: FakeModels) -> None:
    source = Source(4, waits_before=3)
    with make_pool(kind, workers=2, device="cpu") as pool:
        results = pool.map(source.camera())
        assert [tag_of(next(results)), tag_of(next(results))] == [1, 2]
        source.goes_on.set()  # only now
        assert [tag_of(result) for result in results] == [3, 4]
        assert not source_threads()


def test_a_camera_gives_a_result_while_its_source_waits(fakes: FakeModels) -> None:
    source = Source(2, waits_before=2)
    with Replicas(device="cpu") as pool:
        results = Camera(pool).follow(source.camera(), timeout=WAIT_S, buffersize=3)
        assert tag_of(next(results)) == 1
        source.goes_on.set()
        assert tag_of(next(results)) == 2
        results.close()
        assert not source_threads()


@every_pool
@pytest.mark.parametrize("return_exceptions", [False, True])
def test_all_earlier_results_come_before_the_error_of_the_source(
    kind: type[Pool], fakes: FakeModels, return_exceptions: bool
) -> None:
    with make_pool(kind, workers=2, device="cpu") as pool:
        results = pool.map(Source(fails_before=4).camera(), return_exceptions=return_exceptions, buffersize=9)
        assert [tag_of(next(results)) for _ in range(3)] == [1, 2, 3]
        with pytest.raises(FakeError, match="no picture 4"):
            next(results)
        assert next(results, None) is None


def test_what_is_no_source_is_an_error_of_the_caller(fakes: FakeModels) -> None:
    with Sequential(device="cpu") as pool, pytest.raises(TypeError, match="not iterable"):
        next(pool.map(3))


@every_pool
def test_with_a_buffer_of_one_the_next_picture_can_be_made_from_the_last_result(
    kind: type[Pool], fakes: FakeModels
) -> None:
    last, events = 0, []

    def loop() -> Iterator[np.ndarray]:
        while last < 5:
            events.append(f"picture {last + 1}")
            yield picture(last + 1)

    with make_pool(kind, workers=2, device="cpu") as pool:
        for result in pool.map(loop(), buffersize=1):
            last = tag_of(result)
            events.append(f"result {last}")
    assert events == [f"{what} {tag}" for tag in range(1, 6) for what in ("picture", "result")]


@every_pool
def test_a_source_that_blocks_is_late_and_its_thread_ends_when_it_gives_something(
    kind: type[Pool], fakes: FakeModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Source(waits_before=2)
    with make_pool(kind, workers=2, device="cpu") as pool:
        results = pool.map(source.camera(), timeout=WAIT_S, buffersize=2)
        assert tag_of(next(results)) == 1 and source.waiting.wait(WAIT_S)
        monkeypatch.setattr(feed, "monotonic", lambda: monotonic() + WAIT_S)
        with pytest.raises(DeadlineError, match="before its timeout"):
            next(results)
        (thread,) = source_threads()
        assert thread.daemon and thread.name == f"source of {kind.__name__}.map: camera"
        source.goes_on.set()
        thread.join(WAIT_S)
    assert source.closed_in is thread and source.taken == [1, 2]


@every_pool
@pytest.mark.parametrize("ending", [lambda results: results.close(), lambda results: None], ids=["closed", "dropped"])
def test_ending_early_closes_the_generator_in_its_own_thread(
    kind: type[Pool], fakes: FakeModels, ending: Callable[[Any], None]
) -> None:
    source = Source()
    with make_pool(kind, workers=2, device="cpu") as pool:
        results = pool.map(source.camera())
        next(results)
        (thread,) = source_threads()
        ending(results)
        del results
        assert not source_threads() and source.closed_in is thread
        assert len(source.taken) <= 2 * pool.at_once


def test_an_iterator_in_a_garbage_cycle_ends_its_thread(fakes: FakeModels) -> None:
    source = Source()
    with Sequential(device="cpu") as pool:
        cycle: list[Any] = [pool.map(source.camera())]
        cycle.append(cycle)
        next(cycle[0])
        del cycle
        gc.collect()
        assert not source_threads() and source.closed_in


def test_ctrl_c_while_the_thread_is_started_ends_it(fakes: FakeModels, monkeypatch: pytest.MonkeyPatch) -> None:
    start, source = threading.Thread.start, Source()

    def interrupted(thread: threading.Thread) -> None:
        start(thread)
        raise KeyboardInterrupt

    with Sequential(device="cpu") as pool:
        results = pool.map(source.camera())
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(threading.Thread, "start", interrupted)
            next(results)
        assert not source_threads() and source.taken in ([], [1])


def test_what_closing_the_source_raises_is_raised_by_closing_the_iterator(fakes: FakeModels) -> None:
    def camera() -> Iterator[np.ndarray]:
        try:
            yield from itertools.repeat(picture(1))
        finally:
            raise FakeError("the camera does not close")

    with Sequential(device="cpu") as pool:
        results = pool.map(camera())
        next(results)
        with pytest.raises(FakeError, match="does not close"):
            results.close()


def test_nothing_begins_before_the_first_result_is_asked_for(fakes: FakeModels) -> None:
    source = Source()
    with Sequential(device="cpu") as pool:
        results = pool.map(source.camera())
        assert not source_threads()
        results.close()
    assert source.taken == [] and next(results, None) is None


@every_pool
@pytest.mark.parametrize("cancel", [False, True])
def test_a_pool_that_is_closed_in_the_middle_ends_the_thread_and_the_iteration(
    kind: type[Pool], fakes: FakeModels, cancel: bool
) -> None:
    source = Source()
    pool = make_pool(kind, workers=2, device="cpu").open()
    results = pool.map(source.camera(), buffersize=2)
    seen = [tag_of(next(results))]
    pool.close(cancel_futures=cancel)
    assert not source_threads() and source.closed_in
    with pytest.raises((PoolClosedError, CancelledError) if cancel else PoolClosedError):
        seen += map(tag_of, results)
    assert seen == source.taken[: len(seen)] and (
        cancel or len(source.taken) - len(seen) <= 1
    )  # one is being handed in
    with pool:  # a later opening has nothing to do with it
        assert next(results, None) is None
        assert tag_of(next(pool.map([picture(9)]))) == 9


def test_a_caller_that_waits_for_a_blocked_source_is_woken_when_the_pool_closes(
    fakes: FakeModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "GRACE_S", 0.05)  # for a source that will not end
    source, errors = Source(waits_before=1), []

    def call() -> None:
        try:
            list(pool.map(source.camera()))
        except PoolClosedError as error:
            errors.append(error)

    with Sequential(device="cpu") as pool:
        caller = threading.Thread(target=call)
        caller.start()
        assert source.waiting.wait(WAIT_S)
        pool.close(wait=False)
        caller.join(WAIT_S)
        assert len(errors) == 1
        threads = source_threads()
        source.goes_on.set()
        for thread in threads:
            thread.join(WAIT_S)


def test_of_a_live_source_that_blocks_only_its_own_thread_is_left(
    fakes: FakeModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "GRACE_S", 0.05)  # for a camera that will not end
    source = Source(waits_before=2)
    with Sequential(device="cpu") as pool:
        results = pool.map(sources.latest(source.camera()))
        assert tag_of(next(results)) == 1 and source.waiting.wait(WAIT_S)
        results.close()
        (thread,) = source_threads()
        assert thread.name == "source of latest: camera"
        source.goes_on.set()
        thread.join(WAIT_S)
    assert source.closed_in is thread


def test_a_source_that_waits_for_room_in_a_queue_ends_with_the_pool(fakes: FakeModels) -> None:
    source, gate, errors = Source(), threading.Event(), []
    fakes.inside = lambda model, tag: gate.wait(WAIT_S)
    pool = BatchingWorker(device="cpu", max_batch=1, max_wait_ms=0, queue_size=1).open()
    put = pool._queue.put

    def watched(call: Any, **given: Any) -> None:
        if call.pixels[0, 0, 0] == 3:  # the first is under way, and the second fills the queue
            source.waiting.set()
        put(call, **given)

    pool._queue.put = watched

    def call() -> None:
        try:
            list(pool.map(source.camera(), buffersize=5))
        except (PoolClosedError, CancelledError) as error:
            errors.append(error)

    caller = threading.Thread(target=call)
    caller.start()
    assert source.waiting.wait(WAIT_S)
    pool.close(wait=False, cancel_futures=True)
    gate.set()
    pool.close()
    caller.join(WAIT_S)
    assert len(errors) == 1 and source.closed_in and not source_threads()


def test_a_pool_that_is_closed_before_the_first_result_reads_nothing(fakes: FakeModels) -> None:
    source = Source()
    with Sequential(device="cpu") as pool:
        results = pool.map(source.camera())
    with pytest.raises(PoolClosedError):
        next(results)
    assert source.taken == []


@every_pool
def test_every_frame_of_a_source_with_one_buffer_gets_its_own_result(kind: type[Pool], fakes: FakeModels) -> None:
    buffer = picture(0)

    def camera() -> Iterator[np.ndarray]:
        for tag in range(1, 20):
            buffer[:] = tag
            yield buffer

    fakes.inside = lambda model, tag: seen.append(tag)
    seen: list[int] = []
    with make_pool(kind, workers=2, device="cpu") as pool:
        assert [tag_of(result) for result in pool.map(camera())] == list(range(1, 20))
    assert sorted(seen) == list(range(1, 20))


def test_without_copies_the_pool_gets_the_very_array(fakes: FakeModels) -> None:
    image = picture(1)
    with Sequential(device="cpu") as pool:
        assert next(pool.map([image], copy=False)).orig_img is image
        assert next(pool.map([image])).orig_img is not image
        assert next(Camera(pool).follow([image], copy=False)).orig_img is image


def test_the_error_of_handing_in_comes_after_the_earlier_results(
    fakes: FakeModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Sequential(device="cpu") as pool:
        submit = pool._submit

        def failing(image: np.ndarray, settings: dict[str, Any]) -> Future[Any]:
            if image[0, 0, 0] == 3:
                raise FakeError("no room")
            return submit(image, settings)

        monkeypatch.setattr(pool, "_submit", failing)
        results = pool.map(Source().camera())
        assert [tag_of(next(results)), tag_of(next(results))] == [1, 2]
        with pytest.raises(FakeError, match="no room"):
            next(results)


def test_a_picture_that_cannot_be_copied_fails_alone(fakes: FakeModels, tmp_path: Any) -> None:
    Image.fromarray(picture(1)).save(tmp_path / "cut.png")
    whole = (tmp_path / "cut.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    with Sequential(device="cpu") as pool, Image.open(tmp_path / "cut.png") as cut:
        before, error, after = pool.map([picture(1), cut, picture(2)], return_exceptions=True)
    assert (tag_of(before), tag_of(after)) == (1, 2) and "could not be copied" in str(error)


@every_pool
def test_maps_inside_maps_and_beside_each_other_give_each_caller_its_own(kind: type[Pool], fakes: FakeModels) -> None:
    with make_pool(kind, workers=2, device="cpu") as pool:
        inner = (picture(tag_of(result) + 1) for result in pool.map(map(picture, range(1, 9))))
        nested = [(tag_of(r), [tag_of(s) for s in pool.map([picture(tag_of(r) + 100)] * 2)]) for r in pool.map(inner)]
        asking = (picture(tag_of(pool.submit(picture(tag)).result(WAIT_S))) for tag in range(1, 9))
        beside = zip(pool.map(map(picture, range(1, 9))), pool.map(asking), strict=True)
        assert [(tag_of(one), tag_of(other)) for one, other in beside] == [(tag, tag) for tag in range(1, 9)]
    assert nested == [(tag, [tag + 100] * 2) for tag in range(2, 10)]


def test_maps_in_the_threads_of_an_event_loop_give_each_caller_its_own(fakes: FakeModels) -> None:
    async def main(pool: Pool) -> list[list[int]]:
        calls = [asyncio.to_thread(lambda n=n: [tag_of(r) for r in pool.map([picture(n)] * 5)]) for n in range(1, 6)]
        return await asyncio.gather(*calls)

    with Replicas(device="cpu") as pool:
        assert asyncio.run(main(pool)) == [[n] * 5 for n in range(1, 6)]


def test_cameras_that_always_have_a_frame_take_turns(fakes: FakeModels) -> None:
    waiting, changed = [0, 0, 0], threading.Condition()  # the frames of each camera that the pool has and has not begun

    def inside(model: object, tag: int) -> None:
        with changed:
            waiting[tag - 1] -= 1
            others = {0, 1, 2} - {tag - 1}
            assert changed.wait_for(lambda: all(waiting[other] or not left[other] for other in others), WAIT_S)

    def camera(number: int) -> None:
        for _ in pool.map(itertools.repeat(picture(number + 1)), buffersize=1):
            left[number] -= 1
            if left[number] == 0:
                break
        with changed:
            left[number] = 0
            changed.notify_all()

    fakes.inside, left = inside, [20, 20, 20]
    with Sequential(device="cpu") as pool:
        submit = pool._submit

        def counted(image: np.ndarray, settings: dict[str, Any]) -> Future[Any]:
            future = submit(image, settings)
            with changed:
                waiting[image[0, 0, 0] - 1] += 1
                changed.notify_all()
            return future

        pool._submit = counted
        threads = [threading.Thread(target=camera, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT_S)
    turns = [fakes.done[i : i + 3] for i in range(0, 45, 3)]
    assert all(sorted(turn) == [1, 2, 3] for turn in turns), fakes.done


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_map_that_began_before_a_fork_is_an_error_in_the_child(fakes: FakeModels) -> None:
    with Sequential(device="cpu") as pool:
        results = pool.map(Source().camera())
        next(results)
        if (child := os.fork()) == 0:
            code = 1
            with suppress(BaseException):
                try:
                    next(results)
                except PoolClosedError as error:
                    code = 0 if "child" in str(error) else 2
            os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert tag_of(next(results)) == 2
        results.close()


# --- every schedule with one preemption ---


class Mapping:
    """A map over the pictures "a" and "b", a pool that answers at once, and what can happen to it meanwhile."""

    def __init__(self, *, timeout: float | None = None, gate_is_open: bool = True) -> None:
        self.is_open, self.gate = True, threading.Event()
        if gate_is_open:
            self.gate.set()
        self.read: list[str] = []
        self.handed_in: list[Future[str]] = []
        self.closed_in, self.seen, self.ending = "", list[str](), ""
        self.feed = Feed[str, str](self, self.check_open, self.hand_in, ahead=2, copy=False)
        end = None if timeout is None else monotonic() + timeout
        self.results = in_order(self.feed, self.source(), end, False)

    def check_open(self) -> None:
        if not self.is_open:
            raise PoolClosedError

    def hand_in(self, picture: str) -> Future[str]:
        future: Future[str] = Future()
        self.handed_in.append(future)
        future.set_result(picture)
        return future

    def source(self) -> Iterator[str]:
        try:
            for picture in "ab":
                self.gate.wait()
                self.read.append(picture)
                yield picture
        finally:
            self.closed_in = threading.current_thread().name

    def take_all(self) -> None:
        try:
            for result in self.results:
                self.seen.append(result)
            self.ending = "complete"
        except (PoolClosedError, DeadlineError) as error:
            self.ending = type(error).__name__

    def take_one(self) -> None:
        try:
            self.seen.append(next(self.results))
            self.results.close()
            self.ending = "closed"
        except PoolClosedError as error:
            self.ending = type(error).__name__

    def close(self) -> None:
        self.is_open = False
        for stopped in stop_feeds(self):
            stopped.join()

    def open_gate(self) -> None:
        self.gate.set()

    def judged(self) -> str:
        """Say what is wrong with how it ended, or "right"."""
        wanted = {"complete": ["a", "b"], "closed": ["a"]}.get(self.ending, self.read[: len(self.seen)])
        began = self.feed._thread is not None
        if self.seen != wanted or self.ending == "":
            return f"{self.ending or 'no end'} after {self.seen} of {self.read}"
        if began and self.ending != "DeadlineError" and self.feed.is_alive:
            return "the thread was left"
        if self.read and not self.feed.is_alive and not self.closed_in.startswith("source of"):
            return f"the generator was closed in {self.closed_in or 'no thread'}"
        return "right"


EXPLORED = [
    pytest.param(Mapping.take_all, Mapping.close, {}, id="the pool closes"),
    pytest.param(Mapping.take_one, Mapping.close, {}, id="the iterator is closed, and so is the pool"),
    pytest.param(Mapping.take_all, Mapping.open_gate, {"timeout": 0.5, "gate_is_open": False}, id="the result is late"),
]


BOUNDS = pytest.mark.parametrize("preemptions", [0, pytest.param(1, marks=pytest.mark.nightly)])


@pytest.mark.timeout(scaled(600))
@BOUNDS
@pytest.mark.parametrize(("consumer", "other", "given"), EXPLORED)
def test_under_every_schedule_a_map_ends_as_it_should(
    consumer: Any, other: Any, given: dict[str, Any], preemptions: int
) -> None:
    watch = [Feed, Reading, in_order, stop_feeds, running, Mapping]
    setup = partial(Mapping, **given)
    found = explore(consumer, other, setup=setup, observe=Mapping.judged, watch=watch, **bounds(preemptions))
    assert found.exhausted and not found.forbidden, f"{found}\n{found.forbidden[:1]}"
    assert found.schedules > (50 if preemptions else 2)


def bounds(preemptions: int) -> dict[str, Any]:
    return {"preemptions": preemptions, "budget_s": scaled(500)}


class Newest:
    """A `latest` over two items, and the items that two consumers got."""

    def __init__(self) -> None:
        self.live = Latest(range(2))
        self.got: list[list[int]] = [[], []]

    def take_first(self) -> None:
        for item in self.live:
            self.got[0].append(item)

    def take_second(self) -> None:
        for item in self.live:
            self.got[1].append(item)

    def judged(self) -> str:
        given = sorted(self.got[0] + self.got[1])
        is_right = len(given) + self.live.dropped == 2 and given in ([1], [0, 1])
        return "right" if is_right else f"{self.got}, {self.live.dropped} dropped"


@pytest.mark.timeout(scaled(600))
@BOUNDS
def test_under_every_schedule_the_last_item_is_given_and_each_other_one_is_given_or_counted(preemptions: int) -> None:
    watch = [Latest.send, Reading, sources._Newest]  # without `Latest.__del__`, which runs between two schedules
    bodies = Newest.take_first, Newest.take_second
    found = explore(*bodies, setup=Newest, observe=Newest.judged, watch=watch, **bounds(preemptions))
    assert found.exhausted and not found.forbidden, f"{found}\n{found.forbidden[:1]}"
    assert found.schedules > (50 if preemptions else 2)
