"""The data of an exploration: trials, the kinds of their outcomes, and the places in the source that they name."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

RIGHT, WRONG, EXCEPTION, DEADLOCK = "as sequential", "wrong result", "exception", "deadlock"
# The kinds of outcome of a trial, each with its meaning.
KINDS = {
    RIGHT: "some sequential order of the bodies gives the same",
    WRONG: "no sequential order of the bodies gives this, and nothing was raised",
    EXCEPTION: "a body raised an exception that it raises in no sequential order",
    DEADLOCK: "no thread could continue, or the bodies did not end",
}


class Where(NamedTuple):
    """A place in the source: the line that is about to run."""

    file: str
    function: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{Path(self.file).name}:{self.line} in {self.function}: {self.text}"


class Timeout(NamedTuple):
    """A wait with a time-out: the place in words, its seconds, and whether it may pass at any time.

    A longer one only keeps a program from hanging: it passes where nobody else can go on.
    """

    place: str
    seconds: float
    is_choice: bool

    def __str__(self) -> str:
        how = "at any time" if self.is_choice else "only where nobody else can go on"
        return f"{self.seconds:.3g} s, passes {how}: {self.place}"


@dataclass(frozen=True)
class Outcome:
    """One row of the table: how many schedules had this kind of outcome, their share, and one of them to replay."""

    kind: str
    count: int
    share: float
    example: str


class Step(NamedTuple):
    """One watched line that a thread ran.

    `inspected` is the value that `inspect` returned just before, at `at_s` (seconds of `perf_counter`); `waits` names
    the threads that were waiting then.
    """

    thread: str
    where: Where
    inspected: Any = None
    at_s: float = 0.0
    waits: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Trial:
    """One schedule and its outcome.

    `where` is the line before which the (last) thread was stopped. `results` are the results of the bodies, or their
    exceptions. Three fields are filled by `replay` only: `steps`, `ended_s` (the end of the run, in seconds of
    `perf_counter`), and `waits`, the threads that were waiting at the end if no thread could continue.
    """

    schedule: str
    kind: str
    detail: str
    where: Where
    results: tuple[Any, ...] = field(default=(), repr=False)
    switches: tuple[Where, ...] = ()
    steps: tuple[Step, ...] = field(default=(), repr=False)
    ended_s: float = 0.0
    waits: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}\n  stopped before {self.where}\n  schedule: {self.schedule}"
