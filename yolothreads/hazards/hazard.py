"""Hazards, the evidence for them, what they do to a pool, and the matrix of all hazards and pools."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from html import escape
from textwrap import fill
from typing import Any, Literal

from yolothreads.child import ChildError
from yolothreads.devices import cores
from yolothreads.errors import ExploreError
from yolothreads.hazards.fixtures import quiet_ultralytics
from yolothreads.measure import stamp
from yolothreads.pools import Pool
from yolothreads.races import RIGHT, WRONG, Exploration, Rate
from yolothreads.tables import Table

REPRODUCED, NOT_REPRODUCED, NOT_APPLICABLE = "reproduced", "not reproduced", "not applicable"
_WORDS = {"fully": "gone here", "in part": "not found so far", "not": "not tried"}
_WIDTH = 14  # of a cell, as text: "not reproduced" fits


@dataclass(frozen=True)
class Evidence:
    """Result of one forced attempt on the installed version of ultralytics.

    `schedule` is a string for `replay`, or empty. `tried` is "in part" if the time ended before every schedule was run,
    and "not" if the attempt was not possible: then nothing is known.
    """

    reproduced: bool
    detail: str
    schedule: str = ""
    tried: Literal["fully", "in part", "not"] = "fully"

    @property
    def word(self) -> str:
        """The verdict: reproduced, gone here, not found so far, or not tried."""
        return REPRODUCED if self.reproduced else _WORDS[self.tried]

    def __str__(self) -> str:
        import ultralytics

        return f"{self.word} (ultralytics {ultralytics.__version__}): {self.detail}"


@dataclass(frozen=True)
class Try:
    """Result of one hazard against one pool: `bad` of `count` schedules (out of `total`) or trials."""

    word: str
    bad: int = 0
    count: int = 0
    unit: str = "trial"
    total: int = 0
    reason: str = ""

    def __str__(self) -> str:
        if self.word == NOT_APPLICABLE:
            return self.word
        if self.word == REPRODUCED:
            return f"{self.word} ({self.bad} of {self.count} {self.unit}{'s' * (self.count > 1)})"
        of = f" of {self.total}" if self.total > self.count else ""
        return f"{self.word} within {self.count}{of} {self.unit}{'s' * (self.count > 1)}"

    @classmethod
    def of(cls, bad: int, count: int, reason: str = "") -> Try:
        """Make it from the number of bad trials among `count`, with a reason."""
        return cls(REPRODUCED if bad else NOT_REPRODUCED, bad, count, reason=reason)

    @classmethod
    def of_found(cls, found: Exploration) -> Try:
        """Make it from an exploration."""
        bad = len(found.forbidden)
        reason = f"{found.forbidden[0].detail} before {found.forbidden[0].where}" if bad else ""
        if not bad and found.uncontrolled:
            reason = f"not controlled: {', '.join(found.uncontrolled)}"
        return cls(REPRODUCED if bad else NOT_REPRODUCED, bad, found.schedules, "schedule", found.total, reason)


@dataclass(frozen=True)
class Hazard:
    """One way in which concurrent use of YOLO goes wrong.

    Args:
        status: "seen" or "seen in part" if it was reproduced, "read" if it is known from the source alone.
        symptom, remedy: one sentence each.
        forcing: how it is forced, in words.
        touches: the names of the pools that it can affect.
        versions: the versions on which it was seen.
        force: forces it; None if it is known from the source alone.
        meet: (pool class, seconds) -> its result against that pool; None if it is known from the source alone.
        chance: number of trials -> how often it comes by chance; None if chance plays no part.
        in_child: both attempts run in child processes, so several may run at the same time.
    """

    id: str
    title: str
    status: str
    symptom: str
    remedy: str
    forcing: str
    touches: tuple[str, ...]
    versions: str = "seen on 8.4.190"
    force: Callable[[], Evidence] | None = field(default=None, repr=False)
    meet: Callable[[type[Pool], float], Try] | None = field(default=None, repr=False)
    chance: Callable[[int], Rate] | None = field(default=None, repr=False)
    in_child: bool = False

    def forced(self) -> Evidence:
        """Force the hazard on the installed version. The evidence says if it is gone, or could not be tried."""
        if self.force is None:
            return Evidence(False, f"known from the source alone; {self.forcing}", tried="not")
        try:
            with nullcontext() if self.in_child else quiet_ultralytics():
                return self.force()
        except (AttributeError, ImportError, KeyError, TypeError, ExploreError, OSError, ChildError) as error:
            # Internals of another version look different: that says nothing about the hazard itself.
            return Evidence(False, f"could not be tried here ({type(error).__name__}: {error})", tried="not")

    def natural(self, trials: int = 60) -> Rate | None:
        """Count how often the hazard comes by chance in unforced trials; None if chance plays no part."""
        if self.chance is None:
            return None
        with quiet_ultralytics():
            return self.chance(trials)

    def against(self, pool: type[Pool], budget_s: float = 5.0) -> Try:
        """Try the hazard against a pool. Where schedules are explored, that takes about `budget_s` seconds."""
        if self.meet is None:
            return Try(NOT_APPLICABLE, reason=f"known from the source alone; {self.forcing}")
        try:
            with nullcontext() if self.in_child else quiet_ultralytics():
                return self.meet(pool, budget_s)
        except Exception as error:
            return Try(NOT_APPLICABLE, reason=f"could not be tried ({type(error).__name__}: {error})")


def evidence_of(found: Exploration) -> Evidence:
    """Return the evidence that an exploration gives."""
    if not found.forbidden:
        return Evidence(False, found.verdict, tried="fully" if found.safe else "in part")
    bad = found.forbidden[0]
    share = f"{len(found.forbidden)} of {found.schedules} schedules"
    detail = bad.detail.splitlines()[0]
    return Evidence(True, f"{share}; first: {bad.kind}, {detail}, stopped before {bad.where}", bad.schedule)


@dataclass(frozen=True)
class Matrix:
    """Results of hazards when forced, by chance, and against each pool: a table with the reasons below it."""

    forced: Mapping[str, Evidence]
    natural: Mapping[str, Rate]
    tries: Mapping[tuple[str, str], Try]  # by hazard and pool
    stamp: str

    def table(self) -> Table:
        """Return one row per hazard, with one column per pool."""
        pools = list(dict.fromkeys(pool for _, pool in self.tries))
        rows = [
            [hazard, evidence.word, *[str(self.tries[hazard, pool]) for pool in pools]]
            for hazard, evidence in self.forced.items()
        ]
        return Table(["hazard", "forced", *pools], rows, self.stamp)

    def remarks(self) -> list[str]:
        """Return what was forced, and for each hazard what was seen in a pool, or why it does not apply there."""
        said = []
        for hazard, evidence in self.forced.items():
            said.append(f"{hazard}, forced: {evidence}")
            if hazard in self.natural:
                seen = [kind for kind in self.natural[hazard].counts if kind != RIGHT] or [WRONG]
                said.append(f"{hazard}, by chance: {', '.join(map(self.natural[hazard].describe, seen))}")
            reasons: dict[str, list[str]] = {}
            for (of, pool), tried in self.tries.items():
                if of == hazard and tried.reason:
                    reasons.setdefault(f"{tried.word}: {tried.reason}", []).append(pool)
            said += [f"{hazard}, {', '.join(pools)}: {reason}" for reason, pools in reasons.items()]
        return said

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return one dict per cell. That of the forced attempt has no pool, and holds the counts of natural trials."""
        cells: list[dict[str, Any]] = [
            {"hazard": hazard, "pool": None, "word": e.word, "reason": e.detail, "schedule": e.schedule}
            | {"natural": dict(self.natural[hazard].counts) if hazard in self.natural else None}
            for hazard, e in self.forced.items()
        ]
        return cells + [{"hazard": hazard, "pool": pool, **vars(t)} for (hazard, pool), t in self.tries.items()]

    def to_dict(self) -> dict[str, Any]:
        """Return everything, with the machine that it was measured on."""
        return {"stamp": self.stamp, "cells": self.to_dicts()}

    def __str__(self) -> str:
        wide = self.table()
        rows = [[row[0], *(fill(cell, _WIDTH) for cell in row[1:])] for row in wide.rows]
        return "\n".join([str(Table(wide.headers, rows, wide.caption)), "", *self.remarks()])

    def _repr_html_(self) -> str:
        return self.table()._repr_html_() + "".join(f"<div>{escape(remark)}</div>" for remark in self.remarks())


def run(
    hazards: Sequence[Hazard],
    pools: Sequence[type[Pool]],
    budget_s: float,
    trials: int,
    progress: Callable[[str], None] | None = None,
) -> Matrix:
    """Force each hazard, count it by chance, then try it against each pool; see `yolothreads.hazards.matrix`."""
    forced: dict[str, Evidence] = {}
    natural: dict[str, Rate] = {}
    tries: dict[tuple[str, str], Try] = {}
    for hazard in hazards:
        if hazard.in_child:  # such an attempt mostly waits
            with ThreadPoolExecutor(max(2, cores())) as beside:
                evidence = beside.submit(hazard.forced)
                against = list(beside.map(lambda pool, of=hazard: of.against(pool, budget_s), pools))
                forced[hazard.id] = evidence.result()
        else:
            forced[hazard.id] = hazard.forced()
            against = [hazard.against(pool, budget_s) for pool in pools]
        counted = hazard.natural(trials) if trials else None
        natural.update({} if counted is None else {hazard.id: counted})
        tries.update({(hazard.id, pool.__name__): tried for pool, tried in zip(pools, against, strict=True)})
        if progress is not None:
            progress(f"{hazard.id}: {forced[hazard.id].word}")
    return Matrix(forced, natural, tries, stamp())
