"""Results on their way between processes: the same numbers, around the caller's own pixels."""

from contextlib import suppress

import numpy as np
import pytest
import torch
from ultralytics.engine.results import Results

from yolothreads.pools.packing import pack, unpack

PARTS = {
    "detect": {"boxes": torch.rand(3, 6)},
    "nothing found": {"boxes": torch.rand(0, 6)},
    "track": {"boxes": torch.rand(3, 7)},
    "segment": {"boxes": torch.rand(2, 6), "masks": torch.rand(2, 32, 40) > 0.5},
    "pose": {"boxes": torch.rand(2, 6), "keypoints": torch.rand(2, 17, 3)},
    "classify": {"probs": torch.rand(10)},
    "obb": {"obb": torch.rand(2, 7)},
}


@pytest.mark.parametrize("task", PARTS)
def test_results_of_every_task_survive_packing(task: str) -> None:
    pixels = np.zeros((32, 40, 3), np.uint8)
    result = Results(pixels, "a.png", {0: "disc"}, speed={"inference": 1.0}, **PARTS[task])
    packed = pack(result)
    for value in packed.values():
        with suppress(AttributeError):
            value.flags.writeable = False  # as arrays in shared memory are
    again = unpack(packed, pixels)
    assert again.orig_img is pixels and again.path == "a.png" and again.names == {0: "disc"}
    assert again.speed == {"inference": 1.0}
    for key in result._keys:
        ours, theirs = getattr(again, key), getattr(result, key)
        assert (ours is None) == (theirs is None)
        assert ours is None or (torch.equal(ours.data, theirs.data) and ours.data.dtype == theirs.data.dtype)
