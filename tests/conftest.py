"""Fixtures for all tests. Nothing is downloaded, and no test may leave a thread behind."""

import os

os.environ["YOLO_OFFLINE"] = "true"

import threading
from collections.abc import Iterator

import pytest
import torch
import ultralytics
from fakes import REMOTE, FakeModels, recruit_here


@pytest.fixture(autouse=True, scope="session")
def cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Exported models are kept for one test run only, not among the user's."""
    os.environ["YOLOTHREADS_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def leaves_nothing_behind() -> Iterator[None]:
    """Every test joins the threads that it starts, and gives torch its thread count back."""
    threads, count = set(threading.enumerate()), torch.get_num_threads()
    yield
    left = [t for t in threading.enumerate() if t not in threads and not t.daemon]
    assert not left, f"threads left behind: {left}"
    now = torch.get_num_threads()
    torch.set_num_threads(count)
    assert now == count, f"torch may use {now} threads, {count} before the test"


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> FakeModels:
    """Fake models in place of ultralytics.YOLO, for the length of a test."""
    models = FakeModels()
    monkeypatch.setattr(ultralytics, "YOLO", models)
    for kind in REMOTE:
        monkeypatch.setattr(kind, "_recruit", recruit_here)
    return models
