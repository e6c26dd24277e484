"""Torch's threads in the workers: their share of the cores at each opening, and one where several are slower."""

import os
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from fakes import FakeModels, WorkerHere, picture

from benchmarks import given_cores
from yolothreads import devices
from yolothreads.pools import (
    BatchingWorker,
    ModelPerProcess,
    ModelPerThread,
    Pool,
    Sequential,
    make_pool,
    torch_threads,
)
from yolothreads.pools.processes import load_predict

KINDS = [Sequential, ModelPerThread, BatchingWorker]
TWO = 2.1  # times slower than one thread; the limit is 2


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> dict[int, float]:
    """The seconds that a prediction takes by the number of torch threads, on the clock of the measurement."""
    takes = {1: 1.0}
    measured: list[float] = []

    def clock() -> float:  # called before and after a prediction, in a thread that has set its number of threads
        measured.append(0.0 if len(measured) % 2 == 0 else takes[torch.get_num_threads()])
        return measured[-1]

    monkeypatch.setattr(torch_threads, "perf_counter", clock)
    return takes


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of cores that the process is given, which a test may change."""
    given = [4]
    monkeypatch.setattr(devices, "cores", lambda: given[0])
    return given


@pytest.mark.parametrize("kind", KINDS)
def test_the_share_of_the_cores_is_taken_again_at_each_opening(
    kind: type[Pool], fakes: FakeModels, seconds: dict[int, float], cores: list[int]
) -> None:
    pool = kind(device="cpu")
    seconds[cores[0] // pool.workers] = 1.0
    assert pool.threads == cores[0] // pool.workers
    cores[0] = 1
    with pool:
        assert pool.threads == 1
        list(pool.map(map(picture, range(1, 9))))
    assert {count for model in fakes.built for count in model.torch_threads} == {1}


def test_a_number_that_was_given_is_kept_and_not_measured(
    fakes: FakeModels, monkeypatch: pytest.MonkeyPatch, cores: list[int]
) -> None:
    monkeypatch.setattr(torch_threads, "perf_counter", lambda: pytest.fail("measured"))
    cores[0] = 1
    with Sequential(device="cpu", threads=3) as pool:
        list(pool.map([picture(1)]))
    assert pool.threads == 3 and {count for model in fakes.built for count in model.torch_threads} == {3}


@pytest.mark.parametrize("kind", KINDS)
def test_threads_that_are_slower_than_half_of_one_are_given_up_with_one_warning(
    kind: type[Pool], fakes: FakeModels, seconds: dict[int, float], cores: list[int]
) -> None:
    pool = make_pool(partial(kind, device="cpu"), workers=1)
    seconds[4] = TWO
    with pytest.warns(RuntimeWarning, match=rf"{kind.__name__} .*2\.1 s with 4 and 1 s with one.*threads=4") as warned:
        pool.open()
    try:
        list(pool.map([picture(1)]))
    finally:
        pool.close()
    assert len(warned) == 1 and pool.threads == 1
    assert {count for model in fakes.built for count in model.torch_threads} == {1}
    seconds[4] = 0.5
    with pool:  # no warning: the next opening finds the cores free
        assert pool.threads == 4


def test_workers_measure_at_the_same_time_and_warn_once(
    fakes: FakeModels, monkeypatch: pytest.MonkeyPatch, cores: list[int]
) -> None:
    def slow(threads: int, *given: Any) -> float:
        torch.set_num_threads(threads)
        return 1.0 if threads == 1 else TWO

    monkeypatch.setattr("yolothreads.pools.thread_pools.seconds_with", slow)
    with pytest.warns(RuntimeWarning) as warned, ModelPerThread(workers=2, device="cpu") as pool:
        list(pool.map(map(picture, range(1, 9))))
    assert len(warned) == 1 and {count for model in fakes.built for count in model.torch_threads} == {1}


def test_one_slow_measurement_alone_changes_nothing() -> None:
    measured = {1: [1.0, 1.0], 4: [TWO, 2.0]}
    assert torch_threads.find_slow(4, lambda threads: measured[threads].pop(0)) is None
    assert not measured[1] and not measured[4]


def test_images_of_a_few_milliseconds_are_no_sign() -> None:
    assert torch_threads.find_slow(4, lambda threads: 0.01 * threads) is None


def slow_predict(*given: Any) -> Any:
    """Run in a worker process: the real model on a clock on which two threads take long."""
    torch_threads.seconds_with = lambda threads, *_: 1.0 if threads == 1 else TWO
    predict = load_predict(*given)

    def counting(*args: Any, **settings: Any) -> Any:
        (result,) = predict(*args, **settings)
        result.speed["threads"] = torch.get_num_threads()
        return [result]

    return counting


@pytest.mark.nightly
def test_a_worker_process_falls_back_and_the_pool_warns(monkeypatch: pytest.MonkeyPatch, cores: list[int]) -> None:
    monkeypatch.setattr(ModelPerProcess, "_make_predict", staticmethod(slow_predict))
    monkeypatch.setattr(ModelPerProcess, "_may_fall_back", True)
    pool = ModelPerProcess(workers=1, device="cpu", imgsz=64)
    with pytest.warns(RuntimeWarning, match=r"ModelPerProcess .*2\.1 s with 4") as warned:
        pool.open()
    try:
        (result,) = pool.map([np.zeros((64, 64, 3), np.uint8)])
    finally:
        pool.close()
    assert len(warned) == 1 and pool.threads == 1 and result.speed["threads"] == 1


def test_what_workers_elsewhere_report_is_one_warning(
    fakes: FakeModels, monkeypatch: pytest.MonkeyPatch, cores: list[int]
) -> None:
    class Slow(WorkerHere):
        def load(self) -> torch_threads.Slow:
            super().load()
            return torch_threads.Slow(2, TWO, 1.0)

    monkeypatch.setattr(ModelPerProcess, "_launch_worker", lambda pool, index: Slow(pool, index))
    with pytest.warns(RuntimeWarning) as warned, ModelPerProcess(workers=2, device="cpu") as pool:
        assert pool.threads == 1
    assert len(warned) == 1


def test_on_a_gpu_nothing_is_measured(fakes: FakeModels, cores: list[int]) -> None:
    pool = Sequential(device="cpu")
    assert pool._may_fall_back
    pool.devices = ("cuda:0",)
    assert not pool._may_fall_back


@pytest.mark.nightly
@pytest.mark.skipif(len(getattr(os, "sched_getaffinity", lambda _: ())(0)) < 2, reason="needs two cores, and Linux")
def test_no_pool_collapses_where_one_of_two_cores_is_given() -> None:
    """Threads that spin for one another made `Sequential` 40 times slower than plain YOLO; the goal is 0.9 of it."""
    speeds = given_cores.measure((given_cores.PLAIN, "Sequential", "BatchingWorker"), rounds=5, images=4, imgsz=160)
    for name in ("Sequential", "BatchingWorker"):
        ratios = [own / plain for own, plain in zip(speeds[name], speeds[given_cores.PLAIN], strict=True)]
        assert max(ratios) > 0.5, speeds
