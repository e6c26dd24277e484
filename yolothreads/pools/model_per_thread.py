"""A YOLO object a thread, built in that thread: the guide's thread-safe example, with the model kept."""

from yolothreads.pools.model import Predict
from yolothreads.pools.streams import StreamPool


class ModelPerThread(StreamPool):
    """Each worker loads a YOLO object of its own, once, and keeps it: nothing is shared between the threads.

    On CUDA each worker has a stream of its own.
    """

    def _predictor(self, index: int) -> Predict:
        return self._load().predict
