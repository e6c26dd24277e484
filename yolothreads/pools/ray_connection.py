"""The connection of this process to Ray: made for the first open pool, and ended with the last.

Ray's private names stand in the last part of this file: tests/pools/test_private_names.py names the Ray version with
which they were checked.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import re
import secrets
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from importlib import import_module
from typing import Any

from yolothreads.errors import ArgumentError

_CONNECT_S = 180.0  # to start or end Ray, which takes 3 to 20 s on two cores
_ANSWER_S = 30.0  # of a cluster, to a question in a fresh process
_STORE_BYTES = 256 * 2**20  # for images: more than enough, as each worker has one at a time


class RayConnection:
    """The connection that all pools of a process share. A Ray that is connected already is used, and keeps running."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pools = 0
        self._ends = ExitStack()

    def open(self, address: str | None, workers: int, weights_bytes: int) -> None:
        """Count one more pool, and connect if this is the first; `address=None` starts Ray on this machine.

        Raises:
            ArgumentError: no cluster answers at `address`, or this process is connected to another one.
        """
        with self._lock, environment_kept():
            log = logging.getLogger("ray")
            as_found = log.level, log.handlers[:], faulthandler.is_enabled()
            import ray

            if ray.is_initialized():
                _check_is_here(address)
            else:
                with ExitStack() as ends:
                    ends.callback(_leave_as_found, *as_found)
                    log.setLevel(logging.CRITICAL)
                    ends.enter_context(_logs_of_nodes_hidden())
                    self._connect(ends, address, workers, _STORE_BYTES + 2 * weights_bytes)
                    self._ends = ends.pop_all()
            self._pools += 1

    def close(self) -> None:
        """Count one pool less; after the last one, end what `open` has started."""
        with self._lock:
            self._pools -= 1
            if self._pools == 0:
                self._ends.close()

    def _connect(self, ends: ExitStack, address: str | None, workers: int, store_bytes: int) -> None:
        """Connect; `ends` gets the calls that undo it, also if this fails half-way."""
        folder = ""
        if address is None:  # the path of a socket may have 107 bytes, so not in a long $TMPDIR
            place = "/tmp" if os.name == "posix" else None
            folder = ends.enter_context(
                tempfile.TemporaryDirectory(prefix="ray-", dir=place, ignore_cleanup_errors=True)
            )
        # A thread of its own: Linux ends Ray's processes with the thread that started them, Ctrl-C cannot interrupt it
        # half-way, and outside the main thread Ray leaves the signal handlers alone.
        keeper = ThreadPoolExecutor(1, thread_name_prefix="Ray")
        ends.callback(keeper.shutdown)
        ends.callback(lambda: keeper.submit(_end).result(_CONNECT_S))
        how = keeper.submit(_join, address) if address else keeper.submit(_start, folder, workers, store_bytes)
        how.result(_CONNECT_S)


def _check_is_here(address: str | None) -> None:
    import ray

    here = ray.get_runtime_context().gcs_address
    if address not in (None, "auto", here):
        raise ArgumentError(
            f'This process is connected to Ray at "{here}" already, not at "{address}"; leave the address out, or call '
            "ray.shutdown() first."
        )


def _join(address: str) -> None:
    import ray

    try:
        if "://" not in address:
            _check_answers(address)
        ray.init(address, log_to_driver=False, configure_logging=False)
    except (OSError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        raise ArgumentError(
            f'No Ray cluster could be joined at "{address}" ({" ".join(str(error).split())[:200]}); start one there '
            "with `ray start --head`, or leave the address out."
        ) from error


def _start(folder: str, workers: int, store_bytes: int) -> None:
    import ray

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if "RAY_AUTH_MODE" not in os.environ:  # else Ray would keep a password in the home directory, for good
        os.environ |= new_password()
    read_environment_again()
    ray.init(
        "local",
        num_cpus=workers,  # Ray prepares this many processes for actors at once; no actor books one
        object_store_memory=store_bytes,
        include_dashboard=False,
        log_to_driver=False,
        configure_logging=False,
        _temp_dir=folder,
    )


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


def _leave_as_found(level: int, handlers: list[logging.Handler], with_faulthandler: bool) -> None:
    log = logging.getLogger("ray")
    log.setLevel(level)
    log.handlers[:] = handlers
    if not with_faulthandler:
        faulthandler.disable()


# --- Ray's private names ---


def read_environment_again() -> None:
    """Make Ray read its password again: it reads it once per process, and has no public way to forget it."""
    raylet: Any = import_module("ray._raylet")
    raylet.Config.initialize("")  # first, while there is a password, as Ray itself does
    raylet.AuthenticationTokenLoader.instance().reset_cache()


@contextmanager
def _logs_of_nodes_hidden() -> Iterator[None]:
    """Hide the page of Ray's own log that the end of a node would print; `log_to_driver=False` does not hide it.

    The public variable RAY_DEDUP_LOGS_SKIP_REGEX works only before the first `import ray`, and for the whole process.
    """
    printer: Any = import_module("ray._private.worker").stdout_deduplicator
    before, printer.skip_re = printer.skip_re, re.compile("")
    try:
        yield
    finally:
        printer.skip_re = before


def _check_answers(address: str) -> None:
    """Raise a ConnectionError if no Ray answers at an address.

    A process of its own asks, because the question could wait for ever. `ray.init` has no time limit for it.
    """
    services: Any = import_module("ray._private.services")
    code = "import sys; from ray._raylet import GcsClient; GcsClient(address=sys.argv[1])"
    command = [sys.executable, "-c", code, str(services.canonicalize_bootstrap_address(address))]
    try:
        subprocess.run(command, timeout=_ANSWER_S, check=True, capture_output=True)
    except subprocess.TimeoutExpired:
        raise ConnectionError(f"nothing answered in {_ANSWER_S:g} s") from None
    except subprocess.CalledProcessError as error:
        raise ConnectionError(error.stderr.decode(errors="replace").strip().rpartition("\n")[2]) from None
