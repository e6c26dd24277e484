"""The bench on a small network input: who takes part, and how the ratios are made."""

import json

import pytest
import torch

from yolothreads.bench import BARE, EVERY_TASK, Bench, bench
from yolothreads.errors import ArgumentError, DeviceError
from yolothreads.pools import POOLS

MADE_UP = Bench({"ModelPerThread": [8, 9, 5], EVERY_TASK: [2, 1, 1], BARE: [10, 10, 10]}, 2, 640, 4, "here, today")


def test_ratios_are_taken_in_each_round_and_then_their_median() -> None:
    assert MADE_UP.ratios == {f"ModelPerThread / {BARE}": 0.8, f"ModelPerThread / {EVERY_TASK}": 5.0}


def test_the_table_carries_the_machine_and_the_ratio_to_the_ceiling() -> None:
    rows = {row["contender"]: row for row in MADE_UP.table().to_dicts()}
    assert rows["ModelPerThread"] == {
        "contender": "ModelPerThread",
        "images/s (range)": "8.0 (5.0 to 9.0)",
        f"of {BARE}": "0.80",
    }
    assert "here, today" in str(MADE_UP)
    assert "ModelPerThread / bare forward: 0.80" in str(MADE_UP)


def test_every_pool_takes_part_beside_floor_and_ceiling() -> None:
    threads = torch.get_num_threads()
    done = bench(rounds=1, images=2, workers=2, imgsz=64)
    assert set(done.speeds) == {*(kind.__name__ for kind in POOLS), EVERY_TASK, BARE}
    assert list(done.speeds)[-2:] == ["ModelPerThread", BARE]
    assert all(len(speeds) == 1 and speeds[0] > 0 for speeds in done.speeds.values())
    assert torch.get_num_threads() == threads
    assert json.loads(json.dumps(done.to_dict()))["ratios"].keys() == done.ratios.keys()


@pytest.mark.parametrize("wrong", [{"rounds": 0}, {"images": -1}, {"workers": 0}, {"imgsz": 100}, {"imgsz": 32}])
def test_a_number_that_makes_no_sense_is_an_error_that_names_it(wrong: dict[str, int]) -> None:
    with pytest.raises(ArgumentError, match=next(iter(wrong))):
        bench(**wrong)


def test_a_device_that_is_not_here_is_an_error() -> None:
    with pytest.raises(DeviceError, match="cuda:99"):
        bench(device="cuda:99")
