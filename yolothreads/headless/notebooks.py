"""Finds the notebooks of the kit and executes them without a browser."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, perf_counter
from typing import IO, Any

from yolothreads.errors import ArgumentError, NotebookError, writing
from yolothreads.lessons import VERDICT_MIME

_IN_CLONE = Path(__file__).parents[2] / "notebooks"  # an editable installation finds them there
_KERNEL = "python3"


@dataclass(frozen=True)
class NotebookRun:
    """The result of executing one notebook.

    Attributes:
        notebook: its name without the suffix.
        seconds: the time that it took.
        ok: whether every cell ran without an error.
        error: one sentence about the failure, or "".
        verdicts: the verdicts that its cells displayed, with the keys claim, word, evidence and stamp.
    """

    notebook: str
    seconds: float
    ok: bool
    error: str
    verdicts: tuple[Mapping[str, Any], ...]


def folder() -> Path:
    """Return the folder of the lessons: the one of an editable installation, otherwise `./notebooks`."""
    return _IN_CLONE if _IN_CLONE.is_dir() else Path.cwd() / "notebooks"


def find(names: Sequence[str] = (), among: Path | None = None) -> list[Path]:
    """Find lessons by number ("2" or "02"), by name ("02_break_a_shared_model"), or any notebook by its path.

    Args:
        names: the notebooks to find, in the order wanted; by default every lesson, in the order of their numbers.
        among: the folder of the lessons; by default `folder()`.

    Raises:
        NotebookError: the folder holds no lessons, or no lesson has such a name.
    """
    place = among or folder()
    lessons = {path.stem: path for path in sorted(place.glob("[0-9][0-9]_*.ipynb"))}
    if not names:
        if not lessons:
            raise NotebookError(f'There are no notebooks in "{place}"; run this command in the clone of the kit.')
        return list(lessons.values())
    return list(dict.fromkeys(_find_one(name, lessons) for name in names))


def _find_one(name: str, lessons: Mapping[str, Path]) -> Path:
    path = Path(name)
    if path.suffix == ".ipynb" and path.is_file():
        return path.resolve()
    stem = path.stem if path.suffix == ".ipynb" else name
    for known, lesson in lessons.items():
        if stem == known or (stem.isdecimal() and int(stem) == int(known[:2])):
            return lesson
    raise NotebookError(f'There is no notebook "{name}"; choose one of these: {", ".join(lessons) or "(none)"}.')


def run(
    notebooks: Sequence[Path],
    parameters: Mapping[str, Any] | None = None,
    out: str | os.PathLike[str] = "build/run",
    timeout_s: float = 600.0,
    on_cell: Callable[[Path, int], None] | None = None,
    on_done: Callable[[NotebookRun], None] | None = None,
) -> list[NotebookRun]:
    """Execute notebooks one after another, each in a kernel of its own, which has ended when this returns or raises.

    A notebook runs in the folder in which it lies. If one fails, the next ones still run.

    Args:
        notebooks: paths, as `find` returns them.
        parameters: values for the cell tagged `parameters`; every notebook must have each of them.
        out: the folder for the executed notebooks, which keep their names; it is made if necessary.
        timeout_s: the seconds that one notebook may take as a whole, more than 0.
        on_cell: called with the notebook and the index of a cell when that cell starts.
        on_done: called with each `NotebookRun` as it ends.

    Raises:
        ArgumentError: the time-out is 0 or less.
        NotebookError: there are no notebooks, two have the same name, one cannot be read, or a parameter is unknown.
        OutputError: an executed notebook could not be written.
    """
    if timeout_s <= 0:
        raise ArgumentError(f"timeout_s={timeout_s} is not a time limit; give a number of seconds above 0.")
    if not notebooks:
        raise NotebookError("There are no notebooks to run; name one or more.")
    sources = [Path(n).resolve() for n in notebooks]
    if len({s.name for s in sources}) < len(sources):
        raise NotebookError("Two of these notebooks have the same name and would overwrite each other; run them apart.")
    for source in sources:
        _check_parameters(source, parameters or {})
    place = Path(out).resolve()
    with _writing(place):
        place.mkdir(parents=True, exist_ok=True)
    runs = []
    for source in sources:
        runs.append(_run_one(source, dict(parameters or {}), place / source.name, timeout_s, on_cell))
        if on_done:
            on_done(runs[-1])
    return runs


def _check_parameters(source: Path, parameters: Mapping[str, Any]) -> None:
    """Refuse a parameter that a notebook does not have; papermill only logs it and keeps the default."""
    import papermill

    try:
        known = papermill.inspect_notebook(_escape(source))
    except Exception as error:  # whatever nbformat raises for a broken file
        raise NotebookError(f'"{source}" cannot be read as a notebook ({_sentence(error)}); restore it.') from error
    for name in parameters:
        if name not in known:
            there = ", ".join(known) or "(none)"
            raise NotebookError(f'"{source.name}" has no parameter "{name}"; choose one of these: {there}.')


def _run_one(
    source: Path,
    parameters: dict[str, Any],
    target: Path,
    timeout_s: float,
    on_cell: Callable[[Path, int], None] | None,
) -> NotebookRun:
    import papermill
    from nbclient.exceptions import CellTimeoutError
    from papermill.exceptions import PapermillExecutionError

    def cell_starts(cell_index: int, **_: Any) -> None:
        if on_cell:
            on_cell(source, cell_index)

    start, deadline, error = perf_counter(), monotonic() + timeout_s, ""
    log = target.with_suffix(".log")
    try:
        target.unlink(missing_ok=True)
        with log.open("wb") as output:
            papermill.execute_notebook(
                _escape(source),
                _escape(target),
                parameters,
                kernel_name=_KERNEL,
                kernel_manager_class=_kernel_manager(output),
                progress_bar=False,
                on_cell_start=cell_starts,
                # Only the kernel gets the folder: papermill's own `cwd` changes the folder of this whole process.
                resources={"metadata": {"path": str(source.parent)}},
                # A limit for the notebook, not for each of its cells.
                timeout_func=lambda cell: max(1, round(deadline - monotonic())),
            )
    except PapermillExecutionError as failed:
        error = f"Cell [{failed.exec_count}] raised {failed.ename}: {_first_line(failed.evalue)}"
    except CellTimeoutError:  # also an OSError, so this clause comes first
        error = f"It took longer than {timeout_s:g} s; allow more with --timeout."
    except OSError:
        with suppress(OSError):
            target.unlink(missing_ok=True)  # half a notebook must not look like a whole one
        with _writing(target):
            raise
    except Exception as failed:  # a kernel that died or did not start
        error = f"{_sentence(failed)} (the output of its kernel is in {log})"
    else:
        log.unlink()
    verdicts = verdicts_of(target) if target.is_file() else ()
    return NotebookRun(source.stem, perf_counter() - start, not error, error, verdicts)


def _kernel_manager(output: IO[bytes]) -> type[Any]:
    """Return a manager whose kernels write to a file whatever they would write to the terminal.

    A kernel copies there what its child processes print, although the notebook shows it.
    """
    from jupyter_client.manager import AsyncKernelManager

    class Manager(AsyncKernelManager):
        async def start_kernel(self, **options: Any) -> None:  # type: ignore[override]
            await super().start_kernel(**options, stdout=output, stderr=output)

    return Manager


def verdicts_of(executed: Path) -> tuple[dict[str, Any], ...]:
    """Return the verdicts that stand in the outputs of an executed notebook."""
    import nbformat

    cells = nbformat.read(executed, as_version=4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    return tuple(dict(output.data[VERDICT_MIME]) for output in outputs if VERDICT_MIME in output.get("data", {}))


def _writing(path: Path) -> AbstractContextManager[None]:
    return writing(f'"{path}" could not be written', "make room there, or choose another folder with --out")


def _escape(path: Path) -> str:
    """Double the braces of a path, which papermill would take for places to fill in."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _sentence(error: Exception) -> str:
    return f"{type(error).__name__}: {_first_line(str(error))}"


def _first_line(text: str) -> str:
    """Return the first line of a message, without the colours of a terminal."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text).strip().partition("\n")[0]
