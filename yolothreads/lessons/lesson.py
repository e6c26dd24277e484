"""What every notebook begins and ends with: its settings, checked at once, and a look at what it leaves behind."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep

import numpy as np
from numpy.typing import NDArray

from yolothreads import devices
from yolothreads import weights as weights_module
from yolothreads.arguments import at_least_one
from yolothreads.errors import ArgumentError, ImageError, YoloThreadsError
from yolothreads.lessons.panels import base
from yolothreads.measure import stamp
from yolothreads.pools import read_image
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
        pictures: images, names and (for generated scenes) the truth. unreadable: files left out, and why.
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
        if not isinstance(quick, bool):
            raise ArgumentError(f"quick={quick!r} is neither True nor False; write one of them.")
        self.quick = quick or quick_mode()
        self.workers = at_least_one("workers", workers)
        self.device = devices.resolve(device)
        self.weights: Path = weights_module.check(weights)
        self.pictures, self.unreadable = _readable(pictures(images, count))
        if self.unreadable:
            warnings.warn(f"Left out: {' '.join(self.unreadable)}", stacklevel=2)
        _send_no_statistics()
        self._threads = set(threading.enumerate())
        self._children = _children()

    @property
    def images(self) -> list[NDArray[np.uint8] | Path]:
        """The pictures to detect in: paths, or (H, W, 3) uint8 BGR arrays."""
        return self.pictures.images

    @property
    def stamp(self) -> str:
        """Device, cores, versions and date: what a number of this lesson must carry."""
        return stamp(self.device)

    def crowded(self, count: Callable[[NDArray[np.uint8] | Path], int]) -> NDArray[np.uint8] | Path:
        """The picture in which `count` finds most objects.

        Raises:
            ImageError: it finds fewer than two in any: different questions would have the same answer.
        """
        picture = max(self.images, key=count)
        if count(picture) < 2:
            raise ImageError(
                "These weights find two objects in none of the pictures; choose pictures or weights that fit together."
            )
        return picture

    def trials(self, full: int, quick: int) -> int:
        """How many trials to run: `full`, or `quick` in quick mode, which lowers counts and never what is checked."""
        return quick if self.quick else full

    def end(self) -> str:
        """End a panel's run, and make sure that nothing is left of the lesson: no thread, no process; and give cached
        GPU memory back.

        Raises:
            YoloThreadsError: something is still there after five seconds; the message names it.
        """
        base.end_run()
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


def _readable(found: Pictures) -> tuple[Pictures, list[str]]:
    """Leave out files that are no pictures, and say why; one bad file must not end a lesson."""
    errors: dict[str, str] = {}
    for name, image in dict(zip(found.names, found.images, strict=True)).items():  # a repeated file is read once
        try:
            read_image(image)
        except ImageError as error:
            errors[name] = str(error)
    kept = [i for i, name in enumerate(found.names) if name not in errors]
    if not kept:
        raise ImageError(next(iter(errors.values())))
    several = [kept[i % len(kept)] for i in range(len(found.names))]
    images, names = [found.images[i] for i in several], [found.names[i] for i in several]
    return found._replace(images=images, names=names), list(errors.values())


def _send_no_statistics() -> None:
    """Keep ultralytics from sending usage statistics in a thread of its own: a lesson is to leave no thread."""
    from ultralytics.utils.events import events

    events.enabled = False


def _is_jupyters(thread: threading.Thread) -> bool:
    """Whether a thread belongs to the kernel, which starts one when it first sends a large output."""
    return type(thread).__module__.partition(".")[0] in ("zmq", "ipykernel", "IPython")


def _children() -> set[int]:
    """The processes that this one has started; but for the one in which Python itself keeps book of shared memory."""
    import psutil

    found = set()
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # it has just ended
            if not any("multiprocessing.resource_tracker" in word for word in child.cmdline()):
                found.add(child.pid)
    return found
