"""The catalogue of hazards: each is forced, met by chance, and tried against every pool.

CATALOGUE["argument-leak"].forced()        # -> Evidence: its effect on the installed version
CATALOGUE["argument-leak"].natural(60)     # -> Rate: how often it comes by chance
matrix([SharedModel, ModelPerThread])      # -> Matrix: all of that, and every hazard against these pools

attempts   what attempts give and need           sharing        one model that several threads use
catalogue.toml   what each hazard is, in words   surroundings   what separate models share, too
"""
# ruff: noqa: E402

from __future__ import annotations

from yolothreads.errors import need_extra

need_extra("yolothreads.hazards", "pools")  # in a sentence, before an import below fails

import tomllib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from textwrap import fill
from types import MappingProxyType
from typing import Any

from yolothreads.child import ChildError
from yolothreads.devices import cores
from yolothreads.errors import ArgumentError, ExploreError
from yolothreads.hazards import sharing, surroundings
from yolothreads.hazards.attempts import NOT_APPLICABLE, NOT_REPRODUCED, REPRODUCED, Evidence, Try, quiet_ultralytics
from yolothreads.measure import stamp
from yolothreads.pools import POOLS, Pool
from yolothreads.races import RIGHT, WRONG, Rate
from yolothreads.tables import Table

__all__ = [
    "CATALOGUE", "NOT_APPLICABLE", "NOT_REPRODUCED", "REPRODUCED", "Evidence", "Hazard", "Matrix", "Try", "matrix",
]  # fmt: skip

_WIDTH = 14  # of a cell, as text: "not reproduced" fits
_SHARED, _ALL = ("SharedModel",), tuple(pool.__name__ for pool in POOLS)
_TEXTS = tomllib.loads(Path(__file__).with_name("catalogue.toml").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Hazard:
    """One way in which concurrent use of YOLO goes wrong.

    Args:
        symptom, remedy: one sentence each.
        forcing: how it is forced, in words.
        status: "seen" or "seen in part" if it was reproduced, "read" if it is known from the source alone.
        versions: the versions on which it was seen.
        touches: the names of the pools that it can affect.
        force: forces it; None if it is known from the source alone.
        meet: (pool class, seconds) -> its result against that pool; None if it is known from the source alone.
        chance: number of trials -> how often it comes by chance; None if chance plays no part.
        in_child: both attempts run in child processes, so several may run at the same time.
    """

    id: str
    title: str
    symptom: str
    remedy: str
    forcing: str
    status: str = "seen"
    versions: str = "seen on 8.4.190"
    touches: tuple[str, ...] = ()
    force: Callable[[], Evidence] | None = field(default=None, repr=False)
    meet: Callable[[type[Pool], float], Try] | None = field(default=None, repr=False)
    chance: Callable[[int], Rate] | None = field(default=None, repr=False)
    in_child: bool = False

    def forced(self) -> Evidence:
        """Force the hazard on the installed version. The evidence says if it is gone, or could not be tried."""
        if self.force is None:
            return Evidence(False, f"known from the source alone; {self.forcing}", tried="not")
        try:
            with self._quiet():
                return self.force()
        except (AttributeError, ImportError, KeyError, TypeError, ExploreError, OSError, ChildError) as error:
            # Internals of another version look different: that says nothing about the hazard itself.
            return Evidence(False, f"could not be tried here ({type(error).__name__}: {error})", tried="not")

    def natural(self, trials: int = 60) -> Rate | None:
        """Count how often the hazard comes by chance in unforced trials; None if chance plays no part."""
        if self.chance is None:
            return None
        with self._quiet():
            return self.chance(trials)

    def against(self, pool: type[Pool], budget_s: float = 8.0) -> Try:
        """Try the hazard against a pool. Where schedules are explored, that takes about `budget_s` seconds."""
        if self.meet is None:
            return Try(NOT_APPLICABLE, reason=f"known from the source alone; {self.forcing}")
        try:
            with self._quiet():
                return self.meet(pool, budget_s)
        except Exception as error:
            return Try(NOT_APPLICABLE, reason=f"could not be tried ({type(error).__name__}: {error})")

    def _forced(self, tell: Callable[[str], None]) -> Evidence:
        evidence = self.forced()
        tell(f"{self.id}, forced: {evidence.word}")
        return evidence

    def _against(self, pool: type[Pool], budget_s: float, tell: Callable[[str], None]) -> Try:
        tried = self.against(pool, budget_s)
        tell(f"{self.id}, {pool.__name__}: {tried}")
        return tried

    def _quiet(self) -> AbstractContextManager[None]:
        return nullcontext() if self.in_child else quiet_ultralytics()


def _hazard(name: str, **more: Any) -> Hazard:
    return Hazard(name, **_TEXTS[name], **more)


_ENTRIES = (
    _hazard(
        "argument-leak", force=sharing.force_leak, meet=sharing.leak_in, chance=sharing.natural_leak, touches=_SHARED
    ),
    _hazard("first-call", force=sharing.force_first, meet=sharing.first_in, chance=sharing.natural_first),
    _hazard("setup-keys", force=sharing.force_setup, meet=sharing.setup_in),
    _hazard("anchor-cache", force=sharing.force_anchors, meet=sharing.anchors_in, chance=sharing.natural_anchors),
    _hazard("stream-holds-lock", force=sharing.force_stream, meet=sharing.stream_in),
    _hazard("lock-scope", force=sharing.force_scope, meet=sharing.scope_in),
    _hazard("tracker-mix", force=sharing.force_trackers, meet=sharing.trackers_in),
    _hazard(
        "run-directory",
        force=surroundings.force_directory,
        meet=surroundings.directory_in,
        chance=surroundings.natural_directory,
    ),
    _hazard("fork", force=surroundings.force_fork, meet=surroundings.fork_in, in_child=True),
    _hazard("thread-count", force=surroundings.force_threads, meet=surroundings.threads_in),
    _hazard("nms-clock", force=surroundings.force_clock, meet=surroundings.clock_in),
    _hazard("aliasing", force=sharing.force_aliases, meet=sharing.aliases_in),
    _hazard("shutdown", force=surroundings.force_shutdown, meet=surroundings.shutdown_in, in_child=True),
    _hazard("prompts", touches=_SHARED),
    _hazard("cuda-default-stream", touches=(*_SHARED, "ModelsBuiltOutside")),
)
CATALOGUE: Mapping[str, Hazard] = MappingProxyType({hazard.id: hazard for hazard in _ENTRIES})
"""Every hazard known, by id, in the order in which people meet them."""


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

    def to_dict(self) -> dict[str, Any]:
        """Return the machine that it was measured on, and one dict per cell.

        The cell of a forced attempt has no pool, and holds the counts of natural trials.
        """
        cells: list[dict[str, Any]] = [
            {"hazard": hazard, "pool": None, "word": e.word, "reason": e.detail, "schedule": e.schedule}
            | {"natural": dict(self.natural[hazard].counts) if hazard in self.natural else None}
            for hazard, e in self.forced.items()
        ]
        cells += [{"hazard": hazard, "pool": pool, **vars(t)} for (hazard, pool), t in self.tries.items()]
        return {"stamp": self.stamp, "cells": cells}

    def __str__(self) -> str:
        wide = self.table()
        rows = [[row[0], *(fill(cell, _WIDTH) for cell in row[1:])] for row in wide.rows]
        return "\n".join([str(Table(wide.headers, rows, wide.caption)), "", *self.remarks()])

    def _repr_html_(self) -> str:
        return self.table()._repr_html_() + "".join(f"<div>{escape(remark)}</div>" for remark in self.remarks())


def matrix(
    pools: Sequence[type[Pool]] | None = None,
    budget_s: float = 6.0,
    *,
    trials: int = 20,
    hazards: Sequence[str] | None = None,
    progress: Callable[[str], None] | None = None,
) -> Matrix:
    """Force each hazard, count it by chance, then try it against each pool.

    With all hazards and pools it takes about nine minutes on two idle cores.

    Args:
        pools: classes; by default every pool there is.
        budget_s: seconds for each cell in which schedules are explored.
        trials: how many natural trials of each hazard that comes by chance; 0 for none.
        hazards: ids; by default the whole catalogue.
        progress: called with a line of text after each cell, from several threads where attempts run in children.

    Raises:
        ArgumentError: there is no such hazard, or no pool.
    """
    pools = POOLS if pools is None else tuple(pools)
    hazards = tuple(CATALOGUE) if hazards is None else hazards
    if unknown := [name for name in hazards if name not in CATALOGUE]:
        raise ArgumentError(f'There is no hazard "{unknown[0]}"; there are {", ".join(CATALOGUE)}.')
    if not pools or not hazards:
        raise ArgumentError(f"{len(pools)} pools and {len(hazards)} hazards make no matrix; name 1 or more of each.")
    forced: dict[str, Evidence] = {}
    natural: dict[str, Rate] = {}
    tries: dict[tuple[str, str], Try] = {}
    tell = progress or (lambda line: None)
    for hazard in [CATALOGUE[name] for name in hazards]:
        if hazard.in_child:  # such an attempt mostly waits
            with ThreadPoolExecutor(max(2, cores())) as beside:
                evidence = beside.submit(hazard._forced, tell)
                against = list(beside.map(lambda pool, of=hazard: of._against(pool, budget_s, tell), pools))
                forced[hazard.id] = evidence.result()
        else:
            forced[hazard.id] = hazard._forced(tell)
            against = [hazard._against(pool, budget_s, tell) for pool in pools]
        if trials and (counted := hazard.natural(trials)):
            natural[hazard.id] = counted
        tries |= {(hazard.id, pool.__name__): tried for pool, tried in zip(pools, against, strict=True)}
    return Matrix(forced, natural, tries, stamp())
