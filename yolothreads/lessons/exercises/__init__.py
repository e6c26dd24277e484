"""The exercises of the lessons. Each has a stub, a check, hints and a solution; `get` finds one by its name."""

from yolothreads.errors import ArgumentError
from yolothreads.lessons.exercises import basics, queues, remote, sharing
from yolothreads.lessons.exercises.exercise import (
    CORRECT,
    NOT_STARTED,
    NOT_YET,
    Answer,
    CheckFailed,
    Exercise,
    Folded,
)

__all__ = [
    "CORRECT",
    "EXERCISES",
    "NOT_STARTED",
    "NOT_YET",
    "Answer",
    "CheckFailed",
    "Exercise",
    "Folded",
    "get",
]

EXERCISES: dict[str, Exercise] = {
    exercise.name: exercise
    for exercise in (*basics.EXERCISES, *sharing.EXERCISES, *queues.EXERCISES, *remote.EXERCISES)
}
"""All exercises, by the name of the function that the reader writes."""


def get(name: str) -> Exercise:
    """Return the exercise whose function has this name.

    Raises:
        ArgumentError: there is no such exercise; the message names all exercises.
    """
    if name not in EXERCISES:
        raise ArgumentError(f'There is no exercise "{name}"; the exercises are {", ".join(EXERCISES)}.')
    return EXERCISES[name]
