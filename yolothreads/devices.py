"""The devices and cores of this machine, and errors of a full memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from yolothreads.errors import DeviceError, OutOfMemoryError


def cores() -> int:
    """Return the number of CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def devices() -> list[str]:
    """Return the devices here, best first: each "cuda:N", then "mps", then "cpu"."""
    import torch

    found = [f"cuda:{i}" for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    if torch.backends.mps.is_available():
        found.append("mps")
    return [*found, "cpu"]


def resolve(device: str) -> str:
    """Return the name of a device that is here for "auto", "cpu", "cuda", "cuda:N" or "mps".

    Raises:
        DeviceError: there is no such device; the message names the devices that are here.
    """
    here = devices()
    wanted = here[0] if device == "auto" else "cuda:0" if device == "cuda" else device
    if wanted not in here:
        raise DeviceError(f'There is no device "{device}" here; use "auto" or one of: {", ".join(here)}.')
    return wanted


@contextmanager
def memory_errors_named(device: str) -> Iterator[None]:
    """Turn errors of a full memory into an `OutOfMemoryError` that names the remedy.

    The unused memory that torch has reserved is released first, so that the next image finds room.
    """
    try:
        yield
    except Exception as error:
        import torch

        # On the CPU torch raises a plain RuntimeError, OpenCV and ONNX Runtime errors of their own.
        words = ("can't allocate memory", "not enough memory", "Insufficient memory", "Failed to allocate memory")
        full = isinstance(error, torch.OutOfMemoryError | MemoryError) or any(word in str(error) for word in words)
        if isinstance(error, OutOfMemoryError) or not full:
            raise
        if device.startswith("cuda"):
            torch.cuda.empty_cache()
        raise OutOfMemoryError(
            f"The memory of {device} was full during a prediction; use a smaller imgsz, fewer workers, "
            "smaller batches, or a pool that shares its weights (Replicas)."
        ) from error


@contextmanager
def torch_threads_kept() -> Iterator[None]:
    """Restore torch's thread count at the end of the block; ultralytics changes it whenever it sets a model up."""
    import torch

    count = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(count)
