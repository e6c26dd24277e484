"""Asking a pool from asyncio: the awaitable of one result, and which threads must never wait."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from typing import TypeVar

Answer = TypeVar("Answer")


async def answer_of(future: Future[Answer]) -> Answer:
    """Wait for a future of a pool without a thread, and return its result or raise its error.

    Cancelling this coroutine cancels the future. Work that has begun goes on, and its answer is dropped.
    """
    return await asyncio.wrap_future(future)


def runs_event_loop() -> bool:
    """Return whether an event loop runs in the calling thread, so that the thread must not wait for anything."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
