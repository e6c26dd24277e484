"""Memory of many workers around one model, as ratios within one run: `python -m benchmarks.model_memory`.

Everything is measured in fresh processes, beyond a process that has had a pool of the bundled model. The model has the
official architecture with random weights, so nothing is downloaded. Linux only, because peaks are read from /proc.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from yolothreads import child
from yolothreads.measure import stamp
from yolothreads.tables import Table

WITHIN = 1.25
"""The goal: replicas after work, in units of one YOLO object after work plus the activations of one image each."""
_HERE = "benchmarks.model_memory"  # not __name__, which a program calls "__main__"
_CHILD_S = 1800.0


def main() -> None:
    """Measure, and print two tables."""
    parser = argparse.ArgumentParser("python -m benchmarks.model_memory", description=__doc__)
    parser.add_argument("--model", default="yolo11m", help="the official name of an architecture (yolo11m)")
    parser.add_argument("--imgsz", type=int, default=640, help="side of the images in pixels (640)")
    parser.add_argument("--replicas", type=int, default=8, help="workers of Replicas (8)")
    args = parser.parse_args()
    for table in tables(measure(args.model, args.imgsz, args.replicas), args.replicas):
        print(table, end="\n\n")
    print(f"{args.model} with random weights, {args.imgsz} pixels, MB = 1e6 bytes. {stamp()}")


def measure(model: str, imgsz: int, replicas: int) -> dict[str, dict[str, float]]:
    """Return the MB of one YOLO object, of its activations, and of pools when open, after work and closed."""
    with tempfile.TemporaryDirectory() as folder:
        weights = str(Path(folder, f"{model}.pt"))
        child.call(f"{_HERE}:save", model, weights, timeout_s=_CHILD_S)
        found = {"bare": child.call(f"{_HERE}:bare", weights, imgsz, replicas, timeout_s=_CHILD_S)}
        for name, workers in (("Replicas", 1), ("Replicas", replicas), ("BatchingWorker", 1)):
            given = (name, weights, imgsz, workers)
            found[f"{name}, {workers}"] = child.call(f"{_HERE}:pool", *given, timeout_s=_CHILD_S)
    return found


def tables(found: dict[str, dict[str, float]], replicas: int) -> tuple[Table, Table]:
    """Return what was measured of the pools, and the goal."""
    bare = found["bare"]
    steps = list(found["Replicas, 1"])
    rows = [[name, *(f"{of[step]:.0f}" for step in steps)] for name, of in found.items() if name != "bare"]
    one, many = (found[f"Replicas, {count}"] for count in (1, replicas))
    whole = bare["YOLO after work"] + bare["activations of all at once"]
    goal = [[name, f"{mb:.0f} MB"] for name, mb in bare.items()]
    further = (many["worked, freed returned"] - one["worked, freed returned"]) / (replicas - 1)
    goal.append(["a further replica after work", f"{further:.1f} MB"])
    goal.append([f"{replicas} replicas / (YOLO + activations)", f"{many['worked, freed returned'] / whole:.2f}"])
    goal.append(["goal", f"{WITHIN} or less"])
    return Table(["MB of pool, workers", *steps], rows), Table(["amount or ratio", "measured"], goal)


# --- in the fresh processes ---


def save(model: str, weights: str) -> str:
    """Build a model with random weights, and save it; return the path."""
    import torch
    from ultralytics import YOLO

    torch.manual_seed(0)
    YOLO(f"{model}.yaml").save(weights)
    return weights


def bare(weights: str, imgsz: int, at_once: int) -> dict[str, float]:
    """Return the MB of one YOLO object after work, and the peak of bare forward passes above it."""
    from concurrent.futures import ThreadPoolExecutor
    from threading import Barrier

    import torch

    from yolothreads.pools import load

    before = _warm()
    torch.set_num_threads(1)
    model = load(weights, imgsz, "cpu", {})
    torch.set_num_threads(1)  # loading has changed it
    model.predict(_image(imgsz))
    worked = _used() - before
    network, everyone = model.predictor.model.backend.model, Barrier(at_once)
    image = torch.rand(1, 3, imgsz, imgsz)

    def forward(threads: int) -> None:
        torch.set_num_threads(1)
        with torch.inference_mode():
            if threads > 1:
                everyone.wait(_CHILD_S)
            network(image)

    peaks = []
    for threads in (1, at_once):
        with ThreadPoolExecutor(threads) as executor:
            resting = _resident("VmRSS")
            Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
            list(executor.map(forward, [threads] * threads))
            peaks.append(_resident("VmHWM") - resting)
    return {"YOLO after work": worked, "activations of one": peaks[0], "activations of all at once": peaks[1]}


def pool(name: str, weights: str, imgsz: int, workers: int) -> dict[str, float]:
    """Return the MB of a pool when open, after work, and closed; images of several sizes for `BatchingWorker`."""
    from yolothreads import pools
    from yolothreads.memory import used_mb

    kind: Any = getattr(pools, name)
    given = {"device": "cpu", "imgsz": imgsz, "threads": 1}
    before = _warm()
    with kind(weights, **given, workers=workers) as one:
        found = {"opened": used_mb() - before, "opened, freed returned": _used() - before}
        images = [_image(imgsz)] * 4 * workers
        if name == "BatchingWorker":
            images = [_image(imgsz - 32 * (number % 4), imgsz) for number in range(32)]
        list(one.map(images))
        found |= {"worked": used_mb() - before, "worked, freed returned": _used() - before}
    return {**found, "closed": used_mb() - before}


def _image(*sides: int) -> Any:
    import numpy as np

    return np.zeros((sides[0], sides[-1], 3), np.uint8)


def _used() -> float:
    from yolothreads.memory import used_mb

    return used_mb(settle=True)


def _warm() -> float:
    """Do once what every process does once, such as imports and compiled kernels; return the MB that are used then."""
    from yolothreads.pools import Sequential

    with Sequential(device="cpu", imgsz=64, threads=1) as first:
        list(first.map([_image(64)] * 2))
    return _used()


def _resident(which: str) -> float:
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return 1024 * int(fields[which].split()[0]) / 1e6


if __name__ == "__main__":
    main()
