"""The locks of `multiprocessing`, whose waits are reported like those of other locks.

They are a C type, too. The Python objects around it keep its method from when they were made, as conditions do.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from yolothreads.races.blocking import acquire_of, hooks_now
from yolothreads.races.threads import OF_PROCESSES

try:
    from _multiprocessing import SemLock as _SemLock  # type: ignore[import-not-found, unused-ignore]
except ImportError:  # a system without semaphores
    _KINDS: tuple[Any, ...] = ()
else:
    _KINDS = (_SemLock,)


def replacements() -> list[tuple[Any, str, Any]]:
    """Return the attributes to replace: owner, name and new value."""
    found: list[tuple[Any, str, Any]] = []
    for kind in _KINDS:
        acquire = _acquire(kind.acquire)
        found += [(kind, "acquire", acquire), (kind, "__enter__", acquire)]
    if (made_of_them := sys.modules.get("multiprocessing.synchronize")) is not None:
        found.append((made_of_them.SemLock, "acquire", acquire_of("_semlock")))
        found.append((made_of_them.Condition, "acquire", acquire_of("_lock")))
    return found  # if the module is imported later, its objects keep the methods that were replaced


def _acquire(original: Any) -> Callable[..., bool]:
    """Make the replacement of `acquire` and `__enter__`."""

    def acquire(self: Any, block: bool = True, timeout: float | None = None) -> bool:
        hooks = hooks_now()
        if hooks is None or not block or (timeout is not None and timeout <= 0):
            return original(self, block, timeout)
        if not hooks.caller():
            return hooks.wait_for_real(
                lambda seconds: original(self, True, None if seconds < 0 else seconds),
                -1 if timeout is None else timeout,
            )
        while not original(self, False):
            answer = hooks.wait(lambda: not self._is_zero(), timeout, OF_PROCESSES)
            if answer is None:
                return original(self, True, timeout)
            if not answer:
                return False
        return True

    return acquire
