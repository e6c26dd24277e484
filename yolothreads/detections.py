"""Detections compared: equality of two results, the fault of a wrong one, and an explorer that uses both."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from yolothreads import races
from yolothreads.races import EXCEPTION, RIGHT, WRONG, label

if TYPE_CHECKING:
    import numpy as np
    from ultralytics.engine.results import Results

    from yolothreads.scenes import Scene

PIXELS, SCORE = 1.0, 0.01
_FLIPS = 1e-4  # of the pixels of a class map
_BAR_AFTER_S = 5.0
_BAR_EVERY_S = 0.5  # JupyterLab draws all output of the cell again each time

P = ParamSpec("P")
R = TypeVar("R")


def rows_of(result: Any) -> np.ndarray | None:
    """Return the detections of a result as (n, 6 or more) float rows: x1, y1, x2, y2, score, class.

    Args:
        result: a `Results`, a list that holds one, or such an array or tensor itself; for anything else, the rows are
            None.
    """
    if isinstance(result, list | tuple) and len(result) == 1:
        return rows_of(result[0])
    if "numpy" not in sys.modules:  # no value holds arrays before that; numpy need not be installed
        return None
    import numpy as np

    if getattr(result, "obb", None) is not None:  # x, y, width, height, turn, score, class
        found = np.asarray(result.obb.data.cpu())
        return np.concatenate([found[:, :4], found[:, -2:], found[:, 4:5]], axis=1)
    if getattr(result, "boxes", None) is not None:
        found = np.asarray(result.boxes.data.cpu())
        return np.concatenate([found[:, :4], found[:, -2:]], axis=1)
    if hasattr(result, "cpu"):
        result = result.cpu().numpy()
    if isinstance(result, np.ndarray) and result.ndim == 2 and result.shape[1] >= 6:
        return result
    return None


def _paired(rows: np.ndarray, others: np.ndarray, pixels: float, score: float) -> int:
    """Return how many rows have a partner of their own among the others."""
    import numpy as np

    left = list(others)
    for row in rows:
        for i, other in enumerate(left):
            near = np.abs(row[:4] - other[:4]).max() <= pixels and abs(row[4] - other[4]) <= score
            if near and np.abs(row[5:] - other[5:]).max(initial=0) <= score:
                del left[i]
                break
    return len(others) - len(left)


def same(a: Any, b: Any, pixels: float = PIXELS, score: float = SCORE) -> bool:
    """Return whether two results hold the same objects, in any order; other values are compared by `races.same`.

    Two objects are the same if their classes are equal, no box edge differs by more than `pixels`, and the scores
    differ by at most `score`. Keypoints may differ by `pixels`, masks, probabilities and depths by `score`. One of
    10,000 pixels of a class map may have another class, because rounding decides between equal ones. Lists and tuples
    are compared item by item.
    """
    rows, others = rows_of(a), rows_of(b)
    if rows is not None and others is not None:
        if len(rows) != len(others) or _paired(rows, others, pixels, score) != len(rows):
            return False
        return not hasattr(a, "boxes") or _same_parts(a, b, pixels, score)
    if hasattr(a, "boxes") and hasattr(b, "boxes"):
        return (rows is None) == (others is None) and _same_parts(a, b, pixels, score)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(same(x, y, pixels, score) for x, y in zip(a, b, strict=True))
    return races.same(a, b)


def _same_parts(a: Results, b: Results, pixels: float, score: float) -> bool:
    """Return whether the masks, keypoints, probabilities, class maps and depths of two results agree."""
    import numpy as np

    for name, tolerance in (("masks", score), ("keypoints", pixels), ("probs", score)):
        one, other = getattr(a, name, None), getattr(b, name, None)
        if (one is None) != (other is None):
            return False
        if one is not None and other is not None:
            x, y = np.asarray(one.data.cpu()), np.asarray(other.data.cpu())
            if x.shape != y.shape or np.abs(np.sort(x, axis=0) - np.sort(y, axis=0)).max(initial=0) > tolerance:
                return False
    for name in ("semantic_mask", "depth"):  # which versions of ultralytics have these differs
        one, other = getattr(a, name, None), getattr(b, name, None)
        if (one is None) != (other is None):
            return False
        if one is not None and other is not None:
            x, y = np.asarray(one.data.cpu(), np.float64), np.asarray(other.data.cpu(), np.float64)
            if x.shape != y.shape:
                return False
            far = np.abs(x - y)
            if (far > 0).mean() > _FLIPS if name == "semantic_mask" else far.max(initial=0) > score:
                return False
    return True


def finds_all(result: Results, truth: Scene, iou: float = 0.5) -> bool:
    """Return whether a result holds every true object once, by class and an overlap of `iou` or more, and no other."""
    from ultralytics.utils.metrics import box_iou

    if not len(result.boxes) == len(truth.classes) > 0:
        return len(result.boxes) == len(truth.classes)
    import torch

    overlap = box_iou(torch.from_numpy(truth.boxes), result.boxes.xyxy.cpu().float()).numpy()
    overlap[truth.classes[:, None] != result.boxes.cls.cpu().numpy()[None, :]] = 0
    best = overlap.argmax(axis=1)
    return bool((overlap.max(axis=1, initial=0) >= iou).all()) and len(set(best.tolist())) == len(best)


def outcome(got: Sequence[Results | Exception | None], wanted: Sequence[Results]) -> str:
    """Return the kind of a trial (see `races.rate`): compare the results of its calls with those of each call alone."""
    if any(not hasattr(result, "boxes") for result in got):
        return EXCEPTION
    return RIGHT if all(same(a, b) for a, b in zip(got, wanted, strict=True)) else WRONG


def describe(results: Sequence[Any], references: Sequence[Sequence[Any]]) -> str:
    """Return the faults in the detections of each body, in a few words; "" if no result holds detections."""
    wanted = references[0]
    faults = []
    for i, result in enumerate(results):
        rows, own = rows_of(result), rows_of(wanted[i])
        if rows is None or own is None:
            continue
        if not any(same(result, reference[i]) for reference in references):
            others = [rows_of(value) for j, value in enumerate(wanted) if j != i]
            faults.append(f"{label(i)} gave {_fault(rows, own, [o for o in others if o is not None])}")
    return "; ".join(faults)


def _fault(rows: np.ndarray, own: np.ndarray, others: Sequence[np.ndarray]) -> str:
    """Return how detections differ from the right ones, `own`; `others` are those of the other bodies."""
    for other in others:
        if len(rows) == len(other) and _paired(rows, other, PIXELS, SCORE) == len(rows):
            return f"another call's result ({len(rows)} boxes instead of {len(own)})"
    kept = _paired(rows, own, PIXELS, SCORE)
    foreign = max((_paired(rows, other, PIXELS, SCORE) for other in others), default=0)
    if kept == len(rows) < len(own):
        return f"{len(rows)} of {len(own)} boxes: {len(own) - len(rows)} lost"
    if kept and foreign > 0 and kept + foreign >= len(rows):
        return f"boxes of both calls ({kept} of its own among {len(rows)})"
    if len(rows) == len(own) and _paired(rows, own, math.inf, SCORE) == len(rows):
        far = max(float(abs(own[:, :4] - row[:4]).max(axis=1).min()) for row in rows)
        return f"boxes shifted by up to {far:.0f} px, with unchanged scores"
    return f"{len(rows)} boxes instead of {len(own)}, {kept} of them right"


def _with_defaults(function: Callable[P, R], **defaults: Any) -> Callable[P, R]:
    """Return a function with the same signature; a keyword that is not given, or None, has one of these values."""

    @wraps(function)
    def call(*args: P.args, **given: P.kwargs) -> R:
        options = {**defaults, **{name: value for name, value in given.items() if value is not None}}
        return function(*args, **options)

    call.__doc__ = f"`races.{function.__name__}` with defaults for detections.\n\n{function.__doc__}"
    return call


def _with_progress_bar(function: Callable[P, R]) -> Callable[P, R]:
    """Return a function with the same signature that shows a progress bar, unless `progress` is given."""

    @wraps(function)
    def call(*args: P.args, **given: P.kwargs) -> R:
        if find_spec("tqdm") is None:  # without the extra "pools"
            return function(*args, **given)
        from tqdm import tqdm

        class Bar(tqdm):  # type: ignore[misc]
            monitor_interval = 0  # tqdm would otherwise start a thread that never ends

        def progress(done: int, known: int) -> None:
            bar.total = known
            bar.update(done - bar.n)

        is_shown = sys.stdout.isatty() or "ipykernel" in sys.modules  # to people, not to files and pipes
        often = {"delay": _BAR_AFTER_S, "mininterval": _BAR_EVERY_S}
        with Bar(desc="schedules", leave=False, file=sys.stdout, disable=not is_shown, **often) as bar:
            return _with_defaults(function, progress=progress)(*args, **given)

    return call


explore = _with_progress_bar(_with_defaults(races.explore, same=same, describe=describe))
replay = _with_defaults(races.replay, same=same, describe=describe)
replayed = _with_defaults(races.replayed, same=same, describe=describe)
