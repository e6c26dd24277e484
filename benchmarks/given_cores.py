"""Pools of threads where a process is given fewer cores than it sees: `python -m benchmarks.given_cores`.

Each contender runs in a fresh process, because libgomp waits differently once a process has had more threads than
cores. The process imports torch and makes its pool on all cores, and is pinned to one of them before it opens the
pool. The contenders then take turns in interleaved rounds, and each ratio is taken within a round. Needs two cores, and
Linux.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from statistics import median
from typing import Any

from yolothreads.measure import stamp, turns
from yolothreads.tables import Table

PLAIN = "YOLO.predict"
POOLS = ("Sequential", "BatchingWorker", "Replicas", "ModelPerThread", "LockedModel", "OnnxSession")
LEAST = 0.9
"""The goal: the speed of each pool, relative to plain YOLO."""


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser("python -m benchmarks.given_cores", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="interleaved rounds (9)")
    parser.add_argument("--images", type=int, default=16, help="images per round (16)")
    parser.add_argument("--imgsz", type=int, default=320, help="side of the images in pixels (320)")
    args = parser.parse_args()
    speeds = measure((PLAIN, *POOLS), args.rounds, args.images, args.imgsz)
    rows = []
    for name, own in speeds.items():
        ratios = [one / plain for one, plain in zip(own, speeds[PLAIN], strict=True)]
        share = f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        met = "-" if name == PLAIN else "yes" if median(ratios) >= LEAST else "no"
        rows.append([name, f"{median(own):.1f}", share, met])
    seen = f"{os.cpu_count()} cores seen, 1 given; {args.imgsz} pixels, {args.rounds} rounds."
    caption = f"{seen} The goal is {LEAST} of plain YOLO or more. {stamp()}"
    print(Table(["contender", "images/s", f"of {PLAIN} (range)", "goal met"], rows, caption))


def measure(names: tuple[str, ...], rounds: int, images: int, imgsz: int) -> dict[str, list[float]]:
    """Return the images per second of each contender in each round."""
    processes: list[Any] = []
    try:
        for name in names:
            command = [sys.executable, "-m", "benchmarks.given_cores_contender", name, str(images), str(imgsz)]
            processes.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
            processes[-1].stdout.readline()  # it is ready
        speeds: dict[str, list[float]] = {name: [] for name in names}
        for index in turns(len(names), rounds):
            processes[index].stdin.write("go\n")
            processes[index].stdin.flush()
            speeds[names[index]].append(images / float(processes[index].stdout.readline()))
        return speeds
    finally:
        for process in processes:
            process.stdin.close()  # it ends
            process.stdout.close()
            process.wait(60)


if __name__ == "__main__":
    main()
