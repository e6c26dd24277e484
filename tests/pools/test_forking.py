"""Open pools in a forked child: every use says so at once, and whatever the child does, the parent's pool goes on."""

import asyncio
import faulthandler
import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from deadlines import scaled
from fakes import KINDS, WAIT_S, FakeModels, picture, tag_of

from yolothreads.errors import PoolClosedError
from yolothreads.pools import ModelPerProcess, Pool, RayActors, make_pool

pytestmark = [
    pytest.mark.timeout(scaled(120)),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork"),
]


def in_forked_child(work: Callable[[], object]) -> str:
    """Return what the work returned or raised in a forked child, as text."""
    read, write = os.pipe()
    forked = os.fork()
    if forked == 0:
        faulthandler.dump_traceback_later(WAIT_S, exit=True, file=Path(os.devnull).open("w"))  # noqa: SIM115
        try:
            said = str(work())
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(write, said.encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        said = pipe.read()
    os.waitpid(forked, 0)
    return said or "hung"


@pytest.mark.parametrize("kind", KINDS)
def test_a_forked_child_is_told_to_open_the_pool_itself(kind: type[Pool], fakes: FakeModels) -> None:
    with make_pool(kind, workers=2, device="cpu") as pool:
        uses = [
            lambda: pool.submit(picture(1)),
            lambda: next(pool.map([picture(1)])),
            lambda: asyncio.run(pool.predict(picture(1))),
        ]

        def use_it() -> list[str]:
            said = []
            for use in uses:
                with pytest.raises(PoolClosedError) as error:
                    use()
                said.append(str(error.value))
            return said

        said = in_forked_child(use_it)
        assert said.count(kind.__name__) == said.count("open the pool in the child") == len(uses), said
        assert tag_of(pool.submit(picture(2)).result(WAIT_S)) == 2


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind is not RayActors])
def test_a_child_closes_the_pool_without_harm_and_opens_it_again(kind: type[Pool], fakes: FakeModels) -> None:
    def close_and_open() -> int:
        pool.__exit__(None)
        with pytest.raises(PoolClosedError, match="not open"):
            pool.submit(picture(1))
        with pool:
            return tag_of(pool.submit(picture(1)).result(WAIT_S))

    with make_pool(kind, workers=2, device="cpu") as pool:
        assert in_forked_child(close_and_open) == "1"
        assert tag_of(pool.submit(picture(2)).result(WAIT_S)) == 2


def test_model_per_process_says_what_to_use_in_a_daemonic_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)
    with pytest.raises(PoolClosedError, match=r"daemonic.*Replicas"):
        ModelPerProcess(device="cpu").open()


@pytest.mark.nightly
@pytest.mark.parametrize("kind", ["Replicas", "BatchingWorker", "ModelPerProcess", "OnnxSession", "RayActors"])
def test_real_children_end_orderly_and_the_pool_of_the_parent_goes_on(kind: str) -> None:
    script = Path(__file__).with_name("forked.py")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, script, kind], env=environment, capture_output=True, text=True, timeout=scaled(110), check=True
    )
    seen = json.loads(done.stdout)
    opens = 1 if kind == "RayActors" else 0  # Ray does not work in forked processes, and the error says so
    codes = {name: os.waitstatus_to_exitcode(status) for name, status in seen["children"].items()}
    assert codes == {"leaves": 0, "opens it again": opens, "forgets it": 0}, done.stderr
    assert seen["answers"] == [seen["wanted"]] * 4
    assert seen["workers replaced"] == 0


def test_a_child_that_ends_keeps_the_copied_model_of_the_parent(tmp_path: Path) -> None:
    import weakref

    from ultralytics import YOLO

    from yolothreads.weights import bundled

    pool = ModelPerProcess(YOLO(bundled()), device="cpu")
    in_forked_child(lambda: weakref.finalize._exitfunc())  # as at an orderly exit
    assert pool.weights.is_file()
