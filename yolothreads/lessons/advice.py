"""Which pool to take: what was measured here, held against what somebody needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

from yolothreads.arguments import at_least_one
from yolothreads.errors import ArgumentError
from yolothreads.measure import Comparison, Measurement
from yolothreads.tables import Table

_NOISE = 0.05  # pools within so much of the best one count as equally good: such differences change from run to run
_ANOTHER_MACHINE = "RayActors"


@dataclass(frozen=True)
class Needs:
    """What somebody needs.

    Args:
        images_at_once: how many images are to be worked on at the same time, 1 or more.
        memory_mb: what the workers together may add to a process that has one model; None for no limit.
        goal: "throughput" (images per second) or "latency" (milliseconds that 99 of 100 callers wait at most).
        gpu: whether it is to run on a GPU.
        machines: how many, 1 or more.
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
            raise ArgumentError(f'goal="{self.goal}" is not known; use "throughput" or "latency".')
        if self.memory_mb is not None and self.memory_mb <= 0:
            raise ArgumentError(f"memory_mb={self.memory_mb} makes no sense; give a number above 0, or None.")


@dataclass(frozen=True, repr=False)
class Advice:
    """The pool to take ("" if none will do), the reason, and what speaks against each other one."""

    pool: str
    reason: str
    table: Table
    cautions: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n".join([self.reason, *self.cautions, str(self.table)])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        said = "".join(f"<p>{escape(caution)}</p>" for caution in self.cautions)
        return f"<p><strong>{escape(self.reason)}</strong></p>{said}{self.table._repr_html_()}"


def recommend(needs: Needs, measured: Comparison) -> Advice:
    """Choose one of the pools that were measured.

    A pool is left out if it gave wrong results or errors, is confined to one machine where several are wanted, or takes
    too much memory. Of the others the best by `needs.goal` wins; of those within 5 % of it, the one that takes least
    memory, because a difference so small is noise.

    Args:
        needs: what is needed.
        measured: a comparison of pools; with `memory=True` if memory is limited.

    Raises:
        ArgumentError: there is a limit of memory, and memory was not measured.
    """
    pools = [m for m in measured if m.judged]
    if needs.memory_mb is not None and all(m.memory is None for m in pools):
        raise ArgumentError("Memory is limited, and was not measured; compare the pools with memory=True.")
    against = {m.pool: _against(m, needs) for m in pools}
    fit = [m for m in pools if not against[m.pool]]
    if not fit:
        reason = "None of the pools measured here meets all of that; allow more memory, or fewer images at once."
        return Advice("", reason, _table(pools, against, "", needs, measured), _cautions(needs, measured))
    best = max(_merit(m, needs) for m in fit)
    near = [m for m in fit if _merit(m, needs) >= (1 - _NOISE) * best]
    chosen = min(near, key=lambda m: (_memory_mb(m, needs) or 0.0, -_merit(m, needs)))
    table = _table(pools, against, chosen.pool, needs, measured)
    return Advice(chosen.pool, _reason(chosen, fit, near, needs), table, _cautions(needs, measured))


def _against(m: Measurement, needs: Needs) -> str:
    """What rules a pool out; nothing if it will do."""
    used_mb = _memory_mb(m, needs)
    if m.wrong or m.errors:
        return f"{m.wrong} wrong results and {m.errors} errors here"
    if needs.machines > 1 and m.pool != _ANOTHER_MACHINE:
        return "stays on one machine"
    if needs.memory_mb is not None and (used_mb is None or used_mb > needs.memory_mb):
        return "memory not measured" if used_mb is None else f"needs {used_mb:.0f} MB"
    return ""


def _merit(m: Measurement, needs: Needs) -> float:
    """The more the better: images per second, or one over the latency."""
    if needs.goal == "throughput":
        return m.images_per_s.median
    return 0.0 if not m.latency_p99_ms else 1 / m.latency_p99_ms


def _memory_mb(m: Measurement, needs: Needs) -> float | None:
    """MB for so many images at once: one worker does one of them, but a batching worker and a lock serve all."""
    if m.memory is None:
        return None
    return m.memory.worked_mb if m.workers == 1 else m.memory.worked_mb / m.workers * needs.images_at_once


def _figure(m: Measurement, needs: Needs) -> str:
    return f"{m.images_per_s.median:.1f} images/s" if needs.goal == "throughput" else f"{m.latency_p99_ms:.0f} ms (p99)"


def _reason(chosen: Measurement, fit: Sequence[Measurement], near: Sequence[Measurement], needs: Needs) -> str:
    said = f"Take {chosen.pool}: right in all {chosen.right} images, {_figure(chosen, needs)}"
    if (used_mb := _memory_mb(chosen, needs)) is not None:
        said += f", {used_mb:.0f} MB for {needs.images_at_once} images at once"
    others = sorted((m for m in fit if m is not chosen), key=lambda m: -_merit(m, needs))
    if len(near) > 1:
        names = ", ".join(m.pool for m in near if m is not chosen)
        return f"{said}; no slower than {names} by more than noise, and it takes least memory of them."
    return f"{said}; next comes {others[0].pool} with {_figure(others[0], needs)}." if others else f"{said}."


def _cautions(needs: Needs, measured: Comparison) -> tuple[str, ...]:
    said = []
    if needs.gpu and not measured.stamp.startswith("cuda"):
        said.append("These figures are not a GPU's: measure there before you decide; batches gain most on it.")
    if not needs.gpu and measured.stamp.startswith("cuda"):
        said.append("These figures are a GPU's: measure on the CPU before you decide.")
    if needs.machines > 1:
        said.append("One machine was measured: what the network between several costs is not in these figures.")
    return tuple(said)


def _table(
    pools: Sequence[Measurement], against: dict[str, str], chosen: str, needs: Needs, measured: Comparison
) -> Table:
    rows = []
    for m in sorted(pools, key=lambda m: (bool(against[m.pool]), -_merit(m, needs))):
        used_mb = _memory_mb(m, needs)
        word = "chosen" if m.pool == chosen else against[m.pool] or "would do"
        latency = "-" if m.latency_p99_ms is None else f"{m.latency_p99_ms:.0f}"
        rows.append((m.pool, word, str(m.images_per_s), latency, "-" if used_mb is None else f"{used_mb:.0f}"))
    headers = ("pool", "advice", "images/s (range)", "p99 ms", f"MB for {needs.images_at_once} at once")
    return Table(headers, rows, measured.stamp)
