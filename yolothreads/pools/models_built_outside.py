"""A YOLO object a thread, all built by the caller's thread: what the guide still calls unsafe."""

from yolothreads.pools.model import Predict
from yolothreads.pools.threads import ThreadPool


class ModelsBuiltOutside(ThreadPool):
    """Each worker has a YOLO object of its own, but the caller's thread has loaded them all, one after another."""

    def _prepare(self) -> None:
        self._models = [self._load() for _ in range(self.workers)]

    def _predictor(self, index: int) -> Predict:
        return self._models[index].predict

    def _forget(self) -> None:
        self.__dict__.pop("_models", None)
