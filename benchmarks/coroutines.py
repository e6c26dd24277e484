"""A thousand coroutines ask one pool at once: right answers, memory, and how long the event loop stands still.

    python -m benchmarks.coroutines --calls 1000

Each pool is asked with `await pool.predict(...)` and, beside it, with `asyncio.to_thread` around `submit().result()`.
The images are paths, so that the memory shows how many pictures are read ahead. A heartbeat of 10 ms measures the loop.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from statistics import median, quantiles

import cv2

from yolothreads import BatchingWorker, ModelPerProcess, OnnxSession, Pool, Replicas, Sequential, scene, stamp, used_mb

CONFS = (0.05, 0.25, 0.5, 0.7)
Ask = Callable[[Pool, Path, float], Coroutine]


async def awaited(pool: Pool, file: Path, conf: float) -> int:
    """Ask as asyncio does."""
    return len(await pool.predict(file, conf=conf))


async def in_thread(pool: Pool, file: Path, conf: float) -> int:
    """Ask in a thread of asyncio's own executor."""
    return len(await asyncio.to_thread(lambda: pool.submit(file, conf=conf).result()))


async def heartbeat(late_ms: list[float]) -> None:
    """Note for each beat of 10 ms how late it came."""
    while True:
        start = time.perf_counter()
        await asyncio.sleep(0.01)
        late_ms.append(1000 * (time.perf_counter() - start - 0.01))


async def storm(pool: Pool, asks: list[tuple[Path, float]], how: Ask) -> tuple[list[int], float, list[float], float]:
    """Ask all at once; return answers, seconds, the lateness of the beats in ms, and the growth of the memory in MB."""
    late_ms: list[float] = []
    beat = asyncio.create_task(heartbeat(late_ms))
    before, most, start = used_mb(), 0.0, time.perf_counter()
    tasks = [asyncio.create_task(how(pool, *ask)) for ask in asks]
    while not all(task.done() for task in tasks):
        await asyncio.wait(tasks, timeout=0.25)
        most = max(most, used_mb() - before)
    beat.cancel()
    return [task.result() for task in tasks], time.perf_counter() - start, late_ms, most


def main() -> None:
    """Measure each pool both ways."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=1000, help="coroutines (1000)")
    args = parser.parse_args()
    print(stamp())
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, f"{seed}.png") for seed in range(8)]
        for seed, file in enumerate(files):
            cv2.imwrite(str(file), scene(seed, (480, 640)).image)
        asks = [(files[k % 8], CONFS[k // 8 % 4]) for k in range(args.calls)]
        with Sequential(device="cpu", imgsz=160, threads=1) as pool:
            right = {ask: len(pool.submit(ask[0], conf=ask[1]).result()) for ask in set(asks)}
        for kind in (BatchingWorker, Replicas, ModelPerProcess, OnnxSession):
            for how in (awaited, in_thread):
                with kind(device="cpu", imgsz=160, threads=1) as pool:
                    answers, took, late, grown = asyncio.run(storm(pool, asks, how))
                wrong = sum(answer != right[ask] for answer, ask in zip(answers, asks, strict=True))
                print(
                    f"{kind.__name__:16} {how.__name__:10} wrong {wrong}; {args.calls / took:6.1f} images/s; "
                    f"loop late by {median(late):.1f} ms (99 %: {quantiles(late, n=100)[98]:.1f}, "
                    f"most {max(late):.0f}); memory {grown:+.0f} MB",
                    flush=True,
                )


if __name__ == "__main__":
    main()
