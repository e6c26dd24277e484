"""The panel that holds all pools against one another: bars that grow, with their spread."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from yolothreads.errors import ArgumentError
from yolothreads.lessons import figures
from yolothreads.lessons.lesson import Lesson
from yolothreads.lessons.panels import looks
from yolothreads.lessons.panels.pool_run import ASKS, KINDS
from yolothreads.lessons.panels.shell import Shell, Stopped, Tick
from yolothreads.measure import Comparison, Measurement, compare, pools_here, stamp

_MOST_WORKERS, _MOST_IMAGES, _MOST_ROUNDS = 16, 100, 20


class ComparePanel(Shell[Comparison]):
    """Measure pools in turns, round after round, and see their bars and ranges grow.

        panel = ComparePanel(lesson, rounds=3)
        panel.show()
        measured = panel.result()

    Args:
        lesson: whose images, weights and device are used.
        pools: names of the pools that are chosen at first; by default all that this machine can use.
        workers: threads or processes of each pool, by default the lesson's.
        imgsz: size in pixels that images are brought to.
        images: how many images each pool does in a round; the lesson's are repeated.
        rounds: how many rounds.
        per_image_settings: predict settings of the first image, the second, ... if each thread asks for something else.
        memory: also measure what each pool takes, in fresh processes, at the end.

    Raises:
        ArgumentError: there is no such pool, or a number that makes no sense.
    """

    def __init__(
        self,
        lesson: Lesson,
        *,
        pools: Sequence[str] = (),
        workers: int | None = None,
        imgsz: int = 320,
        images: int = 6,
        rounds: int = 3,
        per_image_settings: Sequence[dict[str, Any]] = ASKS[:2],
        memory: bool = False,
    ) -> None:
        from ipywidgets import HTML, Checkbox, Dropdown, SelectMultiple

        self.lesson, self.per_image_settings, self.memory = lesson, list(per_image_settings), memory
        there, self.left_out = pools_here(weights=lesson.weights, device=lesson.device)
        names = [type(pool).__name__ for pool in there]
        if not set(pools) <= set(names):
            raise ArgumentError(f"Of {', '.join(pools)}, some cannot be used here; there are: {', '.join(names)}.")
        settings = {
            "pools": SelectMultiple(options=names, value=list(pools) or names, rows=len(names), description="pools"),
            "workers": looks.number("workers", lesson.workers if workers is None else workers, _MOST_WORKERS),
            "imgsz": Dropdown(options=sorted({160, 320, 640, imgsz}), value=imgsz, description="image size"),
            "images": looks.number("images", images, _MOST_IMAGES, "images a round"),
            "rounds": looks.number("rounds", rounds, _MOST_ROUNDS),
            "differ": Checkbox(value=True, description="each thread asks for something else", indent=False),
        }
        self._live = HTML()
        self._live.add_class("yolothreads-live")
        super().__init__("Hold pools against one another", settings, [self._live])
        self._measured: Sequence[Measurement] = []
        self._rounds = rounds
        self._draw()

    def _work(self, tick: Tick) -> Comparison:
        chosen: dict[str, Any] = {name: widget.value for name, widget in self.settings.items()}
        if not chosen["pools"]:
            raise ArgumentError("No pool is chosen; choose one or more from the list.")
        made = {"workers": chosen["workers"], "device": self.lesson.device, "imgsz": chosen["imgsz"], "threads": 1}
        pools = [KINDS[name](self.lesson.weights, **made) for name in chosen["pools"]]
        pictures = self.lesson.images
        images = [pictures[i % len(pictures)] for i in range(chosen["images"])]
        self._measured, self._rounds = [], chosen["rounds"]

        def progress(measured: Sequence[Measurement]) -> None:
            self._measured = measured
            tick()

        try:
            return compare(
                pools,
                images,
                chosen["rounds"],
                per_image_settings=self.per_image_settings if chosen["differ"] else ({},),
                memory=self.memory,
                progress=progress,
            )
        except Stopped:
            begun = [m for m in self._measured if m.speeds]
            if not begun:
                raise
            return Comparison(begun, min(len(m.speeds) for m in begun), stamp(self.lesson.device))

    def _draw(self) -> None:
        done = sum(len(m.speeds) for m in self._measured)
        total = max(1, len(self._measured) * self._rounds)
        state = f"<div>{escape(self._state(done, total))}</div>"
        self._live.value = "".join((state, looks.bar(done, total, "turns done"), bars(self._measured)))

    def _state(self, done: int, total: int) -> str:
        if not self._measured:
            return "Nothing has been measured yet"
        is_going = self.is_running and not self.is_over
        if is_going and (opening := next((m.pool for m in self._measured if not m.start_up_s), "")):
            return f"{opening} is being opened"
        if is_going and done == total:
            return "Waiting times and memory are being measured" if self.memory else "Waiting times are being measured"
        return f"{done} of {total} turns"

    def _sentence(self, measured: Comparison) -> str:
        right = [m for m in measured if not m.wrong + m.errors]
        wrong = [f"{m.pool} ({m.wrong + m.errors})" for m in measured if m.wrong + m.errors]
        if not right:
            return f"Wrong results or errors came from every pool that was measured: {', '.join(wrong)}."
        best = max(right, key=lambda m: m.images_per_s.median)
        bad = f"wrong results or errors came from {', '.join(wrong)}" if wrong else "no pool gave a wrong result"
        fastest = f"the fastest of the others is {best.pool}, {best.images_per_s:.1f} images/s"
        return f"In {measured.rounds} rounds, {bad}; {fastest}."

    def _leaves(self, measured: Comparison) -> Iterator[Any]:
        yield self._sentence(measured)
        yield measured.table()
        speeds = {m.pool: (m.images_per_s.median, m.images_per_s.low, m.images_per_s.high) for m in measured}
        by_speed = dict(sorted(speeds.items(), key=lambda item: item[1]))
        yield figures.bars(by_speed, "Pools in turns, on the same pictures", "images/s")


def bars(measured: Sequence[Measurement]) -> str:
    """A bar for each pool that had a turn: the median of its rounds, its range as a whisker, and what went wrong."""
    begun = [m for m in measured if m.speeds]
    most = max((m.images_per_s.high for m in begun), default=1.0)
    rows = []
    for m in begun:
        speed, width = m.images_per_s, 100 / most
        bad = "all right" if not m.wrong + m.errors else f"{m.wrong} wrong, {m.errors} errors"
        left, length = width * speed.low, width * (speed.high - speed.low)
        rows.append(
            f'<span>{escape(m.pool)}</span><div><i class="bar" style="width:{width * speed.median:.1f}%"></i>'
            f'<i class="range" style="left:{left:.1f}%;width:{length:.1f}%"></i></div>'
            f"<span>{speed:.1f} images/s, {bad}</span>"
        )
    return f'<div class="yolothreads-bars">{"".join(rows)}</div>'
