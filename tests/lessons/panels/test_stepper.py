"""Steps of a replayed schedule: where each thread is, what is shared, what changed, and how the page shows it."""

import threading
from types import SimpleNamespace

import pytest

from yolothreads.lessons.panels.stepper import (
    SharedState,
    Steps,
    function_of,
    source_html,
    state_html,
    threads_html,
)
from yolothreads.races import explore, replay


def bump(s):
    value = s.n
    s.n = value + 1


def bump_locked(s):
    with s.lock:
        value = s.n
        s.n = value + 1


def first_then_second(s):
    with s.one:  # noqa: SIM117
        with s.other:
            s.n += 1


def second_then_first(s):
    with s.other:  # noqa: SIM117
        with s.one:
            s.n -= 1


def state():
    return SimpleNamespace(n=0, lock=threading.Lock(), one=threading.Lock(), other=threading.Lock())


def steps_of(*bodies, where, inspect=None, setup=state):
    """Return the replay of the first schedule that lets B go on before a line with this text."""
    found = explore(*bodies, setup=setup)
    schedule = next(t.schedule for t in found.trials if t.schedule[0] == "A" and t.switches and where in t.where.text)
    shared = SharedState(inspect, has_state=setup is not None)
    return Steps(replay(schedule, *bodies, setup=setup, inspect=shared), len(bodies), shared)


@pytest.fixture
def lost():
    return steps_of(bump, bump, where="s.n = value + 1")


@pytest.fixture
def locked():
    return steps_of(bump_locked, bump_locked, where="value = s.n")


def places(steps, at):
    return {p.thread: (p.key, p.where.text if p.where else "") for p in steps.places(at)}


# --- where threads are


def test_the_running_and_the_stopped_thread_are_shown_at_their_lines(lost):
    assert places(lost, 0) == {"A": ("has_turn", "value = s.n"), "B": ("not_begun", "")}
    assert places(lost, 1)["A"] == ("stopped", "s.n = value + 1")
    assert places(lost, 1)["B"] == ("has_turn", "value = s.n")
    assert places(lost, 3)["B"] == ("last_line", "")
    assert places(lost, 4) == {"A": ("is_done", ""), "B": ("is_done", "")}


def test_a_thread_that_waits_for_a_lock_is_shown_at_the_line_that_acquires_it(locked):
    waits = [at for at in range(len(locked)) if places(locked, at)["B"] == ("waits", "with s.lock:")]
    assert waits == [2, 3, 4], "from when it came to the lock until A had let it go"
    assert [locked.seen[at]["lock"] for at in waits] == ["held by A"] * 3
    assert 2 in locked.changes


def test_at_the_end_of_a_deadlock_both_wait_for_ever_and_hold_what_they_hold():
    steps = steps_of(first_then_second, second_then_first, where="with s.other:")
    assert places(steps, steps.end) == {
        "A": ("waits_for_ever", "with s.other:"),
        "B": ("waits_for_ever", "with s.one:"),
    }
    assert steps.seen[steps.end] == {"n": "0", "lock": "free", "one": "held by A", "other": "held by B"}


# --- what changes


def test_changes_are_shown_with_the_previous_text(lost):
    assert [lost.changed(at) for at in range(len(lost))] == [{}, {}, {}, {"n": "0"}, {}]
    assert lost.changes == [0, 1, 3, 4]
    assert [lost.next_change(at) for at in range(5)] == [1, 3, 3, 4, 4]
    assert [lost.previous_change(at) for at in range(5)] == [0, 0, 1, 1, 3]


def test_the_table_has_the_steps_around_each_change(lost):
    table = lost.table()
    assert table.headers == ["step", "thread", "line", "about to run", "n now", "lock now", "one now", "other now"]
    assert [(row[0], row[1], row[4]) for row in table.rows] == [
        (1, "A", "0"),
        (2, "B", "0"),
        (3, "B", "0"),
        (4, "A", "1"),
    ]


# --- what is shared


def test_named_functions_are_called_with_the_state():
    steps = steps_of(bump, bump, where="s.n = ", inspect={"twice n": lambda s: 2 * s.n, "the lock": lambda s: s.lock})
    assert steps.names == ["twice n", "the lock"]
    assert [seen["twice n"] for seen in steps.seen] == ["0", "0", "0", "2", "2"]
    assert {seen["the lock"] for seen in steps.seen} == {"free"}


def test_without_a_state_named_functions_are_called_with_nothing():
    box = SimpleNamespace(n=5)
    steps = steps_of(lambda: bump(box), lambda: bump(box), where="s.n = ", inspect={"n": lambda: box.n}, setup=None)
    assert [seen["n"] for seen in steps.seen][-1] == str(box.n)


def test_a_function_that_fails_is_shown_and_has_no_other_effect():
    steps = steps_of(bump, bump, where="s.n = ", inspect={"gone": lambda s: s.gone})
    assert steps.seen[0]["gone"].startswith("AttributeError: ")


def test_with_nothing_to_inspect_a_sentence_says_so():
    box = SimpleNamespace(n=5)
    steps = steps_of(lambda: bump(box), lambda: bump(box), where="s.n = ", setup=None)
    assert steps.names == []
    assert "name it in <code>inspect=</code>" in state_html(steps, 0)


class Yolo:
    """The part of a YOLO model that is inspected."""

    def __init__(self, shape=None):
        self.predictor = None
        self.model = SimpleNamespace(model=[SimpleNamespace(shape=shape)])

    def predict(self, conf):
        if self.predictor is None:
            self.predictor = SimpleNamespace(args=None, _lock=threading.Lock())
        self.predictor.args = SimpleNamespace(conf=conf, mode="predict")


def seen_of(model, *calls):
    """Return the names that are shown of a model, and its state before and after each call."""
    shared = SharedState(None, has_state=True)
    seen = [dict(shared(model))]
    for call in calls:
        call()
        seen.append(dict(shared(model)))
    return shared.names(seen), seen


def test_a_yolo_model_shows_its_changed_settings_its_lock_and_its_shape():
    model = Yolo()
    names, seen = seen_of(model, lambda: model.predict(0.1), lambda: model.predict(0.9))
    assert names == ["predictor", "head.shape", "predictor.args.conf", "the predictor's lock"]
    assert [facts.get("predictor.args.conf") for facts in seen] == [None, "0.1", "0.9"]
    assert [facts["predictor"] for facts in seen] == ["none yet", "predictor 1", "predictor 1"]
    assert seen[2]["the predictor's lock"] == "free" and seen[2]["head.shape"] == "none yet"


def test_models_in_a_list_or_a_dict_have_their_own_names():
    models = {"left": Yolo((1, 64, 20, 12)), "right": Yolo((1, 64, 12, 20))}
    assert seen_of(models)[1][0]["right: head.shape"] == "1 × 64 × 12 × 20"
    assert "[1]: predictor" in seen_of(list(models.values()))[1][0]


def test_a_bare_network_shows_the_shape_of_its_head():
    network = SimpleNamespace(model=[SimpleNamespace(shape=(1, 2))])
    assert seen_of(network) == (["head.shape"], [{"head.shape": "1 × 2"}])


def test_other_objects_show_plain_values_and_nothing_slow():
    thing = SimpleNamespace(text="x" * 100, some=[1, 2], deep=[[1]], thing=object(), _own=3)
    names, seen = seen_of(thing)
    assert names == ["text", "some", "deep"]
    assert seen[0] == {"text": "x" * 59 + "…", "some": "[1, 2]", "deep": "items: 1"}


# --- how the page shows it


def test_lines_are_marked_with_the_letter_and_sign_of_each_thread_there(lost):
    html = source_html(lost, 1)
    assert html.count("yolothreads-badge") == 2
    assert html.index(">▶ B</b>") < html.index("value = s.n") < html.index(">‖ A</b>") < html.index("s.n = value + 1")
    assert html.count('class="turn"') == 1
    assert "test_stepper.py, bump" in html


def test_a_change_is_marked_with_a_word_and_the_thread_that_made_it(lost):
    html = state_html(lost, 3)
    assert html.count('class="changed"') == 1
    assert "● changed</b> after" in html and "it was <b>0</b>" in html and ">B</b> ran line" in html
    assert "changed" not in state_html(lost, 2)


def test_the_step_its_schedule_and_its_outcome_are_shown_in_words(lost):
    html = threads_html(lost, 0)
    assert "<b>Step 1 of 5</b> of <code>A@bump:" in html and "Outcome: <b>as sequential</b>" in html
    assert "is about to run line" in html and "of bump" in html


def long_function(s):
    """A function with more lines than are shown."""
    a = 1
    a += 1
    a += 1
    a += 1
    if a > 100:
        a += 1
        a += 1
        a += 1
        a += 1
        a += 1
        a += 1
        a += 1
        a += 1
        a += 1
        a += 1
        a += 1
        a += 1
        a += 1
        a += 1
        a += 1
    a += 1
    a += 1
    value = s.n
    s.n = value + 1
    return a


def test_a_long_function_shows_the_lines_that_ran():
    steps = steps_of(long_function, bump, where="s.n = value")
    where = steps.steps[0].where
    function = function_of(where)
    shown = steps.window(function, where.line)
    assert (function.name, len(function.lines)) == ("long_function", 27)
    assert [line - function.lines.start for line in shown] == [0, 2, 3, 4, 5, 6, 22, 23, 24, 25, 26]
    assert "⋮" in source_html(steps, 0)
