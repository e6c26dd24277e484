"""Hazards of what even separate models share: the disc, the clock, torch's threads, the process itself."""

from __future__ import annotations

import faulthandler
import os
import pickle
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

from yolothreads import child
from yolothreads.detections import explore
from yolothreads.errors import ArgumentError
from yolothreads.hazards.attempts import (
    DEADLINE_S,
    NOT_APPLICABLE,
    Evidence,
    Try,
    new_model,
    picture,
    pool_of_two,
    quiet_ultralytics,
    run_together,
    warm_model,
)
from yolothreads.pools import Pool, RemotePool
from yolothreads.races import RIGHT, WRONG, Rate, rate

_CHILD_S = 120.0  # of a process of its own, which takes some seconds to import torch


# run-directory: two models, one folder


@contextmanager
def _saving() -> Iterator[tuple[list[Callable[[Path], int]], Iterator[Path]]]:
    """Yield functions that save a picture each, with a model each, and the new folders that they are to save in."""
    with TemporaryDirectory() as folder:

        def saves(seed: int) -> Callable[[Path], int]:
            model = new_model()
            model.overrides["project"] = folder  # else a picture might be saved in the user's own folder
            model.predict(picture(0))
            return lambda project: len(model.predict(picture(seed), save=True, project=str(project), name="run")[0])

        yield [saves(3), saves(4)], (Path(folder) / str(i) for i in count())


def _saved(project: Path) -> int:
    return len(list(project.rglob("*.jpg")))


def force_directory() -> Evidence:
    """Explore two separate models that save one picture each, by the lines that choose and make the folder."""
    from ultralytics.cfg import get_save_dir
    from ultralytics.engine.model import Model
    from ultralytics.utils.files import increment_path

    watch = [get_save_dir, increment_path, Model.predict]
    with _saving() as (bodies, folders):
        found = explore(*bodies, setup=lambda: next(folders), observe=_saved, watch=watch, budget_s=20.0)
    return Evidence.of_found(found)


def natural_directory(trials: int) -> Rate:
    """Let both save at the same time."""
    with _saving() as (bodies, folders):

        def trial(i: int) -> str:
            project = next(folders)
            run_together(*[partial(body, project) for body in bodies])
            return RIGHT if _saved(project) == 2 else WRONG

        return rate(trial, trials)


def directory_in(pool: type[Pool], budget_s: float) -> Try:
    """Save two pictures through a pool under one name, if it saves any."""
    with TemporaryDirectory() as folder, pool_of_two(pool) as opened:
        try:
            _results(opened, [picture(3), picture(4)], save=True, project=folder, name="run")
        except ArgumentError as error:
            return Try(NOT_APPLICABLE, reason=f"the pool refuses it: {error}")
        left = _saved(Path(folder))
    return Try.of(int(left < 2), 1, f"of 2 pictures {left} found where they were to be saved")


def _results(pool: Pool, images: list[Any], **settings: Any) -> list[Any]:
    return [future.result(DEADLINE_S) for future in [pool.submit(image, **settings) for image in images]]


# thread-count: every set-up on the CPU sets torch's thread count


def force_threads() -> Evidence:
    """Set the thread count, predict, and read the count."""
    import torch
    from ultralytics.utils import NUM_THREADS

    torch.set_num_threads(NUM_THREADS + 1)
    warm_model()
    now = torch.get_num_threads()
    return Evidence(now != NUM_THREADS + 1, f"set to {NUM_THREADS + 1}; after a first prediction it is {now}")


def threads_in(pool: type[Pool], budget_s: float) -> Try:
    """Compare the thread count that a pool is given with that of its workers while they predict."""
    import torch
    from ultralytics.engine.predictor import BasePredictor
    from ultralytics.utils import NUM_THREADS

    if issubclass(pool, RemotePool):
        return Try(NOT_APPLICABLE, reason="it predicts in another process")
    wanted, seen, inference = NUM_THREADS + 1, [], BasePredictor.inference

    def noting(*args: Any, **kwargs: Any) -> Any:
        seen.append(torch.get_num_threads())
        return inference(*args, **kwargs)

    with pool_of_two(pool, threads=wanted) as opened, mock.patch.object(BasePredictor, "inference", noting):
        _results(opened, [picture(seed) for seed in range(8)])
    return Try.of(sum(n != wanted for n in seen), len(seen), f"given {wanted} threads, it used {sorted(set(seen))}")


# nms-clock: NMS ends after a wall time


def _slow_nms() -> Any:
    """Advance the clock of NMS by a minute at each reading, until the end of the block."""
    clock = mock.Mock()
    clock.time.side_effect = count(0.0, 60.0)
    return mock.patch("ultralytics.utils.nms.time", clock)


def force_clock() -> Evidence:
    """Predict a batch of four pictures while NMS is slow."""
    model, images = warm_model(), [picture(seed) for seed in (3, 4, 5, 6)]
    wanted = [len(result) for result in model.predict(images, batch=4)]
    with _slow_nms():
        got = [len(result) for result in model.predict(images, batch=4)]
    return Evidence(got != wanted, f"boxes of four pictures in a batch: {wanted}; while NMS is slow: {got}")


def clock_in(pool: type[Pool], budget_s: float) -> Try:
    """Detect in four pictures through a pool while NMS is slow."""
    if issubclass(pool, RemotePool):
        return Try(NOT_APPLICABLE, reason="the NMS that reads the clock runs in another process")
    images = [picture(seed) for seed in (3, 4, 5, 6)]
    with pool_of_two(pool) as opened:
        wanted = [len(_results(opened, [image])[0]) for image in images]
        with _slow_nms() as clock:
            got = [len(result) for result in _results(opened, images)]
    if not clock.time.called:
        return Try(NOT_APPLICABLE, reason="it has no NMS that reads the clock")
    return Try.of(sum(a != b for a, b in zip(got, wanted, strict=True)), len(images), f"boxes {wanted}, then {got}")


# fork and shutdown: what a process does to its threads


def _in_child(function: Callable[..., Any], *names: str) -> Evidence:
    """Run an attempt in a child process, which is killed with all that it started if it takes too long."""
    return Evidence(*child.call(child.name_of(function), *names, timeout_s=_CHILD_S))


def _met_in_child(function: Callable[[str], Any], pool: type[Pool]) -> Try:
    seen = _in_child(function, child.name_of(pool))
    return Try.of(int(seen.reproduced), 1, seen.detail)


def force_fork() -> Evidence:
    """Fork while another thread predicts, and try whether a used model can be pickled."""
    return _in_child(_fork_model)


def force_shutdown() -> Evidence:
    """Let a thread that nobody joined predict after the main thread has ended, with pictures loaded ahead."""
    return _in_child(_end_with_model)


def fork_in(pool: type[Pool], budget_s: float) -> Try:
    """Use an open pool in a forked child."""
    return _met_in_child(_fork_pool, pool)


def shutdown_in(pool: type[Pool], budget_s: float) -> Try:
    """End the script at once, with work in a pool that is still open."""
    return _met_in_child(_end_with_pool, pool)


# --- in the child process ---

ANSWER_S = 5.0  # a prediction takes 15 ms; a child that hangs never answers


@quiet_ultralytics()
def _fork_model() -> tuple[bool, str]:
    """Fork while a thread is inside predict, and predict in the child."""
    model, inside, go_on = warm_model(), threading.Event(), threading.Event()

    def stay(predictor: Any) -> None:
        if threading.current_thread() is thread:
            inside.set()
            go_on.wait(DEADLINE_S)

    model.add_callback("on_predict_start", stay)
    model.predictor.callbacks = model.callbacks
    thread = threading.Thread(target=model.predict, args=(picture(3),))
    thread.start()
    try:
        if not inside.wait(DEADLINE_S):
            raise RuntimeError("the thread never came to predict")
        hangs, ended = _in_forked_child(lambda: model.predict(picture(4)))
    finally:
        go_on.set()
        thread.join(DEADLINE_S)
    try:
        pickle.dumps(warm_model())  # the other one has a callback of ours
        pickled = "a used model can be pickled"
    except Exception as error:
        pickled = f"pickling a used model: {error}"
    return hangs, f"predict in a child that was forked while another thread predicted {ended}; {pickled}"


@quiet_ultralytics()
def _fork_pool(pool: str) -> tuple[bool, str]:
    """Fork beside an open pool, and ask it in the child."""
    with pool_of_two(child.resolve(pool)) as opened:
        opened.submit(picture(3)).result(DEADLINE_S)
        hangs, ended = _in_forked_child(lambda: opened.submit(picture(4)).result())
    return hangs, f"submit().result() in a forked child {ended.replace(type(opened).__name__, 'pool')}"


def _in_forked_child(work: Callable[[], Any]) -> tuple[bool, str]:
    """Return whether the work hangs in a forked child, and how it ended; the child ends itself in any case."""
    read, write = os.pipe()
    forked = os.fork()
    if forked == 0:
        faulthandler.dump_traceback_later(2 * ANSWER_S, exit=True, file=Path(os.devnull).open("w"))  # noqa: SIM115

        def report() -> None:
            try:
                work()
                ended = "came to its end"
            except Exception as error:
                ended = f"raised {type(error).__name__}: {error}"
            os.write(write, ended.encode())

        thread = threading.Thread(target=report, daemon=True)
        thread.start()
        thread.join(ANSWER_S)
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        ended = pipe.read()
    os.waitpid(forked, 0)
    return not ended, ended or f"gave no answer within {ANSWER_S:.0f} s"


@quiet_ultralytics()
def _end_with_model() -> None:
    """Start a thread that predicts once the main thread has ended; the main thread ends now."""
    model = warm_model()
    model.predictor.model.prefetch = True  # as it is with OpenVINO; on CUDA pictures are always loaded ahead

    def late() -> None:
        import cv2

        threading.main_thread().join()
        with TemporaryDirectory() as folder:
            for seed in (3, 4):
                cv2.imwrite(str(Path(folder) / f"{seed}.png"), picture(seed))
            try:
                found = len(model.predict(folder))
                child.answer([False, f"{found} results after the main thread ended"])
            except RuntimeError as error:
                child.answer(["shutdown" in str(error), f"predict after the main thread ended: {error}"])

    threading.Thread(target=late).start()


@quiet_ultralytics()
def _end_with_pool(pool: str) -> None:
    """Give an open pool work, and end without closing it."""
    opened = pool_of_two(child.resolve(pool)).__enter__()
    asks = [opened.submit(picture(seed)) for seed in range(8)]

    def report() -> None:
        errors = [error for error in (ask.exception(DEADLINE_S) for ask in asks) if error]
        detail = f"{len(errors)} of {len(asks)} images lost" + (f": {errors[0]}" if errors else "")
        child.answer([bool(errors), detail])

    threading.Thread(target=report).start()
