"""The soak: a short one passes, and it fails where an answer is wrong or something is left."""

from collections import Counter
from typing import Any

import pytest
from deadlines import scaled

from benchmarks import soak
from yolothreads.devices import torch_threads_kept
from yolothreads.pools import BatchingWorker, ModelPerProcess, Replicas

pytestmark = pytest.mark.timeout(scaled(300))


@pytest.mark.nightly
def test_a_short_soak_of_three_pools_passes(capsys: pytest.CaptureFixture[str]) -> None:
    with torch_threads_kept():
        found = soak.soak([Replicas, BatchingWorker, ModelPerProcess], seconds=30.0, episode_s=5.0)
    found.memory.clear()  # half a minute says nothing about the memory
    assert found.passed, found
    assert found.counts["right"] > 50 and found.counts["refused"] > 0


def finished(**changes: Any) -> soak.Soak:
    found = soak.Soak(Counter(right=10), Counter(), [(t, 100.0) for t in range(10)], seconds=9.0)
    for name, value in changes.items():
        setattr(found, name, value)
    return found


def test_a_soak_passes_only_if_all_was_right_nothing_is_left_and_the_memory_is_flat() -> None:
    assert finished().passed
    assert not finished(counts=Counter({"right": 10, "WRONG": 1})).passed
    assert not finished(counts=Counter()).passed
    assert not finished(left=Counter(thread=1)).passed
    assert not finished(memory=[(t, 100.0 + 5 * t) for t in range(10)]).passed
