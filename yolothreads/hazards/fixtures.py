"""Fixtures that attempts of hazards share: models, pictures, pools, threads that begin together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from yolothreads import pools, weights
from yolothreads.devices import torch_threads_kept
from yolothreads.pools import Pool
from yolothreads.scenes import scene

if TYPE_CHECKING:
    from ultralytics import YOLO

SIDE = 160  # pixels; a prediction then takes about 15 ms
DEADLINE_S = 60.0  # of every wait that should not take long


@contextmanager
def quiet_ultralytics() -> Iterator[None]:
    """Silence ultralytics' logger and keep torch's thread count, until the end of the block."""
    from ultralytics.utils import LOGGER

    disabled = LOGGER.disabled
    LOGGER.disabled = True
    try:
        with torch_threads_kept():
            yield
    finally:
        LOGGER.disabled = disabled


@contextmanager
def spy(owner: Any, name: str, note: Callable[[], Any]) -> Iterator[list[Any]]:
    """Collect the value of `note()` at each call of a method, until the end of the block."""
    original, seen = getattr(owner, name), []

    def noting(*args: Any, **kwargs: Any) -> Any:
        seen.append(note())
        return original(*args, **kwargs)

    with mock.patch.object(owner, name, noting):
        yield seen


def new_model() -> YOLO:
    """Load the bundled model, and do not use it yet."""
    from ultralytics import YOLO

    model = YOLO(weights.bundled())
    model.overrides.update(imgsz=SIDE, device="cpu", verbose=False)
    return model


def warm_model() -> YOLO:
    """Load the bundled model, and make a first prediction."""
    model = new_model()
    model.predict(picture(0))
    return model


def picture(seed: int, shape: tuple[int, int] = (SIDE, SIDE)) -> NDArray[np.uint8]:
    """Return a scene as an array of (H, W, 3) uint8, BGR."""
    return scene(seed, shape).image


def make_pool(pool: type[Pool], **settings: Any) -> Pool:
    """Make a pool of the bundled model with two workers on the CPU; it is not open yet."""
    return pools.make_pool(pool, weights.bundled(), workers=2, device="cpu", imgsz=SIDE, **settings)


def run_together(*bodies: Callable[[], Any]) -> list[Any]:
    """Run functions in threads that begin at the same moment, and return their results or exceptions in order."""
    everyone = threading.Barrier(len(bodies))

    def run(body: Callable[[], Any]) -> Any:
        everyone.wait(DEADLINE_S)
        return body()

    with ThreadPoolExecutor(len(bodies), thread_name_prefix="hazard") as threads:
        futures = [threads.submit(run, body) for body in bodies]
        return [future.exception(DEADLINE_S) or future.result() for future in futures]
