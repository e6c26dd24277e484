"""A Ray cluster on this machine for lesson 09: each node is a group of processes that behaves as a machine does."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from time import perf_counter
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from yolothreads.errors import ArgumentError
from yolothreads.memory import used_mb
from yolothreads.pools import RayActors
from yolothreads.pools.ray_connection import RayConnection, environment_kept, new_password, read_environment_again
from yolothreads.trace import Span

_NODE_S = 120  # to start or end a node, which takes 1 to 10 s on two cores
_ANSWER_S = 60.0  # of an actor, behind the image that it has in hand
_STORE_BYTES = 100 * 2**20  # of each node that is added, for images


def memory_of_children() -> dict[int, float]:
    """Return the MB that each child process has for itself, by process id; see `yolothreads.used_mb`."""
    used = {child.pid: used_mb(child.pid, children=False) for child in psutil.Process().children(recursive=True)}
    return {pid: mb for pid, mb in used.items() if mb > 0}  # others have just ended


@contextmanager
def local_cluster(cpus: int = 1, gpus: float = 0) -> Iterator[LocalCluster]:
    """Start Ray with one node, connect this process to it, and end whatever runs there when the block ends.

    Args:
        cpus: how many CPUs the first node offers, that is, how many workers fit if each books one.
        gpus: how many GPUs each further node offers; the first one offers those of this machine.

    Raises:
        ArgumentError: this process is connected to Ray already.
    """
    with ExitStack() as ends:
        with environment_kept():  # Ray writes to it when it is imported
            import ray
        if ray.is_initialized():
            raise ArgumentError("This process is connected to Ray already; call ray.shutdown() first.")
        ends.callback(read_environment_again)
        ends.enter_context(environment_kept())
        # All nodes must know the password, also those that are added later.
        os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", **new_password()}
        connection = RayConnection()
        connection.open(None, cpus, 0)
        ends.callback(connection.close)
        # A thread of its own: Linux ends a node with the thread that started it, and Ctrl-C cannot interrupt that.
        keeper = ends.enter_context(ThreadPoolExecutor(1, thread_name_prefix="cluster"))
        cluster = LocalCluster(keeper, gpus)
        ends.callback(lambda: cluster._do(cluster._end))
        yield cluster


class LocalCluster:
    """Made by `local_cluster`. Its nodes are called "node A" (which this process is connected to), "node B", ...

    Attributes:
        address: where it is reached, as "host:port". ids: Ray's name of each node by ours, of lost nodes too.
    """

    def __init__(self, keeper: ThreadPoolExecutor, gpus: float) -> None:
        import ray

        self._keeper, self._gpus = keeper, gpus
        self._nodes: dict[str, Any] = {}
        self.address: str = ray.get_runtime_context().gcs_address
        self.ids: dict[str, str] = {"node A": ray.get_runtime_context().get_node_id()}

    def add(self) -> str:
        """Start one more node, which offers one CPU, and wait until it has joined; gives its name."""
        return str(self._do(self._add))

    def kill(self, name: str) -> None:
        """Kill all processes of a node at once, as if its plug were pulled.

        Raises:
            ArgumentError: it is the first node, it has been killed before, or there never was such a node.
        """
        if name not in self._nodes:
            raise ArgumentError(f'"{name}" cannot be killed; one of these can: {", ".join(self._nodes) or "none"}.')
        self._do(lambda: _kill(self._nodes.pop(name)))

    def where(self, pool: RayActors) -> list[str]:
        """The node of each worker of an open pool, by the worker's number."""
        return [self._node_of(pool._staff[index]) for index in sorted(pool._staff)]

    def watch(self, pool: RayActors) -> list[Span]:
        """Note from now on which worker does an image, and where: call it before the pool is opened.

        Gives a list that grows: "load" spans of workers that start, "infer" spans of images that were answered.
        """
        spans: list[Span] = []
        hire = pool._hire

        def watched_hire(index: int) -> Any:
            start = perf_counter()
            worker = hire(index)
            row = f"worker {index}, {self._node_of(worker)}"
            spans.append(Span(row, "load", start, perf_counter()))
            worker.__dict__["predict"] = _watched(worker.predict, row, spans)
            return worker

        pool.__dict__["_hire"] = watched_hire
        return spans

    def _node_of(self, worker: Any) -> str:
        import ray

        def node_id(_: object) -> str:  # local, so that Ray sends its code: the actor need not import this module
            return ray.get_runtime_context().get_node_id()

        found = ray.get(worker._actor.__ray_call__.remote(node_id), timeout=_ANSWER_S)
        return {known: name for name, known in self.ids.items()}.get(found, found)

    # In the keeper's thread, which does one thing after another.

    def _add(self) -> str:
        name = f"node {chr(ord('A') + len(self.ids))}"
        self._nodes[name] = _start_node(self.address, self._gpus)
        self.ids[name] = self._nodes[name].node_id
        return name

    def _end(self) -> None:
        while self._nodes:
            _kill(self._nodes.popitem()[1])

    def _do(self, work: Callable[[], Any]) -> Any:
        return self._keeper.submit(work).result(_NODE_S)


def _start_node(address: str, gpus: float) -> Any:
    """As `ray.cluster_utils.Cluster.add_node` does, which sets signal handlers and works in the main thread only."""
    from ray._private.node import Node
    from ray._private.parameter import RayParams
    from ray._private.services import wait_for_node

    given: dict[str, Any] = {"num_cpus": 1, "num_gpus": gpus, "object_store_memory": _STORE_BYTES}
    given |= {"gcs_address": address, "redis_address": address, "node_manager_port": 0}
    given |= {"min_worker_port": 0, "max_worker_port": 0, "dashboard_agent_listen_port": None}
    parameters = RayParams(include_log_monitor=False, include_dashboard=False, **given)  # type: ignore[arg-type]
    node = Node(parameters, shutdown_at_exit=False, spawn_reaper=True)  # the latter: end it with this process
    wait_for_node(address, node.plasma_store_socket_name, _NODE_S)
    return node


def _kill(node: Any) -> None:
    node.kill_all_processes(check_alive=False, allow_graceful=False, wait=True)


def _watched(predict: Callable[..., Any], row: str, spans: list[Span]) -> Callable[..., Any]:
    def watched(pixels: NDArray[np.uint8], **settings: Any) -> Any:
        start = perf_counter()
        results = predict(pixels, **settings)
        spans.append(Span(row, "infer", start, perf_counter()))
        return results

    return watched
