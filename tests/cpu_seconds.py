"""Counts the CPU seconds of the tests in each folder and writes them to build/cpu_seconds.txt.

The seconds are user and system time of the test process and of every child that it has waited for. The cost of a
fixture counts for the test that sets it up or tears it down.
"""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
FILE = ROOT / "build" / "cpu_seconds.txt"
START = "start and collection"


def used() -> float:
    """Return the CPU seconds of this process and of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


class CpuSeconds:
    """Pytest plugin: sums up by folder, in each worker of pytest-xdist, and writes one table."""

    def __init__(self) -> None:
        self.totals: Counter[str] = Counter()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        before = used()
        if not self.totals:
            self.totals[START] = before
        result = yield
        parts = item.path.relative_to(ROOT).parts
        self.totals["/".join(parts[:2])] += used() - before
        return result

    def pytest_testnodedown(self, node: Any, error: object) -> None:
        self.totals.update(getattr(node, "workeroutput", {}).get("cpu_seconds", {}))

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        output = getattr(session.config, "workeroutput", None)
        if output is not None:
            output["cpu_seconds"] = dict(self.totals)
        elif self.totals:
            lines = [f"{seconds:8.1f}  {group}" for group, seconds in self.totals.most_common()]
            lines.append(f"{sum(self.totals.values()):8.1f}  all")
            FILE.parent.mkdir(exist_ok=True)
            FILE.write_text("CPU seconds, user and system, with children\n" + "\n".join(lines) + "\n")
