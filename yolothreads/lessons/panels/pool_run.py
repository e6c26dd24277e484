"""One pool at work on some images, every result held against what the call gives alone; it can be watched meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from time import perf_counter
from typing import TYPE_CHECKING, Any

from yolothreads import trace
from yolothreads.detections import same
from yolothreads.lessons.lesson import Lesson
from yolothreads.lessons.panels.shell import Stopped, Tick
from yolothreads.lessons.progress import Progress
from yolothreads.memory import used_mb
from yolothreads.pools import POOLS, Pool, RemotePool, Sequential
from yolothreads.trace import Span

if TYPE_CHECKING:
    from ultralytics.engine.results import Results

ASKS: tuple[dict[str, Any], ...] = ({"max_det": 1}, {"max_det": 50}, {"conf": 0.6}, {"classes": [0]})
"""What the threads ask for where each asks for something else: the first thread for this, the second for that."""

_CONF = 0.05  # low, so that different questions have different answers
_PATIENCE_S = 0.05  # for the next result, before it is time to look whether to redraw or to stop
_MEMORY_S = 1.0  # between two looks at the memory

KINDS = {kind.__name__: kind for kind in POOLS}


@dataclass(frozen=True)
class Choice:
    """What a run is made with. differ: each thread asks for something else."""

    pool: str
    workers: int
    device: str
    imgsz: int
    images: int
    differ: bool

    def ask(self, number: int) -> dict[str, Any]:
        """What image `number` is asked about, by the thread whose turn it is."""
        askers = max(2, min(self.workers, len(ASKS)))
        return ASKS[number % askers] if self.differ else {}


@dataclass(frozen=True)
class Mistake:
    """The first image whose result is wrong: its number, what was asked, what came and what should have."""

    number: int
    ask: dict[str, Any]
    got: Results
    wanted: Results


class References:
    """What each call gives when it is alone, with one model in one thread; asked once, and kept.

    Args:
        lesson: whose images and weights they are of.
    """

    def __init__(self, lesson: Lesson) -> None:
        self._lesson = lesson
        self._known: dict[tuple[Any, ...], Results | BaseException] = {}

    def get(self, choice: Choice, tick: Tick) -> list[Results | BaseException]:
        """What each image of a run should give, in order; an exception where one model alone fails, too."""
        pictures = self._lesson.images
        keys = [
            (choice.device, choice.imgsz, number % len(pictures), repr(choice.ask(number)))
            for number in range(choice.images)
        ]
        missing = {key: number for number, key in enumerate(keys) if key not in self._known}
        if missing:
            with Sequential(
                self._lesson.weights, workers=1, device=choice.device, imgsz=choice.imgsz, threads=1, conf=_CONF
            ) as alone:
                for key, number in missing.items():
                    tick()
                    future = alone.submit(pictures[number % len(pictures)], **choice.ask(number))
                    self._known[key] = future.exception() or future.result()
        return [self._known[key] for key in keys]


@dataclass
class PoolRun:
    """One run, and how far it is. Counts are of images; `memory_mb` is this process and its workers, now and before."""

    choice: Choice
    state: str = "has not begun"
    right: int = 0
    wrong: int = 0
    errors: int = 0
    mistake: Mistake | None = None
    error: str = ""  # the first one
    stopped: bool = False
    memory_mb: float = 0.0
    before_mb: float = 0.0
    spans: list[Span] = field(default_factory=list)
    progress: Progress = field(default_factory=lambda: Progress(0))
    began: float = 0.0  # s of perf_counter: when the first image was handed over
    _memory_at: float = 0.0
    _has_children: bool = False

    @property
    def done(self) -> int:
        """How many images have their result or their error."""
        return self.right + self.wrong + self.errors

    def go(self, lesson: Lesson, references: References, tick: Tick) -> None:
        """Do it. Ends early, with `stopped`, if `tick` raises `Stopped`."""
        choice = self.choice
        self.progress = Progress(choice.images)
        tick = self._with_memory(tick)
        try:
            self.state = "waits for the right results, which one model alone makes"
            wanted = references.get(choice, tick)
            self.state = "is being opened"
            tick()
            pool = KINDS[choice.pool](
                lesson.weights, workers=choice.workers, device=choice.device, imgsz=choice.imgsz, threads=1, conf=_CONF
            )
            with trace.recording() as self.spans, pool:
                self._has_children = isinstance(pool, RemotePool)
                self.state = "works"
                self.began = perf_counter()
                self.progress.begin()
                self._do(pool, lesson.images, wanted, tick)
                self.progress.end()
        except Stopped:
            self.progress.end()
            self.stopped = True
        self.state = "is done"

    def _do(self, pool: Pool, pictures: Sequence[Any], wanted: Sequence[Results | BaseException], tick: Tick) -> None:
        answered: SimpleQueue[tuple[int, Future[Results]]] = SimpleQueue()
        handed_over = 0
        while self.done < len(wanted):
            while handed_over < len(wanted) and handed_over - self.done < 2 * pool.at_once:
                number = handed_over
                future = pool.submit(pictures[number % len(pictures)], **self.choice.ask(number))
                future.add_done_callback(lambda future, number=number: answered.put((number, future)))  # type: ignore[misc]
                handed_over += 1
            try:
                number, future = answered.get(timeout=_PATIENCE_S)
            except Empty:
                pass
            else:
                self._judge(number, future, wanted[number])
            tick()

    def _judge(self, number: int, future: Future[Results], wanted: Results | BaseException) -> None:
        self.progress.step()
        if (error := future.exception()) is not None:
            self.errors += 1
            self.error = self.error or f"image {number + 1}: {type(error).__name__}: {error}"
        elif same(got := future.result(), wanted):
            self.right += 1
        else:
            self.wrong += 1
            if self.mistake is None and not isinstance(wanted, BaseException):
                self.mistake = Mistake(number, self.choice.ask(number), got, wanted)

    def _with_memory(self, tick: Tick) -> Callable[[], None]:
        self.before_mb = self.memory_mb = used_mb(device=self.choice.device, children=False)
        self._memory_at = perf_counter()

        def look_and_tick() -> None:
            if perf_counter() - self._memory_at > _MEMORY_S:
                self._memory_at = perf_counter()
                self.memory_mb = used_mb(device=self.choice.device, children=self._has_children)
            tick()

        return look_and_tick
