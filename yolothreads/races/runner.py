"""Threads that run one body after another: to start a new one for each run takes longer than most bodies."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from contextvars import Context
from typing import Any

from yolothreads.races.task import Task, acquire, taken

_thread_dict = ctypes.pythonapi.PyThreadState_GetDict
_thread_dict.restype = ctypes.c_void_p  # a borrowed reference, which `py_object` would take for its own


def _forget() -> None:
    """Drop what the calling thread keeps for `threading.local`."""
    ctypes.cast(_thread_dict(), ctypes.py_object).value.clear()


def _forgets() -> bool:
    """Whether a thread can be made to forget its `threading.local` values, as it does when it ends (until 3.12)."""
    answer: list[bool] = []

    def ask() -> None:
        local = threading.local()
        local.value = 1
        _forget()
        answer.append(not hasattr(local, "value"))

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    return answer == [True]


class Runner:
    """One thread. To the code that it runs it looks like a new one: no `threading.local` value or context variable is
    left from the last time. Where that cannot be had, it is a new one.
    """

    _can_forget: bool | None = None

    def __init__(self, name: str):
        if Runner._can_forget is None:
            Runner._can_forget = _forgets()
        self.name = name
        self.thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._work: Callable[[], None] | None = None
        self._baton = taken()
        self._idle = taken()
        self._idle.release()

    def begin(self, work: Callable[[], None], start: Callable[[threading.Thread], None]) -> None:
        """Let the thread run `work`; `start` starts a thread."""
        self._work = work
        acquire(self._idle, timeout=1)
        if self.thread.ident is None:
            start(self.thread)
        self._baton.release()

    def is_free(self) -> bool:
        """Whether it can be given more to do; waits for a moment if it is just about to finish."""
        if not self._can_forget and self.thread.ident is not None:
            self.thread.join(1)
            return False
        if not acquire(self._idle, timeout=1):
            return False
        self._idle.release()
        return True

    def close(self) -> None:
        """End the thread, unless it is still busy."""
        if self.thread.is_alive() and acquire(self._idle, False):
            self._work = None
            self._baton.release()
            self.thread.join(1)

    def _serve(self) -> None:
        while True:
            acquire(self._baton)
            if self._work is None:
                return
            Context().run(self._work)
            if not self._can_forget:
                return
            _forget()
            self._idle.release()


class Runners(dict[str, Runner]):
    """The threads of the bodies, by label."""

    def task(self, label: str, body: Callable[[], Any]) -> Task:
        """A body with a thread to run it."""
        if label not in self or not self[label].is_free():
            self[label] = Runner(label)
        return Task(label, body, self[label], self[label].thread)

    def close(self) -> None:
        """End them all."""
        for runner in self.values():
            runner.close()
