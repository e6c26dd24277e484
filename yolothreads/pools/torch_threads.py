"""Check that the torch threads of a worker are no slower than one of them, and a warning where they are.

libgomp, torch's OpenMP library on Linux, lets a thread that waits for others spin for milliseconds before it sleeps.
The network of YOLO has hundreds of parallel parts, and at the end of each one all threads wait for the last. Where
another program holds a core, or fewer cores are given than seen, the threads that wait spin on the very core that the
last one needs: an image of 30 ms takes seconds. How long they spin can only be set before torch is imported, for the
whole process (GOMP_SPINCOUNT, OMP_WAIT_POLICY), and threads that sleep at once are slower on cores that are free.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from time import perf_counter
from typing import Any, NamedTuple

from yolothreads.pools.base import Predict, Size, blank

_SLOWER = 2.0
_LEAST_S = 0.05  # an image that takes less is that of a tiny network; where threads wait for cores, it takes far more


class Slow(NamedTuple):
    """Seconds per image that were measured with `threads` torch threads per worker, and with one."""

    threads: int
    all_s: float
    one_s: float

    def warn(self, pool: str) -> None:
        """Warn that a pool has fallen back to one thread per worker."""
        warnings.warn(
            f"{pool} uses one torch thread per worker, because an image took {self.all_s:.2g} s with {self.threads} "
            f"and {self.one_s:.2g} s with one: other work or a limit holds the cores. Set threads=1 to choose this "
            f"yourself, or threads={self.threads} to keep them in any case.",
            RuntimeWarning,
            stacklevel=2,
        )


def find_slow(threads: int, seconds_with: Callable[[int], float]) -> Slow | None:
    """Return what was measured if `threads` threads take over twice as long as one, twice in a row.

    Args:
        threads: the number of threads.
        seconds_with: measures one image with a number of threads.
    """
    for _ in range(2):
        slow = Slow(threads, one_s=seconds_with(1), all_s=seconds_with(threads))
        if slow.all_s <= max(_LEAST_S, _SLOWER * slow.one_s):
            return None
    return slow


def seconds_with(threads: int, predict: Predict, imgsz: Size, channels: int, settings: dict[str, Any]) -> float:
    """Return the seconds that a prediction takes with a number of torch threads, which this thread keeps."""
    import torch

    torch.set_num_threads(threads)
    start = perf_counter()
    predict(blank(imgsz, channels), **settings)
    return perf_counter() - start


def fall_back(threads: int, predict: Predict, imgsz: Size, channels: int, settings: dict[str, Any]) -> Slow | None:
    """Measure the threads of this process; leave it with one if they are slow, and return what was measured."""
    import torch

    slow = find_slow(threads, lambda count: seconds_with(count, predict, imgsz, channels, settings))
    if slow:
        torch.set_num_threads(1)
    return slow
