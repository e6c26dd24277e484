"""A model small enough to see through: it stands in for YOLO where an exercise must force two threads to meet."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_MEET_S = 0.3  # how long a call waits for company; without any it goes on alone, so a correct answer only waits


class StandIn:
    """Does what makes a shared YOLO object unsafe: keeps the arguments of a call on itself, then works on them.

    Between the two it waits for a second call to come in, so that a race happens every time it can.

    Attributes:
        crowded: whether two threads were ever inside it at once.
    """

    def __init__(self) -> None:
        self.crowded = False
        self._inside = 0
        self._count = threading.Lock()
        self._company = threading.Event()
        self._conf = 0.0

    def predict(self, image: int, conf: float = 0.25) -> tuple[int, float]:
        """Give the image and the `conf` that was really used for it."""
        with self._visit():
            self._conf = conf
            self._company.wait(_MEET_S)
            return image, self._conf

    def stream(self, image: int) -> Iterator[int]:
        """Give three results of an image, one by one, as `stream=True` does."""
        for part in range(3):
            with self._visit():
                self._company.wait(_MEET_S / 3)
            yield 10 * image + part

    @contextmanager
    def _visit(self) -> Iterator[None]:
        """One thread's stay inside: wakes whoever waits for company."""
        with self._count:
            self._inside += 1
            if self._inside >= 2:
                self.crowded = True
                self._company.set()
        try:
            yield
        finally:
            with self._count:
                self._inside -= 1
