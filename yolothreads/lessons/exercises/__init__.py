"""The exercises of the lessons. Each has a stub, a check, hints and a solution; `get` finds one by its name."""

from yolothreads.errors import ArgumentError
from yolothreads.lessons.exercises import basics, queues, remote, sharing
from yolothreads.lessons.exercises.exercise import CORRECT, NOT_STARTED, NOT_YET, Answer, CheckFailed, Exercise, Folded

__all__ = ["CORRECT", "EXERCISES", "NOT_STARTED", "NOT_YET", "Answer", "CheckFailed", "Exercise", "Folded", "get"]

_CHECKERS = (
    basics.check_count_objects,
    basics.check_run_in_threads,
    sharing.check_make_detector,
    basics.check_save_to,
    sharing.check_make_worker,
    sharing.check_detect_all,
    sharing.check_make_replica,
    remote.check_answer_all,
    queues.check_serve,
    remote.check_map_bounded,
    basics.check_count_switches,
    basics.check_choose,
)
EXERCISES = {
    exercise.name: exercise
    for exercise in (Exercise(checker.__name__.removeprefix("check_"), checker) for checker in _CHECKERS)
}
"""All exercises in the order of the lessons, by the name of the function that the reader writes."""


def get(name: str) -> Exercise:
    """Return the exercise whose function has this name.

    Raises:
        ArgumentError: there is no such exercise; the message names all exercises.
    """
    if name not in EXERCISES:
        raise ArgumentError(f'There is no exercise "{name}"; the exercises are {", ".join(EXERCISES)}.')
    return EXERCISES[name]
