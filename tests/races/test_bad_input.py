"""What makes no sense is refused: one clear error that names the thing, soon, and never a hang."""

import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from deadlines import scaled
from programs import PROGRAMS

from benchmarks import bodies
from benchmarks.bodies import bump, state
from yolothreads.errors import ExploreError, YoloThreadsError
from yolothreads.races import explore

pytestmark = pytest.mark.timeout(scaled(120))
State = Any


@pytest.fixture(autouse=True)
def soon_and_leaving_nothing() -> Iterator[None]:
    """Nothing hangs before it is refused or leaves a thread, and the next exploration works."""
    began, threads = time.perf_counter(), set(threading.enumerate())
    yield
    assert time.perf_counter() - began < scaled(60)
    assert set(threading.enumerate()) == threads
    assert PROGRAMS["counter under a lock"].explore().safe


def refused(*given: Any, **options: Any) -> str:
    """The message of the one error that exploring these gives."""
    with pytest.raises(ExploreError) as raised:
        explore(*given, **{"setup": state(n=0), **options})
    message = str(raised.value)
    assert isinstance(raised.value, ValueError) and isinstance(raised.value, YoloThreadsError)
    assert message.count(". ") <= 1 and len(message) < 500, "at most two sentences"
    return message


# --- arguments


@pytest.mark.parametrize(("count", "given"), [(0, ()), (1, (bump,))])
def test_too_few_bodies(count: int, given: Any) -> None:
    assert f"{count} bodies were given" in refused(*given) or f"{count} body was given" in refused(*given)


@pytest.mark.parametrize("body", [None, 7, "bump"])
def test_a_body_that_is_no_function(body: Any) -> None:
    assert repr(body) in refused(bump, body)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("preemptions", -1), ("preemptions", 1.5), ("preemptions", "2"), ("granularity", "lines"),
        ("strategy", "randomly"),
    ],
)  # fmt: skip
def test_an_option_that_makes_no_sense_is_named_with_its_value(name: str, value: Any) -> None:
    message = refused(bump, bump, **{name: value})
    assert name in message and str(value) in message


@pytest.mark.parametrize("option", [{"depth": 0}, {"runs": 0}])
def test_random_runs_without_depth_or_runs(option: dict[str, int]) -> None:
    assert f"{next(iter(option))}=0" in refused(bump, bump, strategy="random", **option)


@pytest.mark.parametrize("budget_s", [0, -1.0])
def test_no_time_at_all_gives_an_empty_result_that_can_be_shown(budget_s: float) -> None:
    found = explore(bump, bump, setup=state(n=0), budget_s=budget_s)
    assert not found.safe and not found.exhausted and found.schedules == 0
    assert "0 of at least 2" in str(found) and found._repr_html_() and found.to_dicts() == []
    assert "s.n = value + 1" in str(found.source_map())


def test_no_steps_at_all_is_refused() -> None:
    assert "end" in refused(bump, bump, max_steps=0)


# --- watch


@pytest.mark.parametrize("name", ["no_such_module", "yolothreads.no_such_module", "ultralytics.engin"])
def test_watching_a_module_that_does_not_exist(name: str) -> None:
    assert name in refused(bump, bump, watch=[name]) and "watch" in refused(bump, bump, watch=[name])


@pytest.mark.parametrize("name", ["sys", "_thread", "math", "builtins"])
def test_watching_a_module_without_python_lines(name: str) -> None:
    message = refused(bump, bump, watch=[name])
    assert f"'{name}'" in message and "no Python lines" in message


@pytest.mark.parametrize("thing", [len, 7, None, [1].append])
def test_watching_a_thing_without_python_lines(thing: Any) -> None:
    assert repr(thing) in refused(bump, bump, watch=[thing])


def test_watching_code_that_no_body_runs() -> None:
    message = refused(bump, bump, watch=["json"])
    assert "A, B" in message and "watch=" in message


def test_one_of_the_bodies_runs_no_watched_line() -> None:
    message = refused(bump, lambda s: None, watch=[bodies])
    assert "B" in message and "A" not in message.split("ran")[0]


def test_bodies_without_a_module_and_nothing_watched() -> None:
    assert "append" in refused([].append, [].append)


def test_an_empty_watch_means_the_modules_of_the_bodies() -> None:
    assert {place.function for place in explore(bump, bump, setup=state(n=0), watch=[]).executed} == {"bump"}


def test_one_module_may_be_named_without_a_list() -> None:
    for watch in ("benchmarks.bodies", bodies):
        assert explore(bump, bump, setup=state(n=0), observe=bodies.number, watch=watch).forbidden  # type: ignore[arg-type]


# --- results and state


def give_object(s: State) -> object:
    s.n = 1
    return object()


class Plain:
    """Equal only to itself."""


def give_plain_in_a_list(s: State) -> list[Plain]:
    s.n = 1
    return [Plain()]


class Unequal:
    """What cannot be compared at all."""

    def __eq__(self, other: object) -> bool:
        raise TypeError("not with me")

    __hash__ = None  # type: ignore[assignment]


def give_unequal(s: State) -> Unequal:
    s.n = 1
    return Unequal()


@pytest.mark.parametrize(
    ("body", "name"), [(give_object, "object"), (give_plain_in_a_list, "Plain"), (give_unequal, "Unequal")]
)
def test_results_that_cannot_be_compared_are_named(body: Any, name: str) -> None:
    message = refused(body, body)
    assert name in message and "same=" in message


def test_what_cannot_be_compared_can_be_with_same() -> None:
    assert explore(give_object, give_object, setup=state(n=0), same=lambda a, b: True).safe


def test_a_setup_that_leaks_state_from_run_to_run() -> None:
    kept = SimpleNamespace(n=0)
    message = refused(bump, bump, setup=lambda: kept, observe=bodies.number)
    assert "setup=" in message and "restore=" in message and "same order twice" in message


def test_no_setup_and_a_global_that_grows() -> None:
    grown: list[int] = []

    def grow() -> int:
        grown.append(1)
        return len(grown)

    assert "gave" in refused(grow, grow, setup=None, watch=[grow])


def test_bodies_that_do_not_take_the_state() -> None:
    with pytest.raises((ExploreError, TypeError)) as raised:
        explore(lambda: None, lambda: None, setup=state(n=0))
    assert "lambda" in str(raised.value) or "A" in str(raised.value)


def setup_fails() -> None:
    raise OSError("no such file: weights.pt")


def test_an_error_in_setup_is_handed_on_as_it_is() -> None:
    with pytest.raises(OSError, match=r"weights\.pt"):
        explore(bump, bump, setup=setup_fails)


def test_an_error_in_observe_is_a_result() -> None:
    found = explore(bump, bump, setup=state(n=0), observe=lambda s: {2: "right"}[s.n])
    assert {trial.kind for trial in found.forbidden} == {"exception"}
    assert all("observe raised KeyError: 1" in trial.detail for trial in found.forbidden)


# --- no end


def spin(s: State) -> None:
    while True:
        pass


def spin_unwatched(s: State) -> None:
    _spins(s)


def _spins(s: State) -> None:
    while True:
        pass


def sleep_for_ever(s: State) -> None:
    while True:
        time.sleep(1)


def test_a_watched_body_that_never_ends() -> None:
    message = refused(spin, bump, watch=[__name__, bodies], max_steps=5000)
    assert "A" in message and "end" in message


def test_an_unwatched_body_that_never_ends() -> None:
    message = refused(spin_unwatched, bump, watch=[spin_unwatched, bump], budget_s=1)
    assert "A" in message and "end" in message


def test_a_body_that_sleeps_for_ever() -> None:
    message = refused(sleep_for_ever, bump, watch=[__name__, bodies], max_steps=5000)
    assert "A" in message and "end" in message


def spin_stubbornly(s: State) -> None:
    while True:
        try:
            while True:
                s.n = 1
        except Exception:
            continue


def test_a_body_that_catches_every_exception_and_never_ends() -> None:
    assert "end" in refused(spin_stubbornly, bump, watch=[__name__, bodies], max_steps=2000)


# --- two at once


def test_an_exploration_inside_an_exploration_is_refused() -> None:
    said = []

    def explores(s: State) -> None:
        s.n = 1
        try:
            explore(bump, bump, setup=state(n=0))
        except ExploreError as error:
            said.append(str(error))

    explore(explores, explores, setup=state(n=0), watch=[explores])
    assert said and all("running in this process already" in message for message in said)


def test_an_exploration_beside_an_exploration_is_refused_and_the_first_goes_on() -> None:
    said: list[str] = []

    def setup() -> State:
        if not said:
            thread = threading.Thread(target=explore_beside)
            thread.start()
            thread.join()
        return SimpleNamespace(n=0)

    def explore_beside() -> None:
        try:
            explore(bump, bump, setup=state(n=0))
        except ExploreError as error:
            said.append(str(error))

    found = explore(bump, bump, setup=setup, observe=bodies.number)
    assert said and "running in this process already" in said[0]
    assert found.exhausted and len(found.forbidden) == 2
