"""How much memory a pool takes, measured in a fresh process so that nothing that ran here before is counted."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from yolothreads.errors import YoloThreadsError
from yolothreads.pools import Pool, SharedModel

_CHILD_S = 300.0  # for a fresh process to import torch, load the models and predict


def memory_mb(pool: Pool) -> float:
    """How many MB an open pool that has worked adds to the unique set size of a process that has one model already.

    Measured in a fresh process, so that nothing that ran here before is counted. The memory of a GPU is not in it.
    """
    given = {name: getattr(pool, name) for name in ("workers", "device", "imgsz", "threads")}
    given |= {**pool.settings, "pool": type(pool).__name__, "weights": str(pool.weights)}
    command = [sys.executable, "-c", "from yolothreads import memory; memory._print_memory()", json.dumps(given)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_CHILD_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise YoloThreadsError(f"The process that measures memory took longer than {_CHILD_S:.0f} s.") from error
    if done.returncode != 0:
        last_line = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise YoloThreadsError(f"The process that measures memory failed: {last_line}")
    return float(done.stdout.split()[-1])


def _print_memory() -> None:
    """What the fresh process of `memory_mb` runs."""
    import psutil

    from yolothreads import pools

    given = json.loads(sys.argv[1])
    kind = getattr(pools, given.pop("pool"))
    image = np.zeros((given["imgsz"], given["imgsz"], 3), np.uint8)
    process = psutil.Process(os.getpid())

    def settled_mb(use: Callable[[], Any]) -> float:
        use()
        gc.collect()
        _return_free_memory()
        return float(process.memory_full_info().uss) / 1e6

    with SharedModel(**{**given, "workers": 1}) as one:
        before = settled_mb(lambda: list(one.map([image] * 4)))
        with kind(**given) as pool:
            after = settled_mb(lambda: list(pool.map([image] * 4 * pool.workers)))
    print(max(0.0, after - before))


def _return_free_memory() -> None:
    """Have glibc give freed memory back, so that it is not counted; other allocators do so by themselves."""
    if sys.platform == "linux":
        import ctypes

        getattr(ctypes.CDLL(None), "malloc_trim", lambda _: 0)(0)
