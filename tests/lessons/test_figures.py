"""Figures carry their finding as text, and can be read without colour."""

import io

import numpy as np
import pytest

from yolothreads import palette
from yolothreads.errors import ArgumentError, OutputError
from yolothreads.lessons import figures
from yolothreads.pools import Batch
from yolothreads.trace import STAGES, Span

SPANS = [Span("a", "infer", 0.0, 2.0), Span("b", "wait", 0.0, 1.0), Span("b", "infer", 1.0, 3.0)]


def test_a_timeline_describes_itself_in_text():
    text = figures.timeline(SPANS).text
    assert "infer (ms)" in text
    assert "For 1000 of 3000 ms (33%), two or more threads work at the same time." in text


def test_overlap_counts_threads_and_not_spans():
    nested = [Span("a", "load", 0.0, 4.0), Span("a", "infer", 1.0, 2.0), Span("b", "infer", 3.0, 5.0)]
    assert figures.overlap_s(nested) == 1.0


def test_the_picture_is_a_png_with_alt_text():
    figure = figures.timeline(SPANS, "Two <threads>")
    assert figure.png.startswith(b"\x89PNG")
    assert 'alt="Two &lt;threads&gt;' in figure._repr_html_()


def test_without_spans_a_timeline_says_so():
    assert figures.timeline([]).text == "No spans were recorded."


def test_every_stage_can_be_told_apart_without_colour():
    assert tuple(palette.STAGES) == STAGES
    plain = [stage for stage, look in palette.STAGES.items() if not look.hatch]
    assert plain == ["preprocess", "infer"]  # these differ by far in lightness


def test_bars_show_median_and_range():
    figure = figures.bars({"one": (2.0, 1.0, 3.0), "two": (4.0, 4.0, 4.0)}, "Speed", "images/s")
    assert figure.text == "images/s\none: 2 (1 to 3)\ntwo: 4"


BATCHES = [Batch(10.0, 10.5, (0.1,), 3), Batch(10.5, 11.5, (0.2, 0.3, 0.4), 0)]
LENGTHS = [(10.0, 1), (10.1, 3), (10.5, 0), (11.0, 0)]


def test_a_queue_figure_describes_itself_in_text():
    figure = figures.queue(BATCHES, LENGTHS, size=4, refused=[10.2, 10.3])
    assert figure.text.splitlines() == [
        "4 images in 2 batches of 1 to 3; 2 refused",
        "images waiting: 1.0 on average, 3 at most",
        "waited: 300 ms (median), 400 ms at most",
    ]


def test_a_queue_figure_shows_refused_calls():
    plain, refusing = (figures.queue(BATCHES, LENGTHS, size=4, refused=r) for r in ([], [10.2]))
    assert plain.png.startswith(b"\x89PNG") and plain.png != refusing.png


@pytest.mark.parametrize(("batches", "lengths"), [([], LENGTHS), (BATCHES, LENGTHS[:1])], ids=["batches", "lengths"])
def test_a_queue_figure_without_batches_or_lengths_is_an_error(batches, lengths):
    with pytest.raises(ArgumentError, match=f"{len(batches)} batches and {len(lengths)} lengths"):
        figures.queue(batches, lengths)


@pytest.mark.parametrize(("ids", "said"), [([], "disc 2"), ([7, 3], "id:3 disc, id:7 disc")], ids=["found", "tracked"])
def test_detections_say_in_text_what_they_draw(ids, said):
    import torch
    from ultralytics.engine.results import Results

    boxes = torch.tensor([[5.0, 30, 25, 50, *ids[:1], 0.9, 0], [60, 30, 80, 50, *ids[1:], 0.8, 0]])
    result = Results(np.zeros((60, 90, 3), np.uint8), "", {0: "disc"}, boxes=boxes)
    assert figures.detections([result], ["camera 1"]).text == f"camera 1: {said}"
    assert result.names == {0: "disc"}


def test_a_gallery_holds_more_pictures_than_one_row():
    pictures = [np.zeros((20, 30, 3), np.uint8)] * 5
    figure = figures.gallery(pictures, [str(i) for i in range(5)], "Five", "text")
    from matplotlib.image import imread

    assert imread(io.BytesIO(figure.png)).shape[0] > 400


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(OutputError, match="nowhere"):
        figures.timeline(SPANS).save(tmp_path / "nowhere" / "figure.png")
