"""Figures for notebooks. Each has a text twin: what the picture shows, in words and numbers."""

from __future__ import annotations

import base64
import io
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolothreads import charts, palette
from yolothreads.errors import ArgumentError, writing
from yolothreads.measure import Spread
from yolothreads.tables import Table
from yolothreads.trace import STAGES, Span

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas
    from numpy.typing import NDArray
    from ultralytics.engine.results import Results

    from yolothreads.pools import Batch


@dataclass(frozen=True)
class Figure:
    """A finished picture (PNG), its alt text, and its finding as text."""

    png: bytes
    alt: str
    text: str

    def save(self, path: Path) -> None:
        """Write the PNG file. Raises OutputError if that is not possible."""
        with writing(f'"{path}" could not be written', "choose another place"):
            path.write_bytes(self.png)

    def _repr_html_(self) -> str:
        data = base64.b64encode(self.png).decode()
        image = f'<img alt="{escape(self.alt)}" style="max-width:100%" src="data:image/png;base64,{data}">'
        text = f'<pre style="font-family:monospace">{escape(self.text)}</pre>'
        return f"<figure>{image}<figcaption>{text}</figcaption></figure>"

    def __repr__(self) -> str:
        return f"{self.alt}\n{self.text}"


def timeline(spans: Iterable[Span], title: str = "What each thread does, and when") -> Figure:
    """Draw spans on a time axis: one row per thread, one colour and hatch per stage.

    Args:
        spans: the list that `trace.recording` returned.
        title: what the figure shows.
    """
    spans = sorted(spans, key=lambda s: s.start)
    if not spans:
        return Figure(_png(charts.canvas(title, 1.2)[0]), title, "No spans were recorded.")
    from matplotlib.patches import Patch

    zero, end = spans[0].start, max(s.end for s in spans)
    threads, used = list(dict.fromkeys(s.thread for s in spans)), {s.stage for s in spans}
    stages = [stage for stage in STAGES if stage in used]
    canvas, (axes,) = charts.canvas(title, 1.5 + 0.5 * len(threads))
    legend = []
    for stage in stages:
        look = palette.STAGES[stage]
        style: dict[str, Any] = {"facecolor": look.colour, "hatch": look.hatch, "edgecolor": palette.INK}
        legend.append(Patch(**style, label=stage))
        for row, thread in enumerate(threads):
            bars = [(s.start - zero, s.end - s.start) for s in spans if (s.stage, s.thread) == (stage, thread)]
            axes.broken_barh(bars, (row - 0.38, 0.76), **style, linewidth=0.4, zorder=1 if stage == "load" else 2)
    charts.name_rows(axes, threads)
    axes.set_xlim(0, end - zero)
    axes.set_xlabel("time (s)")
    charts.legend(axes, legend)
    alt = f"{title}: timeline over {end - zero:.2f} s; rows: {len(threads)}; stages: {', '.join(stages)}."
    return Figure(_png(canvas), alt, _timeline_text(spans, stages, end - zero))


def _timeline_text(spans: Sequence[Span], stages: Sequence[str], total: float) -> str:
    """Return the milliseconds of each thread in each stage, and how long two or more threads work at once."""
    seconds: dict[str, dict[str, float]] = defaultdict(lambda: dict.fromkeys(stages, 0.0))
    for s in spans:
        seconds[s.thread][s.stage] += s.end - s.start
    rows = [[thread, *(f"{1000 * of[stage]:.1f}" for stage in stages)] for thread, of in seconds.items()]
    table = Table(["thread", *(f"{stage} (ms)" for stage in stages)], rows)
    together = overlap_s([s for s in spans if s.stage != "wait"])
    share = f"For {1000 * together:.0f} of {1000 * total:.0f} ms ({together / total:.0%})"
    return f"{table}\n{share}, two or more threads work at the same time."


def overlap_s(spans: Iterable[Span]) -> float:
    """Return for how many seconds two or more threads are inside one of these spans at the same time."""
    edges = sorted(edge for s in spans for edge in ((s.start, 1, s.thread), (s.end, -1, s.thread)))
    inside, total = Counter[str](), 0.0
    for (moment, step, thread), (following, *_) in pairwise(edges):
        inside[thread] += step
        if sum(depth > 0 for depth in inside.values()) >= 2:
            total += following - moment
    return total


def bars(values: Mapping[str, tuple[float, float, float]], title: str, unit: str) -> Figure:
    """Draw one horizontal bar per name, with its range. Each value is (median, low, high) in `unit`."""
    canvas, (axes,) = charts.canvas(title, 1.3 + 0.42 * len(values))
    charts.bars(axes, values)
    for row, (median, _, high) in enumerate(values.values()):
        axes.text(high, row, f"  {median:.3g}", va="center")
    axes.set_xlim(0, 1.15 * max(high for *_, high in values.values()) or 1)
    axes.set_xlabel(unit)
    lines = [f"{name}: {Spread(*spread):.3g}" for name, spread in values.items()]
    return Figure(_png(canvas), f"{title}: bars for {', '.join(values)}.", "\n".join([unit, *lines]))


def queue(
    history: Iterable[Batch],
    lengths: Sequence[tuple[float, int]],
    title: str = "A queue, its batches, and how long images waited",
    *,
    size: int | None = None,
    refused: Sequence[float] = (),
) -> Figure:
    """Draw the work of a `BatchingWorker`: queue length, batch sizes and waiting times, one above the other.

    Args:
        history: the batches of the pool, one or more.
        lengths: pairs of a moment (s of `time.monotonic`) and the number of images that waited then; two or more.
        title: what the figure shows.
        size: the size of the queue, drawn as a dashed line.
        refused: moments (s) at which a call was refused.

    Raises:
        ArgumentError: there are no batches, or fewer than two lengths.
    """
    batches = list(history)
    if not batches or len(lengths) < 2:
        raise ArgumentError(f"{len(batches)} batches and {len(lengths)} lengths make no picture; let the pool work.")
    canvas, (first, second, third) = charts.canvas(title, 5.1, 3)
    moments, waiting = zip(*lengths, strict=True)
    zero = min(moments[0], batches[0].start)
    x = [moment - zero for moment in moments]
    first.fill_between(x, waiting, step="post", color=palette.SKY, alpha=0.5)
    first.step(x, waiting, where="post", color=palette.BLUE)
    if size is not None:
        first.axhline(size, color=palette.INK, linestyle="--", linewidth=1, label=f"room for {size}")
    if refused:
        above = [1.12 * (size or max(waiting))] * len(refused)
        first.plot([moment - zero for moment in refused], above, "x", color=palette.BAD, label="refused")
    if size is not None or refused:
        charts.legend(first)
    total = max(moments[-1], batches[-1].end) - zero
    for b in batches:
        left, width = b.start - zero, b.end - b.start
        edge = {"edgecolor": palette.INK, "linewidth": min(1.0, 100 * width / total)}  # would hide a narrow bar
        second.bar(left, b.size, width, align="edge", color=palette.ORANGE, **edge)
        third.plot([left] * b.size, [1000 * w for w in b.waits_s], "o", color=palette.GREEN, mfc="none", ms=4)
    labels = ("images waiting", "images in the batch", "waited (ms)")
    for axes, label in zip((first, second, third), labels, strict=True):
        axes.set_ylabel(label)
        axes.set_ylim(bottom=0)
    for axes in (first, second):
        axes.locator_params("y", integer=True, steps=[1, 2, 4, 10])
    third.set_xlabel("time (s)")
    alt = f"{title}: a line of the images that wait, bars of the batches, and dots of the waiting times."
    return Figure(_png(canvas), alt, _queue_text(batches, waiting, len(refused)))


def _queue_text(batches: Sequence[Batch], waiting: Sequence[int], refused: int) -> str:
    sizes, waits_ms = [b.size for b in batches], sorted(1000 * w for b in batches for w in b.waits_s)
    return (
        f"{sum(sizes)} images in {len(sizes)} batches of {min(sizes)} to {max(sizes)}; {refused} refused\n"
        f"images waiting: {sum(waiting) / len(waiting):.1f} on average, {max(waiting)} at most\n"
        f"waited: {waits_ms[len(waits_ms) // 2]:.0f} ms (median), {waits_ms[-1]:.0f} ms at most"
    )


def detections(results: Sequence[Results], titles: Sequence[str], title: str = "What was detected") -> Figure:
    """Draw results side by side, with boxes, classes and scores, as ultralytics plots them; tracked ones with ids."""
    lines = [f"{name}: {_objects_text(r) or 'nothing'}" for name, r in zip(titles, results, strict=True)]
    return gallery([_plotted(r) for r in results], titles, title, "\n".join(lines))


def _plotted(result: Results) -> NDArray[Any]:
    """Return a result's RGB picture. Longer labels than ids would cover the ids of objects that are close together."""
    if is_track := result.boxes.is_track:
        result = copy(result)
        result.names = dict.fromkeys(result.names, "")
    return result.plot(conf=not is_track, line_width=3, font_size=14)[:, :, ::-1]


def _objects_text(result: Results) -> str:
    """Return how many objects of each class a result has, or the id and the class of each one that is tracked."""
    kinds = [result.names[int(c)] for c in result.boxes.cls]
    if result.boxes.is_track:
        ids = result.boxes.id.int().tolist()
        return ", ".join(f"id:{number} {kind}" for number, kind in sorted(zip(ids, kinds, strict=True)))
    return ", ".join(f"{kind} {count}" for kind, count in Counter(kinds).items())


def gallery(images: Sequence[NDArray[Any]], titles: Sequence[str], title: str, text: str) -> Figure:
    """Show (H, W, 3) uint8 RGB pictures side by side, up to four in a row."""
    from matplotlib.figure import Figure as Canvas

    columns = min(4, len(images))
    rows = -(-len(images) // columns)
    width = min(4.4, 10 / columns)
    height = width * min(1.0, max(image.shape[0] / image.shape[1] for image in images)) + 0.3
    canvas = Canvas(figsize=(width * columns + 0.2, height * rows + 0.4), layout="constrained")
    canvas.suptitle(title)
    grid = canvas.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.axis("off")
    for axes, image, name in zip(grid, images, titles, strict=False):
        axes.imshow(image)
        axes.set_title(name, fontsize=9)
    return Figure(_png(canvas), f"{title}: {len(images)} pictures.", text)


def _png(canvas: Canvas) -> bytes:
    buffer = io.BytesIO()
    canvas.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
