"""Invalid input is refused promptly with one clear error that names the fault; nothing hangs."""

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
from yolothreads.races import WRONG, explore, replay

pytestmark = pytest.mark.timeout(scaled(120))
State = Any


@pytest.fixture(autouse=True)
def time_and_thread_limits() -> Iterator[None]:
    """Check that a test ends in time and leaves no thread, and that the next exploration works."""
    began, threads = time.perf_counter(), set(threading.enumerate())
    yield
    assert time.perf_counter() - began < scaled(60)
    assert set(threading.enumerate()) == threads
    assert PROGRAMS["counter under a lock"].explore().safe


def refused(*given: Any, **options: Any) -> str:
    """Return the message of the error that `explore` raises for these arguments."""
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
def test_a_body_that_is_not_a_function_is_named(body: Any) -> None:
    assert repr(body) in refused(bump, body)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("preemptions", -1), ("preemptions", 1.5), ("preemptions", "2"), ("granularity", "lines"),
        ("strategy", "randomly"), ("budget_s", float("nan")), ("budget_s", "1"), ("timeouts_s", None),
        ("max_steps", 1.5), ("seed", None), ("depth", 1.5), ("runs", "9"), ("setup", 5), ("observe", 5), ("same", "eq"),
        ("restore", 5), ("describe", 5), ("progress", 5), ("on_trial", 5), ("stop", 5),
    ],
)  # fmt: skip
def test_an_invalid_option_is_named_with_its_value(name: str, value: Any) -> None:
    message = refused(bump, bump, **{name: value})
    assert name in message and str(value) in message


@pytest.mark.parametrize("option", [{"depth": 0}, {"runs": 0}])
def test_a_random_search_refuses_zero_depth_or_runs(option: dict[str, int]) -> None:
    assert f"{next(iter(option))}=0" in refused(bump, bump, strategy="random", **option)


@pytest.mark.parametrize("budget_s", [0, -1.0])
def test_a_budget_of_zero_gives_an_empty_result_that_can_be_shown(budget_s: float) -> None:
    found = explore(bump, bump, setup=state(n=0), budget_s=budget_s)
    assert not found.safe and not found.exhausted and found.schedules == 0
    assert "0 of at least 2" in str(found) and found._repr_html_() and found.to_dicts() == []
    assert "s.n = value + 1" in str(found.source_map())


def test_max_steps_of_zero_is_refused() -> None:
    assert "end" in refused(bump, bump, max_steps=0)


# --- watch


@pytest.mark.parametrize("name", ["", ".shop"])
def test_watching_a_name_that_is_not_whole(name: str) -> None:
    assert f"'{name}'" in refused(bump, bump, watch=[name])


def test_one_thing_to_watch_needs_no_list() -> None:
    assert "holds 5" in refused(bump, bump, watch=5)
    watch: Any = bump
    found = explore(bump, bump, setup=state(n=0), observe=bodies.number, watch=watch)
    assert found.forbidden and found.watched == ("bump",)


@pytest.mark.parametrize("name", ["no_such_module", "yolothreads.no_such_module", "ultralytics.engin"])
def test_watching_a_module_that_does_not_exist(name: str) -> None:
    assert name in refused(bump, bump, watch=[name]) and "watch" in refused(bump, bump, watch=[name])


@pytest.mark.parametrize("name", ["sys", "_thread", "math", "builtins"])
def test_watching_a_module_without_python_lines(name: str) -> None:
    message = refused(bump, bump, watch=[name])
    assert f"'{name}'" in message and "no Python lines" in message


@pytest.mark.parametrize("thing", [len, 7, None, [1].append])
def test_watching_an_object_without_python_lines(thing: Any) -> None:
    assert repr(thing) in refused(bump, bump, watch=[thing])


def test_watching_code_that_no_body_runs() -> None:
    message = refused(bump, bump, watch=["json"])
    assert "A, B" in message and "watch=" in message


def test_a_body_that_runs_no_watched_line_is_named() -> None:
    found = explore(bump, lambda s: None, setup=state(n=0), watch=[bodies])
    assert [note for note in found.notes if "Body B ran no watched line" in note] and found.verdict.count("lambda") == 1


def test_bodies_without_a_module_need_watch() -> None:
    assert "append" in refused([].append, [].append)


def test_an_empty_watch_list_means_the_modules_of_the_bodies() -> None:
    assert {place.function for place in explore(bump, bump, setup=state(n=0), watch=[]).executed} == {"bump"}


def test_watch_accepts_one_module_without_a_list() -> None:
    for watch in ("benchmarks.bodies", bodies):
        assert explore(bump, bump, setup=state(n=0), observe=bodies.number, watch=watch).forbidden  # type: ignore[arg-type]


# --- results and state


def give_object(s: State) -> object:
    s.n = 1
    return object()


class Plain:
    """A class whose instances equal only themselves."""


def give_plain_in_a_list(s: State) -> list[Plain]:
    s.n = 1
    return [Plain()]


class Unequal:
    """A class whose instances cannot be compared."""

    def __eq__(self, other: object) -> bool:
        raise TypeError("cannot be compared")

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


def test_same_compares_results_that_do_not_support_equality() -> None:
    assert explore(give_object, give_object, setup=state(n=0), same=lambda a, b: True).safe


def test_a_setup_that_leaks_state_between_runs_is_refused() -> None:
    kept = SimpleNamespace(n=0)
    message = refused(bump, bump, setup=lambda: kept, observe=bodies.number)
    assert "setup=" in message and "restore=" in message and "same order twice" in message


def test_a_growing_global_without_a_setup_is_refused() -> None:
    grown: list[int] = []

    def grow() -> int:
        grown.append(1)
        return len(grown)

    assert "gave" in refused(grow, grow, setup=None, watch=[grow])


def test_bodies_that_do_not_accept_the_state() -> None:
    with pytest.raises((ExploreError, TypeError)) as raised:
        explore(lambda: None, lambda: None, setup=state(n=0))
    assert "lambda" in str(raised.value) or "A" in str(raised.value)


def setup_fails() -> None:
    raise OSError("no such file: weights.pt")


def test_an_error_in_setup_propagates_unchanged() -> None:
    with pytest.raises(OSError, match=r"weights\.pt"):
        explore(bump, bump, setup=setup_fails)


def test_an_error_in_observe_is_a_result() -> None:
    found = explore(bump, bump, setup=state(n=0), observe=lambda s: {2: "right"}[s.n])
    assert {trial.kind for trial in found.forbidden} == {"exception"}
    assert all("observe raised KeyError: 1" in trial.detail for trial in found.forbidden)


def test_an_observe_that_always_raises_is_refused() -> None:
    assert "observe raised AttributeError" in refused(bump, bump, observe=lambda s: s.total)


def test_a_body_that_always_raises_is_named() -> None:
    def misspelt(s: State) -> None:
        s.m += 1

    found = explore(bump, misspelt, setup=state(n=0), observe=bodies.number)
    assert found.safe and [note for note in found.notes if "In each sequential order, B raised AttributeError" in note]


@pytest.mark.parametrize("name", ["on_trial", "progress"])
def test_an_error_in_a_callback_loses_nothing(name: str) -> None:
    calls: list[Any] = []

    def fail(*arguments: Any) -> None:
        calls.append(arguments)
        if len(calls) == limit:
            raise OSError("the disk is full")

    limit = 10
    found = explore(bump, bump, setup=state(n=0), observe=bodies.number, preemptions=2, **{name: fail})  # type: ignore[arg-type]
    assert found.forbidden and not found.exhausted and f"{name} raised OSError: the disk is full" in found.bound
    limit = len(calls) + 1
    with pytest.raises(OSError, match="the disk is full"):
        explore(bump, bump, setup=state(n=0), observe=bodies.number, **{name: fail})  # type: ignore[arg-type]


def test_a_description_that_is_no_text_is_shown_as_one() -> None:
    found = explore(bump, bump, setup=state(n=0), observe=bodies.number, describe=lambda *_: 42)  # type: ignore[arg-type, return-value]
    assert {trial.detail for trial in found.forbidden} == {"42"}


def test_more_preemptions_than_there_can_be_take_no_time() -> None:
    found = explore(bump, bump, setup=state(n=0), observe=bodies.number, preemptions=10**9)
    assert found.exhausted and found.forbidden


@pytest.mark.parametrize("plan", ["random 0/9/1", "random 3/0/1"])
def test_a_random_schedule_without_depth_or_steps_is_refused(plan: str) -> None:
    version = explore(bump, bump, setup=state(n=0)).trials[0].schedule.partition("|")[2]
    with pytest.raises(ExploreError, match="makes no sense"):
        replay(f"{plan} |{version}", bump, bump, setup=state(n=0))


def test_schedules_of_many_bodies_can_be_replayed() -> None:
    many = [bump] * 30
    found = explore(*many, setup=state(n=0), observe=bodies.number, strategy="random", runs=3)
    plan, version = "Z4@bump:{}#1>B", found.trials[0].schedule.partition("|")[2]
    line = next(place.line for place in found.executed if "value + 1" in place.text)
    assert replay(f"{plan.format(line)} |{version}", *many, setup=state(n=0), observe=bodies.number).kind == WRONG


# --- bodies that never end


def spin(s: State) -> None:
    while True:
        pass


def spin_unwatched(s: State) -> None:
    _spins(s)


def _spins(s: State) -> None:
    while True:
        pass


def sleep_forever(s: State) -> None:
    while True:
        time.sleep(1)


def test_a_watched_body_that_never_ends() -> None:
    message = refused(spin, bump, watch=[__name__, bodies], max_steps=5000)
    assert "A" in message and "end" in message


def test_an_unwatched_body_that_never_ends() -> None:
    message = refused(spin_unwatched, bump, watch=[spin_unwatched, bump], budget_s=1)
    assert "A" in message and "end" in message


def test_a_body_that_sleeps_forever() -> None:
    message = refused(sleep_forever, bump, watch=[__name__, bodies], max_steps=5000)
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


# --- concurrent explorations


def test_an_exploration_inside_an_exploration_is_refused() -> None:
    messages = []

    def explore_inside(s: State) -> None:
        s.n = 1
        try:
            explore(bump, bump, setup=state(n=0))
        except ExploreError as error:
            messages.append(str(error))

    explore(explore_inside, explore_inside, setup=state(n=0), watch=[explore_inside])
    assert messages and all("running in this process already" in message for message in messages)


def test_a_concurrent_exploration_is_refused_and_the_first_continues() -> None:
    messages: list[str] = []

    def setup() -> State:
        if not messages:
            thread = threading.Thread(target=explore_concurrently)
            thread.start()
            thread.join()
        return SimpleNamespace(n=0)

    def explore_concurrently() -> None:
        try:
            explore(bump, bump, setup=state(n=0))
        except ExploreError as error:
            messages.append(str(error))

    found = explore(bump, bump, setup=setup, observe=bodies.number)
    assert messages and "running in this process already" in messages[0]
    assert found.exhausted and {trial.kind for trial in found.forbidden} == {WRONG}
