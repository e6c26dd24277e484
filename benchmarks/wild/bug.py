"""One publicly reported thread race in a real package, and the pinned versions that have it and do not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

BUGGY, FIXED, REPAIRED = "buggy", "fixed", "repaired"


class Program:
    """Functions that race with each other, and what they start from; made in a child process that has the package.

    Args:
        *bodies: functions of the state, or without arguments if there is no `setup`.
        setup: makes fresh state.
        observe: state -> value, looked at after the bodies have ended.
    """

    def __init__(
        self,
        *bodies: Callable[..., Any],
        setup: Callable[[], Any] | None = None,
        observe: Callable[[Any], Any] | None = None,
    ):
        self.bodies, self.setup, self.observe = bodies, setup, observe


@dataclass(frozen=True)
class Bug:
    """A race, its report, and the packages to run it with.

    Each set of packages is a string of exact pins, the package of the bug first. `repair` is the name of a patch in
    `benchmarks/wild/repairs`, applied to a copy of the first package of `repaired`.
    """

    name: str
    report: str  # its address, or where it is described
    make: Callable[[bool], Program]  # whether the version is the fixed one -> the program
    watch: tuple[str, ...]  # modules, packages, or module:function
    packages: dict[str, str]
    preemptions: int = 1
    repair: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)  # further ones of explore()

    @property
    def what(self) -> str:
        """The bug in a sentence or two."""
        return " ".join((self.make.__doc__ or "").split())

    def pins(self, version: str) -> list[str]:
        """Return the exact pins of a version, the package of the bug first."""
        return self.packages[version].split()

    def release(self, version: str) -> str:
        """Return the release in which a version has the bug, or has it no more; "" for a module of Python's."""
        first, *_ = (*self.pins(version), "")
        return first.partition("==")[2]


class Registry:
    """The bugs of one module, in the order of its source."""

    def __init__(self) -> None:
        self.bugs: dict[str, Bug] = {}

    def bug(
        self,
        report: str,
        *,
        watch: str,
        buggy: str,
        fixed: str | None = None,
        repaired: str = "",
        repair: str = "",
        preemptions: int = 1,
        **options: Any,
    ) -> Callable[[Callable[[bool], Program]], Callable[[bool], Program]]:
        """Register the decorated function, which makes the program; its docstring tells the bug.

        `options` are further ones of `explore`.
        """
        packages = {BUGGY: buggy}
        if fixed is not None:
            packages[FIXED] = fixed
        if repaired:
            packages[REPAIRED] = repaired

        def register(make: Callable[[bool], Program]) -> Callable[[bool], Program]:
            name = make.__name__.strip("_")
            self.bugs[name] = Bug(name, report, make, tuple(watch.split()), packages, preemptions, repair, options)
            return make

        return register
