"""Replicas with real networks: one set of weights, bit-equal results for every task, one stream per worker."""

import contextlib
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from fakes import FakeModels, picture
from ultralytics import YOLO

from yolothreads.detections import explore
from yolothreads.pools import ModelPerThread, Pool, Replicas, Sequential, make_pool
from yolothreads.pools.thread_pools import replica
from yolothreads.scenes import scene
from yolothreads.weights import bundled

IMAGES = [scene(seed, (96, 64 + 32 * (seed % 2))).image for seed in range(6)]
PARTS = ("boxes", "masks", "keypoints", "probs", "obb")


def pointers(model: YOLO) -> list[int]:
    network = model.predictor.model.backend.model
    return [tensor.data_ptr() for tensor in [*network.parameters(), *network.buffers()]]


def test_a_replica_shares_the_tensors_of_the_original_and_nothing_else() -> None:
    with Replicas(bundled(), device="cpu", imgsz=96) as pool:
        model, twin = pool._model, replica(pool._model)
    assert pointers(twin) == pointers(model) and len(pointers(twin)) > 100
    theirs, ours = model.predictor, twin.predictor
    assert ours is not theirs and ours._lock is not theirs._lock and ours.args is not theirs.args
    head, twin_head = (p.model.backend.model.model[-1] for p in (theirs, ours))
    assert twin_head is not head and twin_head.anchors.data_ptr() != head.anchors.data_ptr()


@pytest.mark.parametrize(
    "task", ["", "-seg", *(pytest.param(task, marks=pytest.mark.nightly) for task in ("-pose", "-cls", "-obb"))]
)
def test_results_of_every_task_equal_those_of_sequential_bit_for_bit(task: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    file = tmp_path / "random.pt"
    YOLO(f"yolo11n{task}.yaml").save(file)  # random weights: boxes come with a very low confidence only
    made = {"weights": file, "device": "cpu", "imgsz": 96, "conf": 1e-6, "max_det": 5, "threads": 1}
    with Sequential(**made) as alone, Replicas(workers=3, **made) as pool:
        for expected, got in zip(alone.map(IMAGES), pool.map(IMAGES), strict=True):
            parts = [name for name in PARTS if getattr(expected, name) is not None]
            assert parts and parts == [name for name in PARTS if getattr(got, name) is not None]
            for name in parts:
                assert torch.equal(getattr(expected, name).data, getattr(got, name).data), name


@pytest.mark.parametrize("kind", [ModelPerThread, Replicas])
@pytest.mark.parametrize("streams", [True, False])
def test_each_worker_has_its_own_cuda_stream_if_wanted(
    kind: type[Pool], streams: bool, fakes: FakeModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, now = [], threading.local()

    @contextlib.contextmanager
    def enter(stream: object):
        now.stream = stream
        yield
        now.stream = None

    monkeypatch.setattr(torch.cuda, "Stream", lambda device: SimpleNamespace(device=device))
    monkeypatch.setattr(torch.cuda, "stream", enter)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    everyone = threading.Barrier(2)

    def inside(model: object, tag: int) -> None:
        entered.append(getattr(now, "stream", None))
        everyone.wait(20)

    fakes.inside = inside
    pool = make_pool(kind, workers=2, device="cpu", streams=streams)
    pool.devices = ("cuda:1",)  # no GPU is needed to see which stream a worker asks for
    with pool:
        list(pool.map([picture(1)] * 4))
    if streams:
        assert len({id(stream) for stream in entered}) == 2 and {s.device for s in entered} == {"cuda:1"}
    else:
        assert entered == [None] * 4


@pytest.mark.nightly  # lesson 06 explores the same with every change
def test_under_every_schedule_two_replicas_give_the_results_they_give_alone() -> None:
    from ultralytics.engine.model import Model
    from ultralytics.nn.modules.head import Detect

    image = scene(3, (96, 96)).image
    with Replicas(bundled(), device="cpu", imgsz=96) as pool:
        both = replica(pool._model), replica(pool._model)
        found = explore(
            lambda state: state[0].predict(image, max_det=1),
            lambda state: state[1].predict(image[:64], conf=0.1),
            setup=lambda: both,
            restore=lambda state: None,
            watch=[Model.predict, Detect],
            same=exactly,
        )
    assert found.safe and found.schedules > 50


def exactly(a: list, b: list) -> bool:
    """Whether two lists of results have the same boxes, bit for bit."""
    return all(torch.equal(x.boxes.data, y.boxes.data) for x, y in zip(a, b, strict=True))
