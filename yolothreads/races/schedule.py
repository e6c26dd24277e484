"""A schedule as a string that a person can read and type, and the strategies that follow one.

    A@predict:557#1>B | py3.11 ultralytics-8.4.190 5f3a91c2

A runs first; when it is about to run line 557 of `predict` for the first time, B goes on. Between two stops, a thread
runs until it ends or waits; then the first thread that can run goes on. After the bar come the versions and a digest
of the watched source, without which the line numbers mean nothing.

Other places: `A@wait#2>C` (A waits for the second time: C goes on, of those that can run), `A@end#1>C`,
`A@sleep#1>B`; `A@bump:12+8#1>B` is the instruction 8 bytes into the code of `bump`, on its line 12. With
`A@bump:12#1>W1(timeout)` the worker W1 goes on, because the time-out of its wait passes there. `random 3/450/17` is
run 17 of the random strategy with depth 3 and 450 steps. A granularity that is not "auto" stands
before the digest.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import CodeType
from zlib import crc32

from yolothreads.errors import ExploreError
from yolothreads.races.threads import TIMEOUT, LogEntry, Task

WAIT, LOCKED, END, SLEEP = "wait", "lock", "end", "sleep"
"""Events in the log of a run that have no line: a thread waits, waits for a lock at a watched line, ends or sleeps."""

LONGEST = 119
NO_POINT, EVERY_POINT = 0, 1 << 60
"""Instead of a place: a strategy need not be asked at any switch point, or has to be asked at every one."""

_STOP = re.compile(
    r"(?P<thread>[A-Z]\d*)@(?:(?P<special>wait|end|sleep)#(?P<times>\d+)|"
    r"(?P<function>[^:@>\s]*):(?P<line>\d+)(?:\+(?P<offset>\d+))?#(?P<visit>\d+))>(?P<next>[A-Z]\d*(?:\(timeout\))?)"
)
_RANDOM = re.compile(r"random (\d+)/(\d+)/(\d+)")


def label(body: int) -> str:
    """Return the name of a body in a schedule: A, B, C and so on; after Z come Z1, Z2 ..."""
    return chr(ord("A") + body) if body < 26 else f"Z{body - 25}"


def plain(function: str, letters: int = 99) -> str:
    """Return the name of a function in a schedule: `lambda` for `<lambda>`.

    A name of more than `letters` letters is cut and ends with a checksum of the whole name.
    """
    name = function.strip("<>")
    return name if len(name) <= letters else f"{name[:letters]}~{crc32(name.encode()) & 0xFFFF:04x}"


@dataclass(frozen=True, slots=True)
class Stop:
    """One stop: thread `thread` is stopped at its `visit`-th visit to a place, and thread `next` goes on."""

    thread: str
    function: str  # or one of WAIT, END and SLEEP, which have no line
    line: int
    offset: int | None
    visit: int
    next: str  # its label; followed by TIMEOUT if it goes on because its time-out passes

    @property
    def at(self) -> int:
        """The place inside its function (see `watching`): the line, or `~offset` of an instruction."""
        return self.line if self.offset is None else ~self.offset

    @property
    def is_preemption(self) -> bool:
        """Whether the thread could have gone on, or another one's time-out passes early."""
        at_event = not self.line and self.function in (WAIT, END)  # a function may have such a name, too
        return not at_event or self.next.endswith(TIMEOUT)

    def place(self, letters: int = 99) -> str:
        """Return the place as text, with at most `letters` letters of the function's name."""
        if not self.line:
            return f"{self.function}#{self.visit}"
        offset = "" if self.offset is None else f"+{self.offset}"
        return f"{plain(self.function, letters)}:{self.line}{offset}#{self.visit}"

    def is_at(self, thread: str, function: str, at: int) -> bool:
        """Return whether a thread's switch point is at this place."""
        return at == self.at and thread == self.thread and bool(self.line) and self.is_in(function)

    def is_in(self, function: str) -> bool:
        """Return whether the place is in a function; its name may have been cut."""
        own = plain(self.function)
        return plain(function) == own or ("~" in own and plain(function, own.index("~")) == own)


@dataclass(frozen=True, slots=True)
class Random:
    """Run `seed` of the random strategy: `depth` priorities, whose changes are spread over `steps` switch points."""

    depth: int
    steps: int
    seed: int


@dataclass(frozen=True, slots=True)
class Schedule:
    """The thread that runs first and the stops; or one run of the random strategy."""

    first: str
    stops: tuple[Stop, ...] = ()
    random: Random | None = None

    @property
    def preemptions(self) -> int:
        """The number of stops of a thread that could have gone on."""
        return sum(stop.is_preemption for stop in self.stops)

    def then(self, stop: Stop) -> Schedule:
        """Return the same schedule with one more stop."""
        return replace(self, stops=(*self.stops, stop))

    def text(self, version: str) -> str:
        """Return the string; function names are cut where it would be longer than 119 characters."""
        for letters in (99, 12, 6, 3, 0):
            text = f"{self._stops(letters)} | {version}"
            if len(text) <= LONGEST:
                break
        return text

    def _stops(self, letters: int) -> str:
        if self.random is not None:
            plan = self.random
            return f"random {plan.depth}/{plan.steps}/{plan.seed}"
        text, running = self.first, self.first
        for stop in self.stops:
            thread = "" if stop.thread == running else f" {stop.thread}"
            text += f"{thread}@{stop.place(letters)}>{stop.next}"
            running = stop.next.removesuffix(TIMEOUT)
        return text


def parse(text: str, version: str, any_digest: bool = False) -> Schedule:
    """Return the schedule that a string describes; with `any_digest` it may have been made for other source.

    Raises:
        ExploreError: the string is not a schedule, or was made for another version than `version`.
    """
    plan, bar, made_for = (part.strip() for part in text.partition("|"))
    if not bar:
        raise ExploreError(
            f"The schedule '{text}' does not say what it was made for; copy the whole string, with the part after '|'."
        )
    if made_for != version and not (any_digest and made_for.split()[:-1] == version.split()[:-1]):
        raise ExploreError(
            f"The schedule was made for '{made_for}', but the watched code here is '{version}'. Its lines may have "
            f"moved, so a replay would be misleading: explore again."
        )
    if match := _RANDOM.fullmatch(plan):
        run = Random(*map(int, match.groups()))
        if min(run.depth, run.steps) < 1:
            raise ExploreError(f"The schedule '{plan}' makes no sense: depth and steps are 1 or more.")
        return Schedule("", random=run)
    first, *words = plan.split() or [""]
    if ">" in first:  # the thread that begins is the one that is stopped first
        first, words = first.partition("@")[0], [first, *words]
    if not re.fullmatch(r"[A-Z]\d*", first):
        raise ExploreError(f"The schedule '{plan}' does not begin with a thread, such as A; check the spelling.")
    return Schedule(first, tuple(stop for word in words for stop in _parse_stops(word)))


def _parse_stops(word: str) -> list[Stop]:
    """Return the stops of one word, such as `A@bump:12#1>B@bump:12#1>A`."""
    *places, last = word.split(">")
    stops = []
    for place, following in zip(places, [*places[1:], last], strict=True):
        match = _STOP.fullmatch(f"{place.replace(TIMEOUT, '')}>{following.partition('@')[0]}")
        if match is None:
            raise ExploreError(f"'{place}>{following}' in the schedule is no stop; write it as A@predict:557#1>B.")
        get = match.groupdict()
        offset = int(get["offset"]) if get["offset"] else None
        name, visit = get["special"] or get["function"], int(get["visit"] or get["times"])
        stops.append(Stop(get["thread"], name, int(get["line"] or 0), offset, visit, get["next"]))
    if "@" in last or not places:
        raise ExploreError(f"'{word}' in the schedule does not end with the thread that goes on; add it, as in '>B'.")
    return stops


class Follow:
    """Strategy that follows a schedule: a thread runs until the next stop; where several can go on, the first does."""

    def __init__(self, schedule: Schedule, log: list[LogEntry]):
        self._first, self._plan, self._log = schedule.first, list(schedule.stops), log
        self.diverged = ""
        self._await_next()

    def _await_next(self) -> None:
        """Wait for the next stop; earlier visits to its place count."""
        self.followed = len(self._log)
        self.stop: Stop | None = self._plan.pop(0) if self._plan else None
        self.at = self.stop.at if self.stop is not None else NO_POINT
        if (stop := self.stop) is not None and stop.line:
            lines = [(task.label, code.co_name, at) for task, code, at, _ in self._log if not isinstance(code, str)]
            self._visits_left = stop.visit - sum(stop.is_at(*line) for line in lines)

    @property
    def unfollowed(self) -> list[Stop]:
        """The stops that no thread reached."""
        return [*([self.stop] if self.stop else []), *self._plan]

    def first(self, bodies: Sequence[Task]) -> Task:
        """Return the thread that runs first."""
        return next((t for t in bodies if t.label == self._first), bodies[0])

    def at_point(self, me: Task, code: CodeType, at: int, choices: Callable[[Task], dict[str, Task]]) -> Task:
        """Return the thread that goes on at a switch point; `choices` returns the others that could, by label."""
        if self.stop is None or not self.stop.is_at(me.label, code.co_name, at):
            return me
        self._visits_left -= 1
        return me if self._visits_left else self._next_thread(me, choices(me))

    def at_event(self, me: Task, name: str, number: int, choices: Mapping[str, Task], default: Task) -> Task:
        """Return the thread that goes on where a thread waits, ends or sleeps for the `number`-th time."""
        stop = self.stop
        if stop is None or stop.line or (stop.function, stop.thread, stop.visit) != (name, me.label, number):
            return default
        return self._next_thread(default, choices)

    def _next_thread(self, default: Task, choices: Mapping[str, Task]) -> Task:
        assert self.stop is not None
        target = choices.get(self.stop.next)
        if target is None:
            self.diverged = f"{self.stop.next} cannot go on at {self.stop.place()}"
        self._await_next()
        return target or default


class Priorities(Follow):
    """Random strategy: each thread gets a high priority, and at `depth - 1` steps the running one drops below all.

    S. Burckhardt, P. Kothari, M. Musuvathi, S. Nagarakatte: "A randomized scheduler with probabilistic guarantees of
    finding bugs", ASPLOS 2010.
    """

    def __init__(self, plan: Random, log: list[LogEntry]):
        super().__init__(Schedule(""), log)
        self._random = random.Random(f"{plan.depth}/{plan.steps}/{plan.seed}")
        self._drops = {self._random.randint(1, plan.steps): float(-1 - i) for i in range(plan.depth - 1)}
        self._priorities: dict[str, float] = {}
        self.at = EVERY_POINT

    def _priority(self, task: Task) -> float:
        return self._priorities.setdefault(task.label, self._random.random())

    def _highest(self, tasks: Iterable[Task]) -> Task:
        """Return the task with the highest priority; one whose time-out passes so has the lowest from now on.

        Otherwise a thread that wakes up by time would go on again and again, and no other one.
        """
        highest = max(tasks, key=self._priority)
        if not highest.can_run() and highest.can_expire():
            self._priorities[highest.label] = min(self._priorities.values()) - 1
        return highest

    def first(self, bodies: Sequence[Task]) -> Task:
        """Return the thread that runs first."""
        return max(bodies, key=self._priority)

    def at_point(self, me: Task, code: CodeType, at: int, choices: Callable[[Task], dict[str, Task]]) -> Task:
        """Return the thread with the highest priority at a switch point."""
        if len(self._log) in self._drops:
            self._priorities[me.label] = self._drops[len(self._log)]
        return self._highest((me, *choices(me).values()))

    def at_event(self, me: Task, name: str, number: int, choices: Mapping[str, Task], default: Task) -> Task:
        """Return the thread with the highest priority where a thread waits, ends or sleeps."""
        return self._highest(choices.values())
