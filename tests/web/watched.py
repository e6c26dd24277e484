"""The application with two more answers, for tests: how long a step of the event loop took, and what was begun.

The environment variable BEGUN names a file that gets one byte for each request that has begun, in any process.
"""

import asyncio
import os
import time
from importlib import import_module
from pathlib import Path

app = import_module(os.environ["WATCHED"]).app
longest_ms: dict[str, float] = {}
run = asyncio.Handle._run


def run_and_time(handle: asyncio.Handle) -> None:
    start = time.thread_time()  # of this thread alone, so that a busy machine makes no difference
    run(handle)
    took_ms = 1000 * (time.thread_time() - start)
    task = getattr(handle._callback, "__self__", None)
    what = task.get_coro() if isinstance(task, asyncio.Task) else handle._callback
    name = getattr(what, "__qualname__", type(what).__name__)
    longest_ms[name] = max(longest_ms.get(name, 0.0), took_ms)


asyncio.Handle._run = run_and_time


@app.get("/longest_step")
async def longest_step() -> dict[str, float]:
    """Return the processor time in ms of the longest step of each task and callback since this was asked last."""
    longest = longest_ms.copy()
    longest_ms.clear()
    return longest


@app.middleware("http")
async def note_begin(request, call_next):
    if request.url.path == "/predict":
        with Path(os.environ["BEGUN"]).open("ab") as file:
            file.write(b".")
    return await call_next(request)
