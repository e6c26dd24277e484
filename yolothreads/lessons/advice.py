"""Advice on the choice of a pool: compares what was measured on this machine with what is needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

from yolothreads.errors import ArgumentError, at_least_one
from yolothreads.measure import Comparison, Measurement
from yolothreads.tables import Table

_NOISE = 0.05  # pools whose results differ by less than this share count as equal: it changes from run to run
_FOR_SEVERAL_MACHINES = "RayActors"


@dataclass(frozen=True)
class Needs:
    """The needs of an application.

    Args:
        images_at_once: how many images are processed at the same time, 1 or more.
        memory_mb: how much the workers together may add to a process that has one model; None for no limit.
        goal: "throughput" (images per second) or "latency" (milliseconds within which 99 of 100 callers are served).
        gpu: whether it runs on a GPU.
        machines: the number of machines, 1 or more.
    """

    images_at_once: int = 2
    memory_mb: float | None = None
    goal: Literal["throughput", "latency"] = "throughput"
    gpu: bool = False
    machines: int = 1

    def __post_init__(self) -> None:
        at_least_one("images_at_once", self.images_at_once)
        at_least_one("machines", self.machines)
        if self.goal not in ("throughput", "latency"):
            raise ArgumentError(f'goal="{self.goal}" is unknown; use "throughput" or "latency".')
        if self.memory_mb is not None and self.memory_mb <= 0:
            raise ArgumentError(f"memory_mb={self.memory_mb} is not a limit; give a number above 0, or None.")


@dataclass(frozen=True, repr=False)
class Advice:
    """The recommended pool ("" if none meets the needs), the reason, and what speaks against each other pool."""

    pool: str
    reason: str
    table: Table
    cautions: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n".join([self.reason, *self.cautions, str(self.table)])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        cautions = "".join(f"<p>{escape(caution)}</p>" for caution in self.cautions)
        return f"<p><strong>{escape(self.reason)}</strong></p>{cautions}{self.table._repr_html_()}"


def recommend(needs: Needs, measured: Comparison) -> Advice:
    """Recommend one of the pools that were measured.

    A pool is left out if it gave wrong results or errors, if it cannot use several machines where they are wanted, or
    if it needs too much memory. The best of the others by `needs.goal` wins. Pools within 5 % of the best one count as
    equal, because so small a difference is noise; of these, the pool that needs the least memory wins.

    Args:
        needs: what the application needs.
        measured: a comparison of pools; made with `memory=True` if memory is limited.

    Raises:
        ArgumentError: memory is limited but was not measured.
    """
    pools = [m for m in measured if m.judged]
    if needs.memory_mb is not None and all(m.memory is None for m in pools):
        raise ArgumentError("The memory is limited but was not measured; compare the pools with memory=True.")
    objections = {m.pool: _objection(m, needs) for m in pools}
    cautions = _cautions(needs, measured.stamp)
    fit = sorted((m for m in pools if not objections[m.pool]), key=lambda m: -_score(m, needs))
    if not fit:
        reason = (
            "None of the pools measured here meets all needs; allow more memory or fewer images at once, or measure "
            "RayActors for several machines."
        )
        return Advice("", reason, _table(measured, objections, "", needs), cautions)
    equal = [m for m in fit if _score(m, needs) >= (1 - _NOISE) * _score(fit[0], needs)]
    chosen = min(equal, key=lambda m: _memory_mb(m, needs) or 0.0)
    return Advice(
        chosen.pool, _reason(chosen, fit, equal, needs), _table(measured, objections, chosen.pool, needs), cautions
    )


def _objection(m: Measurement, needs: Needs) -> str:
    """Return why a pool does not meet the needs, or "" if it does."""
    if m.wrong or m.errors:
        return f"{m.wrong} wrong results and {m.errors} errors here"
    if needs.machines > 1 and m.pool != _FOR_SEVERAL_MACHINES:
        return "stays on one machine"
    if needs.memory_mb is not None:
        used_mb = _memory_mb(m, needs)
        if used_mb is None:
            return "memory not measured"
        if used_mb > needs.memory_mb:
            return f"needs {used_mb:.0f} MB"
    return ""


def _score(m: Measurement, needs: Needs) -> float:
    """Return a number that is higher for a better pool: images per second, or the inverse of the latency."""
    if needs.goal == "throughput":
        return m.images_per_s.median
    return 1 / m.latency_p99_ms if m.latency_p99_ms else 0.0


def _memory_mb(m: Measurement, needs: Needs) -> float | None:
    """Return the MB for `images_at_once` images. Each needs its own worker, unless one worker serves all."""
    if m.memory is None:
        return None
    return m.memory.worked_mb if m.workers == 1 else m.memory.worked_mb / m.workers * needs.images_at_once


def _result(m: Measurement, needs: Needs) -> str:
    return f"{m.images_per_s.median:.1f} images/s" if needs.goal == "throughput" else f"{m.latency_p99_ms:.0f} ms (p99)"


def _reason(chosen: Measurement, fit: Sequence[Measurement], equal: Sequence[Measurement], needs: Needs) -> str:
    used_mb = _memory_mb(chosen, needs)
    sentences = [f"Take {chosen.pool}: all {chosen.right} results were right, with {_result(chosen, needs)}."]
    if used_mb is not None:
        sentences.append(f"It needs {used_mb:.0f} MB for {needs.images_at_once} images at once.")
    others = [m for m in fit if m is not chosen]
    if len(equal) > 1:
        names = ", ".join(m.pool for m in equal if m is not chosen)
        sentences.append(f"The difference to {names} is noise.")
        if used_mb is not None:
            sentences.append(f"Of these, {chosen.pool} needs the least memory.")
    elif others:
        sentences.append(f"The next best is {others[0].pool} with {_result(others[0], needs)}.")
    return " ".join(sentences)


def _cautions(needs: Needs, stamp: str) -> tuple[str, ...]:
    cautions, on_gpu = [], stamp.startswith("cuda")
    if needs.gpu and not on_gpu:
        cautions.append("These figures are not from a GPU. Measure there before you decide: batches gain most on it.")
    if on_gpu and not needs.gpu:
        cautions.append("These figures are from a GPU. Measure on the CPU before you decide.")
    if needs.machines > 1:
        cautions.append("Only one machine was measured. These figures do not include the cost of the network.")
    return tuple(cautions)


def _table(measured: Comparison, objections: dict[str, str], chosen: str, needs: Needs) -> Table:
    rows = []
    pools = [m for m in measured if m.judged]
    for m in sorted(pools, key=lambda m: (bool(objections[m.pool]), -_score(m, needs))):
        used_mb = _memory_mb(m, needs)
        advice = "chosen" if m.pool == chosen else objections[m.pool] or "meets the needs"
        latency = "-" if m.latency_p99_ms is None else f"{m.latency_p99_ms:.0f}"
        rows.append((m.pool, advice, str(m.images_per_s), latency, "-" if used_mb is None else f"{used_mb:.0f}"))
    headers = ("pool", "advice", "images/s (range)", "p99 ms", f"MB for {needs.images_at_once} at once")
    return Table(headers, rows, measured.stamp)
