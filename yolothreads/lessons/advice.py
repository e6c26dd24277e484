"""Advice on the choice of a pool: compares what was measured on this machine with what is needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal, NamedTuple

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

    def __repr__(self) -> str:
        return "\n".join([self.reason, *self.cautions, str(self.table)])

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
    pools = sorted(
        (_rate(m, needs) for m in measured if m.judged), key=lambda pool: (bool(pool.objection), -pool.score)
    )
    if needs.memory_mb is not None and all(pool.used_mb is None for pool in pools):
        raise ArgumentError("The memory is limited but was not measured; compare the pools with memory=True.")
    fit = [pool for pool in pools if not pool.objection]
    chosen, reason = "", "No pool measured here meets all needs; allow more memory, or fewer images at once."
    if needs.machines > 1 and _FOR_SEVERAL_MACHINES not in (pool.name for pool in pools):
        reason = f"Only {_FOR_SEVERAL_MACHINES} uses several machines, and it was not measured here; measure it, too."
    if fit:
        equal = [pool for pool in fit if pool.score >= (1 - _NOISE) * fit[0].score]
        best = min(equal, key=lambda pool: pool.used_mb or 0.0)
        chosen, reason = best.name, _reason(best, fit, equal, needs)
    rows = []
    for pool in pools:
        advice = "chosen" if pool.name == chosen else pool.objection or "meets the needs"
        p99_ms, used_mb = ("-" if x is None else f"{x:.0f}" for x in (pool.measured.latency_p99_ms, pool.used_mb))
        rows.append((pool.name, advice, str(pool.measured.images_per_s), p99_ms, used_mb))
    headers = ("pool", "advice", "images/s (range)", "p99 ms", f"MB for {needs.images_at_once} at once")
    return Advice(chosen, reason, Table(headers, rows, measured.stamp), _cautions(needs, measured.stamp))


class _Rated(NamedTuple):
    """A measured pool, rated for some needs.

    `objection` is the reason against it, or "". A better pool has a higher `score`: images per second, or the inverse
    of the latency. `result` is the score in words. `used_mb` is for `images_at_once` images.
    """

    name: str
    measured: Measurement
    objection: str
    score: float
    result: str
    used_mb: float | None


def _rate(m: Measurement, needs: Needs) -> _Rated:
    used_mb, limit_mb, objection = None, needs.memory_mb, ""
    if m.memory is not None:  # each image needs its own worker, unless one worker serves all
        used_mb = m.memory.worked_mb if m.workers == 1 else m.memory.worked_mb / m.workers * needs.images_at_once
    if m.wrong or m.errors:
        objection = f"{m.wrong} wrong results and {m.errors} errors here"
    elif needs.machines > 1 and m.pool != _FOR_SEVERAL_MACHINES:
        objection = "stays on one machine"
    elif limit_mb is not None and (used_mb is None or used_mb > limit_mb):
        objection = "memory not measured" if used_mb is None else f"needs {used_mb:.0f} MB"
    score, result = m.images_per_s.median, f"{m.images_per_s.median:.1f} images/s"
    if needs.goal == "latency":
        score, result = (1 / m.latency_p99_ms, f"{m.latency_p99_ms:.0f} ms (p99)") if m.latency_p99_ms else (0.0, "-")
    return _Rated(m.pool, m, objection, score, result, used_mb)


def _reason(best: _Rated, fit: Sequence[_Rated], equal: Sequence[_Rated], needs: Needs) -> str:
    sentences = [f"Take {best.name}: all {best.measured.right} results were right, with {best.result}."]
    if best.used_mb is not None:
        sentences.append(f"It needs {best.used_mb:.0f} MB for {needs.images_at_once} images at once.")
    if len(equal) > 1:
        names = ", ".join(pool.name for pool in equal if pool is not best)
        sentences.append(f"The difference to {names} is noise.")
        if best.used_mb is not None:
            sentences.append(f"Of these, {best.name} needs the least memory.")
    elif len(fit) > 1:  # the best one stands first
        sentences.append(f"The next best is {fit[1].name} with {fit[1].result}.")
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
