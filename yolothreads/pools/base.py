"""The base class of all pools, which has the methods of an executor, and the model that every worker loads.

A strategy fills in three steps of the base class. How an image becomes pixels stands in `images`.
"""

from __future__ import annotations

import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeVar, cast, overload

import numpy as np
from numpy.typing import NDArray

from yolothreads import allocator, devices, exported
from yolothreads.devices import Device, Devices
from yolothreads.errors import (
    ArgumentError,
    PoolClosedError,
    WeightsError,
    at_least_one,
    need_extra,
    need_libraries,
    not_negative,
)
from yolothreads.exported import Exported, format_of, import_openvino
from yolothreads.pools import forking
from yolothreads.pools.asking import answer_of
from yolothreads.pools.feed import Feed, in_order, stop_feeds
from yolothreads.pools.images import Image, Images, expand
from yolothreads.sources import join_all
from yolothreads.weights import Snapshot, Weights, channels_of, check

if TYPE_CHECKING:
    from ultralytics import YOLO
    from ultralytics.engine.results import Results

AnyPool = TypeVar("AnyPool", bound="Pool")
Size = int | tuple[int, int]
"""A side in pixels, or (height, width)."""

_IMGSZ = 640  # the default, in place of which an exported model of a fixed size has its own

Predict = Callable[..., list["Results"]]
"""A function like `YOLO.predict`: it takes pixels and predict settings, and returns one result per image."""


class Pool(ABC):
    """Detect objects in images with a number of workers.

        with ModelPerThread(weights, workers=4, device="cpu", imgsz=640) as pool:
            future = pool.submit(image, conf=0.5)
            for result in pool.map(images):
                ...

    An image is a path; the bytes of a picture file; a PIL image; or an array of uint8 or uint16 pixels, (H, W, 3) in
    the order BGR, (H, W, 4) BGRA, or grey (H, W) or (H, W, 1). A thread of the pool reads it as `YOLO.predict` does.
    Float and int32 pixels, URLs, animations and videos are errors. A result is an ultralytics `Results` on the CPU. An
    error in one image belongs to the future of that image; the other images still get their results.

    A pool writes no files, so it refuses `save=True` and the like: call `result.save(...)`, `result.save_txt(...)` or
    `result.save_crop(...)`.

    Args:
        weights: "bundled", a path, or an official name, checked as `yolothreads.weights.check` describes; or a `YOLO`
            object, of which the pool uses a copy that it makes now. Most pools also take an exported model: an .onnx or
            .torchscript file, or an OpenVINO folder.
        workers: the number of workers, 1 or more.
        device: "cpu", "cuda", "cuda:N", "mps", or "auto" for the best one here; or what `YOLO.predict` takes for one
            device: 0, "0", None, a `torch.device`. A pool that has a model per worker also takes several, such as
            ("cuda:0", "cuda:1"): its workers take turns with them.
        imgsz: the size in pixels to which images are scaled: of the longer side, or (height, width). An exported model
            of one size has its own.
        threads: the number of threads that torch may use in each worker on the CPU. By default its share of the cores
            that this process is given (`yolothreads.devices.cores`), taken again at each opening; it is 1 if a
            measurement at the opening shows that more threads take more than twice the time.
        allow: the full names of classes of your own that the weights contain, such as "my_pkg.MyBlock". Every worker
            checks that the file needs no others; none of those is loaded.
        settings: further settings of `YOLO.predict` that hold for every call, such as `conf=0.25`. `half=True` computes
            in half precision on a GPU; on a CPU it has no effect, as in `YOLO.predict`.

    Raises:
        ArgumentError, DeviceError, ExtraError, WeightsError: at once, when the pool is made.
    """

    one_worker: ClassVar[bool] = False
    """Whether pools of this class always have one worker, so that they refuse any other number."""

    spreads: ClassVar[bool] = False
    """Whether pools of this class have a model per worker, so that workers may use different devices."""

    extra: ClassVar[str] = "pools"
    """The extra of this package that pools of this class need."""

    formats: ClassVar[tuple[str, ...]] = ("pt", "onnx", "torchscript", "openvino")
    """The formats of the weights that pools of this class take."""

    def __init__(
        self,
        weights: Weights = "bundled",
        *,
        workers: int = 2,
        device: Devices = "auto",
        imgsz: Size = _IMGSZ,
        threads: int | None = None,
        allow: Iterable[str] = (),
        **settings: Any,
    ) -> None:
        name = type(self).__name__
        need_extra(name, self.extra)
        self.workers = at_least_one("workers", workers)
        if self.one_worker and workers != 1:
            raise ArgumentError(f"workers={workers} makes no sense: {name} has one worker; leave it out.")
        self.imgsz = _checked_size(imgsz)
        self._shares_cores = threads is None
        self.threads = self._share_of_cores() if threads is None else at_least_one("threads", threads)
        self.allow = allow if isinstance(allow, str) else tuple(allow)
        if not isinstance(weights, str | os.PathLike):
            self._snapshot = Snapshot(weights, self.allow)  # keeps the file for as long as the pool exists
            weights, settings = self._snapshot.file, {**self._snapshot.settings, **settings}
        settings = _with_present_names(settings)
        self._check_settings(settings, of_pool=True)
        self.devices = self._resolve_all(device)
        self.device = self.devices[0]
        self.weights = check(weights, task=None, allow=self.allow, formats=Pool.formats)
        self._check_weights(imgsz, settings)
        self.channels = channels_of(self.weights, self.allow)  # of the images that the model takes
        self.settings = settings
        self.start_up_s = 0.0  # the seconds that the last opening took: loading and warming up
        self._is_open = False
        self._is_parents = False  # whether it is open in the parent of this forked process, and not here

    @property
    def at_once(self) -> int:
        """The number of images that the pool works on at the same time."""
        return self.workers

    # --- the steps that a strategy fills in ---

    @abstractmethod
    def _start(self) -> None:
        """Start the workers; they are loaded and warmed up when this returns."""

    @abstractmethod
    def _submit(self, image: Image, settings: dict[str, Any]) -> Future[Results]:
        """Hand one image to a worker."""

    @abstractmethod
    def _stop(self, *, cancel: bool, wait: bool) -> None:
        """End the workers, also after a failed or interrupted `_start`; a second call ends what is left.

        cancel: drop the work that has not begun. wait: return only when every worker has ended.
        """

    # --- the methods of an executor ---

    def open(self) -> Self:
        """Start the workers; they are loaded and warmed up when this returns. A `with` block does the same.

        Raises:
            PoolClosedError: the pool is already open.
        """
        if self._is_open:
            raise PoolClosedError(f"This {type(self).__name__} is open already; close it first.")
        self._is_parents = False
        forking.watch(self)
        self._stop(cancel=False, wait=True)  # what `close(wait=False)` has left
        start = perf_counter()
        if self._shares_cores:
            self.threads = self._share_of_cores()
        try:
            self._start()
        except BaseException:
            self._stop(cancel=True, wait=True)
            raise
        allocator.return_freed()  # loading frees much: 108 of 604 MB with yolo11m
        self._is_open = True
        self.start_up_s = perf_counter() - start
        return self

    def close(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the pool as `concurrent.futures.Executor.shutdown` does; a second call does no harm.

        Args:
            wait: return only when the work is done and every worker has ended.
            cancel_futures: drop the work that has not begun.
        """
        self._is_open = self._is_parents = False
        feeds = stop_feeds(self)
        try:
            self._stop(cancel=cancel_futures, wait=wait)
        finally:
            join_all(feeds if wait else ())

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the pool; the name that `concurrent.futures.Executor` has for `close`."""
        self.close(wait, cancel_futures=cancel_futures)

    def __enter__(self) -> Self:
        """Open the pool."""
        return self.open()

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        """Finish the work and join the workers; after an exception or Ctrl-C, drop the work that has not begun."""
        self.close(cancel_futures=kind is not None)

    def submit(self, image: Image, *, block: bool = True, **settings: Any) -> Future[Results]:
        """Hand in one image; return a future of its `Results`.

        An array or a PIL image is not copied: it must not change before the result is there.

        Args:
            image: as described at `Pool`.
            block: only for a pool with a bounded queue, see `BatchingWorker.submit`; the others never wait here.
            settings: settings of `YOLO.predict` for this image.

        Raises:
            ArgumentError: `YOLO.predict` does not know a setting, or a setting belongs to the whole pool.
            PoolClosedError: the pool is not open.
        """
        self._check_settings(settings)
        self._check_open()
        return self._submit(image, settings)

    async def predict(self, image: Image, *, block: bool = True, **settings: Any) -> Results:
        """Return the `Results` of one image, for asyncio: `result = await pool.predict(image, conf=0.5)`.

        The event loop never waits: a worker reads the file, and a call for which a queue has no room waits without a
        thread. A coroutine that is cancelled, also by a time-out, cancels its call. If a worker has begun with it, the
        answer is dropped. Any number of event loops and threads may share a pool.

        Args:
            image: as in `submit`; an array must not change before the result is there.
            block: as in `submit`.
            **settings: as in `submit`.

        Raises:
            ArgumentError, PoolClosedError, QueueFullError: as `submit` does.
            Exception: the error of this image, as its future has it.
        """
        return await answer_of(self.submit(image, block=block, **settings))

    @overload
    def map(
        self,
        images: Images,
        *,
        timeout: float | None = None,
        buffersize: int | None = None,
        copy: bool = True,
        return_exceptions: Literal[False] = False,
        errors: None = None,
        **settings: Any,
    ) -> Iterator[Results]: ...

    @overload
    def map(
        self,
        images: Images,
        *,
        timeout: float | None = None,
        buffersize: int | None = None,
        copy: bool = True,
        return_exceptions: bool = False,
        errors: Literal["raise", "return"] | None = None,
        **settings: Any,
    ) -> Iterator[Results | Exception]: ...

    def map(
        self,
        images: Images,
        *,
        timeout: float | None = None,
        buffersize: int | None = None,
        copy: bool = True,
        return_exceptions: bool = False,
        errors: Literal["raise", "return"] | None = None,
        **settings: Any,
    ) -> Iterator[Results | Exception]:
        """Return the results of many images, in the order of the images, as soon as they are ready.

        Nothing begins before the first result is asked for. Then a thread of its own reads `images`, however slow they
        come, until they end, or the iterator is closed or dropped, or the pool is closed; if they are a generator, that
        thread also closes it. Closing waits for up to 2 s for a source that is in the middle of an image. A source that
        blocks for ever keeps its thread, a daemon whose name begins with "source of".

        Args:
            images: the images; the pool takes them as it needs them. If they raise an error, it comes after the results
                of all earlier images. A path stands for the pictures of a folder, of a glob such as "photos/*.jpg", or
                of a .txt or .csv list, sorted as `YOLO.predict` does.
            timeout: the seconds, counted from this call, after which a result that is missing is a `DeadlineError`.
            buffersize: the largest number of images that are taken before their results; by default `2 * at_once`. With
                1, the next image is taken only after the next result was asked for, so that it may be made from the
                last result.
            copy: whether each array and PIL image is copied when it is taken, because the source may write the next
                image into the same memory. Without, no image may change before its result is there.
            return_exceptions: whether the exception of an image takes the place of its result, and the others go on.
                By default the first exception ends the iteration.
            errors: deprecated; "return" means `return_exceptions=True`.
            settings: settings of `YOLO.predict` for these images.

        Raises:
            ArgumentError: an argument or a setting is not valid.
            ImageError: there is no such folder, or it holds no pictures.
            PoolClosedError: the pool is not open. Also from the iterator: it was closed meanwhile.
            DeadlineError: from the iterator: a result was not there in time. It is a `TimeoutError` too.
        """
        if errors is not None:
            if errors not in ("raise", "return"):
                raise ArgumentError(f'errors="{errors}" is not known; use return_exceptions=True or False.')
            warnings.warn("errors= of map is deprecated; use return_exceptions=.", DeprecationWarning, stacklevel=2)
            return_exceptions = return_exceptions or errors == "return"
        ahead = 2 * self.at_once if buffersize is None else at_least_one("buffersize", buffersize)
        end = None if timeout is None else monotonic() + not_negative("timeout", timeout)
        self._check_open()
        self._check_settings(settings)

        def hand_in(image: Image) -> Future[Results]:
            return self._submit(image, settings)

        feed = Feed(self, self._check_open, hand_in, ahead=ahead, copy=copy)
        return in_order(feed, expand(images), end, return_exceptions)

    # --- the inside ---

    _exported: Exported | None = None

    def _check_weights(self, imgsz: Size, settings: dict[str, Any]) -> None:
        """Refuse weights that this pool cannot use, or that do not fit a setting; take over the size of an export."""
        kind = exported.format_of(self.weights)
        if kind not in self.formats:
            name = type(self).__name__
            raise WeightsError(f'{name} cannot use "{self.weights}"; use ModelPerThread, or give a .pt file.')
        if kind == "pt":
            return
        for library in exported.LIBRARIES.get(kind, ()):
            need_libraries(f'"{self.weights.name}"', library, install=library)
        self._exported = model = exported.read(self.weights)
        model.check_settings(settings if imgsz == _IMGSZ else {**settings, "imgsz": imgsz})
        if model.fixed_imgsz is not None:
            height, width = model.fixed_imgsz
            self.imgsz = height if height == width else (height, width)

    def _check_open(self) -> None:
        if self._is_open:
            return
        if self._is_parents:
            raise PoolClosedError(
                f"This {type(self).__name__} was opened before this process was forked, and a fork copies none of its "
                "workers; open the pool in the child."
            )
        raise PoolClosedError(f"This {type(self).__name__} is not open; call open(), or use `with ... as pool:`.")

    def left_by_fork(self) -> None:
        """Forget, in a forked child, the workers of the parent; a pool that was open must be opened again."""
        self._is_parents, self._is_open = self._is_open, False

    @property
    def _may_fall_back(self) -> bool:
        """Whether the workers may use one torch thread instead of `threads`, if they measure that it is faster."""
        return self._shares_cores and self.threads > 1 and set(self.devices) == {"cpu"}

    def _share_of_cores(self) -> int:
        return max(1, devices.cores() // self.workers)

    def _resolve_all(self, device: Devices) -> tuple[str, ...]:
        """Return the names of the devices over which the workers are spread."""
        if not isinstance(device, tuple | list):
            return (self._resolve(cast(Device, device)),)
        if not self.spreads:
            raise ArgumentError(
                f"device={device!r}: {type(self).__name__} has one model on one device; give one, or use "
                "ModelPerThread, ModelPerProcess or RayActors, whose workers may use several."
            )
        if not 1 <= len(device) <= self.workers:
            raise ArgumentError(f"device={device!r} does not fit {self.workers} workers; give 1 to {self.workers}.")
        return tuple(map(self._resolve, device))

    def device_of(self, worker: int) -> str:
        """Return the name of the device that a worker uses; workers are numbered from 0 on."""
        return self.devices[worker % len(self.devices)]

    def _resolve(self, device: Device) -> str:
        """Return the name of the device that the pool uses for `device`."""
        return devices.resolve(device)

    def _check_settings(self, settings: dict[str, Any], *, of_pool: bool = False) -> None:
        """Raise an ArgumentError for settings that `YOLO.predict` does not know, or that cannot be chosen here.

        Args:
            settings: predict settings by name.
            of_pool: whether the settings are those of the whole pool. Otherwise they are those of single images.
        """
        if not settings:
            return
        from ultralytics.engine.model import PREDICTOR_SETUP_KEYS  # undocumented: see tests/pools/test_private_names.py
        from ultralytics.utils import DEFAULT_CFG_DICT

        if "max_workers" in settings:
            raise ArgumentError(f'"max_workers" is not an option of a pool; use workers={settings["max_workers"]!r}.')
        for name, value in settings.items():
            if name in _WRITES and value:
                raise ArgumentError(f'A pool writes no files, so "{name}" cannot be set; {_WRITES[name]}.')
            if name in _DECIDED_BY_POOL:
                raise ArgumentError(f'The pool decides on "{name}"; leave it out.')
            if name in (*PREDICTOR_SETUP_KEYS, "half") and not of_pool:
                raise ArgumentError(f'"{name}" cannot be set for single images; choose it when you make the pool.')
            if name not in DEFAULT_CFG_DICT:
                raise ArgumentError(f'"{name}" is not a setting of YOLO.predict; its documentation lists all settings.')
        if self._exported is not None:
            self._exported.check_settings(settings)


def make_pool(
    kind: Callable[..., AnyPool],
    weights: Weights = "bundled",
    *,
    workers: int | None = None,
    **options: Any,
) -> AnyPool:
    """Make a pool of any kind; a kind that always has one worker gets one, whatever `workers` says.

    Args:
        kind: the class of the pool, or a `functools.partial` of it.
        weights: as that class takes them.
        workers: the number of workers; by default that of the class.
        **options: further arguments of that class.

    Raises:
        ArgumentError, DeviceError, ExtraError, WeightsError: as making the pool does.
    """
    if workers is not None:
        at_least_one("workers", workers)
        options["workers"] = 1 if getattr(getattr(kind, "func", kind), "one_worker", False) else workers
    return kind(weights=weights, **options)


# --- settings ---

_DECIDED_BY_POOL = ("source", "stream", "predictor", "model", "embed", "show")
_PLACE = 'give the place to the result: result.save("photos/1.jpg")'
_WRITES = {
    "save": 'use the result: result.save("1.jpg")',
    "save_txt": 'use the result: result.save_txt("1.txt")',
    "save_conf": 'use the result: result.save_txt("1.txt", save_conf=True)',
    "save_crop": 'use the result: result.save_crop("crops", "1.jpg")',
    "save_frames": 'use the results of map(frames(path)): result.save("1.jpg")',
    "visualize": "call YOLO.predict, without a pool",
    **dict.fromkeys(("project", "name", "save_dir", "exist_ok"), _PLACE),
}
"""What to do instead of each setting with which `YOLO.predict` writes files, or that only says where it does.

A pool gives `YOLO.predict` pixels without a name: every picture would be written to the same file.
"""


def _checked_size(imgsz: Size) -> Size:
    """Return a whole number, or a pair of them as a tuple; otherwise raise an ArgumentError."""
    if isinstance(imgsz, tuple | list) and len(imgsz) == 2:
        return at_least_one("imgsz", imgsz[0]), at_least_one("imgsz", imgsz[1])
    if isinstance(imgsz, tuple | list):
        raise ArgumentError(f"imgsz={imgsz!r} makes no sense; give a whole number, or (height, width).")
    return at_least_one("imgsz", imgsz)


def sides(imgsz: Size) -> tuple[int, int]:
    """Return height and width in pixels."""
    return imgsz if isinstance(imgsz, tuple) else (imgsz, imgsz)


def blank(imgsz: Size, channels: int) -> NDArray[np.uint8]:
    """Return a black image for warming up, (height, width, channels) uint8."""
    return np.zeros((*sides(imgsz), channels), np.uint8)


def _with_present_names(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings with "half", an older name that ultralytics warns of, under its present name."""
    if "half" not in settings:
        return settings
    renamed = {name: value for name, value in settings.items() if name != "half"}
    return {"quantize": 16 if settings["half"] else None, **renamed}


# --- the model of every worker ---


def load(
    weights: str | os.PathLike[str],
    imgsz: Size,
    device: str,
    settings: dict[str, Any],
    channels: int = 3,
    allow: Iterable[str] = (),
) -> YOLO:
    """Load a YOLO object and run its first prediction, which sets up its predictor.

    Later calls set nothing up. `imgsz`, `device` and `settings` hold for all predictions, unless a call overrides them.
    The weights are checked once more, because they may have changed, and this may be another process.

    Raises:
        WeightsError: as `yolothreads.weights.check` does, or an exported model could not be loaded.
    """
    from ultralytics import YOLO

    file = check(weights, task=None, allow=allow, formats=Pool.formats)
    if format_of(file) == "openvino":
        import_openvino()
    model = YOLO(file)
    model.overrides.update(imgsz=imgsz, device=device, verbose=False)
    try:
        model.predict(blank(imgsz, channels), **settings)
    except Exception as error:
        if model.predictor is None or model.predictor.model is not None:
            raise
        raise WeightsError(
            f'"{weights}" could not be loaded ({type(error).__name__}: {" ".join(str(error).split())[:200]}); export '
            "the model again."
        ) from error
    return model
