"""Runs one tool on one version of a bug, in a process of its own that has the pinned packages first on its path.

    python -m benchmarks.wild.child NAME VERSION TOOL BUDGET FILE

Every line of FILE is a result, the last one that of the whole search: so the first finding is kept if the search hangs.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import sys
import warnings
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import asdict, replace
from functools import reduce
from importlib import import_module
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.one_core import on_one_core
from benchmarks.wild import BUGS
from benchmarks.wild.bug import FIXED, Bug, Program
from benchmarks.wild.result import EXPLORER, FAILED, INCONCLUSIVE, NOTHING, SAFE, Result

CUT = 160  # characters of a message
_VERDICTS = {
    "SAFE within": SAFE, "SAFE in ": "SAFE in watch", "SAFE between": "SAFE between lines",
    "NOTHING FOUND": NOTHING, "UNCONTROLLED": "not all controlled",
}  # fmt: skip
Keep = Callable[[Result], None]


def watched(names: tuple[str, ...]) -> list[Any]:
    """Return the modules, and for module:function the functions."""
    found: list[Any] = []
    for name in names:
        module, _, inner = name.partition(":")
        found.append(reduce(getattr, inner.split("."), import_module(module)) if inner else module)
    return found


def explored(bug: Bug, program: Program, result: Result, budget_s: float, keep: Keep) -> Result:
    """Explore with the explorer of this project, with its defaults but for the preemptions."""
    from yolothreads import explore
    from yolothreads.races import RIGHT, Trial

    began, first = perf_counter(), list[float]()

    def on_trial(trial: Trial) -> None:
        if trial.kind != RIGHT and not first:
            first.append(perf_counter() - began)
            keep(replace(result, bad=1, schedules=1, first_s=first[0], detail=_short(trial.detail)))

    found = explore(
        *program.bodies, setup=program.setup, observe=program.observe, watch=watched(bug.watch),
        preemptions=bug.preemptions, budget_s=budget_s, on_trial=on_trial, **bug.options,
    )  # fmt: skip
    bad = found.forbidden
    reasons = [*(f"uncontrolled: {name}" for name in found.uncontrolled), *found.notes]
    return replace(
        result, says="found" if bad else verdict_in_short(found.verdict), bad=len(bad), schedules=found.schedules,
        first_s=first[0] if first else None, seconds=perf_counter() - began,
        detail=_short(bad[0].detail) if bad else "", note=_short("; ".join(reasons)),
    )  # fmt: skip


def verdict_in_short(verdict: str) -> str:
    """Return what a verdict claims, in a few words that claim no more."""
    for head, short in _VERDICTS.items():
        if verdict.startswith(head):
            return short
    return verdict.partition(":")[0]


def explored_by_frontrun(bug: Bug, program: Program, result: Result, budget_s: float, keep: Keep) -> Result:
    """Explore with frontrun: the same bodies, the same bound, right where some sequential order gives the same."""
    import frontrun

    os.environ["FRONTRUN_ACTIVE"] = "1"  # what its launcher sets, which preloads what is switched off here
    box = _Box(program)
    bad: list[str] = []
    began, first = perf_counter(), list[float]()

    def right(state: dict[str, Any]) -> bool:
        outcome = box.outcome(state)
        if outcome in references:
            return True
        bad.append(_short(str(outcome)))
        if not first:
            first.append(perf_counter() - began)
            keep(replace(result, bad=1, schedules=1, first_s=first[0], detail=bad[0]))
        return False

    references = box.references()
    began = perf_counter()
    says, schedules, note = FAILED, 0, ""
    try:
        done = frontrun.explore(
            setup=box.fresh, workers=[box.worker(i) for i in range(len(program.bodies))], invariant=right,
            preemption_bound=bug.preemptions, stop_on_first=False, detect_io=False, reproduce_on_failure=0,
            trace_packages=sorted({name.partition(":")[0].partition(".")[0] for name in bug.watch}),
            total_timeout=budget_s,
        )  # fmt: skip
        says = {True: "holds", False: "found", None: INCONCLUSIVE}[done.property_holds]
        schedules, note = done.num_explored, _short(done.inconclusive_reason or "")
        if says == "found" and not bad:  # a deadlock, which no invariant sees
            bad = [_short(done.explanation or "a failure that is no wrong outcome")] * len(done.failures)
    except Exception as error:
        note = _short(f"{type(error).__name__}: {error}")
    return replace(
        result, says=says, bad=len(bad), schedules=max(schedules, len(bad)), first_s=first[0] if first else None,
        seconds=perf_counter() - began, detail=bad[0] if bad else "", note=note,
    )  # fmt: skip


class _Box:
    """A program in frontrun's terms: the state holds the results too, and an exception of a body is a result."""

    def __init__(self, program: Program):
        self.program = program

    def fresh(self) -> dict[str, Any]:
        state: Any = self.program.setup() if self.program.setup else None
        stack = ExitStack()
        if hasattr(type(state), "__enter__") and not hasattr(state, "acquire"):  # a lock is for the bodies to enter
            state = stack.enter_context(state)
        return {"state": state, "results": [None] * len(self.program.bodies), "leave": stack.close}

    def _call(self, function: Callable[..., Any], box: dict[str, Any]) -> Any:
        try:
            value = function(box["state"]) if self.program.setup else function()
        except BaseException as error:
            if type(error).__module__.startswith("frontrun"):
                raise
            return type(error).__name__, str(error)
        return value

    def worker(self, i: int) -> Callable[[dict[str, Any]], None]:
        def work(box: dict[str, Any]) -> None:
            box["results"][i] = self._call(self.program.bodies[i], box)

        return work

    def outcome(self, box: dict[str, Any]) -> tuple[Any, ...]:
        observed = [self._call(self.program.observe, box)] if self.program.observe else []
        with suppress(Exception):
            box["leave"]()
        return (*box["results"], *observed)

    def references(self) -> list[tuple[Any, ...]]:
        found = []
        for order in itertools.permutations(range(len(self.program.bodies))):
            box = self.fresh()
            for i in order:
                self.worker(i)(box)
            found.append(self.outcome(box))
        return found


def _short(text: str) -> str:
    line = re.sub(r"0x[0-9a-f]{6,}", "0x...", " ".join(text.split()))
    return line if len(line) <= CUT else line[: CUT - 3] + "..."


def main(name: str, version: str, tool: str, budget: str, file: str) -> None:
    """Run, write the results, and leave without waiting for threads that the package left behind."""
    warnings.simplefilter("ignore")
    bug, result = BUGS[name], Result(name, version, tool, FAILED)
    out = Path(file).open("a", encoding="utf-8")  # noqa: SIM115 - the process ends with it

    def keep(result: Result) -> None:
        out.write(json.dumps(asdict(result)) + "\n")
        out.flush()

    try:
        run = explored if tool == EXPLORER else explored_by_frontrun
        with on_one_core():
            keep(run(bug, bug.make(version == FIXED), result, float(budget), keep))
    except BaseException as error:
        keep(replace(result, note=_short(f"{type(error).__name__}: {error}")))
    with suppress(Exception):
        sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
