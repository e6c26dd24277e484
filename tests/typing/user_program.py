"""A user's program as a type checker sees it: the lines that end with `# wrong` must be errors, and no others."""

from collections.abc import Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING, assert_type

import numpy as np
from numpy.typing import NDArray

import yolothreads
from yolothreads import (
    BatchingWorker,
    Camera,
    Latest,
    ModelPerProcess,
    ModelPerThread,
    Pool,
    Replicas,
    Scene,
    YoloThreadsError,
    explore,
    frames,
    latest,
    rate,
    replay,
    scene,
)
from yolothreads.races import Exploration, Rate, Trial
from yolothreads.testing import EverySchedule

if TYPE_CHECKING:
    from ultralytics.engine.results import Results


def detect(path: str) -> None:
    with ModelPerThread(path, workers=4, device="cpu", imgsz=640, conf=0.5) as pool:
        assert_type(pool, ModelPerThread)
        assert_type(pool.submit("street.jpg", conf=0.25), Future[Results])
        assert_type(pool.map([path], timeout=5.0, buffersize=2), Iterator[Results])
        assert_type(pool.map([path], return_exceptions=True), Iterator[Results | Exception])
    assert_type(Replicas(workers=2, streams=False).open(), Replicas)
    pools: list[Pool] = [BatchingWorker(when_full="refuse"), ModelPerProcess(mp_context="spawn")]
    pools[0].close(cancel_futures=True)
    live = latest(frames(0, reconnect=3))
    assert_type(live, Latest[NDArray[np.uint8]])
    assert_type(live.with_age(Camera(pools[0]).follow(live)), Iterator[tuple[Results | Exception, float]])


def search() -> None:
    found = explore(lambda s: s.append(1), lambda s: s.append(2), setup=list, granularity="instruction", preemptions=1)
    assert_type(found, Exploration)
    assert_type(replay("A | py3.11", lambda: 1, lambda: 2), Trial)
    assert_type(rate(lambda i: "as sequential", 3), Rate)
    assert_type(scene(1, shape=(64, 64)), Scene)
    try:
        print(found.safe)
    except YoloThreadsError as error:
        print(error)


def test_cart(every_schedule: EverySchedule) -> None:
    assert_type(every_schedule(list.clear, list.clear, setup=list, observe=len, preemptions=2), Exploration)
    every_schedule(lambda: 1, lambda: 2, preemption=2)  # wrong


def mistakes() -> None:
    ModelPerThread(device=0.5)  # wrong
    BatchingWorker(when_full="sometimes")  # wrong
    explore(lambda: 1, lambda: 2, preemption=1)  # wrong
    explore(lambda: 1, lambda: 2, granularity="word")  # wrong
    print(yolothreads.ModelPerTread)  # wrong
