"""Schedules are short, readable and deterministic, and are refused where they do not fit the code."""

import sys
import types
from typing import Any

import pytest
from deadlines import scaled
from programs import PROGRAMS

from benchmarks import bodies
from benchmarks.bodies import state
from yolothreads.errors import ExploreError
from yolothreads.races import WRONG, Trial, explore, holder, replay
from yolothreads.races.schedule import Schedule, Stop, parse
from yolothreads.races.tracing import MONITORING

pytestmark = pytest.mark.timeout(scaled(120))

COUNTER = {"setup": state(n=0), "observe": bodies.number}
VERSION = "py3.11 ultralytics-8.4.190 5f3a91c2"


def bad_counter() -> str:
    """Return the first bad schedule of the counter."""
    return PROGRAMS["counter"].explore().forbidden[0].schedule


# --- replay


@pytest.mark.parametrize("times", [10, pytest.param(100, marks=pytest.mark.nightly)])
def test_all_replays_give_the_same_outcome(times: int) -> None:
    schedule = bad_counter()
    trials = [replay(schedule, bodies.bump, bodies.bump, **COUNTER) for _ in range(times)]
    assert {(t.schedule, t.kind, t.results) for t in trials} == {(schedule, WRONG, (None, None, 1))}


def test_replay_shows_the_thread_line_and_state_of_each_step() -> None:
    schedule = PROGRAMS["counter"].explore(granularity="line").forbidden[0].schedule
    trial = replay(schedule, bodies.bump, bodies.bump, **COUNTER, inspect=lambda s: s.n)
    steps = [(step.thread, step.where.text, step.inspected) for step in trial.steps]
    assert steps[0] == ("A", "value = s.n", 0)
    assert steps[-3:] == [("B", "value = s.n", 0), ("B", "s.n = value + 1", 0), ("A", "s.n = value + 1", 1)]


def test_replay_shows_a_line_that_is_split_once_and_again_where_a_thread_comes_back_into_it() -> None:
    program = PROGRAMS["counter in one line"]
    inside = program.explore().forbidden[0].schedule
    assert "+" in inside.partition(">")[0]
    trial = replay(inside, *program.bodies, **program.options, inspect=lambda s: s.n)
    steps = [(step.thread, step.inspected) for step in trial.steps]
    assert steps == [("A", 0), ("B", 0), ("A", 1)] and len({step.where for step in trial.steps}) == 1


def test_replay_shows_the_holder_of_a_lock_and_the_threads_that_wait_for_it() -> None:
    program = PROGRAMS["counter under a lock"]
    schedule = next(t.schedule for t in program.explore().trials if t.where.text == "s.n = value + 1")
    options = {**program.options, "inspect": lambda s: holder(s.lock)}
    steps = replay(schedule, *program.bodies, **options).steps
    reported = [(s.thread, s.where.text, s.waits, s.inspected) for s in steps]
    first, second = schedule[0], "AB".replace(schedule[0], "")
    assert reported[:3] == [
        (first, "with s.lock:", (), ""),
        (first, "value = s.n", (), first),
        (second, "with s.lock:", (), first),
    ]
    assert reported[3] == (first, "s.n = value + 1", (second,), first)
    assert reported[-1][1:] == ("with s.lock:", (), second), "Python returns to `with` when it leaves the block"


def test_replay_of_a_deadlock_shows_the_threads_that_wait_at_its_end() -> None:
    program = PROGRAMS["crossed locks"]
    bad = program.explore().forbidden[0]
    trial = replay(bad.schedule, *program.bodies, **program.options)
    assert sorted(trial.waits) == ["A", "B"]
    assert replay(bad_counter(), bodies.bump, bodies.bump, **COUNTER).waits == ()


@pytest.mark.parametrize("most", [4, pytest.param(40, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("name", PROGRAMS)
def test_every_schedule_can_be_replayed_with_the_same_kind(name: str, most: int) -> None:
    program = PROGRAMS[name]
    found = program.explore(preemptions=min(2, len(program.bad) - 1))
    for trial in found.trials[:: max(1, found.schedules // most)]:
        again = found.replay(trial.schedule)
        assert (again.kind, again.schedule) == (trial.kind, trial.schedule)
        if trial.results:
            assert repr(again.results) == repr(trial.results)


@pytest.mark.parametrize("name", ["counter in one line", "crossed locks", "check then act"])
def test_every_schedule_by_instruction_can_be_replayed(name: str) -> None:
    found = PROGRAMS[name].explore(granularity="instruction")
    for trial in found.trials[::3]:
        assert found.replay(trial.schedule).kind == trial.kind


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (lambda s: bodies.bump(s), lambda s: bodies.bump(s)),
        (lambda s: [bodies.bump(s) for _ in range(2)], lambda s: sum(s.n for _ in range(2))),
    ],
)
def test_schedules_that_stop_in_lambdas_and_comprehensions_can_be_replayed(a: object, b: object) -> None:
    found = explore(a, b, **COUNTER, watch=[__name__, bodies])
    assert any("lambda" in trial.schedule for trial in found.trials)
    for trial in found.trials:
        assert found.replay(trial.schedule).kind == trial.kind


def test_a_typed_schedule_may_have_more_stops_than_those_explored() -> None:
    lines = sorted({trial.where.line for trial in PROGRAMS["counter"].explore().forbidden})
    version = bad_counter().partition("|")[2]
    trial = replay(f"A@bump:{lines[0]}#1>B@bump:{lines[0]}#1>A |{version}", bodies.bump, bodies.bump, **COUNTER)
    assert trial.kind == WRONG and len(trial.switches) == 2


# --- the string


def test_a_printed_schedule_parses_to_the_same_schedule() -> None:
    stops = (
        Stop("A", "predict", 557, None, 1, "B"), Stop("B", "wait", 0, None, 2, "C"), Stop("C", "end", 0, None, 1, "B"),
        Stop("B", "sleep", 0, None, 3, "W1"), Stop("W1", "run", 12, 8, 2, "A"),
    )  # fmt: skip
    for n in range(len(stops) + 1):
        schedule = Schedule("A", stops[:n])
        text = schedule.text(VERSION)
        assert parse(text, VERSION) == schedule and parse(f"  {text} ", VERSION).text(VERSION) == text


@pytest.mark.parametrize("name", ["lambda", "listcomp", "naïve_größe", "end", "wait", "sleep", "__init__"])
def test_functions_with_any_name_can_be_printed_and_parsed(name: str) -> None:
    schedule = Schedule("A", (Stop("A", name, 7, None, 1, "B"), Stop("B", name, 8, 20, 2, "A")))
    assert parse(schedule.text(VERSION), VERSION) == schedule


@pytest.mark.parametrize("preemptions", [1, 2, 3, 4])
def test_a_schedule_has_fewer_than_120_characters(preemptions: int) -> None:
    name = "preprocess_all_images_of_the_batch_and_put_them_on_the_device_without_asking"
    stops = tuple(Stop("AB"[i % 2], name, 1557, None, 10 + i, "BA"[i % 2]) for i in range(preemptions))
    text = Schedule("A", stops).text(VERSION)
    assert len(text) < 120, text
    assert [(s.line, s.visit, s.next) for s in parse(text, VERSION).stops] == [(s.line, s.visit, s.next) for s in stops]


def stop_after(schedules: int) -> dict[str, Any]:
    """Return options that end a search after this number of schedules."""
    trials: list[Trial] = []
    return {"on_trial": trials.append, "stop": lambda: len(trials) >= schedules}


def test_a_schedule_with_many_waits_has_fewer_than_120_characters_and_can_be_replayed() -> None:
    program = PROGRAMS["condition with while"]
    found = program.explore(preemptions=2, **stop_after(400))
    assert max(len(trial.schedule) for trial in found.trials) < 120
    longest = max(found.trials, key=lambda trial: len(trial.schedule))
    assert found.replay(longest.schedule).kind == longest.kind


LONG = "def {name}(s):\n    value = s.n\n    s.n = value + 1\n    s.done = True\n"


def module_with(name: str, source: str, monkeypatch: pytest.MonkeyPatch, folder: object) -> types.ModuleType:
    """Write a module to the folder and import it."""
    (folder / f"{name}.py").write_text(source)  # type: ignore[operator]
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, name, raising=False)
    return __import__(name)


def test_shortened_names_still_identify_the_function(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    """Two functions stand on the same lines of two files; a schedule with many stops shortens their names."""
    names = ["preprocess_the_first_half_of_a_batch", "preprocess_the_other_half_of_a_batch"]
    first, second = (
        module_with(f"long_{i}", LONG.format(name=name), monkeypatch, tmp_path) for i, name in enumerate(names)
    )

    def both(s: bodies.State) -> None:
        getattr(first, names[0])(s)
        getattr(second, names[1])(s)

    found = explore(both, both, **COUNTER, watch=[first, second], preemptions=3, **stop_after(1000))
    assert max(len(trial.schedule) for trial in found.trials) < 120
    for trial in [trial for trial in found.trials if "~" in trial.schedule][::25]:
        assert found.replay(trial.schedule).kind == trial.kind


# --- refused schedules


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda text: text.partition("|")[0], "does not say what it was made for"),
        (lambda text: text.replace("bump:", "bumb:"), "A came 0 times to bumb:"),
        (lambda text: text.replace("#1", "#9"), "came 1 times to bump:"),
        (lambda text: text.replace("@", "@@"), "is no stop"),
        (lambda text: text.replace(">B", ">"), "no"),
        (lambda text: text.replace(">B", ">Z"), "Z cannot go on"),
        (lambda text: text.replace(">B", ""), "no"),
        (lambda text: text.replace("#1", ""), "is no stop"),
        (lambda text: text.replace("A@", "a@"), "begin"),
        (lambda text: text.replace("A@", "Z@"), "Z"),
        (lambda text: text.replace("py3.", "py2."), "was made for 'py2."),
        (lambda text: text[:-4] + "0000", "explore again"),
        (lambda text: "", "schedule"),
        (lambda text: "| " + text.partition("|")[2], "begin"),
        (lambda text: "random 3/x/1 |" + text.partition("|")[2], "random"),
    ],
)
def test_a_typing_error_or_another_version_is_refused_with_a_reason(change: object, reason: str) -> None:
    schedule = change(bad_counter())  # type: ignore[operator]
    with pytest.raises(ExploreError) as raised:
        replay(schedule, bodies.bump, bodies.bump, **COUNTER)
    assert reason in str(raised.value) and str(raised.value).count(". ") <= 1


def test_changed_source_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    old = module_with("changing", LONG.format(name="work"), monkeypatch, tmp_path)
    schedule = explore(old.work, old.work, **COUNTER).forbidden[0].schedule
    new = module_with("changing", "# a new first line\n" + LONG.format(name="work"), monkeypatch, tmp_path)
    with pytest.raises(ExploreError, match="lines may have moved"):
        replay(schedule, new.work, new.work, **COUNTER)


def test_a_schedule_names_the_versions_of_python_and_of_the_watched_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    module = module_with("numbered", '__version__ = "2.0"\n' + LONG.format(name="work"), monkeypatch, tmp_path)
    schedule = explore(module.work, module.work, **COUNTER).forbidden[0].schedule
    python = f"py{sys.version_info.major}.{sys.version_info.minor}"
    assert schedule.split(" | ")[1].split()[:2] == [python, "numbered-2.0"]
    module.__version__ = "2.1"
    with pytest.raises(ExploreError, match=r"numbered-2\.0.*numbered-2\.1"):
        replay(schedule, module.work, module.work, **COUNTER)


# --- the random strategy


@pytest.mark.parametrize(("name", "depth"), [("counter", 2), ("needs 2 preemptions", 3), ("condition with if", 3)])
def test_random_priorities_find_bugs_of_their_depth(name: str, depth: int) -> None:
    program = PROGRAMS[name]
    found = program.explore(strategy="random", depth=depth, runs=400)
    assert {trial.kind for trial in found.forbidden} == program.bad[-1]
    assert found.schedules == found.run == 400 and not found.exhausted and not found.safe


def test_random_priorities_state_their_guarantee_and_never_claim_safety() -> None:
    found = PROGRAMS["counter under a lock"].explore(strategy="random", depth=3, runs=50)
    steps = int(found.trials[0].schedule.split("/")[1])
    assert f"1/(2 x {steps}^2) = {1 / (2 * steps**2):.2g}" in str(found)
    assert f"at least {1 - (1 - 1 / (2 * steps**2)) ** 50:.2g}." in str(found)
    assert not found.safe and not found.forbidden and found.verdict.startswith("NOTHING FOUND so far")


def test_random_priorities_are_deterministic_for_a_seed() -> None:
    one, again, other = (
        [
            (t.schedule, t.kind, t.results)
            for t in PROGRAMS["counter"].explore(strategy="random", runs=60, seed=n).trials
        ]
        for n in (1, 1, 2)
    )
    assert repr(one) == repr(again)
    assert [kind for _, kind, _ in one] != [kind for _, kind, _ in other]


@pytest.mark.parametrize("granularity", ["line", "instruction"])
@pytest.mark.parametrize("name", ["counter", "condition with if", "crossed locks"])
@pytest.mark.parametrize("runs", [10, pytest.param(40, marks=pytest.mark.nightly)])
def test_a_random_run_can_be_replayed_from_its_string(name: str, granularity: str, runs: int) -> None:
    found = PROGRAMS[name].explore(strategy="random", runs=runs, granularity=granularity)
    for trial in found.trials:
        again = found.replay(trial.schedule)
        assert (again.kind, again.schedule) == (trial.kind, trial.schedule)


def test_the_budget_also_ends_random_runs() -> None:
    found = PROGRAMS["condition with while"].explore(strategy="random", runs=10**6, budget_s=0.3)
    assert "the budget ended first" in str(found) and 0 < found.schedules < 10**6


def test_sys_monitoring_is_used_from_python_3_12_on() -> None:
    assert (sys.version_info >= (3, 12)) == MONITORING
