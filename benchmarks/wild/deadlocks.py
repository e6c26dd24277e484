"""Threads of a package that wait for each other, or that run before all is ready for them."""

from __future__ import annotations

import collections
import collections.abc
import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.wild.bug import Program, Registry

RACES = Registry()
_GITHUB = "https://github.com"


@RACES.bug(
    f"{_GITHUB}/Textualize/rich/issues/927",
    buggy="rich==9.8.1 commonmark==0.9.1 colorama==0.4.6",
    fixed="rich==9.8.2 commonmark==0.9.1 colorama==0.4.6",
    watch="rich.live",
)
def rich(_: bool) -> Program:
    """`Live.stop()` waits, under the display's lock, for the end of the thread that redraws it; that thread has just
    woken up and waits for the lock: a deadlock.
    """
    from rich.console import Console
    from rich.live import Live

    def live() -> Any:  # whoever explores it enters it, which starts the thread
        return Live(console=Console(file=io.StringIO(), force_terminal=True, width=40), refresh_per_second=10)

    return Program(lambda live: live.stop(), lambda live: live.update("text"), setup=live)


@RACES.bug(
    f"{_GITHUB}/gorakhargosh/watchdog/issues/544",
    buggy="watchdog==0.9.0 pathtools==0.1.2",
    fixed="watchdog==0.10.0 pathtools==0.1.2",
    watch="watchdog.observers.api:BaseObserver.start watchdog.observers.api:BaseObserver.schedule",
    timeouts_s=0.01,  # how its threads wake up is not what races, and makes thousands of schedules more
)
def watchdog(_: bool) -> Program:
    """`Observer.start()` loops over the set of its emitters without the lock, while another thread schedules one more:
    "Set changed size during iteration", and some folders are watched by nobody. In the version with a copy of the set,
    both can still start the same emitter: "threads can only be started once".
    """
    collections.MutableSet = collections.abc.MutableSet  # type: ignore[attr-defined] # 0.9 is older than Python 3.10
    from watchdog.events import FileSystemEventHandler
    from watchdog.observers.polling import PollingObserver

    one, two, three = (tempfile.mkdtemp() for _ in range(3))

    @contextmanager
    def observer() -> Iterator[Any]:
        observer = PollingObserver(timeout=0.05)  # seconds; leaving waits for the end of a poll
        for folder in (one, two):
            observer.schedule(FileSystemEventHandler(), folder)
        yield observer
        if observer.is_alive():
            observer.stop()
            observer.join()

    def schedule(observer: Any) -> None:
        observer.schedule(FileSystemEventHandler(), three)

    return Program(lambda observer: observer.start(), schedule, setup=observer)
