"""The exercise of lesson 10: count identity switches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from yolothreads.lessons.exercises import Exercise

_FILMS: tuple[tuple[str, list[dict[int, int]], int], ...] = (
    ("an object that keeps its number", [{7: 1}, {7: 1}, {7: 1}], 0),
    ("an object whose number changes once", [{7: 1}, {7: 2}, {7: 2}], 1),
    ("two objects that exchange their numbers", [{7: 1, 8: 2}, {7: 2, 8: 1}], 2),
    ("an object that is new in the second frame", [{7: 1}, {7: 1, 8: 2}], 0),
    ("an object that comes back with its old number", [{7: 1}, {}, {7: 1}], 0),
    ("an object that comes back with another number", [{7: 1}, {}, {}, {7: 3}], 1),
    ("no frames", [], 0),
)


def see_count_switches(count_switches: Callable[..., Any]) -> str | None:
    """Whether a number is held against the last one that the object had, however long ago."""
    for what, frames, right in _FILMS:
        got = count_switches([dict(frame) for frame in frames])
        if got != right:
            return f"{what} gave {got!r} switches: {frames}."
    return None


EXERCISES = (
    Exercise(
        name="count_switches",
        starter=(
            "def count_switches(frames):\n"
            "    switches = 0\n"
            "    for i in range(1, len(frames)):\n"
            "        before, now = frames[i - 1], frames[i]\n"
            "        for identity, number in now.items():\n"
            "            switches += before.get(identity) != number\n"
            "    return switches\n"
        ),
        answer=(
            "def count_switches(frames):\n"
            "    switches, last = 0, {}\n"
            "    for now in frames:\n"
            "        for identity, number in now.items():\n"
            "            switches += last.get(identity, number) != number\n"
            "            last[identity] = number\n"
            "    return switches\n"
        ),
        hints=(
            "An object that is seen for the first time has not switched.",
            "An object may be away for some frames: remember the last number of each, not only the frame before.",
        ),
        see=see_count_switches,
        also_right=(
            "def count_switches(frames):\n"
            "    numbers = {}\n"
            "    for now in frames:\n"
            "        for identity, number in now.items():\n"
            "            numbers.setdefault(identity, []).append(number)\n"
            "    return sum(a != b for seen in numbers.values() for a, b in zip(seen, seen[1:]))\n",
        ),
        wrong=(
            "def count_switches(frames):\n"
            "    return sum(b.get(i, n) != n for b, now in zip(frames, frames[1:]) for i, n in now.items())\n",
            "def count_switches(frames):\n"
            "    seen = {(i, n) for now in frames for i, n in now.items()}\n"
            "    return len(seen)\n",
        ),
    ),
)
