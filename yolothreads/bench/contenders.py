"""What people do instead of using a pool."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any, Self

from yolothreads.measure import Contender
from yolothreads.pools import Image, ModelPerThread, Predict, load

_START_S = 300.0  # for worker processes to load their models
_ROUND_S = 3600.0  # for the images of one round


class EveryTask(Contender):
    """The guide's thread-safe example, with a task an image: each loads a model for itself, and drops it again."""

    name = "YOLO() in every task"

    def __init__(self, like: ModelPerThread) -> None:
        self._like, self.workers = like, like.workers

    def run(self, images: Sequence[Image]) -> int:
        """Do a quarter of the images: it takes four times as long."""
        from ultralytics import YOLO

        like = self._like

        def task(image: Image) -> None:
            YOLO(like.weights).predict(image, imgsz=like.imgsz, device=like.device, verbose=False)

        few = images[: max(self.workers, len(images) // 4)]
        with ThreadPoolExecutor(self.workers, thread_name_prefix="task") as threads:
            list(threads.map(task, few))
        return len(few)


class ProcessExecutor(Contender):
    """`concurrent.futures` with spawned processes; each loads a model when it starts, and pixels travel as pickles."""

    name = "ProcessPoolExecutor"

    def __init__(self, like: ModelPerThread) -> None:
        self._like, self.workers = like, like.workers

    def __enter__(self) -> Self:
        """Start the processes, and wait until each has loaded its model."""
        spawn, like = multiprocessing.get_context("spawn"), self._like
        given = (spawn.Barrier(self.workers), like.weights, like.imgsz, like.device, like.threads)
        self._executor = ProcessPoolExecutor(self.workers, spawn, _load_here, given)
        try:
            # The executor starts a process per task as long as none is idle, which none is before all are loaded.
            for started in [self._executor.submit(os.getpid) for _ in range(self.workers)]:
                started.result(_START_S)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        """End the processes."""
        self._executor.shutdown(cancel_futures=True)

    def run(self, images: Sequence[Image]) -> int:
        """Do all images."""
        return len(list(self._executor.map(_predict_here, images, timeout=_ROUND_S)))


def _load_here(
    everyone: threading.Barrier, weights: os.PathLike[str], imgsz: int, device: str, torch_threads: int
) -> None:
    """Give this process its model."""
    global _predict
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal reaches it, too; the caller ends it
    import torch

    _predict = load(weights, imgsz, device, {}).predict
    torch.set_num_threads(torch_threads)  # last: setting up the model has changed it
    everyone.wait(_START_S)


def _predict_here(image: Image) -> list[dict[str, Any]]:
    """Boxes, classes and scores as plain numbers: a whole `Results` would take the pixels back with it."""
    return _predict(image)[0].summary()


_predict: Predict  # of a worker process


class _Crew(ModelPerThread):
    """Threads, each with a model and a ready tensor, that do one piece of work all together."""

    def _predictor(self, index: int) -> Predict:
        import torch

        self._own.model = self._load()
        self._own.tensor = torch.rand(1, 3, self.imgsz, self.imgsz, device=self.device)
        return self._own.model.predict

    def together(self, work: Callable[[threading.local], None]) -> None:
        """Have each thread do the work with what is its own."""

        def in_context() -> None:
            with self._worker_context():
                work(self._own)

        for each in [self._hand_over(in_context) for _ in range(self.workers)]:
            each.result(_ROUND_S)


class CrewContender(Contender):
    """Has worker threads do the images, each with a model of its own, all together."""

    def __init__(self, like: ModelPerThread, workers: int | None = None) -> None:
        self.workers = workers or like.workers
        self.crew = _Crew(like.weights, workers=self.workers, device=like.device, imgsz=like.imgsz)

    def __enter__(self) -> Self:
        """Load the models."""
        self.crew.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        """Join the threads."""
        self.crew.shutdown()


class PlainThreads(CrewContender):
    """A model a thread, and each thread calls predict in a loop: `ModelPerThread` without the pool."""

    name = "predict() in plain threads"

    def run(self, images: Sequence[Image]) -> int:
        """Do all images."""
        left = iter(images)

        def work(own: Any) -> None:
            for image in left:
                own.model.predict(image)

        self.crew.together(work)
        return len(images)


class PredictList(CrewContender):
    """Ultralytics' own batches, one after another, with all the cores for each.

    The list is cut here: ultralytics takes a list of arrays for one batch, whatever `batch` says.
    """

    def __init__(self, like: ModelPerThread, batch: int) -> None:
        super().__init__(like, 1)
        self.name, self._batch = f"predict(list, batch={batch})", batch

    def run(self, images: Sequence[Image]) -> int:
        """Do all images."""

        def work(own: Any) -> None:
            for start in range(0, len(images), self._batch):
                own.model.predict(list(images[start : start + self._batch]), batch=self._batch)

        self.crew.together(work)
        return len(images)
