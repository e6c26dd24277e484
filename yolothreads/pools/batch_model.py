"""Several images in one forward pass, although their callers ask for different things."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch
    from ultralytics import YOLO
    from ultralytics.engine.results import Results

_AFTER = frozenset({"conf", "iou", "classes", "agnostic_nms", "max_det"})
_IN_HEAD = frozenset({"agnostic_nms", "max_det"})  # an end-to-end head uses them inside the network


class BatchModel:
    """A YOLO object whose batches are taken apart after the network: settings used only there are each call's own.

    Whatever else a setting is, the images of a batch must have it in common, and their shape: ultralytics pads a
    batch of one shape to a rectangle, and a batch of several shapes to a square, and that changes boxes.

    Args:
        model: loaded and warmed up; belongs to this object from now on.
    """

    def __init__(self, model: YOLO) -> None:
        self._model: YOLO | None = model
        end2end = getattr(model.predictor.model, "end2end", False)
        self._after = _AFTER - _IN_HEAD if end2end else _AFTER
        self._asks: Sequence[Mapping[str, Any]] = ()  # of the batch under way, what each image asks of postprocessing

    def together(self, pixels: NDArray[np.uint8], settings: Mapping[str, Any]) -> Hashable:
        """Images may share a batch if this is equal for both. Raises what predict raises for a value that is wrong."""
        from ultralytics.cfg import get_cfg

        if settings:  # now, because one wrong value would have the whole batch done again
            get_cfg(overrides=dict(settings))
        before = sorted((name, repr(value)) for name, value in settings.items() if name not in self._after)
        return pixels.shape, tuple(before)

    def predict(self, images: Sequence[NDArray[np.uint8]], settings: Sequence[Mapping[str, Any]]) -> list[Results]:
        """Do images of (H, W, 3) uint8, BGR, with the settings of each, all of them equal in `together`."""
        before = {name: value for name, value in settings[0].items() if name not in self._after}
        self._asks = [{n: v for n, v in ask.items() if n in self._after} for ask in settings]
        assert self._model is not None
        self._model.predictor.postprocess = self._postprocess
        try:
            return self._model.predict(list(images), **before)
        finally:
            del self._model.predictor.postprocess

    def release(self) -> None:
        """Let the model go; `together` can still be asked."""
        self._model = None

    def _postprocess(self, preds: Any, img: torch.Tensor, orig_imgs: list[NDArray[np.uint8]]) -> list[Results]:
        from ultralytics.cfg import get_cfg

        assert self._model is not None
        predictor = self._model.predictor
        common, results = predictor.args, []
        for place, ask in enumerate(self._asks):
            predictor.args = get_cfg(common, dict(ask)) if ask else common
            one = slice(place, place + 1)
            # One by one for another reason, too: NMS gives a whole call a time, and would leave out the last images.
            results += type(predictor).postprocess(
                predictor, _rows(preds, one, len(orig_imgs)), img[one], orig_imgs[one]
            )
        predictor.args = common
        return results


def _rows(preds: Any, part: slice, count: int) -> Any:
    """What the network gave for some images: it comes as tensors of (count, ...), in lists, tuples and dicts."""
    if isinstance(preds, dict):
        return {name: _rows(value, part, count) for name, value in preds.items()}
    if isinstance(preds, list | tuple):
        return type(preds)(_rows(value, part, count) for value in preds)
    return preds[part] if getattr(preds, "ndim", 0) and len(preds) == count else preds
