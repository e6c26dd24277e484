"""The exercises of the lessons, each with its check, and with the answers that its tests are made from."""

from yolothreads.lessons.exercises import Exercise
from yolothreads.lessons.tasks import basics, queueing

EXERCISES: dict[str, Exercise] = {exercise.name: exercise for exercise in (*basics.EXERCISES, *queueing.EXERCISES)}
"""By the name of the function that the reader writes."""
