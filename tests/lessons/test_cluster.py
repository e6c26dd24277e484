"""A cluster on this machine: nodes come and go, a pool outlives the loss of one, and nothing is left."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from yolothreads import scenes
from yolothreads.detections import same
from yolothreads.errors import ArgumentError
from yolothreads.lessons.cluster import LocalCluster, local_cluster, memory_of_children
from yolothreads.pools import RayActors, Sequential

ray = pytest.importorskip("ray")

pytestmark = pytest.mark.timeout(300)
IMAGES = [scenes.scene(seed, (128, 160)).image for seed in range(6)]
GIVEN = {"device": "cpu", "imgsz": 160}


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children(recursive=True)}


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """No process, variable, thread or connection is left."""

    def state() -> tuple[set[int], dict[str, str], list[threading.Thread]]:
        return children(), {k: v for k, v in os.environ.items() if k.startswith("RAY_")}, threading.enumerate()

    before = state()
    yield
    assert state() == before
    assert not ray.is_initialized()


def test_a_pool_moves_from_a_lost_node_to_one_that_is_added(nothing_left: None) -> None:
    with Sequential(**GIVEN) as pool:
        alone = list(pool.map(IMAGES))
    with local_cluster(cpus=1) as cluster:
        second, results = cluster.add(), []
        pool = RayActors(workers=2, address=cluster.address, **GIVEN)
        spans = cluster.watch(pool)
        with pool:
            assert sorted(cluster.where(pool)) == ["node A", "node B"]  # each books the one CPU of its node
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


def test_only_a_node_that_was_added_can_be_killed(cluster: LocalCluster) -> None:
    with pytest.raises(ArgumentError, match=r'"node A" cannot be killed.*none'):
        cluster.kill("node A")
    with pytest.raises(ArgumentError, match=r"ray\.shutdown"), local_cluster():
        pass


@pytest.fixture
def cluster(nothing_left: None) -> Iterator[LocalCluster]:
    with local_cluster() as cluster:
        yield cluster


def test_memory_is_counted_of_grandchildren_too(cluster: LocalCluster) -> None:
    direct = {child.pid for child in psutil.Process().children()}
    found = memory_of_children()
    assert found.keys() > direct
    assert all(mb > 1 for mb in found.values())


def test_after_an_exception_nothing_is_left(nothing_left: None) -> None:
    with pytest.raises(KeyboardInterrupt), local_cluster() as cluster:
        cluster.add()
        folder = Path(ray.get_runtime_context().get_temp_dir())
        assert folder.is_dir()
        raise KeyboardInterrupt
    assert not folder.exists()
