"""What every notebook begins and ends with: its settings, checked at once, and a look at what it leaves behind."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from time import monotonic, sleep

import numpy as np
from numpy.typing import NDArray

from yolothreads import weights as weights_module
from yolothreads.errors import YoloThreadsError
from yolothreads.pools import device as devices
from yolothreads.pools.base import at_least_one
from yolothreads.scenes import Pictures, pictures

_PATIENCE_S = 5.0  # for threads that are ending and children that are being reaped


def quick_mode() -> bool:
    """Whether trial counts are lowered: the environment variable YOLOTHREADS_QUICK is set to something but 0."""
    return os.environ.get("YOLOTHREADS_QUICK", "0") not in ("", "0")


class Lesson:
    """The settings of one notebook. A wrong device, weights or pictures fail here, with one sentence of advice.

    Attributes:
        device: the name of the device, e.g. "cpu" or "cuda:0".
        weights: the checked file. workers: how many threads.
        pictures: images, names and (for generated scenes) the truth.
    """

    def __init__(
        self,
        device: str = "auto",
        weights: str = "bundled",
        workers: int = 2,
        images: str = "scenes",
        quick: bool = False,
        *,
        count: int = 8,
    ) -> None:
        self.quick = quick or quick_mode()
        self.workers = at_least_one("workers", workers)
        self.device = devices.resolve(device)
        self.weights: Path = weights_module.check(weights)
        self.pictures: Pictures = pictures(images, count)
        self._threads = set(threading.enumerate())
        self._children = _children()

    @property
    def images(self) -> list[NDArray[np.uint8] | Path]:
        """The pictures to detect in: paths, or (H, W, 3) uint8 BGR arrays."""
        return self.pictures.images

    def trials(self, full: int, quick: int) -> int:
        """How many trials to run: `full`, or `quick` in quick mode, which lowers counts and never what is checked."""
        return quick if self.quick else full

    def end(self) -> str:
        """Make sure that nothing is left of the lesson: no thread, no process, no cached GPU memory.

        Raises:
            YoloThreadsError: something is still there after five seconds; the message names it.
        """
        deadline = monotonic() + _PATIENCE_S
        while (left := self._left()) and monotonic() < deadline:
            sleep(0.05)  # threads end by themselves; there is nothing to wait on
        if left:
            raise YoloThreadsError(f"The lesson left something running: {', '.join(left)}. Restart the kernel.")
        if self.device.startswith("cuda"):
            import torch

            torch.cuda.empty_cache()
        return "Nothing is left running: no thread, no process."

    def _left(self) -> list[str]:
        new = [t for t in threading.enumerate() if t not in self._threads and not _is_jupyters(t)]
        return [f"thread {t.name}" for t in new] + [f"process {pid}" for pid in _children() - self._children]


def _is_jupyters(thread: threading.Thread) -> bool:
    """Whether a thread belongs to the kernel, which starts one when it first sends a large output."""
    return type(thread).__module__.partition(".")[0] in ("zmq", "ipykernel", "IPython")


def _children() -> set[int]:
    import psutil

    return {child.pid for child in psutil.Process().children(recursive=True)}
