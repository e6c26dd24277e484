"""Real races, benchmarked: the drivers, the child processes, the file of results and the page. Without a network."""

import ast
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.wild import BUGS, KINDS, page, runs
from benchmarks.wild import __main__ as command
from benchmarks.wild.bug import BUGGY, FIXED, REPAIRED, Bug, Program
from benchmarks.wild.child import explored, verdict_in_short
from benchmarks.wild.packages import REPAIRS, InstallError, folders, installed, patched
from benchmarks.wild.page import PAGE, PROGRAMS, filled
from benchmarks.wild.result import EXPLORER, FAILED, FRONTRUN, HUNG, SAFE, TOOLS, Result, Results

UNFIXED = ("limits", "nltk", "botocore")
ASKED = Result("limits", BUGGY, EXPLORER, FAILED)


def in_child(source: str, limit_s: float = 60.0) -> Result:
    """Run a child that does what `source` says; `keep(fields)` writes a result."""
    keep = (
        "import json, sys, time\n"
        "def keep(**fields):\n"
        "    with open(sys.argv[-1], 'a') as file:\n"
        "        file.write(json.dumps(dict(bug='limits', version='buggy', tool='explorer', says='found') | fields))\n"
        "        file.write(chr(10))\n"
    )
    return runs.run_child([sys.executable, "-c", keep + source], ASKED, [], limit_s)


# --- drivers ---


def test_every_bug_names_a_report_exact_pins_and_code_to_watch() -> None:
    assert len(BUGS) == sum(map(len, KINDS.values())) >= 26, "no two kinds share a name"
    for bug in BUGS.values():
        assert bug.report.startswith("https://") and bug.watch and len(bug.what) > 40, bug.name
        for version in bug.packages:
            assert all(pin.count("==") == 1 for pin in bug.pins(version)), bug.name


def test_a_driver_imports_its_package_only_when_its_program_is_made() -> None:
    packages = {
        pin.partition("==")[0].replace("-", "_") for b in BUGS.values() for v in b.packages for pin in b.pins(v)
    }
    for module in {sys.modules[bug.make.__module__] for bug in BUGS.values()}:
        assert module.__file__
        for node in ast.parse(Path(module.__file__).read_text("utf-8")).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not packages & set(names), f"{module.__name__} imports {names} when it is imported"


def test_the_program_of_a_module_of_python_races() -> None:
    bug = BUGS["logging"]
    kept: list[Result] = []
    result = explored(bug, bug.make(False), Result("logging", BUGGY, EXPLORER, FAILED), 20.0, kept.append)
    assert result.found and result.says == "found" and result.first_s is not None and result.detail
    assert kept[0].found and kept[0].first_s == result.first_s, "the first finding is kept before the search ends"


@pytest.mark.parametrize("name", UNFIXED)
def test_a_race_that_nobody_fixed_has_a_program_and_a_repair(name: str) -> None:
    bug = BUGS[name]
    assert REPAIRED in bug.packages and (REPAIRS / bug.repair).is_file()
    source = (PROGRAMS / f"show_{name}.py").read_text("utf-8")
    assert "yolothreads" not in source, "a maintainer needs nothing of ours"
    compile(source, name, "exec")


# --- packages ---


def test_a_package_that_is_there_is_not_installed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "redis-3.3.11").mkdir()
    monkeypatch.setattr("subprocess.run", None)
    assert installed("redis==3.3.11", tmp_path) == tmp_path / "redis-3.3.11"


def test_a_pin_that_is_not_exact_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InstallError, match=r"name==1\.2\.3"):
        installed("redis>=3", tmp_path)


def test_a_repair_is_applied_to_a_copy(tmp_path: Path) -> None:
    package = tmp_path / "toy-1.0"
    package.mkdir()
    (package / "toy.py").write_text("one\ntwo\n")
    patch = tmp_path / "toy.patch"
    patch.write_text("--- a/toy.py\n+++ b/toy.py\n@@ -1,2 +1,2 @@\n one\n-two\n+three\n")
    copy = patched(package, patch)
    assert (copy / "toy.py").read_text() == "one\nthree\n"
    assert (package / "toy.py").read_text() == "one\ntwo\n"
    assert patched(package, patch) == copy
    patch.write_text("--- a/toy.py\n+++ b/toy.py\n@@ -1,2 +1,2 @@\n four\n-two\n+three\n")
    with pytest.raises(InstallError, match=r"toy\.patch does not fit toy-1\.0"):
        patched(package, patch)


# --- children ---


def test_the_last_result_of_a_child_counts() -> None:
    result = in_child("keep(bad=1, schedules=1)\nkeep(bad=3, schedules=9, seconds=2.0)")
    assert (result.says, result.bad, result.schedules, result.seconds) == ("found", 3, 9, 2.0)


def test_a_child_that_hangs_is_recorded_with_what_it_had_found() -> None:
    result = in_child("keep(bad=1, schedules=1, first_s=0.5)\nprint('ready', flush=True)\ntime.sleep(600)", limit_s=3.0)
    assert result.says == HUNG and result.found and result.first_s == 0.5
    assert result.note == "it did not end within 3 s"
    assert HUNG in str(result)


def test_a_child_that_dies_is_recorded_with_its_last_words() -> None:
    result = in_child("raise SystemExit('no such module')")
    assert (result.says, result.note, result.found) == (FAILED, "no such module", False)


def test_pinned_packages_come_first_on_the_path(tmp_path: Path) -> None:
    (tmp_path / "json_of_ours.py").write_text("name = 'pinned'")
    keep = "import json, json_of_ours, sys; open(sys.argv[-1], 'w').write(json.dumps(dict(bug='', version='', tool='', "
    code = keep + "says=json_of_ours.name)))"
    assert runs.run_child([sys.executable, "-c", code], ASKED, [tmp_path], 60.0).says == "pinned"


# --- results ---


def all_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: bool = False, fails: str = "") -> list[str]:
    """Run `limits` and `nltk` with made-up children; return the runs that took place."""
    ran: list[str] = []

    def child(_: object, asked: Result, *__: object) -> Result:
        ran.append(asked.key)
        if asked.key == fails:
            raise KeyboardInterrupt
        return replace(asked, says="SAFE", schedules=7)

    monkeypatch.setattr(runs, "run_child", child)
    monkeypatch.setattr(runs, "folders", lambda *_: [])
    runs.run_all(
        [BUGS["limits"], BUGS["nltk"]], TOOLS, Results(tmp_path / "wild.json"),
        cache=tmp_path, budget_s=1.0, limit_s=1.0, again=again, say=lambda _: None,
    )  # fmt: skip
    return ran


def test_an_interrupted_command_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyboardInterrupt):
        all_run(tmp_path, monkeypatch, fails=f"limits/{REPAIRED}/{EXPLORER}")
    rest = all_run(tmp_path, monkeypatch)
    assert rest[0] == f"limits/{REPAIRED}/{EXPLORER}" and len(rest) == 8
    assert all_run(tmp_path, monkeypatch) == []
    assert len(all_run(tmp_path, monkeypatch, again=True)) == 10
    kept = Results(tmp_path / "wild.json").get("nltk", FIXED, FRONTRUN)
    assert kept is not None and kept.schedules == 7 and "cores" in kept.stamp


def test_a_package_that_cannot_be_had_does_not_end_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(bug: Bug, *_: object) -> list[Path]:
        raise InstallError(f"{bug.name} cannot be had: no such release")

    monkeypatch.setattr(runs, "folders", refused)
    results = Results(tmp_path / "wild.json")
    runs.run_all([BUGS["redis"]], [EXPLORER], results, cache=tmp_path, budget_s=1.0, limit_s=1.0, say=lambda _: None)
    assert [r.note for r in results.by_key.values()] == ["redis cannot be had: no such release"] * 2
    assert "redis 3.3.11 (redis cannot be had: no such release)" in page.summary(results)


@pytest.mark.parametrize(("verdict", "short"), [
    ("SAFE within the bound: each of 36 schedules gave the result of some sequential order.", SAFE),
    ("NOTHING FOUND so far in 42 schedules; the search did not run all of them.", "nothing found"),
    ("UNCONTROLLED: no fault in 3 schedules, but Thread-1 ran freely.", "not all controlled"),
    ("SAFE in rich.live; not looked into: rich.console.", "SAFE in watch"),
    ("SAFE between lines: 36 schedules.", "SAFE between lines"),
])  # fmt: skip
def test_a_verdict_in_short_claims_no_more(verdict: str, short: str) -> None:
    assert verdict_in_short(verdict) == short


# --- the page ---


@pytest.fixture
def some_results(tmp_path: Path) -> Results:
    """Return made-up results: redis found by both, pyee by one, tqdm by none, nltk repaired."""
    results = Results(tmp_path / "wild.json")
    for bug, ours, its in (("redis", 2, 3), ("pyee", 4, 0), ("tqdm", 0, 0), ("limits", 8, 5)):
        for tool, bad in ((EXPLORER, ours), (FRONTRUN, its)):
            says = "found" if bad else SAFE
            first = 0.04 if bad else None
            results.keep(Result(bug, BUGGY, tool, says, bad, 32, first, 12.3, "A raised KeyError: `k`", "", "2 cores"))
            results.keep(Result(bug, FIXED, tool, SAFE, 0, 36, None, 0.4))
    results.keep(Result("nltk", REPAIRED, EXPLORER, SAFE, 0, 36, None, 0.2))
    return results


def test_the_table_shows_both_tools_on_both_versions(some_results: Results) -> None:
    rows = {line.split("|")[1].strip(): line for line in page.table(some_results).splitlines()}
    assert (
        "| 2/32, 0.04 / 12 s" in rows["[redis](#check-then-act)"]
        and "SAFE 36, 0.4 s" in rows["[redis](#check-then-act)"]
    )
    assert "not run" in rows["[jmespath](#check-then-act), 2 preemptions"]
    assert rows["[logging](#changed-while-it-is-iterated-over)"].count("| -") == 2, "it has no fixed version"


def test_the_summary_counts_and_names_what_is_missed(some_results: Results) -> None:
    text = page.summary(some_results)
    assert "4 races were run with both tools. The explorer found 3 and frontrun 2." in text
    assert "Only the explorer found: pyee." in text and "Only frontrun found: none." in text
    assert "Both missed: tqdm." in text and "Measured on: 2 cores." in text


def test_only_the_text_between_markers_is_made(some_results: Results) -> None:
    text = (
        "Before\n<!-- table -->\nOLD\n<!-- end of table -->\nafter\n<!-- repair nltk -->\n<!-- end of repair nltk -->\n"
    )
    made = filled(text, some_results)
    assert made.startswith("Before\n<!-- table -->\n|") and "OLD" not in made and "\nafter\n" in made
    assert "With it: explorer: SAFE 36, 0.2 s; frontrun: not run." in made
    assert filled(made, some_results) == made


def test_the_page_shows_the_programs_and_repairs_as_they_are() -> None:
    text = PAGE.read_text("utf-8")
    for name in UNFIXED:
        assert (PROGRAMS / f"show_{name}.py").read_text("utf-8").rstrip() in text, "run python -m benchmarks.wild"
        assert (REPAIRS / BUGS[name].repair).read_text("utf-8").rstrip() in text, "run python -m benchmarks.wild"
    for bug in BUGS.values():
        assert bug.what in text, "run python -m benchmarks.wild"


# --- the command ---


def test_the_command_runs_what_is_asked_and_writes_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(command, "run_all", lambda bugs, tools, _, **options: asked.append((bugs, tools, options)))
    out = tmp_path / "page.md"
    out.write_text("<!-- summary -->\n<!-- end of summary -->\n")
    command.main(
        ["redis", "--tool", "frontrun", "--budget", "5", "--results", f"{tmp_path}/r.json", "--page", f"{out}"]
    )
    ((bugs, tools, options),) = asked
    assert (bugs, tools, options["budget_s"], options["limit_s"]) == ([BUGS["redis"]], ["frontrun"], 5.0, 125.0)
    assert "0 races were run" in out.read_text()


def test_an_unknown_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["no_such_bug"])
    assert "'no_such_bug' is no bug that is known; --list lists them." in capsys.readouterr().err


def test_the_names_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    command.main(["--list"])
    assert "limits" in capsys.readouterr().out.splitlines()


@pytest.mark.nightly
def test_a_real_race_is_found_and_its_repair_is_not_accused(tmp_path: Path) -> None:
    results = Results(tmp_path / "wild.json")
    try:
        folders(BUGS["limits"], BUGGY, tmp_path)
    except InstallError as error:
        pytest.skip(str(error))
    runs.run_all([BUGS["limits"]], TOOLS, results, cache=tmp_path, budget_s=30.0, limit_s=240.0)
    (buggy, repaired) = (results.get("limits", version, EXPLORER) for version in (BUGGY, REPAIRED))
    assert buggy is not None and buggy.found, buggy
    assert repaired is not None and not repaired.found and repaired.schedules, repaired
    assert json.loads((tmp_path / "wild.json").read_text())


def test_a_program_without_setup_or_observe_is_one() -> None:
    program = Program(len, len)
    assert program.setup is None and program.observe is None and program.bodies == (len, len)
