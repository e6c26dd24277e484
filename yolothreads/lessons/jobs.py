"""Functions that the child processes of lesson 07 run: a spawned child imports them, which it cannot do from a cell."""

from __future__ import annotations

import os
import sys
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from threading import Event, Lock, Thread
from time import perf_counter

import numpy as np
import psutil
from numpy.typing import NDArray

_DEADLINE_S = 60.0

notes: list[str] = []


def note(word: str) -> tuple[int, list[str]]:
    """Append a word to `notes`; return the id of this process and all words."""
    notes.append(word)
    return os.getpid(), notes


def silence_errors() -> None:
    """Send what this process writes to its standard error nowhere: the traceback of an error that a lesson expects."""
    sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115


def watch_the_clock(seconds: float) -> list[tuple[float, float]]:
    """Read the clock in a loop; return the periods (from, to; in s) in which it never jumped by more than 1 ms."""
    periods = []
    begin = last = perf_counter()
    end = begin + seconds
    while last < end:
        now = perf_counter()
        if now - last > 0.001:
            periods.append((begin, last))
            begin = now
        last = now
    return [*periods, (begin, last)]


def hold_the_gil(n: int) -> tuple[float, float]:
    """Add up n numbers in one call into C code, which holds the GIL; return its begin and end in s."""
    begin = perf_counter()
    sum(range(n))
    return begin, perf_counter()


def count(n: int) -> None:
    """Count down from n to 0, in pure Python."""
    while n:
        n -= 1


def fork_while_locked(timeout_s: float) -> bool:
    """Fork while a lock is held; return whether the child could acquire it within `timeout_s` seconds."""
    lock = Lock()
    lock.acquire()  # as a thread inside predict holds the predictor's lock
    child = os.fork()
    if child == 0:  # the copy begins here
        os._exit(0 if lock.acquire(timeout=timeout_s) else 1)
    lock.release()  # the original; the copy's lock stays as it was
    return os.waitpid(child, 0)[1] == 0


def crash_beside_work(answers: Connection, images: int) -> None:
    """Answer one image after another; halfway through, another thread of this process crashes the process."""
    halfway = Event()

    def crash() -> None:
        halfway.wait(_DEADLINE_S)
        psutil.Process().kill()  # as the system does when memory is full: it ends processes, not threads

    thread = Thread(target=crash)
    thread.start()
    for image in range(images):
        if image == images // 2:
            halfway.set()
            thread.join(_DEADLINE_S)
        answers.send(image)


def last_value(image: NDArray[np.uint8]) -> int:
    """Return the last number of an image that came pickled."""
    return int(image.flat[-1])


def last_value_shared(name: str, shape: tuple[int, ...]) -> int:
    """Return the last number of a uint8 image that lies in shared memory."""
    memory = SharedMemory(name)
    try:
        return last_value(np.ndarray(shape, np.uint8, memory.buf))
    finally:
        memory.close()
