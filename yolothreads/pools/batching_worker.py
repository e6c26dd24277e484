"""A bounded queue and one worker that gathers images into batches: many callers, one model."""

from __future__ import annotations

import os
import threading
from collections import Counter, deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from yolothreads.arguments import at_least_one, not_negative
from yolothreads.devices import memory_errors_named
from yolothreads.errors import ArgumentError, DeadlineError, ImageError, QueueFullError
from yolothreads.pools.batch_model import BatchModel
from yolothreads.pools.call_queue import Call, CallQueue
from yolothreads.pools.image import Image, read_image
from yolothreads.pools.model import Predict
from yolothreads.pools.settings import check_settings
from yolothreads.pools.threads import ThreadPool

if TYPE_CHECKING:
    from ultralytics.engine.results import Results

_KEPT = 10_000  # batches whose records are kept, so that a pool that runs for weeks does not grow


class Batch(NamedTuple):
    """One batch as it was: begin and end (`time.monotonic`, s), how long its calls had waited, calls left behind."""

    start: float
    end: float
    waits_s: tuple[float, ...]
    left_waiting: int

    @property
    def size(self) -> int:
        """How many images it had."""
        return len(self.waits_s)


@dataclass(frozen=True)
class Counters:
    """What became of the calls so far, and how many wait now."""

    waiting: int = 0
    answered: int = 0
    failed: int = 0
    refused: int = 0
    late: int = 0
    cancelled: int = 0


class BatchingWorker(ThreadPool):
    """Many callers put images into a bounded queue; one worker takes several at a time and does them in one pass.

    A batch starts when `max_batch` images wait that may share it, or when the oldest has waited for `max_wait_ms`.
    Images share a batch if they have one shape and the settings that the network itself sees; `conf`, `iou`, `classes`,
    `max_det` and `agnostic_nms` are applied to each image alone. An image that makes a batch fail fails alone.
    The caller's thread reads the file; `workers` is taken so that every pool can be made the same way.

    Args:
        max_batch: most images in one pass.
        max_wait_ms: longest time in milliseconds that the oldest image waits for others, 0 or more.
        queue_size: how many images may wait. `map` waits for room.
        when_full: "block" has `submit` wait for room; "refuse" has it raise `QueueFullError`.
        deadline_s: seconds in which a call must be answered; after that its future has a `DeadlineError`.
    """

    def __init__(
        self,
        weights: str | os.PathLike[str] = "bundled",
        *,
        workers: int = 1,
        max_batch: int = 8,
        max_wait_ms: float = 5.0,
        queue_size: int = 64,
        when_full: Literal["block", "refuse"] = "block",
        deadline_s: float | None = None,
        **kwargs: Any,
    ) -> None:
        at_least_one("workers", workers)
        super().__init__(weights, workers=1, **kwargs)
        self.max_batch = at_least_one("max_batch", max_batch)
        self.max_wait_ms = not_negative("max_wait_ms", max_wait_ms)
        self.queue_size = at_least_one("queue_size", queue_size)
        if when_full not in ("block", "refuse"):
            raise ArgumentError(f'when_full="{when_full}" is not known; use "block" or "refuse".')
        self.when_full = when_full
        self.deadline_s = None if deadline_s is None else not_negative("deadline_s", deadline_s)
        self.history: deque[Batch] = deque(maxlen=_KEPT)  # the latest batches, oldest first
        self._counts: Counter[str] = Counter()
        self._counting = threading.Lock()
        self._queue = self._empty_queue()

    @property
    def at_once(self) -> int:
        """How many images it works on at the same time."""
        return self.max_batch

    @property
    def counters(self) -> Counters:
        """What became of the calls since the pool was opened, and how many wait now; `history` has the batches."""
        with self._counting:
            return Counters(waiting=len(self._queue), **self._counts)

    def submit(self, image: Image, *, deadline_s: float | None = None, **settings: Any) -> Future[Results]:
        """Ask for one image to be done; gives a future of its `Results`.

        Args:
            image: a path, or an (H, W, 3) uint8 BGR array.
            deadline_s: seconds in which it must be answered, also the time it waits for room in the queue.
            settings: of `YOLO.predict`, for this image.

        Raises:
            ArgumentError, PoolClosedError: as in every pool.
            QueueFullError: there is no room, and the pool was made with `when_full="refuse"`.
        """
        check_settings(settings)
        self._check_open()
        given_s = self.deadline_s if deadline_s is None else not_negative("deadline_s", deadline_s)
        return self._enqueue(image, settings, given_s, block=self.when_full == "block")

    def _submit(self, image: Image, settings: dict[str, Any]) -> Future[Results]:
        return self._enqueue(image, settings, self.deadline_s, block=True)

    def _enqueue(self, image: Image, own: dict[str, Any], deadline_s: float | None, *, block: bool) -> Future[Results]:
        now = monotonic()
        future: Future[Results] = Future()
        future.add_done_callback(self._count_outcome)
        try:
            pixels, name = read_image(image)
            settings = {**self.settings, **own}
            due = None if deadline_s is None else now + deadline_s
            call = Call(pixels, name, settings, self._model.together(pixels, settings), now, due, future)
            self._queue.put(call, block=block)
        except (ImageError, DeadlineError, TypeError, ValueError) as error:  # the last two: a setting out of range
            future.set_exception(error)
            return future
        except QueueFullError:
            self._count("refused")
            raise
        self._track(future)
        return future

    def _empty_queue(self) -> CallQueue:
        return CallQueue(self.queue_size, lambda: self._hand_over(self._serve))

    def _prepare(self) -> None:
        self._queue = self._empty_queue()
        self.history.clear()
        self._counts.clear()

    def _predictor(self, index: int) -> Predict:
        self._model = BatchModel(self._load())
        return self._model.predict

    def _forget(self) -> None:
        self._queue.end()
        if hasattr(self, "_model"):
            self._model.release()

    def _serve(self) -> None:
        while batch := self._queue.gather(self.max_batch, self.max_wait_ms / 1000):
            start = monotonic()
            self._answer(batch)
            waits_s = tuple(start - call.asked for call in batch)
            self.history.append(Batch(start, monotonic(), waits_s, len(self._queue)))

    def _answer(self, calls: list[Call]) -> None:
        """Give each call its result; where the batch fails, do its halves, until the image to blame is alone."""
        try:
            with memory_errors_named(self.device):
                results = self._model.predict([call.pixels for call in calls], [call.settings for call in calls])
                answers = [(call, result.cpu()) for call, result in zip(calls, results, strict=True)]
        except BaseException as error:  # as an executor does: the error is the call's, and the worker goes on
            if len(calls) > 1:
                half = len(calls) // 2
                self._answer(calls[:half])
                self._answer(calls[half:])
            else:
                self._queue.settle(calls[0], error)
            return
        for call, result in answers:
            result.path = call.name or "image0.jpg"  # as in a prediction of its own, not its place in the batch
            self._queue.settle(call, result)

    def _count_outcome(self, future: Future[Results]) -> None:
        if future.cancelled():
            self._count("cancelled")
        elif (error := future.exception()) is None:
            self._count("answered")
        else:
            self._count("late" if isinstance(error, DeadlineError) else "failed")

    def _count(self, what: str) -> None:
        with self._counting:
            self._counts[what] += 1

    def _drop_waiting(self, executor: ThreadPoolExecutor) -> None:
        self._queue.close(cancel=True)

    def _stop(self, *, cancel: bool, wait: bool) -> None:
        self._queue.close(cancel=False)  # wakes those who wait for room, or for others to share a batch with
        super()._stop(cancel=cancel, wait=wait)
