"""One YOLO object per Ray actor, which is a process on this machine or on a machine of a cluster."""

from __future__ import annotations

import math
import os
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from yolothreads.devices import devices, memory_errors_named
from yolothreads.errors import DeadlineError, PoolClosedError, WorkerDiedError, need_extra, not_negative
from yolothreads.pools.models import load
from yolothreads.pools.ray_connection import RayConnection
from yolothreads.pools.remote import RemotePool, pack, unpack

if TYPE_CHECKING:
    from ultralytics.engine.results import Results

# Deadlines in seconds, all generous: they only keep a call from hanging.
_LOAD_S = 300.0
_PREDICT_S = 600.0
_END_S = 3.0  # an actor that was killed, or is out of reach with its node

_connection = RayConnection()


class RayActors(RemotePool):
    """One YOLO object per Ray actor; an actor that dies is replaced, and its image is done again.

    Ray starts on this machine when the pool opens, and ends with it. With `address`, the pool joins a cluster, whose
    machines need the same versions of Python, Ray and yolothreads; weights and images are sent to them. A Ray that this
    process is connected to already is used as it is, and keeps running.

    Args:
        weights, workers, device, imgsz, threads, settings: as in every pool.
        address: "auto", "host:port" or "ray://host:port" of a cluster; None for this machine.
        cpus_per_worker: the number of Ray's CPUs that a worker books; by default 1 with `address`, else 0.
        gpus_per_worker: the number of GPUs that a worker books. If above 0, it computes on the GPU that Ray gives it,
            whatever `device` says. By default a share of those here, or 1 with `address`, if `device` is a CUDA device.
        placement_s: the seconds that a worker may wait for its place in the cluster.

    Raises:
        ExtraError: Ray is not installed.
        DeadlineError: Ray had no place for a worker, either when the pool opens, or for an image whose worker died.
    """

    _scheduling: Any = "SPREAD"  # over the nodes, as far as they have room

    def __init__(
        self,
        weights: str | os.PathLike[str] = "bundled",
        *,
        workers: int = 2,
        device: str = "auto",
        imgsz: int = 640,
        threads: int | None = None,
        address: str | None = None,
        cpus_per_worker: float | None = None,
        gpus_per_worker: float | None = None,
        placement_s: float = 60.0,
        **settings: Any,
    ) -> None:
        need_extra("RayActors", "ray", install='"yolothreads[ray]"')
        super().__init__(weights, workers=workers, device=device, imgsz=imgsz, threads=threads, **settings)
        if cpus_per_worker is None:
            cpus_per_worker = 1.0 if address else 0.0
        if gpus_per_worker is None:
            gpus_per_worker = _gpu_share(self.workers, address) if self.device.startswith("cuda") else 0.0
        self.address = address
        self.cpus_per_worker = not_negative("cpus_per_worker", cpus_per_worker)
        self.gpus_per_worker = not_negative("gpus_per_worker", gpus_per_worker)
        self.placement_s = not_negative("placement_s", placement_s)
        self._weights_sent: Any = None
        self._connecting = threading.Lock()

    def _launch_worker(self, index: int) -> _RayWorker:
        with self._connecting:  # by the first worker
            if self._weights_sent is None:
                self._connect()
        return _RayWorker(self, index)

    def _connect(self) -> None:
        data = self.weights.read_bytes()
        _connection.open(self.address, self.workers, len(data))
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


def _gpu_share(workers: int, address: str | None) -> float:
    """Return the default share of a GPU per worker, in Ray's unit of 1/10,000."""
    here = sum(name.startswith("cuda") for name in devices())
    return 1.0 if address else min(1.0, math.floor(10_000 * here / workers) / 10_000)


class _Actor:
    """The object in the worker process. It does one call at a time, and writes no file but the weights."""

    def pid(self) -> int:
        return os.getpid()

    def load(
        self, weights: bytes, name: str, imgsz: int, device: str, settings: dict[str, Any], torch_threads: int
    ) -> None:
        import ray
        import torch

        node = ray.get_runtime_context()
        # In Ray's own folder, so that no file is left elsewhere if this process is killed.
        with tempfile.TemporaryDirectory(dir=Path(node.get_temp_dir(), node.get_session_name())) as folder:
            file = Path(folder, name)
            file.write_bytes(weights)
            self._model, self._device = load(file, imgsz, device, settings), device
        torch.set_num_threads(torch_threads)  # last: setting up the model has changed it

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

    def load(self) -> None:
        self._find_place()
        pool, device = self._pool, "cuda:0" if self._pool.gpus_per_worker else self._pool.device
        given = (pool.weights.name, pool.imgsz, device, pool.settings, pool.threads)
        self._answer_in_time(self._actor.load.remote(pool._weights_sent, *given), _LOAD_S)

    def _find_place(self) -> None:
        """Wait until Ray has started the process on some machine."""
        import ray

        try:
            self.pid = self._answer(self._actor.pid.remote(), self._pool.placement_s)
        except _LateError:
            free: dict[str, float] = {"CPU": 0, "GPU": 0, **ray.available_resources()}  # type: ignore[no-untyped-call]
            raise DeadlineError(
                f"Ray found no place for worker {self._index} in {self._pool.placement_s:g} s: it books "
                f"{self._pool.cpus_per_worker:g} CPUs and {self._pool.gpus_per_worker:g} GPUs, and "
                f"{free['CPU']:g} CPUs and {free['GPU']:g} GPUs are free. Use fewer workers, let each book less "
                "(cpus_per_worker, gpus_per_worker), or add a machine to the cluster."
            ) from None

    def is_alive(self) -> bool:
        return self._alive

    def predict(self, pixels: NDArray[np.uint8], **settings: Any) -> list[Results]:
        return [unpack(self._answer_in_time(self._actor.predict.remote(pixels, settings), _PREDICT_S), pixels)]

    def end(self) -> None:
        import ray

        self._alive = False
        if ray.is_initialized():
            ray.kill(self._actor)

    kill = end  # an actor has nothing to clean up: its files and its images belong to Ray

    def join(self) -> None:
        import ray

        self.end()
        if ray.is_initialized() and not self._has_ended:
            with suppress(WorkerDiedError, _LateError):
                self._answer(self._actor.pid.remote(), _END_S)

    def _answer_in_time(self, reference: Any, deadline_s: float) -> Any:
        try:
            return self._answer(reference, deadline_s)
        except _LateError:
            self._alive = False
            raise WorkerDiedError(f"it gave no answer in {deadline_s:g} s") from None

    def _answer(self, reference: Any, deadline_s: float) -> Any:
        """Return an answer; raise what the actor's own code raised, WorkerDiedError, or _LateError."""
        import ray
        from ray import exceptions as of_ray

        ends = (of_ray.RayActorError, of_ray.NodeDiedError, of_ray.WorkerCrashedError, of_ray.OutOfMemoryError)
        try:
            return ray.get(reference, timeout=deadline_s)
        except of_ray.GetTimeoutError:
            raise _LateError from None
        except of_ray.RayTaskError as error:
            raise error.cause from error
        except (*ends, of_ray.ObjectLostError, of_ray.RaySystemError) as error:
            self._alive, self._has_ended = False, isinstance(error, of_ray.ActorDiedError)
            raise WorkerDiedError(" ".join(str(error).split())[:300]) from error


class _LateError(Exception):
    """The answer is not there yet."""
