"""Shows how far a series of notebooks is: a bar in a terminal, one line per notebook elsewhere."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from yolothreads.headless.notebooks import NotebookRun

_BAR = "{desc} |{bar}| {elapsed}, about {remaining} left"


class Progress:
    """Progress of `notebooks.run`, on standard error.

    The bar moves by the seconds that each cell took in an earlier run, where `out` holds one; other cells count as
    one second. The time left follows from how quickly it moves.

    Args:
        sources: the notebooks that are going to run.
        out: the folder of the executed notebooks.
    """

    def __init__(self, sources: Sequence[Path], out: Path) -> None:
        from tqdm import tqdm

        self._expected = {source.stem: expected_seconds(source, out / source.name) for source in sources}
        self._ended = 0.0  # expected seconds of the notebooks that have ended
        total = sum(sum(cells) for cells in self._expected.values())
        # Without a terminal (`disable=None`) there is no bar. With smoothing=0 the rate is the mean of the whole run.
        self._bar = tqdm(total=total, disable=None, smoothing=0, bar_format=_BAR, leave=False, file=sys.stderr)
        self._closed = threading.Event()
        self._clock = threading.Thread(target=self._tick, name="progress")

    def __enter__(self) -> Progress:
        if not self._bar.disable:
            self._clock.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        if self._clock.is_alive():
            self._clock.join()
        self._bar.close()

    def cell(self, source: Path, index: int) -> None:
        """Show that the cell of this index has started."""
        cells = self._expected[source.stem]
        self._bar.set_description_str(f"{source.stem}, cell {index + 1} of {len(cells)}", refresh=False)
        self._move_to(self._ended + sum(cells[:index]))

    def done(self, run: NotebookRun) -> None:
        """Print one line for a notebook that has ended."""
        self._ended += sum(self._expected.get(run.notebook, ()))
        self._move_to(self._ended)
        self._bar.write(f"{run.notebook}: {run.error or f'{run.seconds:.1f} s'}", file=sys.stderr)

    def _move_to(self, seconds: float) -> None:
        self._bar.n = seconds
        self._bar.refresh()

    def _tick(self) -> None:
        """Move the clock of the bar once per second, however long a cell takes."""
        while not self._closed.wait(1.0):
            self._bar.refresh()


def expected_seconds(source: Path, earlier: Path) -> list[float]:
    """Return the seconds that each cell of a notebook is expected to take.

    Args:
        source: the notebook.
        earlier: the file that papermill wrote when it executed this notebook before; it need not exist.
    """
    cells = _cells(source)
    before = [cell.metadata.get("papermill", {}).get("duration") for cell in _cells(earlier)]
    # Papermill inserts one cell where parameters are given; the cells after it move by one.
    before = before[max(0, len(before) - len(cells)) :]
    return [float(seconds or 0.01) for seconds in before] if any(before) else [1.0] * len(cells)


def _cells(file: Path) -> list[Any]:
    import nbformat

    try:
        return list(nbformat.read(file, as_version=4).cells)
    except (OSError, ValueError):
        return []
