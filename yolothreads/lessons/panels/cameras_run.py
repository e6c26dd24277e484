"""Cameras that are followed with one tracker for all or one for each, and every identity held against the truth."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from yolothreads.lessons.panels.shell import Stopped, Tick
from yolothreads.lessons.progress import Progress
from yolothreads.pools import Pool
from yolothreads.scenes import Scene, clip
from yolothreads.tracking import Camera, IdentityCount

if TYPE_CHECKING:
    from ultralytics.engine.results import Results

FOR_ALL, FOR_EACH = "one for all cameras", "one for each camera"

SEEDS = (3, 12, 11, 6)
"""The clips that cameras show: their objects often come by the same places, where one tracker takes them for one."""

SHAPE = (240, 320)
_APART = 1000  # identities that a camera may have
_MARKED_FRAMES = 12  # for how long a box keeps the mark of its transfer: one frame alone could not be seen


@dataclass(frozen=True)
class Choice:
    """What a run is made with. tracker: FOR_ALL or FOR_EACH; frames: of each camera."""

    cameras: int
    tracker: str
    frames: int
    pool: str


@dataclass(frozen=True)
class View:
    """A frame of a camera, (H, W, 3) uint8 BGR, with boxes (n, 4) xyxy and their numbers.

    was: for each box whose number belonged to another object, in words to which. missed: boxes (m, 4) of true objects
    without a number.
    """

    image: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    numbers: tuple[int, ...]
    was: dict[int, str]
    missed: NDArray[np.float32]


@dataclass
class CamerasRun:
    """One run, and how far it is.

    between: transfers from one camera to another. views: what each camera sees now. telling: what all saw when most
    numbers belonged to other objects before.
    """

    choice: Choice
    state: str = "have not begun"
    stopped: bool = False
    between: int = 0
    count: IdentityCount = field(default_factory=IdentityCount)
    progress: Progress = field(default_factory=lambda: Progress(0))
    views: list[View] = field(default_factory=list)
    telling: list[View] = field(default_factory=list)
    _marks: dict[tuple[int, int], tuple[int, str]] = field(default_factory=dict)

    def go(self, pool: Pool, tick: Tick) -> None:
        """Do it, with a pool that is not open yet. Ends early, with `stopped`, if `tick` raises `Stopped`."""
        choice = self.choice
        self.progress = Progress(choice.cameras * choice.frames)
        try:
            self.state = "wait for their pool, which is being opened"
            tick()
            with pool:
                self.state = "are being followed"
                self.progress.begin()
                for number, (tracker, scene, result) in enumerate(self._followed(pool)):
                    self._see(number, tracker, scene, result)
                    tick()
        except Stopped:
            self.stopped = True
        self.progress.end()
        self.state = "are done"

    def _followed(self, pool: Pool) -> Iterator[tuple[int, Scene, Results]]:
        """A frame of each camera in turn: which tracker got it, the truth, and what was tracked in it."""
        cameras = range(self.choice.cameras)
        clips = [clip(SEEDS[i], self.choice.frames, SHAPE, first_id=i * _APART) for i in cameras]
        films = [chain.from_iterable(zip(*clips, strict=True))] if self.choice.tracker == FOR_ALL else clips
        ahead: list[deque[Scene]] = [deque() for _ in films]  # given to the pool, and not back yet

        def images(film: Iterator[Scene], given: deque[Scene]) -> Iterator[NDArray[np.uint8]]:
            for scene in film:
                given.append(scene)
                yield scene.image

        followed = [Camera(pool).follow(images(*pair)) for pair in zip(films, ahead, strict=True)]
        for number in range(self.progress.total):
            tracker = number % len(films)
            result = next(followed[tracker])
            assert not isinstance(result, Exception)  # it would have been raised
            yield tracker, ahead[tracker].popleft(), result

    def _see(self, number: int, tracker: int, scene: Scene, result: Results) -> None:
        """Count a frame, and keep it to be shown."""
        turn, camera = divmod(number, self.choice.cameras)
        seen = self.count.add(scene, result, tracker)
        tracks: list[int] = result.boxes.id.int().tolist()
        for place, what in seen.items():
            if what.was_identity is not None:
                self.between += what.was_identity // _APART != camera
                self._marks[camera, tracks[place]] = turn, _named(what.was_identity)
        marks = {i: self._marks.get((camera, track), (-_MARKED_FRAMES, "")) for i, track in enumerate(tracks)}
        was = {i: f"was {name}" for i, (at, name) in marks.items() if turn - at < _MARKED_FRAMES}
        missed = scene.boxes[~np.isin(np.asarray(scene.ids), [what.identity for what in seen.values()])]
        view = View(scene.image, result.boxes.xyxy.cpu().numpy(), tuple(tracks), was, missed)
        self.views = [*self.views[:camera], view, *self.views[camera + 1 :]]
        self.progress.step()
        if camera == self.choice.cameras - 1 and _marked(self.views) >= _marked(self.telling):
            self.telling = self.views


def _named(identity: int) -> str:
    camera, number = divmod(identity, _APART)
    return f"object {number + 1} of camera {camera + 1}"


def _marked(views: list[View]) -> int:
    return sum(len(view.was) for view in views)
