"""Whether somebody is there who can press a button, and which cell of which notebook shows what."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_shown: dict[str, Callable[[], None]] = {}  # by cell: how to close what it shows


def is_there() -> bool:
    """Whether a person looks on: the running cell came from a front end that lets a cell ask its reader something.

    JupyterLab does, by Jupyter's messaging protocol (`allow_stdin`); papermill, nbclient and nbval do not.
    """
    return bool(_request().get("content", {}).get("allow_stdin", False))


def show_in_cell(close: Callable[[], None]) -> None:
    """Note how to close what the running cell shows; what it showed before, when it last ran, is closed now."""
    cell = _cell(_request())
    if cell not in _shown and not _shown:
        _on_next_cells(_close_deleted)
    if (before := _shown.pop(cell, None)) is not None:
        before()
    _shown[cell] = close


def _close_deleted(*_: object) -> None:
    """JupyterLab says with each request which cells were deleted since the last one."""
    for cell in _request().get("metadata", {}).get("deletedCells", []):
        if (close := _shown.pop(cell, None)) is not None:
            close()


def _on_next_cells(call: Callable[..., None]) -> None:
    from IPython import get_ipython

    if (shell := get_ipython()) is not None:
        shell.events.register("pre_run_cell", call)


def _cell(request: dict[str, Any]) -> str:
    """What tells the running cell from others: its id, or its source where the front end does not send one."""
    return str(request.get("metadata", {}).get("cellId") or request.get("content", {}).get("code", ""))


def _request() -> dict[str, Any]:
    """The message that made this cell run; empty outside of Jupyter."""
    from IPython import get_ipython

    get = getattr(get_ipython(), "get_parent", None)
    return dict(get() or {}) if get is not None else {}
