"""Pools that can give each worker a CUDA stream of its own."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from yolothreads.pools.threads import ThreadPool


class StreamPool(ThreadPool):
    """A pool of threads whose work on a GPU can overlap: all threads of a process share one stream by default.

    Args:
        streams: whether each worker has a CUDA stream of its own; without effect on other devices.
    """

    def __init__(
        self, weights: str | os.PathLike[str] = "bundled", *, workers: int = 2, streams: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(weights, workers=workers, **kwargs)
        self.streams = streams

    def _worker_context(self) -> AbstractContextManager[Any]:
        import torch

        if not (self.streams and self.device.startswith("cuda")):
            return nullcontext()
        if not hasattr(self._own, "stream"):
            torch.cuda.synchronize(self.device)  # what the caller's thread has loaded on its stream must be there
            self._own.stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        return torch.cuda.stream(self._own.stream)
