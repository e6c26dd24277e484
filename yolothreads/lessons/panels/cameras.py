"""Panel for cameras: their pictures side by side, with the numbers that one tracker or several give to objects."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from yolothreads.lessons import figures
from yolothreads.lessons.lesson import Lesson
from yolothreads.lessons.panels import base, drawings
from yolothreads.lessons.panels.base import BasePanel, Run, State, Stopped, Tick
from yolothreads.lessons.texts import section
from yolothreads.palette import BAD, BLUE, GOOD, GREEN, GREY, ODD, ORANGE, PINK, RED, SKY, YELLOW
from yolothreads.pools import BatchingWorker, Pool, Replicas
from yolothreads.scenes import Scene, clip
from yolothreads.tables import Table
from yolothreads.tracking import Camera, IdentityCount

if TYPE_CHECKING:
    from ultralytics.engine.results import Results

FOR_ALL, FOR_EACH = "one for all cameras", "one for each camera"

SEEDS = (3, 12, 11, 6)
"""Seeds of the clips. Their objects often pass the same places, where one tracker takes them for one object."""

SHAPE = (240, 320)
_IDENTITIES = 1000  # that a camera may have
_MARKED_FRAMES = 12  # how long a box keeps the mark of a transfer: in one frame alone nobody would see it
_BOTH = "both, one after the other"
_TRACKERS = {FOR_ALL: (FOR_ALL,), FOR_EACH: (FOR_EACH,), _BOTH: (FOR_ALL, FOR_EACH)}
_POOLS = ("Replicas", "BatchingWorker")
_CAMERAS, _FRAMES = range(2, 5), range(1, 1001)  # one camera has nothing to mix
_REDRAW_S = 0.2  # between two redraws: each encodes a picture of every camera
_COLOURS = {"matched": GOOD, "missed": GREY, "switches": ODD, "transfers": BAD}

_TEXTS = section("panels", "cameras")


class CamerasRunSettings(NamedTuple):
    """Settings of a run. tracker: FOR_ALL or FOR_EACH. frames: of each camera."""

    cameras: int
    tracker: str
    frames: int
    pool: str


class View(NamedTuple):
    """Frame of a camera with the objects that are tracked in it.

    image: (H, W, 3) uint8 BGR. boxes: (n, 4) xyxy in pixels. numbers: of the boxes. moved: for each box whose number
    belonged to another object, that object's identity. missed: (m, 4), boxes of true objects without a number.
    """

    image: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    numbers: tuple[int, ...]
    moved: dict[int, int]
    missed: NDArray[np.float32]


class CamerasRun(Run):
    """One run: each frame of each camera is tracked, and compared with the truth.

    Attributes:
        count: of identities. between: transfers from one camera to another.
        views: the latest frame of each camera. most_moved: the views of the moment with the most moved numbers.
    """

    def __init__(self, settings: CamerasRunSettings) -> None:
        super().__init__(settings.cameras * settings.frames)
        self.settings = settings
        self.between = 0
        self.count = IdentityCount()
        self.views: list[View] = []
        self.most_moved: list[View] = []
        self._marks: dict[tuple[int, int], tuple[int, int]] = {}  # camera and number -> turn and former identity

    def go(self, pool: Pool, tick: Tick) -> None:
        """Run, with a pool that is not open yet. `Stopped`, raised by `tick`, ends the run early."""
        with self.until_stopped():
            self.state = State.OPENING
            tick()
            with pool:
                self.state = State.WORKING
                self.begin()
                for tracker, scene, result in self._tracked(pool):
                    self._count(tracker, scene, result)
                    tick()

    def _tracked(self, pool: Pool) -> Iterator[tuple[int, Scene, Results]]:
        """Return a frame of each camera in turn: the number of its tracker, the truth, and the tracked result."""
        cameras = range(self.settings.cameras)
        clips = [clip(SEEDS[i], self.settings.frames, SHAPE, first_id=i * _IDENTITIES) for i in cameras]
        streams = [chain.from_iterable(zip(*clips, strict=True))] if self.settings.tracker == FOR_ALL else clips
        # The pool takes more frames than it has given back, in a thread of its own: a deque holds their scenes.
        ahead = [deque[Scene]() for _ in streams]
        followed = [Camera(pool).follow(_images(*pair)) for pair in zip(streams, ahead, strict=True)]
        for number in range(self.total):
            tracker = number % len(streams)
            result = next(followed[tracker])
            assert not isinstance(result, Exception)  # it would have been raised
            yield tracker, ahead[tracker].popleft(), result

    def _count(self, tracker: int, scene: Scene, result: Results) -> None:
        """Count a frame, and keep it to be shown."""
        turn, camera = divmod(self.done, self.settings.cameras)
        seen = self.count.add(scene, result, tracker)
        numbers: list[int] = result.boxes.id.int().tolist()
        for box, match in seen.items():
            if match.was_identity is not None:
                self.between += match.was_identity // _IDENTITIES != camera
                self._marks[camera, numbers[box]] = turn, match.was_identity
        marks = {box: self._marks.get((camera, number), (-_MARKED_FRAMES, 0)) for box, number in enumerate(numbers)}
        moved = {box: identity for box, (at, identity) in marks.items() if turn - at < _MARKED_FRAMES}
        missed = scene.boxes[~np.isin(np.asarray(scene.ids), [match.identity for match in seen.values()])]
        view = View(scene.image, result.boxes.xyxy.cpu().numpy(), tuple(numbers), moved, missed)
        self.views = [*self.views[:camera], view, *self.views[camera + 1 :]]
        self.step()
        if camera == self.settings.cameras - 1 and _moved(self.views) >= _moved(self.most_moved):
            self.most_moved = self.views


def _images(scenes: Iterable[Scene], ahead: deque[Scene]) -> Iterator[NDArray[np.uint8]]:
    """Return the images of scenes, and keep each scene until its result is there."""
    for scene in scenes:
        ahead.append(scene)
        yield scene.image


def _moved(views: Sequence[View]) -> int:
    return sum(len(view.moved) for view in views)


class CamerasPanel(BasePanel[list[CamerasRun]]):
    """Follow objects in some cameras with one tracker for all of them, or with one for each, and watch the numbers.

        panel = CamerasPanel(lesson, tracker="one for all cameras")
        panel.show()

    The cameras are generated clips, so that every true identity is known. Detection is the same for both ways: a pool
    that knows nothing of cameras. `runs` keeps every run of this panel, and `table()` shows them. A result is a list of
    runs: of two where both ways were tried.

    It is redrawn five times a second, because encoding the pictures of four cameras takes more than 3 ms.

    Args:
        lesson: its weights and device are used.
        cameras: how many at first, 2 to 4.
        tracker: "one for all cameras", "one for each camera", or "both, one after the other". By default the first,
            and both without a reader to choose.
        frames: of each camera; by default 60, or fewer without a reader, or in quick mode.
        pool: "Replicas" or "BatchingWorker".
        imgsz: size in pixels that frames are resized to.

    Raises:
        ArgumentError: there is no such tracker or pool, or a number is out of range.
    """

    def __init__(
        self, lesson: Lesson, *, cameras: int = 2, tracker: str | None = None, frames: int | None = None,
        pool: str = "Replicas", imgsz: int = 320,
    ) -> None:  # fmt: skip
        self.lesson, self.imgsz, self.runs = lesson, imgsz, list[CamerasRun]()
        has_reader = base.has_front_end()
        tracker = (FOR_ALL if has_reader else _BOTH) if tracker is None else tracker
        frames = lesson.trials(60 if has_reader else 40, quick=20) if frames is None else frames
        settings = {
            "cameras": base.field("cameras", cameras, _CAMERAS),
            "tracker": base.field("tracker", tracker, list(_TRACKERS)),
            "frames": base.field("frames", frames, _FRAMES),
            "pool": base.field("pool", pool, _POOLS),
        }
        super().__init__(_TEXTS["title"], settings)
        self.redraws_every_s = _REDRAW_S
        self._run = CamerasRun(CamerasRunSettings(cameras, FOR_ALL, frames, pool))
        self._draw()

    def table(self) -> Table:
        """Return the table of this panel's runs, one row per run."""
        rows = []
        for run in self.runs:
            so_far, settings = run.count.so_far, run.settings
            counts = [getattr(so_far, name) for name in _COLOURS]
            done = run.done // settings.cameras
            rows.append((settings.tracker, settings.cameras, done, *counts, f"{so_far.idf1:.2f}"))
        return base.runs_table(_TEXTS["headers"], rows, self.lesson.stamp)

    def _work(self, tick: Tick) -> list[CamerasRun]:
        chosen = self._chosen()
        runs = []
        for tracker in _TRACKERS[chosen["tracker"]]:
            self._run = run = CamerasRun(CamerasRunSettings(**{**chosen, "tracker": tracker}))
            run.go(self._pool(run.settings), tick)
            if run.done:
                runs.append(run)
            if run.stopped:
                break
        if not runs:  # stopped before the first frame
            raise Stopped
        self.runs += runs
        return runs

    def _pool(self, settings: CamerasRunSettings) -> Pool:
        # One thread for torch: the other cores have work, too.
        given: dict[str, Any] = {"device": self.lesson.device, "imgsz": self.imgsz, "threads": 1}
        if settings.pool == "Replicas":
            return Replicas(self.lesson.weights, workers=max(2, self.lesson.workers), **given)
        return BatchingWorker(self.lesson.weights, max_batch=settings.cameras, **given)

    def _draw(self) -> None:
        run, so_far = self._run, self._run.count.so_far
        now = run.now if run.state is State.WORKING else None
        idf1 = so_far.idf1 if so_far.matched else None
        shown = [(drawn(view), caption, caption) for view, caption in zip(run.views, _captions(run.views), strict=True)]
        self.live.value = (
            f"<div>{_TEXTS[run.state].format(tracker=run.settings.tracker)}</div>"
            f"{drawings.progress_bar(run.done, run.total, _TEXTS['frames_done'])}"
            f"{drawings.numbers(_TEXTS['live'], run=run, now=now, idf1=idf1)}"
            f"{drawings.counts(vars(so_far), _COLOURS, _TEXTS)}"
            f'<div class="yolothreads-cameras">{drawings.pictures(shown)}</div><div>{_TEXTS["words"]}</div>'
        )

    def _sentence(self, runs: list[CamerasRun]) -> str:
        return " ".join(
            f"{_TEXTS['verdict'].format(run=run, so_far=run.count.so_far, frames=run.done // run.settings.cameras)} "
            f"{_TEXTS['mixed' if run.between else 'not_mixed']}"
            for run in runs
        )

    def _outputs(self, runs: list[CamerasRun]) -> Iterator[Any]:
        yield self._sentence(runs)
        yield self.table()
        for run in runs:
            if run.most_moved:
                names = [_TEXTS["camera"].format(camera=i + 1) for i in range(len(run.most_moved))]
                pictures = [drawn(view)[:, :, ::-1] for view in run.most_moved]
                title = _TEXTS["figure"].format(tracker=run.settings.tracker)
                yield figures.gallery(pictures, names, title, "\n".join(_captions(run.most_moved)))


def _captions(views: Sequence[View]) -> list[str]:
    return [_TEXTS["caption"].format(camera=i, objects=described(view)) for i, view in enumerate(views, 1)]


def described(view: View) -> str:
    """Return the numbers of a view in words, with those that moved and the count of missed objects."""
    numbers = ", ".join(map(str, sorted(view.numbers)))
    parts = [_TEXTS["numbers"].format(numbers=numbers) if numbers else _TEXTS["no_numbers"]]
    if len(view.missed):
        parts.append(_TEXTS["missed_count"].format(count=len(view.missed)))
    parts += [_moved_text("moved", identity, number=view.numbers[box]) for box, identity in view.moved.items()]
    return "; ".join(parts)


def _moved_text(key: str, identity: int, **fields: Any) -> str:
    camera, number = divmod(identity, _IDENTITIES)
    return _TEXTS[key].format(object=number + 1, camera=camera + 1, **fields)


# --- drawing: colours of OpenCV are BGR ---

_Colour = tuple[int, int, int]
_Place = tuple[int, int, int, int]  # left, top, right, bottom


def _bgr(colour: str) -> _Colour:
    return int(colour[5:7], 16), int(colour[3:5], 16), int(colour[1:3], 16)


# Background and text brightness of numbers; red is kept for transfers.
_NUMBER_COLOURS = [(_bgr(c), 255 if c == BLUE else 0) for c in (SKY, GREEN, YELLOW, BLUE, PINK, ORANGE)]
_MARK, _PALE = _bgr(RED), (230, 230, 230)


def drawn(view: View) -> NDArray[np.uint8]:
    """Return the frame of a view with its boxes and numbers drawn, (H, W, 3) uint8 BGR."""
    import cv2

    pixels, taken = view.image.copy(), list[_Place]()
    for x1, y1, x2, y2 in view.missed.astype(int).tolist():
        cv2.rectangle(pixels, (x1, y1), (x2, y2), _PALE, 1)
        taken.append(_write(pixels, "?", x1, y1, 0.5, _PALE, 0))
    boxes = view.boxes.round().astype(int).tolist()
    colours = [_NUMBER_COLOURS[number % len(_NUMBER_COLOURS)] for number in view.numbers]
    for i, (x1, y1, x2, y2) in enumerate(boxes):
        cv2.rectangle(pixels, (x1, y1), (x2, y2), colours[i][0], 2)
        if i in view.moved:
            cv2.rectangle(pixels, (x1 - 3, y1 - 3), (x2 + 3, y2 + 3), _MARK, 3)
    for (x1, y1, *_), number, (colour, brightness) in zip(boxes, view.numbers, colours, strict=True):
        taken.append(_write(pixels, str(number), x1, y1, 0.5, colour, brightness))
    for i, identity in view.moved.items():
        text = _moved_text("moved_on_picture", identity)
        taken.append(_write(pixels, text, boxes[i][0], boxes[i][3] + 16, 0.36, _MARK, 0, taken))
    return pixels


def _write(
    pixels: NDArray[np.uint8], text: str, x: int, y: int, scale: float, colour: _Colour, ink: int,
    taken: Sequence[_Place] = (),
) -> _Place:  # fmt: skip
    """Write on a coloured background, and return its place: its lower left corner is (x, y) if there is room.

    It is moved so that it stays inside the picture and, if there is room, down so that it covers nothing in `taken`.
    """
    import cv2

    font = cv2.FONT_HERSHEY_SIMPLEX
    (width, height), _ = cv2.getTextSize(text, font, scale, 1)
    width, height, bottom = width + 4, height + 6, pixels.shape[0]
    x = max(0, min(x, pixels.shape[1] - width))
    y = max(height, min(y, bottom))
    near = [(top, low) for left, top, right, low in taken if left < x + width and x < right]
    y = next((at for at in range(y, bottom) if all(at <= top or low <= at - height for top, low in near)), y)
    cv2.rectangle(pixels, (x, y - height), (x + width, y), colour, -1)
    cv2.putText(pixels, text, (x + 2, y - 3), font, scale, (ink,) * 3, 1, cv2.LINE_AA)
    return x, y - height, x + width, y
