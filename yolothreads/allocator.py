"""Return freed memory to the system, where the C library keeps it: glibc, on Linux.

glibc keeps what is freed for the next allocation, in one arena per thread or so (`man 3 mallopt`). `malloc_trim`
returns the free pages inside every arena, but the free end of an arena only for the first one. The ends of the others
stay as long as they are below the trim threshold, and as soon as a large block was freed, glibc raises that to 64 MB,
the largest size that such an arena has. So the arena of each thread that ran a network keeps the memory of its
activations.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Collection
from functools import cache
from pathlib import Path
from time import monotonic, sleep
from typing import Any

_TRIM_THRESHOLD = -1  # M_TRIM_THRESHOLD in malloc.h
_HIGHEST = 64 * 2**20  # bytes; to this glibc itself raises the trim threshold
_LARGE = 31 * 2**20  # bytes; freeing a block of this size makes glibc raise its thresholds
_END_S = 1.0  # for joined threads to end; it takes less than a millisecond
_TRIMS = 100_000  # bytes; freeing a block of 64 KiB or more makes glibc trim the end of the arena


@cache
def _glibc() -> Any:
    """Return the C library if it is glibc, else None."""
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    if not hasattr(library, "malloc_trim") or not hasattr(library, "gnu_get_libc_version"):
        return None
    library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    library.free.argtypes = [ctypes.c_void_p]
    return library


def return_freed() -> None:
    """Return freed memory to the system; other C libraries than glibc do so by themselves."""
    if (glibc := _glibc()) is not None:
        glibc.malloc_trim(0)


def return_freed_of_ended_threads(native_ids: Collection[int]) -> None:
    """Return freed memory to the system, also what was kept for threads that have ended.

    New threads get the arenas of threads that have ended, so as many short threads trim one arena each. Nothing but
    `return_freed` happens if the user has chosen how glibc trims, by the environment.

    Args:
        native_ids: the threads, by their `threading.get_native_id()`.
    """
    if (glibc := _glibc()) is None:
        return
    if "MALLOC_TRIM_THRESHOLD_" not in os.environ and "glibc.malloc." not in os.environ.get("GLIBC_TUNABLES", ""):
        # Setting a threshold ends that glibc adapts them, so let it raise them first: else it would ask the system for
        # each large block of later networks, and give each back.
        glibc.free(glibc.malloc(_LARGE))
        glibc.mallopt(_TRIM_THRESHOLD, 0)
        try:
            _wait_for_the_end(native_ids)
            _trim_in_threads(glibc, len(native_ids) + 1)  # one more for what the caller's thread keeps
        finally:
            glibc.mallopt(_TRIM_THRESHOLD, _HIGHEST)
    glibc.malloc_trim(0)


def _wait_for_the_end(native_ids: Collection[int]) -> None:
    """Wait until the system has ended these threads, which happens shortly after they were joined."""
    deadline = monotonic() + _END_S
    while monotonic() < deadline and any(Path(f"/proc/self/task/{number}").exists() for number in native_ids):
        sleep(0.0005)


def _trim_in_threads(glibc: Any, threads: int) -> None:
    everyone = threading.Barrier(threads)

    def trim_own_arena() -> None:
        block = glibc.malloc(_TRIMS)
        everyone.wait()  # all are alive, so that each has an arena of its own
        glibc.free(block)

    started = [threading.Thread(target=trim_own_arena, name="trim", daemon=True) for _ in range(threads)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
