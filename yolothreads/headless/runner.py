"""Execute notebooks without a browser, and say how each of them came out."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, perf_counter
from typing import Any

from yolothreads.errors import ArgumentError, NotebookError, writing
from yolothreads.lessons import VERDICT_MIME

_BESIDE = Path(__file__).parents[2] / "notebooks"  # where an editable installation has them
_KERNEL = "python3"


@dataclass(frozen=True)
class Run:
    """How one notebook came out. `error` is one sentence, or "" where it ran to its end."""

    notebook: str
    seconds: float
    ok: bool
    error: str
    verdicts: tuple[Mapping[str, Any], ...]


def folder() -> Path:
    """Where the lessons are: beside the package if it was installed with `pip install -e`, else `./notebooks`."""
    return _BESIDE if _BESIDE.is_dir() else Path.cwd() / "notebooks"


def find(names: Sequence[str] = (), among: Path | None = None) -> list[Path]:
    """Find lessons by number ("2" or "02"), by name ("02_break_a_shared_model"), or by the path of any notebook.

    Args:
        names: what to find, in the order wanted; by default every lesson, in theirs.
        among: the folder that the lessons are in; by default `folder()`.

    Raises:
        NotebookError: the folder holds no lessons, or none of them has such a name.
    """
    place = among or folder()
    lessons = {path.stem: path for path in sorted(place.glob("[0-9][0-9]_*.ipynb"))}
    if not names:
        if not lessons:
            raise NotebookError(f'There are no notebooks in "{place}"; call this where the kit was cloned.')
        return list(lessons.values())
    return list(dict.fromkeys(_one(name, lessons) for name in names))


def _one(name: str, lessons: Mapping[str, Path]) -> Path:
    path = Path(name)
    if path.suffix == ".ipynb" and path.is_file():
        return path.resolve()
    stem = path.stem if path.suffix == ".ipynb" else name
    for known, lesson in lessons.items():
        if stem == known or (stem.isdecimal() and int(stem) == int(known[:2])):
            return lesson
    there = ", ".join(lessons) or "none at all"
    raise NotebookError(f'There is no notebook "{name}"; those there are: {there}.')


def run(
    notebooks: Sequence[Path],
    parameters: Mapping[str, Any] | None = None,
    out: str | os.PathLike[str] = "build/run",
    timeout_s: float = 600.0,
    on_done: Callable[[Run], None] | None = None,
) -> list[Run]:
    """Execute notebooks one after another, each in a kernel of its own that is gone when this returns or raises.

    A notebook runs in the folder it lies in. One that fails does not keep the next ones from running.

    Args:
        notebooks: paths, as `find` gives them.
        parameters: values for the cell tagged `parameters`; every notebook must know each of them.
        out: the folder for the executed notebooks, which keep their names; made if need be.
        timeout_s: seconds that each notebook may take as a whole, more than 0.
        on_done: called with each `Run` as it ends.

    Raises:
        ArgumentError: the timeout is 0 or less.
        NotebookError: no notebooks, two of one name, one that cannot be read, or an unknown parameter.
        OutputError: an executed notebook could not be written.
    """
    if timeout_s <= 0:
        raise ArgumentError(f"timeout_s={timeout_s} makes no sense; give the seconds that a notebook may take.")
    if not notebooks:
        raise NotebookError("No notebooks were given to run; name one or more.")
    sources = [Path(n).resolve() for n in notebooks]
    if len({s.name for s in sources}) < len(sources):
        raise NotebookError("Two of these notebooks have the same name and would overwrite each other; run them apart.")
    for source in sources:
        _check(source, parameters or {})
    place = Path(out).resolve()
    with _writing(place):
        place.mkdir(parents=True, exist_ok=True)
    runs = []
    for source in sources:
        runs.append(_run_one(source, dict(parameters or {}), place / source.name, timeout_s))
        if on_done:
            on_done(runs[-1])
    return runs


def _check(source: Path, parameters: Mapping[str, Any]) -> None:
    """Papermill only logs a parameter that a notebook does not have, and runs on with its default."""
    import papermill

    try:
        known = papermill.inspect_notebook(_plain(source))
    except Exception as error:  # whatever nbformat makes of a broken file
        raise NotebookError(f'"{source}" cannot be read as a notebook ({_sentence(error)}); restore it.') from error
    for name in parameters:
        if name not in known:
            there = ", ".join(known) or "none"
            raise NotebookError(f'"{source.name}" has no parameter "{name}"; those it has: {there}.')


def _run_one(source: Path, parameters: dict[str, Any], target: Path, timeout_s: float) -> Run:
    import papermill
    from nbclient.exceptions import CellTimeoutError
    from papermill.exceptions import PapermillExecutionError

    start, deadline, error = perf_counter(), monotonic() + timeout_s, ""
    try:
        target.unlink(missing_ok=True)
        papermill.execute_notebook(
            _plain(source),
            _plain(target),
            parameters,
            kernel_name=_KERNEL,
            progress_bar=False,
            # Given to the kernel only: papermill's own `cwd` changes the folder of this whole process.
            resources={"metadata": {"path": str(source.parent)}},
            extra_arguments=["--log-level=ERROR"],  # a kernel says much at its start that is no matter of a lesson
            # A limit for the notebook, not for each of its cells.
            timeout_func=lambda cell: max(1, round(deadline - monotonic())),
        )
    except PapermillExecutionError as failed:
        error = f"Cell [{failed.exec_count}] raised {failed.ename}: {_line(failed.evalue)}"
    except CellTimeoutError:  # an OSError, too, so it has to come first
        error = f"It took longer than {timeout_s:g} s; allow more with --timeout."
    except OSError:
        with suppress(OSError):
            target.unlink(missing_ok=True)  # half a notebook must not look like a whole one
        with _writing(target):
            raise
    except Exception as failed:  # a dead kernel, or one that did not start
        error = _sentence(failed)
    return Run(source.stem, perf_counter() - start, not error, error, tuple(_verdicts(target)))


def _verdicts(executed: Path) -> list[dict[str, Any]]:
    import nbformat

    if not executed.is_file():
        return []
    cells = nbformat.read(executed, as_version=4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    return [dict(output.data[VERDICT_MIME]) for output in outputs if VERDICT_MIME in output.get("data", {})]


def _writing(path: Path) -> AbstractContextManager[None]:
    return writing(f'"{path}" could not be written', "make room there, or choose another folder with --out")


def _plain(path: Path) -> str:
    """Papermill takes braces in a path for places to fill in."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _sentence(error: Exception) -> str:
    return f"{type(error).__name__}: {_line(str(error))}"


def _line(text: str) -> str:
    """The first line, without the colours of a terminal."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text).strip().partition("\n")[0]
