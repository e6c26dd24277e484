"""A soak: every pool under mixed work for an hour, with bad inputs, kills and cancellations, closed and opened again.

    python -m benchmarks.soak                        # one hour
    python -m benchmarks.soak --seconds 60 Replicas BatchingWorker

Two pools are open at a time, each driven by a thread of its own. Every answer is compared with that of one YOLO object.
After each pair all pools are closed; then no thread, process, file or shared memory may be left, and the memory is
measured. It ends with 1 if an answer was wrong, something was left, or the memory of the second half was not flat.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import psutil

from yolothreads import ImageError, scene, stamp
from yolothreads.detections import same
from yolothreads.errors import ArgumentError
from yolothreads.memory import used_mb
from yolothreads.pools import POOLS, Pool, RayActors, SharedModel, load, make_pool
from yolothreads.weights import bundled

IMGSZ = 160
SHAPES = ((160, 160), (240, 320), (480, 360), (96, 640), (720, 1280))
SETTINGS: tuple[dict[str, Any], ...] = (
    {}, {"conf": 0.05}, {"conf": 0.6}, {"classes": [0]}, {"max_det": 1}, {"iou": 0.2, "conf": 0.1},
)  # fmt: skip
FLAT = 0.02  # of the memory, in the second half
_SETTLE_S = 30.0  # for what a closed pool leaves to the system: processes that end, sockets that close
_ANSWER_S = 300.0  # for one answer


@dataclass
class Inputs:
    """Images, as files and as arrays, and the right answer to each with each setting."""

    folder: Path
    images: list[Any] = field(default_factory=list)
    right: list[list[Any]] = field(default_factory=list)  # by image and setting
    bad: list[Any] = field(default_factory=list)  # each is an ImageError

    def __post_init__(self) -> None:
        model = load(bundled(), IMGSZ, "cpu", {})
        for seed, shape in enumerate(SHAPES * 2):
            pixels = scene(seed, shape).image
            file = self.folder / f"{seed}.png"
            cv2.imwrite(str(file), pixels)
            self.images.append(file if seed % 2 else pixels)
            self.right.append([model.predict(pixels, **settings)[0] for settings in SETTINGS])
        damaged = self.folder / "damaged.jpg"
        damaged.write_bytes(b"\xff\xd8\xff\xe0 is not a picture")
        self.bad = [self.folder / "missing.png", damaged, np.zeros((4, 4, 3), np.float32), "n" * 300 + ".jpg", self]


class Driver:
    """Gives one pool random work, and checks each answer."""

    def __init__(self, pool: Pool, inputs: Inputs, seed: int, counts: Counter[str]):
        self.pool, self.inputs, self.counts = pool, inputs, counts
        self.random = random.Random(seed)
        self.steps: list[Callable[[], None]] = [
            self.map_all, self.map_with_errors, self.stop_early, self.cancel_some, self.ask_from_threads,
            self.ask_from_asyncio, self.refuse, self.kill,
        ]  # fmt: skip

    def run(self, until: float, most: int = 12) -> None:
        """Take random steps until the time is over; at least one of each."""
        for n in count():
            step = self.steps[n] if n < len(self.steps) else self.random.choice(self.steps)
            step()
            if n >= len(self.steps) and (n >= most or time.monotonic() > until):
                return

    def some(self, least: int = 4) -> list[int]:
        """Return the numbers of some images."""
        return [self.random.randrange(len(self.inputs.images)) for _ in range(self.random.randint(least, 24))]

    def setting(self) -> int:
        """Return the number of a setting."""
        return self.random.randrange(len(SETTINGS))

    def check(self, answer: Any, image: int, setting: int) -> None:
        """Count an answer as right or wrong."""
        is_right = not isinstance(answer, BaseException) and same(answer, self.inputs.right[image][setting])
        self.counts["right" if is_right else f"WRONG in {type(self.pool).__name__}"] += 1
        if not is_right:
            print(f"WRONG: {type(self.pool).__name__}, image {image}, {SETTINGS[setting]}: {answer!r:.300}", flush=True)

    def check_error(self, answer: Any) -> None:
        """Count the answer to a bad input."""
        is_right = isinstance(answer, ImageError)
        self.counts["refused" if is_right else f"NOT REFUSED in {type(self.pool).__name__}"] += 1
        if not is_right:
            print(f"NOT REFUSED: {type(self.pool).__name__}: {answer!r:.300}", flush=True)

    # --- the steps ---

    def map_all(self) -> None:
        """Map images."""
        images, setting = self.some(), self.setting()
        answers = self.pool.map([self.inputs.images[i] for i in images], **SETTINGS[setting])
        for image, answer in zip(images, answers, strict=True):
            self.check(answer, image, setting)

    def map_with_errors(self) -> None:
        """Map images with bad inputs between them."""
        images, setting = self.some(), self.setting()
        given = [self.inputs.images[i] for i in images]
        bad = {self.random.randrange(len(given)) for _ in range(3)}
        for n in bad:
            given[n] = self.random.choice(self.inputs.bad)
        answers = self.pool.map(given, return_exceptions=True, **SETTINGS[setting])
        for n, (image, answer) in enumerate(zip(images, answers, strict=True)):
            if n in bad:
                self.check_error(answer)
            else:
                self.check(answer, image, setting)

    def stop_early(self) -> None:
        """Map images, and close the iterator after the first results."""
        images, setting = self.some(least=8), self.setting()
        answers = self.pool.map((self.inputs.images[i] for i in images), **SETTINGS[setting])
        for image, _ in zip(images, range(3), strict=False):
            self.check(next(answers), image, setting)
        answers.close()  # type: ignore[attr-defined]  # an iterator of a pool is a generator
        self.counts["maps closed early"] += 1

    def cancel_some(self) -> None:
        """Submit images, and cancel half of the futures."""
        asked = [(image, self.setting()) for image in self.some()]
        futures = [self.pool.submit(self.inputs.images[i], **SETTINGS[setting]) for i, setting in asked]
        for future in futures[::2]:
            self.counts["cancelled"] += future.cancel()
        for (image, setting), future in zip(asked, futures, strict=True):
            with suppress(CancelledError):
                self.check(future.result(_ANSWER_S), image, setting)

    def ask_from_threads(self) -> None:
        """Submit images with different settings from several threads at once."""

        def ask(image: int, setting: int) -> Any:
            return self.pool.submit(self.inputs.images[image], **SETTINGS[setting]).result(_ANSWER_S)

        asked = [(image, self.setting()) for image in self.some()]
        with ThreadPoolExecutor(4) as threads:
            for answer, (image, setting) in zip(threads.map(lambda one: ask(*one), asked), asked, strict=True):
                self.check(answer, image, setting)

    def ask_from_asyncio(self) -> None:
        """Await answers in an event loop, and cancel a quarter of the tasks."""

        async def ask() -> None:
            asked = [(image, self.setting()) for image in self.some(least=8)]
            tasks = [
                asyncio.ensure_future(self.pool.predict(self.inputs.images[i], **SETTINGS[setting]))
                for i, setting in asked
            ]
            await asyncio.sleep(0)
            for task in tasks[::4]:
                self.counts["cancelled"] += task.cancel()
            answers = await asyncio.gather(*tasks, return_exceptions=True)
            for (image, setting), answer in zip(asked, answers, strict=True):
                if not isinstance(answer, asyncio.CancelledError):
                    self.check(answer, image, setting)

        asyncio.run(ask())

    def refuse(self) -> None:
        """Ask with a setting that does not exist."""
        try:
            self.pool.submit(self.inputs.images[0], no_such_setting=1)
        except ArgumentError:
            self.counts["refused"] += 1
        else:
            self.counts[f"NOT REFUSED in {type(self.pool).__name__}"] += 1

    def kill(self) -> None:
        """Kill a worker process in the middle of its work; the pool repeats the image."""
        pids = [worker.pid for worker in getattr(self.pool, "_workers", {}).values() if getattr(worker, "pid", 0)]
        images, setting = self.some(least=8), self.setting()
        futures = [self.pool.submit(self.inputs.images[i], **SETTINGS[setting]) for i in images]
        if pids:
            with suppress(ProcessLookupError):
                os.kill(self.random.choice(pids), signal.SIGKILL)
                self.counts["killed"] += 1
        for image, future in zip(images, futures, strict=True):
            self.check(future.result(_ANSWER_S), image, setting)


# --- what is left ---


def things() -> Counter[str]:
    """Return the threads, child processes, open files and blocks of shared memory that there are, by name."""
    me = psutil.Process()
    found = Counter(f"thread {thread.name}" for thread in threading.enumerate())
    found += Counter(f"process {' '.join(child.cmdline())[:80]}" for child in _children(me))
    found += (
        Counter(f"file {_target(fd)}" for fd in Path("/proc/self/fd").iterdir()) if os.name == "posix" else Counter()
    )
    found += Counter(f"shared memory {file.name}" for file in Path("/dev/shm").iterdir() if file.name[:4] == "psm_")
    return found


def _children(me: psutil.Process) -> Iterator[psutil.Process]:
    for child in me.children(recursive=True):
        with suppress(psutil.Error):
            child.cmdline()
            yield child


def _target(fd: Path) -> str:
    with suppress(OSError):
        target = str(fd.readlink())
        # Of sockets and pipes the kind only; the name of Ray's log differs in each connection.
        return "log of Ray's driver" if "python-core-driver-" in target else target.partition(":")[0]
    return "?"


def left_over(before: Counter[str], connections: int) -> Counter[str]:
    """Return what is there now and was not before, once the system has had time to take back what has ended.

    Ray 2.60.0 keeps a socket open for each of its `connections` that was closed since, and another one if the process
    of an actor was killed meanwhile: `ray.init()`, `ray.shutdown()` and nothing of this package do so, too.
    """
    until, before = time.monotonic() + _SETTLE_S, before + Counter({"file socket": 2 * connections})
    while (left := things() - before) and time.monotonic() < until:
        gc.collect()
        time.sleep(0.2)
    return left


# --- the whole ---


@dataclass
class Soak:
    """What a soak has found."""

    counts: Counter[str] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)
    memory: list[tuple[float, float]] = field(default_factory=list)  # seconds, MB with all pools closed
    seconds: float = 0.0

    @property
    def spread(self) -> float:
        """How far the memory of the second half is from flat: its last third over its first third, less 1."""
        late = [mb for at, mb in self.memory if at >= self.seconds / 2]
        third = max(1, len(late) // 3)
        return abs(median(late[-third:]) / median(late[:third]) - 1) if len(late) > 1 else 0.0

    @property
    def passed(self) -> bool:
        """Whether all was right."""
        faults = [name for name in self.counts if name.isupper() or name.split()[0].isupper()]
        return self.counts["right"] > 0 and not faults and not self.left and self.spread <= FLAT

    def __str__(self) -> str:
        lines = [f"{name}: {number:,}" for name, number in sorted(self.counts.items())]
        lines += [f"left over: {name} ({number})" for name, number in self.left.items()] or ["left over: nothing"]
        late = [mb for at, mb in self.memory if at >= self.seconds / 2] or [0.0]
        flat = f"{median(late):.0f} MB, {min(late):.0f} to {max(late):.0f}; it changed by {100 * self.spread:.1f} %"
        lines.append(f"memory with all pools closed, second half: {flat}")
        return "\n".join([*lines, f"{self.seconds:.0f} s; {stamp()}", "PASSED" if self.passed else "FAILED"])


def soak(kinds: Sequence[type[Pool]], seconds: float, seed: int = 0, episode_s: float = 20.0) -> Soak:
    """Run a soak of the given pools."""
    found, chance, start = Soak(), random.Random(seed), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        inputs = Inputs(Path(folder))
        before: Counter[str] | None = None
        connections = 0  # those of Ray since then
        while before is None or found.seconds < seconds:
            pair = [*kinds] if before is None else chance.sample(kinds, min(2, len(kinds)))
            # The first episode opens every pool once: what a library keeps from its first use is not left over.
            for group in [[kind] for kind in pair] if before is None else [pair]:
                _episode(group, inputs, chance, found.counts, episode_s)
            if before is None:
                gc.collect()
                before = things()
            else:
                connections += RayActors in pair
            found.left |= left_over(before, connections)
            found.seconds = time.monotonic() - start
            found.memory.append((found.seconds, used_mb(settle=True)))
            print(json.dumps({"seconds": round(found.seconds), "mb": round(found.memory[-1][1], 1),
                              "pools": [kind.__name__ for kind in pair], **found.counts}), flush=True)  # fmt: skip
    return found


def _episode(
    kinds: Sequence[type[Pool]], inputs: Inputs, chance: random.Random, counts: Counter[str], seconds: float
) -> None:
    """Open pools, drive each by a thread of its own, and close them."""

    def drive(kind: type[Pool], workers: int, seed: int) -> None:
        with make_pool(kind, workers=workers, device="cpu", imgsz=IMGSZ, threads=1) as pool:
            Driver(pool, inputs, seed, own := Counter()).run(time.monotonic() + seconds)
        counted.append(own)

    counted: list[Counter[str]] = []
    with ThreadPoolExecutor(len(kinds)) as threads:
        futures = [threads.submit(drive, kind, chance.randint(1, 3), chance.randrange(2**32)) for kind in kinds]
        for future in futures:
            future.result()
    for own in counted:
        counts.update(own)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    names = {kind.__name__: kind for kind in POOLS if kind is not SharedModel}  # which gives wrong answers on purpose
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("pools", nargs="*", metavar="POOL", help="only these pools (all but SharedModel)")
    parser.add_argument("--seconds", type=float, default=3600.0, help="at least so long (3600)")
    parser.add_argument("--seed", type=int, default=0, help="of the random work (0)")
    args = parser.parse_args(arguments)
    for name in args.pools:
        if name not in names:
            parser.error(f'there is no pool "{name}" here; those there are: {", ".join(names)}')
    found = soak([names[name] for name in args.pools or names], args.seconds, args.seed)
    print(found)
    return not found.passed


if __name__ == "__main__":
    sys.exit(main())
