"""A fake model in place of `ultralytics.YOLO`: it records which thread uses it when, and can wait or fail on demand.

Like the real model it stores the settings of a call in itself and reads them back at the end of the call.
"""

from __future__ import annotations

import copy
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from deadlines import scaled
from ultralytics.engine.results import Results

from yolothreads.pools import POOLS, BatchingWorker, Pool, RemotePool, load

WAIT_S = scaled(20.0)  # deadline of every wait in the tests


class FakeError(RuntimeError):
    """The error that a fake raises on demand."""


def picture(tag: int) -> np.ndarray:
    """Return an image of (32, 32, 3) uint8 that carries a number from 1 to 255; `tag_of` finds it in the result."""
    return np.full((32, 32, 3), tag, np.uint8)


def tag_of(result: Results) -> int:
    """Return the number of the picture that this result belongs to."""
    return int(result.orig_img[0, 0, 0])


class FakeModels:
    """Makes fake models; put it in place of `ultralytics.YOLO`.

    inside: called as inside(model, tag) in each predict but the warm-up, after the settings are stored.
    refuse: predict raises FakeError for these tags.
    refuse_to_load: the numbers (0, 1, ...) of the models that raise FakeError when they are built.
    """

    def __init__(self) -> None:
        self.built: list[FakeModel] = []
        self.inside: Callable[[FakeModel, int], object] = lambda model, tag: None
        self.refuse: set[int] = set()
        self.refuse_to_load: set[int] = set()
        self.done: list[int] = []  # tags in the order in which predict began
        self._lock = threading.Lock()

    def __call__(self, weights: str | Path) -> FakeModel:
        with self._lock:
            model = FakeModel(self, weights)
            self.built.append(model)
            if len(self.built) - 1 in self.refuse_to_load:
                raise FakeError(f"model {len(self.built) - 1} does not load")
        return model


class FakeModel:
    """The part of a YOLO object that pools use. Threads are recorded by identity, because names could repeat."""

    def __init__(self, owner: FakeModels, weights: str | Path) -> None:
        self.owner, self.weights = owner, weights
        self.overrides: dict[str, Any] = {}
        self.built_by = threading.current_thread()
        self.used_by: list[threading.Thread] = []
        self.settings: dict[str, Any] = {}
        self.torch_threads: set[int] = set()  # torch.get_num_threads() in each call after the warm-up
        self.warm = False
        self.tensor = torch.zeros(1)  # stands for the weights
        network = SimpleNamespace(parameters=lambda: [self.tensor], buffers=list)
        self.predictor = FakePredictor(network)
        self.batches: list[int] = []  # the number of images in each predict
        self.most_at_once = 0
        self._now = 0
        self._lock = threading.Lock()

    def __deepcopy__(self, memo: dict[int, Any]) -> FakeModel:
        """Return a model with a state of its own, around the same tensor if the memo contains it."""
        twin = FakeModel(self.owner, self.weights)
        twin.overrides, twin.warm, twin.tensor = dict(self.overrides), self.warm, copy.deepcopy(self.tensor, memo)
        with self.owner._lock:
            self.owner.built.append(twin)
        return twin

    def predict(self, source: np.ndarray | list[np.ndarray], **settings: Any) -> list[Results]:
        """Return Results with one box of score 0.9 and one of 0.3, those of at least `conf`, as real ones have."""
        images = source if isinstance(source, list) else [source]
        self.settings = {"conf": 0.25, **self.overrides, **settings}
        if not images[0].any() and self.warm:  # no picture: the pool measures how fast its threads are
            return self._results(images)
        if not self.warm:
            torch.set_num_threads(torch.get_num_threads() + 3)  # as ultralytics does when it sets up a model
            self.warm = True
            return self._results(images)
        with self._lock:
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
            self.used_by.append(threading.current_thread())
            self.torch_threads.add(torch.get_num_threads())
        try:
            self.batches.append(len(images))
            for image in images:
                tag = int(image[0, 0, 0])
                self.owner.done.append(tag)
                self.owner.inside(self, tag)
                if tag in self.owner.refuse:
                    raise FakeError(f"picture {tag} is refused")
            return self._results(images)
        finally:
            with self._lock:
                self._now -= 1

    def _results(self, images: list[np.ndarray]) -> list[Results]:
        self.predictor.args = SimpleNamespace(**{"conf": 0.25, "iou": 0.7, "max_det": 300, **self.settings})
        boxes = torch.tensor([[2.0, 2, 12, 12, 0.9, 0], [15, 15, 30, 30, 0.3, 1]])
        return self.predictor.postprocess(boxes.repeat(len(images), 1, 1), torch.zeros(len(images), 1), images)


class FakePredictor:
    """The part of a predictor that pools use."""

    def __init__(self, network: object) -> None:
        self.model = SimpleNamespace(backend=SimpleNamespace(model=network))
        self._lock = None
        self.args = SimpleNamespace()

    def postprocess(self, preds: torch.Tensor, img: torch.Tensor, orig_imgs: list[np.ndarray]) -> list[Results]:
        """Keep the boxes of at least `args.conf`."""
        assert len(preds) == len(img) == len(orig_imgs)
        kept = [boxes[boxes[:, 4] >= self.args.conf] for boxes in preds]
        names = {0: "disc", 1: "ring"}
        return [Results(o, path="image0.jpg", names=names, boxes=b) for o, b in zip(orig_imgs, kept, strict=True)]


class OneAtATime(BatchingWorker):
    """A BatchingWorker with batches of one and a long queue, which must fulfil the contract of every pool."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"max_batch": 1, "queue_size": 500, "max_wait_ms": 0, **kwargs})


KINDS: list[type[Pool]] = [OneAtATime if kind is BatchingWorker else kind for kind in POOLS]
"""Every pool, in a form that fits the contract of an executor."""

REMOTE = [kind for kind in KINDS if issubclass(kind, RemotePool)]


class WorkerHere:
    """A fake model in this process in place of a worker process, to test the caller's side."""

    def __init__(self, pool: RemotePool, index: int) -> None:
        self._given = pool.weights, pool.imgsz, pool.device_of(index), pool.settings

    def load(self) -> None:
        self._model = load(*self._given)

    def is_alive(self) -> bool:
        return True

    def predict(self, pixels: np.ndarray, **settings: Any) -> list[Results]:
        return self._model.predict(pixels, **settings)

    def end(self) -> None:
        pass

    def kill(self) -> None:
        pass

    def join(self) -> None:
        pass

    def left_by_fork(self) -> None:
        pass


def launch_here(pool: RemotePool, index: int) -> WorkerHere:
    """Replace `RemotePool._launch_worker`, because fakes cannot live in another process."""
    return WorkerHere(pool, index)


STORE_BYTES = 80 * 2**20  # about the smallest that Ray takes


def add_node(cluster: Any) -> Any:
    """Add a node with two CPUs to a `ray.cluster_utils.Cluster`."""
    return cluster.add_node(num_cpus=2, object_store_memory=STORE_BYTES, include_dashboard=False)


def ctrl_c_on() -> None:
    """Switch Ctrl-C on (for `preexec_fn`): background jobs of a script ignore it, and so do their children."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
