"""The explorer finds the known bugs of small programs, and claims no more than it has run."""

import _thread
import threading
import time

import pytest
from deadlines import scaled
from programs import PROGRAMS, kinds

from benchmarks import bodies
from benchmarks.bodies import state
from yolothreads.races import DEADLOCK, EXCEPTION, RIGHT, WRONG, explore

pytestmark = pytest.mark.timeout(scaled(120))

CASES = [(name, n) for name, program in PROGRAMS.items() for n in range(len(program.bad))]


# --- the right kinds, for all programs


@pytest.mark.parametrize(("name", "preemptions"), CASES)
def test_the_bad_kinds_of_a_known_program_are_found_and_no_others(name: str, preemptions: int) -> None:
    program = PROGRAMS[name]
    found = program.explore(preemptions=preemptions)
    assert kinds(found) == program.bad[preemptions], str(found)
    assert found.exhausted, str(found)
    assert found.safe == (not found.forbidden and not found.uncontrolled)


# --- counters


def test_the_counter_needs_one_preemption() -> None:
    none, one = (PROGRAMS["counter"].explore(preemptions=n) for n in (0, 1))
    assert none.safe and none.schedules == 2
    assert kinds(one) == {WRONG} and not one.safe and one.exhausted
    assert {trial.results[-1] for trial in one.forbidden} == {1}
    assert {trial.where.text for trial in one.forbidden} == {"s.n = value + 1"}
    assert all("1" in trial.detail and trial.where.function == "bump" for trial in one.forbidden)


def test_the_counter_under_a_lock_is_safe_and_exhausted_after_a_few_runs() -> None:
    found = PROGRAMS["counter under a lock"].explore()
    assert found.safe and found.exhausted and found.run < 20
    assert found.verdict.startswith("SAFE within the bound") and "At most 1 preemption, every schedule" in str(found)


def test_an_increment_in_one_line_is_listed_as_unsplit_by_line_and_prevents_a_safe_verdict() -> None:
    found = PROGRAMS["counter in one line"].explore(granularity="line")
    assert not found.forbidden and found.exhausted and not found.safe
    assert found.verdict.startswith("SAFE between lines; not split: 1 ")
    assert [place.text for place in found.unsplit] == ["s.n += 1"]
    assert "s.n += 1" in str(found) and "granularity='auto'" in str(found)
    assert "s.n += 1" in found._repr_html_()


@pytest.mark.parametrize("granularity", ["auto", "instruction"])
def test_an_increment_in_one_line_is_found_inside_the_line(granularity: str) -> None:
    found = PROGRAMS["counter in one line"].explore(granularity=granularity)
    assert kinds(found) == {WRONG} and found.unsplit == ()
    assert {trial.results[-1] for trial in found.forbidden} == {1}


@pytest.mark.parametrize("name", ["counter under a lock", "crossed locks", "needs 2 preemptions", "check then pop"])
def test_instruction_granularity_finds_the_bugs_that_line_granularity_finds(name: str) -> None:
    program = PROGRAMS[name]
    preemptions = len(program.bad) - 1
    found = program.explore(granularity="instruction", preemptions=preemptions)
    assert kinds(found) == program.bad[preemptions] and found.exhausted


def _set_item(s: bodies.State) -> None:
    s.d["k"] = s.d.get("k", 0) + 1


def _shared_twice(s: bodies.State) -> None:
    s.list.append(len(s.list))


def _swap_in_one_line(s: bodies.State) -> None:
    s.a, s.b = s.b, s.a


def _nothing_shared(s: bodies.State) -> None:
    s.done = True
    n = 0
    n += 1


@pytest.mark.parametrize(("body", "text"), [(_set_item, "s.d["), (_swap_in_one_line, "s.a, s.b")])
def test_other_reads_and_writes_in_one_line_are_listed_as_unsplit(body: object, text: str) -> None:
    found = explore(body, body, setup=state(d=dict, a=1, b=2), watch=[body], granularity="line")
    assert [place.text.startswith(text) for place in found.unsplit] == [True]


def test_a_line_without_shared_reads_and_writes_is_not_listed() -> None:
    found = explore(_nothing_shared, _nothing_shared, setup=state(), watch=[_nothing_shared], granularity="line")
    assert found.unsplit == () and found.safe


# --- locks


def test_crossed_locks_show_both_stacks_and_the_holder_of_each_lock() -> None:
    found = PROGRAMS["crossed locks"].explore()
    for trial in found.forbidden:
        assert trial.kind == DEADLOCK and "no thread can continue" in trial.detail
        assert "in first_then_second" in trial.detail and "in second_then_first" in trial.detail
        assert "with s.b:" in trial.detail and "with s.a:" in trial.detail
        assert "A waits for a lock that B holds" in trial.detail and "B waits for a lock that A holds" in trial.detail


@pytest.mark.parametrize("name", [n for n, p in PROGRAMS.items() if any(DEADLOCK in bad for bad in p.bad)])
def test_no_thread_is_left_and_the_next_exploration_works(name: str) -> None:
    before = set(threading.enumerate())
    found = PROGRAMS[name].explore()
    assert kinds(found) == {DEADLOCK} and not found.notes
    assert set(threading.enumerate()) == before
    assert kinds(PROGRAMS["counter"].explore()) == {WRONG}
    assert PROGRAMS["counter under a lock"].explore().safe


def test_a_half_consumed_generator_blocks_a_later_thread() -> None:
    found = PROGRAMS["a half-consumed generator"].explore()
    assert kinds(found) == {DEADLOCK}
    assert any(trial.kind == RIGHT for trial in found.trials), "the other order is fine"
    assert all("in frames" in trial.detail for trial in found.forbidden)


def _one_lock_twice(s: bodies.State) -> None:
    with s.lock, s.lock:
        s.n += 1


def test_bodies_that_hang_in_every_order_deadlock_in_every_schedule() -> None:
    found = explore(
        _one_lock_twice, bodies.bump_locked, setup=state(n=0, lock=threading.Lock), watch=[bodies, __name__]
    )
    assert len(found.forbidden) == found.schedules and kinds(found) == {DEADLOCK}


def test_an_rlock_taken_twice_by_one_thread_is_fine() -> None:
    assert explore(
        _one_lock_twice,
        bodies.bump_locked,
        setup=state(n=0, lock=threading.RLock),
        watch=[bodies, __name__],
        observe=bodies.number,
    ).safe


def _late(s: bodies.State) -> str:
    got = s.lock.acquire(timeout=3600)
    if not got:
        return "gave up"
    s.lock.release()
    return "got it"


def _never_release(s: bodies.State) -> None:
    s.lock.acquire()


def _try_once(s: bodies.State) -> str:
    if not s.lock.acquire(blocking=False):
        return "refused"
    s.lock.release()
    return "got it"


def _hold_over_lines(s: bodies.State) -> None:
    with s.lock:
        s.n = 1
        s.n = 2


def test_a_timeout_expires_at_once_when_no_thread_can_continue() -> None:
    began = time.perf_counter()
    found = explore(_late, _never_release, setup=state(lock=threading.Lock), watch=[__name__])
    assert time.perf_counter() - began < scaled(60)
    assert found.safe and {trial.kind for trial in found.trials} == {RIGHT}


def test_a_non_blocking_acquire_fails_while_another_thread_holds_the_lock() -> None:
    found = explore(_try_once, _hold_over_lines, setup=state(n=0, lock=threading.Lock), watch=[__name__])
    assert kinds(found) == {WRONG} and {trial.results[0] for trial in found.forbidden} == {"refused"}


# --- the other programs


def test_both_bodies_build_the_model() -> None:
    found = PROGRAMS["check then act"].explore()
    assert all(max(trial.results) == 2 for trial in found.forbidden), "built twice"
    assert {trial.where.function for trial in found.forbidden} == {"build_once"}


def test_an_exception_is_reported_with_its_body() -> None:
    found = PROGRAMS["check then pop"].explore()
    assert {trial.detail for trial in found.forbidden} == {"A raised KeyError: 'model'", "B raised KeyError: 'model'"}
    assert any(isinstance(result, KeyError) for result in found.forbidden[0].results)


def test_a_race_between_two_accounts_changes_their_total() -> None:
    totals = {trial.results[-1] for trial in PROGRAMS["two accounts"].explore().forbidden}
    assert totals and 200 not in totals


def test_the_stolen_item_needs_all_three_bodies() -> None:
    found = PROGRAMS["condition with if"].explore()
    assert kinds(found) == {EXCEPTION} and all("IndexError" in trial.detail for trial in found.forbidden)
    waiting = {"setup": state(items=list, changed=threading.Condition), "watch": [bodies]}
    assert explore(bodies.take_if, bodies.put_two, preemptions=2, **waiting).safe


def test_a_harmless_third_body_does_not_hide_the_race_of_the_others() -> None:
    found = PROGRAMS["three bodies, two of them racy"].explore()
    assert all(trial.results[1] == 6 and trial.results[-1] == 1 for trial in found.forbidden)


def test_an_exception_that_sequential_runs_also_raise_is_not_a_fault() -> None:
    assert PROGRAMS["raises in sequential runs too"].explore().safe


def _raise_growth(s: bodies.State) -> None:
    before = s.n
    s.n = s.n + 1
    raise ValueError(s.n - before)


def test_an_exception_with_a_message_that_no_sequential_order_gives_is_a_fault() -> None:
    found = explore(_raise_growth, _raise_growth, setup=state(n=0), watch=[_raise_growth])
    assert kinds(found) == {EXCEPTION} and "raised ValueError: 2" in found.forbidden[0].detail


def test_a_preemption_bound_of_one_does_not_rule_out_a_bug_of_two() -> None:
    one, two = (PROGRAMS["needs 2 preemptions"].explore(preemptions=n) for n in (1, 2))
    assert not one.forbidden and "At most 1 preemption," in str(one) and "within the bound" in one.verdict
    assert kinds(two) == {WRONG} and "At most 2 preemptions," in str(two)
    assert all(trial.schedule.count(">") == 2 for trial in two.forbidden)


def test_a_bug_of_four_preemptions_needs_a_bound_of_four() -> None:
    pair = {"setup": state(stage=0), "watch": [bodies]}
    three, four = (explore(bodies.four_stages, bodies.see_three_stages, preemptions=n, **pair) for n in (3, 4))
    assert three.safe and kinds(four) == {WRONG}


def test_sleeping_takes_no_time_and_hides_no_race() -> None:
    found = PROGRAMS["race around a sleep"].explore()
    assert kinds(found) == {WRONG} and found.seconds < scaled(60)


def test_a_polling_loop_also_ends_with_the_default_step_limit() -> None:
    found = PROGRAMS["polling"].explore(max_steps=100_000)
    assert found.safe and found.seconds < scaled(60)


def test_a_thread_that_a_body_starts_is_controlled() -> None:
    found = PROGRAMS["a body starts a thread"].explore()
    assert found.uncontrolled == () and found.safe


def start_raw_thread(s: object) -> None:
    done = threading.Lock()
    done.acquire()
    _thread.start_new_thread(done.release, ())
    done.acquire()


def test_a_thread_that_cannot_be_controlled_is_named_and_prevents_a_safe_verdict() -> None:
    found = explore(start_raw_thread, start_raw_thread, setup=object)
    assert len(found.uncontrolled) == 1 and "release" in found.uncontrolled[0] and not found.safe
    assert found.verdict.startswith("UNCONTROLLED") and "start_new_thread" in str(found)


def test_a_livelock_counts_as_a_deadlock_and_its_detail_names_it() -> None:
    found = PROGRAMS["livelock"].explore()
    assert kinds(found) == {DEADLOCK} and all("livelock" in trial.detail for trial in found.forbidden)
    assert all("in after_you" in t.detail and "in no_after_you" in t.detail for t in found.forbidden)


def test_the_report_says_that_the_budget_ended_first() -> None:
    found = PROGRAMS["condition with while"].explore(preemptions=3, budget_s=0.2)
    assert not found.exhausted and not found.safe and found.total > found.schedules
    assert "NOT every schedule (the budget ended first)" in str(found)
    assert found.verdict.startswith("NOTHING FOUND so far")


class Number:
    def __init__(self) -> None:
        self.n = 0

    def wait(self) -> None:
        n = self.n
        self.n = n + 1

    def bump(self) -> None:
        n = self.n
        self.n = n + 1


@pytest.mark.parametrize("preemptions", [0, 1])
def test_a_function_that_is_called_wait_is_stopped_like_any_other(preemptions: int) -> None:
    waits, bumps = (
        explore(method, method, setup=Number, watch=[Number], observe=lambda state: state.n, preemptions=preemptions)
        for method in (Number.wait, Number.bump)
    )
    assert waits.schedules == bumps.schedules and bool(waits.forbidden) == bool(bumps.forbidden) == bool(preemptions)
