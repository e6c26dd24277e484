"""One contract for every pool, tested with fake models: that of concurrent.futures and the additions of Pool."""

import inspect
import itertools
import threading
import weakref
from concurrent.futures import CancelledError
from pathlib import Path

import cv2
import pytest
import torch
from deadlines import scaled
from fakes import KINDS, WAIT_S, FakeError, FakeModels, OneAtATime, picture, tag_of
from ultralytics.engine.results import Results

from yolothreads.devices import cores
from yolothreads.errors import (
    ArgumentError,
    DeadlineError,
    DeviceError,
    ImageError,
    OutOfMemoryError,
    PoolClosedError,
    WeightsError,
)
from yolothreads.pools import Pool, make_pool

pytestmark = [pytest.mark.timeout(scaled(120)), pytest.mark.parametrize("kind", KINDS)]


def hold(fakes: FakeModels) -> threading.Event:
    """Make every predict wait for the event that is returned."""
    gate = threading.Event()
    fakes.inside = lambda model, tag: gate.wait(WAIT_S)
    return gate


def test_models_are_loaded_and_warmed_up_when_the_block_is_entered(kind: type[Pool], fakes: FakeModels) -> None:
    pool = make_pool(kind, workers=2, device="cpu", imgsz=64)
    assert pool.start_up_s == 0 and fakes.built == []
    with pool:
        assert pool.start_up_s > 0
        assert fakes.built and all(model.warm for model in fakes.built)
        assert all(model.overrides["imgsz"] == 64 and model.overrides["device"] == "cpu" for model in fakes.built)
        loaded = len(fakes.built)
        list(pool.map(picture(i) for i in range(1, 9)))
        assert len(fakes.built) == loaded


def test_submit_returns_a_future_of_a_result_on_the_cpu(kind: type[Pool], fakes: FakeModels) -> None:
    with kind(device="cpu") as pool:
        result = pool.submit(picture(5), conf=0.5).result(WAIT_S)
    assert tag_of(result) == 5
    assert result.boxes.conf.tolist() == pytest.approx([0.9])
    assert result.boxes.data.device.type == "cpu"


def test_settings_of_a_call_override_those_of_the_pool(kind: type[Pool], fakes: FakeModels) -> None:
    with kind(device="cpu", conf=0.95) as pool:
        assert [len(r.boxes) for r in pool.map([picture(1)] * 3)] == [0, 0, 0]
        assert [len(r.boxes) for r in pool.map([picture(1)] * 3, conf=0.1)] == [2, 2, 2]


def test_map_keeps_the_order_even_if_later_images_finish_first(kind: type[Pool], fakes: FakeModels) -> None:
    second_done = threading.Event()

    def inside(model: object, tag: int) -> None:
        if tag == 1 and pool.workers > 1 and kind.__name__ != "LockedModel":
            second_done.wait(WAIT_S)  # the first image ends only after the third has begun
        if tag == 3:
            second_done.set()

    fakes.inside = inside
    with make_pool(kind, workers=2, device="cpu") as pool:
        assert [tag_of(r) for r in pool.map(map(picture, range(1, 20)))] == list(range(1, 20))


def test_map_reads_at_most_two_images_per_worker_ahead(kind: type[Pool], fakes: FakeModels) -> None:
    taken = []

    def endless():
        for i in itertools.cycle(range(1, 200)):
            taken.append(i)
            yield picture(i)

    with make_pool(kind, workers=2, device="cpu") as pool:
        results = pool.map(endless())
        assert taken == []  # lazy: nothing is read before the first result is requested
        for given, _ in enumerate(itertools.islice(results, 30)):
            assert len(taken) - given <= 2 * pool.at_once
        results.close()


def test_map_of_no_images_gives_no_results(kind: type[Pool], fakes: FakeModels) -> None:
    with kind(device="cpu") as pool:
        assert list(pool.map([])) == []


def test_an_error_belongs_to_its_image(kind: type[Pool], fakes: FakeModels) -> None:
    fakes.refuse = {7}
    with make_pool(kind, workers=2, device="cpu") as pool:
        one, refused, two, unreadable, three = [
            pool.submit(i) for i in (picture(1), picture(7), picture(2), 3, picture(3))
        ]
        assert [tag_of(future.result(WAIT_S)) for future in (one, two, three)] == [1, 2, 3]
        assert type(refused.exception(WAIT_S)) is FakeError and type(unreadable.exception(WAIT_S)) is ImageError


def test_map_raises_or_returns_the_error_of_an_image(kind: type[Pool], fakes: FakeModels) -> None:
    fakes.refuse = {2}
    images = [picture(1), picture(2), picture(3)]
    with kind(device="cpu") as pool:
        results = pool.map(images)
        assert tag_of(next(results)) == 1
        with pytest.raises(FakeError, match="picture 2"):
            next(results)
        one, error, three = pool.map(images, return_exceptions=True)
        assert (tag_of(one), type(error), tag_of(three)) == (1, FakeError, 3)
        with pytest.raises(ArgumentError, match="ignore"):
            pool.map(images, errors="ignore")


def test_the_deprecated_errors_argument_of_map_warns_and_does_the_same(kind: type[Pool], fakes: FakeModels) -> None:
    fakes.refuse = {2}
    with kind(device="cpu") as pool:
        with pytest.warns(DeprecationWarning, match="return_exceptions"):
            results = list(pool.map([picture(1), picture(2)], errors="return"))
        with pytest.warns(DeprecationWarning, match="return_exceptions"), pytest.raises(FakeError):
            list(pool.map([picture(2)], errors="raise"))
    assert [type(result) for result in results] == [Results, FakeError]


def test_map_raises_if_a_result_is_late(kind: type[Pool], fakes: FakeModels) -> None:
    gate = threading.Event()
    fakes.inside = lambda model, tag: tag == 2 and gate.wait(WAIT_S)
    with make_pool(kind, workers=1, device="cpu") as pool:
        results = pool.map(map(picture, (1, 2, 3)), timeout=0.2, return_exceptions=True, buffersize=1)
        first = pool.submit(picture(1))
        assert tag_of(first.result(WAIT_S)) == 1
        with pytest.raises(TimeoutError) as error:
            for result in results:
                assert tag_of(result) == 1
        gate.set()
        assert isinstance(error.value, DeadlineError)
        assert len(list(pool.map(map(picture, range(3, 9)), timeout=WAIT_S))) == 6
    assert fakes.done.count(3) <= 1


@pytest.mark.parametrize("ahead", [1, 3])
def test_map_reads_at_most_buffersize_images_ahead(kind: type[Pool], fakes: FakeModels, ahead: int) -> None:
    taken = []

    def images():
        for tag in range(1, 30):
            taken.append(tag)
            yield picture(tag)

    with make_pool(kind, workers=2, device="cpu") as pool:
        for number, result in enumerate(pool.map(images(), buffersize=ahead), 1):
            assert tag_of(result) == number
            assert len(taken) - number < ahead


@pytest.mark.parametrize(
    "wrong", [{"buffersize": 0}, {"buffersize": 1.5}, {"timeout": -1}, {"timeout": "soon"}], ids=str
)
def test_map_checks_its_limits_at_once(kind: type[Pool], fakes: FakeModels, wrong: dict) -> None:
    (name,) = wrong
    with kind(device="cpu") as pool, pytest.raises(ArgumentError, match=f"{name}="):
        pool.map([picture(1)], **wrong)


def test_open_and_close_are_the_same_as_the_block(kind: type[Pool], fakes: FakeModels) -> None:
    pool = kind(device="cpu")
    assert pool.open() is pool
    with pytest.raises(PoolClosedError, match="open already"):
        pool.open()
    future = pool.submit(picture(1))
    pool.close()
    assert tag_of(future.result(0)) == 1
    pool.close()
    with pytest.raises(PoolClosedError):
        pool.submit(picture(1))
    assert not [t for t in threading.enumerate() if t.name.startswith(kind.__name__)]


def test_close_can_cancel_waiting_calls(kind: type[Pool], fakes: FakeModels) -> None:
    begun, gate = threading.Event(), threading.Event()
    pool = make_pool(kind, workers=1, device="cpu").open()
    fakes.inside = lambda model, tag: begun.set() or gate.wait(WAIT_S)
    futures = [pool.submit(picture(i)) for i in (1, 2, 3)]
    assert begun.wait(WAIT_S)
    pool.close(wait=False, cancel_futures=True)
    gate.set()
    pool.close()
    assert tag_of(futures[0].result(WAIT_S)) == 1
    assert all(future.cancelled() for future in futures[1:])


def test_max_workers_is_an_error_that_names_workers(kind: type[Pool]) -> None:
    with pytest.raises(ArgumentError, match=r'"max_workers" is not an option.*workers=4'):
        kind(max_workers=4, device="cpu")


def test_a_pool_of_one_worker_refuses_more_and_make_pool_omits_them(kind: type[Pool]) -> None:
    if kind.one_worker:
        with pytest.raises(ArgumentError, match=rf"workers=7.*{kind.__name__}.*one worker"):
            kind(workers=7, device="cpu")
        assert kind(workers=1, device="cpu").workers == 1
    assert make_pool(kind, workers=7, device="cpu").workers == (1 if kind.one_worker else 7)


def test_the_signature_shows_every_option(kind: type[Pool]) -> None:
    public = kind.__mro__[1] if kind is OneAtATime else kind
    shown = inspect.signature(public).parameters
    assert {"weights", "workers", "device", "imgsz", "threads", "settings"} <= shown.keys()
    assert not {"args", "kwargs"} & shown.keys()


def test_a_waiting_future_can_be_cancelled(kind: type[Pool], fakes: FakeModels) -> None:
    gate = hold(fakes)
    with make_pool(kind, workers=1, device="cpu") as pool:
        first, second, third = [pool.submit(picture(i)) for i in (1, 2, 3)]
        assert second.cancel()
        gate.set()
        assert (tag_of(first.result(WAIT_S)), tag_of(third.result(WAIT_S))) == (1, 3)
        with pytest.raises(CancelledError):
            second.result(WAIT_S)
    assert 2 not in fakes.done


def test_abandoning_map_cancels_waiting_calls(kind: type[Pool], fakes: FakeModels) -> None:
    gate = threading.Event()
    fakes.inside = lambda model, tag: tag > 1 and gate.wait(WAIT_S)  # 2 and 3 keep both workers busy, 4 waits
    with make_pool(kind, workers=2, device="cpu") as pool:
        results = pool.map(map(picture, range(1, 100)))
        assert tag_of(next(results)) == 1
        results.close()
        gate.set()
    assert set(fakes.done) <= {1, 2, 3}


def test_work_is_refused_before_and_after_the_block(kind: type[Pool], fakes: FakeModels) -> None:
    pool = kind(device="cpu")
    for _ in range(2):  # never opened, then closed
        with pytest.raises(PoolClosedError, match=kind.__name__):
            pool.submit(picture(1))
        with pytest.raises(PoolClosedError, match="with"):
            pool.map([picture(1)])
        with pool:
            pool.submit(picture(1))


def test_a_pool_opens_once_at_a_time_and_again_after_it_was_closed(kind: type[Pool], fakes: FakeModels) -> None:
    pool = kind(device="cpu")
    with pool:
        with pytest.raises(PoolClosedError, match="open already"), pool:
            pass
        assert tag_of(pool.submit(picture(1)).result(WAIT_S)) == 1  # the first opening still works
    with pool:
        assert tag_of(pool.submit(picture(2)).result(WAIT_S)) == 2


def test_a_second_shutdown_does_nothing(kind: type[Pool], fakes: FakeModels) -> None:
    pool = kind(device="cpu")
    pool.shutdown()  # before it was open
    with pool:
        future = pool.submit(picture(1))
        pool.shutdown()
        assert tag_of(future.result(0)) == 1  # shutdown waited for it
        pool.shutdown()
        with pytest.raises(PoolClosedError):
            pool.submit(picture(1))


def test_shutdown_without_waiting_still_finishes_the_submitted_work(kind: type[Pool], fakes: FakeModels) -> None:
    gate = hold(fakes)
    with make_pool(kind, workers=1, device="cpu") as pool:
        futures = [pool.submit(picture(i)) for i in (1, 2, 3)]
        pool.shutdown(wait=False)
        with pytest.raises(PoolClosedError):
            pool.submit(picture(4))
        gate.set()
        assert [tag_of(f.result(WAIT_S)) for f in futures] == [1, 2, 3]


def test_leaving_the_block_joins_threads_that_shutdown_did_not(kind: type[Pool], fakes: FakeModels) -> None:
    gate = hold(fakes)
    with make_pool(kind, workers=1, device="cpu") as pool:
        futures = [pool.submit(picture(i)) for i in range(1, 200)]
        pool.shutdown(wait=False)
        gate.set()
    assert all(f.done() for f in futures)
    assert not [t for t in threading.enumerate() if t.name.startswith(kind.__name__)]


def test_shutdown_can_cancel_waiting_calls(kind: type[Pool], fakes: FakeModels) -> None:
    begun, gate = threading.Event(), threading.Event()
    with make_pool(kind, workers=1, device="cpu") as pool:
        fakes.inside = lambda model, tag: begun.set() or gate.wait(WAIT_S)
        futures = [pool.submit(picture(i)) for i in (1, 2, 3)]
        assert begun.wait(WAIT_S)
        pool.shutdown(wait=False, cancel_futures=True)
        gate.set()
        assert tag_of(futures[0].result(WAIT_S)) == 1
        assert all(f.cancelled() for f in futures[1:])


@pytest.mark.parametrize("workers", [0, -1, True, 1.5, "2", None])
def test_workers_must_be_a_whole_number_of_one_or_more(kind: type[Pool], workers: object) -> None:
    with pytest.raises(ArgumentError, match=f"workers={workers!r}"):
        kind(workers=workers, device="cpu")


@pytest.mark.parametrize("name", ["imgsz", "threads"])
def test_sizes_and_threads_must_be_whole_numbers_too(kind: type[Pool], name: str) -> None:
    with pytest.raises(ArgumentError, match=f"{name}=0"):
        kind(device="cpu", **{name: 0})


def test_unusable_weights_are_an_error_at_once(kind: type[Pool], tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"missing\.pt"):
        kind(tmp_path / "missing.pt", device="cpu")


@pytest.mark.parametrize("device", ["cuda:99", "tpu", "", "cpu:0", 0, "0,1"])
def test_the_error_for_an_unknown_device_names_the_devices_here(kind: type[Pool], device: object) -> None:
    with pytest.raises(DeviceError) as error:
        kind(device=device)
    assert str(device) in str(error.value) and "cpu" in str(error.value).split("one of")[1]


@pytest.mark.parametrize("name", ["confidence", "source", "stream"])
def test_unknown_and_reserved_settings_are_refused_by_name(kind: type[Pool], fakes: FakeModels, name: str) -> None:
    with pytest.raises(ArgumentError, match=f'"{name}"'):
        kind(device="cpu", **{name: 1})
    with kind(device="cpu") as pool:
        for reserved in (name, "device"):
            with pytest.raises(ArgumentError, match=f'"{reserved}"'):
                pool.submit(picture(1), **{reserved: "cpu"})
            with pytest.raises(ArgumentError, match=f'"{reserved}"'):
                pool.map([picture(1)], **{reserved: "cpu"})


def test_an_exception_in_the_block_joins_all_threads_and_cancels_waiting_calls(
    kind: type[Pool], fakes: FakeModels
) -> None:
    before = threading.active_count()
    gate = hold(fakes)
    with pytest.raises(ZeroDivisionError), make_pool(kind, workers=2, device="cpu") as pool:
        futures = [pool.submit(picture(i)) for i in range(1, 20)]
        futures[-1].add_done_callback(lambda _: gate.set())  # until it is cancelled, nothing goes on
        raise ZeroDivisionError
    assert all(f.done() for f in futures) and futures[-1].cancelled()
    assert threading.active_count() == before


def test_open_raises_if_a_model_does_not_load(kind: type[Pool], fakes: FakeModels) -> None:
    several = kind.__name__ in ("ModelPerThread", "ModelsBuiltOutside")
    fakes.refuse_to_load = {1 if several else 0}
    pool = make_pool(kind, workers=3, device="cpu")
    with pytest.raises(FakeError, match="does not load"):
        pool.__enter__()
    assert not [t for t in threading.enumerate() if t.name.startswith(kind.__name__)]
    with pytest.raises(PoolClosedError):
        pool.submit(picture(1))
    fakes.refuse_to_load = set()
    with pool:
        assert tag_of(pool.submit(picture(1)).result(WAIT_S)) == 1


@pytest.mark.parametrize("threads", [None, 3])
def test_each_worker_has_its_share_of_the_cores(kind: type[Pool], fakes: FakeModels, threads: int | None) -> None:
    before = torch.get_num_threads()
    with make_pool(kind, workers=2, device="cpu", threads=threads) as pool:
        list(pool.map(map(picture, range(1, 9))))
    share = threads or max(1, cores() // pool.workers)
    assert {n for model in fakes.built for n in model.torch_threads} == {share}
    assert torch.get_num_threads() == before


def test_a_result_has_the_name_of_its_file(kind: type[Pool], fakes: FakeModels, tmp_path: Path) -> None:
    for name in ("a.png", "grün.png"):
        (tmp_path / name).write_bytes(cv2.imencode(".png", picture(9))[1].tobytes())
    with kind(device="cpu") as pool:
        results = list(pool.map([tmp_path / "a.png", str(tmp_path / "grün.png")]))
    assert [r.path for r in results] == [str(tmp_path / "a.png"), str(tmp_path / "grün.png")]
    assert [tag_of(r) for r in results] == [9, 9]


def test_a_full_memory_fails_the_call_with_its_remedy_and_the_pool_goes_on(kind: type[Pool], fakes: FakeModels) -> None:
    def full(model: object, tag: int) -> None:
        if tag == 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        if tag == 3:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")

    fakes.inside = full
    with make_pool(kind, workers=2, device="cpu") as pool:
        one, two, three, four = pool.map(map(picture, [1, 2, 3, 4]), return_exceptions=True)
    assert (tag_of(one), tag_of(four)) == (1, 4)
    for error in (two, three):
        assert isinstance(error, OutOfMemoryError) and "imgsz" in str(error)


def test_map_keeps_few_of_many_images_in_memory(kind: type[Pool], fakes: FakeModels) -> None:
    alive = most = 0

    def images():
        nonlocal alive, most
        for tag in range(1000):
            image = picture(tag % 200)
            alive, most = alive + 1, max(most, alive + 1)
            weakref.finalize(image, died)
            yield image

    def died() -> None:
        nonlocal alive
        alive -= 1

    with make_pool(kind, workers=2, device="cpu") as pool:
        assert sum(1 for _ in pool.map(images())) == 1000
    assert most <= 2 * pool.at_once + pool.workers + 3  # submitted, in work, and held by this loop
