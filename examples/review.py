"""The faults of docs/checklist.md that need no model: each class has one, and the explorer forces it.

yolothreads explore review:Client.get review:Client.get --setup review:Client     # in this folder
"""

import asyncio
from queue import Queue
from threading import Lock


class Client:
    """Look, then act: two threads find no client, and each opens one."""

    def __init__(self):
        self.opened, self.client = 0, None

    def get(self):
        if self.client is None:
            self.opened += 1
            self.client = f"client {self.opened}"
        return self.client


class Accounts:
    """Two locks that are taken in a different order."""

    def __init__(self):
        self.cash, self.savings = Lock(), Lock()

    def pay_in(self):
        with self.cash, self.savings:
            return "paid in"

    def pay_out(self):
        with self.savings, self.cash:
            return "paid out"


class Frames:
    """One buffer for all frames: whoever still reads one gets parts of the next."""

    def __init__(self):
        self.pixels = [0, 0]

    def capture(self):
        for i in range(2):
            self.pixels[i] += 1

    def detect(self):
        frame = self.pixels
        left = frame[0]
        right = frame[1]
        return left, right


class Service:
    """An `async def` that waits by `result()`: its event loop cannot go on with what it waits for."""

    async def work(self):
        return "answer"

    async def handle(self):
        return asyncio.run_coroutine_threadsafe(self.work(), asyncio.get_running_loop()).result()


class Results:
    """A wait without a time-out for an answer that never comes."""

    def __init__(self):
        self.answers = Queue()

    def take(self):
        return self.answers.get()

    def work(self):
        raise ValueError("no answer")


class Log:
    """A loop over a table that another thread changes."""

    def __init__(self):
        self.places = {"screen": [], "file": []}

    def write(self):
        for lines in self.places.values():
            lines.append("visit")

    def close(self):
        self.places.clear()
