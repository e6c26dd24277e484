"""A YOLO object a thread, built in that thread: the guide's thread-safe example, with the model kept."""

from yolothreads.pools.base import Pool, Predict


class ModelPerThread(Pool):
    """Each worker loads a YOLO object of its own, once, and keeps it: nothing is shared between the threads."""

    def _predictor(self, index: int) -> Predict:
        return self._load().predict
