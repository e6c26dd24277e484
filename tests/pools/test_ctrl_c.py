"""Ctrl-C, for real: a process sends itself SIGINT during its work, and every thread is joined."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from deadlines import scaled
from fakes import KINDS, ctrl_c_on

HERE = Path(__file__).parent

REAL = """
import itertools, os, signal, sys, threading
from yolothreads import pools, scenes
image = scenes.scene(1, (128, 160)).image
try:
    with getattr(pools, sys.argv[1])(workers=2, device="cpu", imgsz=160) as pool:
        for number, _ in enumerate(pool.map(itertools.repeat(image))):
            if number == 5:
                os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    print("ok" if threading.active_count() == 1 else threading.enumerate())
"""


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Run Python with Ctrl-C switched on; background jobs of a shell ignore it."""
    env = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    return subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        timeout=scaled(100),
        env=env,
        check=False,
        preexec_fn=ctrl_c_on,
    )


FAST = ["ModelPerThread", "OneAtATime", "ModelPerProcess"]  # one that has only threads, one with a queue, one remote
REST = [kind.__name__ for kind in KINDS if kind.__name__ not in FAST]


@pytest.mark.timeout(scaled(120))
@pytest.mark.parametrize("kinds", [FAST, pytest.param(REST, marks=pytest.mark.nightly)], ids=["fast", "rest"])
def test_ctrl_c_during_map_closing_or_opening_joins_every_thread(kinds: list[str]) -> None:
    done = run(str(HERE / "ctrl_c.py"), *kinds)
    assert (done.stdout.strip(), done.returncode) == ("ok", 0), done.stderr[-2000:]


@pytest.mark.nightly  # the test above does the same with light models
@pytest.mark.timeout(scaled(120))
@pytest.mark.parametrize("kind", ["ModelPerThread"])
def test_ctrl_c_with_a_real_model(kind: str) -> None:
    done = run("-c", REAL, kind)
    assert (done.stdout.strip(), done.returncode) == ("ok", 0), done.stderr[-2000:]
