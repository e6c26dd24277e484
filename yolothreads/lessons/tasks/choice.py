"""The exercise of lesson 11: choose a pool from a table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from yolothreads.lessons.exercises import Exercise

_ROWS: tuple[dict[str, Any], ...] = (
    {"pool": "SharedModel", "wrong": 7, "images_per_s": 40.0, "memory_mb": 20.0},
    {"pool": "Replicas", "wrong": 0, "images_per_s": 30.0, "memory_mb": 25.0},
    {"pool": "ModelPerThread", "wrong": 0, "images_per_s": 31.0, "memory_mb": 60.0},
    {"pool": "LockedModel", "wrong": 0, "images_per_s": 15.0, "memory_mb": 20.0},
)


def see_choose(choose: Callable[..., Any]) -> str | None:
    """Whether it takes the fastest right pool that fits, whatever stands first, and None if there is none."""
    for memory_mb, right in (
        (100, "ModelPerThread"),
        (60, "ModelPerThread"),
        (30, "Replicas"),
        (20, "LockedModel"),
        (5, None),
    ):
        for rows in (_ROWS, _ROWS[::-1]):
            got = choose([dict(row) for row in rows], memory_mb)
            if got != right:
                return f"with {memory_mb} MB to spare it chose {got!r} from {', '.join(row['pool'] for row in rows)}."
    if (got := choose([], 100)) is not None:
        return f"without any rows it gave {got!r}."
    return None


EXERCISES = (
    Exercise(
        name="choose",
        starter='def choose(rows, memory_mb):\n    return max(rows, key=lambda row: row["images_per_s"])["pool"]\n',
        answer=(
            "def choose(rows, memory_mb):\n"
            '    fit = [row for row in rows if not row["wrong"] and row["memory_mb"] <= memory_mb]\n'
            '    return max(fit, key=lambda row: row["images_per_s"])["pool"] if fit else None\n'
        ),
        hints=(
            "The fastest row may be one that gave wrong results, or one that needs too much memory.",
            "Make a list of the rows that will do first; max() of an empty list is an error.",
        ),
        see=see_choose,
        also_right=(
            "def choose(rows, memory_mb):\n"
            "    for row in sorted(rows, key=lambda row: -row['images_per_s']):\n"
            "        if row['wrong'] == 0 and row['memory_mb'] <= memory_mb:\n"
            "            return row['pool']\n",
        ),
        wrong=(
            "def choose(rows, memory_mb):\n"
            "    fit = [row for row in rows if not row['wrong']]\n"
            "    return max(fit, key=lambda row: row['images_per_s'])['pool'] if fit else None\n",
            "def choose(rows, memory_mb):\n"
            "    fit = [row for row in rows if not row['wrong'] and row['memory_mb'] < memory_mb]\n"
            "    return max(fit, key=lambda row: row['images_per_s'])['pool'] if fit else None\n",
            "def choose(rows, memory_mb):\n"
            "    fit = [row for row in rows if not row['wrong'] and row['memory_mb'] <= memory_mb]\n"
            "    return fit[0]['pool'] if fit else None\n",
        ),
    ),
)
