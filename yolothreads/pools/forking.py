"""Open pools in a forked child: it has none of their threads, so they are closed there, and the parent's go on.

A fork copies the memory of the process, but only the thread that forks. Locks that other threads held are held for ever
in the child, and work that it hands in is never done. It also inherits the ends of pipes, and the handlers that stop at
exit what the parent has started.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from tempfile import TemporaryDirectory
from typing import Protocol
from weakref import WeakSet


class Forked(Protocol):
    """An object that has to learn that its process was forked."""

    def left_by_fork(self) -> None:
        """Forget, in the child, what belongs to the parent.

        No other thread runs. Any lock may be held for ever, so none must be acquired.
        """


_watched: WeakSet[Forked] = WeakSet()
_is_registered = False
_is_child = False  # whether this process was forked from one that had an open pool


def watch(one: Forked) -> None:
    """Call `one.left_by_fork()` in every child that is forked from now on."""
    global _is_registered
    _watched.add(one)
    if not _is_registered and hasattr(os, "register_at_fork"):
        _is_registered = True
        os.register_at_fork(after_in_child=_leave_all)


def _leave_all() -> None:
    global _is_child
    _is_child = True
    for one in _watched:
        one.left_by_fork()


def keep_for_ever(one: object) -> None:
    """Never free an object of the parent whose destructor would wait for threads that do not exist in the child."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(one))


def skip_destructors_at_exit() -> None:
    """Let this process end without the destructors of C++ libraries, which would wait for threads of the parent.

    What Python does at exit is done before. Only glibc can do this: it calls `_exit` with the exit status before the
    functions that were registered earlier.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "on_exit"):
        libc.on_exit(libc._exit, None)


def keep_folder(folder: TemporaryDirectory[str]) -> None:
    """Do not remove a folder of the parent when this process exits."""
    # `_finalizer` is undocumented: see tests/pools/test_private_names.py.
    folder._finalizer.detach()  # type: ignore[attr-defined]


def run(work: Callable[[], None]) -> None:
    """Run work that may compute in parallel: in a forked child not in this thread, where OpenMP may hang.

    GNU's OpenMP keeps a team of threads for each thread that has computed, also in the copy of the one that forks.
    """
    if _is_child:
        with ThreadPoolExecutor(1, thread_name_prefix="after fork") as thread:
            thread.submit(work).result()
    else:
        work()
