"""Sources of images: frames of files and cameras, the newest frame of a live source, and the thread that reads one."""

from __future__ import annotations

import atexit
import os
import re
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeGuard, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from yolothreads.errors import ArgumentError, SourceError, not_negative

if TYPE_CHECKING:
    import cv2
    import PIL.Image

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
Frame = NDArray[np.uint8]
"""(H, W, 3) uint8, BGR."""

GRACE_S = 2.0  # that closing waits for a source which is in the middle of an item


def own_copy(image: Any) -> Any:
    """Return a copy of an array, a buffer or a PIL image, which the source may write again; anything else as it is."""
    if isinstance(image, np.ndarray):
        return image.copy()
    if isinstance(image, bytearray | memoryview):
        return bytes(image)
    pil = sys.modules.get("PIL.Image")  # where nobody has imported it, there is no such image
    if pil is not None and isinstance(image, pil.Image):
        load_pil(image)
        own = image.copy()
        own.filename = getattr(image, "filename", "")  # a result has it as its path
        return own
    return image


def load_pil(image: PIL.Image.Image) -> None:
    """Make a PIL image read its file, which it does only when it is asked for pixels or EXIF data.

    Two threads must not do that to one image at once.
    """
    with _loading[id(image) // 16 % len(_loading)]:
        image.load()
        image.getexif()


# An image finds its lock by its identity, which few other images share.
_loading = tuple(threading.Lock() for _ in range(16))


# --- a source that is read by a thread of its own ---


class Reading(ABC, Generic[_Item]):
    """A source that a thread of its own reads, item by item, until it ends or `stop` is called.

    The source is closed in that thread if it is a generator. The thread is a daemon, because nothing can interrupt a
    source that blocks for ever; such a thread ends when its source gives something.

    Args:
        name: the name of the thread.
    """

    def __init__(self, name: str) -> None:
        self._changed = threading.Condition()
        self._ended = False  # no more items: the source has ended, or `stop` was called
        self._error: BaseException | None = None  # that ended it
        self._error_in_closing: BaseException | None = None
        self._left = threading.Event()  # the thread has done all but end
        self._name, self._pid = name, os.getpid()
        self._thread: threading.Thread | None = None
        self._live: Latest[_Item] | None = None

    @abstractmethod
    def _may_read(self) -> bool:
        """Wait until the next item may be read; return False when no more is wanted. Called in the thread."""

    @abstractmethod
    def _take(self, item: _Item) -> None:
        """Use an item. Called in the thread; an error ends the reading."""

    def start(self, source: Iterable[_Item]) -> None:
        """Start the thread. Only the thread keeps the source, unless that is a `Latest`."""
        self._live = source if isinstance(source, Latest) else None
        name = f"{self._name}: {getattr(source, '__name__', type(source).__name__)}"
        self._thread = threading.Thread(target=self._run, args=(source,), name=name, daemon=True)
        _running.add(self)  # before it runs, because Ctrl-C may interrupt the call that starts it
        try:
            self._thread.start()
        except RuntimeError:  # there is no room for another thread
            self._thread = None
            _running.discard(self)
            raise

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def is_lost(self) -> bool:
        """Whether this is a forked child, which has no copy of the thread; then the locks may be held for ever."""
        return self._pid != os.getpid()

    def stop(self, error: BaseException | None = None) -> None:
        """Tell the thread to end, and do not wait; `error` is what ends the reading, if the source has not ended."""
        if self.is_lost:
            return
        with self._changed:
            if not self._ended:
                self._ended, self._error = True, error
            self._changed.notify_all()
        if self._live is not None:
            self._live.stop()  # the thread waits there, not in the camera

    def raise_error(self) -> None:
        """Raise, once, the error that ended the reading."""
        error, self._error = self._error, None
        _raise(error)

    def join(self, grace_s: float = GRACE_S) -> None:
        """Wait for the thread after `stop`, for at most so many seconds while its source blocks."""
        # The event first, because before Python 3.13 a `Thread.join` that Ctrl-C interrupts takes the thread for ended.
        if self._thread not in (None, threading.current_thread()) and not self.is_lost and self._left.wait(grace_s):
            self._thread.join(GRACE_S)  # it drops its source, whose end may take time, too
            _running.discard(self)

    def close(self, grace_s: float = GRACE_S) -> None:
        """End the thread, and wait for it as `join` does.

        Raises:
            BaseException: what closing the source raised.
        """
        self.stop()
        self.join(grace_s)
        error, self._error, self._error_in_closing = self._error_in_closing, None, None
        _raise(error)

    def _run(self, source: Iterable[_Item]) -> None:
        error = None
        try:
            self._read(source)
        except BaseException as failure:
            error = failure
        with self._changed:
            if not self._ended:
                self._ended, self._error = True, error
            self._changed.notify_all()
        del error  # its traceback keeps this frame alive
        self._left.set()

    def _read(self, source: Iterable[_Item]) -> None:
        items = iter(source)
        try:
            while self._may_read():
                try:
                    item = next(items)
                except StopIteration:
                    return
                self._take(item)
                del item  # so that nothing is kept while this waits
        finally:
            if isinstance(items, Generator):
                self._close(items)

    def _close(self, items: Generator[_Item, Any, Any]) -> None:
        try:
            items.close()
        except BaseException as error:
            self._error_in_closing = error


def _raise(error: BaseException | None) -> None:
    try:
        if error is not None:
            raise error
    finally:
        del error  # or its traceback would keep this frame alive, which would keep the error alive


_running: set[Reading[Any]] = set()
"""All readings whose threads have started, until they are joined."""


def running() -> list[Reading[Any]]:
    """Return the readings whose threads run."""
    for reading in _running.copy():
        if not reading.is_alive:  # it was blocked when somebody waited for it, and has ended since
            _running.discard(reading)
    return list(_running.copy())


def join_all(readings: Iterable[Reading[Any]]) -> None:
    """Wait for the threads of readings that were stopped, for at most `GRACE_S` in all while sources block."""
    end = time.monotonic() + GRACE_S
    for reading in readings:
        reading.join(max(0.0, end - time.monotonic()))


@atexit.register
def _end_all() -> None:
    """End the threads before the interpreter ends, which would stop them in the middle of OpenCV."""
    readings = running()
    for reading in readings:
        reading.stop()
    join_all(readings)


# --- the newest frame of a live source ---


class Latest(Generator[_Item, None, None]):
    """An iterator over a live source that gives the newest item each time, and drops those that came in between.

    A thread of its own reads the source as fast as that gives, from the first item that is asked for until the source
    ends, or this iterator is closed or dropped. `pool.map` and `Camera.follow` close it as they close a generator.
    """

    def __init__(self, source: Iterable[_Item], *, copy: bool = True) -> None:
        self._source: Iterable[_Item] | None = source
        self._newest = _Newest[_Item](copy)
        self._starting = threading.Lock()  # several threads may ask
        self._times: deque[float] | None = None

    @property
    def dropped(self) -> int:
        """The number of items that were dropped because a newer one came before they were asked for."""
        return self._newest.dropped

    def send(self, value: None = None) -> _Item:
        """Return the newest item that was not given yet; wait for one if there is none."""
        with self._starting:
            source, self._source = self._source, None
            if source is not None:
                self._newest.start(source)
        item, taken_at = self._newest.wait()
        if self._times is not None:
            self._times.append(taken_at)
        return item

    def stop(self) -> None:
        """Give nothing more, and tell the thread to end; do not wait. Any thread may call this at any time."""
        self._newest.stop()

    def throw(self, *error: Any) -> Any:
        """End the thread, as `close` does, and raise the error."""
        self._source = None
        self._newest.close(GRACE_S)
        return super().throw(*error)  # raises it

    def __del__(self) -> None:
        """Let the thread end after its next item; take no lock, because this may run anywhere."""
        self._newest._ended = True

    def with_age(self, results: Iterable[_Result]) -> Iterator[tuple[_Result, float]]:
        """Pair each result with its age: the milliseconds from the moment when its item was taken from the source.

            live = latest(frames(0))
            for result, age_ms in live.with_age(pool.map(live, buffersize=2)):
                ...

        Args:
            results: one result per item, in the order of the items, as `pool.map` and `Camera.follow` give them.

        Raises:
            ArgumentError: the first item was asked for already.
        """
        if self._source is None:
            raise ArgumentError("The first item was asked for already; call with_age before that.")
        times = self._times = deque()
        return ((result, 1000 * (time.perf_counter() - times.popleft())) for result in results)


class _Newest(Reading[_Item]):
    """A reading that keeps the newest item only."""

    def __init__(self, copy: bool) -> None:
        super().__init__("source of latest")
        self._copy = own_copy if copy else (lambda item: item)
        self._waiting: tuple[_Item, float] | None = None  # the item, and when it was taken
        self.dropped = 0

    def wait(self) -> tuple[_Item, float]:
        """Return the newest item and the time at which it was taken, in seconds of `time.perf_counter`.

        Raises:
            StopIteration: the source has ended. Or the error of the source, after its last item.
        """
        if self.is_lost:
            raise SourceError("This source is read in the parent process; open it again in the child.")
        with self._changed:
            self._changed.wait_for(lambda: self._waiting is not None or self._ended)
            waiting, self._waiting = self._waiting, None
        if waiting is None:
            self.raise_error()
            raise StopIteration
        return waiting

    def _may_read(self) -> bool:
        return not self._ended

    def _take(self, item: _Item) -> None:
        taken_at = time.perf_counter()
        own = self._copy(item)
        with self._changed:
            if self._ended:
                return
            self.dropped += self._waiting is not None
            self._waiting = own, taken_at
            self._changed.notify_all()


def latest(source: Iterable[_Item], *, copy: bool = True) -> Latest[_Item]:
    """Wrap a live source, so that a pool always works on its newest frame; count the frames that are dropped.

        live = latest(frames("rtsp://camera/1"))
        for result in pool.map(live, buffersize=1):
            ...
        print(live.dropped)

    The queue of a camera holds one frame, so that N cameras over one pool stay fair: give each a `latest` and a `map`
    (or a `Camera`) of its own. Frames that a pool has taken are not dropped any more: `buffersize` bounds their number,
    and so the age of the results. A thread of its own reads the source. Nothing begins before the first frame is asked
    for. The last frame is never dropped, and comes before the error of a source that raises.

    Args:
        source: an iterable of images, such as `frames(...)` or a generator around the library of a camera.
        copy: whether arrays and PIL images are copied when they are taken. Without, the source must not write an array
            again before its result is there.
    """
    return Latest(source, copy=copy)


# --- files, folders, videos, cameras and streams ---


def frames(
    source: str | os.PathLike[str] | int | Sequence[str | os.PathLike[str]],
    *,
    realtime: bool = False,
    reconnect: int = 0,
    pause_s: float = 1.0,
    timeout_s: float = 10.0,
) -> Generator[Frame, None, None]:
    """Read frames with OpenCV: (H, W, 3) uint8 BGR arrays, each one new.

    The first video, camera or stream is opened at once, so that an error comes here. Each is closed when it has ended,
    and when the iterator is closed or dropped.

    Args:
        source: a picture, GIF or video file; a folder, whose files come in the order of their names; a pattern such as
            "clips/*.mp4"; a list of such; the number of a webcam; or the address of a stream, such as "rtsp://...".
        realtime: whether the frames of a video file come at its own rate, as from a camera.
        reconnect: how many times in a row a camera or stream is opened again after it has broken off.
        pause_s: the seconds before each of these times.
        timeout_s: the seconds after which a stream that gives nothing counts as broken off.

    Raises:
        ArgumentError: an argument makes no sense.
        SourceError: at once, or from the iterator: a source cannot be opened, or has broken off. It is an ImageError.
    """
    if isinstance(reconnect, bool) or not isinstance(reconnect, int) or reconnect < 0:
        raise ArgumentError(f"reconnect={reconnect!r} makes no sense; give a whole number, 0 or more.")
    not_negative("pause_s", pause_s)
    not_negative("timeout_s", timeout_s)
    if _is_live(source):
        return _live(_open(source, timeout_s), source, reconnect, pause_s, timeout_s)
    files = _files(source)
    first = None if _is_picture(files[0]) else _open(files[0], timeout_s)
    return _in_files(files, first, realtime, timeout_s)


def _is_live(source: object) -> TypeGuard[str | int]:
    """Return whether a source is a camera or a stream."""
    if isinstance(source, str):
        return "://" in source or (source.isdecimal() and not Path(source).exists())
    return isinstance(source, int) and not isinstance(source, bool)


def _files(source: object) -> list[str]:
    """Return the files of a source.

    Raises:
        ArgumentError, SourceError: it is no source, or has no files.
    """
    from ultralytics.data.utils import IMG_FORMATS, VID_FORMATS

    if isinstance(source, Sequence) and not isinstance(source, str | bytes):
        if not source:
            raise SourceError("The list of files is empty; name at least one picture or video.")
        if any(map(_is_live, source)):
            raise ArgumentError("A camera in a list would never end; give each camera a frames() of its own.")
        return [file for one in source for file in _files(one)]
    if not isinstance(source, str | os.PathLike):
        raise ArgumentError(f"A {type(source).__name__} is no source; give a path, a list of paths, or a camera.")
    path = Path(source)
    if path.is_file():
        return [str(path)]
    if path.is_dir():
        found, place = path.iterdir(), "folder"
    elif set("*?[") & set(str(path)):
        found, place = Path(path.anchor).glob(str(path.relative_to(path.anchor))), "pattern"
    else:
        raise SourceError(f'There is no file, folder or camera "{path}"; check the path.')
    files = sorted(str(file) for file in found if _suffix(file) in IMG_FORMATS | VID_FORMATS and file.is_file())
    if not files:
        raise SourceError(f'The {place} "{path}" has no picture and no video; check the path.')
    return files


def _suffix(file: str | Path) -> str:
    return Path(file).suffix[1:].lower()


def _is_picture(file: str) -> bool:
    from ultralytics.data.utils import IMG_FORMATS

    return _suffix(file) in IMG_FORMATS


def _in_files(
    files: list[str], first: cv2.VideoCapture | None, realtime: bool, timeout_s: float
) -> Generator[Frame, None, None]:
    from ultralytics.utils.patches import imread  # the function with which YOLO.predict reads files

    for file in files:
        if not _is_picture(file):
            capture, first = first or _open(file, timeout_s), None
            yield from _captured(capture, realtime)
        elif (pixels := imread(file)) is not None:
            yield cast(Frame, pixels)
        else:
            raise SourceError(f'"{file}" could not be read as a picture; the file is damaged or of an unknown format.')


def _captured(capture: cv2.VideoCapture, realtime: bool = False) -> Generator[Frame, None, None]:
    """Read an open capture to its end, and close it."""
    import cv2

    rate = capture.get(cv2.CAP_PROP_FPS) if realtime else 0.0  # also of a file that names none
    due = time.monotonic()
    try:
        while True:
            read, frame = capture.read()
            if not read:
                return
            if rate > 0:
                time.sleep(max(0.0, due - time.monotonic()))
                due += 1 / rate
            yield cast(Frame, frame)
    finally:
        capture.release()


def _live(
    capture: cv2.VideoCapture, source: str | int, reconnect: int, pause_s: float, timeout_s: float
) -> Generator[Frame, None, None]:
    """Read a camera or stream, and open it again when it has broken off."""
    import cv2

    ends = capture.get(cv2.CAP_PROP_FRAME_COUNT) > 0  # a file at an address
    tries = 0
    while True:
        for frame in _captured(capture):
            tries = 0
            yield frame
        if ends:
            return
        while True:
            if tries == reconnect:
                remedy = f"it was opened again {tries} times" if tries else "use reconnect= to open it again"
                raise SourceError(f"{_shown(source)} has broken off; {remedy}.")
            tries += 1
            time.sleep(pause_s)
            with suppress(SourceError):
                capture = _open(source, timeout_s)
                break


def _open(source: str | int, timeout_s: float) -> cv2.VideoCapture:
    """Open a video, camera or stream.

    Raises:
        SourceError: it cannot be opened.
    """
    import cv2

    is_number = isinstance(source, int) or source.isdecimal()
    if is_number and _is_live(source):
        capture = cv2.VideoCapture(int(source))
    elif _is_live(source):
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, cv2.CAP_PROP_READ_TIMEOUT_MSEC]
        given = [number for limit in limits for number in (limit, int(1000 * timeout_s))]
        capture = cv2.VideoCapture(source, cv2.CAP_FFMPEG, given)
    else:
        capture = cv2.VideoCapture(source)
    if not capture.isOpened():
        capture.release()
        raise SourceError(_why_not(source))
    return capture


def _why_not(source: str | int) -> str:
    shown = _shown(source)
    if not _is_live(source):
        return f"{shown} could not be opened as a video; the file is damaged, or of a format that OpenCV cannot read."
    if "://" in str(source):
        return f"{shown} gave no video; check the address, the network and the password."
    if Path(f"/dev/video{source}").exists():
        return f"{shown} is there, but could not be opened; close the program that uses it, or check your rights."
    return f"{shown} is not there; plug it in, or use another number."


def _shown(source: str | int) -> str:
    """Return the name of a source for a message, without a password."""
    if isinstance(source, int) or source.isdecimal():
        return f"Camera {source}"
    return f'"{re.sub("(?<=://)[^/]*@", "", source)}"'
