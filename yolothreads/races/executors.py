"""The worker threads of `ThreadPoolExecutor`, which wait for work for ever unless their executor ends them."""

from __future__ import annotations

import concurrent.futures.thread
import threading
from collections.abc import Callable, Iterator
from operator import attrgetter
from queue import SimpleQueue
from typing import Any


def executor_of(thread: threading.Thread) -> Callable[[], Any] | None:
    """Return a weak reference to the executor that a thread works for; None if there is none."""
    is_worker = getattr(thread, "_target", None) is concurrent.futures.thread._worker
    return thread._args[0] if is_worker else None  # type: ignore[attr-defined]


class _Threads(set[threading.Thread]):
    """A set of threads with a fixed order: that of an ordinary set differs from run to run."""

    def __iter__(self) -> Iterator[threading.Thread]:
        return iter(sorted(super().__iter__(), key=attrgetter("name")))


def order_threads(executor: Any) -> None:
    """Let an executor join its threads in the same order in every run."""
    if type(getattr(executor, "_threads", None)) is set:
        executor._threads = _Threads(executor._threads)


class Emptying:
    """Ends the workers of an executor that is still in use, as soon as they are idle; it starts new ones when needed.

    A context manager, which one leaves when they have ended.
    """

    def __init__(self, executor: Any):
        self._executor = executor
        self._was_shut_down = executor._shutdown

    def __enter__(self) -> None:
        self._executor._shutdown = True
        self._executor._work_queue.put(None)  # each worker that finds it puts it back for the next one

    def __exit__(self, *exc_info: object) -> None:
        executor = self._executor
        executor._threads.clear()
        executor._idle_semaphore = threading.Semaphore(0)
        executor._work_queue = SimpleQueue()
        executor._shutdown = self._was_shut_down
