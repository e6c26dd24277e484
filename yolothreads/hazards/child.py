"""What can only be tried in a process of its own: python -m yolothreads.hazards.child fork|shutdown [module:Pool].

Prints one line of JSON: reproduced, detail.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import os
import pickle
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from yolothreads.hazards.entry import DEADLINE_S, picture, small, tidy, warm
from yolothreads.pools import Pool

ANSWER_S = 5.0  # a prediction takes 15 ms; a child that hangs never answers
_HANGS = 3


def main(what: str, name: str = "") -> None:
    """Run one try."""
    module, _, cls = name.partition(":")
    pool = getattr(importlib.import_module(module), cls) if name else None
    with tidy():
        if what == "fork":
            _say(*(fork_model() if pool is None else fork_pool(pool)))
        elif pool is None:
            end_with_model()
        else:
            end_with_pool(pool)


def _say(reproduced: bool, detail: str) -> None:
    sys.stdout.write(json.dumps({"reproduced": reproduced, "detail": detail}) + "\n")
    sys.stdout.flush()


def fork_model() -> tuple[bool, str]:
    """Fork while a thread is inside predict, and predict in the child."""
    model, inside, go_on = warm(), threading.Event(), threading.Event()

    def stay(predictor: Any) -> None:
        if threading.current_thread() is thread:
            inside.set()
            go_on.wait(DEADLINE_S)

    model.add_callback("on_predict_start", stay)
    model.predictor.callbacks = model.callbacks
    thread = threading.Thread(target=model.predict, args=(picture(3),))
    thread.start()
    try:
        if not inside.wait(DEADLINE_S):
            raise RuntimeError("the thread never came to predict")
        hangs = _hangs_in_child(lambda: model.predict(picture(4)))
    finally:
        go_on.set()
        thread.join(DEADLINE_S)
    try:
        pickle.dumps(warm())  # the other one has a callback of ours
        pickled = "a used model can be pickled"
    except Exception as error:
        pickled = f"pickling a used model: {error}"
    return hangs, f"predict in a child that was forked while another thread predicted {_ended(hangs)}; {pickled}"


def fork_pool(pool: type[Pool]) -> tuple[bool, str]:
    """Fork beside an open pool, and ask it in the child."""
    with small(pool) as opened:
        opened.submit(picture(3)).result(DEADLINE_S)
        hangs = _hangs_in_child(lambda: opened.submit(picture(4)).result())
    return hangs, f"submit().result() in a forked child {_ended(hangs)}"


def _ended(hangs: bool) -> str:
    return f"gave no answer within {ANSWER_S:.0f} s" if hangs else "came to its end"


def _hangs_in_child(work: Callable[[], Any]) -> bool:
    """Whether work does not end in a forked child. The child ends itself, whatever hangs in it."""
    child = os.fork()
    if child == 0:
        faulthandler.dump_traceback_later(2 * ANSWER_S, exit=True, file=Path(os.devnull).open("w"))  # noqa: SIM115
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(ANSWER_S)
        os._exit(_HANGS if thread.is_alive() else 0)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) != 0


def end_with_model() -> None:
    """A thread that nobody joins predicts when the main thread has ended; the main thread ends now."""
    model = warm()
    model.predictor.model.prefetch = True  # as it is with OpenVINO; on CUDA pictures are always loaded ahead

    def late() -> None:
        import cv2

        threading.main_thread().join()
        with TemporaryDirectory() as folder:
            for seed in (3, 4):
                cv2.imwrite(str(Path(folder) / f"{seed}.png"), picture(seed))
            try:
                found = len(model.predict(folder))
                _say(False, f"{found} results after the main thread ended")
            except RuntimeError as error:
                _say("shutdown" in str(error), f"predict after the main thread ended: {error}")

    threading.Thread(target=late).start()


def end_with_pool(pool: type[Pool]) -> None:
    """Give an open pool work, and end without leaving it."""
    opened = small(pool).__enter__()
    asks = [opened.submit(picture(seed)) for seed in range(8)]

    def report() -> None:
        errors = [error for error in (ask.exception(DEADLINE_S) for ask in asks) if error]
        detail = f"{len(errors)} of {len(asks)} images lost" + (f": {errors[0]}" if errors else "")
        _say(bool(errors), detail)

    threading.Thread(target=report).start()


if __name__ == "__main__":
    main(*sys.argv[1:])
