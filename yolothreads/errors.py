"""Errors that the kit raises on purpose, and checks that raise them.

    YoloThreadsError
    ├── ArgumentError     a value that makes no sense: workers=0, an unknown setting (also a ValueError)
    ├── DeviceError       a device that this machine does not have
    ├── ImageError        one image that cannot be read, or no images at all
    │   └── SourceError   a file, folder, camera or stream that cannot be opened, or has broken off
    ├── WeightsError      weights that are missing, damaged, unsafe or made for another task
    ├── ExploreError      an exploration that cannot be run, or a schedule that cannot be replayed (also a ValueError)
    ├── ExtraError        a library of an extra that is not installed (also an ImportError)
    ├── PoolClosedError   submit() before `with pool:` or after it (also a RuntimeError)
    ├── OutOfMemoryError  the memory of a device was full during a prediction (also a MemoryError)
    ├── WorkerDiedError   a worker process died, and processing its image again failed
    ├── QueueFullError    a bounded queue is full, and the caller does not wait (also a queue.Full)
    ├── DeadlineError     a call was not answered within its deadline (also a TimeoutError)
    ├── NotebookError     a notebook or a notebook parameter that does not exist, or a notebook that failed
    ├── PanelError        a panel that cannot be started, or has no result to give
    └── OutputError       a file that could not be written

Each message names the thing, what is wrong with it, and what to do, in at most two sentences.
"""

import math
import queue
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec


class YoloThreadsError(Exception):
    """Base class: catch it to catch everything that the kit raises on purpose."""


class ArgumentError(YoloThreadsError, ValueError):
    """An argument has a value that makes no sense."""


class DeviceError(YoloThreadsError):
    """The device asked for is not on this machine."""


class ImageError(YoloThreadsError):
    """An image is missing, unreadable or of the wrong kind, or a folder holds none."""


class SourceError(ImageError):
    """A source of images cannot be opened, or has broken off."""


class WeightsError(YoloThreadsError):
    """Weights are missing, damaged, unsafe to load, or made for another task."""


class ExploreError(YoloThreadsError, ValueError):
    """An exploration cannot be run, or a schedule cannot be replayed."""


class PoolClosedError(YoloThreadsError, RuntimeError):
    """Work was given to a pool that is not open."""


class ExtraError(YoloThreadsError, ImportError):
    """A library that belongs to an extra of this package is not installed."""


class OutOfMemoryError(YoloThreadsError, MemoryError):
    """The memory of a device was full during a prediction; the pool goes on."""


class WorkerDiedError(YoloThreadsError):
    """A worker process died, and processing its image again failed."""


class QueueFullError(YoloThreadsError, queue.Full):
    """A bounded queue is full, and the caller does not wait."""


class DeadlineError(YoloThreadsError, TimeoutError):
    """A call was not answered within its deadline."""


class NotebookError(YoloThreadsError):
    """A notebook, or a parameter of one, does not exist; or a notebook failed."""


class PanelError(YoloThreadsError):
    """A panel cannot run now, or has no result yet."""


class OutputError(YoloThreadsError):
    """A file could not be written."""


def at_least_one(name: str, value: int) -> int:
    """Return `value` if it is a whole number of 1 or more; otherwise raise an ArgumentError that names it."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ArgumentError(f"{name}={value!r} makes no sense; give a whole number, 1 or more.")
    return value


def not_negative(name: str, value: float) -> float:
    """Return `value` if it is a finite number of 0 or more; otherwise raise an ArgumentError that names it."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ArgumentError(f"{name}={value!r} makes no sense; give a number, 0 or more.")
    return value


EXTRAS = {
    "pools": ("ultralytics", "torch", "torchvision", "cv2", "numpy", "lap", "PIL", "psutil", "tabulate", "tqdm"),
    "onnx": ("onnx", "onnxruntime", "platformdirs"),
    "ray": ("ray",),
    "lessons": (
        "jupyterlab", "ipykernel", "ipywidgets", "matplotlib", "nbclient", "nbconvert", "nbformat", "papermill",
    ),
}  # fmt: skip
"""The libraries that each extra adds, by the names under which they are imported. All extras include `pools`."""


def missing(extra: str) -> str | None:
    """Return the first library of an extra that is not installed. No library is imported."""
    return next((library for library in (*EXTRAS["pools"], *EXTRAS[extra]) if find_spec(library) is None), None)


def need_extra(who: str, extra: str) -> None:
    """Raise an ExtraError that names the remedy if a library of an extra is not installed."""
    if (library := missing(extra)) is not None:
        need_libraries(who, library, install=f'"yolothreads[{extra}]"')


def need_libraries(who: str, *libraries: str, install: str) -> None:
    """Raise an ExtraError if a library is not installed; `install` is what to give to `pip install`."""
    for library in libraries:
        if find_spec(library) is None:
            raise ExtraError(f"{who} needs {library}, which is not installed; run: pip install {install}.")


@contextmanager
def writing(problem: str, remedy: str) -> Iterator[None]:
    """Turn an OSError of the block into an OutputError.

    Args:
        problem: the beginning of the message: '"out.json" could not be written'.
        remedy: what to do, the end of the message: "name another file".

    Raises:
        OutputError: a file could not be written; the message includes the reason of the system.
    """
    try:
        yield
    except OSError as error:
        raise OutputError(f"{problem} ({error.strerror or error}); {remedy}.") from error
