"""Panels for pools: watch any one work, wait and go wrong (Panel), or several in turns, with bars (ComparePanel)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from html import escape
from itertools import cycle, islice
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from yolothreads import devices, trace
from yolothreads.detections import same
from yolothreads.errors import ArgumentError
from yolothreads.lessons import figures
from yolothreads.lessons.lesson import Lesson
from yolothreads.lessons.panels import base, drawings
from yolothreads.lessons.panels.base import BasePanel, Run, State, Stopped, Tick
from yolothreads.lessons.texts import section
from yolothreads.measure import Comparison, Measurement, compare, pools_here, stamp
from yolothreads.memory import used_mb
from yolothreads.palette import BAD, GOOD, ODD
from yolothreads.pools import POOLS, Image, Pool, RemotePool, Sequential, make_pool
from yolothreads.tables import Table
from yolothreads.trace import Span

if TYPE_CHECKING:
    from ultralytics.engine.results import Results

    _Outcome: TypeAlias = Results | BaseException
    _Known: TypeAlias = dict[tuple[Any, ...], _Outcome]  # device, size, number of the image, settings -> right result

PER_IMAGE_SETTINGS: tuple[dict[str, Any], ...] = ({"max_det": 1}, {"max_det": 50}, {"conf": 0.6}, {"classes": [0]})
"""Settings of predict for the first image, the second, ..., where each thread asks with different settings."""

_POOL_CLASSES = {pool.__name__: pool for pool in POOLS}

_SIZES = (160, 320, 480, 640, 960, 1280)
_WORKERS, _IMAGES = range(1, 17), range(1, 100_001)
_FIGURE_S = 3.0  # how much of a run the figure below the panel shows
_CONF = 0.05  # low, so that different settings give different results
_NEXT_RESULT_S = 0.05  # how long to wait for the next result before looking whether to redraw or to stop
_MEMORY_S = 1.0  # between two readings of the memory
_COLOURS = {"right": GOOD, "wrong": BAD, "errors": ODD}

_TEXTS, _COMPARE_TEXTS = section("panels", "pools"), section("panels", "compare")


def _pool_named(name: str, lesson: Lesson, workers: int, **given: Any) -> Pool:
    """Return the pool of this name, not open yet; a pool that always has one worker is not given `workers`."""
    return make_pool(_POOL_CLASSES[name], lesson.weights, workers=workers, threads=1, **given)


class PoolRunSettings(NamedTuple):
    """Settings of a run. differ: each thread asks with different settings (`PER_IMAGE_SETTINGS`)."""

    pool: str
    workers: int
    device: str
    imgsz: int
    images: int
    differ: bool

    def of_pool(self) -> dict[str, Any]:
        """Return the arguments that the pool and the model that gives the right results have in common."""
        return {"device": self.device, "imgsz": self.imgsz, "conf": _CONF}

    def of_image(self, number: int) -> dict[str, Any]:
        """Return the predict settings of image `number`."""
        count = max(2, min(self.workers, len(PER_IMAGE_SETTINGS)))
        return PER_IMAGE_SETTINGS[number % count] if self.differ else {}


class Mistake(NamedTuple):
    """First image with a wrong result: its number, its predict settings, the result and what it should have been."""

    number: int
    settings: dict[str, Any]
    got: Results
    expected: Results

    @property
    def title(self) -> str:
        """The image and its settings in words."""
        settings = ", ".join(f"{name}={value}" for name, value in self.settings.items()) or _TEXTS["no_settings"]
        return _TEXTS["first_wrong"].format(number=self.number + 1, settings=settings)

    def html(self) -> str:
        """Return the wrong result beside the right one, with boxes drawn on both."""
        captions = [
            (self.expected, _TEXTS["expected_count"].format(count=len(self.expected))),
            (self.got, _TEXTS["got_count"].format(count=len(self.got))),
        ]
        shown = [(result.plot(line_width=3), caption, f"{self.title}, {caption}") for result, caption in captions]
        return f"<div>{self.title}</div>{drawings.pictures(shown)}"


def _right_results(lesson: Lesson, settings: PoolRunSettings, known: _Known, tick: Tick) -> list[_Outcome]:
    """Return what one model in one thread gives for each image of a run; an exception where it fails, too.

    Args:
        lesson: its images and weights are used.
        settings: of the run.
        known: the right results so far; those that are missing are added.
        tick: called before each of these.
    """
    images = lesson.images
    asked = [settings.of_image(number) for number in range(settings.images)]
    calls = [(settings.device, settings.imgsz, i % len(images), repr(how)) for i, how in enumerate(asked)]
    if missing := {call: i for i, call in enumerate(calls) if call not in known}:
        with Sequential(lesson.weights, threads=1, **settings.of_pool()) as alone:
            for call, i in missing.items():
                tick()
                future = alone.submit(images[i % len(images)], **asked[i])
                known[call] = future.exception() or future.result()
    return [known[call] for call in calls]


class PoolRun(Run):
    """One run of a pool, with every result compared with the right one.

    Attributes:
        right, wrong, errors: counts of images. mistake: the first wrong one. error: the first error, in a sentence.
        memory_mb, memory_before_mb: MB of this process and its workers, now and before the pool was opened.
        spans: what the threads did.
    """

    def __init__(self, settings: PoolRunSettings) -> None:
        super().__init__(settings.images)
        self.settings = settings
        self.right = self.wrong = self.errors = 0
        self.mistake: Mistake | None = None
        self.error = ""
        self.memory_mb = self.memory_before_mb = 0.0
        self.spans: list[Span] = []
        self._memory_at = 0.0

    def go(self, lesson: Lesson, known: _Known, tick: Tick) -> None:
        """Run. `Stopped`, raised by `tick`, ends the run early; `known` is that of `_right_results`."""
        settings = self.settings
        with self.until_stopped():
            self.memory_before_mb = self.memory_mb = used_mb(device=settings.device, children=False)
            self.state = State.REFERENCES
            expected = _right_results(lesson, settings, known, tick)
            self.state = State.OPENING
            tick()
            pool = _pool_named(settings.pool, lesson, settings.workers, **settings.of_pool())
            with trace.recording() as self.spans, pool:
                self.state = State.WORKING
                self.begin()
                self._work_through(pool, lesson.images, expected, tick)
                self.end()

    def _work_through(self, pool: Pool, images: Sequence[Image], expected: Sequence[_Outcome], tick: Tick) -> None:
        numbers = iter(range(len(expected)))
        asked: dict[Future[Results], int] = {}
        while self.done < len(expected):
            for number in islice(numbers, 2 * pool.at_once - len(asked)):
                asked[pool.submit(images[number % len(images)], **self.settings.of_image(number))] = number
            answered = wait(asked, _NEXT_RESULT_S, FIRST_COMPLETED).done
            for future in sorted(answered, key=asked.__getitem__):
                number = asked.pop(future)
                self._judge(number, future, expected[number])
            self._read_memory(pool)
            tick()

    def _judge(self, number: int, future: Future[Results], expected: _Outcome) -> None:
        self.step()
        if (error := future.exception()) is not None:
            self.errors += 1
            text = _TEXTS["first_error"].format(number=number + 1, kind=type(error).__name__, error=error)
            self.error = self.error or text
        elif same(got := future.result(), expected):
            self.right += 1
        else:
            self.wrong += 1
            if self.mistake is None and not isinstance(expected, BaseException):
                self.mistake = Mistake(number, self.settings.of_image(number), got, expected)

    def _read_memory(self, pool: Pool) -> None:
        if perf_counter() - self._memory_at > _MEMORY_S:
            self._memory_at = perf_counter()
            self.memory_mb = used_mb(device=self.settings.device, children=isinstance(pool, RemotePool))


class Panel(BasePanel[PoolRun]):
    """Run a pool on the lesson's images, and watch.

        panel = Panel(lesson, pool="SharedModel", workers=2)
        panel.show()

    One lane per thread shows what it does, and when it waits for a lock. Each result is compared with what the same
    call gives alone. `runs` keeps every run of this panel, `table()` shows them, and `current` is the latest.

    Args:
        lesson: its images, weights and device are used.
        pool: the name of the pool that is chosen at first.
        pools: names of the pools to choose from; by default all that this machine can use.
        workers: threads or processes; by default the lesson's.
        imgsz: size in pixels that images are resized to.
        images: how many images one run does; the lesson's images are repeated.
        differ: whether each thread asks with different settings (`PER_IMAGE_SETTINGS`).

    Raises:
        ArgumentError: there is no such pool, or a number is out of range.
    """

    def __init__(
        self, lesson: Lesson, pool: str = "SharedModel", *, pools: tuple[str, ...] = (), workers: int | None = None,
        imgsz: int = 320, images: int = 64, differ: bool = True,
    ) -> None:  # fmt: skip
        self.lesson, self.runs = lesson, list[PoolRun]()
        self._known: _Known = {}
        self._lanes, self._wrong = drawings.Lanes([]), base.make_widget("HTML", "first-wrong")
        names = pools or tuple(_usable(lesson)[0])
        if not set(names) <= set(_POOL_CLASSES):
            raise ArgumentError(f"Some of pools={names!r} are unknown; choose from: {', '.join(_POOL_CLASSES)}.")
        settings = {
            "pool": base.field("pool", pool, names),
            "workers": base.field("workers", lesson.workers if workers is None else workers, _WORKERS),
            "device": base.field("device", lesson.device, devices.devices()),
            "imgsz": base.field("imgsz", imgsz, sorted({*_SIZES, imgsz}), _TEXTS["image_size"]),
            "images": base.field("images", images, _IMAGES),
            "differ": base.checkbox(differ, _TEXTS["differ"]),
        }
        super().__init__(_TEXTS["title"], settings, [base.make_widget("HTML", value=drawings.legend()), self._wrong])
        self.current = PoolRun(PoolRunSettings(**self._chosen()))
        self._draw()

    def table(self) -> Table:
        """Return the table of this panel's runs, one row per run."""
        rows = []
        for run in self.runs:
            settings, counts = run.settings, (run.right, run.wrong, run.errors)
            differ = _TEXTS["different" if settings.differ else "same"]
            speed = (f"{run.done} / {settings.images}", f"{run.so_far:.1f}")
            rows.append((settings.pool, settings.workers, settings.imgsz, differ, *counts, *speed))
        return base.runs_table(_TEXTS["headers"], rows, self.lesson.stamp)

    def _work(self, tick: Tick) -> PoolRun:
        self.current = run = PoolRun(PoolRunSettings(**self._chosen()))
        self._wrong.value = ""
        run.go(self.lesson, self._known, tick)
        if run.stopped and not run.done:
            raise Stopped
        self.runs.append(run)
        return run

    def _draw(self) -> None:
        run = self.current
        if self._lanes.spans is not run.spans:
            self._lanes = drawings.Lanes(run.spans)
        now, left_s = (run.now, run.left_s) if run.state is State.WORKING else (None, None)
        fields = {
            "now": now, "left_s": left_s, "so_far": run.so_far or None,
            "memory_mb": run.memory_mb or None, "more_mb": run.memory_mb - run.memory_before_mb,
        }  # fmt: skip
        self.live.value = (
            f"<div>{_TEXTS[run.state].format(pool=run.settings.pool)}</div>"
            f"{drawings.progress_bar(run.done, run.settings.images, _TEXTS['images_done'])}"
            f"{drawings.numbers(_TEXTS['live'], run=run, **fields)}"
            f"{drawings.counts(vars(run), _COLOURS, _TEXTS)}{self._lanes.html(perf_counter())}"
        )
        if run.mistake is not None and not self._wrong.value:
            self._wrong.value = run.mistake.html()

    def _sentence(self, run: PoolRun) -> str:
        return _TEXTS["verdict_differ" if run.settings.differ else "verdict_same"].format(run=run).strip()

    def _outputs(self, run: PoolRun) -> Iterator[Any]:
        yield self._sentence(run)
        yield self.table()
        began, end = run.began, run.began + _FIGURE_S
        first = [s._replace(start=max(s.start, began)) for s in run.spans if s.end > began and s.start < end]
        yield figures.timeline(first, _TEXTS["timeline" if run.spans else "no_spans"].format(pool=run.settings.pool))
        if (mistake := run.mistake) is not None:
            titles = [_TEXTS["expected"], _TEXTS["got"]]
            yield figures.detections([mistake.expected, mistake.got], titles, mistake.title)


def _usable(lesson: Lesson) -> tuple[list[str], list[str]]:
    """Return the names of the pools that this machine can use, and one remark for each of the others."""
    pools, left_out = pools_here(weights=lesson.weights, device=lesson.device)
    return [type(pool).__name__ for pool in pools], left_out


# --- several pools, compared ---

_COMPARED_IMAGES, _ROUNDS = range(1, 101), range(1, 21)


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
        self, lesson: Lesson, *, pools: Sequence[str] = (), workers: int | None = None, imgsz: int = 320,
        images: int = 6, rounds: int = 3, per_image_settings: Sequence[dict[str, Any]] = PER_IMAGE_SETTINGS[:2],
        memory: bool = False,
    ) -> None:  # fmt: skip
        self.lesson, self.per_image_settings, self.memory = lesson, list(per_image_settings), memory
        names, self.left_out = _usable(lesson)
        if not set(pools) <= set(names):
            raise ArgumentError(f"Some of {', '.join(pools)} cannot be used here; there are: {', '.join(names)}.")
        settings = {
            "pools": base.make_widget(
                "SelectMultiple", options=names, value=list(pools) or names, rows=len(names), description="pools"
            ),
            "workers": base.field("workers", lesson.workers if workers is None else workers, _WORKERS),
            "imgsz": base.field("imgsz", imgsz, sorted({*_SIZES, imgsz}), _TEXTS["image_size"]),
            "images": base.field("images", images, _COMPARED_IMAGES, _COMPARE_TEXTS["images"]),
            "rounds": base.field("rounds", rounds, _ROUNDS),
            "differ": base.checkbox(True, _TEXTS["differ"]),
        }
        super().__init__(_COMPARE_TEXTS["title"], settings)
        self._measured: Sequence[Measurement] = []
        self._rounds = rounds
        self._draw()

    def _work(self, tick: Tick) -> Comparison:
        chosen = self._chosen()
        if not chosen["pools"]:
            raise ArgumentError("No pool is chosen; choose one or more from the list.")
        given = {"device": self.lesson.device, "imgsz": chosen["imgsz"]}
        pools = [_pool_named(name, self.lesson, chosen["workers"], **given) for name in chosen["pools"]]
        images = list(islice(cycle(self.lesson.images), chosen["images"]))
        asks = self.per_image_settings if chosen["differ"] else ({},)
        self._measured, self._rounds = [], chosen["rounds"]

        def progress(measured: Sequence[Measurement]) -> None:
            self._measured = measured
            tick()

        try:
            return compare(pools, images, self._rounds, per_image_settings=asks, memory=self.memory, progress=progress)
        except Stopped:
            begun = [m for m in self._measured if m.speeds]
            if not begun:
                raise
            return Comparison(begun, min(len(m.speeds) for m in begun), stamp(self.lesson.device))

    def _draw(self) -> None:
        done = sum(len(m.speeds) for m in self._measured)
        total = max(1, len(self._measured) * self._rounds)
        bar = drawings.progress_bar(done, total, _COMPARE_TEXTS["turns_done"])
        self.live.value = f"<div>{escape(self._state(done, total))}</div>{bar}{bars(self._measured)}"

    def _state(self, done: int, total: int) -> str:
        if not self._measured:
            return _COMPARE_TEXTS["nothing"]
        if self.is_running and not self.is_over:
            if opening := next((m.pool for m in self._measured if not m.start_up_s), ""):
                return _COMPARE_TEXTS["opening"].format(pool=opening)
            if done == total:
                return _COMPARE_TEXTS["latency_and_memory" if self.memory else "latency"]
        return _COMPARE_TEXTS["turns"].format(done=done, total=total)

    def _sentence(self, measured: Comparison) -> str:
        counts = {m.pool: m.wrong + m.errors for m in measured}
        wrong = ", ".join(f"{pool} ({count})" for pool, count in counts.items() if count)
        right = [m for m in measured if not counts[m.pool]]
        best = max(right, key=lambda m: m.images_per_s.median, default=None)
        key = "all_wrong" if best is None else "some_wrong" if wrong else "all_right"
        return _COMPARE_TEXTS[key].format(rounds=measured.rounds, wrong=wrong, best=best)

    def _outputs(self, measured: Comparison) -> Iterator[Any]:
        yield self._sentence(measured)
        yield measured.table()
        speeds = {m.pool: (m.images_per_s.median, m.images_per_s.low, m.images_per_s.high) for m in measured}
        by_speed = dict(sorted(speeds.items(), key=lambda item: item[1]))
        yield figures.bars(by_speed, _COMPARE_TEXTS["figure"], "images/s")


def bars(measured: Sequence[Measurement]) -> str:
    """Return one bar per pool that had a turn: the median of its rounds, their range as a whisker, and its faults."""
    begun = [m for m in measured if m.speeds]
    percent = 100 / max((m.images_per_s.high for m in begun), default=1.0)
    rows = []
    for m in begun:
        speed, label = m.images_per_s, _COMPARE_TEXTS["bar_wrong" if m.wrong + m.errors else "bar"].format(m=m)
        left, length = percent * speed.low, percent * (speed.high - speed.low)
        rows.append(
            f'<span>{escape(m.pool)}</span><div><i class="bar" style="width:{percent * speed.median:.1f}%"></i>'
            f'<i class="range" style="left:{left:.1f}%;width:{length:.1f}%"></i></div><span>{label}</span>'
        )
    return f'<div class="yolothreads-bars">{"".join(rows)}</div>'
