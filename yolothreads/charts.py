"""Matplotlib figures of the benchmarks, whose text twins are tables, and helpers that the lessons' figures use, too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolothreads import palette
from yolothreads.errors import writing
from yolothreads.measure import Comparison, Spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARKS = "osD^vPX*<>"


def canvas(title: str, height: float, rows: int = 1, stamp: str = "") -> tuple[Figure, list[Axes]]:
    """Make a figure of one or more charts, one above the other, with the same x-axis.

    It does without pyplot, which keeps global state that threads would share.

    Args:
        title: what the figure shows.
        height: of the figure in inches; it is 9 inches wide.
        rows: the number of charts.
        stamp: where its numbers were measured; stands below the figure in small print.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, height), layout="constrained")
    charts: list[Axes] = list(figure.subplots(rows, 1, sharex=True, squeeze=False).ravel())
    charts[0].set_title(title, loc="left")
    for axes in charts:
        axes.spines[["top", "right"]].set_visible(False)
    if stamp:
        figure.supxlabel(stamp, x=0.01, ha="left", fontsize=7, color=palette.INK)
    return figure, charts


def bars(
    axes: Axes, spreads: Mapping[str, tuple[float, float, float]], colours: Sequence[str] = (palette.BLUE,)
) -> None:
    """Draw one horizontal bar per name, with its range. `colours` are used in order, again and again."""
    for row, (median, low, high) in enumerate(spreads.values()):
        axes.barh(row, median, color=colours[row % len(colours)], edgecolor=palette.INK, height=0.65)
        axes.errorbar(median, row, xerr=[[median - low], [high - median]], color=palette.INK, capsize=3)
    name_rows(axes, list(spreads))


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Name the rows of a chart on its y-axis, from top to bottom."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)


def legend(axes: Axes, handles: Sequence[Any] | None = None) -> None:
    """Put the legend to the right of a chart: of what is labelled in it, or of `handles`."""
    given = {} if handles is None else {"handles": handles}
    axes.legend(**given, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)


def save(figures: Mapping[str, Figure], folder: str | Path) -> list[Path]:
    """Write each figure as NAME.png into a folder, which is made if it does not exist.

    Raises:
        OutputError: a file or the folder could not be written.
    """
    paths = [Path(folder, f"{name}.png") for name in figures]
    with writing(f'"{folder}" could not be written', "name another folder"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        for path, figure in zip(paths, figures.values(), strict=True):
            figure.savefig(path, dpi=110)
    return paths


def lines(
    series: Mapping[str, Mapping[int, Spread]], title: str, labels: tuple[str, str], stamp: str, *, log: bool = False
) -> Figure:
    """Draw one line per name through its medians, with the range of the rounds; upper bounds are dashed.

    Args:
        series: for each name, its values by number of workers, pixels or images.
        title: the title of the figure.
        labels: the labels of the two axes, with units.
        stamp: the machine that it was measured on.
        log: make the y-axis logarithmic, too.
    """
    figure, (axes,) = canvas(title, 5.0, stamp=stamp)
    for number, (name, values) in enumerate(series.items()):
        spreads = list(values.values())
        medians = [s.median for s in spreads]
        axes.errorbar(
            list(values), medians, [[s.median - s.low for s in spreads], [s.high - s.median for s in spreads]],
            label=name, color=palette.SERIES[number % len(palette.SERIES)], marker=_MARKS[number % len(_MARKS)],
            linestyle="-" if name.isidentifier() else "--", capsize=3, mfc="none",
        )  # fmt: skip
    ticks = sorted({place for values in series.values() for place in values})
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.minorticks_off()
    if log:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:,.0f}")
    else:
        axes.set_ylim(bottom=min(0, axes.get_ylim()[0]))
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    legend(axes)
    return figure


def speeds(found: Comparison, ceiling: str) -> Figure:
    """Draw one bar per contender: images per second with the range of its rounds. The upper bound is a line."""
    figure, (axes,) = canvas("Throughput", 1.5 + 0.33 * len(found), stamp=found.stamp)
    speeds = {m.pool: (m.images_per_s.median, m.images_per_s.low, m.images_per_s.high) for m in found}
    bars(axes, speeds, [palette.SKY if m.judged else palette.SILVER for m in found])
    axes.axvline(found.of(ceiling).images_per_s.median, color=palette.RED, linestyle="--", label=ceiling)
    legend(axes)
    axes.set_xlabel("images per second (pools blue, others grey)")
    return figure


def latencies(found: Comparison) -> Figure:
    """Draw the median and the 99th percentile of each pool's latency, as a ring and a square."""
    measured = [(m.pool, m.latency_p50_ms, m.latency_p99_ms) for m in found if m.latency_p50_ms and m.latency_p99_ms]
    callers = max(m.workers for m in found if m.judged)
    title = f"Latency, with {callers} callers at once"
    figure, (axes,) = canvas(title, 1.5 + 0.33 * len(measured), stamp=found.stamp)
    for row, (_, half, most) in enumerate(measured):
        axes.plot([half, most], [row, row], color=palette.INK, zorder=1)
        axes.plot(half, row, "o", color=palette.BLUE, mfc="white", label="" if row else "half of the images (p50)")
        axes.plot(most, row, "s", color=palette.RED, label="" if row else "99 of 100 images (p99)")
    name_rows(axes, [name for name, *_ in measured])
    axes.set_xlim(left=0)
    axes.set_xlabel("milliseconds from the call to its result")
    legend(axes)
    return figure
