"""Live drawings: where spans and batches are drawn, their texts, and the cost of a redraw."""

import re
import xml.etree.ElementTree as ET
from time import thread_time

from yolothreads.lessons.panels.drawings import LANE, Lanes, Strips, legend, progress_bar
from yolothreads.palette import BLUE, STAGES
from yolothreads.pools import Batch
from yolothreads.trace import Span


def paths(html):
    """Return the bars of each colour: (left, middle, width); the picture is 1000 wide."""
    found, shift = {}, float(re.search(r"translate\((\S+)\)", html)[1])
    for colour, d in re.findall(r'<path stroke="([^"]+)" stroke-width="\d+" d="([^"]+)"', html):
        bars = re.findall(r"M(\S+) (\S+)h([\d.]+)", d)
        found[colour] = [(float(left) + shift, float(middle), float(width)) for left, middle, width in bars]
    return found


def test_a_span_is_drawn_where_and_as_long_as_it_was():
    lanes = Lanes([Span("a", "infer", 11.0, 11.5)])
    assert paths(lanes.html(now=12.0)) == {BLUE: [(500.0, 12.0, 250.0)]}


def test_each_thread_keeps_its_row():
    spans = [Span("a", "infer", 0.0, 1.0), Span("b", "infer", 0.0, 1.5)]
    lanes = Lanes(spans)
    lanes.html(now=2.0)
    spans.append(Span("b", "infer", 3.0, 3.5))
    assert paths(lanes.html(now=4.0))[BLUE] == [(500.0, 12.0 + LANE, 250.0)]


def test_old_spans_are_omitted_and_one_that_still_overlaps_begins_outside():
    spans = [Span("a", "infer", 0.0, 1.0), Span("a", "infer", 7.0, 9.0)]
    assert paths(Lanes(spans).html(now=10.0)) == {BLUE: [(-500.0, 12.0, 1000.0)]}


def test_bars_move_to_the_left_with_time():
    lanes = Lanes([Span("a", "infer", 9.0, 10.0)])
    assert paths(lanes.html(now=10.0)) == {BLUE: [(500.0, 12.0, 500.0)]}
    assert paths(lanes.html(now=10.5)) == {BLUE: [(250.0, 12.0, 500.0)]}


def test_a_wait_for_a_lock_is_hatched():
    html = Lanes([Span("a", "wait", 0.0, 1.0)]).html(now=1.0)
    assert 'fill="url(#yolothreads-lines)"' in html
    assert "rotate(45)" in html


def test_names_of_threads_are_text_and_escaped():
    html = Lanes([Span("<a>", "infer", 0.0, 1.0)]).html(now=1.0)
    assert "<span>&lt;a&gt;</span>" in html
    ET.fromstring(html)


def test_without_spans_there_is_an_empty_timeline():
    ET.fromstring(Lanes([]).html(now=1.0))


def test_the_legend_names_every_stage_of_pools():
    html = legend()
    assert [name for name, stage in STAGES.items() if stage.words not in html] == ["python", "turn"]


def test_every_stage_of_the_palette_is_drawn_and_others_are_left_out():
    spans = [Span("a", stage, 0.0, 1.0) for stage in (*STAGES, "unknown")]
    html = Lanes(spans).html(now=1.0)
    assert html.count("<path ") - Lanes([]).html(now=1.0).count("<path ") == len(STAGES)


def test_a_redraw_of_a_thousand_spans_a_second_takes_less_than_3_ms():
    spans: list[Span] = []
    lanes, took = Lanes(spans), []
    for tenth in range(50):
        spans += [Span(f"t{i % 8}", "infer", tenth / 10 + i / 1000, tenth / 10 + i / 1000 + 0.004) for i in range(100)]
        start = thread_time()
        lanes.html(now=spans[-1].end)
        took.append(thread_time() - start)
    assert min(took[25:]) < 0.003


def test_a_progress_bar_has_a_name():
    bar = ET.fromstring(progress_bar(3, 12, "images <done>"))
    assert bar.attrib == {"aria-label": "images <done>", "value": "3", "max": "12"}


# --- the strips of a queue


NOTHING = {"refused": [], "late": []}


def strips_html(strips, now, lengths=(), batches=(), **marks):
    return strips.html(now, 0.0, lengths, batches, NOTHING | marks)


def test_the_strips_explain_their_lines_and_ticks_in_words():
    html = strips_html(Strips(16, 4, has_deadline=False), 10.0, [(1.0, 3)], [Batch(1.0, 1.1, (0.01,), 0)])
    shown = " ".join(ET.fromstring(html).itertext())
    assert all(word in shown for word in ("images waiting", "room for 16", "refused", "at most 4", "waited (ms)"))
    assert "late" not in shown
    assert "late" in strips_html(Strips(16, 4, has_deadline=True), 10.0)
    assert html.count('role="img"') == 3


def test_a_refusal_is_a_tick_at_its_moment():
    strips = Strips(16, 4, has_deadline=False)
    assert "M200 0v1M900 0v1" in strips_html(strips, 10.0, refused=[2.0, 9.0])
    assert "M200 0v1" not in strips_html(strips, 13.0, refused=[2.0, 9.0])  # it is outside the picture


def test_a_redraw_of_a_rush_takes_less_than_3_ms():
    """1,000 calls a second, of which 80 are answered in batches of 4 and the others refused."""
    strips, took = Strips(16, 4, has_deadline=False), []
    lengths, batches, refused = [], [], []
    for tenth in range(100):
        now = tenth / 10
        refused += [now + i / 1000 for i in range(92)]
        batches += [Batch(now + i / 20, now + (i + 1) / 20, (0.2,) * 4, 0) for i in range(2)]
        lengths += [(now + i / 100, 12 + i % 4) for i in range(10)]
        start = thread_time()
        strips_html(strips, now, lengths, batches, refused=refused)
        took.append(thread_time() - start)
    assert min(took[50:]) < 0.003
