"""What runs in a worker process of ModelPerProcess: one model, and one image after another."""

from __future__ import annotations

import os
import pickle
import signal
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from yolothreads.devices import memory_errors_named
from yolothreads.errors import YoloThreadsError
from yolothreads.pools.model import Predict, load
from yolothreads.pools.packing import pack
from yolothreads.pools.shared_image import ImageReader


def load_predict(weights: Path, imgsz: int, device: str, settings: dict[str, Any], threads: int) -> Predict:
    """Load a model, let torch use so many `threads`, and give the model's predict function."""
    import torch

    with suppress(ImportError):  # the script may have imported ultralytics before `serve` could say that it is offline
        from ultralytics.utils.events import events

        events.enabled = False
    model = load(weights, imgsz, device, settings)
    torch.set_num_threads(threads)  # last: setting up the model has changed it
    return model.predict


def serve(
    pipe: Connection[bytes, bytes], make_predict: Callable[..., Predict], given: tuple[Any, ...], device: str
) -> None:
    """Say that it has begun, then that it has loaded, then answer each image, until the caller closes the pipe or dies.

    Each answer is a pickled (value, error), one of them None; `given` is what `make_predict` is called with.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of a terminal; the caller decides
    os.environ["YOLO_OFFLINE"] = "true"  # no usage statistics: the weights are here
    images = ImageReader()
    predict: Predict

    def load_it() -> None:
        nonlocal predict
        predict = make_predict(*given)

    def detect(request: bytes) -> dict[str, Any]:
        name, shape, settings = pickle.loads(request)
        pixels = images.read(name, shape)
        with memory_errors_named(device):
            return pack(predict(pixels, **settings)[0])

    with suppress(EOFError, OSError):  # the caller is gone
        pipe.send_bytes(_answer(lambda: None))
        pipe.send_bytes(_answer(load_it))
        while True:
            pipe.send_bytes(_answer(detect, pipe.recv_bytes()))
    os._exit(0)  # there is nothing to save, and to take torch apart first takes seconds


def _answer(work: Callable[..., Any], *args: Any) -> bytes:
    try:
        return pickle.dumps((work(*args), None))
    except Exception as error:
        return _portable(error)


def _portable(error: Exception) -> bytes:
    """An error as it can travel: with its traceback as a note, and as a YoloThreadsError if it cannot be pickled."""
    note = "In the worker process:\n" + "".join(traceback.format_exception(error))
    try:
        error.add_note(note)
        data = pickle.dumps((None, error))
        pickle.loads(data)  # errors whose __init__ takes other arguments fail only here
    except Exception:
        other = YoloThreadsError(f"{type(error).__name__}: {error}")
        other.add_note(note)
        data = pickle.dumps((None, other))
    return data
