"""A program of test_ctrl_c.py: it interrupts pools as Ctrl-C does, and checks that no thread is left."""

import itertools
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

import torch
import ultralytics
from fakes import KINDS, REMOTE, WAIT_S, FakeModels, launch_here, picture

from yolothreads.pools import feed, make_pool

MAIN = threading.main_thread().ident


def once(number: int, frame: object) -> None:
    """Do what Python does on Ctrl-C, the first time only."""
    global interrupted
    if not interrupted:
        interrupted = True
        raise KeyboardInterrupt


def interrupt_main(model: object, tag: int) -> None:
    """In picture 5, interrupt the main thread once it waits. It and later pictures end only after that was noticed."""
    if tag != 5:
        if tag > 5:  # so that not all the work is done before the interrupt comes
            noticed.wait(WAIT_S)
        return
    there.wait(WAIT_S)
    if threading.get_ident() != MAIN:  # until the main thread waits
        while sys._current_frames()[MAIN].f_code.co_filename != threading.__file__:
            pause.wait(0.001)
    while (
        not interrupted
    ):  # a signal just before a wait begins does not end that wait (CPython), so it is sent more than once
        signal.pthread_kill(MAIN, signal.SIGINT)
        pause.wait(0.01)
    noticed.wait(WAIT_S)


def loads_slowly(weights: object) -> object:
    """Replace ultralytics.YOLO: interrupt the main thread, then load a fake."""
    interrupt_main(None, 5)
    return fakes(weights)


def waiting_source() -> Iterator[Any]:
    """Interrupt the main thread while it waits for a picture that does not come."""
    yield picture(1)
    interrupt_main(None, 5)
    yield picture(2)


signal.signal(signal.SIGINT, once)
for kind in REMOTE:
    kind._launch_worker = launch_here
pause = threading.Event()  # never set
kinds = [kind for kind in KINDS if kind.__name__ in sys.argv[1:]]
feed.GRACE_S = 0.1  # for a source that waits until the interrupt was noticed
for kind, where in itertools.product(kinds, ("start", "map", "source", "leaving")):
    fakes, there, noticed, futures = FakeModels(), threading.Event(), threading.Event(), []
    fakes.inside, before, interrupted = interrupt_main, torch.get_num_threads(), False
    ultralytics.YOLO = loads_slowly if where == "start" else fakes
    if where == "start":
        there.set()
        noticed.set()
    try:
        with make_pool(kind, workers=2, device="cpu") as pool:
            if where in ("map", "source"):
                there.set()
                pictures = map(picture, itertools.cycle(range(1, 200)))
                try:
                    for _ in pool.map(pictures if where == "map" else waiting_source()):
                        pass
                finally:
                    noticed.set()
            futures = [pool.submit(picture(tag)) for tag in range(1, 200)]
            futures[-1].add_done_callback(
                lambda _, noticed=noticed: noticed.set()
            )  # it is cancelled, as it has not begun
            there.set()
    except KeyboardInterrupt:
        left = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
        assert not left and all(future.done() for future in futures), (kind, where, left)
        assert where != "leaving" or futures[-1].cancelled(), (kind, "the rest was done all the same")
        assert torch.get_num_threads() == before, (kind, where)
    else:
        sys.exit(f"{kind.__name__} was not interrupted: {where}")
print("ok")
