"""A bounded queue, and one worker that gathers images into batches: many callers share one model."""

from __future__ import annotations

import math
import threading
import weakref
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from yolothreads import errors
from yolothreads.devices import Device, cores, memory_errors_named
from yolothreads.errors import ArgumentError, DeadlineError, PoolClosedError, QueueFullError
from yolothreads.pools.asking import answer_of, runs_event_loop
from yolothreads.pools.base import Predict, Size
from yolothreads.pools.images import Image, is_ready, read_image
from yolothreads.pools.thread_pools import ThreadPool
from yolothreads.weights import Weights

if TYPE_CHECKING:
    import torch
    from ultralytics import YOLO
    from ultralytics.engine.results import Results

_READERS = 4  # threads at most that read pictures for the one worker; arrays that are ready need none
_KEPT = 10_000  # the batches whose records are kept, so that a pool that runs for weeks does not grow
_AFTER = frozenset({"conf", "iou", "classes", "agnostic_nms", "max_det"})
_IN_HEAD = frozenset({"agnostic_nms", "max_det"})  # an end-to-end head uses them inside the network


class Batch(NamedTuple):
    """The record of one batch.

    start, end: seconds of `time.monotonic`. waits_s: the seconds that each of its calls had waited. left_waiting: the
    number of calls that still waited when it ended.
    """

    start: float
    end: float
    waits_s: tuple[float, ...]
    left_waiting: int

    @property
    def size(self) -> int:
        """The number of its images."""
        return len(self.waits_s)


@dataclass(frozen=True)
class Counters:
    """The number of calls by their fate, and the number of those that wait now."""

    waiting: int = 0
    answered: int = 0
    failed: int = 0
    refused: int = 0
    late: int = 0
    cancelled: int = 0


class BatchingWorker(ThreadPool):
    """A bounded queue into which many callers put images, and one worker that does several of them in one pass.

    A batch starts when `max_batch` images wait that may share it, or when the oldest has waited for `max_wait_ms`.
    Images share a batch if they have the same shape and the same settings of the network itself; `conf`, `iou`,
    `classes`, `max_det` and `agnostic_nms` apply to each image alone. An image that makes a batch fail fails alone.
    Threads of the pool read and convert the pictures while they wait in the queue.

    Args:
        weights, device, imgsz, threads, allow, settings: as in every pool.
        workers: 1.
        max_batch: the largest number of images in one pass.
        max_wait_ms: the longest time in milliseconds that the oldest image waits for others, 0 or more.
        queue_size: the number of images that may wait. `map` waits for room.
        when_full: "block": `submit` and `predict` wait for room; "refuse": they raise `QueueFullError`.
        deadline_s: the seconds after which the future of an unanswered call gets a `DeadlineError`.
    """

    one_worker = True

    def __init__(
        self,
        weights: Weights = "bundled",
        *,
        workers: int = 1,
        device: Device = "auto",
        imgsz: Size = 640,
        threads: int | None = None,
        max_batch: int = 8,
        max_wait_ms: float = 5.0,
        queue_size: int = 64,
        when_full: Literal["block", "refuse"] = "block",
        deadline_s: float | None = None,
        allow: Iterable[str] = (),
        **settings: Any,
    ) -> None:
        super().__init__(weights, workers=workers, device=device, imgsz=imgsz, threads=threads, allow=allow, **settings)
        self.max_batch = errors.at_least_one("max_batch", max_batch)
        self.max_wait_ms = errors.not_negative("max_wait_ms", max_wait_ms)
        self.queue_size = errors.at_least_one("queue_size", queue_size)
        if when_full not in ("block", "refuse"):
            raise ArgumentError(f'when_full="{when_full}" is not known; use "block" or "refuse".')
        self.when_full = when_full
        self.deadline_s = None if deadline_s is None else errors.not_negative("deadline_s", deadline_s)
        self._counting = threading.Lock()
        self.history: deque[Batch] = deque(maxlen=_KEPT)  # the latest batches, oldest first
        self._counts: Counter[str] = Counter()
        self._prepare()

    @property
    def at_once(self) -> int:
        """The number of images that it works on at the same time."""
        return self.max_batch

    @property
    def counters(self) -> Counters:
        """The number of calls by their fate since the pool was opened, and of those that wait now."""
        with self._counting:
            return Counters(waiting=len(self._queue), **self._counts)

    def submit(
        self, image: Image, *, block: bool | None = None, deadline_s: float | None = None, **settings: Any
    ) -> Future[Results]:
        """Hand in one image; return a future of its `Results`.

        An array or a PIL image is not copied: it must not change before the result is there.

        Where the thread must not wait, because it runs an event loop or is the worker's own, `block=True` returns at
        once, too: then the call waits for room in a line before the queue.

        Args:
            image: as in every pool.
            block: whether to wait for room in a full queue; by default as `when_full` says.
            deadline_s: the seconds in which it must be answered; the time before a full queue counts too.
            settings: settings of `YOLO.predict` for this image.

        Raises:
            ArgumentError, PoolClosedError: as in every pool.
            QueueFullError: the queue has no room, and the call must not wait for room.
        """
        self._check_settings(settings)
        self._check_open()
        given_s = self.deadline_s if deadline_s is None else errors.not_negative("deadline_s", deadline_s)
        block = self.when_full == "block" if block is None else block
        return self._enqueue(image, settings, given_s, block=block)

    async def predict(
        self, image: Image, *, block: bool | None = None, deadline_s: float | None = None, **settings: Any
    ) -> Results:
        """Return the `Results` of one image, for asyncio, as every pool does.

        Args:
            image: as in `submit`.
            block: whether to wait for room in a full queue, in which only the coroutine waits.
            deadline_s: as in `submit`.
            **settings: as in `submit`.

        Raises:
            ArgumentError, PoolClosedError, QueueFullError: as `submit` does.
            Exception: the error of this image, as its future has it.
        """
        return await answer_of(self.submit(image, block=block, deadline_s=deadline_s, **settings))

    def _submit(self, image: Image, settings: dict[str, Any]) -> Future[Results]:
        return self._enqueue(image, settings, self.deadline_s, block=True)

    def _enqueue(self, image: Image, own: dict[str, Any], deadline_s: float | None, *, block: bool) -> Future[Results]:
        now = monotonic()
        call = Call(image, {**self.settings, **own}, now, now + (math.inf if deadline_s is None else deadline_s))
        call.future.add_done_callback(self._count_outcome)
        if is_ready(image, self.channels):
            self._read(call)
        must_not_wait = runs_event_loop() or hasattr(self._own, "predict")
        try:
            if not call.future.done():
                self._queue.put(call, when_full="refuse" if not block else "line" if must_not_wait else "block")
        except QueueFullError:
            self._count("refused")
            raise
        self._track(call.future)
        return call.future

    def _start_reading(self, call: Call) -> None:
        try:
            self._readers.submit(self._read, call)
        except RuntimeError as error:  # the interpreter ends, or the system has no thread left
            call.settle(error)

    def _read(self, call: Call) -> None:
        """Read the picture of a call, so that it can be gathered; an error is the answer of the call."""
        if call.future.done():  # it is late, or was cancelled
            return
        try:
            pixels, name = read_image(call.image, self.channels)
            self._queue.add_pixels(call, pixels, name, batch_key(pixels, call.settings, self._after))
        except BaseException as error:
            call.settle(error)

    def _prepare(self) -> None:
        self._queue = CallQueue(self.queue_size, lambda: self._hand_over(self._serve), self._start_reading)
        name = f"{type(self).__name__}-reader"
        self._readers = ThreadPoolExecutor(min(_READERS, cores()), thread_name_prefix=name)  # starts them on demand
        self.history.clear()
        self._counts.clear()

    def _predictor(self, index: int) -> Predict:
        self._model = self._load()
        end2end = getattr(self._model.predictor.model, "end2end", False)
        self._after = _AFTER - _IN_HEAD if end2end else _AFTER
        return self._model.predict

    def _forget(self) -> None:
        self._readers.shutdown()
        self._queue.end()
        super()._forget()

    def _serve(self) -> None:
        while batch := self._queue.gather(self.max_batch, self.max_wait_ms / 1000):
            start = monotonic()
            try:
                self._answer(batch)
            except BaseException as error:  # else nobody would answer these calls, and no worker the next ones
                for call in batch:
                    call.settle(error)
            waits_s = tuple(start - call.asked for call in batch)
            self.history.append(Batch(start, monotonic(), waits_s, len(self._queue)))

    def _answer(self, calls: list[Call]) -> None:
        """Give each call its result. If the batch fails, do its halves, until the image that fails is alone."""
        try:
            with memory_errors_named(self.device):
                results = predict_batch(self._model, calls, self._after)
                answers = [(call, result.cpu()) for call, result in zip(calls, results, strict=True)]
        except BaseException as error:  # as an executor does: the error is the call's, and the worker goes on
            if len(calls) > 1:
                half = len(calls) // 2
                self._answer(calls[:half])
                self._answer(calls[half:])
            else:
                calls[0].settle(error)
            return
        for call, result in answers:
            result.path = call.name or "image0.jpg"  # as in a single prediction, instead of its place in the batch
            call.settle(result)

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

    def left_by_fork(self) -> None:
        """Forget the queue, too, and the locks, which threads of the parent may have held."""
        super().left_by_fork()
        self._counting = threading.Lock()
        self._prepare()

    def _stop(self, *, cancel: bool, wait: bool) -> None:
        self._queue.close(cancel=False)  # wakes the callers that wait for room, and the worker
        super()._stop(cancel=cancel, wait=wait)


# --- the queue ---


@dataclass(eq=False)
class Call:
    """One image for which a caller waits. Times in seconds of `time.monotonic`.

    due: the deadline. pixels: (H, W, C) uint8; there, with what follows, once the picture was read. batch_key: calls
    with equal keys may share a batch.
    """

    image: Image
    settings: dict[str, Any]
    asked: float
    due: float = math.inf
    future: Future[Results] = field(default_factory=Future)
    pixels: NDArray[np.uint8] | None = None
    name: str = ""
    batch_key: Hashable = None

    @property
    def is_read(self) -> bool:
        """Whether the picture was read."""
        return self.pixels is not None

    @property
    def is_wanted(self) -> bool:
        """Whether a caller still waits: the call has no answer, was not cancelled, and is not too late."""
        return not self.future.done() and self.due > monotonic()

    def settle(self, outcome: Results | BaseException) -> None:
        """Give the caller a result or an error, unless the deadline has passed."""
        with suppress(InvalidStateError):
            if isinstance(outcome, BaseException):
                self.future.set_exception(outcome)
            else:
                self.future.set_result(outcome)


class CallQueue:
    """A queue into which callers put calls, and from which one worker gathers batches.

    Calls for which there is no room stand in a line before it, and enter in their order as room is made: by a batch, or
    by a call that is cancelled or too late. A thread of its own enforces the deadlines, from the first deadline on.

    Args:
        size: the number of calls that may wait in the queue.
        start_worker: called, in the thread that puts, when a call comes and no worker gathers. The worker then gathers
            until `gather` returns an empty list. It may raise PoolClosedError.
        start_reading: called with a call that has come into the queue, if its picture was not read, so that no more
            pictures are in memory than the queue has room for. It must not wait. `add_pixels` adds the picture.
    """

    def __init__(
        self, size: int, start_worker: Callable[[], object], start_reading: Callable[[Call], object] | None = None
    ) -> None:
        self.size = size
        self._start_worker = start_worker
        self._start_reading = start_reading
        self._worker_is_active = False
        self._line: dict[Call, None] = {}  # ordered sets, so that a call can leave from the middle
        self._waiting: dict[Call, None] = {}
        self._late: list[Call] = []  # calls that wait only to be told that they are too late
        self._under_way: list[Call] = []  # the latest batch
        self._changed = threading.Condition()
        self._closed = False
        self._deadline_thread: threading.Thread | None = None
        self._deadlines_end = False

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, call: Call, *, when_full: Literal["block", "refuse", "line"]) -> None:
        """Add a call.

        Args:
            call: a call with a fresh future.
            when_full: "block": return when the call has room, or its future is done. "refuse": raise QueueFullError
                if there is no room. "line": return at once; only the future of the call waits.

        Raises:
            QueueFullError, PoolClosedError: the call was not added.
        """
        with self._changed:
            if self._closed:
                raise PoolClosedError("This BatchingWorker has been shut down; open it again.")
            if when_full == "refuse" and not self._has_room():
                waiting = len(self._waiting) + len(self._line)
                raise QueueFullError(f"{waiting} calls wait already; try again later, or make queue_size larger.")
            if call.due < math.inf and self._deadline_thread is None:
                name = "BatchingWorker deadlines"  # a daemon, so that it does not keep the interpreter alive
                thread = threading.Thread(target=self._enforce_deadlines, name=name, daemon=True)
                thread.start()
                self._deadline_thread = thread
            if not self._worker_is_active:
                self._start_worker()
                self._worker_is_active = True
            self._line[call] = None  # nothing fails from here on
            self._let_in()
            # A late or cancelled call makes room. By a weak reference, because a cycle would keep its picture for long.
            left = weakref.ref(call)
            call.future.add_done_callback(lambda _: self._leave(left()))
            if when_full == "block":
                self._wait_for_room(call)

    def _wait_for_room(self, call: Call) -> None:
        try:
            self._changed.wait_for(lambda: self._closed or call not in self._line)
        except BaseException:  # Ctrl-C: nobody will get the future
            call.future.cancel()
            raise
        if call in self._line:
            del self._line[call]
            raise PoolClosedError("This BatchingWorker has been shut down; open it again.")

    def add_pixels(self, call: Call, pixels: NDArray[np.uint8], name: str, batch_key: Hashable) -> None:
        """Add the picture of a call, which may then be gathered."""
        with self._changed:
            call.name, call.batch_key, call.pixels = name, batch_key, pixels
            self._changed.notify_all()

    def gather(self, most: int, wait_s: float) -> list[Call]:
        """Take up to `most` calls that may share a batch with the oldest one; an empty list if no call waits.

        Only calls whose pictures were read are taken; while there is none, wait for one. Wait until there are `most`,
        or until the oldest has waited for `wait_s` seconds or for half of its deadline. If the queue is full or closed,
        no further call can come, so do not wait. After an empty list the worker has to leave: the next call starts a
        worker again.
        """
        with self._changed:
            self._under_way = []
            while self._let_in():
                ready = [call for call in self._waiting if call.is_read]
                if not ready:
                    self._changed.wait()  # a picture that was read ends this, and so does one that cannot be read
                    continue
                oldest = ready[0]
                batch = [call for call in ready if call.batch_key == oldest.batch_key][:most]
                left_s = oldest.asked + min(wait_s, (oldest.due - oldest.asked) / 2) - monotonic()
                if len(batch) == most or left_s <= 0 or self._closed or not self._has_room():
                    for call in batch:
                        del self._waiting[call]
                    # From now on they cannot be cancelled.
                    self._under_way = [call for call in batch if call.future.set_running_or_notify_cancel()]
                    self._let_in()
                    if self._under_way:
                        return self._under_way
                else:
                    self._changed.wait(left_s)
            self._worker_is_active = False
            return []

    def close(self, *, cancel: bool) -> None:
        """Take no more calls; with `cancel`, drop the calls that wait."""
        with self._changed:
            self._closed = True
            dropped = [*self._waiting, *self._line] if cancel else []
            self._changed.notify_all()
        for call in dropped:
            call.future.cancel()

    def end(self) -> None:
        """Join the thread of the deadlines; call this when every call has been answered."""
        with self._changed:
            self._deadlines_end = True
            self._changed.notify_all()
        if self._deadline_thread is not None:
            self._deadline_thread.join()

    def _enforce_deadlines(self) -> None:
        """Fail each call that has no answer when it is due."""
        while not self._deadlines_end:
            with self._changed:
                now = monotonic()
                calls = [*self._line, *self._waiting, *self._under_way, *self._late]
                calls = [call for call in calls if not call.future.done()]
                late = [call for call in calls if call.due <= now]
                for call in late:  # the worker must not take a call that is about to fail
                    self._line.pop(call, None)
                    self._waiting.pop(call, None)
                self._late.clear()
                if not late and not self._deadlines_end:
                    due = min((call.due for call in calls), default=math.inf)
                    self._changed.wait(None if due == math.inf else due - now)
            for call in late:  # without the lock, because a callback of the future may put a call
                call.settle(_too_late(call))

    def _leave(self, call: Call | None) -> None:
        """Take a call whose future is done out of the queue, if it is still there, and let another one in."""
        with self._changed:
            if call is not None:
                self._line.pop(call, None)
                self._waiting.pop(call, None)
            self._let_in()

    def _let_in(self) -> int:
        """Move calls from the line into the queue while it has room; return the number of calls in the queue.

        Then no call stands in the line of an empty queue, and the worker may leave. So calls that are too late, and
        have not been told so, must not take up room.
        """
        self._set_apart_late([call for call in self._waiting if not call.is_wanted], self._waiting)
        while self._line and len(self._waiting) < self.size:
            call = next(iter(self._line))
            if call.is_wanted:
                del self._line[call]
                self._waiting[call] = None
                if self._start_reading is not None and not call.is_read:
                    self._start_reading(call)
            else:
                self._set_apart_late([call], self._line)
        self._changed.notify_all()
        return len(self._waiting)

    def _set_apart_late(self, calls: list[Call], place: dict[Call, None]) -> None:
        for call in calls:
            del place[call]
            if not call.future.done():
                self._late.append(call)

    def _has_room(self) -> bool:
        return not self._line and len(self._waiting) < self.size


def _too_late(call: Call) -> DeadlineError:
    given_s = call.due - call.asked
    return DeadlineError(f"No answer came within the deadline of {given_s:.3g} s; give more time, or fewer images.")


# --- the model ---


def batch_key(pixels: NDArray[np.uint8], settings: Mapping[str, Any], after: frozenset[str]) -> Hashable:
    """Return a key that is equal for images that may share a batch. A wrong value raises what predict raises.

    Args:
        pixels: (H, W, C) uint8.
        settings: the settings of the image.
        after: the names of the settings that apply after the network.
    """
    from ultralytics.cfg import get_cfg

    if settings:  # checked now, because one wrong value would make the whole batch run again
        get_cfg(overrides=dict(settings))
    before = sorted((name, repr(value)) for name, value in settings.items() if name not in after)
    return pixels.shape, tuple(before)


def predict_batch(model: YOLO, calls: Sequence[Call], after: frozenset[str]) -> list[Results]:
    """Do calls that have the same `batch_key` in one pass; after the network, each image has its own settings.

    The images of a batch must have their shape in common, too: ultralytics pads a batch of one shape to a rectangle and
    a batch of several shapes to a square, which changes boxes.

    Args:
        model: a loaded and warmed-up model, which only this thread uses.
        calls: the images with their settings.
        after: the names of the settings that apply after the network.
    """
    from ultralytics.cfg import get_cfg

    predictor = model.predictor
    before = {name: value for name, value in calls[0].settings.items() if name not in after}
    asks = [{name: value for name, value in call.settings.items() if name in after} for call in calls]

    def postprocess(preds: Any, img: torch.Tensor, orig_imgs: list[NDArray[np.uint8]]) -> list[Results]:
        common, results = predictor.args, []
        try:
            for place, ask in enumerate(asks):
                predictor.args = get_cfg(common, ask) if ask else common
                one = slice(place, place + 1)
                own = _rows(preds, one, len(orig_imgs))
                # Also because NMS has a time limit per call, which would leave out the last images.
                results += type(predictor).postprocess(predictor, own, img[one], orig_imgs[one])
        finally:
            predictor.args = common
        return results

    predictor.postprocess = postprocess
    try:
        return model.predict([call.pixels for call in calls], **before)
    finally:
        del predictor.postprocess


def _rows(preds: Any, part: slice, count: int) -> Any:
    """Return the network output of some images: tensors of (count, ...), in lists, tuples and dicts."""
    if isinstance(preds, dict):
        return {name: _rows(value, part, count) for name, value in preds.items()}
    if isinstance(preds, list | tuple):
        return type(preds)(_rows(value, part, count) for value in preds)
    return preds[part] if getattr(preds, "ndim", 0) and len(preds) == count else preds
