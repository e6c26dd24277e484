"""Work of lessons 07 and 09 outside this process: functions that child processes run, and a Ray cluster.

A spawned child imports its functions, which it cannot do from a cell. Each node of the cluster is a group of processes
on this machine that behaves like a machine.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from threading import Event, Lock, Thread
from time import monotonic, perf_counter, sleep
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from yolothreads.errors import ArgumentError, DeadlineError
from yolothreads.memory import used_mb
from yolothreads.pools import RayActors, RemoteWorker
from yolothreads.pools.ray_actors import (
    EQUAL_PRIORITY,
    RayConnection,
    environment_kept,
    new_password,
    read_environment_again,
)
from yolothreads.trace import Span

_DEADLINE_S = 60.0  # for a thread of a job, and for an actor that still has an image in hand
_NODE_S = 120.0  # to start or end a node, which takes 1 to 10 s on two cores
_STORE_BYTES = 100 * 2**20  # for images, on each node that is added

notes: list[str] = []


def note(word: str) -> tuple[int, list[str]]:
    """Append a word to `notes`; return the id of this process and all words."""
    notes.append(word)
    return os.getpid(), notes


def silence_errors() -> None:
    """Send what this process writes to its standard error nowhere: the traceback of an error that a lesson expects."""
    sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115


def watch_the_clock(seconds: float) -> list[tuple[float, float]]:
    """Read the clock in a loop; return the periods (from, to; in s) in which it never jumped by more than 1 ms."""
    periods = []
    begin = last = perf_counter()
    end = begin + seconds
    while last < end:
        now = perf_counter()
        if now - last > 0.001:
            periods.append((begin, last))
            begin = now
        last = now
    return [*periods, (begin, last)]


def hold_the_gil(n: int) -> tuple[float, float]:
    """Add up n numbers in one call into C code, which holds the GIL; return its begin and end in s."""
    begin = perf_counter()
    sum(range(n))
    return begin, perf_counter()


def count(n: int) -> None:
    """Count down from n to 0, in pure Python."""
    while n:
        n -= 1


def fork_while_locked(timeout_s: float) -> bool:
    """Fork while another thread holds a lock; return whether the child could acquire it within `timeout_s` seconds."""
    lock, held, forked = Lock(), Event(), Event()

    def hold() -> None:
        with lock:  # as a thread inside predict holds the predictor's lock
            held.set()
            forked.wait(_DEADLINE_S)

    holder = Thread(target=hold)
    holder.start()
    held.wait(_DEADLINE_S)
    child = os.fork()
    if child == 0:  # the copy begins here, without the holder
        os._exit(0 if lock.acquire(timeout=timeout_s) else 1)
    forked.set()  # the holder releases the original; the copy's lock stays as it was
    holder.join(_DEADLINE_S)
    return os.waitpid(child, 0)[1] == 0


def crash_beside_work(answers: Connection, images: int) -> None:
    """Answer one image after another; halfway through, another thread of this process crashes the process."""
    halfway = Event()

    def crash() -> None:
        halfway.wait(_DEADLINE_S)
        psutil.Process().kill()  # as the system does when memory is full: it ends processes, not threads

    thread = Thread(target=crash)
    thread.start()
    for image in range(images):
        if image == images // 2:
            halfway.set()
            thread.join(_DEADLINE_S)
        answers.send(image)


def last_value(image: NDArray[np.uint8]) -> int:
    """Return the last number of an image that came pickled."""
    return int(image.flat[-1])


def last_value_shared(name: str, shape: tuple[int, ...]) -> int:
    """Return the last number of a uint8 image that lies in shared memory."""
    memory = SharedMemory(name)
    try:
        return last_value(np.ndarray(shape, np.uint8, memory.buf))
    finally:
        memory.close()


def memory_of_children() -> dict[int, float]:
    """Return the MB that each child process has for itself, by process id; see `yolothreads.used_mb`."""
    pids = [child.pid for child in psutil.Process().children(recursive=True)]
    return {pid: mb for pid in pids if (mb := used_mb(pid, children=False)) > 0}  # others have just ended


@contextmanager
def local_cluster(cpus: int = 1, gpus: float = 0) -> Iterator[LocalCluster]:
    """Start Ray with one node and connect this process to it. When the block ends, everything there ends.

    Args:
        cpus: the number of CPUs that the first node offers: as many workers fit if each reserves one.
        gpus: the number of GPUs that each added node offers. The first node offers those of this machine.

    Raises:
        ArgumentError: this process is already connected to Ray.
    """
    with ExitStack() as ends:
        with environment_kept():  # Ray writes to the environment when it is imported
            import ray
        if ray.is_initialized():
            raise ArgumentError("This process is already connected to Ray; call ray.shutdown() first.")
        ends.callback(read_environment_again)
        ends.enter_context(environment_kept())
        # All nodes must know the password, also those that are added later.
        os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", **EQUAL_PRIORITY, **new_password()}
        connection = RayConnection()
        connection.open(None, cpus, 0)
        ends.callback(connection.close)
        # Nodes need a thread of their own: Linux ends them with the thread that started them. Ctrl-C, which reaches
        # only the main thread, cannot interrupt their start or end.
        keeper = ends.enter_context(ThreadPoolExecutor(1, thread_name_prefix="cluster"))
        cluster = LocalCluster(keeper, gpus)
        ends.callback(cluster._end)
        yield cluster


class LocalCluster:
    """A cluster that `local_cluster` made. This process is connected to "node A"; added nodes are "node B" and so on.

    Attributes:
        address: the address of the cluster, as "host:port".
        ids: Ray's id of each node by its name; lost nodes stay in it.
    """

    def __init__(self, keeper: ThreadPoolExecutor, gpus: float) -> None:
        import ray
        from ray.cluster_utils import Cluster

        here = ray.get_runtime_context()
        self.address: str = here.gcs_address
        self.ids: dict[str, str] = {"node A": here.get_node_id()}
        self._keeper, self._gpus = keeper, gpus
        self._nodes: dict[str, Any] = {}
        self._cluster: Any = keeper.submit(Cluster, shutdown_at_exit=False).result(_NODE_S)
        # Ray's own first node would write its address to a file outside its folder, so the first node is ours.
        self._cluster.head_node = SimpleNamespace(gcs_address=self.address)  # type: ignore[assignment]
        self._cluster.redis_address = self.address

    def add(self) -> str:
        """Start one more node, which offers one CPU, wait until it has joined, and return its name.

        Raises:
            DeadlineError: the node has not joined after two minutes.
        """
        import ray

        name = f"node {chr(ord('A') + len(self.ids))}"
        given = {"num_cpus": 1, "num_gpus": self._gpus, "object_store_memory": _STORE_BYTES, "include_dashboard": False}
        node = self._keeper.submit(self._cluster.add_node, wait=False, **given).result(_NODE_S)
        self._nodes[name], self.ids[name] = node, node.node_id
        deadline = monotonic() + _NODE_S
        while not any(known["NodeID"] == node.node_id and known["Alive"] for known in ray.nodes()):  # type: ignore[no-untyped-call]
            if monotonic() > deadline:
                raise DeadlineError(f"{name} has not joined the cluster in {_NODE_S:.0f} s; try it again.")
            sleep(0.05)  # Ray has nothing to wait on
        return name

    def kill(self, name: str) -> None:
        """Kill all processes of a node at once, as if its plug were pulled.

        Raises:
            ArgumentError: it is the first node, it has been killed before, or there is no such node.
        """
        if name not in self._nodes:
            raise ArgumentError(f'"{name}" cannot be killed; the nodes that can: {", ".join(self._nodes) or "none"}.')
        self._keeper.submit(self._cluster.remove_node, self._nodes.pop(name), allow_graceful=False).result(_NODE_S)

    def where(self, pool: RayActors) -> list[str]:
        """Return the node of each worker of an open pool, by the worker's number."""
        return [self._node_of(pool._workers[index]) for index in sorted(pool._workers)]

    def watch(self, pool: RayActors) -> list[Span]:
        """Record which worker processes each image, and on which node. Call it before the pool is opened.

        Returns a list that grows: one "load" span per worker that starts, and one "infer" span per image that is
        answered. The row of a span names the worker and its node.
        """
        spans: list[Span] = []
        rows: dict[RemoteWorker, str] = {}

        def note(index: int, worker: RemoteWorker, stage: str, start: float, end: float) -> None:
            if worker not in rows:
                rows[worker] = f"worker {index}, {self._node_of(worker)}"
            spans.append(Span(rows[worker], stage, start, end))

        pool.observer = note
        return spans

    def _node_of(self, worker: Any) -> str:
        import ray

        def node_id(_: object) -> str:  # local, so that Ray sends its code: the actor need not import this module
            return ray.get_runtime_context().get_node_id()

        found = ray.get(worker._actor.__ray_call__.remote(node_id), timeout=_DEADLINE_S)
        return {known: name for name, known in self.ids.items()}.get(found, found)

    def _end(self) -> None:
        for name in list(self._nodes):
            self.kill(name)
