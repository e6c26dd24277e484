"""The pictures of a bench. Their text twins are its tables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from yolothreads.errors import writing
from yolothreads.measure import Comparison, Spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#000000")  # Okabe and Ito
_MARKS = "osD^vPX*<>"


def save(figures: Mapping[str, Figure], folder: str | Path) -> list[Path]:
    """Write each figure as NAME.png into a folder, which is made if need be. Raises OutputError where it cannot be."""
    paths = [Path(folder, f"{name}.png") for name in figures]
    with writing(f'"{folder}" could not be written', "name another folder"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        for path, figure in zip(paths, figures.values(), strict=True):
            figure.savefig(path, dpi=110)
    return paths


def lines(
    series: Mapping[str, Mapping[int, Spread]], title: str, labels: tuple[str, str], stamp: str, *, log: bool = False
) -> Figure:
    """Draw a line for each name through its medians, with the range of the rounds; what is no pool is dashed.

    Args:
        series: for each name, its values by number of workers, pixels or images.
        title: what it shows.
        labels: of the two axes, with units.
        stamp: where it was measured.
        log: whether the y-axis, too, grows by factors.
    """
    figure, axes = _canvas(title, 5.0, stamp)
    for number, (name, values) in enumerate(series.items()):
        spreads = list(values.values())
        medians = [s.median for s in spreads]
        axes.errorbar(
            list(values), medians, [[s.median - s.low for s in spreads], [s.high - s.median for s in spreads]],
            label=name, color=_COLOURS[number % len(_COLOURS)], marker=_MARKS[number % len(_MARKS)],
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
    _explain(axes)
    return figure


def speeds(found: Comparison, ceiling: str) -> Figure:
    """Draw a bar for each contender: images per second, with the range of its rounds, and the ceiling as a line."""
    figure, axes = _canvas("Throughput", 1.5 + 0.33 * len(found), found.stamp)
    for row, m in enumerate(found):
        speed = m.images_per_s
        axes.barh(row, speed.median, color="#56b4e9" if m.judged else "#dddddd", edgecolor="#333333", height=0.65)
        axes.errorbar(
            speed.median,
            row,
            xerr=[[speed.median - speed.low], [speed.high - speed.median]],
            color="#333333",
            capsize=3,
        )
    axes.axvline(found.of(ceiling).images_per_s.median, color="#d55e00", linestyle="--", label=ceiling)
    _explain(axes)
    _name_rows(axes, [m.pool for m in found])
    axes.set_xlabel("images per second (pools blue, others grey)")
    return figure


def latencies(found: Comparison) -> Figure:
    """Draw for each pool the latency of half its images and of all but one in a hundred, as a ring and a square."""
    measured = [(m.pool, m.latency_p50_ms, m.latency_p99_ms) for m in found if m.latency_p50_ms and m.latency_p99_ms]
    callers = max(m.workers for m in found if m.judged)
    figure, axes = _canvas(f"Latency, with {callers} callers at once", 1.5 + 0.33 * len(measured), found.stamp)
    for row, (_, half, most) in enumerate(measured):
        axes.plot([half, most], [row, row], color="#333333", zorder=1)
        axes.plot(half, row, "o", color="#0072b2", mfc="white", label="" if row else "half of the images (p50)")
        axes.plot(most, row, "s", color="#d55e00", label="" if row else "99 of 100 images (p99)")
    _name_rows(axes, [name for name, *_ in measured])
    axes.set_xlim(left=0)
    axes.set_xlabel("milliseconds from asking to having")
    _explain(axes)
    return figure


def _explain(axes: Axes) -> None:
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)


def _name_rows(axes: Axes, names: list[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()


def _canvas(title: str, height: float, stamp: str) -> tuple[Figure, Axes]:
    """A figure of its own, without pyplot, which keeps global state."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, height), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, loc="left")
    figure.supxlabel(stamp, x=0.01, ha="left", fontsize=7, color="#555555")
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes
