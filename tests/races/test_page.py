"""A schedule as a page: what stands in it; hostile texts stay texts; reading values changes no outcome."""

import importlib.util
import json
import re
import threading
import time
from collections.abc import Callable
from html import unescape
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from deadlines import scaled

from benchmarks import bodies
from benchmarks.bodies import state
from yolothreads.errors import ExploreError, OutputError
from yolothreads.races import (
    DEADLOCK,
    EXCEPTION,
    RIGHT,
    WRONG,
    Exploration,
    Trial,
    Where,
    explore,
    page,
    replay,
    values,
)

pytestmark = pytest.mark.timeout(scaled(120))
HOSTILE = "<script>alert(1)</script> </script> <!-- \" ' & \u2028 \0 \ud800 \u202e"
SHOWN = "<script>alert(1)</script> </script> <!-- \" ' & \\u2028 \\x00 \\ud800 \\u202e"


def story_of(file: Path) -> dict[str, Any]:
    """Return the data that the script of a page reads."""
    text = file.read_text(encoding="utf-8")
    return json.loads(text.partition('id="story">')[2].partition("</script>")[0])


def text_of(file: Path) -> str:
    """Return what a page shows without JavaScript."""
    body = file.read_text(encoding="utf-8").partition("<body>")[2].partition('<script type="application/json"')[0]
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", body)).split())


def said(file: Path) -> list[str]:
    """Return the sentence of each position."""
    story = story_of(file)
    return [story["texts"][position[3]] for position in story["positions"]]


@pytest.fixture
def racy() -> Exploration:
    return explore(bodies.bump, bodies.bump, setup=state(n=0, m=5))


@pytest.fixture
def lost() -> Exploration:
    return explore(bodies.bump, bodies.bump, setup=state(n=0), observe=bodies.number)


# --- what stands in it


def test_the_page_of_the_first_bad_schedule_says_what_happened_and_what_changed(
    lost: Exploration, tmp_path: Path
) -> None:
    file = lost.save_page(tmp_path / "lost.html")
    assert file == tmp_path / "lost.html"
    text = text_of(file)
    assert lost.forbidden[0].schedule.partition(" |")[0] in text
    assert f"{WRONG} : no sequential order" in text and lost.verdict in text
    assert "gave (None, None, 1); one after the other they give (None, None, 2)" in text
    assert "value = s.n" in text and "s.n = value + 1" in text
    assert "observed: 0 → 1" in text
    assert said(file)[-1].startswith("The end, after 4 steps.")
    assert any("changed observed: 0 → 1" in sentence for sentence in said(file))


def test_without_observe_the_attributes_of_the_state_are_shown_those_that_change_first(
    racy: Exploration, tmp_path: Path
) -> None:
    text = text_of(racy.save_page(str(tmp_path / "page.html")))
    assert re.search(r"before this step n 0 1 part of it did not change .* m 5", text)


def test_any_schedule_can_be_chosen_and_without_a_bad_one_it_is_the_first(tmp_path: Path) -> None:
    found = explore(bodies.bump_locked, bodies.bump_locked, setup=state(n=0, lock=threading.Lock))
    assert found.safe
    file = found.save_page(tmp_path / "first.html")
    assert f"Schedule: {found.trials[0].schedule.partition(' |')[0]} " in text_of(file)
    waiting = next(trial.schedule for trial in found.trials if "bump_locked" in trial.schedule)
    text = text_of(found.save_page(tmp_path / "other.html", waiting))
    assert "lock: free → held by A" in text.replace("free  →", "free →") and f"{RIGHT} :" in text


def test_threads_that_wait_are_named_with_what_they_wait_for(tmp_path: Path) -> None:
    found = explore(bodies.bump_locked, bodies.bump_locked, setup=state(n=0, lock=threading.Lock))
    blocked = ("B",), ("a lock that A holds",)
    trials = [found.replay(trial.schedule) for trial in found.trials]
    schedule = next(t.schedule for t in trials if any((s.waits, s.awaited) == blocked for s in t.steps))
    story = story_of(found.save_page(tmp_path / "page.html", schedule))
    assert any(re.fullmatch(r"waits in line \d+ of bump_locked, for a lock that A holds", t) for t in story["texts"])


def test_a_deadlock_shows_where_each_thread_stood_and_who_waits_for_ever(tmp_path: Path) -> None:
    locks = state(n=0, a=threading.Lock, b=threading.Lock)
    found = explore(bodies.first_then_second, bodies.second_then_first, setup=locks)
    file = found.save_page(tmp_path / "page.html")
    text = text_of(file)
    assert found.forbidden[0].kind == DEADLOCK
    assert "A waits for a lock that B holds; B waits for a lock that A holds; no thread can continue" in text
    last = story_of(file)["positions"][-1][0]
    assert [story_of(file)["texts"][words].startswith("waits for ever in line") for _, _, words in last] == [True, True]
    assert "Where each thread stood" in text and "held by A" in text


def test_the_value_after_the_last_line_is_shown(tmp_path: Path) -> None:
    def put(s: list[int]) -> None:
        s.append(len(s))

    found = explore(put, put, setup=list)
    trial = found.replay(found.trials[0].schedule)
    assert trial.inspected is None
    assert "state changed: [0] → [0, 1]" in said(found.save_page(tmp_path / "p.html"))[-1].replace(
        "B changed state", "state changed"
    )


def test_without_setup_the_variables_that_the_bodies_share_are_shown(tmp_path: Path) -> None:
    total = [0]

    def add() -> None:
        before = total[0]
        total[0] = before + 1

    assert re.search(r"total: \[\d+\] → \[\d+\]", " ".join(said(explore(add, add).save_page(tmp_path / "page.html"))))


def test_without_setup_the_object_of_a_method_is_shown(tmp_path: Path) -> None:
    one = Guarded()
    file = explore(one.add, one.add, restore=lambda _: setattr(one, "n", 0)).save_page(tmp_path / "page.html")
    assert "self.n: 0 → 1" in " ".join(said(file)) and "self.lock: free → held by A" in " ".join(said(file))


def test_a_page_of_a_long_schedule_keeps_the_steps_around_each_change(tmp_path: Path) -> None:
    def count(s: Any) -> None:
        for i in range(2 * page.MOST_STEPS):
            s.last = i // page.MOST_STEPS

    found = explore(count, bodies.bump, setup=state(n=0, last=0), watch=[count, bodies.bump], preemptions=0)
    file = found.save_page(tmp_path / "page.html", found.trials[0].schedule)
    assert len(story_of(file)["positions"]) <= page.MOST_STEPS
    assert "steps left out, without a switch or a change" in text_of(file)
    assert "last: 0 → 1" in " ".join(said(file)) and "n: 0 → 1" in " ".join(said(file))


# --- files


def test_an_existing_file_is_replaced_and_nothing_else_is_left(lost: Exploration, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_text("old", encoding="utf-8")
    lost.save_page(file)
    assert [entry.name for entry in tmp_path.iterdir()] == ["page.html"]
    assert file.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_a_file_that_cannot_be_written_is_one_sentence(lost: Exploration, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "missing" / "page.html", tmp_path / "folder"):
        with pytest.raises(OutputError, match=r'^The page could not be written to ".*" \(.*\); name a file .*\.$'):
            lost.save_page(path)
    assert [entry.name for entry in tmp_path.rglob("*")] == ["folder"]


def test_a_misspelt_schedule_writes_nothing(lost: Exploration, tmp_path: Path) -> None:
    with pytest.raises(ExploreError, match="what it was made for"):
        lost.save_page(tmp_path / "page.html", "A@bump")
    assert list(tmp_path.iterdir()) == []


# --- texts of others


@pytest.fixture
def hostile(tmp_path: Path) -> ModuleType:
    """A module whose source, names, values and messages are markup."""
    file = tmp_path / "odd.py"
    source = HOSTILE.replace("\0", "").replace("\ud800", "").replace('"', "")
    file.write_text(
        f"""def body(s):
    before = s["n"]  # {source}
    s["n"] = before + 1
    if before:
        raise ValueError(MESSAGE)
    return MESSAGE
""",
        encoding="utf-8",
    )
    spec = importlib.util.spec_from_file_location("odd", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.MESSAGE = HOSTILE
    return module


def explored(module: ModuleType) -> Exploration:
    def setup() -> dict[str, Any]:
        return {"n": 0, HOSTILE: HOSTILE}

    return explore(module.body, module.body, setup=setup, watch=[module.body])


def test_markup_in_names_values_source_and_messages_stays_text(hostile: ModuleType, tmp_path: Path) -> None:
    file = explored(hostile).save_page(tmp_path / "page.html", explored(hostile).trials[0].schedule)
    raw = file.read_text(encoding="utf-8")
    assert raw.count("<script") == raw.count("</script") == 2 and raw.count("<!--") == 0
    assert re.search("[\0\u2028\u202e\ud800]", raw) is None
    shown = unescape(raw)
    source = HOSTILE.replace("\0", "").replace("\ud800", "").replace('"', "")
    assert page.seen(source) in shown  # the line of the source
    assert f'<th scope="row">{SHOWN}</th>' in shown  # the name
    assert shown.count("alert(1)") >= 5


def test_values_are_cut_to_200_characters(tmp_path: Path) -> None:
    long = "x" * 10_000

    def body(s: Any) -> Any:
        s.n += 1
        if s.n == 2:
            raise ValueError(long)
        return [long, {long: long}]

    found = explore(body, body, setup=state(n=0, text=long, many=[long] * 100), observe=None)
    for trial in (found.trials[0], found.trials[-1]):
        raw = found.save_page(tmp_path / "page.html", trial.schedule).read_text(encoding="utf-8")
        assert "x" * 50 in raw and "x" * 201 not in raw


def test_without_values_no_page_holds_any(tmp_path: Path) -> None:
    secret = "hunter2"

    def leak(s: Any) -> str:
        before = s.n
        s.n = before + 1
        if s.n == 1 and before == 0 and s.seen:
            raise ValueError(s.text)
        s.seen = True
        return s.text

    found = explore(leak, leak, setup=state(n=0, seen=False, text=secret), observe=lambda s: (s.n, s.text))
    assert {trial.kind for trial in found.trials} >= {RIGHT, EXCEPTION}
    for trial in found.trials:
        file = found.save_page(tmp_path / "page.html", trial.schedule, values=False)
        assert secret not in file.read_text(encoding="utf-8")
        assert "The values were left out" in text_of(file)
    raised = next(trial.schedule for trial in found.trials if trial.kind == EXCEPTION)
    assert " raised ValueError." in text_of(found.save_page(tmp_path / "page.html", raised, values=False))


# --- reading values changes nothing


class Guarded:
    """A counter whose text and whose observed value take the lock that its method holds."""

    def __init__(self) -> None:
        self.lock, self.n = threading.Lock(), 0

    def __repr__(self) -> str:
        with self.lock:
            return f"Guarded({self.n})"

    def add(self) -> None:
        with self.lock:
            before = self.n
            self.n = before + 1


def test_a_text_that_takes_a_held_lock_is_not_readable_and_changes_no_outcome(tmp_path: Path) -> None:
    def body(s: Any) -> None:
        s.inner.add()

    found = explore(body, body, setup=lambda: SimpleNamespace(inner=Guarded()), watch=[body, Guarded.add])
    began = time.monotonic()
    text = text_of(found.save_page(tmp_path / "page.html", found.trials[-1].schedule))
    assert "(Guarded: not readable now, it needs a lock that A holds)" in text
    assert not any("changed inner: Guarded(0) → (" in sentence for sentence in said(tmp_path / "page.html"))
    assert re.search(r"Guarded\(\d\)", text) and f"{RIGHT} :" in text
    assert time.monotonic() - began < scaled(10)


def test_an_inspection_neither_waits_nor_passes_on_the_turn() -> None:
    def look(s: Any) -> int:
        time.sleep(3600)
        if not s.lock.acquire(timeout=3600):
            return -1
        s.lock.release()
        return s.n

    options: dict[str, Any] = {"setup": state(n=0, lock=threading.Lock)}
    found = explore(bodies.bump_locked, bodies.bump_locked, **options)
    for trial in found.trials:
        plain = replay(trial.schedule, bodies.bump_locked, bodies.bump_locked, **options)
        seen = replay(trial.schedule, bodies.bump_locked, bodies.bump_locked, **options, inspect=look)
        assert [step[:2] for step in seen.steps] == [step[:2] for step in plain.steps]
        assert -1 in [step.inspected for step in seen.steps] and seen.inspected == 2


class Raises:
    def __repr__(self) -> str:
        raise RuntimeError("no text")


class Pages(list[int]):
    def __repr__(self) -> str:
        return "\n".join(map(str, self))


class Array:
    """Like one of numpy or torch."""

    dtype = "float32"

    def __init__(self, *shape: int) -> None:
        self._shape = shape

    @property
    def shape(self) -> tuple[int, ...]:
        return self._shape

    def tolist(self) -> list[float]:
        return [0.5] * self._shape[0]


class Nested:
    def __repr__(self) -> str:
        return f"<{self!r}>"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Raises(), "(Raises: its text raises RuntimeError)"),
        (Nested(), "(Nested: its text raises RecursionError)"),
        (SimpleNamespace(a=1), "namespace(a=1)"),
        (Guarded(), "Guarded(0)"),
        (threading.Lock(), "free"),
        ("a" * 500, "'" + "a" * 97),
        (state, "<function state>"),
        (object(), "object()"),
        ([Pages(range(100))], "[Pages of 100 items]"),
        (Array(3, 640, 640), "Array of shape (3, 640, 640), float32"),
        (Array(2), "Array([0.5, 0.5])"),
        (threading.Thread(name="helper"), "Thread(helper)"),
        (threading.Event(), "not set"),
        (float("nan"), "nan"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_texts_of_values(value: Any, text: str) -> None:
    assert values.brief(value).startswith(text) and len(values.brief(value)) <= values.LONGEST


def test_a_structure_that_holds_itself_has_a_text() -> None:
    own: list[Any] = [1]
    own.append(own)
    assert values.brief(own).startswith("[1, [1, [1,")


def test_attributes_are_read_without_calling_code_of_the_class() -> None:
    class Slotted:
        __slots__ = ("a", "b")

        @property
        def c(self) -> int:
            raise AssertionError

    thing = Slotted()
    thing.a = 1
    assert values.parts_of(thing) == {"a": 1}
    assert values.parts_of({"x": 1, 2: 3}) == {"x": 1, "2": 3}
    assert values.parts_of([1]) == {"state": [1]}


def test_where_reading_values_changes_the_outcome_the_page_is_made_without() -> None:
    where = Where("none.py", "f", 1, "f()")
    outcome = Trial("A | py", WRONG, "gave 1", where)
    asked: list[bool] = []

    def again(look: values.Look) -> Trial:
        asked.append(look.values)
        return Trial("A | py", WRONG, "gave 2" if look.values else "gave 1", where)

    look, trial, note = page._replayed(again, outcome, True)
    assert asked == [True, False] and not look.values and trial == outcome
    assert "or changes what happens" in note


def test_an_outcome_that_has_other_words_in_each_run_is_no_reason_to_leave_values_out() -> None:
    where, runs = Where("none.py", "f", 1, "f()"), iter(range(9))

    def again(look: values.Look) -> Trial:
        return Trial("A | py", WRONG, f"gave folder {next(runs)}", where)

    look, trial, note = page._replayed(again, None, True)
    assert look.values and (trial.detail, note) == ("gave folder 1", "")


def test_an_observe_that_changes_the_state_is_not_called_at_each_step(tmp_path: Path) -> None:
    def put(s: list[int]) -> None:
        s.append(1)
        s.append(2)

    def take(s: list[int]) -> list[int]:
        taken = s[:]
        s.clear()
        return taken

    found = explore(put, put, setup=list, observe=take)
    assert "or changes what happens" in text_of(found.save_page(tmp_path / "page.html"))


def test_a_part_whose_text_takes_too_long_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow:
        def __repr__(self) -> str:
            until = time.thread_time() + 0.02
            while time.thread_time() < until:
                pass
            return "Slow"

    monkeypatch.setattr(values, "READING_S", 0.02)
    found = explore(bodies.bump, bodies.bump, setup=state(n=0, slow=Slow))
    text = text_of(found.save_page(tmp_path / "page.html"))
    assert "Takes too long to be shown at each step: slow." in text and "n: 0 → 1" in text.replace("n:  0", "n: 0")


@pytest.mark.nightly
def test_an_endless_text_ends_the_reading_and_not_the_page(tmp_path: Path) -> None:
    class Endless:
        def __repr__(self) -> str:
            while True:
                pass

    found = explore(bodies.bump, bodies.bump, setup=state(n=0, endless=Endless), observe=bodies.number)
    assert "or changes what happens" not in text_of(found.save_page(tmp_path / "observed.html"))
    found = explore(bodies.bump, bodies.bump, setup=state(n=0, endless=Endless))
    assert "or changes what happens" in text_of(found.save_page(tmp_path / "endless.html"))


def test_a_text_that_blocks_after_the_run_does_not_hold_up_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "AFTERWARDS_S", 0.05)
    guarded = Guarded()
    with guarded.lock:
        assert values.brief_afterwards(guarded) == "(Guarded: its text takes too long)"
    assert values.brief_afterwards(guarded) == "Guarded(0)"


def test_a_schedule_by_instruction_has_a_page(tmp_path: Path) -> None:
    body: Callable[..., Any] = bodies.bump_in_one_line
    found = explore(body, body, setup=state(n=0), observe=bodies.number, granularity="instruction")
    assert found.forbidden[0].kind == WRONG
    assert "s.n += 1" in text_of(found.save_page(tmp_path / "page.html"))


# --- pages of a whole run


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder into which explorations save their pages."""
    monkeypatch.setenv("YOLOTHREADS_PAGES", str(tmp_path))
    return tmp_path


def test_with_a_folder_for_pages_each_exploration_with_a_bad_schedule_saves_one(kept: Path) -> None:
    before = time.time_ns()
    found = explore(bodies.bump, bodies.bump, setup=state(n=0), observe=bodies.number)
    explore(bodies.bump_locked, bodies.bump_locked, setup=state(n=0, lock=threading.Lock))
    (file,) = kept.iterdir()
    assert before < int(file.name.partition("_")[0]) < time.time_ns()
    assert found.forbidden[0].schedule.partition(" |")[0] in text_of(file)


def test_a_page_that_cannot_be_saved_is_a_warning_and_loses_nothing(
    kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("YOLOTHREADS_PAGES", str(kept / "missing"))
    with pytest.warns(UserWarning, match="A page of this exploration could not be saved"):
        found = explore(bodies.bump, bodies.bump, setup=state(n=0), observe=bodies.number)
    assert found.forbidden
