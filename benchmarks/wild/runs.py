"""Runs each tool on each version of the bugs, one child process at a time, and keeps every result."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import date
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as release
from pathlib import Path
from time import perf_counter

from benchmarks.wild.bug import Bug
from benchmarks.wild.packages import InstallError, folders
from benchmarks.wild.result import FAILED, HUNG, Result, Results

ROOT = Path(__file__).parents[2]


def stamp() -> str:
    """Return the machine, cores, versions and date of a run."""
    versions = []
    for name in ("yolothreads", "frontrun"):
        try:
            versions.append(f"{name} {release(name)}")
        except PackageNotFoundError:
            versions.append(f"{name} missing")
    machine = f"{platform.system()} on {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    return f"{machine}, {', '.join(versions)}, {date.today()}"


def environment(paths: Iterable[Path]) -> dict[str, str]:
    """Return the environment of a child: pinned packages come first, and nothing is fetched or asked for."""
    own = {
        "PYTHONPATH": os.pathsep.join(map(str, (*paths, ROOT))), "PYTHONHASHSEED": "0", "YOLO_AUTOINSTALL": "false",
        "YOLO_OFFLINE": "true", "NO_ALBUMENTATIONS_UPDATE": "1",
    }  # fmt: skip
    return {**os.environ, **own}


def run_child(command: Sequence[str], asked: Result, paths: Iterable[Path], limit_s: float) -> Result:
    """Run a child, which gets the name of a file for its results as one more argument; return the last of them.

    A child that does not end within the limit is ended: that is a result too, with what it had found.
    """
    with tempfile.TemporaryDirectory() as folder:
        file, errors = Path(folder, "results"), Path(folder, "errors")
        file.touch()
        ended, began = "", perf_counter()
        with errors.open("w") as stderr:
            try:
                subprocess.run(
                    [*command, str(file)], cwd=ROOT, env=environment(paths), stdin=subprocess.DEVNULL,
                    stdout=stderr, stderr=stderr, timeout=limit_s, check=False,
                )  # fmt: skip
            except subprocess.TimeoutExpired:
                ended = f"it did not end within {limit_s:.0f} s"
        lines = file.read_text("utf-8").splitlines()
        last = (errors.read_text("utf-8", "replace").strip().splitlines() or ["it printed nothing"])[-1]
    found = Result(**json.loads(lines[-1])) if lines else replace(asked, says=FAILED, note=last[:160])
    took = replace(found, seconds=perf_counter() - began)
    return replace(took, says=HUNG, note=ended) if ended else found


def run_all(
    bugs: Iterable[Bug],
    tools: Sequence[str],
    results: Results,
    *,
    cache: Path,
    budget_s: float,
    limit_s: float,
    again: bool = False,
    say: Callable[[str], object] = print,
) -> None:
    """Run what is not known yet, or everything `again`, and keep each result at once."""
    for bug in bugs:
        for version in bug.packages:
            for tool in tools:
                if results.get(bug.name, version, tool) is not None and not again:
                    continue
                asked = Result(bug.name, version, tool, FAILED, stamp=stamp())
                command = [sys.executable, "-m", "benchmarks.wild.child", bug.name, version, tool, str(budget_s)]
                try:
                    result = run_child(command, asked, folders(bug, version, cache), limit_s)
                except InstallError as error:
                    result = replace(asked, note=str(error))
                results.keep(replace(result, stamp=asked.stamp))
                say(f"{result.key}: {result}{f' [{result.note}]' if result.note else ''}")
