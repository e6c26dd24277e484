"""What a tool said about one version of a bug, and the file that keeps it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

EXPLORER, FRONTRUN = "explorer", "frontrun"
TOOLS = (EXPLORER, FRONTRUN)
SAFE, NOTHING, INCONCLUSIVE, FAILED, HUNG = "SAFE", "nothing found", "inconclusive", "failed", "no end"


@dataclass(frozen=True)
class Result:
    """One run of one tool.

    `says` is the tool's verdict in short; `note` says what limits it, or why the tool failed. `detail` is the first
    bad outcome, `first_s` the seconds until it was found, from the start of the search, and `seconds` those to the end.
    """

    bug: str
    version: str
    tool: str
    says: str
    bad: int = 0
    schedules: int = 0
    first_s: float | None = None
    seconds: float = 0.0
    detail: str = ""
    note: str = ""
    stamp: str = ""

    @property
    def found(self) -> bool:
        """Whether the tool reported a race or a deadlock."""
        return self.bad > 0

    @property
    def key(self) -> str:
        """The name of this run in the file of results."""
        return f"{self.bug}/{self.version}/{self.tool}"

    def __str__(self) -> str:
        took = f"{self.seconds:.2g} s" if self.seconds < 10 else f"{self.seconds:.0f} s"
        if self.found:
            first = "" if self.first_s is None else f"{self.first_s:.2g} / "
            ended = f" ({self.says})" if self.says in (INCONCLUSIVE, HUNG, FAILED) else ""
            return f"{self.bad}/{self.schedules}, {first}{took}{ended}"
        return f"{self.says}{f' {self.schedules}' if self.schedules else ''}, {took}"


class Results:
    """The results so far, kept in a JSON file after each one, so that an interrupted command can be continued."""

    def __init__(self, file: Path):
        self.file = file
        known: dict[str, dict[str, Any]] = json.loads(file.read_text("utf-8")) if file.exists() else {}
        self.by_key = {key: Result(**fields) for key, fields in known.items()}

    def get(self, bug: str, version: str, tool: str) -> Result | None:
        """Return the result of one run, or None if it is not known."""
        return self.by_key.get(f"{bug}/{version}/{tool}")

    def keep(self, result: Result) -> None:
        """Add or replace one result, and write the file."""
        self.by_key[result.key] = result
        part = self.file.with_name(f"{self.file.name}.part")
        part.write_text(
            json.dumps({key: asdict(r) for key, r in sorted(self.by_key.items())}, indent=1) + "\n", "utf-8"
        )
        part.replace(self.file)

    def of(self, bugs: Iterable[str]) -> list[Result]:
        """Return the results of some bugs."""
        return [r for r in self.by_key.values() if r.bug in set(bugs)]
