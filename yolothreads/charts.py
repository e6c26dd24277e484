"""What the matplotlib figures of the benchmarks and of the lessons have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from yolothreads import palette

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


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
