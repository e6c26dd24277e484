"""Keeps Python from collecting garbage in the midst of a run.

A collection runs the finalizers of earlier states, in whatever thread happens to allocate something.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class Garbage:
    """Pauses the collection; `is_in_body` tells whether the calling thread is controlled."""

    def __init__(self, is_in_body: Callable[[], bool]):
        self._is_in_body = is_in_body
        self._bodies_collect = False  # whether a body has called gc.collect() in an earlier run

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Let nothing be collected meanwhile but what the bodies themselves collect."""
        if self._bodies_collect:
            gc.collect()  # otherwise the body would find what earlier runs have left
        was_on = gc.isenabled()
        gc.disable()
        gc.callbacks.append(self._note)
        try:
            yield
        finally:
            gc.callbacks.remove(self._note)
            if was_on:
                gc.enable()

    def _note(self, phase: str, info: dict[str, Any]) -> None:
        self._bodies_collect = self._bodies_collect or self._is_in_body()
