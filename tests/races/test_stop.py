"""A caller can stop a search or a replay: the findings are kept, and no thread keeps running."""

import threading
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest
from deadlines import scaled
from programs import PROGRAMS

from benchmarks import bodies
from benchmarks.bodies import state
from yolothreads.errors import ExploreError
from yolothreads.races import Trial, explore, is_exploring, replay

pytestmark = pytest.mark.timeout(scaled(120))
COUNTER = {"setup": state(n=0), "observe": bodies.number}


@pytest.mark.parametrize("strategy", ["exhaustive", "random"])
def test_a_stopped_search_returns_the_findings_so_far(strategy: str) -> None:
    stop = threading.Event()
    trials: list[Trial] = []

    def on_trial(trial: Trial) -> None:
        trials.append(trial)
        if len(trials) == 4:
            stop.set()

    found = PROGRAMS["counter"].explore(on_trial=on_trial, stop=stop.is_set, strategy=strategy)
    assert found.schedules == len(trials) < found.total
    assert "interrupted" in found.bound and not found.exhausted and not found.safe
    assert not is_exploring()


def test_a_search_that_is_stopped_at_once_raises_keyboard_interrupt() -> None:
    with pytest.raises(KeyboardInterrupt):
        PROGRAMS["counter"].explore(stop=lambda: True)
    assert not is_exploring()


class EndlessBody:
    """A body that never ends after its first ten calls; the sequential orders have run by then."""

    def __init__(self) -> None:
        self.runs, self.inside, self.ended = count(), threading.Event(), threading.Event()

    def body(self, s: Any) -> None:
        s.n = 1
        s.n = 2
        if next(self.runs) >= 10:
            self.inside.set()
            try:
                work_forever()
            finally:
                self.ended.set()


def work_forever() -> None:
    while True:
        sum(range(1000))


def test_a_search_stops_in_the_middle_of_a_schedule() -> None:
    endless = EndlessBody()
    found = explore(
        endless.body,
        endless.body,
        setup=lambda: SimpleNamespace(n=0),
        watch=[EndlessBody.body],
        stop=endless.inside.is_set,
    )
    assert 0 < found.schedules < found.total and "interrupted" in found.bound
    assert endless.ended.is_set() and not is_exploring()


def test_a_replay_can_be_stopped() -> None:
    schedule = PROGRAMS["counter"].explore().forbidden[0].schedule
    with pytest.raises(KeyboardInterrupt):
        replay(schedule, bodies.bump, bodies.bump, **COUNTER, stop=lambda: True)
    assert replay(schedule, bodies.bump, bodies.bump, **COUNTER, stop=lambda: False).schedule == schedule


def test_a_second_search_is_refused_while_one_runs() -> None:
    refused: list[str] = []

    def search(trial: Trial) -> None:
        assert is_exploring()
        with pytest.raises(ExploreError, match="running in this process already") as raised:
            PROGRAMS["counter"].explore()
        refused.append(str(raised.value))

    PROGRAMS["counter"].explore(on_trial=search)
    assert refused and not is_exploring()
