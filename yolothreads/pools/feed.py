"""The order of `map`: a thread of its own reads the images and hands them to a pool; the caller gets the results."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import CancelledError, Future
from time import monotonic
from typing import Any, Generic, TypeVar

from yolothreads.errors import DeadlineError, ImageError, PoolClosedError
from yolothreads.sources import GRACE_S, Reading, own_copy, running

_Image = TypeVar("_Image")
_Result = TypeVar("_Result")

_LATE_GRACE_S = 0.2  # as GRACE_S, for a caller that has a deadline


class Feed(Reading[_Image], Generic[_Image, _Result]):
    """A reading that hands in each image, and has the futures in the order of the images.

    Args:
        owner: the pool, by which `stop_feeds` finds this.
        check_open: raises PoolClosedError if the pool is closed.
        hand_in: called with each image, in the thread that reads.
        ahead: the number of images that may be taken from the source when the first result is asked for. Each further
            result that is asked for is one image more: with 1, the source is asked for an image only after its caller
            has asked for the next result.
        copy: whether each array and PIL image is copied when it is taken.
    """

    def __init__(
        self,
        owner: object,
        check_open: Callable[[], object],
        hand_in: Callable[[_Image], Future[_Result]],
        *,
        ahead: int,
        copy: bool,
    ) -> None:
        super().__init__(f"source of {type(owner).__name__}.map")
        self.owner = owner
        self._check_open, self._hand_in, self._copy = check_open, hand_in, copy
        self._grace_s = GRACE_S
        self._futures: deque[Future[_Result]] = deque()
        self._taken, self._allowed = 0, ahead - 1

    def start(self, source: Iterable[_Image]) -> None:
        """Start the thread, as every reading does, unless the pool is closed."""
        self._check_open()
        super().start(source)
        self._check_open()  # again, because until now closing the pool did not find this

    def wait(self, end: float | None) -> bool:
        """Ask for one more result, and wait until it is done; return False if there is none.

        Args:
            end: when to stop waiting, in seconds of `time.monotonic`.

        Raises:
            DeadlineError: it was not done in time. PoolClosedError: the pool was closed meanwhile.
            BaseException: what the source raised, or handing in an image; all earlier results come first.
        """
        if self.is_lost:
            raise PoolClosedError("This map began in the parent process; open the pool in the child.")
        with self._changed:
            self._allowed += 1
            self._changed.notify_all()
            if not self._changed.wait_for(lambda: self._futures or self._ended, _left_s(end)):
                raise self._too_late()
        if not self._futures:
            self.raise_error()
            return False
        try:
            self._futures[0].exception(_left_s(end))
        except TimeoutError:
            raise self._too_late() from None
        except CancelledError:
            pass  # `take` raises or returns it
        return True

    def take(self, return_exceptions: bool) -> _Result | Exception:
        """Return the result for which `wait` has waited, or raise its error; or return that."""
        try:
            return self._futures.popleft().result()
        except Exception as error:
            if return_exceptions:
                return error
            raise

    def close(self, grace_s: float | None = None) -> None:
        """End the thread as every reading does, and cancel what has not begun."""
        self.stop()
        while self._futures and not self.is_lost:
            self._futures.popleft().cancel()
        super().close(self._grace_s if grace_s is None else grace_s)

    def _may_read(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._ended or self._taken < self._allowed)
            return not self._ended

    def _take(self, item: _Image) -> None:
        if self._ended:
            return
        future = self._handed_in(item)
        with self._changed:
            self._taken += 1
            if not self._ended:
                self._futures.append(future)
                self._changed.notify_all()
                return
        future.cancel()  # without the lock, because callbacks run

    def _handed_in(self, item: _Image) -> Future[_Result]:
        try:
            own = own_copy(item) if self._copy else item
        except Exception as error:  # a PIL image reads its file only now
            failed: Future[_Result] = Future()
            failed.set_exception(ImageError(f"An image could not be copied ({error}); check it and the free memory."))
            return failed
        self._check_open()
        return self._hand_in(own)

    def _too_late(self) -> DeadlineError:
        self._grace_s = _LATE_GRACE_S
        return DeadlineError("A result of map was not there before its timeout; give it more time, or fewer images.")


def in_order(
    feed: Feed[_Image, _Result], images: Iterable[_Image], end: float | None, return_exceptions: bool
) -> Generator[_Result | Exception, None, None]:
    """Return the results in the order of the images; nothing begins before the first is asked for."""
    try:
        feed.start(images)
        del images  # only the thread keeps the source
        while feed.wait(end):
            yield feed.take(return_exceptions)
    finally:
        feed.close()


def stop_feeds(owner: object) -> list[Feed[Any, Any]]:
    """Tell the feeds of a pool that it is closed, and return them; their callers get the results that are under way."""
    feeds = [feed for feed in running() if isinstance(feed, Feed) and feed.owner is owner]
    for feed in feeds:
        feed.stop(PoolClosedError(f"This {type(owner).__name__} was closed before map had ended; open it again."))
    return feeds


def _left_s(end: float | None) -> float | None:
    return None if end is None else max(0.0, end - monotonic())
