"""Cores: those that a process is given, read from its affinity and from the quotas of its control groups."""

import os
from pathlib import Path

import pytest

from yolothreads import devices

V2 = "30 24 0:26 {root} {point} rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = "31 24 0:27 {root} {point} rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
OTHERS = "24 1 0:22 / / rw - ext4 /dev/root rw\n32 24 0:28 / /none rw - cgroup cgroup rw,memory\n"


def process(folder: Path, groups: str, mount: str, root: str = "/") -> Path:
    """Write the files of a process in `groups`, whose control groups are mounted at `folder`/mount."""
    proc = folder / "proc"
    proc.mkdir()
    (proc / "cgroup").write_text(groups)
    (proc / "mountinfo").write_text(OTHERS + mount.format(root=root, point=folder / "mount"))
    return proc


def limit(folder: Path, group: str, **files: str) -> None:
    """Write the files of a group; their names have "_" first for each "."."""
    at = folder / "mount" / group
    at.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (at / name.replace("cpu_", "cpu.", 1)).write_text(text + "\n")


def test_the_smallest_quota_of_nested_groups_holds(tmp_path: Path) -> None:
    proc = process(tmp_path, "0::/pods/pod/box\n", V2)
    limit(tmp_path, "pods", cpu_max="800000 100000")
    limit(tmp_path, "pods/pod", cpu_max="150000 100000")
    limit(tmp_path, "pods/pod/box", cpu_max="max 100000")
    assert devices.cpu_quota(proc) == 1.5
    limit(tmp_path, "pods/pod/box", cpu_max="25000 50000")
    assert devices.cpu_quota(proc) == 0.5


def test_groups_of_version_1_are_read_and_minus_one_is_no_limit(tmp_path: Path) -> None:
    proc = process(tmp_path, "5:memory:/small\n4:cpu,cpuacct:/box/inner\n1:name=systemd:/x\n0::/\n", V1)
    limit(tmp_path, "small", cpu_cfs_quota_us="10000", cpu_cfs_period_us="100000")  # not its group for the CPU
    limit(tmp_path, "box/inner", cpu_cfs_quota_us="-1", cpu_cfs_period_us="100000")
    assert devices.cpu_quota(proc) is None
    limit(tmp_path, "box", cpu_cfs_quota_us="300000", cpu_cfs_period_us="100000")
    assert devices.cpu_quota(proc) == 3.0


@pytest.mark.parametrize(("group", "root"), [("/docker/ab12", "/docker/ab12"), ("/", "/"), ("/../other", "/")])
def test_a_container_that_sees_only_its_own_group_reads_it(tmp_path: Path, group: str, root: str) -> None:
    proc = process(tmp_path, f"0::{group}\n", V2, root)
    limit(tmp_path, "", cpu_max="200000 100000")
    assert devices.cpu_quota(proc) == 2.0


def test_no_control_groups_and_no_limit_are_none(tmp_path: Path) -> None:
    assert devices.cpu_quota(tmp_path / "nothing here") is None
    assert devices.cpu_quota(process(tmp_path, "0::/\n", V2)) is None


@pytest.mark.parametrize(
    ("affinity", "quota", "given"), [(8, None, 8), (8, 2.0, 2), (8, 2.9, 2), (8, 0.5, 1), (2, 16.0, 2)]
)
def test_given_are_the_cores_of_the_affinity_within_the_quota(
    monkeypatch: pytest.MonkeyPatch, affinity: int, quota: float | None, given: int
) -> None:
    if hasattr(os, "process_cpu_count"):
        monkeypatch.setattr(os, "process_cpu_count", lambda: affinity)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(affinity)), raising=False)
    monkeypatch.setattr(devices, "cpu_quota", lambda: quota)
    assert devices.cores() == given


def test_python_says_itself_how_many_cores_it_may_use_where_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "process_cpu_count", lambda: 3, raising=False)  # since Python 3.13
    monkeypatch.setattr(devices, "cpu_quota", lambda: None)
    assert devices.cores() == 3
