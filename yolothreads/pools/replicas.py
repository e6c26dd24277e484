"""One set of weights, and for each worker a private predictor: the memory of one model, the freedom of many."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from yolothreads.pools.model import Predict, twin
from yolothreads.pools.streams import StreamPool

if TYPE_CHECKING:
    from ultralytics import YOLO


class Replicas(StreamPool):
    """The caller's thread loads one YOLO object; each worker has a copy of its structure around the same tensors.

    What a prediction writes to (settings, lock, cached anchors, the images under way) belongs to one worker; what it
    only reads (weights and buffers) exists once. On CUDA each worker has a stream of its own.
    """

    def _prepare(self) -> None:
        self._model = self._load()
        # Setting up has fused a second copy of the network, and only that one predicts: let the first go, which the
        # checkpoint holds, too.
        self._model.model, self._model.ckpt = self._model.predictor.model.backend.model, None

    def _predictor(self, index: int) -> Predict:
        return replica(self._model).predict

    def _forget(self) -> None:
        self.__dict__.pop("_model", None)


def replica(model: YOLO) -> YOLO:
    """A YOLO object with a state of its own with the very tensors of `model`, which has predicted before."""
    network = model.predictor.model.backend.model
    return twin(model, chain(network.parameters(), network.buffers()))
