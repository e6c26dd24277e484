"""Every wait of the process, reported to the scheduler: on any lock, condition or queue, whenever it was made.

Python's locks are C types, whose methods cannot be replaced in the ordinary way; and to replace `threading.Lock` would
miss every lock that exists already and every `from threading import Lock`. So during an exploration the methods are
replaced in the dictionaries of the types themselves. Conditions, events, semaphores, barriers, `queue.Queue` and
futures wait by means of these. A thread that is not controlled calls the original method at once.

The clocks are replaced, too: those that controlled threads look at stand still in a run. When the scheduler lets a
time-out pass, nobody waits, but such a thread sees that the seconds are over. Most waits with a time-out look, and go
on waiting if they are not.
"""

from __future__ import annotations

import _queue
import _thread
import ctypes
import gc
import queue
import selectors
import sys
import threading
import time
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, Protocol

from yolothreads.errors import ExploreError


class Hooks(Protocol):
    """The calls that this module makes whenever a thread waits, sleeps, starts another one, or looks at a clock."""

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

    def wait_for_real(self, attempt: Callable[[float], Any], timeout: float) -> Any:
        """Wait in a thread that is not controlled: return what `attempt` returns for this time-out.

        Args:
            attempt: seconds -> a true value, or a false one if the time was over first; -1 seconds mean without end.
            timeout: seconds, or -1.
        """

    def sleep(self, seconds: float) -> bool:
        """Let others run instead of sleeping; False if the caller has to sleep for real."""

    def clock(self) -> tuple[bool, float] | None:
        """Return the time that the calling thread sees: whether the clocks stand still, and how far they are ahead.

        That is in seconds after `stop_clocks`, if they do. None means the real time.
        """

    def start_thread(self, thread: threading.Thread) -> None:
        """Start a thread, with `start_for_real`."""

    def start_raw_thread(self, function: Callable[..., Any]) -> None:
        """Take note that a thread is started which cannot be controlled."""

    def join(self, thread: threading.Thread, timeout: float | None) -> None:
        """Wait for the end of a thread, with `join_for_real`."""

    def is_alive(self, thread: threading.Thread) -> bool:
        """Return whether a thread has begun and not ended."""


_LOCK: Any
_RLOCK: Any
_QUEUE: Any
_LOCK, _RLOCK, _QUEUE = _thread.LockType, _thread.RLock, _queue.SimpleQueue
_IS_FIXED = 1 << 8  # Py_TPFLAGS_IMMUTABLETYPE, the flag of the types whose attributes cannot be set
_hooks: Hooks | None = None
_holders: dict[int, tuple[Any, str]] = {}
"""The thread that took a lock last; by the lock's id, which cannot be given again while the lock is kept here."""

_acquire: dict[Any, Any] = {_LOCK: _LOCK.acquire, _RLOCK: _RLOCK.acquire}
_get = _QUEUE.get
_wait = threading.Condition.wait
_sleep = time.sleep
_stopped_at: dict[Callable[[], Any], Any] = {}
_start_raw = _thread.start_new_thread
start_for_real = threading.Thread.start
join_for_real = threading.Thread.join
is_alive_for_real = threading.Thread.is_alive


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
            if hooks is None or not blocking:
                acquired = original(self, blocking, timeout)
            else:
                acquired = hooks.wait_for_real(lambda seconds: original(self, True, seconds), timeout)
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
    if hooks is None or not block or (timeout is not None and timeout < 0):
        return _get(self, block, timeout)
    if not hooks.caller():
        found = hooks.wait_for_real(lambda seconds: _get_within(self, seconds), -1 if timeout is None else timeout)
        return found[0] if found else _get(self, False)
    queue_id = id(self) if timeout is None else 0
    answer = hooks.wait(lambda: not self.empty(), timeout, "an item of a queue", queue_id=queue_id)
    return _get(self, block, timeout) if answer is None else _get(self, False)


def _get_within(items: Any, seconds: float) -> tuple[Any, ...]:
    try:
        return (_get(items, True, None if seconds < 0 else seconds),)
    except queue.Empty:
        return ()


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
    if _hooks is None:
        join_for_real(self, timeout)
    else:
        _hooks.join(self, timeout)


def _thread_is_alive(self: threading.Thread) -> bool:
    return is_alive_for_real(self) if _hooks is None else _hooks.is_alive(self)


def _start_new_thread(function: Callable[..., Any], *args: Any) -> int:
    if _hooks is not None:
        _hooks.start_raw_thread(function)
    return _start_raw(function, *args)


def _time_sleep(seconds: float) -> None:
    hooks = _hooks
    if hooks is None or not hooks.caller() or not hooks.sleep(seconds):
        _sleep(seconds)


def _clock(original: Callable[[], Any], units: float) -> Callable[[], Any]:
    """Make the replacement of a clock; `units` per second are what it counts."""

    def now() -> Any:
        seen = None if _hooks is None else _hooks.clock()
        if seen is None:
            return original()
        stands, ahead = seen
        return (_stopped_at[original] if stands else original()) + type(units)(units * ahead)

    return now


def stop_clocks() -> None:
    """Remember the time, for those who see that the clocks stand still."""
    _stopped_at.update({clock: clock() for clock in _clocks})


def _selector_select(original: Callable[..., Any]) -> Callable[..., Any]:
    """Make the replacement of `select`, where the event loops of asyncio wait."""

    def select(self: Any, timeout: float | None = None) -> Any:
        hooks = _hooks
        if hooks is None or not hooks.caller() or (timeout is not None and timeout <= 0):
            return original(self, timeout)
        answer = hooks.wait(lambda: bool(original(self, 0)), timeout, "something to happen in its event loop")
        return original(self, timeout if answer is None else 0)

    return select


def acquire_of(part: str) -> property:
    """Make an attribute `acquire` that is looked up in a part of the object each time.

    A condition, for one, keeps the C method of its lock from when it was made.
    """
    return property(lambda self: getattr(self, part).acquire, lambda self, value: self.__dict__.update(acquire=value))


_SELECTORS = [
    kind
    for name in ("SelectSelector", "PollSelector", "EpollSelector", "DevpollSelector", "KqueueSelector")
    if (kind := getattr(selectors, name, None)) is not None
]
_CLOCKS: list[tuple[Any, str]] = [
    *((time, name) for name in ("monotonic", "perf_counter", "time", "monotonic_ns", "perf_counter_ns", "time_ns")),
    (threading, "_time"),
    (queue, "time"),
]
_clocks = {getattr(owner, name) for owner, name in _CLOCKS}
_REPLACEMENTS: list[tuple[Any, str, Any]] = [
    *((kind, name, _lock_acquire(_acquire[kind])) for kind in (_LOCK, _RLOCK) for name in ("acquire", "__enter__")),
    (_QUEUE, "get", _queue_get),
    (threading.Condition, "wait", _condition_wait),
    (threading.Condition, "acquire", acquire_of("_lock")),
    (threading.Thread, "start", _thread_start),
    (threading.Thread, "join", _thread_join),
    (threading.Thread, "is_alive", _thread_is_alive),
    (_thread, "start_new_thread", _start_new_thread),
    (time, "sleep", _time_sleep),
    *((kind, "select", _selector_select(kind.select)) for kind in _SELECTORS),
    *(
        (owner, name, _clock(getattr(owner, name), 1_000_000_000 if name.endswith("_ns") else 1.0))
        for owner, name in _CLOCKS
    ),
]
_originals: list[tuple[Any, str, Any]] = []
_OF_TIME = {getattr(owner, name): value for owner, name, value in _REPLACEMENTS if owner is time}
"""The functions of `time`, each with its replacement: other modules may have imported them by name."""


def hooks_now() -> Hooks | None:
    """Return what the waits are reported to, if an exploration is running."""
    return _hooks


def install(hooks: Hooks, more: Sequence[tuple[Any, str, Any]] = ()) -> None:
    """Report every wait of this process to `hooks`.

    Args:
        hooks: gets the reports.
        more: further attributes to replace meanwhile: owner, name and value.

    Raises:
        ExploreError: an exploration is running already.
    """
    global _hooks
    if _hooks is not None:
        raise ExploreError("An exploration is running in this process already; wait for it, or use another process.")
    _hooks = hooks
    for owner, name, value in [*_REPLACEMENTS, *more]:
        _originals.append((owner, name, vars(owner).get(name)))
        _set(owner, name, value)
    _replace_imported(_OF_TIME)


def uninstall() -> None:
    """Restore the original methods."""
    global _hooks
    _hooks = None
    while _originals:
        _set(*_originals.pop())
    _replace_imported({value: original for original, value in _OF_TIME.items()})
    _holders.clear()


def _replace_imported(functions: dict[Any, Any]) -> None:
    """Replace functions in all modules that have imported them by name, as in `from time import sleep`.

    Python's own modules keep them: `subprocess`, for one, waits for what happens outside, in real time.
    """
    by_id = {id(function): value for function, value in functions.items()}
    for name, module in list(sys.modules.items()):
        is_ours = name.startswith(__package__)
        if is_ours or name.partition(".")[0] in sys.stdlib_module_names or not isinstance(module, ModuleType):
            continue
        for attribute, value in list(vars(module).items()):
            if id(value) in by_id:
                vars(module)[attribute] = by_id[id(value)]


def _set(owner: Any, name: str, value: Any) -> None:
    """Set an attribute of a class, a C type or a module; None deletes it."""
    if isinstance(owner, type) and owner.__flags__ & _IS_FIXED:
        gc.get_referents(owner.__dict__)[0][name] = value
        ctypes.pythonapi.PyType_Modified(ctypes.py_object(owner))
    elif value is None:
        if name in vars(owner):
            delattr(owner, name)
    else:
        setattr(owner, name, value)
