"""The cost of a panel: the table shows the measurements, and a kernel really makes them."""

import pytest
from deadlines import scaled

from benchmarks.panel_cost import PanelCost, panel_cost
from yolothreads.errors import ArgumentError


def test_the_ratio_is_taken_in_each_round() -> None:
    cost = PanelCost([1.0], [10.0, 90.0, 50.0], [20.0, 100.0, 50.0], "here", "now")
    assert (cost.ratio.median, cost.ratio.low, cost.ratio.high) == (0.9, 0.5, 1.0)


def test_the_table_names_the_goal_and_the_measurement() -> None:
    rows = {row[0]: row[1:] for row in PanelCost([1.0, 2.0, 9.0], [99.0], [100.0], "here", "now").table().rows}
    assert rows["a redraw takes, ms (median)"] == ("2.00", "below 3")
    assert rows["95 of 100 redraws take at most, ms"][0] == "9.00"
    assert rows["with / without"] == ("0.990", "over 0.98")


@pytest.mark.parametrize("wrong", ["rounds=0", "pairs=0", "window_s=0", "window_s=-1", "window_s=inf", "workers=0"])
def test_invalid_arguments_are_refused_before_a_kernel_starts(wrong: str) -> None:
    name, number = wrong.split("=")
    with pytest.raises(ArgumentError, match=wrong):
        panel_cost(**{name: float(number) if name == "window_s" else int(number)})


@pytest.mark.nightly
@pytest.mark.timeout(scaled(180))
def test_a_kernel_runs_the_panel_with_and_without_redraws() -> None:
    cost = panel_cost(rounds=1, pairs=2, window_s=1.0, workers=1)
    assert len(cost.with_redraws) == len(cost.without) == 1
    assert len(cost.redraws_ms) >= 3  # the panel was there, and redrew
    assert min(*cost.with_redraws, *cost.without) > 0
