"""A fake model in place of `ultralytics.YOLO`: it records who uses it when, and can be told to wait or to fail.

It has the flaw of the real one too: a call stores its settings in the model, and reads them back at the end.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from ultralytics.engine.results import Results

WAIT_S = 20.0  # deadline of every wait in the tests


class FakeError(RuntimeError):
    """What a fake raises when told to."""


def picture(tag: int) -> np.ndarray:
    """An image of (32, 32, 3) uint8 that carries a number from 1 to 255; `tag_of` finds it in the result."""
    return np.full((32, 32, 3), tag, np.uint8)


def tag_of(result: Results) -> int:
    """The number of the picture that a fake made this result of."""
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
    """What pools use of a YOLO object. Threads are recorded by identity: names could repeat."""

    def __init__(self, owner: FakeModels, weights: str | Path) -> None:
        self.owner, self.weights = owner, weights
        self.overrides: dict[str, Any] = {}
        self.built_by = threading.current_thread()
        self.used_by: list[threading.Thread] = []
        self.settings: dict[str, Any] = {}
        self.torch_threads: set[int] = set()  # what torch.get_num_threads() was in each call after the warm-up
        self.warm = False
        self.tensor = torch.zeros(1)  # stands for the weights
        network = SimpleNamespace(parameters=lambda: [self.tensor], buffers=list)
        self.predictor = SimpleNamespace(model=SimpleNamespace(backend=SimpleNamespace(model=network)), _lock=None)
        self.most_at_once = 0
        self._now = 0
        self._lock = threading.Lock()

    def __deepcopy__(self, memo: dict[int, Any]) -> FakeModel:
        """A model with a state of its own around the same tensor, if the memo says so."""
        twin = FakeModel(self.owner, self.weights)
        twin.overrides, twin.warm, twin.tensor = dict(self.overrides), self.warm, copy.deepcopy(self.tensor, memo)
        with self.owner._lock:
            self.owner.built.append(twin)
        return twin

    def predict(self, source: np.ndarray, **settings: Any) -> list[Results]:
        """Give Results with one box of score 0.9 and one of 0.3, those of at least `conf`, as real ones have."""
        self.settings = {"conf": 0.25, **self.overrides, **settings}
        if not self.warm:
            torch.set_num_threads(torch.get_num_threads() + 3)  # ultralytics, too, sets it when it sets a model up
            self.warm = True
            return [_results(source, self.settings)]
        with self._lock:
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
            self.used_by.append(threading.current_thread())
            self.torch_threads.add(torch.get_num_threads())
        try:
            tag = int(source[0, 0, 0])
            self.owner.done.append(tag)
            self.owner.inside(self, tag)
            if tag in self.owner.refuse:
                raise FakeError(f"picture {tag} is refused")
            return [_results(source, self.settings)]
        finally:
            with self._lock:
                self._now -= 1


def _results(source: np.ndarray, settings: dict[str, Any]) -> Results:
    boxes = torch.tensor([[2.0, 2, 12, 12, 0.9, 0], [15, 15, 30, 30, 0.3, 1]])
    boxes = boxes[boxes[:, 4] >= settings["conf"]]
    return Results(source, path="image0.jpg", names={0: "disc", 1: "ring"}, boxes=boxes)
