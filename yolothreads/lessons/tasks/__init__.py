"""The exercises of the lessons, each with its check, and with the answers that its tests are made from."""

from yolothreads.lessons.exercises import Exercise
from yolothreads.lessons.tasks import basics, cameras, choice, clusters, processes, queueing, replicas

EXERCISES: dict[str, Exercise] = {
    exercise.name: exercise
    for exercise in (
        *basics.EXERCISES,
        *cameras.EXERCISES,
        *choice.EXERCISES,
        *replicas.EXERCISES,
        *queueing.EXERCISES,
        *processes.EXERCISES,
        *clusters.EXERCISES,
    )
}
"""By the name of the function that the reader writes."""
