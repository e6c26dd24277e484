"""Reports of an exploration: tables as text, HTML and dicts, source map, comparison, drawing and progress."""

import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from deadlines import scaled
from programs import PROGRAMS

from benchmarks import bodies
from benchmarks.bodies import state
from yolothreads.races import DEADLOCK, EXCEPTION, RIGHT, WRONG, Exploration, Trial, explore, side_by_side

pytestmark = pytest.mark.timeout(scaled(120))


@pytest.fixture(scope="module")
def racy() -> Exploration:
    return PROGRAMS["counter"].explore()


@pytest.fixture(scope="module")
def repaired() -> Exploration:
    return PROGRAMS["counter under a lock"].explore()


class VisibleText(HTMLParser):
    """The text of HTML as a reader sees it. Checks that every tag is closed."""

    def __init__(self, html: str):
        super().__init__()
        self.text, self.open, self.tags = "", [], set()
        self.feed(html)
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)
        if tag not in ("br", "line", "rect/"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


# --- the table


def test_the_table_has_one_row_per_kind_with_an_example_that_can_be_replayed(racy: Exploration) -> None:
    rows = racy.to_dicts()
    assert [(row["kind"], row["count"]) for row in rows] == [(RIGHT, 4), (WRONG, 2)]
    assert [row["share"] for row in rows] == [pytest.approx(2 / 3), pytest.approx(1 / 3)]
    assert all(racy.replay(row["example"]).kind == row["kind"] and len(row["meaning"]) > 20 for row in rows)


def test_text_and_html_say_the_same(racy: Exploration) -> None:
    shown = VisibleText(racy._repr_html_())
    assert racy.verdict in str(racy) and racy.verdict in shown.text
    for sentence in [*racy.remarks(), *(outcome.example for outcome in racy.outcomes), "66.7%"]:
        assert sentence in str(racy) and sentence in shown.text
    assert "caption" in shown.tags and 'scope="col"' in racy._repr_html_()


def test_the_verdict_counts_bad_schedules(racy: Exploration, repaired: Exploration) -> None:
    assert racy.verdict.startswith("NOT SAFE: 2 of 6 schedules")
    assert repaired.verdict.startswith(f"SAFE within the bound: each of {repaired.schedules} schedules")


def raise_markup(s: bodies.State) -> None:
    value = s.n
    s.n = value + 1
    if value < 0 or "<b>" in str(s.n & 3):
        s.n = 0
    raise ValueError(f"<script>alert({s.n - value})</script>")


def test_it_is_said_if_no_result_was_compared() -> None:
    def count(s: bodies.State) -> None:
        s.n = s.n + 1

    blind = explore(count, count, setup=state(n=0), watch=[count])
    assert blind.compares_nothing and "No result was compared" in str(blind) and "No result" in blind._repr_html_()
    seen = explore(count, count, setup=state(n=0), watch=[count], observe=lambda s: s.n)
    assert not seen.compares_nothing and "No result was compared" not in str(seen)
    decided = explore(count, count, setup=state(n=0), watch=[count], observe=lambda s: None)
    assert not decided.compares_nothing  # that exceptions and deadlocks are enough
    returned = explore(lambda s: count(s) or s.n, count, setup=state(n=0), watch=[count])
    assert not returned.compares_nothing


def test_text_from_a_program_is_escaped_in_html() -> None:
    found = explore(raise_markup, raise_markup, setup=state(n=0), watch=[raise_markup])
    assert {trial.kind for trial in found.forbidden} == {EXCEPTION}
    for html in (found._repr_html_(), found.source_map()._repr_html_(), found.draw()._repr_html_()):
        assert not VisibleText(html).tags & {"script", "b>"} and "<script" not in html
    shown = VisibleText(found.draw()._repr_html_())
    assert "<script>alert(2)</script>" in shown.text
    assert 'if value < 0 or "<b>" in str' in VisibleText(found.source_map()._repr_html_()).text


def test_names_in_a_comparison_are_escaped(racy: Exploration) -> None:
    html = side_by_side(**{"<i>": racy})._repr_html_()
    assert "<i>" not in html and "<i>" in VisibleText(html).text


# --- the source map


def marks(found: Exploration, function: str | None = None) -> list[tuple[str, str, str]]:
    """Return the mark, share and source text of each line."""
    return [(mark.strip(), share, place.text) for mark, share, place in found.source_map(function).lines()]


def test_the_source_map_marks_the_line_to_blame(racy: Exploration) -> None:
    assert marks(racy) == [(".", "0/2", "value = s.n"), ("!!", "2/2", "s.n = value + 1")]
    assert [place.text for place in racy.source_map().worst()] == ["s.n = value + 1"]


def test_the_source_map_of_a_safe_program_marks_no_line(repaired: Exploration) -> None:
    assert {mark for mark, *_ in marks(repaired)} <= {".", ""} and repaired.source_map().worst() == []


def test_the_source_map_can_show_one_function_and_does_not_rely_on_colour() -> None:
    found = PROGRAMS["two accounts"].explore()
    text = str(found.source_map("move_one"))
    assert "def" not in text and "bodies.py: move_one" in text and "move_back" not in text
    assert "move_back" in str(found.source_map())
    assert all(sign in text.splitlines()[0] for sign in ("!!", "!", ".", "blank"))
    lines = [line for line in text.splitlines()[1:] if re.match(r" *(!!|!|\.) ", line)]
    assert len(lines) == 4 and any(line.split()[0] in ("!!", "!") for line in lines)


def test_the_source_map_as_html_has_a_legend_and_every_line() -> None:
    found = PROGRAMS["check then act"].explore()
    shown = VisibleText(found.source_map()._repr_html_())
    assert "went wrong" in shown.text and "none did" in shown.text
    for line in str(found.source_map()).splitlines():
        assert line in shown.text


def test_lines_that_ran_without_a_context_switch_are_blank() -> None:
    found = PROGRAMS["counter"].explore(preemptions=0)
    assert marks(found) == [("", "", "value = s.n"), ("", "", "s.n = value + 1")]


def test_reduction_does_not_change_the_source_map() -> None:
    for name in ("counter", "two accounts", "crossed locks", "three bodies, two of them racy"):
        reduced, whole = (PROGRAMS[name].explore(reduce=reduce) for reduce in (True, False))
        blamed, all_blamed = ({t for m, _, t in marks(found) if "!" in m} for found in (reduced, whole))
        assert blamed == all_blamed, name


# --- comparison, drawing and progress


def test_a_comparison_also_shows_rows_of_zeros(racy: Exploration, repaired: Exploration) -> None:
    both = side_by_side(racy=racy, repaired=repaired)
    rows = {row["outcome"]: (row["racy"], row["repaired"]) for row in both.to_dicts()}
    assert rows[WRONG] == ("2", "0") and rows[EXCEPTION] == rows[DEADLOCK] == ("0", "0")
    assert rows["verdict"] == ("NOT SAFE", "SAFE within the bound") and rows["exhausted"] == ("yes", "yes")
    assert rows["schedules"] == (str(racy.schedules), str(repaired.schedules))
    shown = VisibleText(both._repr_html_()).text
    assert all(word in str(both) and word in shown for word in ("racy", "repaired", "NOT SAFE", DEADLOCK))


def test_a_comparison_says_that_not_every_schedule_was_run() -> None:
    found = PROGRAMS["condition with while"].explore(preemptions=3, budget_s=0.1)
    rows = {row["outcome"]: row["cut"] for row in side_by_side(cut=found).to_dicts()}
    assert rows["exhausted"] == f"no, of {found.total}" and rows["verdict"] == "NOTHING FOUND"


def test_a_comparison_does_not_call_a_random_sample_exhausted() -> None:
    found = PROGRAMS["condition with while"].explore(strategy="random", runs=5)
    rows = {row["outcome"]: row["drawn"] for row in side_by_side(drawn=found).to_dicts()}
    assert (rows["schedules"], rows["exhausted"]) == ("5", "no")


def test_a_drawing_has_one_lane_per_thread_and_a_text_version(racy: Exploration) -> None:
    drawing = racy.draw()
    assert {stretch.thread for stretch in drawing.stretches} == {"A", "B"}
    html = drawing._repr_html_()
    assert html.count("<rect") == len(drawing.stretches) and 'role="img"' in html
    assert str(drawing) in VisibleText(html).text and WRONG in str(drawing)


def test_a_drawing_of_a_racy_schedule_shows_which_thread_ran_when(racy: Exploration) -> None:
    stretches = racy.draw(racy.forbidden[0].schedule).stretches
    assert [(s.thread, s.lines) for s in stretches] == [("A", 1), ("B", 2), ("A", 1)], "A stopped, B ran, A continued"
    assert all(a.start <= a.end <= b.start for a, b in pairwise(stretches))


def test_a_deadlock_can_be_drawn() -> None:
    drawing = PROGRAMS["crossed locks"].explore().draw()
    assert DEADLOCK in str(drawing) and {stretch.thread for stretch in drawing.stretches} == {"A", "B"}


def test_a_trial_as_text_names_its_kind_line_and_schedule(racy: Exploration) -> None:
    trial = racy.forbidden[0]
    assert str(trial).startswith("wrong result: ") and f"schedule: {trial.schedule}" in str(trial)
    assert f"bodies.py:{trial.where.line} in bump: s.n = value + 1" in str(trial)


def test_progress_is_reported_and_reaches_the_end() -> None:
    reported: list[tuple[int, int]] = []
    found = PROGRAMS["two accounts"].explore(progress=lambda done, known: reported.append((done, known)))
    assert reported[-1] == (found.schedules, found.total)
    assert [done for done, _ in reported] == sorted(done for done, _ in reported)


def test_each_trial_is_reported_as_soon_as_it_is_known() -> None:
    trials: list[Trial] = []
    known: list[int] = []
    found = PROGRAMS["two accounts"].explore(
        on_trial=trials.append, progress=lambda done, _: known.append(len(trials) - done)
    )
    assert set(known) == {0}
    assert {trial.schedule for trial in trials} == {trial.schedule for trial in found.trials}
    assert len(trials) == found.schedules


def test_random_runs_are_reported_too() -> None:
    trials: list[Trial] = []
    found = PROGRAMS["counter"].explore(strategy="random", runs=5, on_trial=trials.append)
    assert tuple(trials) == found.trials


def test_describe_gives_the_detail_of_a_wrong_result() -> None:
    found = PROGRAMS["counter"].explore(describe=lambda results, references: f"lost {references[0][-1] - results[-1]}")
    assert {trial.detail for trial in found.forbidden} == {"lost 1"}
