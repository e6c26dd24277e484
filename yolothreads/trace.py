"""Spans: which thread did what, and when. Off by default, and then next to free.

Record whatever runs, in unmodified ultralytics code too:

    with trace.recording() as spans:
        ...                      # threads that predict
    figures.timeline(spans)

While a recording is on, the three stages of ultralytics' predictors and their lock are measured by wrapping the
methods of their classes; the wrappers are taken off again at the end.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any, NamedTuple

from yolothreads.errors import YoloThreadsError

STAGES = ("wait", "load", "preprocess", "infer", "postprocess", "python", "turn")
"""wait: for a lock. load: a model or an image file. infer: the network. python: pure Python work (lesson 01).
turn: a thread has the turn in a schedule (`Exploration.draw`)."""


class Span(NamedTuple):
    """One stretch of work. `start` and `end` in seconds of `time.perf_counter`."""

    thread: str
    stage: str
    start: float
    end: float


_spans: list[Span] | None = None  # the recording that is on; appending to a list is atomic
_one_at_a_time = threading.Lock()


def add(stage: str, start: float, end: float) -> None:
    """Add a span of the calling thread to the recording, if one is on. Times in seconds of `time.perf_counter`."""
    if (spans := _spans) is not None:
        spans.append(Span(threading.current_thread().name, stage, start, end))


@contextmanager
def span(stage: str) -> Iterator[None]:
    """Measure a stretch of code as one of `STAGES`."""
    if _spans is None:
        yield
        return
    start = perf_counter()
    try:
        yield
    finally:
        add(stage, start, perf_counter())


class TracedLock:
    """A lock whose waits are spans. It wraps any lock with acquire and release, and excludes exactly as that does."""

    def __init__(self, lock: Any = None) -> None:
        # A lock that is traced already is not wrapped again: its waits would be recorded twice.
        self._lock: Any = lock._lock if isinstance(lock, TracedLock) else threading.Lock() if lock is None else lock

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Acquire as `threading.Lock.acquire` does; a wait that took time is recorded."""
        if self._lock.acquire(blocking=False):
            return True
        if not blocking:
            return False
        with span("wait"):
            return bool(self._lock.acquire(timeout=timeout))

    def release(self) -> None:
        """Release the lock."""
        self._lock.release()

    def locked(self) -> bool:
        """Whether somebody holds the lock."""
        return bool(self._lock.locked())

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *error: object) -> None:
        self.release()


@contextmanager
def recording() -> Iterator[list[Span]]:
    """Record spans of every thread until the block ends; gives the list that they are added to.

    Raises:
        YoloThreadsError: another recording is on; there can be one at a time.
    """
    global _spans
    if not _one_at_a_time.acquire(blocking=False):
        raise YoloThreadsError("Another recording is on; leave its `with` block before you begin the next.")
    spans: list[Span] = []
    try:
        with _measured_ultralytics():
            _spans = spans
            yield spans
    finally:
        _spans = None
        _one_at_a_time.release()


def _measured(stage: str, method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with span(stage):
            return method(*args, **kwargs)

    return wrapper


def _with_traced_lock(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(self._lock, TracedLock):
            self._lock = TracedLock(self._lock)
        return method(self, *args, **kwargs)

    return wrapper


@contextmanager
def _measured_ultralytics() -> Iterator[None]:
    """Measure the stages of ultralytics' predictors. The wrappers stand on the classes, not on any one model."""
    from ultralytics import YOLO
    from ultralytics.engine.predictor import BasePredictor
    from ultralytics.models.yolo.detect import DetectionPredictor
    from ultralytics.utils import ThreadingLocked

    def with_traced_lock(self: Any) -> None:
        self.lock = TracedLock()

    changes: list[tuple[type, str, Callable[..., Any]]] = [
        (YOLO, "__init__", _measured("load", YOLO.__init__)),
        (BasePredictor, "setup_model", _measured("load", BasePredictor.setup_model)),
        (BasePredictor, "preprocess", _measured("preprocess", BasePredictor.preprocess)),
        (BasePredictor, "inference", _measured("infer", BasePredictor.inference)),
        (DetectionPredictor, "postprocess", _measured("postprocess", DetectionPredictor.postprocess)),
        (BasePredictor, "stream_inference", _with_traced_lock(BasePredictor.stream_inference)),
        (ThreadingLocked, "__init__", with_traced_lock),
    ]
    originals = [(owner, name, owner.__dict__[name]) for owner, name, _ in changes]
    for owner, name, wrapper in changes:
        setattr(owner, name, wrapper)
    try:
        yield
    finally:
        for owner, name, original in originals:
            setattr(owner, name, original)
