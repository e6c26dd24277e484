"""Load a model so that no later call sets anything up."""

from __future__ import annotations

import os
from collections.abc import Callable
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
