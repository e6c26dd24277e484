"""Memory of processes and pools, in MB that nobody else uses: what would be free if they ended."""

from __future__ import annotations

import gc
import inspect
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from yolothreads import child
from yolothreads.allocator import return_freed
from yolothreads.errors import YoloThreadsError
from yolothreads.pools import Pool, SharedModel
from yolothreads.pools.base import sides

if TYPE_CHECKING:
    import psutil

__all__ = ["Memory", "growth_while_mapping", "memory_of", "used_mb"]

_CHILD_S = 900.0  # for a fresh process to import torch, load the models and predict
_SIDE = 64  # pixels of the images that `growth_while_mapping` maps
_STEPS = 10


def used_mb(pid: int | None = None, *, children: bool = True, device: str = "cpu", settle: bool = False) -> float:
    """Return the MB (1e6 bytes) that a process and its children have for themselves.

    Counted is the unique set size: memory that would be free if the process ended. Shared memory and the code of
    libraries are not counted. A process that has ended, or that the system hides from this user, counts as 0.

    Args:
        pid: id of the process; by default this one.
        children: add its child processes, their children, and so on.
        device: "cuda:N" returns what torch has allocated on that GPU in this process instead.
        settle: first collect garbage, and return freed memory to the system. Only memory of this process can settle.
    """
    if settle:
        gc.collect()
        return_freed()
    if device.startswith("cuda"):
        import torch

        return torch.cuda.memory_allocated(device) / 1e6
    import psutil

    total = 0
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for each in [process, *(process.children(recursive=True) if children else ())]:
            with suppress(psutil.Error, OSError):
                total += _own_bytes(each)
    return total / 1e6


def _own_bytes(process: psutil.Process) -> int:
    """Return the unique set size of a process; on Linux only of the pages that it has written to.

    There, the code of a library counts as unique while no other process has loaded it. The end of any other program
    that uses torch would look like 90 MB more.
    """
    if sys.platform != "linux":
        return int(process.memory_full_info().uss)
    fields = dict(line.split()[:2] for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()[1:])
    return 1024 * (int(fields["Private_Dirty:"]) + int(fields["Swap:"]))


class Memory(NamedTuple):
    """MB that a pool adds to a process: as soon as it is open, and after it has worked.

    The second number is larger, because allocators keep the memory that the network used, once per thread.
    """

    opened_mb: float
    worked_mb: float


def memory_of(pool: Pool) -> Memory:
    """Measure how much a pool adds to the memory of a process that already has one model.

    The pool is made again in a fresh process, so nothing that ran in this one is counted. Child processes count: the
    workers of `ModelPerProcess`, all of Ray for `RayActors`. Shared memory, the code of libraries and the memory of a
    GPU do not count.

    Raises:
        YoloThreadsError: the fresh process failed.
    """
    return Memory(*_in_fresh_process("_measure", pool))


def growth_while_mapping(pool: Pool, images: int = 10_000) -> dict[int, float]:
    """Measure how the memory of a pool grows while one `map` call processes many images.

    The growth stays near 0 for a pool that keeps no image. It is measured in a fresh process, after a warm-up; each
    image is an array of its own, of (64, 64, 3) uint8.

    Returns:
        MB more than before the first image, by the number of images done, at ten steps.

    Raises:
        YoloThreadsError: the fresh process failed.
    """
    steps = [images * step // _STEPS for step in range(1, _STEPS + 1)]
    return dict(zip(steps, _in_fresh_process("_map", pool, steps), strict=True))


def _in_fresh_process(function: str, pool: Pool, *more: Any) -> list[float]:
    own = (p.name for p in inspect.signature(type(pool)).parameters.values() if p.kind is p.KEYWORD_ONLY)
    names = {"workers", "device", "imgsz", "threads", *own} & vars(pool).keys()
    options = {**{name: vars(pool)[name] for name in names}, **pool.settings, "weights": str(pool.weights)}
    if len(pool.devices) > 1:
        options["device"] = list(pool.devices)
    given = (child.name_of(type(pool)), options, *more)
    try:
        return list(child.call(f"{__name__}:{function}", *given, timeout_s=_CHILD_S))
    except child.ChildError as error:
        raise YoloThreadsError(f"The memory of {type(pool).__name__} could not be measured: {error}.") from error


# --- in the fresh process ---


def _measure(kind: str, options: dict[str, Any]) -> list[float]:
    imgsz = options["imgsz"]  # came as JSON
    image = np.zeros((*sides(tuple(imgsz) if isinstance(imgsz, list) else imgsz), 3), np.uint8)
    common = {key: value for key, value in options.items() if key in ("weights", "imgsz", "threads")}
    common["device"] = options["device"][0] if isinstance(options["device"], list) else options["device"]
    with SharedModel(**common, workers=1) as shared:
        list(shared.map([image] * 4))
        before = used_mb(settle=True)
        with child.resolve(kind)(**options) as pool:
            opened = used_mb(settle=True)
            list(pool.map([image] * 4 * pool.at_once))
            worked = used_mb(settle=True)
    return [max(0.0, opened - before), max(0.0, worked - before)]


def _map(kind: str, options: dict[str, Any], steps: list[int]) -> list[float]:
    images = (np.full((_SIDE, _SIDE, 3), number % 255, np.uint8) for number in range(steps[-1]))
    grown = []
    with child.resolve(kind)(**options) as pool:
        list(pool.map([np.zeros((_SIDE, _SIDE, 3), np.uint8)] * 4 * pool.at_once))
        before = used_mb(settle=True)
        for done, _ in enumerate(pool.map(images), 1):
            if done in steps:
                grown.append(used_mb(settle=True) - before)
    return grown
