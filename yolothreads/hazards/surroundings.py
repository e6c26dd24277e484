"""Hazards of what even separate models share: the disc, the clock, torch's threads, the process itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any
from unittest import mock

from yolothreads.detections import explore
from yolothreads.hazards.entry import (
    DEADLINE_S,
    NOT_APPLICABLE,
    Evidence,
    Try,
    fresh,
    noted,
    picture,
    small,
    together,
    told,
    warm,
)
from yolothreads.pools import Pool
from yolothreads.races import RIGHT, WRONG, Rate, rate

_CHILD_S = 120.0  # of a process of its own, which takes some seconds to import torch
_MEET_S = 0.5  # a worker that is free comes within milliseconds


# run-directory: two models, one folder


class _Desk:
    """Two models that save their pictures, and a new folder for each schedule."""

    def __init__(self, folder: str):
        self.models = [fresh(), fresh()]
        for model in self.models:
            model.overrides["project"] = folder  # else a picture might be saved in the user's own folder
            model.predict(picture(0))
        self._folders = (Path(folder) / str(i) for i in count())
        self.clear()

    def clear(self) -> None:
        self.project = next(self._folders)

    def save(self, which: int) -> int:
        found = self.models[which].predict(picture(3 + which), save=True, project=str(self.project), name="run")
        return len(found[0])

    def saved(self) -> int:
        return len(list(self.project.rglob("*.jpg")))


def force_directory() -> Evidence:
    """Two separate models save a picture each, under every schedule of the lines that choose and make the folder."""
    from ultralytics.cfg import get_save_dir
    from ultralytics.engine.model import Model
    from ultralytics.utils.files import increment_path

    with TemporaryDirectory() as folder:
        desk = _Desk(folder)
        found = explore(
            lambda desk: desk.save(0), lambda desk: desk.save(1), setup=lambda: desk, restore=_Desk.clear,
            observe=_Desk.saved, watch=[get_save_dir, increment_path, Model.predict], budget_s=20.0,
        )  # fmt: skip
    return told(found)


def natural_directory(trials: int) -> Rate:
    """Both save at the same time."""
    with TemporaryDirectory() as folder:
        desk = _Desk(folder)

        def trial(i: int) -> str:
            desk.clear()
            together(lambda: desk.save(0), lambda: desk.save(1))
            return RIGHT if desk.saved() == 2 else WRONG

        return rate(trial, trials)


@contextmanager
def _meeting() -> Iterator[None]:
    """Whoever has chosen a run folder waits for a second one to choose, if one comes at all."""
    from ultralytics.engine import model

    choose, both = model.get_save_dir, threading.Barrier(2)

    def choose_and_wait(*args: Any, **kwargs: Any) -> Any:
        chosen = choose(*args, **kwargs)
        with suppress(threading.BrokenBarrierError):
            both.wait(_MEET_S)
        return chosen

    with mock.patch.object(model, "get_save_dir", choose_and_wait):
        yield


def directory_in(pool: type[Pool], budget_s: float) -> Try:
    """Two pictures saved through a pool under one name, both folders chosen before one is made: are two left?"""
    trials = 3
    left = []
    # The project is given to the pool, too: calls of a shared model may save where an earlier one was to save.
    with TemporaryDirectory() as folder, small(pool, project=folder) as opened:
        for i in range(trials):
            project = Path(folder) / str(i)
            with _meeting():
                asks = [opened.submit(picture(s), save=True, project=str(project), name="run") for s in (3, 4)]
                for ask in asks:
                    ask.result(DEADLINE_S)
            left.append(len(list(project.rglob("*.jpg"))))
    return Try.of(
        sum(n < 2 for n in left),
        trials,
        f"of 2 pictures {min(left)} found where they were to be saved" if min(left) < 2 else "",
    )


# thread-count: every set-up on the CPU sets torch's thread count


def force_threads() -> Evidence:
    """Set, predict, read."""
    import torch
    from ultralytics.utils import NUM_THREADS

    torch.set_num_threads(NUM_THREADS + 1)
    warm()
    now = torch.get_num_threads()
    return Evidence(now != NUM_THREADS + 1, f"set to {NUM_THREADS + 1}; after a first prediction it is {now}")


def threads_in(pool: type[Pool], budget_s: float) -> Try:
    """Is the thread count that a pool is told the one that its workers predict with?"""
    import torch
    from ultralytics.engine.predictor import BasePredictor
    from ultralytics.utils import NUM_THREADS

    wanted = NUM_THREADS + 1
    with small(pool, threads=wanted) as opened, noted(BasePredictor, "inference", torch.get_num_threads) as seen:
        for ask in [opened.submit(picture(seed)) for seed in range(8)]:
            ask.result(DEADLINE_S)
    if not seen:
        return Try(NOT_APPLICABLE, reason="it predicts in another process")
    return Try.of(sum(n != wanted for n in seen), len(seen), f"told {wanted}, seen {sorted(set(seen))}")


# nms-clock: NMS ends after a wall time


@contextmanager
def _slow_nms() -> Iterator[list[float]]:
    """To NMS, every look at the clock comes a minute after the one before; gives the looks."""
    looks: list[float] = []

    def time() -> float:
        looks.append(60.0 * len(looks))
        return looks[-1]

    with mock.patch("ultralytics.utils.nms.time", SimpleNamespace(time=time)):
        yield looks


def force_clock() -> Evidence:
    """A batch of four pictures while NMS is slow."""
    model, images = warm(), [picture(seed) for seed in (3, 4, 5, 6)]
    wanted = [len(result) for result in model.predict(images, batch=4)]
    with _slow_nms():
        got = [len(result) for result in model.predict(images, batch=4)]
    return Evidence(got != wanted, f"boxes of four pictures in a batch: {wanted}; while NMS is slow: {got}")


def clock_in(pool: type[Pool], budget_s: float) -> Try:
    """Four pictures through a pool while NMS is slow."""
    images = [picture(seed) for seed in (3, 4, 5, 6)]
    with small(pool) as opened:
        wanted = [len(_results(opened, [image])[0]) for image in images]
        with _slow_nms() as looks:
            got = [len(result) for result in _results(opened, images)]
    if not looks:
        return Try(NOT_APPLICABLE, reason="it has no NMS that reads the clock in this process")
    return Try.of(sum(a != b for a, b in zip(got, wanted, strict=True)), len(images), f"boxes {wanted}, then {got}")


def _results(pool: Pool, images: list[Any]) -> list[Any]:
    return [ask.result(DEADLINE_S) for ask in [pool.submit(image) for image in images]]


# fork and shutdown: what a process does to its threads


def _child(what: str, pool: type[Pool] | None = None) -> dict[str, Any]:
    """Run a try in a process of its own, which is ended with all that it started if it takes too long."""
    name = "" if pool is None else f"{pool.__module__}:{pool.__qualname__}"
    child = subprocess.Popen(
        [sys.executable, "-m", "yolothreads.hazards.child", what, name],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        out, err = child.communicate(timeout=_CHILD_S)
    except BaseException as error:
        # Its session holds nothing but itself and what it forked.
        os.killpg(child.pid, signal.SIGKILL) if hasattr(os, "killpg") else child.kill()
        child.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            raise OSError(f"the process of its own did not end within {_CHILD_S:g} s") from error
        raise
    if child.returncode or not out.strip():
        raise OSError(f"the process of its own ended with {child.returncode}: {err.strip()[-300:]}")
    return dict(json.loads(out.splitlines()[-1]))


def force_fork() -> Evidence:
    """Fork while another thread predicts; see also whether a used model can be pickled."""
    if not hasattr(os, "fork"):
        return Evidence(False, "this system does not fork", tried="not")
    return Evidence(**_child("fork"))


def force_shutdown() -> Evidence:
    """A thread that nobody joined predicts after the main thread ended, with pictures loaded ahead."""
    return Evidence(**_child("shutdown"))


def fork_in(pool: type[Pool], budget_s: float) -> Try:
    """Use an open pool in a forked child."""
    if not hasattr(os, "fork"):
        return Try(NOT_APPLICABLE, reason="this system does not fork")
    seen = _child("fork", pool)
    return Try.of(int(seen["reproduced"]), 1, seen["detail"])


def shutdown_in(pool: type[Pool], budget_s: float) -> Try:
    """End the script at once, with work in a pool that nobody has left."""
    seen = _child("shutdown", pool)
    return Try.of(int(seen["reproduced"]), 1, seen["detail"])
