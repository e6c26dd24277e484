"""Small programs with time-outs, service threads, threads of bodies and event loops, with known outcomes.

As a script, it prints the bad kinds of each as JSON, as `programs` does. Runs on Python 3.11 and newer.
"""

from __future__ import annotations

import asyncio
import json
import queue
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from time import sleep as nap
from types import SimpleNamespace
from typing import Any

from programs import Program, kinds

from yolothreads.races import DEADLOCK, EXCEPTION, WRONG

State = Any
TIMED: dict[str, Program] = {}


def _program(name: str, *bodies: Callable[..., Any], bad: tuple[str | None, ...], **options: Any) -> None:
    TIMED[name] = Program(bodies, tuple(frozenset([kind] if kind else []) for kind in bad), options)


def shared(**parts: Any) -> Callable[[], State]:
    """Return a `setup` that makes an object with these parts; a callable is called."""
    return lambda: SimpleNamespace(**{name: part() if callable(part) else part for name, part in parts.items()})


def count(s: State) -> int:
    return s.n


def bump(s: State) -> None:
    n = s.n
    s.n = n + 1


def bump_locked(s: State) -> None:
    with s.lock:
        n = s.n
        s.n = n + 1


# --- time-outs


def bump_whether_or_not_locked(s: State) -> None:
    got = s.lock.acquire(timeout=0.1)
    n = s.n
    s.n = n + 1
    if got:
        s.lock.release()


def bump_when_locked(s: State) -> None:
    while not s.lock.acquire(timeout=0.1):
        pass
    n = s.n
    s.n = n + 1
    s.lock.release()


_counter: dict[str, Any] = {"setup": shared(lock=threading.Lock, n=0), "observe": count}
_ignored = bump_whether_or_not_locked
_program("a time-out that is ignored", _ignored, _ignored, bad=(None, None, WRONG), **_counter)
_program("a time-out that is tried again", bump_when_locked, bump_when_locked, bad=(None, None, None), **_counter)


def bump_within_a_long_deadline(s: State) -> None:
    if s.lock.acquire(timeout=60):
        n = s.n
        s.n = n + 1
        s.lock.release()


_deadline = bump_within_a_long_deadline
_program("a deadline that only keeps from hanging", _deadline, _deadline, bad=(None, None, None), **_counter)
_program(
    "all time-outs are choices", _deadline, _deadline, bad=(None, None, WRONG), timeouts_s=float("inf"), **_counter
)
_program("no time-out is a choice", _ignored, _ignored, bad=(None, None, None), timeouts_s=0, **_counter)


def take_or_give_up(s: State) -> Any:
    if not s.asked.acquire(timeout=0.5):
        s.open = False
        return None
    return s.answer


def answer(s: State) -> Any:
    if s.open:
        s.answer = 7
        s.asked.release()
        return s.open
    return None


_program(
    "an answer that comes too late",
    take_or_give_up,
    answer,
    bad=(None, WRONG),
    setup=shared(asked=lambda: threading.Semaphore(0), open=True),
)


def take_with_patience(s: State) -> Any:
    with s.changed:
        while not s.items:
            s.changed.wait(0.1)
        return s.items.pop()


def put_one(s: State) -> None:
    with s.changed:
        s.items.append(1)
        s.changed.notify()


_waiting = {"setup": shared(items=list, changed=threading.Condition)}
_program("a condition with time-outs, in a loop", take_with_patience, put_one, bad=(None, None, None), **_waiting)


def pop_after_a_while(s: State) -> Any:
    with s.changed:
        if s.items:
            s.changed.wait(0.1)
        return s.items.pop() if s.items else None


def take_all(s: State) -> int:
    with s.changed:
        taken = len(s.items)
    with s.changed:
        del s.items[:]
    return taken


_program(
    "a lock that a wait gives back",
    pop_after_a_while,
    take_all,
    bad=(None, WRONG),
    setup=shared(items=lambda: [1, 2], changed=threading.Condition),
)


def await_flag(s: State) -> bool:
    return s.there.wait(timeout=300)


def raise_flag(s: State) -> None:
    s.n = 1
    s.there.set()


def await_for_ever(s: State) -> None:
    while not await_flag(s):
        pass


_flag = {"setup": shared(there=threading.Event, n=0)}
_program("an event with a long deadline", await_for_ever, raise_flag, bad=(None, None, None), **_flag)


def poll_queue(s: State) -> Any:
    while True:
        try:
            return s.items.get(timeout=0.05)
        except queue.Empty:
            s.polls += 1


_program(
    "a queue that is polled",
    poll_queue,
    lambda s: s.items.put(3),
    bad=(None, None),
    setup=shared(items=queue.Queue, polls=0),
)


def first_then_second(s: State) -> None:
    with s.a:
        while not s.b.acquire(timeout=0.1):
            s.tries += 1
        s.b.release()


def second_then_first(s: State) -> None:
    with s.b, s.a:
        s.n = 1


_program(
    "a deadlock with polls",
    first_then_second,
    second_then_first,
    bad=(None, DEADLOCK),
    setup=shared(a=threading.Lock, b=threading.Lock, n=0, tries=0),
)


def poll_with_a_deadline(s: State) -> Any:
    until = time.monotonic() + 0.9
    while not s.ready:
        if time.monotonic() > until:
            s.gave_up = True
            return None
        time.sleep(0.01)
    return 7


def make_ready(s: State) -> bool:
    if s.gave_up:
        return False
    s.ready = True
    return True


_polling = {"setup": shared(ready=False, gave_up=False)}
_program("a poll with a deadline", poll_with_a_deadline, make_ready, bad=(None, None, WRONG), **_polling)


def wait_until_a_time(s: State) -> bool:
    until = monotonic() + 0.5
    with s.changed:
        while not s.ready and monotonic() < until:
            s.changed.wait(until - monotonic())
        return bool(s.ready)


_changing = {"setup": shared(ready=False, changed=threading.Condition)}
_program("a clock that was imported by name", wait_until_a_time, lambda s: None, bad=(None, None), **_changing)


# --- bodies that need one another, with deadlines


def ask(s: State) -> Any:
    s.questions.put(1)
    return s.answers.get(timeout=60)


def reply(s: State) -> None:
    s.answers.put(s.questions.get(timeout=60) + 1)


def meet(s: State) -> int:
    return s.barrier.wait(timeout=60)


def meet_too(s: State) -> int:
    return -s.barrier.wait(timeout=60)


def meet_and_bump(s: State) -> None:
    s.barrier.wait(timeout=60)
    bump(s)


_asking = {"setup": shared(questions=queue.Queue, answers=queue.Queue)}
_meeting: dict[str, Any] = {"setup": shared(barrier=lambda: threading.Barrier(2), n=0)}
_program("a question and its answer", ask, reply, bad=(None, None), **_asking)
_program("the numbers that a barrier gives", meet, meet_too, bad=(None, None), **_meeting)
_program("a race behind a barrier", meet_and_bump, meet_and_bump, bad=(None, WRONG), observe=count, **_meeting)


# --- service threads


class Service:
    """A state with a thread that wakes up by time until it is told to stop."""

    def __init__(self) -> None:
        self.n, self.beats, self.lock, self.over = 0, 0, threading.Lock(), threading.Event()
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self) -> None:
        while not self.over.wait(1.0):
            self.beat()

    def beat(self) -> None:
        self.beats += 1


class Closed(Service):
    """The same, and leaving it joins the thread."""

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.over.set()
        self.thread.join()


class Sleeper(Closed):
    """The same with a sleep."""

    def serve(self) -> None:
        while not self.over.is_set():
            time.sleep(0.5)
            self.beat()


class Napper(Closed):
    """The same with a function that was imported by name."""

    def serve(self) -> None:
        while not self.over.is_set():
            nap(0.5)
            self.beat()


class Poller(Closed):
    """A service that waits for work with a time-out; leaving it must not take an hour."""

    def serve(self) -> None:
        items = queue.Queue[int]()
        while not self.over.is_set():
            try:
                items.get(timeout=3600)
            except queue.Empty:
                self.beat()


class Endless(Service):
    """A service that nothing can stop."""

    def serve(self) -> None:
        while True:
            time.sleep(0.5)
            self.beat()


class Spinner(Closed):
    """A service that never waits."""

    def serve(self) -> None:
        while not self.over.is_set():
            pass


class Prepared(Closed):
    """A service that has something to do before it waits for the first time."""

    def serve(self) -> None:
        for _ in range(1500):
            self.n += 1
        super().serve()


_program("a service that prepares itself", count, count, bad=(None, None), setup=Prepared)
_program("a heartbeat that is joined", bump_locked, bump_locked, bad=(None, None), setup=Closed, observe=count)
_program("a heartbeat that is left behind", bump_locked, bump_locked, bad=(None, None), setup=Service, observe=count)
_program("a sampler that sleeps", bump_locked, bump_locked, bad=(None, None), setup=Sleeper, observe=count)
_program("a sampler that naps", bump_locked, bump_locked, bad=(None, None), setup=Napper, observe=count)
_program("a service that waits for work", bump_locked, bump_locked, bad=(None, None), setup=Poller, observe=count)
_program("a service without end", bump_locked, bump_locked, bad=(None, None), setup=Endless, observe=count)
_program("a race beside a heartbeat", bump, bump, bad=(None, WRONG), setup=Closed, observe=count)


class Saver(Closed):
    """A service that takes part in the race."""

    def beat(self) -> None:
        n = self.n
        self.n = n + 10


_program("a race with a heartbeat", bump, lambda s: None, bad=(None, WRONG), setup=Saver, observe=count)


class CarefulSaver(Closed):
    """The same under the lock: each beat counts whole."""

    def beat(self) -> None:
        with self.lock:
            self.n += 10


_program(
    "a heartbeat that changes the result", bump_locked, bump_locked, bad=(None, None), setup=CarefulSaver, observe=count
)


class Quick(Closed):
    """A service that wakes up while a body waits."""

    def serve(self) -> None:
        self.there = threading.Event()
        while not self.over.wait(0.25):
            self.beat()


def wait_a_little(s: State) -> bool:
    return s.there.wait(0.5)


def tell(s: State) -> None:
    s.there.set()


_program("a wait that is cut short beside a heartbeat", wait_a_little, tell, bad=(None, None, None), setup=Quick)


class Cleaner(Closed):
    """A service that goes through entries that bodies add."""

    def __init__(self) -> None:
        self.entries: dict[str, int] = {}
        super().__init__()

    def beat(self) -> None:
        for name in self.entries:
            self.beats += self.entries[name]


def add_entries(s: State) -> None:
    s.entries["first"] = 1
    s.entries["second"] = 2


def look(s: State) -> int:
    return len(s.entries) // 3


_program("a heartbeat that dies of a race", add_entries, look, bad=(None, None, EXCEPTION), setup=Cleaner)


class Display(Service):
    """stop() holds the lock that the service needs, and waits for its end."""

    def beat(self) -> None:
        with self.lock:
            self.beats += 1

    def stop(self) -> None:
        with self.lock:
            self.over.set()
            self.thread.join()


class CarefulDisplay(Display):
    """The same, but it waits outside the lock."""

    def stop(self) -> None:
        with self.lock:
            self.over.set()
        self.thread.join()


def stop(s: State) -> None:
    s.stop()


_program("a stop that holds the service's lock", stop, bump_locked, bad=(None, DEADLOCK), setup=Display)
_program("a stop that does not hold it", stop, bump_locked, bad=(None, None), setup=CarefulDisplay)


class Crossed(Service):
    """Two locks, and a heartbeat that could hide their deadlock."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = threading.Lock(), threading.Lock()


def a_then_b(s: State) -> None:
    with s.a, s.b:
        s.n = 1


def b_then_a(s: State) -> None:
    with s.b, s.a:
        s.n = 2


_program("a deadlock beside a heartbeat", a_then_b, b_then_a, bad=(None, DEADLOCK), setup=Crossed)


# --- threads of bodies, and event loops


def bump_in_a_thread(s: State) -> None:
    thread = threading.Thread(target=bump, args=(s,))
    thread.start()
    thread.join()


def bump_locked_in_a_thread(s: State) -> None:
    thread = threading.Thread(target=bump_locked, args=(s,))
    thread.start()
    thread.join()


def bump_locked_in_an_executor(s: State) -> None:
    with ThreadPoolExecutor(2) as executor:
        for future in [executor.submit(bump_locked, s) for _ in range(2)]:
            future.result()


def bump_by_a_timer(s: State) -> None:
    timer = threading.Timer(0.1, bump_locked, [s])
    timer.start()
    timer.join()


def bump_later(s: State) -> None:
    threading.Timer(0.1, bump_locked, [s]).start()


def bump_without_waiting(s: State) -> None:
    threading.Thread(target=bump_locked, args=(s,)).start()


def start_and_write(s: State) -> None:
    thread = threading.Thread(target=bump, args=(s,))
    thread.start()
    bump(s)
    thread.join()


_program("a thread of a body", bump_in_a_thread, bump, bad=(None, WRONG), **_counter)
_program("a thread of a body, with a lock", bump_locked_in_a_thread, bump_locked, bad=(None, None), **_counter)
_program("an executor of a body", bump_locked_in_an_executor, bump_locked, bad=(None,), **_counter)
_program("a timer of a body", bump_by_a_timer, bump_locked, bad=(None, None), **_counter)
_program("a timer that nobody waits for", bump_later, bump_locked, bad=(None, None), **_counter)
_program("a thread that nobody waits for", bump_without_waiting, bump_locked, bad=(None, None), **_counter)
_program("a body that races with its own thread", start_and_write, lambda s: None, bad=(None, WRONG), **_counter)


def race_once_open(s: State) -> None:
    if s.open:
        start_and_write(s)


def open_it(s: State) -> None:
    s.open = True


def bump_in_a_thread_of_a_thread(s: State) -> None:
    threading.Thread(target=lambda: threading.Thread(target=bump_after_a_while, args=(s,)).start()).start()


def bump_after_a_while(s: State) -> None:
    time.sleep(0.2)
    bump(s)


def set_a_timer_again_and_again(s: State) -> None:
    s.n += 0
    threading.Timer(0.2, set_a_timer_again_and_again, [s]).start()


class Executor(SimpleNamespace):
    """An executor that nobody shuts down."""

    def __init__(self) -> None:
        super().__init__(n=0, lock=threading.Lock(), executor=ThreadPoolExecutor(2))
        self.itself = self  # so it does not vanish at once


def submit_bump(s: State) -> None:
    s.executor.submit(bump, s).result()


def submit_bump_locked(s: State) -> None:
    s.executor.submit(bump_locked, s).result()


_opening: dict[str, Any] = {"setup": shared(n=0, open=False), "observe": lambda s: s.n != 1}
_executing: dict[str, Any] = {"setup": Executor, "observe": count}
_program("a body that races with its own thread, later", race_once_open, open_it, bad=(None, WRONG), **_opening)
_program("a thread of a thread", bump_in_a_thread_of_a_thread, bump, bad=(None, WRONG), **_counter)
_program("a timer without end", set_a_timer_again_and_again, lambda s: None, bad=(None, None), **_counter)
_program("an executor that is left behind", submit_bump_locked, submit_bump_locked, bad=(None, None), **_executing)
_program("a race in an executor that is left behind", submit_bump, submit_bump, bad=(None, WRONG), **_executing)


def note_from_a_thread(s: State) -> None:
    threading.Thread(target=s.order.append, args=("a",)).start()


def note(s: State) -> None:
    s.order.append("b")


_noting: dict[str, Any] = {"setup": shared(order=list), "observe": lambda s: list(s.order)}
_program("a thread that nobody waits for, first or last", note_from_a_thread, note, bad=(None, None), **_noting)


def pop_in_a_thread(s: State) -> None:
    thread = threading.Thread(target=pop_if_there, args=(s,))
    thread.start()
    thread.join()


def pop_if_there(s: State) -> None:
    if s.items:
        s.items.pop()


_program(
    "a thread that dies of a race",
    pop_in_a_thread,
    pop_if_there,
    bad=(None, EXCEPTION),
    setup=shared(items=lambda: [1]),
)


async def bump_asynchronously(s: State) -> None:
    n = s.n
    await asyncio.sleep(0)
    s.n = n + 1


async def bump_locked_to_thread(s: State) -> None:
    await asyncio.to_thread(bump_locked, s)


def bump_to_thread(s: State) -> None:
    asyncio.run(asyncio.to_thread(bump, s))


async def bump_locked_after_a_while(s: State) -> None:
    await asyncio.sleep(0.2)
    bump_locked(s)


async def bump_around_a_sleep(s: State) -> None:
    n = s.n
    await asyncio.sleep(0.01)
    s.n = n + 1


async def wait_for_a_signal(s: State) -> int:
    s.loop, s.signal = asyncio.get_running_loop(), asyncio.Event()
    s.there.set()
    await s.signal.wait()
    return s.n


def signal(s: State) -> None:
    s.there.wait()
    s.n = 7
    s.loop.call_soon_threadsafe(s.signal.set)


_program("a coroutine", bump_asynchronously, bump_asynchronously, bad=(None, WRONG), **_counter)
_program("an update around a sleep", bump_around_a_sleep, bump_around_a_sleep, bad=(WRONG, WRONG), **_counter)
_program("a call in a thread", bump_to_thread, bump, bad=(None, WRONG), **_counter)
_program("a call in a thread, with a lock", bump_locked_to_thread, bump_locked, bad=(None, None), **_counter)
_program("a coroutine that sleeps", bump_locked_after_a_while, bump_locked, bad=(None, None), **_counter)
_program(
    "an event loop that is woken by a thread",
    wait_for_a_signal,
    signal,
    bad=(None, None),
    setup=shared(n=0, there=threading.Event),
)


def main() -> None:
    """Print the bad kinds of each program for preemption bounds 0, 1, ...; or of those whose names are given."""
    names = sys.argv[1:] or TIMED
    print(
        json.dumps(
            {n: [sorted(kinds(TIMED[n].explore(preemptions=p))) for p in range(len(TIMED[n].bad))] for n in names}
        )
    )


if __name__ == "__main__":
    sys.exit(main())
