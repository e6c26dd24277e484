"""Figures of the benchmarks. Their text twins are the tables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from yolothreads import charts, palette
from yolothreads.errors import writing
from yolothreads.measure import Comparison, Spread

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MARKS = "osD^vPX*<>"


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
    figure, (axes,) = charts.canvas(title, 5.0, stamp=stamp)
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
    charts.legend(axes)
    return figure


def speeds(found: Comparison, ceiling: str) -> Figure:
    """Draw one bar per contender: images per second with the range of its rounds. The upper bound is a line."""
    figure, (axes,) = charts.canvas("Throughput", 1.5 + 0.33 * len(found), stamp=found.stamp)
    speeds = {m.pool: (m.images_per_s.median, m.images_per_s.low, m.images_per_s.high) for m in found}
    charts.bars(axes, speeds, [palette.SKY if m.judged else palette.SILVER for m in found])
    axes.axvline(found.of(ceiling).images_per_s.median, color=palette.RED, linestyle="--", label=ceiling)
    charts.legend(axes)
    axes.set_xlabel("images per second (pools blue, others grey)")
    return figure


def latencies(found: Comparison) -> Figure:
    """Draw the median and the 99th percentile of each pool's latency, as a ring and a square."""
    measured = [(m.pool, m.latency_p50_ms, m.latency_p99_ms) for m in found if m.latency_p50_ms and m.latency_p99_ms]
    callers = max(m.workers for m in found if m.judged)
    title = f"Latency, with {callers} callers at once"
    figure, (axes,) = charts.canvas(title, 1.5 + 0.33 * len(measured), stamp=found.stamp)
    for row, (_, half, most) in enumerate(measured):
        axes.plot([half, most], [row, row], color=palette.INK, zorder=1)
        axes.plot(half, row, "o", color=palette.BLUE, mfc="white", label="" if row else "half of the images (p50)")
        axes.plot(most, row, "s", color=palette.RED, label="" if row else "99 of 100 images (p99)")
    charts.name_rows(axes, [name for name, *_ in measured])
    axes.set_xlim(left=0)
    axes.set_xlabel("milliseconds from the call to its result")
    charts.legend(axes)
    return figure
