"""One contender of `benchmarks.given_cores`, in a process of its own: it does a round for each line that it reads."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from time import perf_counter
from typing import Any


def main(name: str, count: int, imgsz: int) -> None:
    """Open the contender on one core, say so, and print the seconds of each round."""
    import torch  # noqa: F401 - while this process may still use all cores
    from ultralytics import YOLO

    from yolothreads import pools, scenes
    from yolothreads.weights import bundled

    images = [scenes.scene(seed, (imgsz, imgsz)).image for seed in range(count)]
    run: Callable[[], Any]
    with ExitStack() as ends:
        if hasattr(pools, name):
            pool = getattr(pools, name)(device="cpu", imgsz=imgsz)
            os.sched_setaffinity(0, {0})
            ends.enter_context(pool)
            run = lambda: list(pool.map(images))  # noqa: E731
        else:
            os.sched_setaffinity(0, {0})
            model = YOLO(bundled())
            run = lambda: [model.predict(image, device="cpu", imgsz=imgsz, verbose=False) for image in images]  # noqa: E731
        run()
        print("ready", flush=True)
        for _ in sys.stdin:
            start = perf_counter()
            run()
            print(perf_counter() - start, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
