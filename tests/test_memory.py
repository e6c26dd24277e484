"""Memory: measured in a fresh process, with its children; it grows if a pool keeps images."""

import json
import os
import subprocess
import sys
from typing import Any

import numpy as np
import psutil
import pytest
from deadlines import scaled
from fakes import FakeModels

from yolothreads import child, memory
from yolothreads.errors import YoloThreadsError
from yolothreads.pools import BatchingWorker, ModelPerThread, Replicas, Sequential

pytestmark = pytest.mark.timeout(scaled(300))


@pytest.mark.nightly
def test_another_model_takes_more_memory_than_another_replica() -> None:
    models, replicas = (memory.memory_of(k(workers=4, device="cpu", imgsz=64)) for k in (ModelPerThread, Replicas))
    assert models.opened_mb > 40 > replicas.opened_mb > 5  # one YOLO object of yolo11n: 11 MB of numbers, or twice
    assert replicas.worked_mb >= replicas.opened_mb


def test_the_fresh_process_makes_the_same_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    def spy(function: str, *arguments: Any, timeout_s: float) -> list[float]:
        calls.append(json.loads(json.dumps(arguments)))
        return [1.0, 2.5]

    monkeypatch.setattr(child, "call", spy)
    pool = BatchingWorker(device="cpu", imgsz=64, max_batch=3, deadline_s=5, conf=0.5)
    assert memory.memory_of(pool) == (1.0, 2.5)
    name, options = calls[0]
    again = BatchingWorker(**options)
    kept = ("workers", "imgsz", "threads", "max_batch", "deadline_s", "settings", "weights", "device")
    assert child.resolve(name) is BatchingWorker and all(getattr(again, k) == getattr(pool, k) for k in kept)


def test_a_process_that_fails_is_one_error() -> None:
    pool = Sequential(device="cpu")
    pool.weights = pool.weights.with_name("gone.pt")
    with pytest.raises(YoloThreadsError, match=r"memory of Sequential could not be measured.*gone\.pt"):
        memory.memory_of(pool)


def mb_of_children() -> float:
    """Return the MB of the children: what this process itself uses changes meanwhile, as earlier tests free it."""
    return memory.used_mb(settle=True) - memory.used_mb(children=False)


def test_the_memory_of_a_child_is_counted_while_it_lives() -> None:
    before = mb_of_children()
    code = "kept = bytearray(b'1' * 50_000_000); print('here', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as started:
        assert started.stdout.readline() == b"here\n"
        assert mb_of_children() - before > 45
        started.stdin.write(b"\n")
        started.stdin.flush()
        started.wait(60)
    assert abs(mb_of_children() - before) < 20


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it is psutil's")
def test_files_that_are_only_mapped_are_not_counted() -> None:
    this = psutil.Process()
    assert 1e6 < memory._own_bytes(this) <= this.memory_full_info().uss


def test_a_process_is_read_by_its_id_and_counts_nothing_once_it_has_ended() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as started:
        own, whole = (memory.used_mb(children=children) for children in (False, True))
        assert 0 < memory.used_mb(started.pid) < whole
        assert 0 < own < whole
        started.stdin.write(b"\n")
    assert memory.used_mb(started.pid) == 0
    assert memory.used_mb(os.getpid(), children=False) == pytest.approx(memory.used_mb(children=False), abs=5)


class Keeps(Sequential):
    """Pool that keeps every image."""

    kept: list[np.ndarray] = []  # noqa: RUF012

    def _submit(self, image: Any, settings: Any) -> Any:
        self.kept.append(np.repeat(image, 10, axis=0))  # ten times as large, so that a short map shows it
        return super()._submit(image, settings)


def test_memory_grows_only_where_images_are_kept(fakes: FakeModels) -> None:
    options = {"device": "cpu", "imgsz": 64, "workers": 1}
    flat, grown = (memory._map(child.name_of(kind), options, [100, 400]) for kind in (Sequential, Keeps))
    Keeps.kept.clear()
    assert flat[1] < 15 < 40 < grown[1] and grown[0] < grown[1]


@pytest.mark.nightly  # with light models, the test above measures the same
def test_mapping_is_measured_ten_times() -> None:
    marks = memory.growth_while_mapping(Sequential(device="cpu", imgsz=64), 20)
    assert list(marks) == [2, 4, 6, 8, 10, 12, 14, 16, 18, 20]
    assert all(abs(mb) < 30 for mb in marks.values())
