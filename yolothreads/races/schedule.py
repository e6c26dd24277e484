"""A schedule as a string that a person can read and type.

    A@predict:557#1>B | py3.11 ultralytics-8.4.190 5f3a91c2

A runs first; when it is about to run line 557 of `predict` for the first time, B goes on. Where nothing is said, a
thread runs until it ends or waits, and then the first one that can goes on. Behind the bar stand the versions and a
digest of the watched source, without which the line numbers mean nothing.

Other places: `A@wait#2>C` (A waits for the second time: C goes on, of those that can), `A@end#1>C`, `A@sleep#1>B`;
`A@bump:12+8#1>B` is the instruction 8 bytes into the code of `bump`, on its line 12. `random 3/450/17` is run 17 of the
random strategy with depth 3 and 450 steps.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, replace
from zlib import crc32

from yolothreads.errors import ExploreError
from yolothreads.races.watch import Watch

WAIT, LOCKED, END, SLEEP = "wait", "lock", "end", "sleep"
LONGEST = 119
_STOP = re.compile(
    r"(?P<thread>[A-Z]\d*)@(?:(?P<special>wait|end|sleep)#(?P<times>\d+)|"
    r"(?P<function>[^:@>\s]*):(?P<line>\d+)(?:\+(?P<offset>\d+))?#(?P<visit>\d+))>(?P<next>[A-Z]\d*)"
)
_RANDOM = re.compile(r"random (\d+)/(\d+)/(\d+)( instruction)?")


def label(body: int) -> str:
    """How a schedule names a body: A, B, C and so on."""
    return chr(ord("A") + body)


def plain(function: str, letters: int = 99) -> str:
    """How a schedule names a function: `lambda` for `<lambda>`; a long name is cut, with a check of all of it."""
    name = function.strip("<>")
    return name if len(name) <= letters else f"{name[:letters]}~{crc32(name.encode()) & 0xFFFF:04x}"


@dataclass(frozen=True, slots=True)
class Stop:
    """Thread `thread`, at its `visit`-th visit to a place, is stopped, and thread `next` goes on."""

    thread: str
    function: str  # or one of WAIT, END and SLEEP, which have no line
    line: int
    offset: int | None
    visit: int
    next: str

    @property
    def at(self) -> int:
        """What a switch point is known by inside its function: the instruction's offset, or the line."""
        return self.line if self.offset is None else self.offset

    @property
    def is_preemption(self) -> bool:
        """Whether the thread could have gone on."""
        return self.function not in (WAIT, END)

    def place(self, letters: int = 99) -> str:
        """The place as text, with so many letters of the function's name."""
        if not self.line:
            return f"{self.function}#{self.visit}"
        offset = "" if self.offset is None else f"+{self.offset}"
        return f"{plain(self.function, letters)}:{self.line}{offset}#{self.visit}"

    def is_at(self, thread: str, function: str, at: int) -> bool:
        """Whether a thread's switch point is at this place; a function's name may have been cut."""
        if at != self.at or thread != self.thread or not self.line:
            return False
        own = plain(self.function)
        return plain(function) == own or ("~" in own and plain(function, own.index("~")) == own)


@dataclass(frozen=True, slots=True)
class Random:
    """Run `seed` of the random strategy: `depth` priorities, with their changes spread over `steps` switch points."""

    depth: int
    steps: int
    seed: int
    instructions: bool = False


@dataclass(frozen=True, slots=True)
class Schedule:
    """Who begins, and where the threads are stopped; or one run of the random strategy."""

    first: str
    stops: tuple[Stop, ...] = ()
    random: Random | None = None

    @property
    def preemptions(self) -> int:
        """How many threads are stopped that could have gone on."""
        return sum(stop.is_preemption for stop in self.stops)

    def then(self, stop: Stop) -> Schedule:
        """The same with one more stop."""
        return replace(self, stops=(*self.stops, stop))

    def text(self, version: str) -> str:
        """The string; names of functions are cut where it would be longer than 119 characters."""
        for letters in (99, 12, 6, 3, 0):
            text = f"{self._stops(letters)} | {version}"
            if len(text) <= LONGEST:
                break
        return text

    def _stops(self, letters: int) -> str:
        if self.random is not None:
            plan = self.random
            return f"random {plan.depth}/{plan.steps}/{plan.seed}{' instruction' * plan.instructions}"
        text, running = self.first, self.first
        for stop in self.stops:
            text += (
                f"@{stop.place(letters)}>{stop.next}"
                if stop.thread == running
                else (f" {stop.thread}@{stop.place(letters)}>{stop.next}")
            )
            running = stop.next
        return text


def parse(text: str, version: str) -> Schedule:
    """The schedule that a string says.

    Raises:
        ExploreError: the string is no schedule, or was made for other versions or another source than `version` says.
    """
    said, bar, made_for = (part.strip() for part in text.partition("|"))
    if not bar:
        raise ExploreError(
            f"The schedule '{text}' does not say what it was made for; copy it whole, with what follows '|'."
        )
    if made_for != version:
        raise ExploreError(
            f"The schedule was made for '{made_for}', but what is watched here is '{version}'. Its lines may have "
            f"moved, so it would show something else: explore again."
        )
    if match := _RANDOM.fullmatch(said):
        depth, steps, seed, instructions = match.groups()
        return Schedule("", random=Random(int(depth), int(steps), int(seed), bool(instructions)))
    first, *words = said.split() or [""]
    if ">" in first:  # the thread that begins is the one that is stopped first
        first, words = first.partition("@")[0], [first, *words]
    if not re.fullmatch(r"[A-Z]\d*", first):
        raise ExploreError(f"The schedule '{said}' does not begin with a thread, such as A; check what was typed.")
    stops: list[Stop] = []
    for word in words:
        *places, last = word.split(">")
        for place, following in zip(places, [*places[1:], last], strict=True):
            match = _STOP.fullmatch(f"{place}>{following.partition('@')[0]}")
            if match is None:
                raise ExploreError(f"'{place}>{following}' in the schedule is no stop, such as A@predict:557#1>B.")
            stops.append(_stop(match))
        if "@" in last or not places:
            raise ExploreError(f"'{word}' in the schedule does not end with the thread that goes on, such as '>B'.")
    return Schedule(first, tuple(stops))


def _stop(match: re.Match[str]) -> Stop:
    get = match.groupdict()
    name = get["special"] or get["function"]
    offset = int(get["offset"]) if get["offset"] else None
    return Stop(get["thread"], name, int(get["line"] or 0), offset, int(get["visit"] or get["times"] or 1), get["next"])


def version_of(watch: Watch) -> str:
    """What a schedule of this code depends on: Python, the versions of the watched packages, a digest of the source."""
    words = [f"py{sys.version_info.major}.{sys.version_info.minor}"]
    for package in dict.fromkeys(watch.packages):
        number = getattr(sys.modules.get(package), "__version__", None)
        if isinstance(number, str):
            words.append(f"{package}-{number}"[:30])
    return " ".join([*words[:3], watch.digest()])
