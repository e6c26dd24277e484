"""The inputs of every worker: an image, the checked predict settings, and a loaded model."""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Callable, Iterable
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from yolothreads import trace
from yolothreads.errors import ArgumentError, ImageError

if TYPE_CHECKING:
    from ultralytics import YOLO
    from ultralytics.engine.results import Results

Image = str | os.PathLike[str] | NDArray[np.uint8]
"""A path, or an array of (H, W, 3) uint8, BGR."""

Predict = Callable[..., list["Results"]]
"""A function like `YOLO.predict`: it takes pixels and predict settings, and returns one result per image."""

_DECIDED_BY_POOL = ("source", "stream", "predictor", "model", "embed", "show")


def read_image(image: Image) -> tuple[NDArray[np.uint8], str]:
    """Read a path, or check an array.

    Returns:
        The pixels, (H, W, 3) uint8, BGR, and the path ("" for an array).

    Raises:
        ImageError: the file does not exist or is not a picture, or the array has another shape or type.
    """
    if isinstance(image, np.ndarray):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
            raise ImageError(
                f"An array of shape {image.shape} and type {image.dtype} is no image; give (H, W, 3) uint8, BGR."
            )
        return np.ascontiguousarray(image), ""  # ultralytics cannot draw on a view with gaps
    if not isinstance(image, str | os.PathLike):
        raise ImageError(f"A {type(image).__name__} is no image; give a path or an (H, W, 3) uint8 array.")
    path = Path(image)
    if not path.is_file():
        raise ImageError(f'There is no image at "{path}"; check the path.')
    from ultralytics.utils.patches import imread  # the function with which YOLO.predict reads files

    with trace.span("load"):
        pixels = imread(str(path))
    if pixels is None:
        raise ImageError(f'"{path}" could not be read as a picture; the file is damaged or of an unknown format.')
    return pixels, str(path)


def check_settings(settings: dict[str, Any], *, of_pool: bool = False) -> None:
    """Raise an ArgumentError for settings that `YOLO.predict` does not know, or that cannot be chosen here.

    Args:
        settings: predict settings by name.
        of_pool: whether the settings are those of a whole pool. Otherwise they are those of single images.
    """
    if not settings:
        return
    if "max_workers" in settings:
        raise ArgumentError(f'"max_workers" is not an option of a pool; use workers={settings["max_workers"]!r}.')
    known, setup = _known_settings()
    for name in settings:
        if name in _DECIDED_BY_POOL:
            raise ArgumentError(f'The pool decides on "{name}"; leave it out.')
        if name in setup and not of_pool:
            raise ArgumentError(f'"{name}" cannot be set for single images; choose it when you make the pool.')
        if name not in known:
            raise ArgumentError(f'"{name}" is not a setting of YOLO.predict; its documentation lists all settings.')


@lru_cache(maxsize=1)
def _known_settings() -> tuple[frozenset[str], frozenset[str]]:
    """Return the settings of `YOLO.predict`, and those of them that set up a model."""
    from ultralytics.engine.model import PREDICTOR_SETUP_KEYS  # undocumented: see tests/pools/test_private_names.py
    from ultralytics.utils import DEFAULT_CFG_DICT

    return frozenset(DEFAULT_CFG_DICT), frozenset(PREDICTOR_SETUP_KEYS)


def load(weights: str | os.PathLike[str], imgsz: int, device: str, settings: dict[str, Any]) -> YOLO:
    """Load a YOLO object and run its first prediction, which sets up its predictor.

    Later calls set nothing up. `imgsz`, `device` and `settings` hold for all predictions, unless a call overrides them.
    """
    from ultralytics import YOLO

    model = YOLO(weights)
    model.overrides.update(imgsz=imgsz, device=device, verbose=False)
    model.predict(np.zeros((imgsz, imgsz, 3), np.uint8), **settings)
    return model


def twin(model: YOLO, shared: Iterable[object]) -> YOLO:
    """Copy a YOLO object that has predicted before; the copy uses the very objects in `shared`.

    `copy.deepcopy` does not copy what its memo holds already: the shared objects, and the predictor's lock, which
    cannot be copied.
    """
    predictor = model.predictor
    predictor.dataset = predictor.batch = predictor.results = None  # the first image, which no copy needs
    memo: dict[int, object] = {id(one): one for one in shared}
    memo[id(predictor._lock)] = threading.Lock()  # undocumented: see tests/pools/test_private_names.py
    return copy.deepcopy(model, memo)


def replica(model: YOLO) -> YOLO:
    """Copy a YOLO object that has predicted before; the copy uses the very tensors of `model`."""
    network = model.predictor.model.backend.model
    return twin(model, chain(network.parameters(), network.buffers()))
