"""The panel for any pool: choose, press Run, and watch threads work, wait and go wrong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from yolothreads import devices
from yolothreads.errors import ArgumentError
from yolothreads.lessons import figures
from yolothreads.lessons.lesson import Lesson
from yolothreads.lessons.panels import lanes, looks
from yolothreads.lessons.panels.pool_run import KINDS, Choice, Mistake, PoolRun, References
from yolothreads.lessons.panels.shell import Shell, Stopped, Tick
from yolothreads.measure import pools_here
from yolothreads.tables import Table

_SIZES = (160, 320, 480, 640, 960, 1280)
_MOST_WORKERS, _MOST_IMAGES = 16, 100_000
_SHOWN_S = 3.0  # of a run, in the figure that stays


class Panel(Shell[PoolRun]):
    """Run a pool on the lesson's images, and watch.

        panel = Panel(lesson, pool="SharedModel", workers=2)
        panel.show()

    A lane for each thread shows what it does, and when it waits for a lock. Each result is held against what the call
    gives alone. `runs` keeps every run of this panel, and `table()` shows them; `current` is the one that goes on.

    Args:
        lesson: whose images, weights and device are used.
        pool: the name of the pool that is chosen at first.
        pools: names of the pools to choose from; by default all that this machine can use.
        workers: threads or processes, by default the lesson's.
        imgsz: size in pixels that images are brought to.
        images: how many images one run does; the lesson's are repeated.
        differ: whether each thread asks for something else (see `pool_run.ASKS`).

    Raises:
        ArgumentError: there is no such pool, or a number that makes no sense.
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
        self.references = References(lesson)
        names = pools or _that_work(lesson)
        if pool not in names or not set(names) <= set(KINDS):
            raise ArgumentError(f'There is no pool "{pool}" to choose from; there are: {", ".join(names)}.')
        settings = {
            "pool": Dropdown(options=names, value=pool, description="pool"),
            "workers": looks.number("workers", lesson.workers if workers is None else workers, _MOST_WORKERS),
            "device": Dropdown(options=devices.devices(), value=lesson.device, description="device"),
            "imgsz": Dropdown(options=sorted({*_SIZES, imgsz}), value=imgsz, description="image size"),
            "images": looks.number("images", images, _MOST_IMAGES),
            "differ": Checkbox(value=differ, description="each thread asks for something else", indent=False),
        }
        self._live, self._wrong = HTML(), HTML()
        self._live.add_class("yolothreads-live")
        self._wrong.add_class("yolothreads-first-wrong")
        super().__init__("Run a pool, and watch", settings, [self._live, HTML(lanes.legend()), self._wrong])
        self._show_run(PoolRun(self._choice()))
        self._draw()

    def table(self) -> Table:
        """Every run of this panel so far, one row each."""
        headers = ["pool", "workers", "imgsz", "each asks for", "right", "wrong", "errors", "images", "images/s"]
        rows = [
            (r.choice.pool, r.choice.workers, r.choice.imgsz, "something else" if r.choice.differ else "the same")
            + (r.right, r.wrong, r.errors, f"{r.done} of {r.choice.images}", f"{r.progress.so_far:.1f}")
            for r in self.runs
        ]
        return Table(headers, rows, self.lesson.stamp if rows else "No run yet: press Run in the panel.")

    def _choice(self) -> Choice:
        return Choice(**{name: widget.value for name, widget in self.settings.items()})

    def _show_run(self, run: PoolRun) -> None:
        self.current, self._lanes = run, lanes.Lanes(run.spans)
        self._shown_mistake: Mistake | None = None
        self._wrong.value = ""

    def _work(self, tick: Tick) -> PoolRun:
        run = PoolRun(self._choice())
        self._show_run(run)
        run.go(self.lesson, self.references, tick)
        if run.stopped and not run.done:
            raise Stopped
        self.runs.append(run)
        return run

    def _draw(self) -> None:
        run, progress = self.current, self.current.progress
        if self._lanes.spans is not run.spans:
            self._lanes = lanes.Lanes(run.spans)
        left_s = progress.left_s if run.state == "works" else None
        now = {
            "images/s now": f"{progress.now:.1f}" if run.state == "works" else "–",
            "images/s so far": f"{progress.so_far:.1f}" if run.done else "–",
            "done": f"{run.done} of {run.choice.images}",
            "time left": "–" if left_s is None else f"{left_s:.0f} s",
            "memory": f"{run.memory_mb:.0f} MB ({run.memory_mb - run.before_mb:+.0f})" if run.memory_mb else "–",
        }
        verdict = {
            "right": (run.right, looks.GOOD),
            "silently wrong": (run.wrong, looks.BAD),
            "errors": (run.errors, looks.ODD),
        }
        self._live.value = "".join(
            (
                f"<div>{run.choice.pool} {run.state}</div>",
                looks.bar(run.done, run.choice.images, "images done"),
                looks.numbers(now),
                looks.counts(verdict),
                self._lanes.html(),
            )
        )
        if run.mistake is not self._shown_mistake and run.mistake is not None:
            self._shown_mistake = run.mistake
            self._wrong.value = _beside(run.mistake)

    def _sentence(self, run: PoolRun) -> str:
        choice = run.choice
        asked = "each thread asking for something else" if choice.differ else "all threads asking for the same"
        how = f"{run.done} of {choice.images}" if run.stopped else f"{run.done}"
        error = f" The first error: {run.error}." if run.error else ""
        return (
            f"{choice.pool}, {choice.workers} worker{'s' * (choice.workers > 1)}, {asked}: {how} images, "
            f"{run.right} right, {run.wrong} silently wrong, {run.errors} errors, "
            f"{run.progress.so_far:.1f} images/s.{error}"
        )

    def _leaves(self, run: PoolRun) -> Iterator[Any]:
        yield self._sentence(run)
        yield self.table()
        end = run.began + _SHOWN_S
        yield figures.timeline(
            [s._replace(start=max(s.start, run.began)) for s in run.spans if run.began < s.end and s.start < end],
            f"{run.choice.pool}: the first seconds of the run" if run.spans else "No thread was seen at work",
        )
        if run.mistake is not None:
            yield figures.detections(
                [run.mistake.wanted, run.mistake.got],
                ["as it should be", "as it came"],
                f"The first wrong one: image {run.mistake.number + 1}, asked with {_asked(run.mistake)}",
            )


def _that_work(lesson: Lesson) -> tuple[str, ...]:
    """The pools that can be made here."""
    pools, _ = pools_here(weights=lesson.weights, device=lesson.device)
    return tuple(type(pool).__name__ for pool in pools)


def _asked(mistake: Mistake) -> str:
    return ", ".join(f"{name}={value}" for name, value in mistake.ask.items()) or "nothing special"


def _beside(mistake: Mistake) -> str:
    """The first wrong result beside what it should have been, boxes drawn on both."""
    asked = f"image {mistake.number + 1}, asked with {_asked(mistake)}"
    shown = []
    for name, result in (("as it should be", mistake.wanted), ("as it came", mistake.got)):
        count = f"{len(result)} object{'s' * (len(result) != 1)}"
        shown.append(looks.picture(result.plot(line_width=3), f"{asked}, {name}: {count}", f"{name}: {count}"))
    return f"<div>The first wrong one: {asked}</div>{looks.pictures(shown)}"
