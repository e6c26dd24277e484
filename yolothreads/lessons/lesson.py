"""The frame of every notebook: its settings, which are checked at once, and a check of what it leaves running."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable
from contextlib import suppress
from itertools import cycle, islice
from pathlib import Path
from time import monotonic, sleep

import numpy as np
from numpy.typing import NDArray

from yolothreads import devices
from yolothreads import weights as weights_module
from yolothreads.errors import ArgumentError, ImageError, YoloThreadsError, at_least_one
from yolothreads.lessons.panels import base
from yolothreads.measure import stamp
from yolothreads.pools import read_image
from yolothreads.scenes import Pictures, pictures

_END_S = 5.0  # for threads that are ending, and for child processes that have ended but are not yet removed


class Lesson:
    """The settings of one notebook.

    Also keeps ultralytics quiet: no log below WARNING, and no usage statistics, which it would send in a thread.

    Args:
        device: "auto", "cpu", "cuda:0", ...
        weights: "bundled", or the path of a .pt file.
        workers: the number of threads, 1 or more.
        images: "scenes" for generated pictures, or the path of a folder or of a file.
        quick: run fewer trials. The environment variable YOLOTHREADS_QUICK, set to anything but 0, has the same effect.
        count: the number of pictures.

    Attributes:
        device: the name of the device, such as "cpu" or "cuda:0".
        weights: the path of the checked file.
        workers: the number of threads.
        pictures: the images, their names, and for generated scenes the truth.
        unreadable: one message for each file that was left out.

    Raises:
        ArgumentError, DeviceError, WeightsError, ImageError: a setting is wrong; the message says what to do.
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
        from ultralytics.utils import LOGGER
        from ultralytics.utils.events import events

        if not isinstance(quick, bool):
            raise ArgumentError(f"quick={quick!r} is neither True nor False; write one of them.")
        self.quick = quick or os.environ.get("YOLOTHREADS_QUICK", "0") not in ("", "0")
        self.workers = at_least_one("workers", workers)
        self.device = devices.resolve(device)
        self.weights: Path = weights_module.check(weights)
        self.pictures, self.unreadable = _readable(pictures(images, count))
        if self.unreadable:
            warnings.warn(f"These pictures were left out: {' '.join(self.unreadable)}", stacklevel=2)
        LOGGER.setLevel("WARNING")
        events.enabled = False
        self._threads = set(threading.enumerate())
        self._children = _children()

    @property
    def images(self) -> list[NDArray[np.uint8] | Path]:
        """The pictures to detect in: paths, or (H, W, 3) uint8 BGR arrays."""
        return self.pictures.images

    @property
    def stamp(self) -> str:
        """Device, cores, versions and date, which every number of a lesson must carry."""
        return stamp(self.device)

    def crowded(self, count: Callable[[NDArray[np.uint8] | Path], int]) -> NDArray[np.uint8] | Path:
        """Return the picture in which `count` finds the most objects.

        Raises:
            ImageError: `count` finds fewer than two objects in every picture, so that calls with different settings
                would give the same results.
        """
        picture = max(self.images, key=count)
        if count(picture) < 2:
            raise ImageError(
                "These weights find fewer than two objects in every picture; choose pictures that suit the weights."
            )
        return picture

    def trials(self, full: int, quick: int) -> int:
        """Return how many trials to run: `full`, or `quick` in quick mode, which lowers counts but drops no check."""
        return quick if self.quick else full

    def end(self) -> str:
        """End the run of a panel, check that no thread or process of the lesson is left, and free cached GPU memory.

        Raises:
            YoloThreadsError: something is still running after five seconds; the message names it.
        """
        base.end_run()
        deadline = monotonic() + _END_S
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
    """Leave out files that are not pictures, and say why; one bad file must not end a lesson."""
    good, tried, errors = [], set[str](), dict[str, str]()
    for image, name in zip(found.images, found.names, strict=True):
        try:
            if name not in tried:  # few pictures are repeated
                tried.add(name)
                read_image(image)
            if name not in errors:
                good.append((image, name))
        except ImageError as error:
            errors[name] = str(error)
    if not good:
        raise ImageError(next(iter(errors.values())))
    images, names = zip(*islice(cycle(good), len(found.names)), strict=True)
    return found._replace(images=list(images), names=list(names)), list(errors.values())


def _is_jupyters(thread: threading.Thread) -> bool:
    """Return whether a thread belongs to the kernel, which starts one when it first sends a large output."""
    return type(thread).__module__.partition(".")[0] in ("zmq", "ipykernel", "IPython")


def _children() -> set[int]:
    """Return the ids of all child processes except Python's resource tracker for shared memory."""
    import psutil

    found = set()
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # it has just ended
            if not any("multiprocessing.resource_tracker" in word for word in child.cmdline()):
                found.add(child.pid)
    return found
