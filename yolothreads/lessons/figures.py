"""Figures, each with a text twin: what the picture shows, said in words and numbers."""

from __future__ import annotations

import base64
import io
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolothreads.errors import ArgumentError, writing
from yolothreads.measure import Spread
from yolothreads.trace import STAGES, Span

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas
    from numpy.typing import NDArray
    from ultralytics.engine.results import Results

    from yolothreads.pools import Batch

LOOKS = {  # colour (Okabe and Ito's colour-blind safe palette) and hatch of each stage
    "wait": ("#ffffff", "////"),
    "load": ("#bbbbbb", "...."),
    "preprocess": ("#56b4e9", ""),
    "infer": ("#0072b2", ""),
    "postprocess": ("#e69f00", "xxxx"),
    "python": ("#009e73", "----"),
    "turn": ("#cc79a7", "\\\\\\\\"),
}


@dataclass(frozen=True)
class Figure:
    """A finished picture (PNG), its alt text, and the same finding as text."""

    png: bytes
    alt: str
    text: str

    def save(self, path: Path) -> None:
        """Write the PNG file. Raises OutputError where that is not possible."""
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
    """Draw spans: a row a thread, a colour and a hatch a stage, seconds from the first span on.

    Args:
        spans: what `trace.recording` gave.
        title: what the figure shows.
    """
    spans = sorted(spans, key=lambda s: s.start)
    if not spans:
        return Figure(_png(_canvas(title, 1.2)[0]), title, "No spans were recorded.")
    zero, end = spans[0].start, max(s.end for s in spans)
    threads = list(dict.fromkeys(s.thread for s in spans))
    canvas, axes = _canvas(title, 1.5 + 0.5 * len(threads))
    used = [stage for stage in STAGES if any(s.stage == stage for s in spans)]
    for stage in used:
        colour, hatch = LOOKS[stage]
        for row, thread in enumerate(threads):
            bars = [(s.start - zero, s.end - s.start) for s in spans if (s.stage, s.thread) == (stage, thread)]
            axes.broken_barh(
                bars, (row - 0.38, 0.76), facecolor=colour, hatch=hatch, edgecolor="#333333", linewidth=0.4,
                zorder=1 if stage == "load" else 2,
            )  # fmt: skip
    axes.set_yticks(range(len(threads)), threads)
    axes.set_ylim(len(threads) - 0.5, -0.5)
    axes.set_xlim(0, end - zero)
    axes.set_xlabel("time (s)")
    _legend(axes, used)
    alt = f"{title}: timeline of {len(threads)} threads over {end - zero:.2f} s with the stages {', '.join(used)}."
    return Figure(_png(canvas), alt, timeline_text(spans))


def timeline_text(spans: Sequence[Span]) -> str:
    """The text twin of a timeline: milliseconds of each thread in each stage, and how long two or more work at once."""
    from tabulate import tabulate

    total = max(s.end for s in spans) - min(s.start for s in spans)
    used = [stage for stage in STAGES if any(s.stage == stage for s in spans)]
    seconds: dict[str, dict[str, float]] = defaultdict(lambda: dict.fromkeys(used, 0.0))
    for s in spans:
        seconds[s.thread][s.stage] += s.end - s.start
    rows = [[thread, *(f"{1000 * of[stage]:.1f}" for stage in used)] for thread, of in seconds.items()]
    table = str(tabulate(rows, ["thread", *(f"{stage} (ms)" for stage in used)], disable_numparse=True))
    both = overlap_s([s for s in spans if s.stage != "wait"])
    return f"{table}\nFor {both:.2f} of {total:.2f} s ({both / total:.0%}) two or more threads work at once."


def overlap_s(spans: Iterable[Span]) -> float:
    """For how many seconds two or more threads are inside one of these spans at the same time."""
    edges: list[tuple[float, int, str]] = []
    for s in spans:
        edges += [(s.start, 1, s.thread), (s.end, -1, s.thread)]
    inside: dict[str, int] = defaultdict(int)
    total, last = 0.0, 0.0
    for moment, step, thread in sorted(edges):
        if sum(depth > 0 for depth in inside.values()) >= 2:
            total += moment - last
        inside[thread] += step
        last = moment
    return total


def bars(values: Mapping[str, tuple[float, float, float]], title: str, unit: str) -> Figure:
    """Draw horizontal bars with their spread: a name to (median, low, high), all in `unit`."""
    canvas, axes = _canvas(title, 1.3 + 0.42 * len(values))
    for row, (median, low, high) in enumerate(values.values()):
        axes.barh(row, median, color="#0072b2", edgecolor="#333333", height=0.62)
        axes.errorbar(median, row, xerr=[[median - low], [high - median]], color="#333333", capsize=4)
        axes.text(high, row, f"  {median:.3g}", va="center")
    axes.set_yticks(range(len(values)), list(values))
    axes.invert_yaxis()
    axes.set_xlim(0, 1.15 * max(high for *_, high in values.values()) or 1)
    axes.set_xlabel(unit)
    lines = [f"{name}: {Spread(*spread):.3g}" for name, spread in values.items()]
    return Figure(_png(canvas), f"{title}: bars for {', '.join(values)}.", f"{unit}\n" + "\n".join(lines))


def queue(
    history: Iterable[Batch],
    lengths: Sequence[tuple[float, int]],
    title: str = "A queue, its batches, and how long images waited",
    *,
    size: int | None = None,
    refused: Sequence[float] = (),
) -> Figure:
    """Draw what went on in a `BatchingWorker`: queue length, batch sizes and waiting times above one another.

    Args:
        history: the pool's batches, of which there must be one or more.
        lengths: moments (s of `time.monotonic`) and how many images waited then, in order, two or more.
        title: what the figure shows.
        size: how many may wait, drawn as a dashed line.
        refused: moments (s) at which a call was refused.

    Raises:
        ArgumentError: no batches, or fewer than two lengths.
    """
    batches = list(history)
    if not batches or len(lengths) < 2:
        raise ArgumentError(f"{len(batches)} batches and {len(lengths)} lengths are no picture; let the pool work.")
    canvas, (first, second, third) = _stacked(title, 3)
    moments, waiting = zip(*lengths, strict=True)
    zero = min(moments[0], batches[0].start)
    _waiting_line(first, [moment - zero for moment in moments], waiting, size, [r - zero for r in refused])
    for b in batches:
        second.bar(b.start - zero, b.size, b.end - b.start, align="edge", color="#e69f00", edgecolor="#333333")
        third.plot([b.start - zero] * b.size, [1000 * w for w in b.waits_s], "o", color="#009e73", mfc="none", ms=4)
    for axes, label in zip(
        (first, second, third), ("images waiting", "images in the batch", "waited (ms)"), strict=True
    ):
        axes.set_ylabel(label)
        axes.set_ylim(bottom=0)
    third.set_xlabel("time (s)")
    alt = f"{title}: line of the images that wait, bars of the batches, dots of the waiting times, one above the other."
    return Figure(_png(canvas), alt, _queue_text(batches, waiting, len(refused)))


def _waiting_line(
    axes: Axes, x: Sequence[float], waiting: Sequence[int], size: int | None, refused: Sequence[float]
) -> None:
    axes.fill_between(x, waiting, step="post", color="#56b4e9", alpha=0.5)
    axes.step(x, waiting, where="post", color="#0072b2")
    if size is not None:
        axes.axhline(size, color="#333333", linestyle="--", linewidth=1, label=f"room for {size}")
    if refused:
        above = [1.12 * (size or max(waiting))] * len(refused)
        axes.plot(refused, above, "x", color="#d55e00", label="refused")
    if axes.get_legend_handles_labels()[1]:
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)


def _queue_text(batches: Sequence[Batch], waiting: Sequence[int], refused: int) -> str:
    sizes, waits_ms = [b.size for b in batches], sorted(1000 * w for b in batches for w in b.waits_s)
    return (
        f"{sum(sizes)} images in {len(sizes)} batches of {min(sizes)} to {max(sizes)}; {refused} refused\n"
        f"images waiting: {sum(waiting) / len(waiting):.1f} on average, {max(waiting)} at most\n"
        f"waited: {waits_ms[len(waits_ms) // 2]:.0f} ms in the middle, {waits_ms[-1]:.0f} ms at most"
    )


def detections(results: Sequence[Results], titles: Sequence[str], title: str = "What was detected") -> Figure:
    """Draw results side by side, with boxes, classes and scores, as ultralytics plots them."""
    shown = [r.plot(line_width=3, font_size=14)[:, :, ::-1] for r in results]
    lines = [f"{name}: {_counted(r)}" for name, r in zip(titles, results, strict=True)]
    return gallery(shown, titles, title, "\n".join(lines))


def gallery(images: Sequence[NDArray[Any]], titles: Sequence[str], title: str, text: str) -> Figure:
    """Show (H, W, 3) uint8 RGB pictures side by side, up to four in a row."""
    from matplotlib.figure import Figure as Canvas

    columns = min(4, len(images))
    rows = -(-len(images) // columns)
    canvas = Canvas(figsize=(2.5 * columns + 0.2, 2.6 * rows + 0.4), layout="constrained")
    canvas.suptitle(title)
    grid = canvas.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.axis("off")
    for axes, image, name in zip(grid, images, titles, strict=False):
        axes.imshow(image)
        axes.set_title(name, fontsize=9)
    return Figure(_png(canvas), f"{title}: {len(images)} pictures.", text)


def _counted(result: Results) -> str:
    names = [result.names[int(c)] for c in result.boxes.cls]
    return ", ".join(f"{names.count(n)} {n}" for n in dict.fromkeys(names)) or "nothing"


def _canvas(title: str, height: float) -> tuple[Canvas, Axes]:
    """A figure of its own, without pyplot: pyplot keeps global state that threads would share."""
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(9, height), layout="constrained")
    axes = canvas.add_subplot()
    axes.set_title(title, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    return canvas, axes


def _stacked(title: str, rows: int) -> tuple[Canvas, Sequence[Axes]]:
    """A figure with `rows` axes above one another that share their x-axis."""
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(9, 1.7 * rows), layout="constrained")
    several: Sequence[Axes] = list(canvas.subplots(rows, 1, sharex=True))
    several[0].set_title(title, loc="left")
    for axes in several:
        axes.spines[["top", "right"]].set_visible(False)
    return canvas, several


def _legend(axes: Axes, stages: Sequence[str]) -> None:
    from matplotlib.patches import Patch

    handles = [Patch(facecolor=LOOKS[s][0], hatch=LOOKS[s][1], edgecolor="#333333", label=s) for s in stages]
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)


def _png(canvas: Canvas) -> bytes:
    buffer = io.BytesIO()
    canvas.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
