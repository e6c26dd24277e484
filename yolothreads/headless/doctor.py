"""What this machine has, what is wrong with it, and what to do about that."""

from __future__ import annotations

import importlib
import platform
import shutil
import sys
from collections.abc import Callable
from importlib import metadata

from yolothreads import devices
from yolothreads.errors import YoloThreadsError
from yolothreads.tables import Table

OK = "ok"
_REINSTALL = 'run `make install`, or `python -m pip install -c constraints.txt -e ".[test]"`'
_MEMORY_GB = 2.0  # a rough guess: two models, torch and a kernel take about half of it
_DISK_GB = 1.0  # unmeasured: executed notebooks and downloaded weights take far less

Finding = tuple[str, str]


def checkup() -> Table:
    """Look at everything that the lessons need.

    Returns:
        A table with a row a thing: what it is, what was found, and "ok" or "problem: " with what to do.
    """
    looks: list[tuple[str, Callable[[], Finding]]] = [
        ("Python", _python),
        *((name, lambda name=name: _package(name)) for name in ("torch", "torchvision", "ultralytics")),
        ("devices", lambda: (", ".join(devices.devices()), OK)),
        ("cores", lambda: (str(devices.cores()), OK)),
        ("memory", _memory),
        ("bundled model", _bundled),
        ("JupyterLab", lambda: _package("jupyterlab")),
        ("free disk", _disk),
    ]
    return Table(("thing", "found", "state"), [(thing, *_safely(look)) for thing, look in looks])


def problems(table: Table) -> int:
    """How many rows of a `checkup` are not "ok"."""
    return sum(row["state"] != OK for row in table.to_dicts())


def _safely(look: Callable[[], Finding]) -> Finding:
    """A look that breaks down is a finding of its own: the rest of the table must still be seen."""
    try:
        return look()
    except YoloThreadsError as error:
        return "not usable", f"problem: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}".partition("\n")[0], f"problem: {_REINSTALL}"


def _python() -> Finding:
    found = f"{platform.python_version()} ({platform.system()} {platform.machine()})"
    return found, OK if sys.version_info >= (3, 11) else "problem: use Python 3.11 or newer"


def _package(name: str) -> Finding:
    """A version alone says little: a torchvision made for another torch is there, and fails to import."""
    importlib.import_module(name)
    return metadata.version(name), OK


def _memory() -> Finding:
    import psutil

    memory = psutil.virtual_memory()
    found = f"{memory.available / 1e9:.1f} of {memory.total / 1e9:.1f} GB free"
    enough = memory.available >= _MEMORY_GB * 1e9
    return found, OK if enough else f"problem: close something; lessons want {_MEMORY_GB:g} GB"


def _bundled() -> Finding:
    from yolothreads.weights import check

    return check("bundled").name, OK


def _disk() -> Finding:
    free = shutil.disk_usage(".").free
    return f"{free / 1e9:.1f} GB", OK if free >= _DISK_GB * 1e9 else f"problem: make room, {_DISK_GB:g} GB or more"
