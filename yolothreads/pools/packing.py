"""Results on their way between processes: only their numbers travel, the pixels stay with the caller."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ultralytics.engine.results import Results


def pack(result: Results) -> dict[str, Any]:
    """What `unpack` needs to make the same result again: arrays, texts and numbers, and no pixels."""
    parts = {key: value.data.cpu().numpy() for key in result._keys if (value := getattr(result, key)) is not None}
    return {"path": result.path, "names": result.names, "speed": result.speed, **parts}


def unpack(packed: dict[str, Any], pixels: NDArray[np.uint8]) -> Results:
    """Make the result again around the caller's own `pixels`, (H, W, 3) uint8 BGR. Its tensors are on the CPU."""
    import torch
    from ultralytics.engine.results import Results

    # Copied, because arrays that arrive by shared memory may be read-only.
    parts = {key: torch.from_numpy(v.copy()) if isinstance(v, np.ndarray) else v for key, v in packed.items()}
    return Results(pixels, **parts)
