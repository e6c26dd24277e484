"""Random programs of one-line operations: `"auto"` with all reductions has to find what a search without any finds.

As a script, it compares some programs and prints the differences as JSON. Runs on Python 3.11 and newer.
"""

from __future__ import annotations

import json
import random
import sys
from types import ModuleType
from typing import Any

from yolothreads.races import Exploration, explore, session
from yolothreads.races.watching import Watch

HEAD = """
import threading

class Part:
    def __init__(self): self.v = 1
    def get(self): return self.v
    def inc(self): self.v += 1; return self.v

class State:
    def __init__(self):
        self.x = self.y = 0
        self.l, self.d, self.p, self.lock, self.f = [1], {"k": 1}, Part(), threading.Lock(), one
        self.t, self.it, self.open = (1, 2), iter((7, 8, 9)), False
    def bump(self): self.x += 1
    def two(self, a, b): return a * 10 + b
    def __enter__(self): self.lock.acquire(); return self
    def __exit__(self, *given): self.lock.release()
    @property
    def prop(self): return self.y + self.x

def one(s): return s.x
def other(s): return s.y
def both(s): yield s.x; yield s.y
def seen(s): return s.x, s.y, list(s.l), dict(s.d), s.p.v, s.t, list(s.it), s.open
"""
EXPRESSIONS = [
    "s.x", "len(s.l)", "s.d.get('k')", "s.p.get()", "s.p.inc()", "s.f(s)", "function(s)", "s.prop", "sum(both(s))",
    "s.two(s.x, s.y)", "[s.x for _ in range(2)]", "s.x if s.l else s.y", "s.l[-1] if s.l else 0", "(s.x, s.y)",
    "s.x + s.y",
    "f'{s.x}{s.y}'", "s.x == s.y", "not s.l", "s.x and s.y", "s.x or s.y", "max(s.x, s.y)", "next(iter(s.d), None)",
    "list(s.d)", "(lambda: s.x + s.y)()", "tuple(s.x for _ in range(2))", "r.append(s.x) or s.y", "sorted(s.l)[:1]",
    "s.p.v",
    "{s.x: s.y}", "s.x < s.y < 3", "getattr(s, 'x')",
    "tuple(getattr(s, k) for k in ('x', 'y'))", "{k: getattr(s.p, k) for k in ('v', 'open')}", "s.t[0] + s.x",
    "list(s.x + i for i in range(2))", "[a + s.x for a in s.t]", "tuple(s.x for _ in s.it)", "sum(i for i in s.it)",
    "any(s.x for _ in (1, 2))", "1 if s.p.v else s.open", "s.x * 2 + s.y", "s.x / 2 < s.y", "len(s.t) + s.x",
    "s.open or s.x", "[s.p.v for _ in 'ab' if s.open]", "{s.x + 1 for _ in range(2)}", "sum(map(one, [s, s]))",
    "(lambda k: tuple(k + s.x for _ in s.t))(s.y)", "[next(s.it, 0) + i for i in range(2)]",
]  # fmt: skip
STATEMENTS = [
    "s.x += 1", "s.y = s.x + 1", "s.l.append(s.x)", "s.l.pop() if s.l else None", "s.d['k'] = s.d.get('k', 0) + 1",
    "s.d.pop('k', None)", "s.p = Part()", "s.f = other", "s.bump()", "s.p.inc()", "s.x, s.y = s.y, s.x",
    "s.l = s.l + [2]",
    "s.l.extend(s.x for _ in range(2))", "del s.l[:1]", "s.p.v = s.x", "setattr(s, 'y', s.x)", "s.l[:] = [s.x]",
    "with s.lock: s.x += 1", "with s: s.y += 1", "if s.x: s.y = 2", "for i in s.l: s.x += i", "while s.x < 1: s.x += 1",
    "s.d.update(k=s.x)", "s.p.get = lambda: 5", "assert s.x >= 0", "import json", "function = other",
    "s.t = (s.x, 5)", "s.t = s.t + (s.y,)", "s.it = iter((4, s.x))", "s.p.v = [s.x]", "s.open = True",
    "a, b = s.t[:2]; s.x = b",
    "k = s.x; f = lambda: k; s.y = f() + s.x", "s.l.extend(list(s.x + i for i in s.t))", "s.p.v.append(s.x)",
    "s.p.open = s.x", "if s.open: s.p = Part()", "for i in range(s.x): s.y += i", "s.x = s.open and s.y + 1",
    "r.append(s.p.v * 2 or s.x)", "with s: r.append(s.x); s.open = not s.open",
]  # fmt: skip


def program(seed: int) -> str:
    """Return the source of two bodies of one or two lines each."""
    chance, text = random.Random(seed), HEAD
    for name in "ab":
        lines = [
            f"r.append({chance.choice(EXPRESSIONS)})" if chance.random() < 0.5 else chance.choice(STATEMENTS)
            for _ in range(chance.randint(1, 2))
        ]
        text += "\n    ".join([f"def {name}(s):", "global function", "r = []", *lines, "return r\n"])
    return text


def explored(source: str, preemptions: int, whole: bool, reduce: Any = True) -> Exploration:
    """Explore the bodies; `whole` means by instruction, with every lookup a point, and without reduction."""
    module = ModuleType("random_lines_of_this_test")
    exec(compile(source, f"<{hash(source)}>", "exec"), vars(module))

    def setup() -> Any:
        module.function = module.one  # type: ignore[attr-defined]
        return module.State()

    sys.modules[module.__name__] = module
    session.Watch = WithoutNames if whole else Watch  # type: ignore[misc, attr-defined]
    try:
        return explore(
            module.a, module.b, setup=setup, observe=module.seen, preemptions=preemptions,
            reduce=False if whole else reduce, granularity="instruction" if whole else "auto", budget_s=600,
        )  # fmt: skip
    finally:
        session.Watch = Watch  # type: ignore[misc, attr-defined]
        del sys.modules[module.__name__]


class WithoutNames(Watch):
    """A watch for which each lookup of a name is a switch point."""

    def __init__(self, *given: Any, **options: Any):
        super().__init__(*given, **{**options, "by_names": False})


def bad(found: Exploration) -> set[str]:
    """Return the bad outcomes."""
    return {f"{trial.kind} {list(map(repr, trial.results))}" for trial in found.forbidden}


def difference(seed: int, preemptions: int = 1, reduce: Any = True) -> str:
    """Return in what the two searches differ; "" if they find the same."""
    source = program(seed)
    whole, found = (explored(source, preemptions, whole, reduce) for whole in (True, False))
    if bad(whole) == bad(found) and found.exhausted and whole.exhausted:
        return ""
    return (
        f"{source[len(HEAD) :]}\nonly without: {bad(whole) - bad(found)}, only with: {bad(found) - bad(whole)}, {found}"
    )


if __name__ == "__main__":
    print(json.dumps({seed: difference(seed) for seed in range(*map(int, sys.argv[1:]))}))
