"""What counts as an image, and how a worker gets its pixels."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from yolothreads import trace
from yolothreads.errors import ImageError

Image = str | os.PathLike[str] | NDArray[np.uint8]


def read_image(image: Image) -> tuple[NDArray[np.uint8], str]:
    """Read a path, or check an array. Gives (H, W, 3) uint8 BGR pixels, and the path ("" for an array).

    Raises:
        ImageError: no such file, not a picture, or an array of another shape or type.
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
    from ultralytics.utils.patches import imread  # what YOLO.predict reads files with

    with trace.span("load"):
        pixels = imread(str(path))
    if pixels is None:
        raise ImageError(f'"{path}" could not be read as a picture; it is damaged or of an unknown kind.')
    return pixels, str(path)
