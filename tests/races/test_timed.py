"""Time-outs are choices of the schedule, services wake up by time, and threads of bodies are scheduled like these."""

import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest
import timed_programs
from deadlines import scaled
from programs import kinds
from test_tracing import VERSIONS, interpreter, run
from timed_programs import TIMED, Closed, Display, bump_locked, count, shared, stop

from yolothreads.errors import ExploreError
from yolothreads.races import DEADLOCK, explore, replay, watchdog

pytestmark = pytest.mark.timeout(scaled(120))
State = Any
SLOW = "an event with a long deadline"
CASES = [
    pytest.param(name, n, marks=[pytest.mark.nightly] * (n > 1 or (n > 0 and (i % 2 > 0 or name == SLOW))))
    for i, (name, program) in enumerate(TIMED.items())
    for n in range(len(program.bad))
]


@pytest.mark.parametrize(("name", "preemptions"), CASES)
def test_the_bad_kinds_of_a_program_with_time_are_found_and_no_others(name: str, preemptions: int) -> None:
    found = TIMED[name].explore(preemptions=preemptions)
    assert kinds(found) == TIMED[name].bad[preemptions], f"{found}\n{found.forbidden[:1]}"
    assert found.exhausted and found.uncontrolled == () and found.notes == (), str(found)
    assert found.safe == (not found.forbidden)


@pytest.mark.nightly  # a minute of processor time
@pytest.mark.parametrize("version", VERSIONS)
def test_programs_with_time_have_the_same_outcomes_on_other_pythons(version: str) -> None:
    reported = run(interpreter(version), "timed_programs.py")
    assert reported == {name: [sorted(kinds) for kinds in program.bad] for name, program in TIMED.items()}


@pytest.mark.parametrize(
    "name",
    [
        name if i % 4 == 0 and name != SLOW else pytest.param(name, marks=pytest.mark.nightly)
        for i, name in enumerate(TIMED)
    ],
)
def test_the_schedules_of_a_program_with_time_can_be_replayed(name: str) -> None:
    program = TIMED[name]
    found = program.explore()
    again = {key: value for key, value in program.options.items() if key in ("setup", "observe", "timeouts_s")}
    for trial in [*found.forbidden[:3], *found.trials[-2:]]:
        repeated = replay(trial.schedule, *program.bodies, **again)
        assert (repeated.kind, repeated.detail.splitlines()[0]) == (trial.kind, trial.detail.splitlines()[0])


def test_a_schedule_says_that_a_time_out_passes() -> None:
    found = TIMED["a time-out that is ignored"].explore(preemptions=2)
    assert all("(timeout)" in trial.schedule for trial in found.forbidden)
    assert found.outcomes[-1].example.partition(" | ")[0].endswith(">B(timeout)")


def test_the_report_lists_the_waits_with_a_time_out_and_what_they_may_do() -> None:
    short = TIMED["a time-out that is tried again"].explore()
    assert [t.seconds for t in short.timeouts] == [0.1] and short.timeouts[0].is_choice
    assert "bump_when_locked" in short.timeouts[0].place and "0.1 s, passes at any time" in str(short)
    long = TIMED["a deadline that only keeps from hanging"].explore()
    assert not long.timeouts[0].is_choice and "60 s, passes only where nobody else can go on" in str(long)
    assert long.safe and long.verdict.startswith("SAFE; long waits not cut short: timed_programs.py:")
    assert "in bump_within_a_long_deadline (60 s). Each of" in long.verdict
    assert short.verdict.startswith("SAFE within the bound")


def test_a_heartbeat_does_not_hide_that_no_body_can_go_on() -> None:
    found = TIMED["a deadlock beside a heartbeat"].explore()
    assert kinds(found) == {DEADLOCK}
    assert all("A waits for" in trial.detail and "B waits for" in trial.detail for trial in found.forbidden)


@pytest.mark.parametrize("timeouts_s", [-1, float("nan")])
def test_a_senseless_limit_of_time_outs_is_refused(timeouts_s: float) -> None:
    with pytest.raises(ExploreError, match="timeouts_s="):
        explore(stop, stop, setup=Display, timeouts_s=timeouts_s)


@pytest.mark.parametrize(
    "name",
    [
        "a heartbeat that is left behind", "a service without end", "a heartbeat that is joined",
        "an executor that is left behind",
    ],
)  # fmt: skip
def test_no_service_thread_is_left_behind(name: str) -> None:
    before = set(threading.enumerate())
    TIMED[name].explore()
    assert set(threading.enumerate()) <= before


class Stubborn(Closed):
    """A service that swallows everything once; it is ended all the same."""

    def serve(self) -> None:
        try:
            super().serve()
        except BaseException:
            super().serve()


def test_a_service_that_catches_everything_is_ended_too() -> None:
    before = set(threading.enumerate())
    assert explore(bump_locked, bump_locked, setup=Stubborn, observe=count).safe
    assert set(threading.enumerate()) <= before


class Unseen(Closed):
    """A service whose sleep is not seen."""

    def serve(self, nap: Any = time.sleep) -> None:
        while not self.over.is_set():
            nap(0.05)
            self.beat()


def test_a_service_that_sleeps_unseen_is_named_and_ends_no_run_as_a_deadlock() -> None:
    found = explore(bump_locked, bump_locked, setup=Unseen, observe=count)
    assert not found.forbidden and not found.safe and len(found.uncontrolled) == 1, str(found)


def test_functions_of_time_that_were_imported_by_name_are_put_back() -> None:
    TIMED["a sampler that naps"].explore(preemptions=0)
    assert timed_programs.nap is time.sleep and timed_programs.monotonic is time.monotonic


def test_clocks_of_bodies_see_the_time_that_was_skipped_and_others_do_not() -> None:
    def sleep_long(s: State) -> float:
        began = time.monotonic()
        time.sleep(0.25)
        with s.changed:
            s.changed.wait(0.5)
        return round(time.monotonic() - began, 1)

    began = time.monotonic()
    found = explore(sleep_long, sleep_long, setup=shared(changed=threading.Condition), preemptions=0)
    assert found.safe and all(trial.results in ((), (0.8, 0.8)) for trial in found.trials)
    assert time.monotonic() - began < scaled(20)
    assert time.monotonic.__module__ == "time"  # type: ignore[attr-defined]  # the original again


# --- nothing hangs between two runs


def wait_for_ever(*_: object) -> None:
    threading.Event().wait()


def spin(*_: object) -> None:
    while True:
        pass


class HangsWhenLeft(SimpleNamespace):
    n = 0

    def __enter__(self) -> "HangsWhenLeft":
        return self

    def __exit__(self, *exc_info: object) -> None:
        thread = threading.Thread(target=wait_for_ever, daemon=True)
        thread.start()
        thread.join()


def plain(s: State) -> None:
    s.n = 1


HANGS: dict[str, dict[str, Any]] = {
    "setup waits": {"setup": wait_for_ever},
    "setup spins": {"setup": spin},
    "leaving waits": {"setup": HangsWhenLeft},
    "observe waits": {"setup": lambda: SimpleNamespace(n=0), "observe": wait_for_ever},
    "restore spins": {"setup": lambda: SimpleNamespace(n=0), "restore": spin},
}


@pytest.mark.parametrize(
    ("name", "in_main_thread"),
    [
        pytest.param(name, where, marks=[pytest.mark.nightly] * (not where and name.endswith("spins")))
        for name in HANGS
        for where in (True, False)
    ],
)
def test_code_between_two_runs_that_hangs_is_ended_with_an_error_that_names_its_place(
    name: str, in_main_thread: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "QUIET_S", 1.0)
    monkeypatch.setattr(watchdog, "LONGEST_S", 2.0)
    errors: list[BaseException] = []

    def attempt() -> None:
        try:
            explore(plain, plain, budget_s=0.2, **HANGS[name])
        except BaseException as error:
            errors.append(error)

    if in_main_thread:
        attempt()
    else:
        thread = threading.Thread(target=attempt, name="the caller")
        thread.start()
        thread.join(scaled(60))
    (error,) = errors
    assert isinstance(error, ExploreError), error
    assert "did not come back" in str(error) and "test_timed.py" in str(error)
    assert ("the caller" in str(error)) != in_main_thread
    assert explore(plain, plain, setup=lambda: SimpleNamespace(n=0)).safe, "the process stays usable"


def leave_a_thread(s: State) -> None:
    threading.Thread(target=wait_for_ever, daemon=True).start()
    s.n = 1


def test_a_daemon_thread_that_a_body_leaves_behind_costs_nothing_and_is_ended() -> None:
    before = set(threading.enumerate())
    found = explore(leave_a_thread, leave_a_thread, setup=shared(n=0), observe=count)
    assert found.safe and found.run > 20
    assert found.seconds < scaled(10), "a second for each run was too much"
    assert set(threading.enumerate()) <= before
