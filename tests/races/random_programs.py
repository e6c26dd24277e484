"""Random programs with time-outs, service threads and one-line operations: as Python, and as steps of a model.

A *step* is what happens between two switch points, as far as others can see it.
"""

import random
import sys
import types
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest

# A time-out that only keeps a program from hanging: without a service, and with one, which may wake up until then. Like
# the other times it is exact in binary, so that ties are the same in the model.
LONG = (64.0, 2.0)

# What a line does, step by step: the shared x, y, q, d (the number of a dictionary) and kept (what each dictionary
# holds), and v, t, u, w of the thread.
OPERATIONS = {
    "v = s.x": ["v = x"],
    "v = s.y": ["v = y"],
    "s.x = v + 1": ["x = v + 1"],
    "s.y = v + 2": ["y = v + 2"],
    "s.x += 1": ["t = x", "x = t + 1"],
    "s.y += v": ["t = y", "y = t + v"],
    "s.x = s.y + s.x": ["t = y", "u = x", "x = t + u"],
    "v = s.x - s.y": ["t = x", "v = t - y"],
    "s.x, s.y = s.y, v": ["t = y", "x = t", "y = v"],
    's.d["k"] = s.d["k"] + 1': ["t = d", "t = kept[t]", "u = d", "kept = put(kept, u, t + 1)"],
    's.d["k"] += 2': ["w = d", "t = kept[w]", "kept = put(kept, w, t + 2)"],
    's.d = {"k": v}': ["kept, d = (*kept, v), len(kept)"],
    'v = s.d["k"] * s.x': ["t = d", "t = kept[t]", "v = t * x"],
    "v = s.q.pop() if s.q else 9": ["t = q", "v, q = (q[-1], q[:-1]) if t else (9, q)"],
    "s.q.append(len(s.q))": ["t = len(q)", "q = (*q, t)"],
    "s.q.append(v)": ["q = (*q, v)"],
    "s.beats += 1": [],
}
RAISING = "v = s.q.pop() if s.q else 9"
RETURNS = {
    "return v": ["result = v"],
    "return v, got": ["result = v, got"],
    "return s.x + s.y": ["t = x", "result = t + y"],
    'return s.x * 100 + s.d["k"]': ["t = x", "u = d", "result = t * 100 + kept[u]"],
    "return len(s.q) - s.x": ["t = len(q)", "result = t - x"],
}
SHARED = {"x": 0, "y": 0, "q": (7,), "d": 0, "kept": (0,), "flag": False}
OWN = {"v": 0, "got": False, "result": None}

_MODULE = """import threading
import time


class State:
    def __init__(self):
        self.x = self.y = self.beats = 0
        self.q, self.d = [7], {{"k": 0}}
        self.l, self.m = threading.Lock(), threading.Lock()
        self.e = threading.Event()
"""
_SERVICE = """

class Served(State):
    def __init__(self):
        super().__init__()
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(s):
        while not s.over.wait({0}):
"""
_LEAVE = """
    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.over.set()
        self.thread.join()
"""


class Step(NamedTuple):
    """One step of the model."""

    kind: str  # "do", "lock", "unlock", "await", "raise the flag", "sleep" or "end"
    name: str = ""  # what to do in Python; or the lock
    timeout: float | None = None
    answer: str = ""  # the variable that gets the answer of a wait; or, if it is false, nothing is unlocked
    on_failure: int = 0  # the step that follows if the wait fails or the step raises; 0 for the next one


@dataclass
class Program:
    """One function: its lines, and the steps of the model."""

    lines: list[str] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    indent: int = 0
    operations: list[str] = field(default_factory=list)  # those to choose from
    is_served: bool = False  # there is a service, which waits for ever for a lock that an exception leaves locked
    withs: list[str] = field(default_factory=list)  # the locks of the open `with` blocks
    failing: dict[int, list[str]] = field(default_factory=dict)  # the same, by the step that may raise there

    def line(self, text: str) -> None:
        self.lines.append("    " * self.indent + text)

    def do(self, text: str) -> None:
        self.line(text)
        for step in {**OPERATIONS, **RETURNS}[text]:
            if text == RAISING:
                self.failing[len(self.steps)] = list(self.withs)
            self.steps.append(Step("do", step))

    def end(self) -> None:
        """Add the end of the function, and the ways to it from where a step may raise."""
        self.steps.append(Step("end"))
        for at, locks in self.failing.items():
            self.steps[at] = self.steps[at]._replace(on_failure=len(self.steps))
            self.steps += [*(Step("unlock", lock) for lock in reversed(locks)), Step("end")]


@dataclass
class Case:
    """Bodies, and perhaps a service thread."""

    bodies: list[Program]
    service: Program | None
    period: float
    is_joined: bool  # when the state is left; otherwise the service is left behind

    def module(self, name: str, folder: Any, monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
        """Make a module of it, with `body_0` and so on, and `setup`."""
        text, setup = _MODULE.format(), "State"
        if self.service is not None:
            setup = "Served"
            text += _SERVICE.format(self.period)
            text += "".join(f"            {line}\n" for line in self.service.lines)
            text += _LEAVE if self.is_joined else ""
        for i, body in enumerate(self.bodies):
            text += f"\n\ndef body_{i}(s):\n    v, got = 0, False\n" + "".join(f"    {line}\n" for line in body.lines)
        (folder / f"{name}.py").write_text(f"{text}\n\nsetup = {setup}\n")
        monkeypatch.syspath_prepend(str(folder))
        monkeypatch.delitem(sys.modules, name, raising=False)
        return __import__(name)


def random_case(seed: int) -> Case:
    """Make a case; every eighth has three bodies, and two of three have a service."""
    chance = random.Random(seed)
    service, is_joined = None, chance.random() < 0.5
    period = chance.choice([0.25, 0.5])
    if seed % 3:
        service = Program()
        service.steps.append(Step("sleep", timeout=period))
        _serve(service, chance)
    count = 3 if seed % 8 == 0 else 2
    operations = [chance.choice(["s.x += 1", "s.x = v + 1"]), *chance.sample(list(OPERATIONS)[:-1], 4)]
    returns = chance.sample(list(RETURNS), 2)
    bodies = []
    for _ in range(count):
        body = Program(operations=operations, is_served=service is not None)
        for _ in range(1 if count == 3 else 2):
            _section(body, chance, ["l", "m"], may_raise=True)
        body.do(chance.choice(returns))
        body.end()
        bodies.append(body)
    return Case(bodies, service, period, is_joined)


def _serve(service: Program, chance: random.Random) -> None:
    """Add what a service does: it takes locks, and perhaps sleeps under them, but changes only what is its own."""
    locks = chance.sample(["l", "m"], chance.choice([1, 2, 2]))
    for lock in locks:
        service.line(f"with s.{lock}:")
        service.steps.append(Step("lock", lock))
        service.indent += 1
    if chance.random() < 0.6:
        service.line("time.sleep(0.25)")
        service.steps.append(Step("sleep", timeout=0.25))
    service.do("s.beats += 1")
    for lock in reversed(locks):
        service.steps.append(Step("unlock", lock))


def _section(body: Program, chance: random.Random, locks: list[str], may_raise: bool) -> None:
    """Add a few lines: operations, perhaps under a lock, or a wait.

    Args:
        body: the function.
        chance: the source of the draws.
        locks: those that it may take.
        may_raise: whether an exception is harmless there. It must not leave a lock locked that a service waits for.
    """
    how = chance.choice(["bare", "bare", "with", "with", "plain", "if", "ignored", "event", "sleep"])
    if how == "event":
        _event(body, chance)
    elif how == "sleep":
        body.line("time.sleep(0.25)")
        body.steps.append(Step("sleep", timeout=0.25))
    elif how == "bare" or not locks:
        _operations(body, chance, may_raise)
    else:
        lock = chance.choice(locks)
        _locked(body, chance, how, lock, [name for name in locks if name != lock], may_raise)


def _operations(body: Program, chance: random.Random, may_raise: bool) -> None:
    for _ in range(chance.randint(1, 2)):
        body.do(chance.choice([text for text in body.operations if may_raise or text != RAISING]))


def _event(body: Program, chance: random.Random) -> None:
    if chance.random() < 0.4:
        body.line("s.e.set()")
        body.steps.append(Step("raise the flag"))
    else:
        timeout = chance.choice([0.125, 0.5, LONG[body.is_served]])
        body.line(f"got = s.e.wait({timeout})")
        body.steps.append(Step("await", timeout=timeout, answer="got"))


def _locked(body: Program, chance: random.Random, how: str, lock: str, others: list[str], may_raise: bool) -> None:
    """Add operations under a lock, which may be taken with a time-out whose answer is used or ignored."""
    timeout, at, answer = chance.choice([0.125, 0.5, LONG[body.is_served]]), len(body.steps), f"got_{len(body.steps)}"
    lines = {
        "with": f"with s.{lock}:",
        "plain": f"s.{lock}.acquire()",
        "if": f"if s.{lock}.acquire(timeout={timeout}):",
        "ignored": f"{answer} = s.{lock}.acquire(timeout={timeout})",
    }
    has_timeout, has_block = how in ("if", "ignored"), how in ("with", "if")
    body.line(lines[how])
    body.steps.append(Step("lock", lock, timeout if has_timeout else None, answer if how == "ignored" else ""))
    body.indent += has_block
    body.withs += [lock] * (how == "with")
    may_raise = may_raise and (how == "with" or not body.is_served)
    if how != "ignored" and chance.random() < 0.15:  # the lock that it holds itself
        body.line(f"got = s.{lock}.acquire(timeout={timeout})")
        body.steps.append(Step("lock", lock, timeout, "got"))
    if chance.random() < 0.5:
        _section(body, chance, others, may_raise)
    else:
        _operations(body, chance, may_raise)
    if how == "ignored":
        body.line(f"if {answer}: s.{lock}.release()")
    elif how != "with":
        body.line(f"s.{lock}.release()")
    body.steps.append(Step("unlock", lock, answer=answer if how == "ignored" else ""))
    body.indent -= has_block
    if how == "with":
        body.withs.pop()
    if how == "if":
        body.steps[at] = body.steps[at]._replace(on_failure=len(body.steps))
