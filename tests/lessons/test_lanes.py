"""The moving timeline: what is drawn of spans, where, and that it costs little."""

import re
import xml.etree.ElementTree as ET
from time import thread_time

from yolothreads.lessons.panels.lanes import LANE, Lanes, legend
from yolothreads.trace import Span


def paths(html):
    """Bars of each colour: (left, middle, width); the picture is 1000 wide."""
    found, shift = {}, float(re.search(r"translate\((\S+)\)", html)[1])
    for colour, d in re.findall(r'<path stroke="([^"]+)" stroke-width="\d+" d="([^"]+)"', html):
        bars = re.findall(r"M(\S+) (\S+)h([\d.]+)", d)
        found[colour] = [(float(left) + shift, float(middle), float(width)) for left, middle, width in bars]
    return found


def test_a_span_is_drawn_where_and_as_long_as_it_was():
    lanes = Lanes([Span("a", "infer", 11.0, 11.5)], seconds=2.0)
    assert paths(lanes.html(now=12.0)) == {"#0072b2": [(500.0, 12.0, 250.0)]}


def test_each_thread_keeps_its_lane():
    spans = [Span("a", "infer", 0.0, 1.0), Span("b", "infer", 0.0, 1.5)]
    lanes = Lanes(spans, seconds=2.0)
    lanes.html(now=2.0)
    spans.append(Span("b", "infer", 3.0, 3.5))
    assert paths(lanes.html(now=4.0))["#0072b2"] == [(500.0, 12.0 + LANE, 250.0)]


def test_what_is_too_old_is_left_out_and_what_reaches_in_begins_outside():
    spans = [Span("a", "infer", 0.0, 1.0), Span("a", "infer", 7.0, 9.0)]
    assert paths(Lanes(spans, seconds=2.0).html(now=10.0)) == {"#0072b2": [(-500.0, 12.0, 1000.0)]}


def test_as_time_goes_on_bars_move_to_the_left():
    lanes = Lanes([Span("a", "infer", 9.0, 10.0)], seconds=2.0)
    assert paths(lanes.html(now=10.0)) == {"#0072b2": [(500.0, 12.0, 500.0)]}
    assert paths(lanes.html(now=10.5)) == {"#0072b2": [(250.0, 12.0, 500.0)]}


def test_a_wait_for_a_lock_is_hatched():
    html = Lanes([Span("a", "wait", 0.0, 1.0)]).html(now=1.0)
    assert 'fill="url(#yolothreads-wait)"' in html
    assert "rotate(45)" in html


def test_names_of_threads_are_text_and_escaped():
    html = Lanes([Span("<a>", "infer", 0.0, 1.0)]).html(now=1.0)
    assert "<span>&lt;a&gt;</span>" in html
    ET.fromstring(html)


def test_without_spans_there_is_an_empty_timeline():
    ET.fromstring(Lanes([]).html(now=1.0))


def test_the_legend_names_every_bar():
    assert all(word in legend() for word in ("waits for a lock", "loads", "preprocess", "network", "postprocess"))


def test_a_redraw_of_a_thousand_spans_a_second_takes_less_than_3_ms():
    spans: list[Span] = []
    lanes, took = Lanes(spans), []
    for tenth in range(50):
        spans += [Span(f"t{i % 8}", "infer", tenth / 10 + i / 1000, tenth / 10 + i / 1000 + 0.004) for i in range(100)]
        start = thread_time()
        lanes.html(now=spans[-1].end)
        took.append(thread_time() - start)
    assert min(took) < 0.003
