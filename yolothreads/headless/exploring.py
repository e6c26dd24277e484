"""`yolothreads explore`: the explorer from a shell, on functions that are named `module:function`."""

from __future__ import annotations

import argparse
import importlib
import sys
import traceback
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from yolothreads.detections import explore, replayed
from yolothreads.errors import ArgumentError, ExploreError, YoloThreadsError
from yolothreads.races import Drawing, Exploration

SAFE, BAD, UNPROVED = 0, 1, 3

EXIT_CODES = (
    "Exit codes: 0: every schedule within the bound was run, and each gave the result of some sequential order. 1: one "
    "gave another result. 2: the arguments make no sense, or nothing could be run. 3: nothing bad was found, but not "
    "everything was seen. With --schedule, 0 and 1 are about that schedule alone."
)
_FUNCTIONS = ("setup", "observe", "same", "restore")
_OPTIONS = ("preemptions", "granularity", "budget_s", "strategy", "seed", "depth", "runs")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.epilog = EXIT_CODES
    function: dict[str, Any] = {"metavar": "MODULE:FUNCTION"}
    number: dict[str, Any] = {"metavar": "N", "type": int}
    add = parser.add_argument
    add("bodies", nargs="+", help="two or more functions, such as shop.cart:Cart.add", **function)
    add("--setup", help="makes the state that each function is called with; a class will do", **function)
    add("--observe", help="state -> a value, which is compared too", **function)
    add("--same", help="(a, b) -> whether two results are equal", **function)
    add("--restore", help="state -> anything; brings it back to what --setup made", **function)
    text = "a module, package, class or function whose lines are switch points; may be repeated"
    add("--watch", action="append", metavar="MODULE[:NAME]", help=text)
    add("--preemptions", help="how often a thread may be stopped that could have gone on (1)", **number)
    add("--granularity", metavar="WHERE", help="where it may be stopped: auto, line or instruction (auto)")
    text = "waits with a time-out of at most so many seconds may end at any time (1); inf for all"
    add("--timeouts", dest="timeouts_s", type=float, metavar="S", help=text)
    add("--budget", dest="budget_s", type=float, metavar="S", help="seconds after which no schedule begins (60)")
    add("--strategy", metavar="NAME", help="exhaustive, or random for runs with random priorities (exhaustive)")
    add("--seed", help="of the order of the schedules, and of random priorities (0)", **number)
    add("--depth", help="random: the number of ordering constraints that a bug may need (3)", **number)
    add("--runs", help="random: the number of runs (1000)", **number)
    add("--schedule", metavar="SCHEDULE", help="replay this schedule instead, as it was printed")
    add("--page", metavar="FILE", help="write the first bad schedule, or that of --schedule, as a page to step through")


@dataclass(frozen=True)
class Explored:
    """What the command found, as text and as JSON can hold it."""

    found: Exploration
    is_replay: bool

    @property
    def code(self) -> int:
        """The exit code."""
        if self.found.forbidden:
            return BAD
        return SAFE if self.is_replay or self.found.safe else UNPROVED

    def __str__(self) -> str:
        if self.is_replay:
            return str(Drawing(self.found.trials[0]))
        return "\n".join([str(self.found), *self.found.blame()])

    def to_dict(self) -> dict[str, Any]:
        """Return the verdict, the table, the lines to blame and a schedule to replay, or the steps of a replay."""
        found, trials = self.found, self.found.forbidden or self.found.trials
        first = {"schedule": trials[0].schedule, "kind": trials[0].kind, "detail": trials[0].detail} if trials else {}
        if self.is_replay:
            lines = [line for line, _ in groupby((step.thread, step.where) for step in trials[0].steps)]
            return {**first, "steps": [{"thread": thread, **where._asdict()} for thread, where in lines]}
        return {
            "verdict": found.verdict, "safe": found.safe, "exhausted": found.exhausted, "schedules": found.schedules,
            "total": found.total, "run": found.run, "seconds": round(found.seconds, 3), "outcomes": found.to_dicts(),
            "first": first, "lines": [place._asdict() for place in found.source_map().worst()],
            "remarks": found.remarks(),
        }  # fmt: skip


def run(args: argparse.Namespace) -> Explored:
    """Explore what the arguments name, or replay their schedule.

    Raises:
        ArgumentError: a name leads to nothing.
        ExploreError: as for `explore` and `replay`.
    """
    bodies, options = _given(args)
    try:
        if args.schedule is not None:
            return Explored(replayed(args.schedule, *bodies, **options), is_replay=True)
        options |= {name: value for name in _OPTIONS if (value := getattr(args, name)) is not None}
        return Explored(explore(*bodies, **options), is_replay=False)
    except YoloThreadsError:
        raise
    except Exception as error:  # of --setup, for example
        at = traceback.extract_tb(error.__traceback__)[-1]
        what = f"{type(error).__name__}: {error}, raised at {at.filename}:{at.lineno} in {at.name}"
        raise ExploreError(f"Nothing could be explored ({what}); correct that first.") from error


def _given(args: argparse.Namespace) -> tuple[list[Any], dict[str, Any]]:
    """Return the bodies, and those arguments that `explore` and `replay` share."""
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)  # as `python -m` does
    options = {name: _function(text) for name in _FUNCTIONS if (text := getattr(args, name)) is not None}
    if args.timeouts_s is not None:
        options["timeouts_s"] = args.timeouts_s
    if args.watch:
        options["watch"] = [_thing(name) if ":" in name else name for name in args.watch]
    return [_function(name) for name in args.bodies], options


def _function(name: str) -> Any:
    found = _thing(name)
    if not callable(found):
        raise ArgumentError(f'"{name}" is not a function but {type(found).__name__}; name a function or a class.')
    return found


def _thing(name: str) -> Any:
    """Return what "module:name" or "module:Class.name" leads to."""
    module, colon, path = name.partition(":")
    if not colon or not module or not path:
        raise ArgumentError(f'"{name}" names no function; write MODULE:FUNCTION, for example shop.cart:Cart.add.')
    try:
        found: Any = importlib.import_module(module)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise ArgumentError(f'The module of "{name}" could not be imported ({reason}); check it.') from error
    for part in path.split("."):
        if not hasattr(found, part):
            raise ArgumentError(f'"{name}": {getattr(found, "__name__", found)} has no "{part}"; check the spelling.')
        found = getattr(found, part)
    return found
