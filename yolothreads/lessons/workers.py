"""Worker functions of lesson 07: a spawned child imports what it runs, and cannot find what a notebook cell defines."""

from __future__ import annotations

import os
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory
from threading import Event, Lock, Thread
from time import perf_counter

import numpy as np
import psutil
from numpy.typing import NDArray

_PATIENCE_S = 60.0

notes: list[str] = []


def note(word: str) -> tuple[int, list[str]]:
    """Add a word to `notes`; give the id of this process and all the words."""
    notes.append(word)
    return os.getpid(), notes


def watch_the_clock(seconds: float) -> list[tuple[float, float]]:
    """Look at the clock in a loop; give the stretches (from, to, in s) without a jump of over 1 ms."""
    stretches = []
    begin = last = perf_counter()
    end = begin + seconds
    while last < end:
        now = perf_counter()
        if now - last > 0.001:
            stretches.append((begin, last))
            begin = now
        last = now
    return [*stretches, (begin, last)]


def hold_the_gil(n: int) -> tuple[float, float]:
    """Add up n numbers in one call of C code, which keeps the GIL; give its begin and end in s."""
    begin = perf_counter()
    sum(range(n))
    return begin, perf_counter()


def count(n: int) -> None:
    """Count down from n to 0, in Python alone."""
    while n:
        n -= 1


def fork_while_locked(patience_s: float) -> bool:
    """Fork while a lock is held; give whether the child could take it in that many seconds."""
    lock = Lock()
    lock.acquire()  # as a thread inside predict holds the predictor's lock
    child = os.fork()
    if child == 0:  # the copy begins here
        os._exit(0 if lock.acquire(timeout=patience_s) else 1)
    lock.release()  # the original: the copy's lock stays as it was
    return os.waitpid(child, 0)[1] == 0


def crash_beside_work(answers: Connection, images: int) -> None:
    """Answer image after image; in the middle of it, another thread of this process crashes."""
    middle = Event()

    def crash() -> None:
        middle.wait(_PATIENCE_S)
        psutil.Process().kill()  # as the system does when memory is full: it ends processes, not threads

    thread = Thread(target=crash)
    thread.start()
    for image in range(images):
        if image == images // 2:
            middle.set()
            thread.join(_PATIENCE_S)
        answers.send(image)


def last_value(image: NDArray[np.uint8]) -> int:
    """The last number of an image that came pickled."""
    return int(image.flat[-1])


def last_value_shared(name: str, shape: tuple[int, ...]) -> int:
    """The last number of a uint8 image that lies in shared memory."""
    memory = SharedMemory(name)
    try:
        return last_value(np.ndarray(shape, np.uint8, memory.buf))
    finally:
        memory.close()
