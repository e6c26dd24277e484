"""What is known of detections: when two results are the same, what is wrong with one; an explorer that knows."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import wraps
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from yolothreads import races
from yolothreads.races import EXCEPTION, RIGHT, WRONG, Exploration, Trial, label
from yolothreads.scenes import Scene

if TYPE_CHECKING:
    from ultralytics.engine.results import Results

PIXELS, SCORE = 1.0, 0.01
_BAR_AFTER_S = 5.0


def rows_of(result: Any) -> np.ndarray | None:
    """The detections of a result as (n, 6 or more) float rows: x1, y1, x2, y2, score, class; None if it is something
    else. Takes a `Results`, a list that holds one, or such an array or tensor itself.
    """
    if isinstance(result, list | tuple) and len(result) == 1:
        return rows_of(result[0])
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
    """How many rows have a partner of their own among the others."""
    left = list(others)
    for row in rows:
        for i, other in enumerate(left):
            near = np.abs(row[:4] - other[:4]).max() <= pixels and abs(row[4] - other[4]) <= score
            if near and np.abs(row[5:] - other[5:]).max(initial=0) <= score:
                del left[i]
                break
    return len(others) - len(left)


def same(a: Any, b: Any, pixels: float = PIXELS, score: float = SCORE) -> bool:
    """Whether two results hold the same objects, in any order; anything but detections is compared as it is.

    Objects are the same if their classes are, no box edge differs by more than `pixels`, and no score by more than
    `score`. Lists and tuples are compared item by item. Of masks, keypoints and probabilities no value may differ by
    more than `pixels` or `score`.
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
    """Masks, keypoints and probabilities of two results whose boxes agree."""
    for name, tolerance in (("masks", score), ("keypoints", pixels), ("probs", score)):
        one, other = getattr(a, name, None), getattr(b, name, None)
        if (one is None) != (other is None):
            return False
        if one is not None and other is not None:
            x, y = np.asarray(one.data.cpu()), np.asarray(other.data.cpu())
            if x.shape != y.shape or np.abs(np.sort(x, axis=0) - np.sort(y, axis=0)).max(initial=0) > tolerance:
                return False
    return True


def finds_all(result: Results, truth: Scene, iou: float = 0.5) -> bool:
    """Whether a result holds every true object once, by class and an overlap of `iou` or more, and nothing else."""
    from ultralytics.utils.metrics import box_iou

    if not len(result.boxes) == len(truth.classes) > 0:
        return len(result.boxes) == len(truth.classes)
    import torch

    overlap = box_iou(torch.from_numpy(truth.boxes), result.boxes.xyxy.cpu().float()).numpy()
    overlap[truth.classes[:, None] != result.boxes.cls.cpu().numpy()[None, :]] = 0
    best = overlap.argmax(axis=1)
    return bool((overlap.max(axis=1, initial=0) >= iou).all()) and len(set(best.tolist())) == len(best)


def outcome(got: Sequence[Results | Exception | None], wanted: Sequence[Results]) -> str:
    """The kind of a trial (see `races.trials`): what its calls gave, held against what each gives when it is alone."""
    if any(not hasattr(result, "boxes") for result in got):
        return EXCEPTION
    return RIGHT if all(same(a, b) for a, b in zip(got, wanted, strict=True)) else WRONG


def describe(results: Sequence[Any], references: Sequence[Sequence[Any]]) -> str:
    """What is wrong with the detections of each body, in a few words; nothing if a result holds no detections."""
    wanted = references[0]
    said = []
    for i, result in enumerate(results):
        rows, own = rows_of(result), rows_of(wanted[i])
        if rows is None or own is None:
            continue
        if not any(same(result, reference[i]) for reference in references):
            others = [rows_of(value) for j, value in enumerate(wanted) if j != i]
            said.append(f"{label(i)} gave {_fault(rows, own, [o for o in others if o is not None])}")
    return "; ".join(said)


def _fault(rows: np.ndarray, own: np.ndarray, others: Sequence[np.ndarray]) -> str:
    """How detections differ from those they should be: `own`; `others` are those of the other bodies."""
    for other in others:
        if len(rows) == len(other) and _paired(rows, other, PIXELS, SCORE) == len(rows):
            return f"another call's result ({len(rows)} boxes instead of {len(own)})"
    kept = _paired(rows, own, PIXELS, SCORE)
    foreign = max((_paired(rows, other, PIXELS, SCORE) for other in others), default=0)
    if kept == len(rows) < len(own):
        return f"{len(rows)} of {len(own)} boxes: {len(own) - len(rows)} lost"
    if kept and foreign > 0 and kept + foreign >= len(rows):
        return f"boxes of both calls ({kept} of its own among {len(rows)})"
    if len(rows) == len(own) and _paired(rows, own, np.inf, SCORE) == len(rows):
        far = max(float(np.abs(own[:, :4] - row[:4]).max(axis=1).min()) for row in rows)
        return f"boxes shifted by up to {far:.0f} px, with unchanged scores"
    return f"{len(rows)} boxes instead of {len(own)}, {kept} of them right"


class _Bar:
    """A progress bar that shows itself only if the search takes a while, and to people only."""

    def __init__(self) -> None:
        self._began = perf_counter()
        self._people = sys.stdout.isatty() or "ipykernel" in sys.modules
        self._bar: Any = None

    def __call__(self, done: int, known: int) -> None:
        if not self._people or perf_counter() - self._began < _BAR_AFTER_S:
            return
        if self._bar is None:
            from tqdm import tqdm

            # A class of our own, because tqdm otherwise starts a thread that never ends.
            self._bar = type("Bar", (tqdm,), {"monitor_interval": 0})(desc="schedules", leave=False, file=sys.stdout)
        self._bar.total = known
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()


@wraps(races.explore)
def explore(*bodies: Callable[..., Any], **options: Any) -> Exploration:
    """`races.explore` with `same`, `describe` and a progress bar for detections as its defaults."""
    bar = _Bar()
    try:
        return races.explore(*bodies, **{"same": same, "describe": describe, "progress": bar, **_given(options)})
    finally:
        bar.close()


@wraps(races.replay)
def replay(schedule: str, *bodies: Callable[..., Any], **options: Any) -> Trial:
    """`races.replay` with `same` and `describe` for detections as its defaults."""
    return races.replay(schedule, *bodies, **{"same": same, "describe": describe, **_given(options)})


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}
