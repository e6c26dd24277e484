"""When the watchdog takes a thread for blocked by something that is not seen."""

from types import SimpleNamespace
from typing import Any

import pytest

from yolothreads.races import watchdog
from yolothreads.races.threads import Mutex, State


class Clock:
    """The time of the watchdog: each of its waits takes as long as the next of `waits`; then the run is over."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, waits: list[float]):
        self.now, self.waits = 0.0, waits
        monkeypatch.setattr(watchdog, "monotonic", lambda: self.now)
        monkeypatch.setattr(watchdog, "acquire", self.wait)
        monkeypatch.setattr(watchdog, "waits_for_cpu", lambda thread: False)

    def wait(self, lock: Any, timeout: float) -> bool:
        if not self.waits:
            return True
        self.now += self.waits.pop(0)
        return False


def stalls_of(monkeypatch: pytest.MonkeyPatch, waits: list[float]) -> list[str]:
    """Return what is noted as stalled while a thread has the turn and reaches no switch point."""
    Clock(monkeypatch, waits)
    running = SimpleNamespace(
        label="A", state=State.RUNNING, thread=None, runs_freely=False, cpu_s=lambda: 0.0, place=lambda: "at a place"
    )
    record = SimpleNamespace(stalls=[], failure="", endless=False, stacks="")
    tasks = SimpleNamespace(all_ended=False, has_work=True, bodies=[], runnable=list, waiting_with_timeout=list)
    run: Any = SimpleNamespace(current=running, log=[], mutex=Mutex(), tasks=tasks, execution=record, uncontrolled={})
    watchdog.Watchdog(run, limit_s=60.0, stop=None).watch_over()
    return record.stalls


def test_a_thread_that_gets_nowhere_for_many_ticks_stalls(monkeypatch: pytest.MonkeyPatch) -> None:
    assert stalls_of(monkeypatch, [watchdog.TICK_S] * 20) == ["A at a place"]


def test_a_thread_does_not_stall_because_the_watchdog_itself_got_no_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert stalls_of(monkeypatch, [watchdog.TICK_S, 2.0, 2.0, 2.0]) == []
