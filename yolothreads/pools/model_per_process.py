"""A YOLO object a process: no interpreter lock in common, and a crash ends one worker only."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import wait
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from yolothreads.errors import ArgumentError, WorkerDiedError, YoloThreadsError
from yolothreads.pools.packing import unpack
from yolothreads.pools.remote import RemotePool
from yolothreads.pools.shared_image import ImageWriter
from yolothreads.pools.worker_process import load_predict, serve

if TYPE_CHECKING:
    from ultralytics.engine.results import Results

_START_S = 300.0  # for a process to start and load its model; more than enough even on a crowded machine
_END_S = 5.0  # for one to end when asked to, before it is killed

# Starting a process also collects those that have ended, which must not happen in the middle of a join.
_one_at_a_time = threading.Lock()


class ModelPerProcess(RemotePool):
    """Each worker is a process with a YOLO object of its own; one that dies is replaced, and its image done again.

    Images travel by shared memory, and only the numbers of a result come back. An image that ends its worker twice
    gets a `WorkerDiedError`. In a script, the work must stand under `if __name__ == "__main__":`.

    Args:
        weights, workers, device, imgsz, threads, settings: as for every pool.
        start_method: "spawn", or "forkserver" where the system has it.
    """

    _make_predict = staticmethod(load_predict)  # called in the worker process

    def __init__(
        self, weights: str | os.PathLike[str] = "bundled", *, start_method: str = "spawn", **of_every_pool: Any
    ) -> None:
        if start_method == "fork":
            raise ArgumentError(
                'start_method="fork" is refused: a fork inherits locks that nobody will release and threads that do '
                'not run, and hangs once this process has predicted. Use "spawn".'
            )
        if start_method not in (here := [m for m in multiprocessing.get_all_start_methods() if m != "fork"]):
            raise ArgumentError(f"start_method={start_method!r} is not known here; use one of: {', '.join(here)}.")
        super().__init__(weights, **of_every_pool)
        self.start_method = start_method

    def _prepare(self) -> None:
        import ultralytics.engine.results  # noqa: F401 - now, and not with the first result

    def _start(self) -> None:
        if getattr(multiprocessing.current_process(), "_inheriting", False):
            raise SystemExit(1)  # this is a worker that runs the caller's script again: see _Worker.load
        super()._start()

    def _recruit(self, index: int) -> _Worker:
        return _Worker(self, index)


class _Worker:
    """The caller's end of a worker process."""

    def __init__(self, pool: ModelPerProcess, index: int) -> None:
        self._index = index
        self._images = ImageWriter()
        self._in_step = True  # whether the next answer will be that to the next question
        self._how_it_ended = ""
        self._patience_ends = 0.0  # set when it is asked to end
        context: Any = multiprocessing.get_context(pool.start_method)
        self._pipe, theirs = context.Pipe()
        given = (pool.weights, pool.imgsz, pool.device, pool.settings, pool.threads)
        self.process = context.Process(
            target=serve,
            args=(theirs, pool._make_predict, given, pool.device),
            name=f"{type(pool).__name__}-{index}",
            daemon=True,  # so that a script that never closes its pool can end
        )
        try:
            self._start(pool.start_method)
        except BaseException:
            self._pipe.close()
            raise
        finally:
            theirs.close()

    def _start(self, method: str) -> None:
        with _one_at_a_time:
            # These first, since what they start must not inherit the signal mask (and the tracker resets it).
            resource_tracker.ensure_running()
            if method == "forkserver":
                forkserver.ensure_running()
            # Ctrl-C reaches the new process, too, and before its `serve` runs it would end it.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                with _script_or_none():
                    self.process.start()
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def load(self) -> None:
        """Wait until the process has its model."""
        try:
            self._answer(_START_S)
        except WorkerDiedError as error:
            if not self._how_it_ended.startswith("exit"):
                raise
            raise YoloThreadsError(
                f"Worker {self._index} could not begin ({error}): a new process runs the caller's script again from "
                'its start. Put what the script does under `if __name__ == "__main__":`.'
            ) from None
        self._answer(_START_S)

    def is_alive(self) -> bool:
        return self._in_step and not self._how_it_ended and not wait([self.process.sentinel], 0)

    def predict(self, pixels: NDArray[np.uint8], **settings: Any) -> list[Results]:
        pickle.dumps(settings)  # what cannot travel fails here, before anything is under way
        name, well = self._images.write(pixels), False
        try:
            packed = self._ask((name, pixels.shape, settings))
            well = True
        finally:
            self._images.was_read(well=well)
        return [unpack(packed, pixels)]

    def _ask(self, question: tuple[Any, ...]) -> Any:
        try:
            self._pipe.send_bytes(pickle.dumps(question))
        except OSError:
            raise self._died() from None
        return self._answer(None)

    def _answer(self, deadline_s: float | None) -> Any:
        """Raises what the worker's code raised, or WorkerDiedError."""
        self._in_step = False
        try:
            ready = wait([self._pipe, self.process.sentinel], deadline_s)
            if not ready:
                self.kill()
                raise WorkerDiedError(f"it had not loaded its model in {deadline_s:g} s")
            if self._pipe not in ready:
                raise EOFError
            value, error = pickle.loads(self._pipe.recv_bytes())
        except (EOFError, OSError):  # also half an answer
            raise self._died() from None
        self._in_step = True
        if error is not None:
            raise error
        return value

    def _died(self) -> WorkerDiedError:
        self.join()
        return WorkerDiedError(self._how_it_ended)

    def end(self) -> None:
        self._patience_ends = self._patience_ends or monotonic() + _END_S
        self._pipe.close()

    def kill(self) -> None:
        with _one_at_a_time, suppress(ValueError):  # it has ended, and was collected
            self.process.kill()

    def join(self) -> None:
        if self._how_it_ended:
            return
        self.end()
        if not wait([self.process.sentinel], max(0.0, self._patience_ends - monotonic())):
            self.kill()
        with _one_at_a_time:
            self.process.join(_END_S)
            self._how_it_ended = _in_words(self.process.exitcode)
            with suppress(ValueError):  # it cannot even be killed: it waits for the system
                self.process.close()
        self._images.close()


@contextmanager
def _script_or_none() -> Iterator[None]:
    """A program that Python reads from its standard input calls its file "<stdin>", which no new process can find."""
    main = vars(sys.modules["__main__"])
    if main.get("__file__") != "<stdin>":
        yield
        return
    file = main.pop("__file__")
    try:
        yield
    finally:
        main["__file__"] = file


def _in_words(code: int | None) -> str:
    if code is None or code >= 0:
        return f"exit code {code}"
    return next((s.name for s in signal.Signals if s == -code), f"signal {-code}")
