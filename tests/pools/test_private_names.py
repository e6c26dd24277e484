"""The undocumented names of other libraries that pools use: they still exist in the version that was checked last."""

import inspect
from importlib import import_module
from importlib.metadata import version
from multiprocessing.shared_memory import SharedMemory
from tempfile import TemporaryDirectory

import pytest

# The versions with which every name below was checked. After an upgrade: run this file, then the tests of all pools,
# and put the new version here.
CHECKED = {"ultralytics": "8.4.190", "ray": "2.60.0"}


def checked(library: str) -> str:
    return f"checked with {library} {CHECKED[library]}, now {version(library)}"


def test_ultralytics_has_the_names() -> None:
    from ultralytics.engine import model, predictor, results
    from ultralytics.nn import tasks
    from ultralytics.nn.backends.base import BaseBackend

    assert "device" in model.PREDICTOR_SETUP_KEYS, checked("ultralytics")
    assert "self._lock = " in inspect.getsource(predictor.BasePredictor.__init__), checked("ultralytics")
    assert "_keys" in inspect.getsource(results.Results.__init__), checked("ultralytics")
    assert callable(tasks.torch_safe_load), checked("ultralytics")
    assert callable(BaseBackend.read_metadata), checked("ultralytics")


def test_ray_has_the_names() -> None:
    pytest.importorskip("ray")
    worker, raylet = map(import_module, ("ray._private.worker", "ray._raylet"))
    assert hasattr(worker.stdout_deduplicator, "skip_re"), checked("ray")
    assert callable(worker.shutdown) and callable(worker.global_worker.set_mode), checked("ray")
    assert "self.all_processes" in inspect.getsource(import_module("ray._private.node").Node.__init__), checked("ray")
    assert hasattr(worker, "_global_node"), checked("ray")
    assert callable(raylet.Config.initialize), checked("ray")
    assert callable(raylet.AuthenticationTokenLoader.instance().reset_cache), checked("ray")


def test_python_has_the_names() -> None:
    from multiprocessing import process, spawn

    assert "_inheriting = True" in inspect.getsource(spawn._main), "checked with Python 3.11 to 3.14"
    assert isinstance(process._children, set), "checked with Python 3.11 to 3.14"
    folder = TemporaryDirectory()
    assert callable(folder._finalizer.detach), "checked with Python 3.11 to 3.14"
    folder.cleanup()
    block = SharedMemory(create=True, size=1)
    try:
        assert isinstance(block._fd, int), "checked with Python 3.11 to 3.14"
    finally:
        block.close()
        block.unlink()
