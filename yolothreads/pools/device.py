"""What this machine has to compute with: devices and cores."""

from __future__ import annotations

import os

from yolothreads.errors import DeviceError


def cores() -> int:
    """How many CPU cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def devices() -> list[str]:
    """The devices here, best first: each "cuda:N", then "mps", then "cpu"."""
    import torch

    found = [f"cuda:{i}" for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    if torch.backends.mps.is_available():
        found.append("mps")
    return [*found, "cpu"]


def resolve(device: str) -> str:
    """Turn "auto", "cpu", "cuda", "cuda:N" or "mps" into the name of a device that is here.

    Raises:
        DeviceError: there is no such device; the message names those that are here.
    """
    here = devices()
    wanted = here[0] if device == "auto" else "cuda:0" if device == "cuda" else device
    if wanted not in here:
        raise DeviceError(f'There is no device "{device}" here; use "auto" or one of: {", ".join(here)}.')
    return wanted
