"""Small programs with known outcomes, for the tests of the explorer. Runs on Python 3.11 and newer.

As a script, it explores each program and prints the bad kinds as JSON, so that a test can compare other interpreters.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from benchmarks import bodies
from benchmarks.bodies import state
from yolothreads.races import DEADLOCK, EXCEPTION, WRONG, Exploration, explore


@dataclass(frozen=True)
class Program:
    """Bodies, and the exact set of bad kinds that the explorer must find for each preemption bound."""

    bodies: tuple[Callable[..., Any], ...]
    bad: tuple[frozenset[str], ...]  # for preemption bounds 0, 1, ...
    options: dict[str, Any] = field(default_factory=dict)

    def explore(self, **options: Any) -> Exploration:
        """Explore the program, by default with a preemption bound of one."""
        return explore(*self.bodies, **{"budget_s": 600.0, **self.options, **options})


PROGRAMS: dict[str, Program] = {}
NONE: frozenset[str] = frozenset()


def _program(name: str, *bodies: Callable[..., Any], bad: tuple[str | None, ...], **options: Any) -> None:
    PROGRAMS[name] = Program(bodies, tuple(frozenset([kind]) if kind else NONE for kind in bad), options)


def kinds(found: Exploration) -> set[str]:
    """Return the bad kinds that an exploration found."""
    return {trial.kind for trial in found.forbidden}


_program("counter", bodies.bump, bodies.bump, bad=(None, WRONG, WRONG), setup=state(n=0), observe=bodies.number)
_program(
    "counter in one line",
    bodies.bump_in_one_line,
    bodies.bump_in_one_line,
    bad=(None, WRONG),
    setup=state(n=0),
    observe=bodies.number,
)
_program(
    "counter under a lock",
    bodies.bump_locked,
    bodies.bump_locked,
    bad=(None, None, None),
    setup=state(n=0, lock=threading.Lock),
    observe=bodies.number,
)
_program(
    "three bodies under a lock",
    bodies.bump_locked,
    bodies.bump_locked,
    bodies.look_locked,
    bad=(None, None),
    setup=state(n=0, lock=threading.Lock),
    observe=bodies.number,
)
_program(
    "only one body locks",
    bodies.bump_locked,
    bodies.bump,
    bad=(None, WRONG),
    setup=state(n=0, lock=threading.Lock),
    observe=bodies.number,
)
_program(
    "three bodies, two of them racy",
    bodies.bump,
    bodies.harmless,
    bodies.bump,
    bad=(None, WRONG),
    setup=state(n=0),
    observe=bodies.number,
)
_program(
    "three bodies, two of them harmless",
    bodies.bump,
    bodies.harmless,
    bodies.read_only,
    bad=(None, None),
    setup=state(n=0),
    observe=bodies.number,
)
_program(
    "crossed locks",
    bodies.first_then_second,
    bodies.second_then_first,
    bad=(None, DEADLOCK),
    setup=state(a=threading.Lock, b=threading.Lock, n=0),
)
_program(
    "generators hold crossed locks",
    bodies.first_stream,
    bodies.second_stream,
    bad=(None, DEADLOCK),
    setup=state(a=threading.Lock, b=threading.Lock),
)
_program(
    "a half-consumed generator",
    bodies.leave_half_consumed,
    bodies.consume,
    bad=(DEADLOCK, DEADLOCK),
    setup=state(a=threading.Lock, kept=None),
)
_program("check then act", bodies.build_once, bodies.build_once, bad=(None, WRONG), setup=state(cache=dict, built=0))
_program(
    "check then pop",
    bodies.pop_if_there,
    bodies.pop_if_there,
    bad=(None, EXCEPTION),
    setup=state(cache=lambda: {"model": 1}),
)
_program(
    "two accounts",
    bodies.move_one,
    bodies.move_back,
    bad=(None, WRONG),
    setup=state(accounts=lambda: {"one": 100, "two": 100}),
    observe=lambda s: sum(s.accounts.values()),
)
_waiting: dict[str, Any] = {"setup": state(items=list, changed=threading.Condition)}
_program("condition with if", bodies.take_if, bodies.take_if, bodies.put_two, bad=(None, EXCEPTION), **_waiting)
_program("condition with while", bodies.take_while, bodies.take_while, bodies.put_two, bad=(None, None), **_waiting)
_program(
    "raises in sequential runs too",
    bodies.always_raises,
    bodies.append_a,
    bad=(None, None),
    setup=state(tries=0, order=list),
)
_program(
    "every order is allowed",
    bodies.append_a,
    bodies.append_b,
    bad=(None, None),
    setup=state(order=list),
    observe=lambda s: list(s.order),
)
_program(
    "needs 2 preemptions", bodies.two_stages, bodies.see_both_stages, bad=(None, None, WRONG), setup=state(stage=0)
)
_program(
    "race around a sleep",
    bodies.bump_around_a_sleep,
    bodies.bump_around_a_sleep,
    bad=(None, WRONG),
    setup=state(n=0),
    observe=bodies.number,
)
_polling: dict[str, Any] = {"setup": state(flag=False, n=0), "max_steps": 500}
_program("polling", bodies.poll, bodies.raise_flag, bad=(None, None), **_polling)
_program("polling, flag raised too early", bodies.poll, bodies.raise_flag_too_early, bad=(None, WRONG), **_polling)
_program(
    "thread-local values", bodies.count_own_calls, bodies.count_own_calls, bad=(None, None), setup=state(order=list)
)
_program("a body starts a thread", bodies.start_own_thread, bodies.append_a, bad=(None, None), setup=state(order=list))
_program(
    "livelock",
    bodies.after_you,
    bodies.no_after_you,
    bad=(None, DEADLOCK),
    setup=state(first=False, second=False),
    max_steps=500,
)
_program(
    "some schedules never end",
    bodies.below_zero,
    bodies.count_down,
    bad=(None, DEADLOCK),
    setup=state(n=1),
    max_steps=500,
)


def main() -> None:
    """Print the bad kinds of each program for preemption bounds 0, 1, ..."""
    report = {
        name: [sorted(kinds(program.explore(preemptions=n))) for n in range(len(program.bad))]
        for name, program in PROGRAMS.items()
    }
    report["counter in one line, by other granularities"] = [
        sorted(kinds(PROGRAMS["counter in one line"].explore(granularity=how))) for how in ("line", "instruction")
    ]
    print(json.dumps(report))


if __name__ == "__main__":
    sys.exit(main())
