"""Panel for any pool: choose, press Run, and watch threads work, wait and go wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from time import perf_counter
from typing import TYPE_CHECKING, Any

from yolothreads import devices, trace
from yolothreads.detections import same
from yolothreads.errors import ArgumentError
from yolothreads.lessons import figures
from yolothreads.lessons.lesson import Lesson
from yolothreads.lessons.panels import style
from yolothreads.lessons.panels.base import BasePanel, Progress, Run, State, Stopped, Tick, runs_table
from yolothreads.lessons.panels.drawings import Lanes, legend, progress_bar
from yolothreads.lessons.texts import section
from yolothreads.measure import pools_here
from yolothreads.palette import BAD, GOOD, ODD
from yolothreads.pools import POOLS, BatchingWorker, Pool, RemotePool, Sequential
from yolothreads.tables import Table
from yolothreads.trace import Span

if TYPE_CHECKING:
    from ultralytics.engine.results import Results

PER_IMAGE_SETTINGS: tuple[dict[str, Any], ...] = ({"max_det": 1}, {"max_det": 50}, {"conf": 0.6}, {"classes": [0]})
"""Settings of predict for the first image, the second, ..., where each thread asks with different settings."""

_POOL_CLASSES = {pool.__name__: pool for pool in POOLS}
_ONE_WORKER = (Sequential, BatchingWorker)

_SIZES = (160, 320, 480, 640, 960, 1280)
_MOST_WORKERS, _MOST_IMAGES = 16, 100_000
_FIGURE_S = 3.0  # how much of a run the figure below the panel shows
_CONF = 0.05  # low, so that different settings give different results
_NEXT_RESULT_S = 0.05  # how long to wait for the next result before looking whether to redraw or to stop
_MEMORY_S = 1.0  # between two readings of the memory

_TEXTS = section("panels", "pools")


def make_pool(name: str, lesson: Lesson, workers: int, **given: Any) -> Pool:
    """Return the pool of this name, not open yet; a pool that always has one worker is not given `workers`."""
    pool_class = _POOL_CLASSES[name]
    if pool_class not in _ONE_WORKER:
        given["workers"] = workers
    return pool_class(lesson.weights, **given)


@dataclass(frozen=True)
class PoolRunSettings:
    """Settings of a run. differ: each thread asks with different settings (`PER_IMAGE_SETTINGS`)."""

    pool: str
    workers: int
    device: str
    imgsz: int
    images: int
    differ: bool

    def of_pool(self) -> dict[str, Any]:
        """Return the arguments that the pool and the model of `References` have in common."""
        return {"device": self.device, "imgsz": self.imgsz, "threads": 1, "conf": _CONF}

    def of_image(self, number: int) -> dict[str, Any]:
        """Return the predict settings of image `number`."""
        count = max(2, min(self.workers, len(PER_IMAGE_SETTINGS)))
        return PER_IMAGE_SETTINGS[number % count] if self.differ else {}


@dataclass(frozen=True)
class Mistake:
    """First image with a wrong result: its number, its predict settings, the result and what it should have been."""

    number: int
    settings: dict[str, Any]
    got: Results
    expected: Results


class References:
    """Right results: what one model in one thread gives for each call. Each is computed once, and kept.

    Args:
        lesson: its images and weights are used.
    """

    def __init__(self, lesson: Lesson) -> None:
        self._lesson = lesson
        self._known: dict[tuple[Any, ...], Results | BaseException] = {}

    def get(self, settings: PoolRunSettings, tick: Tick) -> list[Results | BaseException]:
        """Return the right result of each image of a run, in order; an exception where one model alone fails, too."""
        images = self._lesson.images
        keys = [
            (settings.device, settings.imgsz, number % len(images), repr(settings.of_image(number)))
            for number in range(settings.images)
        ]
        missing = {key: number for number, key in enumerate(keys) if key not in self._known}
        if missing:
            with Sequential(self._lesson.weights, **settings.of_pool()) as alone:
                for key, number in missing.items():
                    tick()
                    future = alone.submit(images[number % len(images)], **settings.of_image(number))
                    self._known[key] = future.exception() or future.result()
        return [self._known[key] for key in keys]


class PoolRun(Run):
    """One run of a pool, with every result compared with the right one.

    Attributes:
        right, wrong, errors: counts of images. mistake: the first wrong one. error: the first error, in a sentence.
        memory_mb, memory_before_mb: MB of this process and its workers, now and before the pool was opened.
        spans: what the threads did.
    """

    def __init__(self, settings: PoolRunSettings) -> None:
        super().__init__(Progress(settings.images))
        self.settings = settings
        self.right = self.wrong = self.errors = 0
        self.mistake: Mistake | None = None
        self.error = ""
        self.memory_mb = self.memory_before_mb = 0.0
        self.spans: list[Span] = []
        self._memory_at = 0.0
        self._has_children = False

    def go(self, lesson: Lesson, references: References, tick: Tick) -> None:
        """Run. `Stopped`, raised by `tick`, ends the run early."""
        settings = self.settings
        with self.until_stopped():
            self.memory_before_mb = self.memory_mb = _used_mb(settings.device, children=False)
            self._memory_at = perf_counter()
            self.state = State.REFERENCES
            expected = references.get(settings, tick)
            self.state = State.OPENING
            tick()
            pool = make_pool(settings.pool, lesson, settings.workers, **settings.of_pool())
            with trace.recording() as self.spans, pool:
                self._has_children = isinstance(pool, RemotePool)
                self.state = State.WORKING
                self.progress.begin()
                self._work_through(pool, lesson.images, expected, tick)
                self.progress.end()

    def _work_through(
        self, pool: Pool, images: Sequence[Any], expected: Sequence[Results | BaseException], tick: Tick
    ) -> None:
        answered: SimpleQueue[tuple[int, Future[Results]]] = SimpleQueue()
        submitted = 0
        while self.done < len(expected):
            while submitted < len(expected) and submitted - self.done < 2 * pool.at_once:
                number = submitted
                future = pool.submit(images[number % len(images)], **self.settings.of_image(number))
                future.add_done_callback(lambda future, number=number: answered.put((number, future)))  # type: ignore[misc]
                submitted += 1
            try:
                number, future = answered.get(timeout=_NEXT_RESULT_S)
            except Empty:
                pass
            else:
                self._judge(number, future, expected[number])
            self._read_memory()
            tick()

    def _judge(self, number: int, future: Future[Results], expected: Results | BaseException) -> None:
        self.progress.step()
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

    def _read_memory(self) -> None:
        if perf_counter() - self._memory_at > _MEMORY_S:
            self._memory_at = perf_counter()
            self.memory_mb = _used_mb(self.settings.device, children=self._has_children)


def _used_mb(device: str, *, children: bool) -> float:
    """Return MB: on a GPU those that torch uses, on a CPU the resident memory of this process (and its children)."""
    import psutil
    import torch

    if device.startswith("cuda"):
        return float(torch.cuda.memory_allocated(device)) / 1e6
    process = psutil.Process()
    total = process.memory_info().rss
    for child in process.children(recursive=True) if children else []:
        try:
            total += child.memory_info().rss
        except psutil.Error:  # it has just ended
            continue
    return float(total) / 1e6


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
        self,
        lesson: Lesson,
        pool: str = "SharedModel",
        *,
        pools: tuple[str, ...] = (),
        workers: int | None = None,
        imgsz: int = 320,
        images: int = 64,
        differ: bool = True,
    ) -> None:
        from ipywidgets import HTML, Checkbox, Dropdown

        self.lesson, self.runs = lesson, list[PoolRun]()
        self._references = References(lesson)
        names = pools or _pools_here(lesson)
        if pool not in names or not set(names) <= set(_POOL_CLASSES):
            raise ArgumentError(f'There is no pool "{pool}" to choose from; there are: {", ".join(names)}.')
        settings = {
            "pool": Dropdown(options=names, value=pool, description="pool"),
            "workers": style.number_field("workers", lesson.workers if workers is None else workers, _MOST_WORKERS),
            "device": Dropdown(options=devices.devices(), value=lesson.device, description="device"),
            "imgsz": Dropdown(options=sorted({*_SIZES, imgsz}), value=imgsz, description=_TEXTS["image_size"]),
            "images": style.number_field("images", images, _MOST_IMAGES),
            "differ": Checkbox(value=differ, description=_TEXTS["differ"], indent=False),
        }
        self._live, self._wrong = style.html_widget("live"), style.html_widget("first-wrong")
        super().__init__(_TEXTS["title"], settings, [self._live, HTML(legend()), self._wrong])
        self._watch(PoolRun(PoolRunSettings(**self._chosen())))
        self._draw()

    def table(self) -> Table:
        """Return the table of this panel's runs, one row per run."""
        rows = [
            (
                r.settings.pool,
                r.settings.workers,
                r.settings.imgsz,
                _TEXTS["different" if r.settings.differ else "same"],
            )
            + (r.right, r.wrong, r.errors, f"{r.done} / {r.settings.images}", f"{r.progress.so_far:.1f}")
            for r in self.runs
        ]
        return runs_table(_TEXTS["headers"], rows, self.lesson.stamp)

    def _watch(self, run: PoolRun) -> None:
        self.current, self._lanes = run, Lanes(run.spans)
        self._shown_mistake: Mistake | None = None
        self._wrong.value = ""

    def _work(self, tick: Tick) -> PoolRun:
        run = PoolRun(PoolRunSettings(**self._chosen()))
        self._watch(run)
        run.go(self.lesson, self._references, tick)
        if run.stopped and not run.done:
            raise Stopped
        self.runs.append(run)
        return run

    def _draw(self) -> None:
        run, progress = self.current, self.current.progress
        if self._lanes.spans is not run.spans:
            self._lanes = Lanes(run.spans)
        is_working = run.state is State.WORKING
        left_s = progress.left_s if is_working else None
        more_mb = run.memory_mb - run.memory_before_mb
        numbers = {
            _TEXTS["now"]: f"{progress.now:.1f}" if is_working else "–",
            _TEXTS["so_far"]: f"{progress.so_far:.1f}" if run.done else "–",
            _TEXTS["images_done"]: f"{run.done} / {run.settings.images}",
            _TEXTS["left"]: "–" if left_s is None else f"{left_s:.0f} s",
            _TEXTS["memory"]: f"{run.memory_mb:.0f} MB ({more_mb:+.0f})" if run.memory_mb else "–",
        }
        counts = {
            _TEXTS["right"]: (run.right, GOOD),
            _TEXTS["wrong"]: (run.wrong, BAD),
            _TEXTS["errors"]: (run.errors, ODD),
        }
        self._live.value = "".join(
            (
                f"<div>{_TEXTS[run.state].format(pool=run.settings.pool)}</div>",
                progress_bar(run.done, run.settings.images, _TEXTS["images_done"]),
                style.numbers(numbers),
                style.counts(counts),
                self._lanes.html(),
            )
        )
        if run.mistake is not self._shown_mistake and run.mistake is not None:
            self._shown_mistake = run.mistake
            self._wrong.value = _mistake_html(run.mistake)

    def _sentence(self, run: PoolRun) -> str:
        settings = run.settings
        verdict = _TEXTS["verdict_differ" if settings.differ else "verdict_same"].format(
            pool=settings.pool,
            workers=settings.workers,
            done=run.done,
            images=settings.images,
            right=run.right,
            wrong=run.wrong,
            errors=run.errors,
            speed=run.progress.so_far,
        )
        return f"{verdict} {run.error}".strip()

    def _outputs(self, run: PoolRun) -> Iterator[Any]:
        yield self._sentence(run)
        yield self.table()
        began = run.progress.began
        first = [
            span._replace(start=max(span.start, began))
            for span in run.spans
            if span.end > began and span.start < began + _FIGURE_S
        ]
        yield figures.timeline(first, _TEXTS["timeline" if run.spans else "no_spans"].format(pool=run.settings.pool))
        if (mistake := run.mistake) is not None:
            yield figures.detections(
                [mistake.expected, mistake.got], [_TEXTS["expected"], _TEXTS["got"]], _mistake_title(mistake)
            )


def _pools_here(lesson: Lesson) -> tuple[str, ...]:
    """Return the names of the pools that this machine can use."""
    pools, _ = pools_here(weights=lesson.weights, device=lesson.device)
    return tuple(type(pool).__name__ for pool in pools)


def _mistake_title(mistake: Mistake) -> str:
    settings = ", ".join(f"{name}={value}" for name, value in mistake.settings.items()) or _TEXTS["no_settings"]
    return _TEXTS["first_wrong"].format(number=mistake.number + 1, settings=settings)


def _mistake_html(mistake: Mistake) -> str:
    """Return the first wrong result beside the right one, with boxes drawn on both."""
    title, shown = _mistake_title(mistake), []
    for key, result in (("expected_count", mistake.expected), ("got_count", mistake.got)):
        caption = _TEXTS[key].format(count=len(result))
        shown.append(style.picture(result.plot(line_width=3), f"{title}, {caption}", caption))
    return f"<div>{title}</div>{style.pictures(shown)}"
