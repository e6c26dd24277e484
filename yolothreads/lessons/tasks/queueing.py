"""The exercise of lesson 08: a bounded queue in front of one worker thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import Full
from typing import Any

from yolothreads.lessons.exercises import Exercise

_PATIENCE_S = 1.0  # for what a correct answer does at once
_MOMENT_S = 0.1  # how long close() is watched where it must not return
_BAD = 13


class _SeenError(Exception):
    """What was seen instead of the right thing."""


class _Held:
    """Work that doubles an item and refuses `_BAD`; it begins one item at a time, and each waits to be let go on."""

    def __init__(self) -> None:
        self.begun, self._go = threading.Semaphore(0), threading.Semaphore(0)

    def __call__(self, item: int) -> int:
        self.begun.release()
        self._go.acquire(timeout=2 * _PATIENCE_S)
        if item == _BAD:
            raise ValueError(f"{item} is refused")
        return 2 * item

    def let_go(self, items: int) -> None:
        """Let so many items go on."""
        self._go.release(items)


class _Call(threading.Thread):
    """A call in a thread of its own, so that one that hangs does not hang the reader's notebook.

    It is a daemon, and so are the threads that are started in it.
    """

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        super().__init__(daemon=True)
        self.said = f"{function.__name__}({', '.join(map(str, args))})"
        self._made = Future[Any]()
        self._function, self._given = function, args
        self.start()

    def run(self) -> None:
        """Make the call."""
        try:
            self._made.set_result(self._function(*self._given))
        except Exception as error:
            self._made.set_exception(error)

    def result(self) -> Any:
        """What the call gave or raised."""
        self.join(_PATIENCE_S)
        if self.is_alive():
            raise _SeenError(f"{self.said} had not returned after {_PATIENCE_S:.0f} s.")
        return self._made.result()


def see_serve(serve: Callable[..., Any]) -> str | None:
    """Whether a full queue refuses, a failing item fails alone, and closing finishes what waits."""
    before, died, hook = set(threading.enumerate()), list[str](), threading.excepthook
    threading.excepthook = lambda args: died.append(args.exc_type.__name__)
    try:
        for see in (_see_full_and_failing, _see_closing):
            work = _Held()
            submit, close = _Call(serve, work, 2).result()
            try:
                see(work, submit, close)
            except Exception:
                work.let_go(99)
                _Call(close).join(_PATIENCE_S)
                raise
    except _SeenError as seen:
        return f"{seen} The worker's thread had ended with a {died[0]}." if died else str(seen)
    finally:
        threading.excepthook = hook
    left = [t for t in threading.enumerate() if t not in before]
    return f"after close(), threads were still running: {len(left)}." if left else None


def _submitted(work: _Held, submit: Callable[..., Any]) -> dict[int, Any]:
    """Item 0 in the worker's hands, `_BAD` and 2 waiting: the future of each."""
    futures = {0: _Call(submit, 0).result()}
    if not work.begun.acquire(timeout=_PATIENCE_S):
        raise _SeenError("nobody began to work on the first item.")
    for item in (_BAD, 2):
        try:
            futures[item] = _Call(submit, item).result()
        except Full:
            raise _SeenError(f"there was room for 2, {len(futures) - 1} waited, and submit raised Full.") from None
    return futures


def _see_answers(futures: dict[int, Any]) -> None:
    for item, future in futures.items():
        try:
            error = future.exception(_PATIENCE_S)
        except TimeoutError:
            raise _SeenError(f"no answer to item {item} came, after items {[*futures]} were submitted.") from None
        got = repr(error or future.result())
        if got != (wanted := repr(ValueError(f"{_BAD} is refused") if item == _BAD else 2 * item)):
            raise _SeenError(f"the future of item {item} had {got} instead of {wanted}.")


def _see_full_and_failing(work: _Held, submit: Callable[..., Any], close: Callable[[], Any]) -> None:
    futures = _submitted(work, submit)
    try:
        _Call(submit, 3).result()
    except Full:
        work.let_go(99)
    else:
        raise _SeenError("there was room for 2, 2 waited, and a third item was taken all the same.")
    _see_answers(futures)
    _Call(close).result()


def _see_closing(work: _Held, submit: Callable[..., Any], close: Callable[[], Any]) -> None:
    futures, closing = _submitted(work, submit), _Call(close)
    for begun in (1, 2):
        work.let_go(1)
        if not work.begun.acquire(timeout=_PATIENCE_S):
            raise _SeenError(f"2 items waited when close() was called, and {begun - 1} of them had its turn.")
    closing.join(_MOMENT_S)
    if not closing.is_alive():
        closing.result()
        raise _SeenError("close() returned while an item was still being worked on.")
    work.let_go(99)
    closing.result()
    _see_answers(futures)


_HEAD = "from concurrent.futures import Future\nfrom queue import Queue\nfrom threading import Thread\n\n\n"
_STARTER = (
    "def serve(work, max_waiting):\n"
    "    calls = Queue()\n\n"
    "    def run():\n"
    "        for item, future in iter(calls.get, None):\n"
    "            future.set_result(work(item))\n\n"
    "    def submit(item):\n"
    "        calls.put((item, future := Future()))\n"
    "        return future\n\n"
    "    worker = Thread(target=run)\n"
    "    worker.start()\n"
    "    return submit, lambda: calls.put(None)\n"
)
_ANSWER = (
    "def serve(work, max_waiting):\n"
    "    calls = Queue(max_waiting)\n\n"
    "    def run():\n"
    "        for item, future in iter(calls.get, None):\n"
    "            try:\n"
    "                future.set_result(work(item))\n"
    "            except Exception as error:\n"
    "                future.set_exception(error)\n\n"
    "    def submit(item):\n"
    "        calls.put_nowait((item, future := Future()))\n"
    "        return future\n\n"
    "    def close():\n"
    "        calls.put(None)\n"
    "        worker.join()\n\n"
    "    worker = Thread(target=run)\n"
    "    worker.start()\n"
    "    return submit, close\n"
)

EXERCISES = (
    Exercise(
        name="serve",
        starter=_STARTER,
        answer=_HEAD + _ANSWER,
        hints=(
            "Queue(n) has room for n. put() waits for room; another method of the queue raises Full instead.",
            "An exception that leaves run() ends the thread. Catch it, and give it to the future of its own item.",
            "close() is done when the worker is: put None behind the items that wait, then join the thread.",
        ),
        see=see_serve,
        also_right=(
            "from concurrent.futures import ThreadPoolExecutor\n"
            "from queue import Full\n"
            "from threading import BoundedSemaphore\n"
            "def serve(work, max_waiting):\n"
            "    worker, room = ThreadPoolExecutor(1), BoundedSemaphore(max_waiting + 1)\n"
            "    def submit(item):\n"
            "        if not room.acquire(blocking=False):\n"
            "            raise Full\n"
            "        future = worker.submit(work, item)\n"
            "        future.add_done_callback(lambda _: room.release())\n"
            "        return future\n"
            "    return submit, worker.shutdown\n",
        ),
        wrong=(
            _HEAD + _ANSWER.replace("Queue(max_waiting)", "Queue()"),
            _HEAD + _ANSWER.replace("put_nowait", "put"),
            _HEAD + _ANSWER.replace("except Exception", "except TypeError"),
            _HEAD + _ANSWER.replace("        worker.join()\n", ""),
            _HEAD + _ANSWER.replace("return submit, close", "return (lambda item: work(item)), close"),
            _HEAD + _ANSWER.replace("set_exception(error)", "set_result(None)"),
            _HEAD
            + _ANSWER.replace("        calls.put(None)\n", "        calls.queue.clear()\n        calls.put(None)\n"),
        ),
    ),
)
