"""How much memory a pool takes, measured in a fresh process so that nothing that ran here before is counted."""

from __future__ import annotations

import gc
import inspect
import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from yolothreads.errors import YoloThreadsError
from yolothreads.pools import Pool, SharedModel

_CHILD_S = 900.0  # for a fresh process to import torch, load the models and predict
_SIDE = 64  # pixels of the many images that `mapped_mb` maps
_MARKS = 10


class Memory(NamedTuple):
    """MB that a pool adds to a process: as soon as it is open, and after it has worked.

    The second is more, because allocators keep what they have had for the numbers inside the network, thread by thread.
    """

    opened_mb: float
    worked_mb: float


def memory_of(pool: Pool) -> Memory:
    """How much an open pool adds to the memory of a process that has one model already.

    Measured in a fresh process, whose child processes count, too: of `ModelPerProcess` its workers, of `RayActors` all
    of Ray on this machine. Only what a process has for itself counts: neither shared memory nor the code of libraries,
    and not the memory of a GPU.
    """
    return Memory(*_in_fresh_process("_measure", pool))


def mapped_mb(pool: Pool, images: int = 10_000) -> dict[int, float]:
    """MB that a pool that has worked takes more after so many images of one `map`, in ten steps: flat if it keeps none.

    Each is an array of its own, of 64x64 pixels. Measured in a fresh process.
    """
    marks = [images * step // _MARKS for step in range(1, _MARKS + 1)]
    return dict(zip(marks, _in_fresh_process("_map", pool, marks), strict=True))


def _in_fresh_process(task: str, pool: Pool, *more: Any) -> list[float]:
    own = (p.name for p in inspect.signature(type(pool)).parameters.values() if p.kind is p.KEYWORD_ONLY)
    names = {"workers", "device", "imgsz", "threads", *own} & vars(pool).keys()
    given = {**{name: vars(pool)[name] for name in names}, **pool.settings, "weights": str(pool.weights)}
    code = f"from yolothreads import memory; memory._answer(memory.{task})"
    command = [sys.executable, "-c", code, json.dumps([type(pool).__name__, given, *more])]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_CHILD_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise YoloThreadsError(f"The process that measures memory took longer than {_CHILD_S:.0f} s.") from error
    if done.returncode != 0:
        last_line = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise YoloThreadsError(f"The process that measures memory failed: {last_line}")
    numbers: list[float] = json.loads(done.stdout.splitlines()[-1])
    return numbers


# What the fresh process runs.


def _answer(task: Any) -> None:
    from yolothreads import pools

    name, given, *more = json.loads(sys.argv[1])
    print(json.dumps(task(getattr(pools, name), given, *more)), flush=True)
    os._exit(0)  # the pools are closed, and to take torch apart at the end would take more than a second


def _measure(kind: type[Pool], given: dict[str, Any]) -> list[float]:
    image = np.zeros((given["imgsz"], given["imgsz"], 3), np.uint8)
    one = {name: value for name, value in given.items() if name in ("weights", "device", "imgsz", "threads")}
    with SharedModel(**one, workers=1) as shared:
        list(shared.map([image] * 4))
        before = _settled_mb()
        with kind(**given) as pool:
            opened = _settled_mb()
            list(pool.map([image] * 4 * pool.at_once))
            worked = _settled_mb()
    return [max(0.0, opened - before), max(0.0, worked - before)]


def _map(kind: type[Pool], given: dict[str, Any], marks: list[int]) -> list[float]:
    images = (np.full((_SIDE, _SIDE, 3), number % 255, np.uint8) for number in range(marks[-1]))
    found = []
    with kind(**given) as pool:
        list(pool.map([np.zeros((_SIDE, _SIDE, 3), np.uint8)] * 4 * pool.at_once))
        before = _settled_mb()
        for done, _ in enumerate(pool.map(images), 1):
            if done in marks:
                found.append(_settled_mb() - before)
    return found


def _settled_mb() -> float:
    """What this process and its children have written to, each for itself."""
    import psutil

    gc.collect()
    _return_free_memory()
    this = psutil.Process()
    total = 0
    for process in [this, *this.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess, ProcessLookupError, FileNotFoundError):
            total += _own_bytes(process)
    return total / 1e6


def _own_bytes(process: Any) -> int:
    """Its unique set size; on Linux without what is only read.

    There the code of a library counts as unique whenever no other process has it loaded, so that the end of any other
    program that uses torch would look like 90 MB more.
    """
    if sys.platform != "linux":
        return int(process.memory_full_info().uss)
    fields = dict(line.split()[:2] for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()[1:])
    return 1024 * (int(fields["Private_Dirty:"]) + int(fields["Swap:"]))


def _return_free_memory() -> None:
    """Have glibc give freed memory back, so that it is not counted; other allocators do so by themselves."""
    if sys.platform == "linux":
        import ctypes

        getattr(ctypes.CDLL(None), "malloc_trim", lambda _: 0)(0)
