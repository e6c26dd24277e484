"""A cluster on this machine: nodes come and go, a pool survives the loss of a node, and nothing is left."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from yolothreads import scenes
from yolothreads.detections import same
from yolothreads.errors import ArgumentError
from yolothreads.lessons import local_cluster, memory_of_children
from yolothreads.lessons.jobs import LocalCluster
from yolothreads.pools import RayActors, Sequential

ray = pytest.importorskip("ray")

IMAGES = [scenes.scene(seed, (128, 160)).image for seed in range(6)]
GIVEN = {"device": "cpu", "imgsz": 160}


@contextmanager
def nothing_left() -> Iterator[None]:
    """Check that the block leaves no process, variable, thread or connection."""

    def state() -> tuple[set[int], dict[str, str], list[threading.Thread]]:
        children = {child.pid for child in psutil.Process().children(recursive=True)}
        return children, {k: v for k, v in os.environ.items() if k.startswith("RAY_")}, threading.enumerate()

    before = state()
    yield
    assert state() == before
    assert not ray.is_initialized()


def test_after_an_exception_nothing_is_left() -> None:  # before the cluster of the other tests is started
    with nothing_left(), pytest.raises(KeyboardInterrupt), local_cluster() as cluster:
        cluster.add()
        folder = Path(ray.get_runtime_context().get_temp_dir())
        assert folder.is_dir()
        raise KeyboardInterrupt
    assert not folder.exists()


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with nothing_left(), local_cluster(cpus=1) as cluster:
        yield cluster


@pytest.mark.nightly  # lesson 09 does the same with every change
def test_a_pool_moves_from_a_lost_node_to_one_that_is_added(cluster: LocalCluster) -> None:
    with Sequential(**GIVEN) as pool:
        alone = list(pool.map(IMAGES))
    second, results = cluster.add(), []
    pool = RayActors(workers=2, address=cluster.address, **GIVEN)
    spans = cluster.watch(pool)
    with pool:
        assert sorted(cluster.where(pool)) == ["node A", "node B"]  # each worker reserves the only CPU of its node
        for number, result in enumerate(pool.map(IMAGES * 5), 1):
            results.append(result)
            if number == 10:
                cluster.kill(second)
                third = cluster.add()
        assert sorted(cluster.where(pool)) == ["node A", third]
    assert all(same(a, b) for a, b in zip(results, alone * 5, strict=True))
    assert [span.stage for span in spans].count("infer") == len(results)
    rows = {span.thread for span in spans}
    assert {row.partition(", ")[2] for row in rows} == {"node A", second, third}
    assert len(rows) == [span.stage for span in spans].count("load") == 3


def test_the_memory_of_grandchildren_is_included(cluster: LocalCluster) -> None:
    cluster.add()
    direct = {child.pid for child in psutil.Process().children()}
    found = memory_of_children()
    assert found.keys() > direct
    assert all(mb > 1 for mb in found.values())


def test_only_an_added_node_can_be_killed(cluster: LocalCluster) -> None:
    with pytest.raises(ArgumentError, match=r'"node A" cannot be killed'):
        cluster.kill("node A")


def test_only_one_cluster_runs_at_a_time(cluster: LocalCluster) -> None:
    with pytest.raises(ArgumentError, match=r"ray\.shutdown"), local_cluster():
        pass
