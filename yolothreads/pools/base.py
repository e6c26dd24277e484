"""What every pool shares: the four verbs (open, submit, map, shutdown), and what they promise."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal, Self

from yolothreads import devices
from yolothreads.arguments import at_least_one
from yolothreads.errors import ArgumentError, PoolClosedError
from yolothreads.pools.image import Image
from yolothreads.pools.settings import check_settings
from yolothreads.weights import check

if TYPE_CHECKING:
    from ultralytics.engine.results import Results


class Pool(ABC):
    """Detect objects in images with a number of workers.

        with ModelPerThread(weights, workers=4, device="cpu", imgsz=640) as pool:
            future = pool.submit(image, conf=0.5)
            for result in pool.map(images):
                ...

    An image is a path or an (H, W, 3) uint8 BGR array. A result is an ultralytics `Results` on the CPU. An error in one
    image belongs to that image's future; the other images still get their results.

    Args:
        weights: "bundled", a path, or an official name; checked as `yolothreads.weights.check` says.
        workers: how many workers, 1 or more.
        device: "cpu", "cuda", "cuda:N", "mps", or "auto" for the best one here.
        imgsz: the size in pixels that images are brought to.
        threads: how many threads torch may use in each worker on the CPU; by default its share of the cores.
        settings: further settings of `YOLO.predict` that hold for every call, e.g. `conf=0.25`.

    Raises:
        ArgumentError, DeviceError, WeightsError: at once, when the pool is made.
    """

    def __init__(
        self,
        weights: str | os.PathLike[str] = "bundled",
        *,
        workers: int = 2,
        device: str = "auto",
        imgsz: int = 640,
        threads: int | None = None,
        **settings: Any,
    ) -> None:
        self.workers = at_least_one("workers", workers)
        self.imgsz = at_least_one("imgsz", imgsz)
        self.threads = max(1, devices.cores() // self.workers) if threads is None else at_least_one("threads", threads)
        check_settings(settings, of_pool=True)
        self.device = devices.resolve(device)
        self.weights = check(weights, task=None)
        self.settings = settings
        self.start_up_s = 0.0  # seconds that the last opening took: loading and warming up
        self._is_open = False

    @property
    def at_once(self) -> int:
        """How many images it works on at the same time; `map` keeps twice as many under way."""
        return self.workers

    # What a strategy decides.

    @abstractmethod
    def _start(self) -> None:
        """Start the workers; they are loaded and warmed up when this returns."""

    @abstractmethod
    def _submit(self, image: Image, settings: dict[str, Any]) -> Future[Results]:
        """Have a worker do one image."""

    @abstractmethod
    def _stop(self, *, cancel: bool, wait: bool) -> None:
        """End the workers, after a failed or interrupted `_start` too; called again, it ends what is left.

        cancel: drop the work that has not begun. wait: return only when every worker has ended.
        """

    # The four verbs.

    def __enter__(self) -> Self:
        """Start the workers; they are loaded and warmed up when this returns."""
        if self._is_open:
            raise PoolClosedError(f"This {type(self).__name__} is open already; leave its `with` block first.")
        self._stop(cancel=False, wait=True)  # what `shutdown(wait=False)` has left
        start = perf_counter()
        try:
            self._start()
        except BaseException:
            self._stop(cancel=True, wait=True)
            raise
        self._is_open = True
        self.start_up_s = perf_counter() - start
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        """Finish the work and join the workers; after an exception or Ctrl-C, drop the work that has not begun."""
        self.shutdown(cancel_futures=kind is not None)

    def submit(self, image: Image, **settings: Any) -> Future[Results]:
        """Ask for one image to be done; gives a future of its `Results`.

        Raises:
            ArgumentError: a setting that `YOLO.predict` does not know, or one that belongs to the whole pool.
            PoolClosedError: the pool is not open.
        """
        check_settings(settings)
        self._check_open()
        return self._submit(image, settings)

    def map(
        self, images: Iterable[Image], *, errors: Literal["raise", "return"] = "raise", **settings: Any
    ) -> Iterator[Results | Exception]:
        """Do many images; gives their results in the order of the images.

        Images are taken from the iterable as they are needed: at most `2 * at_once` are under way. With
        `errors="return"` an image that fails gives its exception as its result, and the others go on; with "raise"
        (as `concurrent.futures` does) the first one ends the iteration.
        """
        if errors not in ("raise", "return"):
            raise ArgumentError(f'errors="{errors}" is not known; use "raise" or "return".')
        self._check_open()
        check_settings(settings)
        return self._in_order(images, errors == "return", settings)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the pool as `concurrent.futures.Executor.shutdown` does; calling it twice does no harm."""
        self._is_open = False
        self._stop(cancel=cancel_futures, wait=wait)

    # How it is done.

    def _check_open(self) -> None:
        if not self._is_open:
            raise PoolClosedError(f"This {type(self).__name__} is not open; use it inside `with ... as pool:`.")

    def _in_order(
        self, images: Iterable[Image], give_errors: bool, settings: dict[str, Any]
    ) -> Iterator[Results | Exception]:
        under_way: deque[Future[Results]] = deque()

        def next_result() -> Results | Exception:
            future = under_way.popleft()
            try:
                return future.result()
            except Exception as error:
                if give_errors:
                    return error
                raise

        try:
            for image in images:
                self._check_open()
                under_way.append(self._submit(image, settings))
                if len(under_way) >= 2 * self.at_once:
                    yield next_result()
            while under_way:
                yield next_result()
        finally:
            for future in under_way:
                future.cancel()
