"""Room on the stack for the scheduler, so that it does not depend on its work how deep a body can go.

A body that recurses until a RecursionError is stopped by it at the same depth in every run. Without this, a switch
point at which the scheduler has much to do would raise the error a few calls earlier than others.
"""

from __future__ import annotations

import ctypes
from sys import getrecursionlimit, setrecursionlimit

HEADROOM = 300  # calls; the scheduler makes some ten, and `inspect` may need more

set_at_any_depth = ctypes.pythonapi.Py_SetRecursionLimit
set_at_any_depth.argtypes, set_at_any_depth.restype = [ctypes.c_int], None


class Headroom:
    """The raised recursion limit, while a controlled thread is inside the scheduler.

    All threads have one limit. So a thread that is given the turn gives the room back before it goes on with its own
    code, and takes it again when it comes back.
    """

    def __init__(self) -> None:
        self.limit = getrecursionlimit()  # of the bodies; they may change it
        self.is_taken = False

    def take(self) -> None:
        """Raise the limit."""
        if not self.is_taken:
            self.limit = getrecursionlimit()
            setrecursionlimit(self.limit + HEADROOM)
            self.is_taken = True

    def give_back(self) -> None:
        """Set the limit as it was."""
        if not self.is_taken:
            return
        self.is_taken = False
        try:
            setrecursionlimit(self.limit)
        except RecursionError:  # the thread has come nearly as deep as it may
            set_at_any_depth(self.limit)
