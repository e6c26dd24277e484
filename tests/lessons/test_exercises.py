"""Every exercise distinguishes right, wrong and untouched answers. The answers are files in answers/<exercise>/."""

import re
import runpy
import threading
from pathlib import Path

import pytest
from deadlines import scaled

from yolothreads.errors import ArgumentError
from yolothreads.lessons.exercises import CORRECT, EXERCISES, NOT_STARTED, NOT_YET, get, threads, workers

ANSWERS = Path(__file__).parent / "answers"
SEEN = {  # parts of the message of some wrong answers; the others only need some message
    "make_detector/wrong_lock_made_in_each_call": r"schedules ended with: wrong result. With a switch just before ",
    "make_detector/wrong_waits_in_a_loop": r"schedules ended with: deadlock. .*livelock",
    "make_detector/wrong_lock_never_released": r"(\d+) of \1 schedules .*: deadlock. B waits for a lock that A holds",
    "make_detector/wrong_conf_ignored": r"with conf=0.75 was answered with \(2, 0.25\)",
    "make_detector/wrong_always_raises": r"with conf=0.25 was answered with None",
    "make_worker/wrong_shared_model": r"schedules ended with: wrong result. With a switch just before ",
    "make_worker/wrong_loads_each_time": r"2 threads that did 2 images each loaded 4 models",
    "make_worker/wrong_number_taken_twice": r"schedules ended with: wrong result. .*\(3, 0.25\)",
    "detect_all/wrong_lock_made_in_each_call": r"schedules ended with: wrong result. With a switch just before ",
    "detect_all/wrong_nested_locks": r"(\d+) of \1 schedules ended with: deadlock. A waits for a lock that A holds",
    "detect_all/wrong_generator": r"came as a generator; the task asks for a list",
    "detect_all/wrong_cut_short": r"were \[\(10, 0.25\)\] instead of",
    "make_cache/wrong_lock_for_the_entry_only": r"schedules ended with: wrong result. .* keys that were computed",
    "make_cache/wrong_lock_never_released_after_an_error": r"ended with: deadlock. B waits for a lock that A holds",
    "make_cache/wrong_false_values_computed_again": r"your cache computed .* instead of",
    "make_cache/wrong_errors_hidden": r"your cache answered \[None, ",
    "make_replica/wrong_buffers_not_shared": r"3 of 9 tensors are not shared, for example the buffer",
    "serve/wrong_errors_not_caught": r"The worker's thread had ended with a ValueError",
    "answer_all/wrong_three_attempts": r'^The test: "c" ends two workers or more. "c" was given to a worker 3 times',
    "map_bounded/wrong_one_at_a_time": r"^The test: 7 images and at_once=3. Your function waited for an answer",
}


def from_file(file):
    return runpy.run_path(str(file))[file.parent.name]


def from_source(exercise, source):
    space = {}
    exec(source, space)
    return space[exercise.name]


def files(kind):
    return [pytest.param(file, id=f"{file.parent.name}-{file.stem}") for file in sorted(ANSWERS.glob(f"*/{kind}_*.py"))]


@pytest.fixture(autouse=True)
def threads_before():
    """The threads that existed before the test; the test may leave no other."""
    before = set(threading.enumerate())
    yield before
    assert [t for t in threading.enumerate() if t not in before] == []


@pytest.fixture
def short_waits(monkeypatch):
    """Let the checks give up sooner, because a wrong answer makes them wait in vain."""
    for module, name in ((threads, "_MEET_S"), (workers, "_ANSWER_S"), (workers, "_VAIN_S")):
        monkeypatch.setattr(module, name, 0.5)


def check_wrong(file, threads_before):
    """Check a wrong answer, and wait for its threads, which end soon after the check."""
    answer = get(file.parent.name).check(from_file(file))
    for thread in set(threading.enumerate()) - threads_before:
        thread.join(scaled(30))
    return answer


@pytest.mark.parametrize("exercise", EXERCISES.values(), ids=EXERCISES)
def test_the_shown_answer_is_correct(exercise):
    assert exercise.check(from_source(exercise, exercise.answer)).outcome == CORRECT


@pytest.mark.parametrize("file", files("right"))
def test_other_right_answers_are_correct(file):
    assert get(file.parent.name).check(from_file(file)).outcome == CORRECT


@pytest.mark.parametrize("file", files("wrong"))
def test_a_check_says_what_is_wrong_with_an_answer(file, threads_before, short_waits):
    answer = check_wrong(file, threads_before)
    assert answer.outcome == NOT_YET
    assert re.search(SEEN.get(f"{file.parent.name}/{file.stem}", r"\.$"), answer.seen), answer.seen


@pytest.mark.parametrize("exercise", EXERCISES.values(), ids=EXERCISES)
def test_the_untouched_stub_is_not_started(exercise):
    assert exercise.check(from_source(exercise, exercise.starter)).outcome == NOT_STARTED


def test_every_exercise_has_its_own_right_and_wrong_answers():
    names = {folder.name for folder in ANSWERS.iterdir()}
    assert names == set(EXERCISES)
    assert all((ANSWERS / f"{name}.py").is_file() for name in SEEN)
    assert all(any((ANSWERS / name).glob(f"{kind}_*.py")) for name in names for kind in ("right", "wrong"))


def test_a_fault_that_shows_under_few_schedules_is_found(threads_before):
    said = check_wrong(ANSWERS / "make_worker" / "wrong_number_taken_twice.py", threads_before).seen
    assert int(said.split()[0]) < 0.1 * int(said.split()[2])  # unforced trials would hardly ever show it


def test_models_kept_from_one_schedule_to_the_next_are_not_called_correct():
    models = {}

    def make_worker(load):
        def detect(image, conf):
            return models.setdefault(threading.get_ident(), load()).predict(image, conf=conf)

        return detect

    assert get("make_worker").check(make_worker).outcome == NOT_YET


def test_an_exception_in_the_learners_code_is_named():
    def count_objects(result, name):
        raise KeyError("stars")

    assert repr(get("count_objects").check(count_objects)) == "not yet: Your code raised KeyError: 'stars'"


def test_a_result_instead_of_a_function_is_explained():
    assert "without calling it" in get("count_objects").check(3).seen


def test_hints_appear_one_by_one_and_the_last_stays():
    exercise = get("make_worker")
    exercise._hinted = 0
    assert [exercise.hint().title for _ in range(3)] == ["Hint 1 of 2", "Hint 2 of 2", "Hint 2 of 2"]


def test_the_solution_is_folded():
    assert get("save_to").solution()._repr_html_().startswith("<details>")


def test_an_exercise_does_not_show_its_answer_by_itself():
    exercise = get("save_to")
    assert "def save_to" not in repr(exercise)
    assert exercise in {exercise}


def test_the_error_for_an_unknown_exercise_names_the_known_ones():
    with pytest.raises(ArgumentError, match="count_objects"):
        get("nothing")
