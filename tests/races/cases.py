"""Cases for the tests of the explorer that also run on other Pythons: each returns what it found, as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from yolothreads.races import RIGHT, Exploration


class Cases:
    """Functions with the value that each has to return; a script that makes them prints the values as JSON."""

    def __init__(self) -> None:
        self.functions: dict[str, Callable[[], Any]] = {}
        self.expected: dict[str, Any] = {}

    def gives(self, expected: Any) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
        """Register the decorated function, which has to return `expected`."""

        def register(function: Callable[[], Any]) -> Callable[[], Any]:
            self.functions[function.__name__] = function
            self.expected[function.__name__] = expected
            return function

        return register

    def main(self) -> None:
        """Print what all functions return."""
        print(json.dumps({name: function() for name, function in self.functions.items()}))


def bad(found: Exploration) -> list[str]:
    """Return kind and detail of the different bad outcomes, sorted."""
    return sorted({f"{t.kind}: {t.detail}".partition("\n")[0] for t in found.trials if t.kind != RIGHT})
