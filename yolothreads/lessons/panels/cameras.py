"""The panel for cameras: their pictures side by side, with the numbers that one tracker or several give to objects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolothreads.errors import ArgumentError
from yolothreads.lessons import figures
from yolothreads.lessons.lesson import Lesson
from yolothreads.lessons.panels import front_end, looks
from yolothreads.lessons.panels.cameras_run import FOR_ALL, FOR_EACH, CamerasRun, Choice, View
from yolothreads.lessons.panels.shell import Shell, Stopped, Tick
from yolothreads.pools import BatchingWorker, Pool, Replicas
from yolothreads.tables import Table

_BOTH = "both, one after the other"
_TRACKERS = {FOR_ALL: (FOR_ALL,), FOR_EACH: (FOR_EACH,), _BOTH: (FOR_ALL, FOR_EACH)}
_POOLS = ("Replicas", "BatchingWorker")
_MOST_CAMERAS, _MOST_FRAMES = 4, 1000
_EVERY_S = 0.2  # between two redraws: each encodes a picture of every camera
_GREY = "#767676"
_WORDS = (
    "A <b>transfer</b>: a number goes over to another object (orange box, with the object that it was on before). "
    "A <b>switch</b>: an object gets another number. <b>Missed</b>: an object without a number (?)."
)

# Okabe and Ito's palette as BGR, each with the colour of text on it; orange-red is kept for transfers.
_PALETTE = (
    ((233, 180, 86), 0),
    ((115, 158, 0), 255),
    ((66, 228, 240), 0),
    ((178, 114, 0), 255),
    ((167, 121, 204), 0),
    ((0, 159, 230), 0),
)
_MARK, _PALE = (0, 94, 213), (230, 230, 230)


class CamerasPanel(Shell[list[CamerasRun]]):
    """Follow the objects of some cameras with one tracker for all of them, or with one for each, and watch the numbers.

        panel = CamerasPanel(lesson, tracker="one for all cameras")
        panel.show()

    The cameras are generated clips, so that every true identity is known. Detection is the same for both: a pool that
    knows nothing of cameras. `runs` keeps every run of this panel, and `table()` shows them. A run gives a list: of two
    where both ways were tried.

    It is redrawn five times a second, because pictures of four cameras take more than 3 ms to encode.

    Args:
        lesson: whose weights and device are used.
        cameras: how many at first, 2 to 4.
        tracker: "one for all cameras", "one for each camera", or "both, one after the other". By default the first,
            and both where nobody is there to choose.
        frames: of each camera; by default 60, or fewer where nobody looks on, or in quick mode.
        pool: "Replicas" or "BatchingWorker".
        imgsz: size in pixels that frames are brought to.

    Raises:
        ArgumentError: there is no such tracker or pool, or a number that makes no sense.
    """

    def __init__(
        self,
        lesson: Lesson,
        *,
        cameras: int = 2,
        tracker: str | None = None,
        frames: int | None = None,
        pool: str = "Replicas",
        imgsz: int = 320,
    ) -> None:
        from ipywidgets import HTML, Dropdown

        self.lesson, self.imgsz, self.runs = lesson, imgsz, list[CamerasRun]()
        is_watched = front_end.is_there()
        tracker = (FOR_ALL if is_watched else _BOTH) if tracker is None else tracker
        frames = lesson.trials(60 if is_watched else 40, quick=20) if frames is None else frames
        for given, known in ((tracker, _TRACKERS), (pool, _POOLS)):
            if given not in known:
                raise ArgumentError(f'"{given}" is not known here; use one of: {", ".join(known)}.')
        number = looks.number("cameras", cameras, _MOST_CAMERAS)
        if cameras < 2:
            raise ArgumentError(f"cameras={cameras} has nothing to mix; use 2 to {_MOST_CAMERAS}.")
        number.min = 2
        settings = {
            "cameras": number,
            "tracker": Dropdown(options=list(_TRACKERS), value=tracker, description="tracker"),
            "frames": looks.number("frames", frames, _MOST_FRAMES),
            "pool": Dropdown(options=_POOLS, value=pool, description="pool"),
        }
        self._live = HTML()
        self._live.add_class("yolothreads-live")
        super().__init__("Follow cameras, and watch the numbers", settings, [self._live])
        self.redraws_every_s = _EVERY_S
        self._run = CamerasRun(Choice(cameras, FOR_ALL, frames, pool))
        self._draw()

    def table(self) -> Table:
        """Every run of this panel so far, one row each."""
        headers = ["tracker", "cameras", "frames", "matched", "missed", "switches", "transfers", "IDF1"]
        rows = []
        for run in self.runs:
            so_far, choice = run.count.so_far, run.choice
            counts = (so_far.matched, so_far.missed, so_far.switches, so_far.transfers, f"{so_far.idf1:.2f}")
            rows.append((choice.tracker, choice.cameras, run.progress.done // choice.cameras, *counts))
        return Table(headers, rows, self.lesson.stamp if rows else "No run yet: press Run in the panel.")

    def _work(self, tick: Tick) -> list[CamerasRun]:
        chosen: dict[str, Any] = {name: widget.value for name, widget in self.settings.items()}
        runs = []
        for tracker in _TRACKERS[chosen["tracker"]]:
            self._run = run = CamerasRun(Choice(**{**chosen, "tracker": tracker}))
            run.go(self._pool(run.choice), tick)
            if run.progress.done:
                runs.append(run)
            if run.stopped:
                break
        if not runs:  # stopped before the first frame
            raise Stopped
        self.runs += runs
        return runs

    def _pool(self, choice: Choice) -> Pool:
        given: dict[str, Any] = {
            "device": self.lesson.device,
            "imgsz": self.imgsz,
            "threads": 1,
        }  # others have work, too
        if choice.pool == "Replicas":
            return Replicas(self.lesson.weights, workers=max(2, self.lesson.workers), **given)
        return BatchingWorker(self.lesson.weights, max_batch=choice.cameras, **given)

    def _draw(self) -> None:
        run, so_far = self._run, self._run.count.so_far
        numbers = {
            "frames/s now": f"{run.progress.now:.0f}" if run.state == "are being followed" else "–",
            "frames/s so far": f"{run.progress.so_far:.1f}",
            "frames done": f"{run.progress.done} of {run.choice.cameras * run.choice.frames}",
            "IDF1 so far": f"{so_far.idf1:.2f}" if so_far.matched else "–",
        }
        counts = {
            "matched": (so_far.matched, looks.GOOD),
            "missed": (so_far.missed, _GREY),
            "switches": (so_far.switches, looks.ODD),
            "transfers": (so_far.transfers, looks.BAD),
        }
        self._live.value = "".join(
            (
                f"<div>Tracker: {run.choice.tracker}. The cameras {run.state}.</div>",
                looks.bar(run.progress.done, run.choice.cameras * run.choice.frames, "frames done"),
                looks.numbers(numbers),
                looks.counts(counts),
                f'<div class="yolothreads-cameras">{looks.pictures(_shown(run.views))}</div>',
                f"<div>{_WORDS}</div>",
            )
        )

    def _sentence(self, runs: list[CamerasRun]) -> str:
        return " ".join(map(_verdict, runs))

    def _leaves(self, runs: list[CamerasRun]) -> Iterator[Any]:
        yield self._sentence(runs)
        yield self.table()
        for run in runs:
            if run.telling:
                names = [f"camera {i + 1}" for i in range(len(run.telling))]
                text = "\n".join(f"{name}: {_said(view)}" for name, view in zip(names, run.telling, strict=True))
                pictures = [drawn(view)[:, :, ::-1] for view in run.telling]
                yield figures.gallery(pictures, names, f"Tracker: {run.choice.tracker}", text)


def drawn(view: View) -> NDArray[np.uint8]:
    """The frame of a view with its boxes and numbers; (H, W, 3) uint8, BGR."""
    import cv2

    pixels = view.image.copy()
    for x1, y1, x2, y2 in view.missed.astype(int).tolist():
        cv2.rectangle(pixels, (x1, y1), (x2, y2), _PALE, 1)
        _write(pixels, "?", x1, y1, 0.5, _PALE, 0)
    boxes = view.boxes.round().astype(int).tolist()
    colours = [_PALETTE[number % len(_PALETTE)] for number in view.numbers]
    for i, (x1, y1, x2, y2) in enumerate(boxes):
        cv2.rectangle(pixels, (x1, y1), (x2, y2), colours[i][0], 2)
        if i in view.was:
            cv2.rectangle(pixels, (x1 - 3, y1 - 3), (x2 + 3, y2 + 3), _MARK, 3)
    for i, was in view.was.items():
        _write(pixels, was, boxes[i][0], boxes[i][3] + 16, 0.36, _MARK, 0)
    for (x1, y1, *_), number, (colour, ink) in zip(boxes, view.numbers, colours, strict=True):
        _write(pixels, str(number), x1, y1, 0.5, colour, ink)
    return pixels


def _write(
    pixels: NDArray[np.uint8], text: str, x: int, y: int, scale: float, colour: tuple[int, int, int], ink: int
) -> None:
    """Write on a ground of some colour; (x, y) is its lower left corner, moved where it would leave the picture."""
    import cv2

    font = cv2.FONT_HERSHEY_SIMPLEX
    (width, height), _ = cv2.getTextSize(text, font, scale, 1)
    x = max(0, min(x, pixels.shape[1] - width - 4))
    y = max(height + 6, min(y, pixels.shape[0]))
    cv2.rectangle(pixels, (x, y - height - 6), (x + width + 4, y), colour, -1)
    cv2.putText(pixels, text, (x + 2, y - 3), font, scale, (ink, ink, ink), 1, cv2.LINE_AA)


def _shown(views: Sequence[View]) -> Iterator[str]:
    for i, view in enumerate(views):
        said = _said(view)
        yield looks.picture(drawn(view), f"camera {i + 1}: {said}", f"camera {i + 1}: {said}")


def _said(view: View) -> str:
    """Its numbers in words."""
    marked = [f"{view.numbers[i]} {was}" for i, was in view.was.items()]
    missed = [f"missed: {len(view.missed)}"] if len(view.missed) else []
    return "; ".join([f"numbers {', '.join(map(str, sorted(view.numbers))) or 'none'}", *missed, *marked])


def _verdict(run: CamerasRun) -> str:
    so_far, choice = run.count.so_far, run.choice
    how = f"{run.progress.done} frames" if run.stopped else f"{choice.frames} frames of each"
    what = "Identities of cameras are mixed." if run.between else "No number went from one camera to another."
    return (
        f"Tracker: {choice.tracker} ({choice.cameras} cameras, {how}, {choice.pool}): {so_far.transfers} transfers, "
        f"{run.between} of them from one camera to another; {so_far.switches} switches, {so_far.missed} missed, "
        f"IDF1 {so_far.idf1:.2f}. {what}"
    )
