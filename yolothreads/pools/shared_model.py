"""Many threads, one YOLO object, no lock: what the guide warns of."""

from yolothreads.pools.model import Predict
from yolothreads.pools.threads import ThreadPool


class SharedModel(ThreadPool):
    """Every worker calls `predict` of the same YOLO object. Calls that ask for different things mix them up."""

    def _prepare(self) -> None:
        self._model = self._load()

    def _predictor(self, index: int) -> Predict:
        return self._model.predict

    def _forget(self) -> None:
        self.__dict__.pop("_model", None)
