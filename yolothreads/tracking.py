"""Follow the objects of many cameras with one pool and one tracker per camera, and count identity switches."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from yolothreads.errors import ArgumentError
from yolothreads.pools import Image, Pool
from yolothreads.scenes import Scene

if TYPE_CHECKING:
    from ultralytics.engine.results import Results

_Track = tuple[int, int]  # the tracker, and the number that it gave


class Camera:
    """One camera with a tracker of its own; a pool detects for it.

        with Replicas(workers=2) as pool:
            cameras = [Camera(pool) for _ in clips]
            for results in zip(*(camera.follow(clip) for camera, clip in zip(cameras, clips))):
                ...

    The pool only detects, so that its weights serve all cameras; the state of the tracker stays here. The ids of a
    camera start at 1 and belong to it alone. (ultralytics before 8.4.176 numbers the objects of all trackers in a
    process with one counter, and resets it with each new tracker: a running tracker then gives the same id twice.)

    Args:
        pool: any pool of the kit, open when frames are followed.
        tracker: the configuration of one of ultralytics' trackers, or a path to your own. Here "tracktrack.yaml" works
            without the boxes that `YOLO.track` saves for it from non-maximum suppression.
        settings: settings of `YOLO.predict` for every frame; `conf` is 0.1 by default, as in `YOLO.track`.

    Raises:
        ArgumentError: there is no such tracker, or it needs the features of the network, which a pool does not give.
    """

    def __init__(self, pool: Pool, *, tracker: str = "bytetrack.yaml", **settings: Any) -> None:
        self.pool = pool
        self.settings = {"conf": 0.1, **settings}  # trackers use weak detections too
        self._tracker = _tracker(tracker, pool.device)
        self._turn = threading.Lock()  # held by the iteration that uses the tracker

    def follow(
        self,
        frames: Iterable[Image],
        *,
        timeout: float | None = None,
        buffersize: int | None = None,
        copy: bool = True,
        return_exceptions: bool = False,
        errors: Literal["raise", "return"] | None = None,
    ) -> Iterator[Results | Exception]:
        """Follow objects through frames; return, in the order of the frames, the objects in each with `boxes.id` set.

        The pool detects in several frames at once, as in `Pool.map`, and the tracker gets them one by one in their
        order. All arguments are those of `Pool.map`: a thread of its own reads and copies the frames. For a camera that
        may be faster than the pool, use `latest(source)`. A frame that fails is raised or returned as in `Pool.map`;
        the tracker skips it. A later call continues with the same objects. `errors` is deprecated, as in `Pool.map`.

        Raises:
            ArgumentError: from the iterator: this camera is being followed already, or the weights give no boxes.
            PoolClosedError: at once: the pool is not open.
        """
        limits: dict[str, Any] = {"timeout": timeout, "buffersize": buffersize, "copy": copy}
        limits |= {"return_exceptions": return_exceptions, "errors": errors}
        return self._in_turn(self.pool.map(frames, **limits, **self.settings))

    def _in_turn(self, found: Iterator[Results | Exception]) -> Iterator[Results | Exception]:
        if not self._turn.acquire(blocking=False):
            raise ArgumentError("This camera is being followed already; end that iteration, or make a second Camera.")
        try:
            for result in found:
                yield result if isinstance(result, Exception) else self._identified(result)
        finally:
            del found  # which closes it
            self._turn.release()

    def _identified(self, result: Results) -> Results:
        """Return the tracked ones among the detections, with their ids."""
        import torch

        name = "boxes" if result.obb is None else "obb"
        found = getattr(result, name)
        if found is None:
            raise ArgumentError("These weights give no boxes to follow; use some that detect, segment or find poses.")
        tracks = self._tracker.update(found.cpu().numpy(), result.orig_img)
        rows = np.asarray(tracks, np.float32).reshape(-1, 8 if name == "boxes" else 9)  # box, id, score, class, index
        tracked = result[rows[:, -1].astype(int)]
        tracked.update(**{name: torch.as_tensor(rows[:, :-1])})
        return tracked


def _tracker(name: str, device: str) -> Any:
    """Return a tracker made from its configuration, as `ultralytics.trackers.track.on_predict_start` does."""
    from ultralytics.trackers.track import TRACKER_MAP
    from ultralytics.utils import YAML, IterableSimpleNamespace
    from ultralytics.utils.checks import check_yaml

    try:
        config = IterableSimpleNamespace(**YAML.load(check_yaml(name)), device=device)
    except FileNotFoundError as error:
        raise ArgumentError(
            f'tracker="{name}" is not known; use "bytetrack.yaml", "botsort.yaml" or a path.'
        ) from error
    if getattr(config, "tracker_type", None) not in TRACKER_MAP:
        raise ArgumentError(f'tracker="{name}" has no known tracker_type; use one of {", ".join(sorted(TRACKER_MAP))}.')
    if getattr(config, "with_reid", False) and getattr(config, "model", "auto") == "auto":
        raise ArgumentError(
            f'tracker="{name}" compares features inside the network; name a model, or set with_reid: False.'
        )
    return TRACKER_MAP[config.tracker_type](args=config)


@dataclass(frozen=True)
class Identities:
    """How well tracks match true identities. All fields but the last count boxes.

    matched, missed, false: true boxes with and without a track, and tracks without a true box. switches: a true object
    has another track than when it was last matched (ID switches). transfers: a track is on another true object than
    when it was last matched. idf1: 0 to 1, the share of boxes that are right if each object may have one track only.
    """

    matched: int
    missed: int
    false: int
    switches: int
    transfers: int
    idf1: float


@dataclass(frozen=True)
class Seen:
    """A track on a true object in one frame.

    was_identity: the true object that the track was on when it was last matched; None if there was none, or the same.
    """

    identity: int
    was_identity: int | None = None


class IdentityCount:
    """Counter of the changes of tracks between true objects, frame by frame; see `identity_switches`.

    Args:
        iou: over 0, up to 1: the least overlap of a track with its object.
    """

    def __init__(self, iou: float = 0.5) -> None:
        self._iou = iou
        self._pairs = Counter[tuple[int, _Track]]()
        self._track_of: dict[int, _Track] = {}  # when last matched, as the next one
        self._object_of: dict[_Track, int] = {}
        self._real = self._given = self._switches = self._transfers = 0

    def add(self, scene: Scene, result: Results | Exception, tracker: int = 0) -> dict[int, Seen]:
        """Count one more frame; return the tracks that are on true objects, by their place in the result.

        Args:
            scene: the truth.
            result: the tracked objects; an exception counts as a frame without tracks.
            tracker: the number of the tracker: two trackers may give the same number to different tracks.

        Raises:
            ArgumentError: a frame without identities.
        """
        if scene.ids is None:
            raise ArgumentError("A single scene has no identities; use the frames of `scenes.clip`.")
        from ultralytics.utils.metrics import bbox_ioa

        boxes, numbers = _tracks_in(result)
        tracks = [(tracker, number) for number in numbers]
        self._real, self._given = self._real + len(scene.ids), self._given + len(tracks)
        overlap = bbox_ioa(scene.boxes, boxes, iou=True)
        stay = [[self._track_of.get(i) == track for track in tracks] for i in scene.ids.tolist()]
        # Pairs that stay come before all others.
        worth = np.where(overlap >= self._iou, overlap + 1000.0 * np.reshape(stay, overlap.shape), -1.0)
        seen = {}
        for row, column in _best(worth):
            identity, track = int(scene.ids[row]), tracks[column]
            was = self._object_of.get(track, identity)
            self._switches += self._track_of.get(identity, track) != track
            self._transfers += was != identity
            self._track_of[identity], self._object_of[track] = track, identity
            self._pairs[identity, track] += 1
            seen[column] = Seen(identity, was if was != identity else None)
        return seen

    @property
    def so_far(self) -> Identities:
        """The counts of all frames so far. The cost grows with the number of objects and tracks."""
        matched, both = self._pairs.total(), self._real + self._given
        idf1 = 2 * _kept(self._pairs) / both if both else 1.0
        return Identities(matched, self._real - matched, self._given - matched, self._switches, self._transfers, idf1)


def identity_switches(truth: Iterable[Scene], tracked: Iterable[Results | Exception], iou: float = 0.5) -> Identities:
    """Count how often tracks change between true objects.

    In each frame true and tracked boxes that overlap by `iou` or more are matched one to one: those that were a pair
    when they were last matched stay one, and the rest are paired for the largest overlap. Missed, false and switches
    are those of CLEAR MOT (Bernardin and Stiefelhagen 2008, doi:10.1155/2008/246309), transfers those of py-motmetrics,
    and IDF1 is that of Ristani et al. 2016 (arXiv:1609.01775). Classes play no part.

    Args:
        truth: the frames of a clip. To count over several cameras at once, frames of clips with different `first_id`.
        tracked: the tracked objects of each frame; an exception counts as a frame without tracks.
        iou: over 0, up to 1.

    Raises:
        ArgumentError: a frame without identities. ValueError: not as many results as frames.
    """
    count = IdentityCount(iou)
    for scene, result in zip(truth, tracked, strict=True):
        count.add(scene, result)
    return count.so_far


def _tracks_in(result: Results | Exception) -> tuple[NDArray[np.float32], list[int]]:
    """Return the boxes (n, 4) xyxy and the ids of the tracks in a result."""
    if isinstance(result, Exception) or result.boxes.id is None:
        return np.empty((0, 4), np.float32), []
    return result.boxes.xyxy.cpu().numpy(), result.boxes.id.int().tolist()


def _best(worth: NDArray[np.float64]) -> Iterator[tuple[int, int]]:
    """Return the one-to-one assignment of rows to columns with the largest sum, without pairs of no worth."""
    from ultralytics.trackers.utils.matching import linear_assignment

    for row, column in linear_assignment(-worth, thresh=0.0)[0]:
        yield int(row), int(column)


def _kept(pairs: Counter[tuple[int, _Track]]) -> int:
    """Count the boxes that are right if each object has one track and each track one object (IDF1's true positives)."""
    objects, tracks = {identity for identity, _ in pairs}, {track for _, track in pairs}
    worth = np.array([[pairs[i, track] for track in tracks] for i in objects], float).reshape(len(objects), len(tracks))
    return int(sum(worth[pair] for pair in _best(worth)))
