"""The panel for `BatchingWorker`: let calls come faster or slower while it runs, and watch its queue."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from yolothreads.arguments import not_negative
from yolothreads.lessons import figures
from yolothreads.lessons.lesson import Lesson
from yolothreads.lessons.panels import front_end, looks
from yolothreads.lessons.panels.batching_run import BatchingRun, Choice
from yolothreads.lessons.panels.shell import Shell, Stopped, Tick
from yolothreads.lessons.panels.strips import MARKS, Strips
from yolothreads.pools import BatchingWorker, read_image
from yolothreads.tables import Table

if TYPE_CHECKING:
    from ipywidgets import Dropdown, Widget

_SHAPE = (320, 240)  # width and height: all pictures must have one shape to share a batch
_CONF = 0.05
_MOST_PER_S = 1000
_MOST_BATCH, _MOST_ROOM, _MOST_SECONDS = 16, 256, 120  # a batch under way cannot be stopped
_WAITS_MS, _DEADLINES_S = (0, 5, 20, 50, 100, 500), (0.0, 0.05, 0.1, 0.2, 0.5, 1.0)  # 0: none
_RUSH = ((0.25, 0.5), (0.6, 2.0), (1.0, 0.5))  # until this share of the time, so many times what the worker can do
_NOW_S = 2.0
_GREY = "#767676"
_COLOURS = {"answered": looks.GOOD, **MARKS, "failed": "#0072b2", "cancelled": _GREY}


class BatchingPanel(Shell[BatchingRun]):
    """Calls come at a `BatchingWorker` at random moments, as many a second as the reader likes; its queue moves.

        panel = BatchingPanel(lesson, queue_size=16)
        panel.show()

    The rate holds at once, while the run goes on; the other settings hold for the next run. A call that finds the queue
    full is refused. `runs` keeps every run of this panel, and `table()` shows them.

    Args:
        lesson: whose images, weights and device are used.
        rate: images/s that come at first.
        rush: have the panel move the rate itself: to half of what the worker can do, then to twice as much as it can,
            then to half again. By default only where nobody is there to move it.
        max_batch, max_wait_ms, queue_size, deadline_s: of the worker at first, as `BatchingWorker` takes them.
        seconds: how long calls come; by default 15, or less where nobody looks on, or in quick mode.
        imgsz: size in pixels that images are brought to.

    Raises:
        ArgumentError: a number that makes no sense.
    """

    def __init__(
        self,
        lesson: Lesson,
        *,
        rate: int = 20,
        rush: bool | None = None,
        max_batch: int = 8,
        max_wait_ms: float = 5,
        queue_size: int = 16,
        deadline_s: float | None = None,
        seconds: int | None = None,
        imgsz: int = 160,
    ) -> None:
        from ipywidgets import HTML, Checkbox

        self.lesson, self.imgsz, self.runs = lesson, imgsz, list[BatchingRun]()
        is_watched = front_end.is_there()
        seconds = lesson.trials(15 if is_watched else 9, quick=3) if seconds is None else seconds
        rush = not is_watched if rush is None else rush
        settings = {
            **_rate_fields(rate),
            "max-batch": looks.number("max_batch", max_batch, _MOST_BATCH),
            "max-wait": _times("max_wait_ms", _WAITS_MS, max_wait_ms, 1),
            "queue-size": looks.number("queue_size", queue_size, _MOST_ROOM),
            "deadline": _times("deadline_s", _DEADLINES_S, 0.0 if deadline_s is None else deadline_s, 1000, "none"),
            "seconds": looks.number("seconds", seconds, _MOST_SECONDS),
            "rush": Checkbox(value=rush, description="let a rush come by itself", indent=False),
        }
        self._live = HTML()
        self._live.add_class("yolothreads-live")
        super().__init__("Let calls come, and watch the queue", settings, [self._live])
        self._show_run(BatchingRun(self._choice()))
        self._draw()

    def table(self) -> Table:
        """Every run of this panel so far, one row each."""
        headers = ["worker", "images/s set", "answered/s", "mean batch", "p50, p95 wait (ms)", "refused", "late"]
        rows = [_described(run) for run in self.runs]
        return Table(headers, rows, self.lesson.stamp if rows else "No run yet: press Run in the panel.")

    def _choice(self) -> Choice:
        names = ("max-batch", "max-wait", "queue-size", "deadline", "seconds")
        max_batch, max_wait_ms, queue_size, deadline_s, seconds = (self.settings[name].value for name in names)
        return Choice(max_batch, max_wait_ms, queue_size, deadline_s or None, seconds)

    def _show_run(self, run: BatchingRun) -> None:
        self._run, self._strips = run, Strips(run)
        self._phase = 0.0  # of a rush, what times the speed of the worker

    def _work(self, tick: Tick) -> BatchingRun:
        import cv2

        run = BatchingRun(self._choice())
        self._show_run(run)
        images = [np.asarray(cv2.resize(read_image(image)[0], _SHAPE), np.uint8) for image in self.lesson.images]
        run.go(self._worker(run.choice), images, self._rate, tick)
        if run.stopped and not run.calls.asked:
            raise Stopped
        self.runs.append(run)
        return run

    def _worker(self, choice: Choice) -> BatchingWorker:
        return BatchingWorker(
            self.lesson.weights,
            device=self.lesson.device,
            imgsz=self.imgsz,
            conf=_CONF,
            threads=1,  # the other cores are for the calls, and for drawing
            max_batch=choice.max_batch,
            max_wait_ms=choice.max_wait_ms,
            queue_size=choice.queue_size,
            when_full="refuse",
        )

    def _rate(self, share: float) -> float:
        """Calls a second, when this share of the time is over."""
        rate = self.settings["rate"]
        if self.settings["rush"].value:
            phase = next((times for until, times in _RUSH if share < until), self._phase)
            if phase != self._phase:
                self._phase = phase
                rate.value = min(_MOST_PER_S, max(1.0, phase * self._run.capacity))
        return float(rate.value)

    def _draw(self) -> None:
        run = self._run
        now = run.ended or (run.began and time.monotonic())
        self._live.value = "".join(
            (
                f"<div>{_state(run, now)}</div>",
                looks.bar(min(run.seconds, run.choice.seconds), run.choice.seconds, "time that is over"),
                looks.numbers(self._numbers(run, now)),
                looks.counts(_counted(run)),
                f"<div>{_equation(run)}</div>",
                self._strips.html(now),
            )
        )

    def _numbers(self, run: BatchingRun, now: float) -> dict[str, str]:
        is_over = bool(run.ended)
        rates = run.whole() if is_over else run.between(max(run.began, now - min(_NOW_S, run.seconds)), now)
        when = "in all" if is_over else "now"
        set_to = "" if is_over else f" ({self.settings['rate'].value:.0f} set)"
        so_far = "" if is_over else f" ({run.answered_per_s:.0f} so far)"
        return {
            f"come/s {when}": f"{rates.came:.0f}{set_to}",
            f"answered/s {when}": f"{rates.answered:.0f}{so_far}",
            "wait now": f"{run.lengths[-1][1] if run.lengths else 0} of {run.choice.queue_size}",
            f"mean batch {when}": _or_dash(rates.batch, ".1f"),
            f"p50 wait {when}": f"{_or_dash(rates.p50_ms, '.0f')} ms",
            f"p95 wait {when}": f"{_or_dash(rates.p95_ms, '.0f')} ms",
        }

    def _sentence(self, run: BatchingRun) -> str:
        counts = " + ".join(f"{count} {outcome}" for outcome, count in run.calls.counts.items())
        what = "each is accounted for" if run.is_accounted_for else "NOT all are accounted for"
        error = f" The first error: {run.calls.error}." if run.calls.error else ""
        return (
            f"In {min(run.seconds, run.choice.seconds):.1f} s {len(run.calls.asked)} calls came, and {what}: "
            f"{counts}. The worker can do about {run.capacity:.0f} images/s; at most {run.most_waiting} waited, "
            f"where there is room for {run.choice.queue_size}.{error}"
        )

    def _leaves(self, run: BatchingRun) -> Iterator[Any]:
        yield self._sentence(run)
        yield self.table()
        if run.batches:
            yield figures.queue(
                run.batches,
                run.lengths,
                "A queue that refuses",
                size=run.choice.queue_size,
                refused=run.calls.became["refused"],
            )


def _rate_fields(rate: int) -> dict[str, Widget]:
    """A slider and a number beside it that say the same: one is quick, the other can be read and typed."""
    from ipywidgets import FloatLogSlider, Layout
    from traitlets import link

    number = looks.number("rate", rate, _MOST_PER_S, "or type it")
    slider = FloatLogSlider(value=rate, min=0, max=3, step=0.005, readout=False, description="images/s that come")
    slider.layout = Layout(width="100%")
    link((slider, "value"), (number, "value"), transform=(round, float))
    return {"rate": slider, "rate-number": number}


def _times(name: str, known: Collection[float], value: float, ms: int, zero: str = "0 ms") -> Dropdown:
    """A list of times to choose from, shown in milliseconds, of which each one has `ms`."""
    from ipywidgets import Dropdown

    options = [(f"{ms * time:g} ms" if time else zero, time) for time in sorted({*known, not_negative(name, value)})]
    return Dropdown(options=options, value=value, description=name.removesuffix("_s"))


def _state(run: BatchingRun, now: float) -> str:
    if not run.began or run.ended:
        return f"The worker {run.state}. The slider acts at once, while the worker works; all else with the next run."
    left_s = max(0.0, run.choice.seconds - (now - run.began))
    return (
        f"The worker {run.state}; calls come for {left_s:.0f} s more. In full batches it can do about "
        f"<b>{run.capacity:.0f} images/s</b>: let more come, and see."
    )


def _counted(run: BatchingRun) -> dict[str, tuple[int, str]]:
    """What the boxes show: what hardly ever happens only when it does."""
    counts = {outcome: n for outcome, n in run.calls.counts.items() if n or outcome in ("answered", *MARKS)}
    return {"asked": (len(run.calls.asked), _GREY)} | {name: (n, _COLOURS[name]) for name, n in counts.items()}


def _equation(run: BatchingRun) -> str:
    terms = [f"{count} {outcome}" for outcome, count in run.calls.counts.items()]
    return f"{len(run.calls.asked)} asked = {' + '.join(terms)} + {run.calls.under_way} under way"


def _or_dash(value: float | None, spec: str) -> str:
    return "–" if value is None else format(value, spec)


def _described(run: BatchingRun) -> tuple[str | int, ...]:
    """A run's row of the table."""
    choice, rates = run.choice, run.whole()
    low, high = round(min(run.rates)), round(max(run.rates))
    deadline = "no deadline" if choice.deadline_s is None else f"deadline {1000 * choice.deadline_s:g} ms"
    return (
        f"batches of {choice.max_batch}, {choice.max_wait_ms:g} ms, room for {choice.queue_size}, {deadline}",
        f"{low}" if low == high else f"{low} to {high}",
        f"{rates.answered:.1f}",
        _or_dash(rates.batch, ".1f"),
        f"{_or_dash(rates.p50_ms, '.0f')}, {_or_dash(rates.p95_ms, '.0f')}",
        *(len(run.calls.became[outcome]) for outcome in MARKS),
    )
