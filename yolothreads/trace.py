"""Spans record which thread did what, and when. Recording is off by default, and then costs next to nothing.

Record whatever runs, also in unmodified ultralytics code:

    with trace.recording() as spans:
        ...                      # threads that predict
    figures.timeline(spans)

While a recording is on, wrappers around methods of ultralytics' predictors measure their stages and their lock; they
are removed at the end. To add a stage, add it to `STAGES`, and to `_STEPS` if it is a step of a predictor.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from time import perf_counter
from typing import Any, NamedTuple
from unittest.mock import patch

from yolothreads.errors import YoloThreadsError, need_extra

STAGES = ("wait", "load", "preprocess", "infer", "postprocess", "python", "turn")
"""wait: for a lock. load: a model or an image file. infer: the network. python: pure Python work (lesson 01).
turn: a thread has the turn in a schedule (`Exploration.draw`)."""

# The steps of a predictor in their order: the method, whose name is the key in `Results.speed` too, and the stage.
_STEPS = {"preprocess": "preprocess", "inference": "infer", "postprocess": "postprocess"}


class Span(NamedTuple):
    """One stretch of work. `start` and `end` in seconds of `time.perf_counter`."""

    thread: str
    stage: str
    start: float
    end: float


_spans: list[Span] | None = None  # the recording that is on; appending to a list is atomic
_one_recording = threading.Lock()


def add(stage: str, start: float, end: float) -> None:
    """Add a span of the calling thread to the recording, if one is on. Times in seconds of `time.perf_counter`."""
    if (spans := _spans) is not None:
        spans.append(Span(threading.current_thread().name, stage, start, end))


def add_speed(speed: Mapping[str, float | None]) -> None:
    """Add the steps that a prediction took in another process, by its own account, as if the last one ended now.

    Args:
        speed: milliseconds by step, as in `Results.speed`.
    """
    end = perf_counter()
    for step, stage in reversed(_STEPS.items()):
        if took_ms := speed.get(step):
            add(stage, end - took_ms / 1000, end)
            end -= took_ms / 1000


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
    """A lock whose waits are spans. It wraps any lock with acquire and release, and excludes exactly as that one."""

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
        """Return whether the lock is held."""
        return bool(self._lock.locked())

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *error: object) -> None:
        self.release()


@contextmanager
def recording() -> Iterator[list[Span]]:
    """Record the spans of all threads until the block ends; yield the list to which they are added.

    Raises:
        YoloThreadsError: another recording is on; only one is possible at a time.
    """
    global _spans
    need_extra("recording", "pools")
    if not _one_recording.acquire(blocking=False):
        raise YoloThreadsError("Another recording is on; leave its `with` block before you begin the next.")
    spans: list[Span] = []
    try:
        with _measured_ultralytics():
            _spans = spans
            yield spans
    finally:
        _spans = None
        _one_recording.release()


@contextmanager
def _measured_ultralytics() -> Iterator[None]:
    """Wrap the methods of ultralytics' classes, so that the stages of every model are measured."""
    from ultralytics import YOLO
    from ultralytics.engine.predictor import BasePredictor
    from ultralytics.models.yolo.detect import DetectionPredictor
    from ultralytics.utils import ThreadingLocked

    stream_inference = BasePredictor.stream_inference

    @functools.wraps(stream_inference)
    def with_traced_lock(self: Any, *args: Any, **kwargs: Any) -> Any:
        self._lock = TracedLock(self._lock)  # undocumented: see tests/pools/test_private_names.py
        return stream_inference(self, *args, **kwargs)

    def init_with_traced_lock(self: Any) -> None:
        self.lock = TracedLock()

    stages = [(YOLO, "__init__", "load"), (BasePredictor, "setup_model", "load")]
    for step, stage in _STEPS.items():
        stages.append((DetectionPredictor if step == "postprocess" else BasePredictor, step, stage))
    with ExitStack() as changes:
        changes.enter_context(patch.object(BasePredictor, "stream_inference", with_traced_lock))
        changes.enter_context(patch.object(ThreadingLocked, "__init__", init_with_traced_lock))
        for owner, name, stage in stages:
            changes.enter_context(patch.object(owner, name, span(stage)(getattr(owner, name))))
        yield
