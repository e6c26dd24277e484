"""Fixtures for all tests, and their time limits. No test downloads anything or leaves a thread behind."""

import os

os.environ["YOLO_OFFLINE"] = "true"
# Several tests run at once here, and OpenMP's threads would spin on the cores that the others need.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import tempfile
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import ultralytics
from cpu_seconds import CpuSeconds
from deadlines import scaled
from exports import Exports, maker
from fakes import REMOTE, FakeModels, add_node, launch_here
from xdist.scheduler import LoadFileScheduling

from yolothreads.devices import torch_threads_kept
from yolothreads.pools import ModelPerProcess, RayActors, ray_actors, torch_threads

# These start first, in this order, so that at the end no worker waits for the other.
LONG = ("browser/test_notebooks.py", "pools/test_ray_actors.py", "browser/", "pools/", "races/", "test_hazards.py")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(CpuSeconds())


def pytest_itemcollected(item: pytest.Item) -> None:
    """Scale the time limit of a test."""
    marker = item.get_closest_marker("timeout")
    limit = float(marker.args[0] if marker else item.config.getini("timeout"))
    item.add_marker(pytest.mark.timeout(scaled(limit)), append=False)


RAY = ("/test_cluster.py", "/test_hazards.py", "/test_ray_actors.py", "/test_real.py")
NOTEBOOKS = "/browser/test_notebooks.py"  # has a JupyterLab of its own: with the others, it would be the last to end
TOGETHER = {NOTEBOOKS: NOTEBOOKS, "/browser/": "JupyterLab", **dict.fromkeys(RAY, "Ray")}


class ByFile(LoadFileScheduling):
    """Keeps the tests of one file in one worker, and also all tests that share one JupyterLab or one Ray cluster.

    (The marks of `--dist loadgroup` have no effect in pytest-xdist 3.8 with pytest 9.2.)
    """

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return next((name for part, name in TOGETHER.items() if part in file), file)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    return ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the long files."""

    def rank(item: pytest.Item) -> int:
        file = item.path.as_posix()
        return next((i for i, part in enumerate(LONG) if f"/tests/{part}" in file), len(LONG))

    items.sort(key=rank)


@pytest.fixture(autouse=True, scope="session")
def cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Exported models are kept for one test run only, not among the user's; the workers of pytest-xdist share them."""
    base = tmp_path_factory.getbasetemp()
    os.environ["YOLOTHREADS_CACHE"] = str((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache")


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Exports:
    """Exports a model, one of `exports.RECIPES`, when a test asks for it first; returns its path."""
    return maker(tmp_path_factory.mktemp("exports"))


@pytest.fixture(autouse=True)
def leaves_nothing_behind() -> Iterator[None]:
    """Every test joins the threads that it starts, and leaves torch's thread count unchanged."""
    with torch_threads_kept():
        threads, count = set(threading.enumerate()), torch.get_num_threads()
        yield
        left = [t for t in threading.enumerate() if t not in threads and not t.daemon]
        assert not left, f"threads left behind: {left}"
        now = torch.get_num_threads()
        assert now == count, f"torch may use {now} threads, {count} before the test"


@pytest.fixture(autouse=True, scope="session")
def cores_are_free() -> Iterator[None]:
    """On the clock of `torch_threads` no pool is slower with more threads, however busy this machine is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch_threads, "perf_counter", lambda: 0.0)
        for kind in (ModelPerProcess, RayActors):  # that clock is not the one of their worker processes
            patch.setattr(kind, "_may_fall_back", False)
        yield


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[Any]:
    """Two Ray nodes with two CPUs each for all tests; whatever they start is gone at the end, and so are their files.

    Tests find them by `ray_cluster.address`. A test that kills a node adds one for that.
    """
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    folders = tempfile.TemporaryDirectory(dir="/tmp", prefix="ray-", ignore_cleanup_errors=True)
    with folders as folder, pytest.MonkeyPatch.context() as patch:
        settings = {"RAY_TMPDIR": folder, "RAY_USAGE_STATS_ENABLED": "0"}
        settings |= {**ray_actors.EQUAL_PRIORITY, **ray_actors.new_password()}
        for name, value in settings.items():
            patch.setenv(name, value)
        ray_actors.read_environment_again()
        cluster = Cluster()
        try:
            add_node(cluster)
            add_node(cluster)
            yield cluster
        finally:
            for node in [*cluster.worker_nodes, cluster.head_node]:
                cluster.remove_node(node, allow_graceful=False)
    ray_actors.read_environment_again()


@pytest.fixture(scope="module")
def ray_joined(ray_cluster: Any) -> Iterator[None]:
    """Connect this process to that cluster, so that each `RayActors()` of a module uses it."""
    ray_actors._connection.open(ray_cluster.address, 1, 0)
    yield
    ray_actors._connection.close()


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> FakeModels:
    """Fake models in place of ultralytics.YOLO, for the length of a test."""
    models = FakeModels()
    monkeypatch.setattr(ultralytics, "YOLO", models)
    for kind in REMOTE:
        monkeypatch.setattr(kind, "_launch_worker", launch_here)
    return models
