"""Exercise of lesson 08: a bounded queue in front of one worker thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import Full
from typing import Any

from yolothreads.lessons.exercises.exercise import CheckFailed, Function

_ANSWER_S = 3.0  # for what a correct function does at once
_WATCH_S = 0.1  # how long close() is watched where it must not return
_BAD = 13


class _HeldWork:
    """Work that doubles an item and refuses `_BAD`. It begins one item at a time, and each waits until it is let go."""

    def __init__(self) -> None:
        self.begun, self._go = threading.Semaphore(0), threading.Semaphore(0)

    def __call__(self, item: int) -> int:
        self.begun.release()
        self._go.acquire(timeout=2 * _ANSWER_S)
        if item == _BAD:
            raise ValueError(f"{item} is refused")
        return 2 * item

    def let_go(self, items: int) -> None:
        """Let this many items finish."""
        self._go.release(items)


class _Call(threading.Thread):
    """A call in its own daemon thread, so that a call that hangs does not hang the reader's notebook."""

    def __init__(self, function: Function, *args: Any) -> None:
        super().__init__(daemon=True)
        self._text = f"{function.__name__}({', '.join(map(str, args))})"
        self._future = Future[Any]()
        self._function, self._given = function, args
        self.start()

    def run(self) -> None:
        """Make the call."""
        try:
            self._future.set_result(self._function(*self._given))
        except Exception as error:
            self._future.set_exception(error)

    def result(self) -> Any:
        """Return or raise what the call returned or raised."""
        self.join(_ANSWER_S)
        if self.is_alive():
            raise CheckFailed(f"{self._text} had not returned after {_ANSWER_S:g} s.")
        return self._future.result()


def check_serve(serve: Function) -> None:
    """Check that a full queue refuses, a failing item fails alone, and closing finishes the items that wait."""
    before, died, hook = set(threading.enumerate()), list[str](), threading.excepthook
    threading.excepthook = lambda args: died.append(args.exc_type.__name__)
    try:
        for check in (_check_full_and_failing, _check_closing):
            work = _HeldWork()
            submit, close = _Call(serve, work, 2).result()
            try:
                check(work, submit, close)
            except BaseException:
                work.let_go(99)
                _Call(close).join(_ANSWER_S)
                raise
    except CheckFailed as failed:
        if died:
            raise CheckFailed(f"{failed} The worker's thread had ended with a {died[0]}.") from None
        raise
    finally:
        threading.excepthook = hook
    if left := [t for t in threading.enumerate() if t not in before]:
        raise CheckFailed(f"{len(left)} threads were still running after close().")


def _submit_three(work: _HeldWork, submit: Function) -> dict[int, Any]:
    """Submit item 0, which the worker begins, then `_BAD` and 2, which wait; return the future of each."""
    futures = {0: _Call(submit, 0).result()}
    if not work.begun.acquire(timeout=_ANSWER_S):
        raise CheckFailed("The work on the first item did not begin.")
    for item in (_BAD, 2):
        try:
            futures[item] = _Call(submit, item).result()
        except Full:
            waiting = len(futures) - 1
            raise CheckFailed(f"There was room for 2 items, {waiting} waited, and submit raised Full.") from None
    return futures


def _check_answers(futures: dict[int, Any]) -> None:
    for item, future in futures.items():
        try:
            error = future.exception(_ANSWER_S)
        except TimeoutError:
            raise CheckFailed(f"After items {[*futures]} were submitted, no answer to item {item} came.") from None
        got = repr(error or future.result())
        if got != (wanted := repr(ValueError(f"{_BAD} is refused") if item == _BAD else 2 * item)):
            raise CheckFailed(f"The future of item {item} had {got} instead of {wanted}.")


def _check_full_and_failing(work: _HeldWork, submit: Function, close: Callable[[], Any]) -> None:
    futures = _submit_three(work, submit)
    try:
        _Call(submit, 3).result()
    except Full:
        work.let_go(99)
    else:
        raise CheckFailed("There was room for 2 items, 2 waited, and a third one was accepted all the same.")
    _check_answers(futures)
    _Call(close).result()


def _check_closing(work: _HeldWork, submit: Function, close: Callable[[], Any]) -> None:
    futures, closing = _submit_three(work, submit), _Call(close)
    for begun in (1, 2):
        work.let_go(1)
        if not work.begun.acquire(timeout=_ANSWER_S):
            raise CheckFailed(
                f"2 items waited when close() was called, but the work on only {begun - 1} of them began."
            )
    closing.join(_WATCH_S)
    if not closing.is_alive():
        closing.result()
        raise CheckFailed("close() returned while the worker still had an item.")
    work.let_go(99)
    closing.result()
    _check_answers(futures)
