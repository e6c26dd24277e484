"""Panel that compares pools: bars that grow, with the range of their rounds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from yolothreads.errors import ArgumentError
from yolothreads.lessons import figures
from yolothreads.lessons.lesson import Lesson
from yolothreads.lessons.panels import style
from yolothreads.lessons.panels.base import BasePanel, Stopped, Tick
from yolothreads.lessons.panels.drawings import progress_bar
from yolothreads.lessons.panels.pools import PER_IMAGE_SETTINGS, make_pool
from yolothreads.lessons.texts import section
from yolothreads.measure import Comparison, Measurement, compare, pools_here, stamp

_MOST_WORKERS, _MOST_IMAGES, _MOST_ROUNDS = 16, 100, 20
_SIZES = (160, 320, 640)

_TEXTS = section("panels", "compare")


class ComparePanel(BasePanel[Comparison]):
    """Measure pools in turns, round after round, and watch their bars and ranges grow.

        panel = ComparePanel(lesson, rounds=3)
        panel.show()
        measured = panel.result()

    Args:
        lesson: its images, weights and device are used.
        pools: names of the pools that are chosen at first; by default all that this machine can use.
        workers: threads or processes of each pool; by default the lesson's.
        imgsz: size in pixels that images are resized to.
        images: how many images each pool does in a round; the lesson's images are repeated.
        rounds: how many rounds.
        per_image_settings: settings of predict for the first image, the second, ..., where each thread asks with
            different settings.
        memory: whether to measure the memory of each pool as well, in fresh processes, at the end.

    Raises:
        ArgumentError: there is no such pool, or a number is out of range.
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
        per_image_settings: Sequence[dict[str, Any]] = PER_IMAGE_SETTINGS[:2],
        memory: bool = False,
    ) -> None:
        from ipywidgets import Checkbox, Dropdown, SelectMultiple

        self.lesson, self.per_image_settings, self.memory = lesson, list(per_image_settings), memory
        usable, self.left_out = pools_here(weights=lesson.weights, device=lesson.device)
        names = [type(pool).__name__ for pool in usable]
        if not set(pools) <= set(names):
            raise ArgumentError(f"Some of {', '.join(pools)} cannot be used here; there are: {', '.join(names)}.")
        settings = {
            "pools": SelectMultiple(options=names, value=list(pools) or names, rows=len(names), description="pools"),
            "workers": style.number_field("workers", lesson.workers if workers is None else workers, _MOST_WORKERS),
            "imgsz": Dropdown(options=sorted({*_SIZES, imgsz}), value=imgsz, description=_TEXTS["image_size"]),
            "images": style.number_field("images", images, _MOST_IMAGES, _TEXTS["images"]),
            "rounds": style.number_field("rounds", rounds, _MOST_ROUNDS),
            "differ": Checkbox(value=True, description=_TEXTS["differ"], indent=False),
        }
        self._live = style.html_widget("live")
        super().__init__(_TEXTS["title"], settings, [self._live])
        self._measured: Sequence[Measurement] = []
        self._rounds = rounds
        self._draw()

    def _work(self, tick: Tick) -> Comparison:
        chosen = self._chosen()
        if not chosen["pools"]:
            raise ArgumentError("No pool is chosen; choose one or more from the list.")
        given = {"device": self.lesson.device, "imgsz": chosen["imgsz"], "threads": 1}
        pools = [make_pool(name, self.lesson, chosen["workers"], **given) for name in chosen["pools"]]
        images = [self.lesson.images[i % len(self.lesson.images)] for i in range(chosen["images"])]
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
        self._live.value = f"{state}{progress_bar(done, total, _TEXTS['turns_done'])}{bars(self._measured)}"

    def _state(self, done: int, total: int) -> str:
        if not self._measured:
            return _TEXTS["nothing"]
        if self.is_running and not self.is_over:
            if opening := next((m.pool for m in self._measured if not m.start_up_s), ""):
                return _TEXTS["opening"].format(pool=opening)
            if done == total:
                return _TEXTS["latency_and_memory" if self.memory else "latency"]
        return _TEXTS["turns"].format(done=done, total=total)

    def _sentence(self, measured: Comparison) -> str:
        right = [m for m in measured if not m.wrong + m.errors]
        counts = {m.pool: m.wrong + m.errors for m in measured if m.wrong + m.errors}
        wrong = ", ".join(_TEXTS["wrong_count"].format(pool=pool, count=count) for pool, count in counts.items())
        if not right:
            return _TEXTS["all_wrong"].format(wrong=wrong)
        best = max(right, key=lambda m: m.images_per_s.median)
        return _TEXTS["some_wrong" if wrong else "all_right"].format(
            rounds=measured.rounds, wrong=wrong, best=best.pool, speed=best.images_per_s.median
        )

    def _outputs(self, measured: Comparison) -> Iterator[Any]:
        yield self._sentence(measured)
        yield measured.table()
        speeds = {m.pool: (m.images_per_s.median, m.images_per_s.low, m.images_per_s.high) for m in measured}
        by_speed = dict(sorted(speeds.items(), key=lambda item: item[1]))
        yield figures.bars(by_speed, _TEXTS["figure"], "images/s")


def bars(measured: Sequence[Measurement]) -> str:
    """Return one bar per pool that had a turn: the median of its rounds, their range as a whisker, and its faults."""
    begun = [m for m in measured if m.speeds]
    most = max((m.images_per_s.high for m in begun), default=1.0)
    rows = []
    for m in begun:
        speed, percent = m.images_per_s, 100 / most
        label = _TEXTS["bar_wrong" if m.wrong + m.errors else "bar"].format(speed=speed, wrong=m.wrong, errors=m.errors)
        left, length = percent * speed.low, percent * (speed.high - speed.low)
        rows.append(
            f'<span>{escape(m.pool)}</span><div><i class="bar" style="width:{percent * speed.median:.1f}%"></i>'
            f'<i class="range" style="left:{left:.1f}%;width:{length:.1f}%"></i></div><span>{label}</span>'
        )
    return f'<div class="yolothreads-bars">{"".join(rows)}</div>'
