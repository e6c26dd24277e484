"""The devices and cores of this machine, and errors of a full memory."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Union

from yolothreads.errors import DeviceError, OutOfMemoryError

if TYPE_CHECKING:
    import torch

Device = Union[str, int, "torch.device", None]
"""One device: "auto", or whatever `YOLO.predict` takes for one: "cpu", "cuda", "cuda:N", "mps", N, "N", None."""

Devices = Device | Sequence[Device]
"""One device, or a tuple or list of several."""

# --- cores ---


def cores() -> int:
    """Return the number of CPU cores that this process is given, 1 or more; it may see more (`os.cpu_count`).

    It is the number of cores in the process's affinity (taskset, cpusets), within the CPU quota of its control group
    (`docker run --cpus`, limits of Kubernetes). A quota of 2.5 cores counts as 2.
    """
    quota = cpu_quota()
    return _affinity() if quota is None else max(1, min(_affinity(), int(quota)))


def _affinity() -> int:
    if hasattr(os, "process_cpu_count"):  # since Python 3.13; it knows `-X cpu_count` too
        return os.process_cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_quota(proc: Path = Path("/proc/self")) -> float | None:
    """Return the cores' worth of CPU time that this process's control group may use; None without a limit.

    Groups are nested, and each may have a limit: the smallest one holds. Versions 1 and 2 of control groups are read
    (docs.kernel.org/admin-guide/cgroup-v2.html, docs.kernel.org/scheduler/sched-bwc.html).

    Args:
        proc: the folder of the process; its files `cgroup` and `mountinfo` name the groups and where they are mounted.
    """
    quotas: list[float] = []
    with suppress(OSError):  # this system has no control groups
        groups = [line.split(":", 2) for line in (proc / "cgroup").read_text().splitlines()]
        for line in (proc / "mountinfo").read_text().splitlines():
            mount, _, filesystem = line.partition(" - ")
            (*_, root, point), kind = mount.split()[:5], filesystem.split()
            controllers = {"cpu"} & set(kind[2].split(",")) if kind[0] == "cgroup" else set()
            for _, names, path in groups:
                if (kind[0] == "cgroup2" and not names) or controllers & set(names.split(",")):
                    quotas += _quotas(Path(point), PurePosixPath(root), PurePosixPath(path))
    return min(quotas, default=None)


def _quotas(point: Path, root: PurePosixPath, path: PurePosixPath) -> Iterator[float]:
    """Yield the quotas of a group and of those around it, as far as they can be seen in this mount of them.

    Args:
        point: where the groups are mounted.
        root: the group that is mounted there; a container may see only its own.
        path: the group of the process.
    """
    inside = path.relative_to(root) if path.is_relative_to(root) else PurePosixPath()
    for folder in (inside, *inside.parents):
        with suppress(OSError, ValueError):  # the root group has no such file, and "max" is no number
            quota, period = (point / folder / "cpu.max").read_text().split()
            yield int(quota) / int(period)
        with suppress(OSError, ValueError):
            microseconds = int((point / folder / "cpu.cfs_quota_us").read_text())
            if microseconds > 0:  # -1 is no limit
                yield microseconds / int((point / folder / "cpu.cfs_period_us").read_text())


# --- devices ---


def devices() -> list[str]:
    """Return the devices here, best first: each "cuda:N", then "mps", then "cpu"."""
    import torch

    found = [f"cuda:{i}" for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    if torch.backends.mps.is_available():
        found.append("mps")
    return [*found, "cpu"]


def resolve(device: Device) -> str:
    """Return the name of a device that is here: "cpu", "cuda:N" or "mps".

    Args:
        device: "auto" for the best one here; or one of those, "cuda", or a `torch.device`; or, as in `YOLO.predict`,
            the number of a GPU (0 or "0"), or None for the present GPU if there is one, else the CPU.

    Raises:
        DeviceError: there is no such device; the message names the devices that are here.
    """
    import torch

    here = devices()
    wanted = device
    if device == "auto":
        wanted = here[0]
    elif device is None:
        wanted = f"cuda:{torch.cuda.current_device()}" if torch.cuda.is_available() else "cpu"
    elif isinstance(device, torch.device):
        wanted = device.type if device.index is None or device.type != "cuda" else str(device)
    elif isinstance(device, int) and not isinstance(device, bool):
        wanted = f"cuda:{device}"
    elif isinstance(device, str) and device.isdecimal():
        wanted = f"cuda:{int(device)}"
    if wanted == "cuda":
        wanted = "cuda:0"
    if wanted not in here:
        raise DeviceError(f'There is no device "{device}" here; use "auto" or one of: {", ".join(here)}.')
    return str(wanted)


@contextmanager
def memory_errors_named(device: str) -> Iterator[None]:
    """Turn errors of a full memory into an `OutOfMemoryError` that names the remedy.

    The unused memory that torch has reserved is released first, so that the next image finds room.
    """
    try:
        yield
    except Exception as error:
        import torch

        # On the CPU torch raises a plain RuntimeError, OpenCV and ONNX Runtime errors of their own.
        words = ("can't allocate memory", "not enough memory", "Insufficient memory", "Failed to allocate memory")
        full = isinstance(error, torch.OutOfMemoryError | MemoryError) or any(word in str(error) for word in words)
        if isinstance(error, OutOfMemoryError) or not full:
            raise
        if device.startswith("cuda"):
            torch.cuda.empty_cache()
        raise OutOfMemoryError(
            f"The memory of {device} was full during a prediction; use a smaller imgsz, fewer workers, "
            "smaller batches, or a pool that shares its weights (Replicas)."
        ) from error


@contextmanager
def torch_threads_kept() -> Iterator[None]:
    """Restore torch's thread count at the end of the block; ultralytics changes it whenever it sets a model up."""
    import torch

    count = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(count)
