"""The pytest plugin: what a test may ask for, what a failure shows, and that its command replays the same failure."""

import re
import shlex
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from functools import wraps
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from deadlines import scaled

import yolothreads.races
from yolothreads.races.tracing import MONITORING

pytest_plugins = "pytester"
assert yolothreads.races  # imported before pytester runs a test in this process, and so not removed afterwards

PLUGINS = ("-p", "yolothreads.testing", "-p", "no:cacheprovider")

REPORT = ("-m", "coverage", "report", "-m")

CART = """
    import threading

    class Cart:
        def __init__(self):
            self.total, self.lock = 0, threading.Lock()

        def add(self):
            before = self.total
            self.total = before + 3

        def add_locked(self):
            with self.lock:
                self.add()

        def add_locked_in_one_line(self):
            with self.lock:
                self.total += 3

        def price(self):
            return 3

        def add_price(self):
            before = self.total
            self.total = before + self.price()
    """
RACY = """
    from cart import Cart

    def test_racy(every_schedule):
        every_schedule(Cart.add, Cart.add, setup=Cart, observe=lambda cart: cart.total, preemptions=2)
    """
SAFE = """
    from cart import Cart

    def test_safe(every_schedule):
        found = every_schedule(Cart.add_locked, Cart.add_locked, setup=Cart, observe=lambda cart: cart.total)
        assert found.safe and found.schedules > 2
    """
UNPROVED = """
    import pytest
    from cart import Cart

    {marker}
    def test_sample(every_schedule):
        pair = [Cart.add_locked] * 2
        every_schedule(*pair, setup=Cart, observe=lambda cart: cart.total, strategy="random", runs=3)
    """


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """Project with a module `cart`, which has a race and its repair."""
    monkeypatch.setenv("PYTHONPATH", str(Path(yolothreads.__file__).parents[1]))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile(cart=CART)
    pytester.syspathinsert()
    return pytester


def run(project: pytest.Pytester, *words: str) -> pytest.RunResult:
    return project.runpytest_inprocess(*PLUGINS, *words)


def command_of(result: pytest.RunResult) -> list[str]:
    """Return the words of the command that a failure prints, without `pytest`."""
    line = next(line for line in result.outlines if line.startswith("  pytest "))
    return shlex.split(line)[1:]


def test_safe_functions_pass_and_the_exploration_is_returned(project: pytest.Pytester) -> None:
    project.makepyfile(SAFE)
    run(project).assert_outcomes(passed=1)


def test_a_race_fails_with_the_table_the_line_and_a_command(project: pytest.Pytester) -> None:
    project.makepyfile(test_it=RACY)
    result = run(project)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([
        "NOT SAFE: * schedules gave a result that no sequential order gives.",
        "outcome * count *", "wrong result *",
        "Lines to blame*", "  cart.py:9 in add: self.total = before + 3", "wrong result: gave (None, None, 3)*",
        "Replay it:", '  pytest "test_it.py::test_racy" --schedule "A@add:9#1>B | py3.*"',
    ])  # fmt: skip
    assert "Traceback" not in result.stdout.str() and "testing.py" not in result.stdout.str()


def test_the_command_replays_the_failure_with_its_steps(project: pytest.Pytester) -> None:
    project.makepyfile(test_it=RACY)
    result = run(project, *command_of(run(project)))
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([
        "A  cart.py:8 in add: before = self.total", "B  cart.py:8 in add: before = self.total",
        "B  cart.py:9 in add: self.total = before + 3", "A  cart.py:9 in add: self.total = before + 3",
        "wrong result: gave (None, None, 3)*",
    ])  # fmt: skip
    assert "Replay it" not in result.stdout.str()


def test_the_command_names_the_test_from_the_folder_in_which_pytest_was_started(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = project.mkdir("tests")
    project.makepyfile(**{"tests/test_it": RACY})
    project.makeini("[pytest]")
    monkeypatch.chdir(folder)
    assert command_of(run(project))[0] == "test_it.py::test_racy"


def test_a_schedule_that_ends_well_is_shown_and_passes(project: pytest.Pytester) -> None:
    project.makepyfile(test_it=RACY)
    digest = command_of(run(project))[-1].partition("|")[2]
    result = run(project, "--schedule", f"A |{digest}")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*every_schedule*", "test_it.py::test_racy", "A  cart.py:8*", "as sequential: *"])


def test_a_schedule_of_another_python_is_refused_in_one_sentence(project: pytest.Pytester) -> None:
    project.makepyfile(test_it=RACY)
    result = run(project, "--schedule", "A@add:9#1>B | py2.7 00000000")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E *ExploreError: The schedule was made for 'py2.7 00000000'*"])
    assert "session.py" not in result.stdout.str()


def test_a_bad_outcome_counts_with_other_source_too_and_a_right_one_says_nothing(project: pytest.Pytester) -> None:
    project.makepyfile(test_it=RACY)
    *words, schedule = command_of(run(project))
    other = f"{schedule[:-8]}00000000"
    result = run(project, *words, other)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["wrong result: *", "*made for other code (00000000 instead of *), so lines may *"])
    result = run(project, *words, f"A |{other.partition('|')[2]}")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["as sequential: *", "This says nothing: *Run the test without --schedule."])


def test_a_test_that_reached_less_after_another_one_is_replayed(project: pytest.Pytester) -> None:
    """The digest of a schedule is that of the code that was reached; alone, the second test reaches other code."""
    project.makepyfile(
        fancy="""
        from cart import Cart

        class Fancy(Cart):
            def price(self):
                return 4
        """,
        test_it="""
        from cart import Cart
        from fancy import Fancy

        def test_first(every_schedule):
            every_schedule(Cart.add_price, Cart.add_price, setup=Fancy, observe=lambda cart: cart.total)

        def test_second(every_schedule):
            every_schedule(Cart.add_price, Cart.add_price, setup=Cart, observe=lambda cart: cart.total)
        """,
    )
    result = run(project)
    printed = [line for line in result.outlines if line.startswith("  pytest ")]
    commands = [shlex.split(line)[1:] for line in dict.fromkeys(printed)]  # in CI, pytest's summary repeats them
    assert [words[0] for words in commands] == ["test_it.py::test_first", "test_it.py::test_second"]
    for words in commands:
        result = in_a_process(project, "-m", "pytest", *PLUGINS, *words)
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["B  cart.py:* in add_price: before = self.total", "wrong result: *"])


def test_the_command_is_quoted_for_a_shell(project: pytest.Pytester) -> None:
    project.makepyfile(
        test_it="""
        import pytest
        from cart import Cart

        @pytest.mark.parametrize("price", [3], ids=['a "b" $c'])
        def test_racy(every_schedule, price):
            every_schedule(Cart.add, Cart.add, setup=Cart, observe=lambda cart: cart.total)
        """
    )
    words = command_of(run(project))
    assert words[0] == 'test_it.py::test_racy[a "b" $c]'
    run(project, *words).assert_outcomes(failed=1)


def test_a_later_call_of_one_test_is_replayed_by_its_number(project: pytest.Pytester) -> None:
    project.makepyfile(test_it=f"{SAFE.rstrip()}{RACY.split('(every_schedule):')[1]}")
    words = command_of(run(project))
    assert words[-2:] == ["--schedule-call", "2"]
    result = run(project, *words)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["B  cart.py:8 in add: before = self.total", "wrong result: *"])
    result = run(project, *words[:-1], "3")
    result.stdout.fnmatch_lines(["NOT SAFE*"])  # the second call explores as usual


@pytest.mark.parametrize("word", ["0", "-1", "two"])
def test_the_number_of_a_call_is_one_or_more(project: pytest.Pytester, word: str) -> None:
    result = run(project, "--schedule", "A | py3.11 0", f"--schedule-call={word}")
    result.stderr.fnmatch_lines([f"*argument --schedule-call: '{word}' makes no sense; give the number of a call*"])


def test_a_call_that_the_test_does_not_make_is_an_error(project: pytest.Pytester) -> None:
    project.makepyfile(SAFE)
    result = run(project, "--schedule", "A | py3.11 0", "--schedule-call", "2")
    result.stdout.fnmatch_lines(["The schedule was not replayed: the test has no call 2 of every_schedule."])
    assert result.ret == pytest.ExitCode.TESTS_FAILED


@pytest.mark.parametrize(("files", "found"), [((RACY, SAFE), "2 of the selected tests use"), ((), "none of the")])
def test_a_schedule_needs_one_test(project: pytest.Pytester, files: tuple[str, ...], found: str) -> None:
    project.makepyfile(test_other="def test_other(): pass", **{f"test_{i}": text for i, text in enumerate(files)})
    result = run(project, "--schedule", "A | py3.11 0")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --schedule replays one test, but {found}*name one: pytest *"])


def test_an_unfinished_search_fails_unless_it_is_allowed(project: pytest.Pytester) -> None:
    project.makepyfile(UNPROVED.format(marker=""))
    result = run(project)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([
        "Nothing bad was found, and nothing was proved:", "  unfinished: not every schedule was run; *",
        "*@pytest.mark.every_schedule(allow=?'unfinished'?)", "NOTHING FOUND so far*",
    ])  # fmt: skip
    run(project, "--explore-allow", "unfinished").assert_outcomes(passed=1)
    run(project, "--explore-allow", "uncontrolled").assert_outcomes(failed=1)
    marker = "@pytest.mark.every_schedule(allow=['unfinished'])"
    project.makepyfile(UNPROVED.format(marker=marker))
    run(project, "--strict-markers").assert_outcomes(passed=1)


def test_lines_that_were_not_split_fail_unless_it_is_allowed(project: pytest.Pytester) -> None:
    text = SAFE.replace("setup=Cart", "setup=Cart, granularity='line'").replace("found.safe and ", "")
    project.makepyfile(text.replace("add_locked", "add_locked_in_one_line"))
    result = run(project)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["  unsplit: some lines were not split; pass granularity='auto'", "SAFE between lines*"]
    )
    run(project, "--explore-allow", "unsplit").assert_outcomes(passed=1)


def test_what_is_allowed_never_covers_a_bad_schedule(project: pytest.Pytester) -> None:
    project.makepyfile(f"import pytest\npytestmark = pytest.mark.every_schedule(allow=['unfinished'])\n{dedent(RACY)}")
    run(project).assert_outcomes(failed=1)


def test_the_command_line_sets_the_budget_of_each_call(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    budgets: list[float] = []
    explore = yolothreads.races.explore

    @wraps(explore)
    def spy(*bodies: Any, **options: Any) -> Any:
        budgets.append(options.get("budget_s", 60.0))
        return explore(*bodies, **options)

    monkeypatch.setattr(yolothreads.races, "explore", spy)
    marker = "@pytest.mark.every_schedule(budget_s=45)"
    project.makepyfile(UNPROVED.format(marker=marker), test_safe=SAFE)
    run(project)
    run(project, "--explore-budget", "34.5")
    assert sorted(budgets) == [34.5, 34.5, 45, 60.0]


@pytest.mark.parametrize("word", ["0", "-1", "nan", "inf", "soon"])
def test_a_budget_that_makes_no_sense_is_refused(project: pytest.Pytester, word: str) -> None:
    result = run(project, f"--explore-budget={word}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*argument --explore-budget: '{word}' makes no sense; give a number of seconds, *"])


def test_the_closest_marker_counts_and_the_call_counts_more(project: pytest.Pytester) -> None:
    project.makepyfile("""
        import pytest
        from cart import Cart

        pytestmark = pytest.mark.every_schedule(setup=Cart, observe=lambda cart: cart.total, preemptions=0)

        def test_of_the_module(every_schedule):
            assert every_schedule(Cart.add, Cart.add).total == 2

        @pytest.mark.every_schedule(preemptions=1)
        def test_of_its_own(every_schedule):
            assert every_schedule(Cart.add_locked, Cart.add_locked).total > 2

        @pytest.mark.every_schedule(preemptions=1)
        def test_of_the_call(every_schedule):
            assert every_schedule(Cart.add, Cart.add, preemptions=0).total == 2
        """)
    run(project).assert_outcomes(passed=3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("budget=3", "The marker every_schedule does not take budget; it takes allow, *budget_s*, by name."),
        ("3", "The marker every_schedule does not take 3; it takes *"),
        ("allow=['all']", "The marker every_schedule has allow=?'all'?; it takes a list of unfinished, *"),
        ("allow='unfinished'", "The marker every_schedule has allow='unfinished'; it takes a list of unfinished, *"),
    ],
)
def test_a_marker_that_makes_no_sense_is_refused(project: pytest.Pytester, words: str, message: str) -> None:
    project.makepyfile(UNPROVED.format(marker=f"@pytest.mark.every_schedule({words})"))
    result = run(project)
    result.stdout.fnmatch_lines([message])
    result.assert_outcomes(errors=1)


def test_markers_and_fixtures_are_documented(project: pytest.Pytester) -> None:
    run(project, "--markers").stdout.fnmatch_lines(
        ["@pytest.mark.every_schedule(allow=(), [*][*]options): options of *"]
    )
    run(project, "--fixtures").stdout.fnmatch_lines(["every_schedule -- *", "*Run two or more functions under every*"])


def test_a_misuse_shows_the_line_of_the_test_and_nothing_of_the_package(project: pytest.Pytester) -> None:
    project.makepyfile("""
        from cart import Cart

        def test_one(every_schedule):
            every_schedule(Cart.add)
        """)
    result = run(project)
    result.stdout.fnmatch_lines([">       every_schedule(Cart.add)", "E  *ExploreError: 1 bodies were given;*"])
    for hidden in ("session.py", "explorer.py", "testing.py", "<string>"):
        assert hidden not in result.stdout.str()


def test_an_error_in_setup_shows_its_own_line(project: pytest.Pytester) -> None:
    project.makepyfile("""
        def test_setup(every_schedule):
            def setup():
                return {}["missing"]
            every_schedule(len, len, setup=setup, watch=["cart"])
        """)
    result = run(project)
    result.stdout.fnmatch_lines([">*return {}[[]?missing?[]]", "E *KeyError: 'missing'"])
    assert "session.py" not in result.stdout.str()


def test_an_error_that_has_a_cause_shows_lines_of_the_test_alone(project: pytest.Pytester) -> None:
    project.makepyfile("""
        from cart import Cart

        class Odd:
            def __eq__(self, other):
                raise KeyError("odd")

        def test_odd(every_schedule):
            def odd(cart):
                cart.add()
                return Odd()
            every_schedule(odd, odd, setup=Cart)
        """)
    result = run(project)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E *KeyError: 'odd'", "E *ExploreError: Two results of type Odd cannot be compared*"])
    for hidden in ("session.py", "judge.py", "references.py", "explorer.py"):
        assert hidden not in result.stdout.str()


def test_lines_of_a_test_file_are_watched_under_their_own_numbers(project: pytest.Pytester) -> None:
    file = project.makepyfile("""
        def test_inside(every_schedule):
            def bump(state):
                before = state["n"]
                assert before >= 0, "pytest rewrites this line"
                state["n"] = before + 1  # here
            every_schedule(bump, bump, setup=lambda: {"n": 0}, observe=lambda state: state["n"])
        """)
    line = next(i for i, text in enumerate(file.read_text().splitlines(), 1) if "# here" in text)
    result = run(project)
    result.stdout.fnmatch_lines([f"  {file.name}:{line} in bump: state[[]*"])
    words = command_of(result)
    assert re.match(r"A@bump:\d+#1>B \| py3", words[-1])
    result = run(project, *words)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["wrong result: gave (None, None, 1)*"])


def test_a_deadlock_is_shown_with_its_stacks_and_the_next_test_runs(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import threading

        def test_deadlock(every_schedule):
            def ab(locks):
                with locks[0]:
                    with locks[1]:
                        pass
            def ba(locks):
                with locks[1]:
                    with locks[0]:
                        pass
            every_schedule(ab, ba, setup=lambda: (threading.Lock(), threading.Lock()))
        """,
        test_later=SAFE,
    )
    result = run(project)
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["deadlock: *"])
    words = command_of(result)
    run(project, *words).stdout.fnmatch_lines(["deadlock: *"])


def test_a_test_that_compares_nothing_is_named(project: pytest.Pytester) -> None:
    project.makepyfile(
        test_it="""
        from cart import Cart

        def test_blind(every_schedule):
            every_schedule(Cart.add, Cart.add, setup=Cart)
        """
    )
    result = run(project)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["test_it.py::test_blind: No result was compared, *; pass observe=."])


def test_junit_keeps_the_verdict_and_the_schedule(project: pytest.Pytester) -> None:
    project.makepyfile(test_it=RACY, test_safe=SAFE)
    schedule = command_of(run(project, "--junit-xml=found.xml"))[-1]
    root = ElementTree.parse(project.path / "found.xml")
    kept = {p.get("name"): p.get("value") for p in root.iterfind(".//testcase[@name='test_racy']/properties/property")}
    assert kept["yolothreads.schedule"] == schedule and "NOT SAFE" in (kept["yolothreads.verdict"] or "")
    (verdict,) = root.iterfind(".//testcase[@name='test_safe']/properties/property[@name='yolothreads.verdict']")
    assert (verdict.get("value") or "").startswith("SAFE")


def test_the_table_of_a_passed_test_is_shown_on_request(project: pytest.Pytester) -> None:
    project.makepyfile(SAFE)
    assert "as sequential" not in run(project).stdout.str()
    run(project, "-rP").stdout.fnmatch_lines(["*every_schedule*", "SAFE *", "as sequential*"])


def test_ctrl_c_ends_all_tests(project: pytest.Pytester) -> None:
    project.makepyfile(
        test_a="""
        from cart import Cart

        def test_interrupted(every_schedule):
            calls = []
            def add(cart):
                cart.add()
            def setup():
                calls.append(1)
                if len(calls) > 4:  # after the sequential runs
                    raise KeyboardInterrupt
                return Cart()
            every_schedule(add, add, setup=setup)
        """,
        test_b=SAFE,
    )
    result = project.runpytest_inprocess(*PLUGINS, no_reraise_ctrlc=True)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.assert_outcomes()
    result.stdout.fnmatch_lines(["*KeyboardInterrupt: NOTHING FOUND so far*"])


def test_what_was_found_before_a_time_limit_is_shown(project: pytest.Pytester) -> None:
    project.makepyfile("""
        import pytest
        from cart import Cart

        def test_racy(every_schedule):
            def strike(trial):
                if trial.kind == "wrong result":
                    pytest.fail("Timeout")  # as pytest-timeout does
            every_schedule(Cart.add, Cart.add, setup=Cart, observe=lambda cart: cart.total, on_trial=strike)
        """)
    result = run(project)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*Failed: Timeout", "Found before the exploration ended:", "wrong result: gave *"])
    assert "search.py" not in result.stdout.str()


# --- in a process of its own: what pytest loads first, and tools that trace, too


def in_a_process(project: pytest.Pytester, *words: str) -> pytest.RunResult:
    return project.run(sys.executable, *words, timeout=scaled(100))


def test_nothing_of_the_package_is_imported_before_a_test_asks_for_it(project: pytest.Pytester) -> None:
    project.makepyfile(
        test_a="""
        import sys

        def test_before():
            ours = {name for name in sys.modules if name.startswith("yolothreads.")}
            assert ours == {"yolothreads.testing"}
            assert not {"numpy", "torch", "yaml", "tqdm"} & {name.split(".")[0] for name in sys.modules}
        """,
        test_b=SAFE,
    )
    result = in_a_process(project, "-m", "pytest", *PLUGINS)
    result.assert_outcomes(passed=2)


def test_it_works_under_xdist(project: pytest.Pytester) -> None:
    project.makepyfile(test_it=RACY, test_safe=SAFE)
    words = ("-m", "pytest", *PLUGINS, "-p", "xdist", "-n", "2", "--junit-xml=found.xml")
    result = in_a_process(project, *words)
    result.assert_outcomes(failed=1, passed=1)
    assert command_of(result)[0] == "test_it.py::test_racy"
    assert "yolothreads.schedule" in (project.path / "found.xml").read_text()
    result = in_a_process(project, *words, *command_of(result))
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["wrong result: gave (None, None, 3)*"])
    result = in_a_process(project, *words, "--schedule", "A | py3.11 0")
    result.stdout.fnmatch_lines(["--schedule replays one test, but 2 of the selected tests use every_schedule;*"])


def test_coverage_counts_the_explored_lines_or_it_is_said_once(project: pytest.Pytester) -> None:
    project.makepyfile(test_it=RACY, test_safe=SAFE)
    result = in_a_process(project, "-m", "coverage", "run", "--include=cart.py", "-m", "pytest", *PLUGINS)
    result.assert_outcomes(failed=1, passed=1)
    row = next(line for line in in_a_process(project, *REPORT).outlines if line.startswith("cart.py"))
    said = [line for line in result.outlines if line.startswith("coverage does not see the lines that run under")]
    assert ("8-9" not in row and not said) if MONITORING else ("8-9" in row and len(said) == 1), (row, said)


def test_a_time_limit_ends_an_exploration_and_the_next_test_runs(project: pytest.Pytester) -> None:
    text = """
        import pytest
        from cart import Cart

        @pytest.mark.timeout(1, method="signal")
        def test_long(every_schedule):
            def adds(cart):
                for _ in range(20):
                    cart.add_locked()
            every_schedule(adds, adds, adds, setup=Cart, preemptions=9, budget_s=1e6)
        """
    project.makepyfile(test_a=text, test_b=SAFE)
    result = in_a_process(project, "-m", "pytest", *PLUGINS, "-p", "pytest_timeout")
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["*Timeout*1*"])


def test_a_debugger_is_named(project: pytest.Pytester) -> None:
    project.makepyfile(test_it=f"import sys\nsys.settrace(lambda *_: None)\n{dedent(RACY)}")
    result = in_a_process(project, "-m", "pytest", *PLUGINS)
    result.assert_outcomes(failed=1)
    assert ("test_it does not see the lines" in result.stdout.str()) is not MONITORING


def test_without_the_entry_point_the_plugin_can_be_named(project: pytest.Pytester) -> None:
    check = "import sys; import yolothreads.testing; print('pytest' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", check], text=True, timeout=scaled(100)).strip() == "True"
