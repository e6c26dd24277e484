"""Know at once that a thread blocks, on whatever lock, condition or queue, whenever that was made.

Python's locks are C types, whose methods cannot be replaced in the ordinary way; and replacing `threading.Lock` would
miss every lock that exists already and every `from threading import Lock`. So for the time of an exploration the
methods are exchanged in the dictionaries of the types themselves. Conditions, events, semaphores, barriers,
`queue.Queue`, futures and `Thread.join` wait by these. A thread that is not controlled goes straight on to the original
method.
"""

from __future__ import annotations

import _queue
import _thread
import ctypes
import gc
import sys
import threading
import time
from _thread import get_ident
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from yolothreads.errors import ExploreError
from yolothreads.races.schedule import LOCKED

if TYPE_CHECKING:
    from yolothreads.races.scheduler import Scheduler
    from yolothreads.races.task import Task

_LOCK: Any
_RLOCK: Any
_QUEUE: Any
_LOCK, _RLOCK, _QUEUE = _thread.LockType, _thread.RLock, _queue.SimpleQueue
_scheduler: Scheduler | None = None
_originals: list[tuple[Any, str, Any]] = []
_holders: dict[int, tuple[Any, str]] = {}
"""Who took a lock last; by its id, which cannot be given again while the lock is kept here."""

_start = threading.Thread.start
_join = threading.Thread.join
_wait = threading.Condition.wait
_sleep = time.sleep
_acquire: dict[Any, Any] = {_LOCK: _LOCK.acquire, _RLOCK: _RLOCK.acquire}
_enter: dict[Any, Any] = {_LOCK: _LOCK.__enter__, _RLOCK: _RLOCK.__enter__}
_get = _QUEUE.get


def _task() -> Task | None:
    """The controlled thread that is calling; None for all others, and for one that must really wait."""
    if _scheduler is None:
        return None
    me = _scheduler.tasks.get(get_ident())
    return None if me is None or me.bypass else me


def _locked(lock: Any) -> bool:
    # An RLock says so only in its text before Python 3.14.
    return lock.locked() if hasattr(lock, "locked") else repr(lock).startswith("<locked")


def _take(lock: Any, me: Task, blocking: bool, timeout: float) -> bool:
    assert _scheduler is not None
    original = _acquire[type(lock)]
    while not original(lock, False):
        if not blocking:
            return False
        limit = None if timeout is None or timeout < 0 else timeout
        answer = _scheduler.block(me, lambda: not _locked(lock), limit, _described(lock), LOCKED)
        if answer is None:
            return original(lock, blocking, timeout)
        if not answer:
            return False
    _holders[id(lock)] = (lock, me.label)
    return True


def _described(lock: Any) -> str:
    kept, holder = _holders.get(id(lock), (None, ""))
    kind = "RLock" if isinstance(lock, _RLOCK) else "lock"
    return f"a {kind} that {holder} took" if kept is lock else f"a {kind}"


def holder(lock: Any) -> str:
    """Who holds a lock: the label of a controlled thread, such as A, or "somebody" else; nothing while it is free.

    Made for `inspect` of a replay; elsewhere no thread is controlled.

    Args:
        lock: a `Lock` or an `RLock`.

    Raises:
        ExploreError: it is neither.
    """
    if type(lock) not in (_LOCK, _RLOCK):
        raise ExploreError(f"{lock!r} is no Lock and no RLock; name the lock that it holds.")
    if not _locked(lock):
        return ""
    kept, who = _holders.get(id(lock), (None, ""))
    return who if kept is lock else "somebody"


def is_exploring() -> bool:
    """Whether an exploration or a replay is running in this process; a second one would be refused."""
    return _scheduler is not None


def _acquires(kind: Any) -> Callable[..., bool]:
    original = _acquire[kind]

    def acquire(self: Any, blocking: bool = True, timeout: float = -1) -> bool:
        me = _task()
        if me is not None:
            return _take(self, me, blocking, timeout)
        taken = original(self, blocking, timeout)
        if taken:
            _holders.pop(id(self), None)
        return taken

    return acquire


def _enters(kind: Any) -> Callable[[Any], Any]:
    original = _enter[kind]

    def enter(self: Any) -> Any:
        me = _task()
        if me is not None:
            return _take(self, me, True, -1)
        taken = original(self)
        _holders.pop(id(self), None)
        return taken

    return enter


def _queue_get(self: Any, block: bool = True, timeout: float | None = None) -> Any:
    me = _task()
    if me is None or not block or _scheduler is None:
        return _get(self, block, timeout)
    answer = _scheduler.block(
        me, lambda: not self.empty(), timeout, "an item of a queue", idle=id(self) if timeout is None else 0
    )
    return _get(self, block, timeout) if answer is None else _get(self, False)


def _condition_wait(self: Any, timeout: float | None = None) -> bool:
    me = _task()
    if me is None or _scheduler is None:
        return _wait(self, timeout)
    if not self._is_owned():
        raise RuntimeError("cannot wait on un-acquired lock")
    waiter = _thread.allocate_lock()
    _acquire[_LOCK](waiter)
    self._waiters.append(waiter)
    saved = self._release_save()
    answer: bool | None = False
    try:
        answer = _scheduler.block(me, lambda: not waiter.locked(), timeout, "a condition to be notified")
        if answer is None:
            answer = _acquire[_LOCK](waiter, True, -1 if timeout is None else timeout)
    finally:
        if not answer and waiter in self._waiters:
            self._waiters.remove(waiter)
        _scheduler.block(me, lambda: not _locked(self._lock), None, _described(self._lock), LOCKED)
        self._acquire_restore(saved)
        _holders[id(self._lock)] = self._lock, me.label
    return bool(answer)


def _thread_start(self: threading.Thread) -> None:
    if _scheduler is None:
        _start(self)
    else:
        _scheduler.workers.start(self)


def start(thread: threading.Thread) -> None:
    """Start a thread in the ordinary way."""
    _start(thread)


def _thread_join(self: threading.Thread, timeout: float | None = None) -> None:
    me = _task()
    if me is not None and _scheduler is not None:
        _scheduler.block(me, lambda: not self.is_alive(), timeout, f"thread {self.name} to end")
        if self.is_alive():
            return
    _join(self, timeout)


def _time_sleep(seconds: float) -> None:
    me = _task()
    if me is None or _scheduler is None or not _scheduler.on:
        _sleep(seconds)
    else:
        _scheduler.sleep(me)


def _condition_acquire() -> property:
    """A condition keeps a bound C method from the day it was made; while this stands, it asks its lock anew."""
    return property(lambda self: self._lock.acquire, lambda self, value: self.__dict__.update(acquire=value))


def _exchange(owner: Any, name: str, replacement: Any) -> None:
    """Put an attribute into a class, a C type or a module, and remember what was there."""
    if owner in (_LOCK, _RLOCK, _QUEUE):
        names = gc.get_referents(owner.__dict__)[0]
        _originals.append((owner, name, names[name]))
        names[name] = replacement
        ctypes.pythonapi.PyType_Modified(ctypes.py_object(owner))
    else:
        _originals.append((owner, name, vars(owner).get(name)))
        setattr(owner, name, replacement)


def install(scheduler: Scheduler) -> None:
    """Make every wait of this process known to the scheduler.

    Raises:
        ExploreError: an exploration is running already.
    """
    global _scheduler
    if _scheduler is not None:
        raise ExploreError("An exploration is running in this process already; wait for it, or use another process.")
    _scheduler = scheduler
    for kind in (_LOCK, _RLOCK):
        _exchange(kind, "acquire", _acquires(kind))
        _exchange(kind, "__enter__", _enters(kind))
    _exchange(_QUEUE, "get", _queue_get)
    _exchange(threading.Condition, "wait", _condition_wait)
    _exchange(threading.Condition, "acquire", _condition_acquire())
    _exchange(threading.Thread, "start", _thread_start)
    if sys.version_info >= (3, 13):  # until then a join waits by a lock
        _exchange(threading.Thread, "join", _thread_join)
    _exchange(time, "sleep", _time_sleep)


def uninstall() -> None:
    """Put everything back."""
    global _scheduler
    _scheduler = None
    while _originals:
        owner, name, original = _originals.pop()
        if owner in (_LOCK, _RLOCK, _QUEUE):
            gc.get_referents(owner.__dict__)[0][name] = original
            ctypes.pythonapi.PyType_Modified(ctypes.py_object(owner))
        elif original is None:
            delattr(owner, name)
        else:
            setattr(owner, name, original)
    _holders.clear()
