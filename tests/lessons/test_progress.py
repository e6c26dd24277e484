"""Speed now, speed so far and time left, on a clock that the test sets."""

from types import SimpleNamespace

import pytest

from yolothreads.lessons.progress import Progress


@pytest.fixture
def clock():
    return SimpleNamespace(now=100.0)


@pytest.fixture
def progress(clock):
    made = Progress(10, lambda: clock.now)
    clock.now += 5  # getting ready
    made.begin()
    return made


def do(progress, clock, count, each_s):
    for _ in range(count):
        clock.now += each_s
        progress.step()


def test_before_the_first_is_done_the_time_left_is_not_known(progress, clock):
    clock.now += 3
    assert progress.left_s is None
    assert progress.so_far == progress.now == 0


def test_getting_ready_does_not_count(progress, clock):
    do(progress, clock, 2, each_s=0.5)
    assert progress.so_far == 2.0


def test_now_is_the_last_second_and_so_far_is_all_of_it(progress, clock):
    do(progress, clock, 4, each_s=0.25)
    do(progress, clock, 1, each_s=3.0)
    assert progress.so_far == pytest.approx(5 / 4)
    assert progress.now == 1.0


def test_the_time_left_is_that_of_the_rest_at_the_speed_so_far(progress, clock):
    do(progress, clock, 4, each_s=0.5)
    assert progress.left_s == pytest.approx(6 * 0.5)


def test_in_the_first_second_now_is_not_too_low(progress, clock):
    do(progress, clock, 2, each_s=0.1)
    assert progress.now == pytest.approx(10.0)


def test_after_the_end_nothing_changes(progress, clock):
    do(progress, clock, 10, each_s=0.5)
    progress.end()
    clock.now += 60
    assert progress.so_far == progress.now == 2.0
    assert progress.left_s == 0
