"""Finds the notebooks of the kit, executes them without a browser, and shows how far they are."""

from __future__ import annotations

import os
import re
import shutil
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, perf_counter
from typing import IO, Any

from yolothreads.errors import ArgumentError, NotebookError, writing
from yolothreads.lessons import VERDICT_MIME
from yolothreads.races.report import PAGES

_IN_CLONE = Path(__file__).parents[2] / "notebooks"  # an editable installation finds them there
_BAR = "{desc} |{bar}| {elapsed}, about {remaining} left"


@dataclass(frozen=True)
class NotebookRun:
    """The result of executing one notebook.

    Attributes:
        notebook: its name without the suffix.
        seconds: the time that it took.
        ok: whether every cell ran without an error.
        error: one sentence about the failure, or "".
        verdicts: the verdicts that its cells displayed, with the keys claim, word, evidence and stamp.
        pages: the pages of the schedules that its explorations found to be bad, in the order of time.
    """

    notebook: str
    seconds: float
    ok: bool
    error: str
    verdicts: tuple[Mapping[str, Any], ...]
    pages: tuple[Path, ...] = ()


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
    if not names and not lessons:
        raise NotebookError(f'There are no notebooks in "{place}"; run this command in the clone of the kit.')
    return list(dict.fromkeys(_find_one(name, lessons) for name in names or lessons))


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
    on_cell: Callable[[Path, int], object] = lambda notebook, index: None,
    on_done: Callable[[NotebookRun], object] = lambda run: None,
    *,
    pages: bool = False,
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
        pages: whether each exploration with a bad schedule saves a page, into a folder beside the executed notebook.

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
        runs.append(_run_one(source, dict(parameters or {}), place / source.name, timeout_s, on_cell, pages))
        on_done(runs[-1])
    return runs


def _check_parameters(source: Path, parameters: Mapping[str, Any]) -> None:
    """Refuse a parameter that a notebook does not have; papermill only logs it and keeps the default."""
    import papermill

    try:
        known = papermill.inspect_notebook(_escape(source))
    except Exception as error:  # whatever nbformat raises for a broken file
        reason = _sentence(type(error).__name__, error)
        raise NotebookError(f'"{source}" cannot be read as a notebook ({reason}); restore it.') from error
    for name in parameters:
        if name not in known:
            there = ", ".join(known) or "(none)"
            raise NotebookError(f'"{source.name}" has no parameter "{name}"; choose one of these: {there}.')


def _run_one(
    source: Path,
    parameters: dict[str, Any],
    target: Path,
    timeout_s: float,
    on_cell: Callable[[Path, int], object],
    with_pages: bool,
) -> NotebookRun:
    import papermill
    from nbclient.exceptions import CellTimeoutError
    from papermill.exceptions import PapermillExecutionError

    start, deadline, error = perf_counter(), monotonic() + timeout_s, ""
    log, pages = target.with_suffix(".log"), target.with_suffix(".pages")
    with _writing(pages):
        shutil.rmtree(pages, ignore_errors=True)
        if with_pages:
            pages.mkdir()
    try:
        target.unlink(missing_ok=True)
        with log.open("wb") as output:
            papermill.execute_notebook(
                _escape(source),
                _escape(target),
                parameters,
                kernel_name="python3",
                kernel_manager_class=_kernel_manager(output, {PAGES: str(pages)} if with_pages else {}),
                progress_bar=False,
                on_cell_start=lambda cell_index, **_: on_cell(source, cell_index),
                # Only the kernel gets the folder: papermill's own `cwd` changes the folder of this whole process.
                resources={"metadata": {"path": str(source.parent)}},
                # A limit for the notebook, not for each of its cells.
                timeout_func=lambda cell: max(1, round(deadline - monotonic())),
            )
    except PapermillExecutionError as failed:
        error = f"Cell [{failed.exec_count}] raised {_sentence(failed.ename, failed.evalue)}"
    except CellTimeoutError:  # also an OSError, so this clause comes first
        error = f"It took longer than {timeout_s:g} s; allow more with --timeout."
    except OSError:
        with suppress(OSError):
            target.unlink(missing_ok=True)  # half a notebook must not look like a whole one
        with _writing(target):
            raise
    except Exception as failed:  # a kernel that died or did not start
        error = f"{_sentence(type(failed).__name__, failed)} (the output of its kernel is in {log})"
    else:
        log.unlink()
    verdicts = verdicts_of(target) if target.is_file() else ()
    saved = tuple(sorted(pages.glob("*.html"), key=lambda page: page.name))
    if with_pages and not saved:
        pages.rmdir()
    return NotebookRun(source.stem, perf_counter() - start, not error, error, verdicts, saved)


def _kernel_manager(output: IO[bytes], variables: Mapping[str, str]) -> type[Any]:
    """Return a manager whose kernels write to a file whatever they would write to the terminal.

    A kernel copies there what its child processes print, although the notebook shows it. `variables` are added to its
    environment.
    """
    from jupyter_client.manager import AsyncKernelManager

    class Manager(AsyncKernelManager):
        async def start_kernel(self, **options: Any) -> None:  # type: ignore[override]
            options["env"] = {**(options.get("env") or os.environ), **variables}
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


def _sentence(name: str, message: object) -> str:
    """Return the name of an exception and the first line of its message, without the colours of a terminal."""
    first_line = re.sub(r"\x1b\[[0-9;]*m", "", str(message)).strip().partition("\n")[0]
    return f"{name}: {first_line}"


class Progress:
    """Progress of `run`, on standard error: a bar in a terminal, and one line per notebook.

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
        total = sum(map(sum, self._expected.values()))
        # Without a terminal (`disable=None`) there is no bar. With smoothing=0 the rate is the mean of the whole run.
        self._bar = tqdm(total=total, disable=None, smoothing=0, bar_format=_BAR, leave=False, file=sys.stderr)
        self._closed = threading.Event()
        self._clock = threading.Thread(target=self._tick, name="progress")

    def __enter__(self) -> Progress:
        self._clock.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._closed.set()
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
    import nbformat

    def cells_of(file: Path) -> list[Any]:
        with suppress(OSError, ValueError):
            return list(nbformat.read(file, as_version=4).cells)
        return []

    cells = cells_of(source)
    before = [cell.metadata.get("papermill", {}).get("duration") for cell in cells_of(earlier)]
    # Papermill inserts one cell where parameters are given; the cells after it move by one.
    before = before[max(0, len(before) - len(cells)) :]
    return [float(seconds or 0.01) for seconds in before] if any(before) else [1.0] * len(cells)
