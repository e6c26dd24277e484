"""Checks whether a machine has what the lessons need, and says what to do where it does not."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import sys
from collections.abc import Callable
from functools import partial
from importlib import metadata

from yolothreads import devices, weights
from yolothreads.errors import YoloThreadsError
from yolothreads.tables import Table

OK = "ok"
_REINSTALL = 'run `make install`, or `python -m pip install -c constraints.txt -e ".[lessons]"`'
_MEMORY_GB = 2.0  # an estimate: two models, torch and a kernel need about half of this
_DISK_GB = 1.0  # an estimate: executed notebooks and downloaded weights need far less

Finding = tuple[str, str]


def checkup() -> Table:
    """Check everything that the lessons need.

    Returns:
        A table with one row per item: its name, what was found, and "ok" or "problem: " with a remedy.
    """
    checks: dict[str, Callable[[], Finding]] = {
        "Python": _python,
        **{name: partial(_package, name) for name in ("torch", "torchvision", "ultralytics")},
        "devices": lambda: (", ".join(devices.devices()), OK),
        "cores": lambda: (_cores(), OK),
        "memory": _memory,
        "bundled model": lambda: (weights.check("bundled").name, OK),
        "JupyterLab": partial(_package, "jupyterlab"),
        "free disk": _disk,
    }
    return Table(("item", "found", "state"), [(item, *_finding_of(check)) for item, check in checks.items()])


def problems(table: Table) -> int:
    """Return the number of rows of a `checkup` that are not "ok"."""
    return sum(row["state"] != OK for row in table.to_dicts())


def _finding_of(check: Callable[[], Finding]) -> Finding:
    """Run one check. If it raises an error, that error is the finding, and the other checks still run."""
    try:
        return check()
    except YoloThreadsError as error:
        return "not usable", f"problem: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}".partition("\n")[0], f"problem: {_REINSTALL}"


def _python() -> Finding:
    found = f"{platform.python_version()} ({platform.system()} {platform.machine()})"
    return found, OK if sys.version_info >= (3, 11) else "problem: use Python 3.11 or newer"


def _package(name: str) -> Finding:
    """Import a package and return its version: a torchvision built for another torch is present but fails to import."""
    importlib.import_module(name)
    return metadata.version(name), OK


def _cores() -> str:
    """Return the cores seen and given, and the load: how many threads of all programs ran or waited in the last minute.

    Where the load is above the cores seen, or fewer are given than seen, figures of speed are those of a busy machine.
    """
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"{os.cpu_count() or 1} seen, {devices.cores()} given{load}"


def _memory() -> Finding:
    import psutil

    memory = psutil.virtual_memory()
    found = f"{memory.available / 1e9:.1f} of {memory.total / 1e9:.1f} GB free"
    remedy = f"problem: close other programs; the lessons need {_MEMORY_GB:g} GB of free memory"
    return found, OK if memory.available >= _MEMORY_GB * 1e9 else remedy


def _disk() -> Finding:
    free = shutil.disk_usage(".").free
    remedy = f"problem: make room on this disk; the lessons need {_DISK_GB:g} GB"
    return f"{free / 1e9:.1f} GB", OK if free >= _DISK_GB * 1e9 else remedy
