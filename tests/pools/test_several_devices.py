"""Several devices: the workers of a pool that has a model per worker take turns with them; other pools refuse them."""

import json

import pytest
import torch
from fakes import KINDS, FakeModels, picture, tag_of

from yolothreads import child, devices
from yolothreads.errors import ArgumentError, DeviceError
from yolothreads.memory import memory_of
from yolothreads.pools import ModelPerProcess, ModelPerThread, ModelsBuiltOutside, Pool, RayActors, make_pool
from yolothreads.scenes import scene

SPREADING: list[type[Pool]] = [ModelsBuiltOutside, ModelPerThread, ModelPerProcess, RayActors]


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "devices", lambda: ["cuda:0", "cuda:1", "cpu"])


def made(kind: type[Pool], device: object, workers: int) -> Pool:
    more = {"streams": False} if kind is ModelPerThread else {"gpus_per_worker": 0} if kind is RayActors else {}
    return kind(device=device, workers=workers, **more)


@pytest.mark.parametrize("kind", SPREADING)
@pytest.mark.parametrize("several", [("cuda:0", "cuda:1"), ["cuda:1", "cpu"], ("cuda", "auto", "cuda:1")])
def test_workers_take_turns_with_the_devices(
    kind: type[Pool], several: tuple[str, ...], fakes: FakeModels, two_gpus: None
) -> None:
    pool = made(kind, several, workers=4)
    with pool:
        results = list(pool.map(map(picture, range(1, 9))))
    assert [tag_of(result) for result in results] == list(range(1, 9))
    named = [{"cuda": "cuda:0", "auto": "cuda:0"}.get(name, name) for name in several]
    expected = sorted((named * 4)[:4])
    assert sorted(model.overrides["device"] for model in fakes.built) == expected
    assert pool.devices == tuple(named) and pool.device == named[0]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in SPREADING])
def test_a_pool_with_one_model_refuses_several_devices(kind: type[Pool]) -> None:
    with pytest.raises(ArgumentError, match=r"one model on one device.*ModelPerThread"):
        make_pool(kind, device=("cpu", "cpu"))


@pytest.mark.parametrize("kind", SPREADING)
def test_more_devices_than_workers_and_none_at_all_are_refused(kind: type[Pool]) -> None:
    for several in (("cpu", "cpu", "cpu"), ()):
        with pytest.raises(ArgumentError, match="does not fit 2 workers; give 1 to 2"):
            kind(device=several, workers=2)
    with pytest.raises(DeviceError, match=r'"cuda:7"'):
        kind(device=("cpu", "cuda:7"), workers=2)


def test_the_results_of_two_devices_are_those_of_one() -> None:
    images, common = [scene(seed, (96, 96)).image for seed in range(4)], {"imgsz": 96, "threads": 1, "workers": 2}
    with ModelPerThread(device="cpu", **common) as one, ModelPerThread(device=("cpu", "cpu"), **common) as two:
        for expected, found in zip(one.map(images), two.map(images), strict=True):
            assert torch.equal(expected.boxes.data, found.boxes.data)


def test_memory_is_measured_on_the_same_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(child, "call", lambda *arguments, **_: calls.append(json.dumps(arguments)) or [1.0, 2.0])
    memory_of(ModelPerThread(device=("cpu", "cpu")))
    (_, _, options) = json.loads(calls[0])
    assert ModelPerThread(**options).devices == ("cpu", "cpu")


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
@pytest.mark.parametrize("kind", [ModelPerThread, ModelPerProcess])
def test_on_two_gpus_each_one_holds_a_model(kind: type[Pool]) -> None:
    images = [scene(seed, (320, 320)).image for seed in range(8)]
    with ModelPerThread(device="cuda:0", imgsz=320, workers=1) as alone:
        expected = [len(result.boxes) for result in alone.map(images)]
    before = [torch.cuda.mem_get_info(number)[0] for number in (0, 1)]
    with kind(device=("cuda:0", "cuda:1"), imgsz=320, workers=2) as pool:
        assert [len(result.boxes) for result in pool.map(images)] == expected
        assert all(torch.cuda.mem_get_info(number)[0] < before[number] for number in (0, 1))
