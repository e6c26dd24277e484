"""Hazards of ultralytics' own locks: a stream that keeps one, and what `ThreadingLocked` does not cover."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from yolothreads.detections import explore
from yolothreads.hazards.entry import NOT_APPLICABLE, Evidence, Try, picture, small, told, warm
from yolothreads.pools import Pool

if TYPE_CHECKING:
    from ultralytics import YOLO

Streams = list[Any]
_ANSWER_S = 10.0  # a prediction takes 15 ms here; one that waits for a lock never comes


@contextmanager
def _model_and_streams() -> Iterator[tuple[YOLO, Streams]]:
    """A model and the streams begun with it, which are closed in the end: that gives their locks back."""
    streams: Streams = []
    try:
        yield warm(), streams
    finally:
        for stream in streams:
            stream.close()


def _take_one(state: tuple[YOLO, Streams]) -> Any:
    model, streams = state
    streams.append(model.predict([picture(3), picture(4)], stream=True))
    return next(streams[-1])


def force_stream() -> Evidence:
    """A takes one result of a stream and keeps the stream; B predicts."""
    bodies = _take_one, lambda state: state[0].predict(picture(5))[0]
    return told(explore(*bodies, setup=_model_and_streams, watch=["ultralytics.engine"], preemptions=0, budget_s=20.0))


def stream_in(pool: type[Pool], budget_s: float) -> Try:
    """Take one result of `map`, keep the rest, and ask for another image."""
    with small(pool) as opened:
        results = opened.map([picture(seed) for seed in range(6)])
        try:
            next(results)
            opened.submit(picture(6)).result(_ANSWER_S)
        except concurrent.futures.TimeoutError:
            return Try.of(1, 1, f"no answer within {_ANSWER_S:.0f} s beside a half-used map()")
        finally:
            results.close()  # type: ignore[attr-defined]
    return Try.of(0, 1)


def force_scope() -> Evidence:
    """Look from inside a locked function whether its lock, and that of another decorator, can be taken."""
    from ultralytics.utils import ThreadingLocked

    one, other = ThreadingLocked(), ThreadingLocked()

    def inside() -> dict[str, bool]:
        again = one.lock.acquire(blocking=False)
        if again:
            one.lock.release()
        return {"it is not re-entrant": not again, "another decorator does not exclude it": other(lambda: True)()}

    def stream() -> Iterator[bool]:
        yield one.lock.locked()

    limits = {**one(inside)(), "a generator runs without it": not next(one(stream)())}
    return Evidence(any(limits.values()), "; ".join(f"{what}: {'yes' if so else 'no'}" for what, so in limits.items()))


def scope_in(pool: type[Pool], budget_s: float) -> Try:
    """A pool has one entry, which gives no generator and calls nothing of its caller's."""
    return Try(NOT_APPLICABLE, reason="no caller gets inside its lock: submit() takes no function and is no generator")
