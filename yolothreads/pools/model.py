"""Load a model so that no later call sets anything up, and make further ones of it that share what is large."""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ultralytics import YOLO
    from ultralytics.engine.results import Results

Predict = Callable[..., list["Results"]]


def load(weights: str | os.PathLike[str], imgsz: int, device: str, settings: dict[str, Any]) -> YOLO:
    """Load a YOLO object, and have it make its first prediction: the one that sets up its predictor.

    `imgsz`, `device` and `settings` hold for all its predictions, unless a call says otherwise.
    """
    from ultralytics import YOLO

    model = YOLO(weights)
    model.overrides.update(imgsz=imgsz, device=device, verbose=False)
    model.predict(np.zeros((imgsz, imgsz, 3), np.uint8), **settings)
    return model


def twin(model: YOLO, shared: Iterable[object]) -> YOLO:
    """A YOLO object with a state of its own that has the very objects of `shared`; `model` must have predicted before.

    `copy.deepcopy` takes what its memo already holds for copied: here what is shared, and the predictor's lock, which
    cannot be.
    """
    predictor = model.predictor
    predictor.dataset = predictor.batch = predictor.results = None  # the first image, which no copy needs
    memo: dict[int, object] = {id(one): one for one in shared}
    memo[id(predictor._lock)] = threading.Lock()
    return copy.deepcopy(model, memo)
