"""Every exercise tells right, wrong and untouched answers apart."""

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
def no_thread_is_left():
    before = set(threading.enumerate())
    yield
    assert [t for t in threading.enumerate() if t not in before] == []


@pytest.mark.parametrize(("exercise", "source"), answers("answer", "also_right"))
def test_right_answers_are_correct(exercise, source):
    assert exercise.check(written(exercise, source)).outcome == CORRECT


@pytest.mark.parametrize(("exercise", "source"), answers("wrong"))
def test_wrong_answers_are_told_what_was_seen(exercise, source):
    answer = exercise.check(written(exercise, source))
    assert answer.outcome == NOT_YET
    assert answer.seen
    for thread in threading.enumerate():
        if thread is not threading.main_thread():
            thread.join(5)


@pytest.mark.parametrize("exercise", EXERCISES.values(), ids=EXERCISES)
def test_the_untouched_stub_is_not_started(exercise):
    assert exercise.check(written(exercise, exercise.starter)).outcome == NOT_STARTED


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
