"""One YOLO object per process: the pool, the code that runs in a worker process, and images in shared memory."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from yolothreads.allocator import return_freed
from yolothreads.devices import Devices, memory_errors_named
from yolothreads.errors import ArgumentError, OutOfMemoryError, PoolClosedError, WorkerDiedError, YoloThreadsError
from yolothreads.pools.base import Predict, Size, load
from yolothreads.pools.remote import RemotePool, pack, unpack
from yolothreads.pools.torch_threads import Slow, fall_back
from yolothreads.weights import Weights

if TYPE_CHECKING:
    from ultralytics.engine.results import Results

_KEPT_BYTES = 64 * 2**20  # a larger block serves one image only, so that no worker keeps the memory of a huge one
_START_S = 300.0  # for a process to start and load its model; more than enough even on a busy machine
_END_S = 5.0  # for a process to end when asked to, before it is killed


# --- images in shared memory: one process writes the pixels, another one reads them ---

_NUMBER_BYTES = 64  # the number of the image, before its pixels; 8 are used, and the pixels begin where arrays like to


class Slot(NamedTuple):
    """Where one image stands in shared memory. name: of the block that has to be opened; "" if it is open already."""

    name: str
    number: int
    shape: tuple[int, ...]


class ImageWriter:
    """The writing end: it owns a block of shared memory, and makes a larger one when an image needs it.

    Each image has a number, which stands before its pixels and in the request, so that no image is ever taken for
    another one. A block has a name only until the reader has opened it, so that it disappears with the two processes,
    however they end.
    """

    _block: SharedMemory | None = None
    _has_name = False
    _number = 0

    @contextmanager
    def written(self, pixels: NDArray[np.uint8]) -> Iterator[Slot]:
        """Write an image; yield where the reader finds it.

        The block ends when the reader has answered. After an exception it may not have opened the block.

        Raises:
            OutOfMemoryError: the machine does not have enough shared memory.
        """
        self._number += 1
        try:
            block = self._block
            if block is None or block.size < _NUMBER_BYTES + pixels.nbytes:
                self.close()
                block = self._new_block(_NUMBER_BYTES + pixels.nbytes)
            _fill(block, self._number, pixels)
            yield Slot(block.name if self._has_name else "", self._number, pixels.shape)
        except BaseException:
            self.close()
            raise
        if block.size > _KEPT_BYTES:
            self.close()
        elif self._has_name:
            block.unlink()
            self._has_name = False

    def _new_block(self, size: int) -> SharedMemory:
        try:
            self._block, self._has_name = SharedMemory(create=True, size=size), True
            if hasattr(os, "posix_fallocate"):  # else writing beyond the free memory ends the process with SIGBUS
                # `_fd` is undocumented: see tests/pools/test_private_names.py.
                os.posix_fallocate(self._block._fd, 0, size)  # type: ignore[attr-defined]
        except OSError as error:
            raise OutOfMemoryError(
                f"There is no room for an image of {size / 2**20:.0f} MB in shared memory ({error.strerror}); give it "
                "more (in a container: --shm-size), or use a pool of threads."
            ) from error
        return self._block

    def close(self) -> None:
        """Release the memory."""
        block, self._block = self._block, None
        has_name, self._has_name = self._has_name, False
        if block is not None:
            block.close()
            if has_name:
                block.unlink()


class ImageReader:
    """The reading end of an `ImageWriter`."""

    _block: SharedMemory | None = None

    def read(self, slot: Slot) -> NDArray[np.uint8]:
        """Return a copy of the image, because a model keeps its last image.

        Raises:
            YoloThreadsError: another image stands there.
        """
        if self._block is None or slot.name:
            self._close()
            self._block = SharedMemory(slot.name)
        if (found := _number_in(self._block)) != slot.number:
            raise YoloThreadsError(f"Image {found}, not {slot.number}, stands in shared memory; hand it in again.")
        pixels = np.ndarray(slot.shape, np.uint8, self._block.buf, _NUMBER_BYTES).copy()
        if self._block.size > _KEPT_BYTES:
            self._close()
        return pixels

    def _close(self) -> None:
        block, self._block = self._block, None
        if block is not None:
            block.close()


def _fill(block: SharedMemory, number: int, pixels: NDArray[np.uint8]) -> None:
    """Write an image; its number comes last. No name holds on to the memory, which could not be closed then."""
    np.ndarray((), np.uint64, block.buf)[...] = 0
    np.copyto(np.ndarray(pixels.shape, np.uint8, block.buf, _NUMBER_BYTES), pixels)
    np.ndarray((), np.uint64, block.buf)[...] = number


def _number_in(block: SharedMemory) -> int:
    return int(np.ndarray((), np.uint64, block.buf))


# --- in the worker process ---


def load_predict(
    weights: Path,
    threads: int,
    imgsz: Size,
    device: str,
    settings: dict[str, Any],
    channels: int,
    allow: tuple[str, ...],
) -> Predict:
    """Load a model, limit torch to `threads` threads, and return the predict function of the model."""
    import torch

    with suppress(ImportError):  # the script may have imported ultralytics before `serve` set YOLO_OFFLINE
        from ultralytics.utils.events import events

        events.enabled = False
    model = load(weights, imgsz, device, settings, channels, allow)
    torch.set_num_threads(threads)  # last: setting up the model has changed it
    return model.predict


def serve(
    pipe: Connection[bytes, bytes],
    make_predict: Callable[..., Predict],
    given: tuple[Any, ...],
    device: str,
    check: Callable[[Predict], Slow | None] | None = None,
) -> None:
    """Report the start, then the loaded model, then answer each image, until the caller closes the pipe or dies.

    Each answer is a pickled (value, error), one of them None; `given` are the arguments of `make_predict`. `check`
    looks at the loaded model, and what it returns is reported.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of a terminal; the caller decides
    os.environ["YOLO_OFFLINE"] = "true"  # no usage statistics; the weights are here
    images = ImageReader()
    predict: Predict

    def load_it() -> Slow | None:
        nonlocal predict
        predict = make_predict(*given)
        slow = check(predict) if check else None
        return_freed()
        return slow

    def detect(request: bytes) -> dict[str, Any]:
        slot, settings = pickle.loads(request)
        pixels = images.read(slot)
        with memory_errors_named(device):
            return pack(predict(pixels, **settings)[0])

    with suppress(EOFError, OSError):  # the caller has ended
        pipe.send_bytes(_answer(lambda: None))
        pipe.send_bytes(_answer(load_it))
        while True:
            pipe.send_bytes(_answer(detect, pipe.recv_bytes()))
    os._exit(0)  # there is nothing to save, and an orderly end of torch takes seconds


def _answer(work: Callable[..., Any], *args: Any) -> bytes:
    """Pickle what a function returns, or its error with the traceback as a note.

    An error that cannot be pickled becomes a YoloThreadsError.
    """
    try:
        return pickle.dumps((work(*args), None))
    except Exception as error:
        note = "In the worker process:\n" + "".join(traceback.format_exception(error))
        try:
            error.add_note(note)
            data = pickle.dumps((None, error))
            pickle.loads(data)  # errors whose __init__ takes other arguments fail only here
        except Exception:
            other = YoloThreadsError(f"{type(error).__name__}: {error}")
            other.add_note(note)
            data = pickle.dumps((None, other))
        return data


# --- the pool ---

# Starting a process also collects those that have ended, which must not happen in the middle of a join.
_starting = threading.Lock()


class ModelPerProcess(RemotePool):
    """One YOLO object per process: no shared interpreter lock, and a crash ends one worker only.

    A worker that dies is replaced, and its image is done again. An image that ends its worker twice gets a
    `WorkerDiedError`. Images travel by shared memory, and only the numbers of a result come back. In a script, the work
    must stand under `if __name__ == "__main__":`.

    Args:
        weights, workers, device, imgsz, threads, allow, settings: as in every pool.
        mp_context: "spawn", "forkserver" where the system has it, or a context of `multiprocessing`.
    """

    spreads = True
    _make_predict = staticmethod(load_predict)  # called in the worker process

    def __init__(
        self,
        weights: Weights = "bundled",
        *,
        workers: int = 2,
        device: Devices = "auto",
        imgsz: Size = 640,
        threads: int | None = None,
        mp_context: str | BaseContext = "spawn",
        allow: Iterable[str] = (),
        **settings: Any,
    ) -> None:
        if "start_method" in settings:
            raise ArgumentError(f'"start_method" is not an option; use mp_context={settings["start_method"]!r}.')
        self.mp_context = _start_method(mp_context)
        super().__init__(weights, workers=workers, device=device, imgsz=imgsz, threads=threads, allow=allow, **settings)

    def _prepare(self) -> None:
        import ultralytics.engine.results  # noqa: F401 - now, and not with the first result

    def _start(self) -> None:
        # This is a worker that runs the caller's script again: see _Worker.load.
        # `_inheriting` is undocumented: see tests/pools/test_private_names.py.
        if getattr(multiprocessing.current_process(), "_inheriting", False):
            raise SystemExit(1)
        if multiprocessing.current_process().daemon:
            raise PoolClosedError(
                "A daemonic process may start no processes, so ModelPerProcess cannot be opened in one; use Replicas "
                "there, or start the process with daemon=False."
            )
        super()._start()

    def left_by_fork(self) -> None:
        """Forget the worker processes, and make the lock anew, which a thread of the parent may have held."""
        global _starting
        super().left_by_fork()
        _starting = threading.Lock()

    def _launch_worker(self, index: int) -> _Worker:
        return _Worker(self, index)


def _start_method(context: str | BaseContext) -> str:
    """Return the name of a start method that is safe and that this system has.

    Raises:
        ArgumentError: "fork", or a start method that this system does not have.
    """
    method = context.get_start_method() if isinstance(context, BaseContext) else context
    if method == "fork":
        raise ArgumentError(
            'mp_context="fork" is refused: a fork inherits locks that nobody will release and threads that do '
            'not run, and hangs once this process has predicted. Use "spawn".'
        )
    known = [name for name in multiprocessing.get_all_start_methods() if name != "fork"]
    if method not in known:
        raise ArgumentError(f"mp_context={method!r} is not known here; use one of: {', '.join(known)}.")
    return str(method)


class _Worker:
    """The caller's end of a worker process."""

    def __init__(self, pool: ModelPerProcess, index: int) -> None:
        self._index = index
        self._images = ImageWriter()
        self._in_step = True  # whether the next answer will belong to the next request
        self._ending = ""
        self._kill_at = 0.0  # when it is killed, once it was asked to end
        context: Any = multiprocessing.get_context(pool.mp_context)
        self._pipe, theirs = context.Pipe()
        device = pool.device_of(index)
        given = (pool.weights, pool.threads, pool.imgsz, device, pool.settings, pool.channels, pool.allow)
        check = None
        if pool._may_fall_back:
            check = partial(fall_back, pool.threads, imgsz=pool.imgsz, channels=pool.channels, settings=pool.settings)
        args, name = (theirs, pool._make_predict, given, device, check), f"{type(pool).__name__}-{index}"
        # A daemon, so that a script that never closes its pool can end.
        self.process = context.Process(target=serve, args=args, name=name, daemon=True)
        with theirs:
            try:
                self._start(pool.mp_context)
            except BaseException:
                self._pipe.close()
                raise

    def _start(self, method: str) -> None:
        with _starting:
            # These first, because their processes must not inherit the signal mask (and the tracker resets it).
            resource_tracker.ensure_running()
            if method == "forkserver":
                forkserver.ensure_running()
            # Ctrl-C reaches the new process too, and would end it before its `serve` runs.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            main = vars(sys.modules["__main__"])
            # The file name of a program from the standard input, which no new process can find.
            hidden = {"__file__": main.pop("__file__")} if main.get("__file__") == "<stdin>" else {}
            try:
                self.process.start()
            finally:
                main.update(hidden)
                signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def load(self) -> Slow | None:
        """Wait until the process has its model; return what it measured if it has fallen back to one torch thread."""
        try:
            self._answer(_START_S)
        except WorkerDiedError as error:
            if not self._ending.startswith("exit"):
                raise
            raise YoloThreadsError(
                f"Worker {self._index} could not begin ({error}): a new process runs the caller's script again from "
                'its start. Put the work of the script under `if __name__ == "__main__":`.'
            ) from None
        return self._answer(_START_S)

    def is_alive(self) -> bool:
        return self._in_step and not self._ending and not wait([self.process.sentinel], 0)

    def predict(self, pixels: NDArray[np.uint8], **settings: Any) -> list[Results]:
        with self._images.written(pixels) as slot:
            request = pickle.dumps((slot, settings))  # here a setting that cannot travel fails
            return [unpack(self._answer(None, request), pixels)]

    def _answer(self, deadline_s: float | None, request: bytes = b"") -> Any:
        """Return the answer to a request, or the next one; raise what the worker's code raised, or WorkerDiedError."""
        self._in_step = False
        try:
            if request:
                self._pipe.send_bytes(request)
            ready = wait([self._pipe, self.process.sentinel], deadline_s)
            if not ready:
                self.kill()
                raise WorkerDiedError(f"it had not loaded its model in {deadline_s:g} s")
            if self._pipe not in ready:
                raise EOFError
            value, error = pickle.loads(self._pipe.recv_bytes())
        except (EOFError, OSError):  # also after half an answer
            self.join()
            raise WorkerDiedError(self._ending) from None
        self._in_step = True
        if error is not None:
            raise error
        return value

    def end(self) -> None:
        self._kill_at = self._kill_at or monotonic() + _END_S
        self._pipe.close()

    def kill(self) -> None:
        with _starting, suppress(ValueError):  # it has ended and was joined
            self.process.kill()

    def left_by_fork(self) -> None:
        self._pipe.close()  # else the worker would not learn that the parent has ended
        # At the child's exit, `multiprocessing` would terminate the worker, and fail to join it.
        # `_children` is undocumented: see tests/pools/test_private_names.py.
        multiprocessing.process._children.discard(self.process)  # type: ignore[attr-defined]

    def join(self) -> None:
        if self._ending:
            return
        self.end()
        if not wait([self.process.sentinel], max(0.0, self._kill_at - monotonic())):
            self.kill()
        with _starting:
            self.process.join(_END_S)
            self._ending = _describe(self.process.exitcode)
            with suppress(ValueError):  # it cannot even be killed, because it waits for the system
                self.process.close()
        self._images.close()


def _describe(code: int | None) -> str:
    if code is None or code >= 0:
        return f"exit code {code}"
    return next((s.name for s in signal.Signals if s == -code), f"signal {-code}")
