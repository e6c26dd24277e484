"""Memory: measured in a fresh process, of children too, and grown where a pool keeps what it should not."""

import subprocess
import sys
from typing import Any

import numpy as np
import psutil
import pytest
from fakes import FakeModels

from yolothreads import memory
from yolothreads.errors import YoloThreadsError
from yolothreads.pools import BatchingWorker, ModelPerThread, Replicas, Sequential

pytestmark = pytest.mark.timeout(300)


def test_a_further_model_takes_more_than_a_further_replica() -> None:
    models, replicas = (memory.memory_of(k(workers=4, device="cpu", imgsz=64)) for k in (ModelPerThread, Replicas))
    assert models.opened_mb > 40 > replicas.opened_mb > 5  # one YOLO object of yolo11n: 11 MB of numbers, or twice
    assert replicas.worked_mb >= replicas.opened_mb


def test_the_fresh_process_makes_the_very_same_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []

    def note(command: list[str], **options: object) -> subprocess.CompletedProcess:
        given.append(memory.json.loads(command[-1]))
        return subprocess.CompletedProcess(command, 0, "a line of a library\n[1.0, 2.5]\n", "")

    monkeypatch.setattr(memory.subprocess, "run", note)
    pool = BatchingWorker(device="cpu", imgsz=64, max_batch=3, deadline_s=5, conf=0.5)
    assert memory.memory_of(pool) == (1.0, 2.5)
    name, made = given[0]
    again = BatchingWorker(**made)
    kept = ("workers", "imgsz", "threads", "max_batch", "deadline_s", "settings", "weights", "device")
    assert name == "BatchingWorker" and all(getattr(again, k) == getattr(pool, k) for k in kept)


def test_a_process_that_fails_is_one_error() -> None:
    pool = Sequential(device="cpu")
    pool.weights = pool.weights.with_name("gone.pt")
    with pytest.raises(YoloThreadsError, match=r"measures memory failed.*gone\.pt"):
        memory.memory_of(pool)


def test_what_a_child_takes_is_counted_while_it_lives() -> None:
    before = memory._settled_mb()
    code = "kept = bytearray(b'1' * 50_000_000); print('here', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout.readline() == b"here\n"
        assert memory._settled_mb() - before > 45
        child.stdin.write(b"\n")
        child.stdin.flush()
        child.wait(60)
    assert abs(memory._settled_mb() - before) < 20


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it is psutil's")
def test_what_is_only_read_is_not_counted() -> None:
    this = psutil.Process()
    assert 1e6 < memory._own_bytes(this) <= this.memory_full_info().uss


class Keeps(Sequential):
    """Never lets go of an image."""

    kept: list[np.ndarray] = []  # noqa: RUF012

    def _submit(self, image: Any, settings: Any) -> Any:
        self.kept.append(np.repeat(image, 10, axis=0))  # ten times as large, so that a short map shows it
        return super()._submit(image, settings)


def test_memory_grows_only_where_images_are_kept(fakes: FakeModels) -> None:
    given = {"device": "cpu", "imgsz": 64, "workers": 1}
    flat, grown = (memory._map(kind, given, [100, 400]) for kind in (Sequential, Keeps))
    Keeps.kept.clear()
    assert flat[1] < 15 < 40 < grown[1] and grown[0] < grown[1]


def test_mapping_is_measured_at_ten_marks() -> None:
    marks = memory.mapped_mb(Sequential(device="cpu", imgsz=64), 20)
    assert list(marks) == [2, 4, 6, 8, 10, 12, 14, 16, 18, 20]
    assert all(abs(mb) < 30 for mb in marks.values())
