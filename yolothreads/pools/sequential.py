"""One image after another: the reference that every other pool is compared with."""

import os
from typing import Any

from yolothreads.arguments import at_least_one
from yolothreads.pools.model import Predict
from yolothreads.pools.threads import ThreadPool


class Sequential(ThreadPool):
    """One YOLO object, used by one thread: nothing is concurrent, so nothing can race.

    `workers` is taken so that every pool can be made the same way; there is always one.
    """

    def __init__(self, weights: str | os.PathLike[str] = "bundled", *, workers: int = 1, **kwargs: Any) -> None:
        at_least_one("workers", workers)
        super().__init__(weights, workers=1, **kwargs)

    def _predictor(self, index: int) -> Predict:
        return self._load().predict
