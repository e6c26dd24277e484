"""Every wait of the process, reported to the scheduler: on any lock, condition or queue, whenever it was made.

Python's locks are C types, whose methods cannot be replaced in the ordinary way; and to replace `threading.Lock` would
miss every lock that exists already and every `from threading import Lock`. So during an exploration the methods are
replaced in the dictionaries of the types themselves. Conditions, events, semaphores, barriers, `queue.Queue`, futures
and `Thread.join` wait by means of these. A thread that is not controlled calls the original method at once.
"""

from __future__ import annotations

import _queue
import _thread
import ctypes
import gc
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from yolothreads.errors import ExploreError


class Hooks(Protocol):
    """The calls that this module makes whenever a thread waits, sleeps or starts another one."""

    def caller(self) -> str:
        """Return the label of the calling thread if it is controlled; "" if its waits are real ones."""

    def wait(
        self, ready: Callable[[], bool], timeout: float | None, what: str, on_lock: bool = False, queue_id: int = 0
    ) -> bool | None:
        """Wait until `ready()`: True then, False after the time-out, None if the caller has to wait for real.

        Args:
            ready: the condition.
            timeout: seconds, or None.
            what: the condition in words.
            on_lock: whether it is a lock that the thread waits for.
            queue_id: the id of the queue, where the thread waits for an item without a time-out.
        """

    def sleep(self) -> bool:
        """Let others run instead of sleeping; False if the caller has to sleep for real."""

    def start_thread(self, thread: threading.Thread) -> None:
        """Start a thread, with `start_for_real`."""


_LOCK: Any
_RLOCK: Any
_QUEUE: Any
_LOCK, _RLOCK, _QUEUE = _thread.LockType, _thread.RLock, _queue.SimpleQueue
_hooks: Hooks | None = None
_holders: dict[int, tuple[Any, str]] = {}
"""The thread that took a lock last; by the lock's id, which cannot be given again while the lock is kept here."""

_acquire: dict[Any, Any] = {_LOCK: _LOCK.acquire, _RLOCK: _RLOCK.acquire}
_get = _QUEUE.get
_join = threading.Thread.join
_wait = threading.Condition.wait
_sleep = time.sleep
start_for_real = threading.Thread.start


def is_exploring() -> bool:
    """Return whether an exploration or a replay is running in this process; a second one would be refused."""
    return _hooks is not None


def holder(lock: Any) -> str:
    """Return the holder of a lock: the label of a controlled thread, such as A, or "somebody"; "" while it is free.

    This is made for `inspect` of a replay; elsewhere no thread is controlled.

    Args:
        lock: a `Lock` or an `RLock`.

    Raises:
        ExploreError: it is neither.
    """
    if type(lock) not in (_LOCK, _RLOCK):
        raise ExploreError(f"{lock!r} is neither a Lock nor an RLock; pass the lock inside it.")
    if not _is_locked(lock):
        return ""
    return _last_holder(lock) or "somebody"


def _last_holder(lock: Any) -> str:
    kept, label = _holders.get(id(lock), (None, ""))
    return label if kept is lock else ""


def _is_locked(lock: Any) -> bool:
    # An RLock says so only in its text before Python 3.14.
    return lock.locked() if hasattr(lock, "locked") else repr(lock).startswith("<locked")


def _describe(lock: Any) -> str:
    label, kind = _last_holder(lock), "RLock" if isinstance(lock, _RLOCK) else "lock"
    return f"a {kind} that {label} holds" if label else f"a {kind}"


def _lock_acquire(original: Any) -> Callable[..., bool]:
    """Make the replacement of `acquire` and `__enter__`, which are the same function in C."""

    def acquire(self: Any, blocking: bool = True, timeout: float = -1) -> bool:
        hooks = _hooks
        if hooks is None or not (label := hooks.caller()):
            acquired = original(self, blocking, timeout)
            if acquired:
                _holders.pop(id(self), None)
            return acquired
        limit = None if timeout is None or timeout < 0 else timeout
        while not original(self, False):
            answer = blocking and hooks.wait(lambda: not _is_locked(self), limit, _describe(self), on_lock=True)
            if answer is None:
                return original(self, blocking, timeout)
            if not answer:
                return False
        _holders[id(self)] = (self, label)
        return True

    return acquire


def _queue_get(self: Any, block: bool = True, timeout: float | None = None) -> Any:
    hooks = _hooks
    if hooks is None or not block or not hooks.caller():
        return _get(self, block, timeout)
    queue_id = id(self) if timeout is None else 0
    answer = hooks.wait(lambda: not self.empty(), timeout, "an item of a queue", queue_id=queue_id)
    return _get(self, block, timeout) if answer is None else _get(self, False)


def _condition_wait(self: Any, timeout: float | None = None) -> bool:
    hooks = _hooks
    if hooks is None or not (label := hooks.caller()):
        return _wait(self, timeout)
    if not self._is_owned():
        raise RuntimeError("cannot wait on un-acquired lock")
    waiter = _thread.allocate_lock()
    _acquire[_LOCK](waiter)
    self._waiters.append(waiter)
    saved = self._release_save()
    answer: bool | None = False
    try:
        answer = hooks.wait(lambda: not waiter.locked(), timeout, "a condition to be notified")
        if answer is None:
            answer = _acquire[_LOCK](waiter, True, -1 if timeout is None else timeout)
    finally:
        if not answer and waiter in self._waiters:
            self._waiters.remove(waiter)
        hooks.wait(lambda: not _is_locked(self._lock), None, _describe(self._lock), on_lock=True)
        self._acquire_restore(saved)
        _holders[id(self._lock)] = self._lock, label
    return bool(answer)


def _thread_start(self: threading.Thread) -> None:
    (start_for_real if _hooks is None else _hooks.start_thread)(self)


def _thread_join(self: threading.Thread, timeout: float | None = None) -> None:
    hooks = _hooks
    if hooks is not None and hooks.caller():
        hooks.wait(lambda: not self.is_alive(), timeout, f"thread {self.name} to end")
        if self.is_alive():
            return
    _join(self, timeout)


def _time_sleep(seconds: float) -> None:
    hooks = _hooks
    if hooks is None or not hooks.caller() or not hooks.sleep():
        _sleep(seconds)


# A condition keeps the C method of its lock from when it was made; this property looks it up each time.
_condition_acquire = property(lambda self: self._lock.acquire, lambda self, value: self.__dict__.update(acquire=value))
_REPLACEMENTS: list[tuple[Any, str, Any]] = [
    *((kind, name, _lock_acquire(_acquire[kind])) for kind in (_LOCK, _RLOCK) for name in ("acquire", "__enter__")),
    (_QUEUE, "get", _queue_get),
    (threading.Condition, "wait", _condition_wait),
    (threading.Condition, "acquire", _condition_acquire),
    (threading.Thread, "start", _thread_start),
    (time, "sleep", _time_sleep),
]
if sys.version_info >= (3, 13):  # before 3.13 a join waits by means of a lock
    _REPLACEMENTS.append((threading.Thread, "join", _thread_join))
_ORIGINALS = [vars(owner).get(name) for owner, name, _ in _REPLACEMENTS]


def install(hooks: Hooks) -> None:
    """Report every wait of this process to `hooks`.

    Raises:
        ExploreError: an exploration is running already.
    """
    global _hooks
    if _hooks is not None:
        raise ExploreError("An exploration is running in this process already; wait for it, or use another process.")
    _hooks = hooks
    for replacement in _REPLACEMENTS:
        _set(*replacement)


def uninstall() -> None:
    """Restore the original methods."""
    global _hooks
    _hooks = None
    for (owner, name, _), original in zip(_REPLACEMENTS, _ORIGINALS, strict=True):
        _set(owner, name, original)
    _holders.clear()


def _set(owner: Any, name: str, value: Any) -> None:
    """Set an attribute of a class, a C type or a module; None deletes it."""
    if owner in (_LOCK, _RLOCK, _QUEUE):
        gc.get_referents(owner.__dict__)[0][name] = value
        ctypes.pythonapi.PyType_Modified(ctypes.py_object(owner))
    elif value is None:
        if name in vars(owner):
            delattr(owner, name)
    else:
        setattr(owner, name, value)
