"""One YOLO object per Ray actor, which is a process on this machine or on a machine of a cluster; and the connection.

This process is connected to Ray for the first open pool, and no longer after the last. Ray's private names stand in the
last part of this file: tests/pools/test_private_names.py names the Ray version with which they were checked.
"""

from __future__ import annotations

import atexit
import faulthandler
import gc
import logging
import math
import os
import re
import secrets
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from yolothreads import child
from yolothreads.allocator import return_freed
from yolothreads.devices import Devices, devices, memory_errors_named
from yolothreads.errors import ArgumentError, DeadlineError, PoolClosedError, WorkerDiedError, not_negative
from yolothreads.pools import forking
from yolothreads.pools.base import Size, load
from yolothreads.pools.remote import RemotePool, pack, unpack
from yolothreads.pools.torch_threads import Slow, fall_back
from yolothreads.weights import Weights

if TYPE_CHECKING:
    from ultralytics.engine.results import Results

# Deadlines in seconds, all generous: they only keep a call from hanging.
_LOAD_S = 300.0
_PREDICT_S = 600.0
_END_S = 3.0  # an actor that was killed, or is out of reach with its node
_CONNECT_S = 180.0  # to start or end Ray, which takes 3 to 20 s on two cores
EQUAL_PRIORITY = {"RAY_worker_niceness": "0"}
"""The setting of Ray with which its workers get as much processor time as others; by default they have niceness 15."""
_ANSWER_S = 60.0  # of a cluster, to a fresh process that joins it
_QUIET: Any = {"log_to_driver": False, "configure_logging": False}
_STORE_BYTES = 256 * 2**20  # for images: more than enough, as each worker has one at a time


class RayActors(RemotePool):
    """One YOLO object per Ray actor; an actor that dies is replaced, and its image is done again.

    Ray starts on this machine when the pool opens, and ends with it. With `address`, the pool joins a cluster, whose
    machines need the same versions of Python, Ray and yolothreads; weights and images are sent to them. A Ray that this
    process is connected to already is used as it is, and keeps running.

    Args:
        weights, workers, device, imgsz, threads, allow, settings: as in every pool.
        address: "auto", "host:port" or "ray://host:port" of a cluster; None for this machine.
        cpus_per_worker: the number of Ray's CPUs that a worker reserves; by default 1 with `address`, else 0.
        gpus_per_worker: the number of GPUs that it reserves. If above 0, it computes on the GPU that Ray gives it,
            whatever `device` says. By default a share of those here, or 1 with `address`, if `device` is a CUDA device;
            a share of as many as `device` names, if it names several.
        placement_s: the seconds that a worker may wait for its place in the cluster.

    Raises:
        ExtraError: Ray is not installed.
        DeadlineError: Ray had no place for a worker, either when the pool opens, or for an image whose worker died.
    """

    spreads = True
    extra = "ray"
    _scheduling: Any = "SPREAD"  # over the nodes, as far as they have room

    def __init__(
        self,
        weights: Weights = "bundled",
        *,
        workers: int = 2,
        device: Devices = "auto",
        imgsz: Size = 640,
        threads: int | None = None,
        address: str | None = None,
        cpus_per_worker: float | None = None,
        gpus_per_worker: float | None = None,
        placement_s: float = 60.0,
        allow: Iterable[str] = (),
        **settings: Any,
    ) -> None:
        super().__init__(weights, workers=workers, device=device, imgsz=imgsz, threads=threads, allow=allow, **settings)
        if cpus_per_worker is None:
            cpus_per_worker = 1.0 if address else 0.0
        if gpus_per_worker is None:
            found = self.devices if len(self.devices) > 1 else () if self.device == "cpu" else devices()
            here = len({name for name in found if name.startswith("cuda")})
            share = math.floor(10_000 * here / self.workers) / 10_000  # Ray's unit
            gpus_per_worker = min(1.0, here if address else share)
        self.address = address
        self.cpus_per_worker = not_negative("cpus_per_worker", cpus_per_worker)
        self.gpus_per_worker = not_negative("gpus_per_worker", gpus_per_worker)
        self.placement_s = not_negative("placement_s", placement_s)
        self._weights_sent: Any = None
        self._connecting = threading.Lock()

    def _start(self) -> None:
        if _connection.is_parents:
            raise PoolClosedError(
                "This process was forked from one that was connected to Ray, which does not work in forked processes; "
                'start it with multiprocessing.get_context("spawn"), or open the pool after the fork only.'
            )
        super()._start()

    def left_by_fork(self) -> None:
        """Forget the actors, and the connection to Ray, which belong to the parent."""
        super().left_by_fork()
        forking.keep_for_ever(self._weights_sent)  # as the actors
        self._weights_sent, self._connecting = None, threading.Lock()
        _connection.left_by_fork()

    def _launch_worker(self, index: int) -> _RayWorker:
        with self._connecting:  # by the first worker
            if self._weights_sent is None:
                self._connect()
        return _RayWorker(self, index)

    def _connect(self) -> None:
        files = [self.weights] if self.weights.is_file() else [*self.weights.iterdir()]  # those of an OpenVINO folder
        data = {str(file.relative_to(self.weights.parent)): file.read_bytes() for file in files}
        _connection.open(self.address, self.workers, sum(map(len, data.values())))
        try:
            import ray

            self._weights_sent = ray.put(data)
        except BaseException:
            _connection.close()
            raise

    def _forget(self) -> None:
        super()._forget()
        if self._weights_sent is not None:
            self._weights_sent = None
            _connection.close()


class _Actor:
    """The object in the worker process. It does one call at a time, and writes no file but the weights."""

    def pid(self) -> int:
        return os.getpid()

    def load(
        self,
        weights: dict[str, bytes],
        name: str,
        torch_threads: int,
        may_fall_back: bool,
        imgsz: Size,
        device: str,
        settings: dict[str, Any],
        channels: int,
        allow: tuple[str, ...],
        path: list[str],
    ) -> Slow | None:
        import ray
        import torch

        sys.path += [place for place in path if place not in sys.path]  # where the caller finds the allowed classes

        node = ray.get_runtime_context()
        # In Ray's own folder, so that no file is left elsewhere if this process is killed.
        with tempfile.TemporaryDirectory(dir=Path(node.get_temp_dir(), node.get_session_name())) as folder:
            for part, data in weights.items():
                file = Path(folder, part)
                file.parent.mkdir(exist_ok=True)
                file.write_bytes(data)
            self._model = load(Path(folder, name), imgsz, device, settings, channels, allow)
            self._device = device
        torch.set_num_threads(torch_threads)  # last: setting up the model has changed it
        slow = None
        if may_fall_back:
            slow = fall_back(torch_threads, self._model.predict, imgsz, channels, settings)
        return_freed()
        return slow

    def predict(self, pixels: NDArray[np.uint8], settings: dict[str, Any]) -> dict[str, Any]:
        # A copy, because the model keeps its last image, which would stay in Ray's object store.
        with memory_errors_named(self._device):
            return pack(self._model.predict(pixels.copy(), **settings)[0])


class _RayWorker:
    """The caller's end of an actor."""

    def __init__(self, pool: RayActors, index: int) -> None:
        import ray

        if not ray.is_initialized():
            raise PoolClosedError("Ray was shut down while this RayActors was open; open the pool again.")
        self._pool, self._index = pool, index
        # Ray would restart an actor silently, and an image that kills its worker would never be found.
        options = {"max_restarts": 0, "max_task_retries": 0, "scheduling_strategy": pool._scheduling}
        options |= {"num_cpus": pool.cpus_per_worker, "num_gpus": pool.gpus_per_worker}
        options |= {"enable_task_events": False}  # Ray would keep 3.5 KB about each of the last 100,000 images
        self._actor: Any = ray.remote(_Actor).options(**options).remote()
        self._alive, self._has_ended = True, False

    def load(self) -> Slow | None:
        self._find_place()
        pool, device = self._pool, "cuda:0" if self._pool.gpus_per_worker else self._pool.device_of(self._index)
        given = (pool.weights.name, pool.threads, pool._may_fall_back, pool.imgsz, device, pool.settings, pool.channels)
        path = sys.path if pool.allow else []
        return self._answer(self._actor.load.remote(pool._weights_sent, *given, pool.allow, path), _LOAD_S)

    def _find_place(self) -> None:
        """Wait until Ray has started the process on some machine."""
        import ray

        reference = self._actor.pid.remote()
        if not ray.wait([reference], timeout=self._pool.placement_s)[0]:
            free: dict[str, float] = {"CPU": 0, "GPU": 0, **ray.available_resources()}  # type: ignore[no-untyped-call]
            raise DeadlineError(
                f"Ray found no place for worker {self._index} in {self._pool.placement_s:g} s: it reserves "
                f"{self._pool.cpus_per_worker:g} CPUs and {self._pool.gpus_per_worker:g} GPUs, and "
                f"{free['CPU']:g} CPUs and {free['GPU']:g} GPUs are free. Use fewer workers, let each reserve less "
                "(cpus_per_worker, gpus_per_worker), or add a machine to the cluster."
            )
        self.pid = self._answer(reference, _CONNECT_S)

    def is_alive(self) -> bool:
        return self._alive

    def predict(self, pixels: NDArray[np.uint8], **settings: Any) -> list[Results]:
        return [unpack(self._answer(self._actor.predict.remote(pixels, settings), _PREDICT_S), pixels)]

    def end(self) -> None:
        import ray

        self._alive = False
        if ray.is_initialized():
            ray.kill(self._actor)

    kill = end  # an actor has nothing to clean up: its files and its images belong to Ray

    def left_by_fork(self) -> None:
        self._alive, self._has_ended = False, True
        forking.keep_for_ever(self._actor)  # dropping it would use the parent's connection

    def join(self) -> None:
        import ray

        self.end()
        if ray.is_initialized() and not self._has_ended:
            ray.wait([self._actor.pid.remote()], timeout=_END_S)  # until it cannot answer any more
            self._has_ended = True

    def _answer(self, reference: Any, deadline_s: float) -> Any:
        """Return an answer; raise what the actor's own code raised, or WorkerDiedError."""
        import ray
        from ray import exceptions as of_ray

        ends = (of_ray.RayActorError, of_ray.NodeDiedError, of_ray.WorkerCrashedError, of_ray.OutOfMemoryError)
        try:
            return ray.get(reference, timeout=deadline_s)
        except of_ray.GetTimeoutError:
            self._alive = False
            raise WorkerDiedError(f"it gave no answer in {deadline_s:g} s") from None
        except of_ray.RayTaskError as error:
            raise error.cause from error
        except (*ends, of_ray.ObjectLostError, of_ray.RaySystemError) as error:
            self._alive, self._has_ended = False, isinstance(error, of_ray.ActorDiedError)
            raise WorkerDiedError(" ".join(str(error).split())[:300]) from error


# --- the connection of this process to Ray ---


class RayConnection:
    """The connection that all pools of a process share. A Ray that is connected already is used, and keeps running."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pools = 0
        self._ends = ExitStack()
        self._folder: tempfile.TemporaryDirectory[str] | None = None  # of a Ray that was started here
        self.is_parents = False  # whether the parent of this forked process was connected

    def open(self, address: str | None, workers: int, weights_bytes: int) -> None:
        """Count one more pool, and connect if this is the first; `address=None` starts Ray on this machine.

        Raises:
            ArgumentError: no cluster answers at `address`, or this process is connected to another one.
        """
        with self._lock, environment_kept(), ExitStack() as ends:
            ends.enter_context(_ray_silenced())
            import ray

            if ray.is_initialized():
                here = ray.get_runtime_context().gcs_address
                if address not in (None, "auto", here):
                    raise ArgumentError(
                        f'This process is connected to Ray at "{here}" already, not at "{address}"; leave the address '
                        "out, or call ray.shutdown() first."
                    )
            else:
                self._connect(ends, address, workers, _STORE_BYTES + 2 * weights_bytes)
                self._ends = ends.pop_all()
            self._pools += 1

    def close(self) -> None:
        """Count one pool less; after the last one, end what `open` has started."""
        with self._lock:
            self._pools -= 1
            if self._pools == 0:
                self._ends.close()

    def left_by_fork(self) -> None:
        """Forget, in a forked child, the connection of the parent, and let Ray not end it when the child exits."""
        self._lock = threading.Lock()
        if self._pools:
            self._pools, self.is_parents = 0, True
            self._kept = self._ends.pop_all()  # what it would undo is the parent's
            if self._folder is not None:
                forking.keep_folder(self._folder)
            forget_connection()
            gc.freeze()  # else the collection at the exit frees what Ray's objects share with the parent, and crashes
            forking.skip_destructors_at_exit()

    def _connect(self, ends: ExitStack, address: str | None, workers: int, store_bytes: int) -> None:
        """Connect; `ends` gets the calls that undo it, also if this fails half-way."""
        folder = ""
        if address is None:  # the path of a socket may have 107 bytes, so not in a long $TMPDIR
            place = "/tmp" if os.name == "posix" else None
            own = tempfile.TemporaryDirectory(prefix="ray-", dir=place, ignore_cleanup_errors=True)
            folder, self._folder = ends.enter_context(own), own
        # A thread of its own: Linux ends Ray's processes with the thread that started them, Ctrl-C cannot interrupt it
        # half-way, and outside the main thread Ray leaves the signal handlers alone.
        keeper = ThreadPoolExecutor(1, thread_name_prefix="Ray")
        ends.callback(keeper.shutdown)
        ends.callback(lambda: keeper.submit(_end).result(_CONNECT_S))
        how = keeper.submit(_join, address) if address else keeper.submit(_start, folder, workers, store_bytes)
        how.result(_CONNECT_S)


_connection = RayConnection()  # of the pools


def _join(address: str) -> None:

    try:  # first in a fresh process, because it could wait for ever: `ray.init` has no time limit
        reason = child.call(child.name_of(_reason_not_to_join), address, timeout_s=_ANSWER_S)
    except child.ChildError as error:
        reason = str(error)
    reason = reason or _reason_not_to_join(address, stay=True)
    if reason:
        raise ArgumentError(
            f'No Ray cluster could be joined at "{address}" ({reason}); start one there with `ray start --head`, or '
            "leave the address out."
        )


def _reason_not_to_join(address: str, *, stay: bool = False) -> str:
    """Join a cluster, and leave it again unless told to `stay`; return why that was not possible, or ""."""
    import ray

    try:
        ray.init(address, **_QUIET)
    except (OSError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        return " ".join(str(error).split())[:200] or type(error).__name__
    if not stay:
        ray.shutdown()
    return ""


def _start(folder: str, workers: int, store_bytes: int) -> None:
    import ray

    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", **EQUAL_PRIORITY}
    if "RAY_AUTH_MODE" not in os.environ:  # else Ray would keep a password in the home directory, for good
        os.environ |= new_password()
    read_environment_again()
    # Ray prepares as many processes for actors as there are CPUs; no actor reserves one.
    room: Any = {"num_cpus": workers, "object_store_memory": store_bytes, "_temp_dir": folder}
    ray.init("local", include_dashboard=False, **room, **_QUIET)


def _end() -> None:
    import ray

    ray.shutdown(wait_for_processes=True)
    read_environment_again()


def new_password() -> dict[str, str]:
    """Return the environment variables with which Ray asks for a password, with a new password."""
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


@contextmanager
def environment_kept() -> Iterator[None]:
    """Restore the environment variables that change in the block."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


# --- Ray's private names ---


def read_environment_again() -> None:
    """Make Ray read its password again: it reads it once per process, and has no public way to forget it."""
    raylet: Any = import_module("ray._raylet")
    raylet.Config.initialize("")  # first, while there is a password, as Ray itself does
    raylet.AuthenticationTokenLoader.instance().reset_cache()


def forget_connection() -> None:
    """Make Ray forget its connection: at its exit, a forked child would end the parent's Ray, or hang."""
    worker: Any = import_module("ray._private.worker")
    atexit.unregister(worker.shutdown)
    if worker._global_node is not None:
        worker._global_node.all_processes.clear()
    worker.global_worker.set_mode(None)
    for part in vars(worker.global_worker).values():
        forking.keep_for_ever(part)  # their destructors use the connection


@contextmanager
def _ray_silenced() -> Iterator[None]:
    """Silence Ray, which logs warnings, and prints a page of its log when a node ends, whatever `log_to_driver` says.

    The public variable RAY_DEDUP_LOGS_SKIP_REGEX works only before the first `import ray`, and for the whole process.
    Importing Ray adds a log handler and switches the fault handler on; that is undone, too.
    """
    log = logging.getLogger("ray")
    level, handlers, dumps_stacks = log.level, log.handlers[:], faulthandler.is_enabled()
    printer: Any = import_module("ray._private.worker").stdout_deduplicator
    skipped, printer.skip_re = printer.skip_re, re.compile("")
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        printer.skip_re, log.handlers[:] = skipped, handlers
        log.setLevel(level)
        if not dumps_stacks:
            faulthandler.disable()
