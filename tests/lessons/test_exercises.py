"""Every exercise tells right, wrong and untouched answers apart."""

import re
import threading

import pytest

from yolothreads.errors import ArgumentError
from yolothreads.lessons.exercises import CORRECT, NOT_STARTED, NOT_YET, get
from yolothreads.lessons.tasks import EXERCISES


def written(exercise, source):
    space = {}
    exec(source, space)
    return space[exercise.name]


def answers(*kinds):
    return [
        pytest.param(exercise, source, id=f"{exercise.name}-{kind}-{i}")
        for exercise in EXERCISES.values()
        for kind in kinds
        for i, source in enumerate([exercise.answer] if kind == "answer" else getattr(exercise, kind))
    ]


@pytest.fixture(autouse=True)
def threads_before():
    """The threads that were there before the test; it may leave no other."""
    before = set(threading.enumerate())
    yield before
    assert [t for t in threading.enumerate() if t not in before] == []


@pytest.mark.parametrize(("exercise", "source"), answers("answer", "also_right"))
def test_right_answers_are_correct(exercise, source):
    assert exercise.check(written(exercise, source)).outcome == CORRECT


@pytest.mark.parametrize(("exercise", "source"), answers("wrong"))
def test_wrong_answers_are_told_what_was_seen(exercise, source, threads_before):
    answer = exercise.check(written(exercise, source))
    assert answer.outcome == NOT_YET
    assert answer.seen
    for thread in set(threading.enumerate()) - threads_before:  # a wrong answer's, which end soon after the check
        thread.join(5)


@pytest.mark.parametrize("exercise", EXERCISES.values(), ids=EXERCISES)
def test_the_untouched_stub_is_not_started(exercise):
    assert exercise.check(written(exercise, exercise.starter)).outcome == NOT_STARTED


@pytest.mark.parametrize(
    ("which", "seen"),
    [
        (0, r"in \d+ of \d+ schedules a call was not answered with its own conf"),
        (1, r"schedules ended with: deadlock. .*livelock"),
        (2, r"(\d+) of \1 schedules ended with: deadlock. B waits for a lock that A took"),
        (3, r"with conf=0.75 was answered with \(2, 0.25\)"),
    ],
    ids=["lock made in each call", "waits in a loop", "lock never released", "conf ignored"],
)
def test_wrong_detectors_are_explored_and_told_apart(which, seen):
    exercise = get("make_detector")
    assert re.search(seen, exercise.check(written(exercise, exercise.wrong[which])).seen)


@pytest.mark.parametrize(
    ("name", "which", "seen"),
    [
        ("make_worker", 0, r"schedules ended with: wrong result. With a switch just before "),
        ("make_worker", 1, r"2 threads that did 2 images each loaded 4 models"),
        ("make_worker", 2, r"schedules ended with: wrong result. .*\(3, 0.25\)"),
        ("detect_all", 0, r"schedules ended with: wrong result. With a switch just before "),
        ("detect_all", 1, r"(\d+) of \1 schedules ended with: deadlock. A waits for a lock that A took"),
        ("detect_all", 2, r"came as a generator; a list was asked for"),
        ("detect_all", 3, r"came back as \[\(10, 0.25\)\] instead of"),
    ],
    ids=[
        "shared",
        "loads each time",
        "number taken twice",
        "lock made in each call",
        "nested",
        "generator",
        "cut short",
    ],
)
def test_wrong_workers_and_streams_are_explored_and_told_apart(name, which, seen):
    exercise = get(name)
    assert re.search(seen, exercise.check(written(exercise, exercise.wrong[which])).seen)


def test_a_fault_that_few_schedules_show_is_found():
    exercise = get("make_worker")
    said = exercise.check(written(exercise, exercise.wrong[2])).seen
    assert int(said.split()[0]) < 0.1 * int(said.split()[2])  # rare: luck would hardly meet it


def test_models_kept_from_one_schedule_to_the_next_are_not_called_correct():
    models = {}

    def make_worker(load):
        def detect(image, conf):
            return models.setdefault(threading.get_ident(), load()).predict(image, conf=conf)

        return detect

    assert get("make_worker").check(make_worker).outcome == NOT_YET


def test_an_exception_in_the_readers_code_is_named():
    def count_objects(result, name):
        raise KeyError("stars")

    assert repr(get("count_objects").check(count_objects)) == "not yet: your code raised KeyError: 'stars'"


def test_a_result_instead_of_a_function_is_explained():
    assert "without calling it" in get("count_objects").check(3).seen


def test_hints_come_one_by_one_and_the_last_stays():
    exercise = get("make_worker")
    exercise._hinted = 0
    assert [exercise.hint().title for _ in range(3)] == ["Hint 1 of 2", "Hint 2 of 2", "Hint 2 of 2"]


def test_the_solution_is_folded():
    assert get("save_to").solution()._repr_html_().startswith("<details>")


def test_an_unknown_exercise_is_an_error_that_names_the_known():
    with pytest.raises(ArgumentError, match="count_objects"):
        get("nothing")
