"""Models for worker processes: light (no torch), so that a process starts at once; they end it on demand."""

import os
import pickle
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from yolothreads.pools import processes


class CannotTravelError(Exception):
    """An error that pickles, but does not unpickle."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} and {two}")


@dataclass
class Light:
    """Makes a predict function that reports in `speed` its picture and its process.

    folder: a file in it records each picture that was begun.
    stage: where the process ends itself: "start", "load", "image" or "answer"; there once, unless `always`.
    tag: the picture at which it does so.
    ending: the number of a signal, or "exit" or "stop" (it never ends).
    """

    folder: Path
    stage: str = ""
    tag: int = 5
    ending: int | str = signal.SIGKILL
    always: bool = False

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self.end_at("start")

    def __call__(self, *given: Any) -> Callable[..., list[Any]]:
        self.end_at("load")
        break_on_demand(self.folder)
        return self.predict

    def predict(self, pixels: np.ndarray, **settings: Any) -> list[Any]:
        tag = int(pixels[0, 0, 0])
        with (self.folder / "begun").open("a") as notes:
            notes.write(f"{tag}\n")
        if tag == self.tag:
            self.end_at("image")
            if self.stage == "answer" and (self.always or not (self.folder / "answer").exists()):
                Connection._send = lambda pipe, data: self.send_half(pipe, data)
        speed = {"tag": tag, "pid": os.getpid(), "sum": int(pixels.sum(dtype=np.int64)), "settings": settings}
        self.act(settings.get("conf"))
        speed["long"] = bytes(2**21) if tag == self.tag and self.stage == "answer" else b""
        return [SimpleNamespace(_keys=(), path="", names={0: "disc"}, speed=speed)]

    def act(self, what: Any) -> None:
        if what == "refuse":
            raise LookupError("refused")
        if what == "cannot travel":
            raise CannotTravelError("this", "that")

    def send_half(self, pipe: Connection, data: Any) -> None:
        """Send the first few bytes of an answer, then half of the rest, and end the process."""
        left = len(data) if len(data) < 2**20 else len(data) // 2
        is_whole = left == len(data)
        while left:
            written = os.write(pipe.fileno(), data[:left])
            data, left = data[written:], left - written
        if not is_whole:
            self.end_at("answer")

    def end_at(self, stage: str) -> None:
        if stage != self.stage:
            return
        try:
            (self.folder / stage).touch(exist_ok=self.always)
        except FileExistsError:
            return
        if self.ending == "stop":
            threading.Event().wait()
        if self.ending == "exit":
            os._exit(3)
        os.kill(os.getpid(), int(self.ending))


STEPS = ("loads", "ImageReader.read", "SharedMemory", "_number_in", "memory_errors_named", "pack", "dumps")
"""The functions that a worker process calls for each image, by their names in `processes` and `processes.pickle`."""


def break_on_demand(folder: Path) -> None:
    """Make each of these functions fail once when there is a file of its name in the folder."""
    processes.pickle = SimpleNamespace(**vars(pickle))  # a copy, because pipes use the module itself
    for step in STEPS:
        *way, name = step.split(".")
        owner: Any = processes.pickle if name in ("loads", "dumps") else processes
        for part in way:
            owner = getattr(owner, part)
        setattr(owner, name, _breaking(getattr(owner, name), folder / step))


def _breaking(function: Callable[..., Any], wish: Path) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        if wish.exists():
            wish.unlink()
            raise LookupError(wish.name)
        return function(*args, **kwargs)

    return call
