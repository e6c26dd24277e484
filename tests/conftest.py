"""Fixtures for all tests, and their time limits. No test downloads anything or leaves a thread behind."""

import os

os.environ["YOLO_OFFLINE"] = "true"

import threading
from collections.abc import Iterator

import pytest
import torch
import ultralytics
from cpu_seconds import CpuSeconds
from deadlines import scaled
from fakes import REMOTE, FakeModels, launch_here

LONG = ("browser", "pools", "test_hazards.py")  # these start first, so that no worker has to wait for the other


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(CpuSeconds())


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Scale every time limit, and keep the tests of one file, or of the browser, in one worker of pytest-xdist.

    Other tests that must not run at the same time, in whatever file, carry the mark `xdist_group` with one name.
    """
    for item in items:
        marker = item.get_closest_marker("timeout")
        limit = float(marker.args[0] if marker else item.config.getini("timeout"))
        item.add_marker(pytest.mark.timeout(scaled(limit)), append=False)
        if not item.get_closest_marker("xdist_group"):
            own = "browser" if "browser" in item.path.parts else item.path.stem
            item.add_marker(pytest.mark.xdist_group(own))
    items.sort(key=lambda item: not any(part in LONG for part in item.path.parts))


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
        monkeypatch.setattr(kind, "_launch_worker", launch_here)
    return models
