"""One YOLO object with ultralytics' own `ThreadingLocked` around predict."""

from yolothreads.pools.model import Predict
from yolothreads.pools.threads import ThreadPool
from yolothreads.trace import TracedLock


class LockedModel(ThreadPool):
    """Every worker uses the same YOLO object, one at a time: the memory of one model, the speed of one thread."""

    def _prepare(self) -> None:
        from ultralytics.utils import ThreadingLocked

        locked = ThreadingLocked()
        locked.lock = TracedLock(locked.lock)  # so that a timeline can show who waits
        self._predict = locked(self._load().predict)

    def _predictor(self, index: int) -> Predict:
        return self._predict

    def _forget(self) -> None:
        self.__dict__.pop("_predict", None)
