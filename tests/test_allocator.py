"""Freed memory goes back to the system, that of ended threads too, where the C library is glibc."""

import subprocess
import sys
import threading

import pytest

from yolothreads import allocator, child

only_glibc = pytest.mark.skipif(allocator._glibc() is None, reason="other C libraries return memory by themselves")

PROGRAM = """
import sys, threading
from yolothreads import allocator
glibc = allocator._glibc()
glibc.free(glibc.malloc(31 << 20))  # from now on, blocks of 4 MB lie in the arena of their thread
import ctypes

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 1e6

def work(everyone):
    blocks = [glibc.malloc(4_000_000) for _ in range(10)]
    for block in blocks:
        ctypes.memset(block, 1, 4_000_000)
    ids.append(threading.get_native_id())
    everyone.wait()  # so that each thread has an arena of its own
    for block in blocks:
        glibc.free(block)

ids = []
before, everyone = resident(), threading.Barrier(3)
threads = [threading.Thread(target=work, args=(everyone,)) for _ in range(3)]
for thread in threads: thread.start()
for thread in threads: thread.join()
kept = resident() - before
allocator.return_freed()
inside = resident() - before
allocator.return_freed_of_ended_threads(ids)
print(kept, inside, resident() - before)
"""


@only_glibc
def test_what_ended_threads_freed_goes_back() -> None:
    said = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=120)
    kept, inside, left = map(float, said.stdout.split())
    assert kept > 60, "glibc keeps less than it did: is this module still needed?"
    assert left < 10 and inside > 30  # only the ends of the arenas are left to the second step


@only_glibc
def test_a_user_who_has_chosen_a_threshold_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1000000")
    monkeypatch.setattr(allocator, "_trim_in_threads", lambda *_: pytest.fail("the threshold was changed"))
    allocator.return_freed_of_ended_threads([])


def test_nothing_happens_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocator, "_glibc", lambda: None)
    before = threading.active_count()
    allocator.return_freed()
    allocator.return_freed_of_ended_threads([1, 2])
    assert threading.active_count() == before


@only_glibc
@pytest.mark.nightly
@pytest.mark.parametrize("name", ["BatchingWorker", "Replicas"])
def test_a_pool_keeps_nothing_that_loading_freed_and_nothing_once_closed(name: str) -> None:
    given = (name, "bundled", 640, 1 if name == "BatchingWorker" else 4)
    found = child.call("benchmarks.model_memory:pool", *given, timeout_s=600)
    assert found["opened"] - found["opened, freed returned"] < 8, found
    assert found["closed"] < 50 < found["worked"], found
