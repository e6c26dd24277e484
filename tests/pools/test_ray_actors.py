"""Ray actors on Ray nodes on this machine: the same results, bounded memory, and real kills of actors and nodes."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

import cv2
import numpy as np
import psutil
import pytest
import torch
from deadlines import scaled
from exports import Exports
from fakes import STORE_BYTES, add_node, ctrl_c_on
from own_classes import weights_with, write_package
from ultralytics.engine.results import Results

from yolothreads import scenes
from yolothreads.detections import same
from yolothreads.errors import ArgumentError, DeadlineError, ExtraError, WeightsError, WorkerDiedError
from yolothreads.pools import Sequential, ray_actors

ray = pytest.importorskip("ray")
from ray.cluster_utils import Cluster  # noqa: E402
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # noqa: E402

from yolothreads.pools.ray_actors import _LOAD_S, _PREDICT_S, RayActors, _RayWorker  # noqa: E402

pytestmark = pytest.mark.timeout(scaled(600))
WAIT_S = scaled(180.0)
IMAGES = [scenes.scene(seed, (128, 160)).image for seed in range(6)]
GIVEN = {"device": "cpu", "imgsz": 160}


def wait_until(holds: Callable[[], bool]) -> None:
    """Poll a condition that no event signals, with a deadline."""
    end, pause = monotonic() + WAIT_S, threading.Event()
    while not holds():
        assert monotonic() < end, "it did not come true"
        pause.wait(0.02)


LOCAL = """
import faulthandler, glob, logging, os, signal, sys, threading
import numpy as np, psutil, ultralytics
from yolothreads.pools.ray_actors import RayActors

first = os.environ.items() - set()

def state():
    log = logging.getLogger("ray")
    signals = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    folders = sorted(glob.glob(os.path.expanduser("~/.ray/*")))
    logs = log.level, log.handlers[:], faulthandler.is_enabled()
    return sorted(os.environ.items() - first), signals, logs, threading.enumerate(), folders

def never_ends():
    while True:
        yield np.zeros((64, 64, 3), np.uint8)

before = state()
try:
    with RayActors(workers=2, device="cpu", imgsz=64) as pool:
        with RayActors(workers=1, device="cpu", imgsz=64, threads=1) as other:  # else it may warn of a busy machine
            other.submit(next(never_ends())).result(60)
        family = psutil.Process().children(recursive=True)
        folder = sys.modules["ray"]._private.worker._global_node.get_temp_dir_path()
        assert os.path.isdir(folder), folder
        assert len(family) > 4, family
        for number, _ in enumerate(pool.map(never_ends())):
            if number == 5:
                os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    _, alive = psutil.wait_procs(family, timeout=20)
    after = state()
    print([(a, b) for a, b in zip(before, after) if a != b] or alive or glob.glob(folder) or "ok")
"""


@pytest.mark.nightly  # two clusters of Ray; lesson 09 ends one with every change
def test_ray_on_this_machine_ends_with_its_last_pool_after_ctrl_c_too() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOCAL],
        capture_output=True,
        text=True,
        timeout=scaled(200),
        check=False,
        env={name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
        preexec_fn=ctrl_c_on,
    )
    assert (done.stdout.strip(), done.stderr, done.returncode) == ("ok", "", 0)


def test_the_error_for_an_address_without_a_cluster_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_actors, "_ANSWER_S", 5.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it accepts connections and does not answer
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ArgumentError, match=rf"{address}.*longer than 5 s.*ray start"):
            RayActors(workers=1, address=address, **GIVEN).__enter__()
    assert not ray.is_initialized()


@pytest.fixture(scope="module")
def pool(ray_cluster: Cluster) -> Iterator[RayActors]:
    """One pool for all tests that leave it working."""
    with RayActors(workers=2, address=ray_cluster.address, **GIVEN) as opened:
        yield opened
        pids = [worker.pid for worker in opened._workers.values()]
    assert not ray.is_initialized()
    wait_until(lambda: not any(psutil.pid_exists(pid) for pid in pids))


@pytest.fixture(scope="module")
def alone() -> list[Results]:
    with Sequential(**GIVEN) as pool:
        return list(pool.map(IMAGES))


@pytest.fixture
def kills(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Actors are killed at the stages in the list, in this order: "start" (before it loads), "load" or "predict"."""
    left: list[str] = []
    place, ask = _RayWorker._find_place, _RayWorker._answer

    def kill(worker: _RayWorker, moment: str | None) -> None:
        if left[:1] == [moment]:
            left.pop(0)
            os.kill(worker.pid, signal.SIGKILL)

    def placed(worker: _RayWorker) -> None:
        place(worker)
        kill(worker, "start")

    def asked(worker: _RayWorker, reference: object, deadline_s: float) -> object:
        kill(worker, {_LOAD_S: "load", _PREDICT_S: "predict"}.get(deadline_s))
        return ask(worker, reference, deadline_s)

    monkeypatch.setattr(_RayWorker, "_find_place", placed)
    monkeypatch.setattr(_RayWorker, "_answer", asked)
    return left


def are(results: list, expected: list[Results]) -> bool:
    return all(same(a, b) for a, b in zip(results, expected, strict=True))


def in_actor(worker: _RayWorker, call: Callable) -> object:
    """Call a function with the actor, in its process."""
    return ray.get(worker._actor.__ray_call__.remote(call), timeout=WAIT_S)


def nodes_of(pool: RayActors) -> set[object]:
    return {in_actor(w, lambda _: ray.get_runtime_context().get_node_id()) for w in pool._workers.values()}


def test_results_equal_those_of_one_model_alone_and_are_in_order(
    pool: RayActors, alone: list[Results], tmp_path: Path
) -> None:
    assert are(list(pool.map(IMAGES * 3)), alone * 3)
    file = tmp_path / "scene.png"
    file.write_bytes(cv2.imencode(".png", IMAGES[0])[1].tobytes())
    result = pool.submit(file).result(WAIT_S)
    assert same(result, alone[0]) and result.path == str(file) and result.names == alone[0].names
    result = pool.submit(IMAGES[1], conf=0.999).result(WAIT_S)
    assert len(result.boxes) == 0 and result.orig_img is IMAGES[1]


def test_an_error_in_an_actor_is_raised_unchanged(pool: RayActors, alone: list[Results]) -> None:
    with pytest.raises(ValueError, match="conf") as error:
        pool.submit(IMAGES[0], conf=7.0).result(WAIT_S)
    assert not isinstance(error.value, ray.exceptions.RayError)
    assert are(list(pool.map(IMAGES)), alone)


def test_actors_use_only_their_threads(pool: RayActors) -> None:
    assert all(in_actor(w, lambda _: torch.get_num_threads()) == pool.threads for w in pool._workers.values())


def test_no_copy_of_the_weights_is_left(pool: RayActors) -> None:
    assert not list(Path(os.environ["RAY_TMPDIR"]).rglob("*.pt"))


def test_ten_times_more_images_than_memory_can_be_mapped(pool: RayActors) -> None:
    side, most, folder = 1500, 0, Path(os.environ["RAY_TMPDIR"])
    references = ray._private.worker.global_worker.core_worker.get_all_reference_counts
    for number, result in enumerate(pool.map(np.full((side, side, 3), i % 250, np.uint8) for i in range(130)), 1):
        assert result.orig_img[0, 0, 0] == (number - 1) % 250
        most = max(most, len(references()))
    assert number * side * side * 3 > 10 * STORE_BYTES
    assert 1 < most <= 1 + 4 * pool.workers  # the weights; of each worker an image and an answer, and the last ones
    assert not [file for file in folder.rglob("*spill*/*") if file.is_file()]


@pytest.mark.nightly  # each new actor takes seconds; the test of kills at three moments runs with every change
def test_an_idle_actor_that_is_killed_is_replaced(pool: RayActors, alone: list[Results]) -> None:
    killed = [worker.pid for worker in pool._workers.values()]
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    assert are(list(pool.map(IMAGES)), alone)
    assert not {worker.pid for worker in pool._workers.values()} & set(killed)


@pytest.mark.nightly
def test_an_actor_killed_during_an_image_is_replaced_and_the_image_processed_again(
    pool: RayActors, alone: list[Results], tmp_path: Path
) -> None:
    there = tmp_path / "there"
    for worker in pool._workers.values():

        def hang(actor: object, there: str = str(there)) -> None:
            def predict(*_: object, **__: object) -> None:
                Path(there).write_text(str(os.getpid()))
                threading.Event().wait(WAIT_S)

            actor._model.predict = predict

        in_actor(worker, hang)
    future = pool.submit(IMAGES[2])
    wait_until(lambda: there.exists() and there.read_text() != "")
    os.kill(int(there.read_text()), signal.SIGKILL)
    assert same(future.result(WAIT_S), alone[2])
    for worker in pool._workers.values():  # the other one still hangs
        worker.join()
    assert are(list(pool.map(IMAGES)), alone)


def test_actors_killed_at_the_start_and_while_loading_are_replaced(
    pool: RayActors, alone: list[Results], kills: list[str]
) -> None:
    kills += ["predict", "start", "load"]
    assert same(pool.submit(IMAGES[3]).result(WAIT_S), alone[3])
    assert kills == []


@pytest.mark.nightly
def test_an_image_that_ends_its_actor_twice_fails_alone(
    pool: RayActors, alone: list[Results], kills: list[str]
) -> None:
    kills += ["predict", "predict"]
    error = pool.submit(IMAGES[3]).exception(WAIT_S)
    assert type(error) is WorkerDiedError and "twice" in str(error)
    assert are(list(pool.map(IMAGES)), alone)


def test_the_error_for_a_worker_that_does_not_fit_names_the_free_resources(pool: RayActors) -> None:
    wait_until(lambda: ray.available_resources().get("CPU") == 2)  # no worker is being replaced
    with pytest.raises(DeadlineError, match="reserves 3 CPUs") as error:
        RayActors(workers=1, cpus_per_worker=3, placement_s=0.5, **GIVEN).__enter__()
    assert "2 CPUs" in str(error.value) and "cpus_per_worker" in str(error.value)
    assert ray.is_initialized()  # the other pool still needs it


def test_a_process_is_connected_to_one_ray_cluster_at_a_time(pool: RayActors) -> None:
    with pytest.raises(ArgumentError, match=r"127\.0\.0\.9:1.*ray\.shutdown"):
        RayActors(workers=1, address="127.0.0.9:1", **GIVEN).__enter__()
    assert same(pool.submit(IMAGES[0]).result(WAIT_S), pool.submit(IMAGES[0]).result(WAIT_S))


@pytest.mark.nightly  # lesson 09 loses a node with every change
def test_a_node_lost_during_map_loses_no_image(
    pool: RayActors, ray_cluster: Cluster, alone: list[Results], capsys: pytest.CaptureFixture[str]
) -> None:
    node = add_node(ray_cluster)  # one more than the other tests have
    wait_until(lambda: any(known["NodeID"] == node.node_id and known["Alive"] for known in ray.nodes()))
    results, images = [], []
    lost = RayActors(workers=2, address=ray_cluster.address, cpus_per_worker=0, **GIVEN)
    lost._scheduling = NodeAffinitySchedulingStrategy(node.node_id, soft=False)
    with lost:
        lost._scheduling = "SPREAD"  # from now on, again
        assert nodes_of(lost) == {node.node_id}
        before, end = list(lost._workers.values()), monotonic() + scaled(200)

        def until_both_are_replaced() -> Iterator[np.ndarray]:
            while not images or len(images) % len(IMAGES) or set(before) & set(lost._workers.values()):
                assert monotonic() < end, "the workers of the lost node were not replaced"
                images.append(IMAGES[len(images) % len(IMAGES)])
                yield images[-1]

        for number, result in enumerate(lost.map(until_both_are_replaced())):
            results.append(result)
            if number == 5:
                ray_cluster.remove_node(node, allow_graceful=False)
        assert node.node_id not in nodes_of(lost)
    assert are(results, alone * (len(images) // len(IMAGES)))
    assert capsys.readouterr() == ("", "")  # Ray would have printed many lines of its log


def test_without_ray_the_error_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ExtraError, match=r"yolothreads\[ray\]"):
        RayActors()


@pytest.mark.parametrize("name", ["cpus_per_worker", "gpus_per_worker", "placement_s"])
@pytest.mark.parametrize("value", [-1, True, "1", float("nan")])
def test_resource_amounts_must_be_zero_or_more(name: str, value: object) -> None:
    with pytest.raises(ArgumentError, match=f"{name}="):
        RayActors(device="cpu", **{name: value})


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["fixed.onnx", "fixed.torchscript", "fixed_openvino_model"])
def test_exported_models_are_sent_to_the_actors(name: str, exports: Exports, ray_joined: None) -> None:
    file = exports(name)
    with Sequential(file, device="cpu") as alone, RayActors(file, device="cpu") as pool:
        pairs = list(zip(alone.map(IMAGES), pool.map(IMAGES), strict=True))
    assert all(same(a, b, 0.001, 1e-5) for a, b in pairs) and any(len(a) for a, _ in pairs)


@pytest.mark.nightly
def test_actors_load_classes_that_are_allowed_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray_joined: None
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    write_package(tmp_path)
    mine = weights_with("MyBlock", tmp_path)
    with RayActors(mine, allow=["my_pkg.MyBlock"], **GIVEN) as pool, Sequential(**GIVEN) as alone:
        assert all(same(a, b) for a, b in zip(alone.map(IMAGES), pool.map(IMAGES), strict=True))
    pool = RayActors(mine, workers=1, allow=["my_pkg.MyBlock"], **GIVEN)
    weights_with("Other", tmp_path).replace(mine)  # after the pool has checked it: the actor itself looks
    with pytest.raises(WeightsError, match=r"my_pkg\.Other"):
        pool.open()
