"""Which code is watched by default, what is listed as not watched, and on which source a schedule depends."""

import importlib
import importlib.util
import json
import sys
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cells
import pytest
from deadlines import scaled
from test_tracing import VERSIONS, interpreter, run

from benchmarks import bodies
from benchmarks.bodies import state
from yolothreads.errors import ExploreError
from yolothreads.races import Exploration, explore, replay, side_by_side

pytestmark = pytest.mark.timeout(scaled(120))

Make = Callable[..., types.ModuleType]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Return a function that writes modules, given by their names, and imports the last one."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(**sources: str) -> types.ModuleType:
        for name, source in sources.items():
            (tmp_path / f"{name}.py").write_text(source)
            monkeypatch.delitem(sys.modules, name, raising=False)
        return __import__(list(sources)[-1])

    return write


HELPER = "def bump(s):\n    n = s.n\n    s.n = n + 1\n"
USES = "import helper\n\ndef body(s):\n    helper.bump(s)\n"


def counted(module: types.ModuleType, **options: Any) -> Exploration:
    return explore(module.body, module.body, setup=state(n=0), observe=bodies.number, **options)


# --- by default


def test_a_race_in_a_second_file_is_found(make: Make) -> None:
    found = counted(make(helper=HELPER, program=USES))
    assert found.forbidden and {place.function for place in found.executed} == {"body", "bump"}


def test_a_race_in_a_method_of_a_class_in_a_third_file_is_found(make: Make) -> None:
    counter = "class Counter:\n    def bump(self, s):\n        n = s.n\n        s.n = n + 1\n"
    helper = "import counter\n\ndef bump(s):\n    counter.Counter().bump(s)\n"
    assert counted(make(counter=counter, helper=helper, program=USES)).forbidden


def test_a_race_in_a_module_that_a_body_imports_is_found(make: Make) -> None:
    assert counted(make(helper=HELPER, program="def body(s):\n    import helper\n    helper.bump(s)\n")).forbidden


def test_a_race_in_a_callback_that_the_standard_library_calls_is_found(make: Make) -> None:
    body = "import helper, functools\n\ndef body(s):\n    functools.reduce(lambda a, b: helper.bump(s), [1, 2])\n"
    assert counted(make(helper=HELPER, program=body)).forbidden


def test_a_race_in_a_function_without_a_file_is_found(make: Make) -> None:
    body = f"space = {{}}\nexec({HELPER!r}, space)\n\ndef body(s):\n    space['bump'](s)\n"
    assert counted(make(program=body)).forbidden


def test_a_race_in_a_method_that_dataclass_writes_is_found() -> None:
    from dataclasses import dataclass

    @dataclass
    class Pair:
        a: int = 0
        b: int = 0

    def compare(s: Any) -> bool:
        return s.pair == Pair(1, 0)

    def change(s: Any) -> None:
        s.pair.a = 1
        s.pair.b = 1

    found = explore(compare, change, setup=state(pair=Pair))
    assert any("__eq__" in place.function for place in found.executed)


def test_installed_packages_are_not_watched_by_default() -> None:
    def body(s: Any) -> object:
        return json.loads(s.text)

    found = explore(body, body, setup=state(text=lambda: "[1]"))
    assert {place.function for place in found.executed} == {"body"}
    assert found.unwatched == ("json.loads", "json.decoder.JSONDecoder.decode", "json.decoder.JSONDecoder.raw_decode")


# --- what is not watched


def test_functions_outside_watch_are_listed_and_named_in_the_verdict(make: Make) -> None:
    found = counted(make(helper=HELPER, program=USES), watch=["program"])
    assert not found.forbidden and found.safe, "the method cannot see it, so the verdict has to say so"
    assert found.unwatched == ("helper.bump",)
    assert found.verdict.startswith("SAFE in program; not looked into: helper.bump. Each of ")
    assert "Not looked into: helper.bump; watch= can name them." in str(found)
    assert side_by_side(it=found).to_dicts()[-1]["it"] == "SAFE in program"


def test_a_long_list_of_unwatched_functions_is_cut_in_the_verdict(make: Make) -> None:
    functions = "".join(f"def f{i}(s): return s.n\n" for i in range(30))
    calls = "".join(f"    helper.f{i}(s)\n" for i in range(30))
    found = counted(make(helper=functions, program=f"import helper\n\ndef body(s):\n{calls}"), watch=["program"])
    assert len(found.unwatched) == 30
    assert "not looked into: helper.f0, helper.f1, helper.f2 and 27 more. " in found.verdict
    assert "helper.f19 and 10 more; watch=" in str(found)


def test_a_worker_thread_that_runs_unwatched_code_is_noticed(make: Make) -> None:
    from concurrent.futures import ThreadPoolExecutor

    module = make(
        helper=HELPER, program="import helper\n\ndef body(s):\n    return s.submit(helper.bump, s).result()\n"
    )

    def setup() -> ThreadPoolExecutor:
        pool = ThreadPoolExecutor(1)
        pool.n = 0  # type: ignore[attr-defined]
        return pool

    found = explore(module.body, module.body, setup=setup, watch=["program"])
    assert found.unwatched == ("helper.bump",)


def test_a_function_of_the_standard_library_that_a_worker_is_given_is_listed() -> None:
    import copy
    from concurrent.futures import ThreadPoolExecutor

    def body(s: Any) -> object:
        return s.submit(copy.copy, s.shared).result()

    def setup() -> ThreadPoolExecutor:
        pool = ThreadPoolExecutor(1)
        pool.shared = [1]  # type: ignore[attr-defined]
        return pool

    assert explore(body, body, setup=setup).unwatched == ("copy.copy",)


def test_waiting_is_not_listed_because_the_explorer_schedules_it() -> None:
    import queue

    def put(s: Any) -> None:
        s.put(1)

    def get(s: Any) -> object:
        return s.get()

    found = explore(put, get, setup=queue.Queue)
    assert found.unwatched == () and found.safe and found.verdict.startswith("SAFE within the bound")


def test_the_code_that_setup_and_observe_run_is_not_listed() -> None:
    def setup() -> Any:
        json.loads("1")
        return state(n=0)()

    found = explore(
        bodies.bump_locked, bodies.read_only, setup=lambda: state(n=0, lock=_lock)(), observe=lambda s: json.loads("1")
    )
    assert found.unwatched == ()
    assert setup()


def _lock() -> Any:
    import threading

    return threading.Lock()


def test_bodies_of_which_none_runs_a_watched_line_are_refused() -> None:
    with pytest.raises(ExploreError, match="Bodies A, B ran no line"):
        explore(bodies.bump, bodies.bump, setup=state(n=0), watch=["json"])


def test_a_body_outside_watch_is_run_beside_one_inside() -> None:
    def outside(s: Any) -> None:
        s.n = -1

    found = explore(bodies.bump, outside, setup=state(n=0), watch=[bodies], observe=bodies.number)
    assert found.forbidden and any("Body B ran no watched line" in note for note in found.notes)
    assert any("outside" in name for name in found.unwatched)


def test_methods_behind_descriptors_belong_to_a_class_that_is_watched(make: Make) -> None:
    body = (
        "from functools import cached_property, partialmethod, singledispatchmethod\n\nclass Counter:\n"
        "    n = 0\n\n    @cached_property\n    def cached(self):\n        return self.n\n\n"
        "    @singledispatchmethod\n    def add(self, k):\n        self.n += k\n\n"
        "    @add.register\n    def _(self, k: str):\n        self.n += int(k)\n\n"
        "    more = partialmethod(add, '1')\n\n"
        "def body(s):\n    s.add(1)\n    s.more()\n    return s.cached\n"
    )
    program = make(program=body)
    found = explore(program.body, program.body, setup=program.Counter, watch=[program.Counter])
    assert {place.text for place in found.executed} == {"return self.n", "self.n += k", "self.n += int(k)"}


def test_what_a_dispatched_function_calls_is_watched_with_it(make: Make) -> None:
    program = make(
        program="from functools import singledispatch\n\n@singledispatch\ndef bump(s):\n    s.n += 1\n\n"
        "@bump.register\ndef _(s: list):\n    s[0] += 1\n"
    )
    assert explore(program.bump, program.bump, setup=lambda: [0], observe=list, watch=[program.bump]).forbidden


def test_a_module_that_was_loaded_from_a_path_is_watched(tmp_path: Path) -> None:
    (tmp_path / "loose.py").write_text(HELPER)
    spec = importlib.util.spec_from_file_location("loose", tmp_path / "loose.py")
    assert spec is not None and spec.loader is not None
    spec.loader.exec_module(loose := importlib.util.module_from_spec(spec))
    assert explore(loose.bump, loose.bump, setup=state(n=0), observe=bodies.number).forbidden


# --- the version


@pytest.mark.parametrize("options", [{}, {"watch": ["zipped"]}])
def test_a_changed_function_in_a_zip_file_is_refused(
    options: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(source: str) -> types.ModuleType:
        with zipfile.ZipFile(tmp_path / f"{len(source)}.zip", "w") as file:
            file.writestr("zipped.py", source)
        monkeypatch.syspath_prepend(str(tmp_path / f"{len(source)}.zip"))
        monkeypatch.delitem(sys.modules, "zipped", raising=False)
        return importlib.import_module("zipped")

    given: Any = {"setup": state(n=0), "observe": bodies.number, **options}
    module = load(HELPER)
    found = explore(module.bump, module.bump, **given)
    assert found.replay(found.forbidden[0].schedule).kind == found.forbidden[0].kind
    module = load(HELPER.replace("n + 1", "n + 20"))
    with pytest.raises(ExploreError, match="lines may have moved"):
        replay(found.forbidden[0].schedule, module.bump, module.bump, **given)


def test_each_of_two_lambdas_without_a_file_counts() -> None:
    def made(*steps: int) -> list[Any]:
        return list(eval(", ".join(f"lambda s: setattr(s, 'n', s.n + {step})" for step in steps)))

    given: Any = {"setup": state(n=0), "observe": bodies.number}
    schedule = explore(*made(1, 2), **given).forbidden[0].schedule
    assert replay(schedule, *made(1, 2), **given).kind != "as sequential"
    for steps in ((3, 2), (1, 3)):
        with pytest.raises(ExploreError, match="lines may have moved"):
            replay(schedule, *made(*steps), **given)


def test_a_changed_helper_in_a_second_file_is_refused(make: Make) -> None:
    schedule = counted(make(helper=HELPER, program=USES)).forbidden[0].schedule
    changed = make(helper=f"\n{HELPER}", program=USES)
    with pytest.raises(ExploreError, match="lines may have moved"):
        replay(schedule, changed.body, changed.body, setup=state(n=0), observe=bodies.number)


def test_a_file_that_is_reached_only_once_counts_later_too(make: Make) -> None:
    body = (
        "import helper\nfrom functools import lru_cache\n\n@lru_cache\ndef load(): return helper.load()\n\n"
        "def body(s):\n    n = s.n\n    s.n = n + load()\n"
    )
    found = counted(make(helper="def load(): return 1\n", program=body))
    assert [found.replay(trial.schedule).kind for trial in found.forbidden] == ["wrong result"] * len(found.forbidden)


@pytest.mark.parametrize("granularity", ["line", "instruction"])
def test_a_schedule_says_its_granularity_unless_it_is_auto(granularity: str) -> None:
    by_itself, other = (
        explore(bodies.bump, bodies.bump, setup=state(n=0), granularity=g) for g in ("auto", granularity)
    )
    assert other.trials[0].schedule.split()[-2] == granularity
    assert len(by_itself.trials[0].schedule.split()) + 1 == len(other.trials[0].schedule.split())
    for trial in other.trials:
        assert replay(trial.schedule, bodies.bump, bodies.bump, setup=state(n=0)).schedule == trial.schedule


# --- the source map


def test_the_lines_of_the_racy_window_stand_above_lines_that_run_often() -> None:
    def often(s: Any) -> None:
        for i in range(30):
            s.other = i
        n = s.n
        s.n = n + 1

    worst = explore(often, often, setup=state(n=0, other=0), observe=bodies.number).source_map().worst()
    assert worst[0].text == "s.n = n + 1" and all("other" not in place.text for place in worst[:1])


# --- notebooks


@pytest.mark.parametrize("version", ["", *(pytest.param(name, marks=pytest.mark.nightly) for name in VERSIONS)])
def test_all_functions_of_a_notebook_are_watched_and_edited_ones_are_refused(version: str) -> None:
    reported = run(interpreter(version) if version else sys.executable, "cells.py")
    assert {name: fault for name, fault in reported.items() if fault} == {}
    assert len(reported) == 2 * len(cells.NOTEBOOKS) + 10
