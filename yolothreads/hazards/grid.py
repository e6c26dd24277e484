"""Every hazard against every pool, on this machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from html import escape
from textwrap import fill
from typing import Any

from yolothreads.devices import cores
from yolothreads.hazards.entry import Evidence, Hazard, Try
from yolothreads.measure import stamp
from yolothreads.pools import Pool
from yolothreads.races import RIGHT, WRONG, Rate
from yolothreads.tables import Table

_WIDTH = 14  # of a cell, as text: "not reproduced" fits


@dataclass(frozen=True)
class Matrix:
    """What each hazard did when it was forced, by chance, and to each pool. A table with its reasons below."""

    forced: Mapping[str, Evidence]
    natural: Mapping[str, Rate]
    tries: Mapping[tuple[str, str], Try]  # by hazard and pool
    stamp: str

    def table(self) -> Table:
        """One row a hazard, one column a pool."""
        pools = list(dict.fromkeys(pool for _, pool in self.tries))
        rows = [
            [hazard, evidence.word, *[str(self.tries[hazard, pool]) for pool in pools]]
            for hazard, evidence in self.forced.items()
        ]
        return Table(["hazard", "forced", *pools], rows, self.stamp)

    def remarks(self) -> list[str]:
        """What was forced, and for each hazard why it does not apply to a pool, or what was seen there."""
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
        """One dict a cell; the forced try has no pool, and holds the counts of the natural trials."""
        cells: list[dict[str, Any]] = [
            {"hazard": hazard, "pool": None, "word": e.word, "reason": e.detail, "schedule": e.schedule}
            | {"natural": dict(self.natural[hazard].counts) if hazard in self.natural else None}
            for hazard, e in self.forced.items()
        ]
        return cells + [{"hazard": hazard, "pool": pool, **vars(t)} for (hazard, pool), t in self.tries.items()]

    def to_dict(self) -> dict[str, Any]:
        """Everything, with the machine it was measured on."""
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
    """Force each hazard, meet it by chance, then try it against each pool; see `yolothreads.hazards.matrix`."""
    forced: dict[str, Evidence] = {}
    natural: dict[str, Rate] = {}
    tries: dict[tuple[str, str], Try] = {}
    for hazard in hazards:
        if hazard.apart:  # such a try mostly waits
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
