"""The benchmark of the explorer: which bugs each explorer finds, how ratios are computed, and the command."""

import json
import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import races
from benchmarks.one_core import on_one_core
from benchmarks.programs import PROGRAMS
from benchmarks.races import DEFAULT, FRONTRUN, INSTRUCTIONS, LINES, RacesBenchmark, Search, Speed
from yolothreads.errors import ArgumentError
from yolothreads.measure import Spread

MADE_UP = RacesBenchmark(
    {
        p.name: {
            LINES: [Search(p.bug, 3 * p.bug, 1.5 * p.bug, 8, ms) for ms in (2.0, 8.0, 1.0)],
            FRONTRUN: [Search(p.bug, 2 * p.bug, 5.0 * p.bug, 4, ms) for ms in (4.0, 4.0, 4.0)],
        }
        for p in PROGRAMS
    },
    [Speed("two predict() calls", True, 100, 500, 90, 5.0)],
    {"watched": Spread(3.0, 2.0, 4.0)},
    "here, today",
)
has_frontrun = pytest.mark.skipif(races.find_spec("frontrun") is None, reason="has no wheel for this machine")


def judged(explorer: str) -> dict[str, bool]:
    """Return the programs in which an explorer reports a bug."""
    return {program.name: races.search(program, explorer).bug for program in PROGRAMS}


@pytest.mark.parametrize("explorer", [DEFAULT, pytest.param(INSTRUCTIONS, marks=pytest.mark.nightly)])
def test_by_instruction_every_bug_is_found_and_nothing_else(explorer: str) -> None:
    assert judged(explorer) == {p.name: p.bug for p in PROGRAMS}


def test_by_line_only_the_race_inside_a_line_is_missed_and_the_verdict_says_so() -> None:
    by_line = judged(LINES)
    missed = [p for p in PROGRAMS if by_line[p.name] != p.bug]
    assert [p.name for p in missed] == ["x += 1 on one line"]
    assert races.search(missed[0], LINES).doubt


@has_frontrun
def test_frontrun_finds_the_same_bugs_and_its_patches_are_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FRONTRUN_ACTIVE", raising=False)
    lock = threading.Lock
    assert judged(FRONTRUN) == {p.name: p.bug for p in PROGRAMS}
    assert "FRONTRUN_ACTIVE" not in os.environ
    assert threading.Lock is lock


@pytest.mark.parametrize("explorer", [LINES, DEFAULT, INSTRUCTIONS, pytest.param(FRONTRUN, marks=has_frontrun)])
def test_the_first_bug_is_found_before_the_search_ends(explorer: str) -> None:
    program = next(p for p in PROGRAMS if p.name == "lazy init")
    found = races.search(program, explorer)
    assert 1 < found.first < found.schedules
    assert found.first_ms > 0 and found.end_ms > 0


def test_a_program_that_needs_two_preemptions_needs_them() -> None:
    (program,) = (p for p in PROGRAMS if p.preemptions == 2)
    assert races.explored(program, "line").forbidden
    assert not any(races.explored(replace(program, preemptions=n), "line").forbidden for n in (0, 1))


def test_rounds_are_interleaved_and_the_first_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str, int]] = []
    monkeypatch.setattr(races, "search", lambda p, e, seed: asked.append((p.name, e, seed)) or seed)
    monkeypatch.setattr(races, "find_spec", lambda name: None)
    done = races.searches(2)
    assert done == {p.name: {LINES: [1, 2], DEFAULT: [1, 2], INSTRUCTIONS: [1, 2]} for p in PROGRAMS}
    assert [e for _, e, seed in asked if seed == 1][:3] == [e for _, e, seed in asked if seed == 2][2::-1]


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system cannot keep a thread on a core")
def test_the_process_may_use_all_its_cores_again() -> None:
    before = os.sched_getaffinity(0)
    with on_one_core():
        assert len(os.sched_getaffinity(0)) == 1
    assert os.sched_getaffinity(0) == before


def test_a_ratio_is_the_median_of_the_ratios_of_each_round() -> None:
    row = MADE_UP.tables()[0].to_dicts()[0]
    assert (row["explorer"], row["bug at schedule"], row["schedules"]) == (LINES, "3", "8")
    assert row["ms to the end"] == "2.0 (1.0 to 8.0)"
    assert row["times frontrun's"] == "0.50"


def test_missed_bugs_and_false_alarms_are_named() -> None:
    assert MADE_UP.misjudged == [] and "Misjudged: nothing" in str(MADE_UP)
    wrong = RacesBenchmark({p.name: {LINES: [Search(not p.bug, 1, 1.0, 2, 4.0)]} for p in PROGRAMS}, [], {}, "")
    assert wrong.misjudged == [f"{LINES}: {p.name}" for p in PROGRAMS]
    assert "frontrun is not installed" in str(wrong) and "frontrun is not installed" not in str(MADE_UP)


def test_the_tables_show_speed_cost_and_machine() -> None:
    text = str(MADE_UP)
    assert "here, today" in text
    assert MADE_UP.tables()[1].to_dicts()[0]["schedules/s"] == "20"
    assert MADE_UP.tables()[2].to_dicts() == [{"code": "watched", "times slower (range)": "3 (2 to 4)"}]


def test_watched_code_is_slower_than_the_same_code_unwatched() -> None:
    ratios = races.slowdowns(lambda max_det: sum(range(1000)), rounds=1)
    assert len(ratios) == 5
    assert ratios["watched: a loop of additions"].median > 3
    assert ratios["watched: a loop of additions"].median > ratios["not watched: a loop of additions"].median


@pytest.mark.nightly
def test_two_real_calls_are_explored_with_and_without_reduction() -> None:
    with races.warm_predict() as predict:
        done = races.speeds(predict, budget_s=3)
    assert [(s.what, s.reduce) for s in done[1::2]] == [("two predict() calls", r) for r in (True, False)]
    assert all(0 < s.run <= s.schedules <= s.total and s.seconds > 0 for s in done)
    assert done[2].run == done[2].schedules == done[0].schedules > done[0].run, "reduction runs fewer of the same"


def test_zero_rounds_are_refused() -> None:
    with pytest.raises(ArgumentError, match="rounds"):
        races.measure_races(rounds=0)


def test_the_command_passes_on_its_numbers_and_writes_json(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given: list[object] = []
    monkeypatch.setattr(races, "measure_races", lambda *numbers: given.append(numbers) or MADE_UP)
    file = tmp_path / "races.json"
    races.main([])
    races.main(["--rounds", "2", "--budget", "3", "--json", str(file)])
    assert given == [(5, 20.0), (2, 3.0)]
    assert "here, today" in capsys.readouterr().out
    written = json.loads(file.read_text())
    assert written["searches"]["lazy init"][FRONTRUN][0]["end_ms"] == 4.0
    assert written["misjudged"] == [] and written["slowdowns"]["watched"]["median"] == 3.0
