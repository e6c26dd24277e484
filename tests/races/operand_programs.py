"""For each rule of `races/operands.py`, lines to which it applies, and near misses that a switch can still harm.

As a script, it explores all of them and prints what was wrong as JSON. Runs on Python 3.11 and newer.
"""

from __future__ import annotations

import dis
import json
import sys
from contextlib import suppress
from types import CodeType, ModuleType

from random_lines import WithoutNames

from yolothreads.races import Exploration, explore, operands, session
from yolothreads.races.schedule import parse
from yolothreads.races.watching import Watch

HEAD = """
from functools import partial
from threading import local

class Part:
    def __init__(self, v): self.v = v

class Property:
    def __init__(self, s): self.s = s
    @property
    def q(self): return self.s.n
    def __getattr__(self, name): return self.s.n
    def __bool__(self): return self.s.n == 0
    def __hash__(self): return hash(self.s.n)
    def __eq__(self, other): return self.s.n == 0
    def __index__(self): return self.s.n
    def __iter__(self): return iter((self.s.n, 2))
    def __len__(self): return self.s.n

class State:
    all_kept = []
    def __init__(self):
        self.n, self.m, self.l, self.t, self.d, self.text = 0, 0, [1, 2], (1, 2), {"k": 1}, "ab"
        self.p, self.o, self.it = Part(3), Property(self), iter((1, 2, 3))
        self.kept = self.all_kept.append
        self.const, self.fixed = 5, Part(6)

def two(s, k): return s.n
def seen(s): return s.n, s.m, list(s.l), s.t, s.d, s.p.v, list(s.it)
"""

# By rule: lines that end with a `|` and the instructions that are no places in them. The other thread runs OTHER.
OTHER = "s.n = 1; s.l.append(7); s.t = (3, 4, 5); s.d['k'] = 2; s.p = Part([]); s.text = 'c'"
APPLIES: dict[str, list[str]] = {
    "_on_plain_values": [
        "r.append(s.n * 2 + 1) | BINARY_OP", "x = 1 if s.n else 2; r.append((x, s.m)) | POP_JUMP TO_BOOL",
        "x = not s.n; r.append((x, s.m)) | UNARY_NOT TO_BOOL", "r.append((s.n == 0) + 1) | COMPARE_OP",
        "r.append(len(s.l) > 2) | COMPARE_OP", "x = s.p.v == 3; r.append(s.n) | COMPARE_OP",
        "if s.t[0] > 1 and s.n: r.append(s.n) | COMPARE_OP", "r.append((s.n, len(s.o) > 2)) | COMPARE_OP",
        "r.append((s.n, 1 if hasattr(s, 'x') else 2)) | POP_JUMP TO_BOOL",
    ],
    "_item_of_tuple": ["x = s.t[0]; r.append((x, s.m)) | BINARY_SUBSCR"],
    "_attribute_that_stays": [
        "x = s.const; r.append((x, s.m)) | LOAD_ATTR.const",
        "x = s.fixed.v; r.append(s.m) | LOAD_ATTR.fixed",
    ],
    "_adds_to_new": [
        "r.append({k: s.n for k in ('a', 'b')}) | MAP_ADD",
        "r.append([s.n, {k for k in (1, 2)}]) | SET_ADD",
    ],
    "_unpacks_tuple": [
        "a, b = s.t[0], s.n; a, b = (s.n, a); r.append((a, b)) | UNPACK_SEQUENCE",
        "x = s.n; [x, y] = t; r.append(s.n) | UNPACK_SEQUENCE",
        "r.append([s.n, *t]) | LIST_EXTEND",
    ],
    "_merges_own_names": ["r.append((lambda **k: dict(x=s.n, **k))(y=1)) | DICT_MERGE"],
    "_begins_loop": [
        "r.append([s.n for _ in t]) | GET_ITER",
        "r.append([s.n for _ in range(2)]) | GET_ITER",
        "r.append([s.n for _ in s.l]) | GET_ITER",
    ],
    "_goes_on_in_loop": [
        "for i in range(2): r.append(s.n) | FOR_ITER",
        *(["r.append(list(s.n for _ in t)) | LOAD_ATTR.n"] if sys.version_info < (3, 12) else []),
    ],
    "_calls": [
        "x = len(t); r.append((x, s.n)) | CALL.len",
        "x = getattr(s, 'const'); r.append((x, s.m)) | CALL.getattr",
    ],
    "_yields_to_new": [
        "r.append(tuple(s.n for _ in t)) | YIELD_VALUE",
        "r.append(list(s.n for _ in t)) | YIELD_VALUE",
    ],
}  # fmt: skip
NEAR_MISSES: dict[str, list[str]] = {
    "_on_plain_values": [
        "r.append(s.l + [s.n]) | BINARY_OP", "r.append((s.n, 1 if s.o else 2)) | POP_JUMP TO_BOOL",
        "r.append((s.n, 1 if s.l else 2)) | POP_JUMP TO_BOOL", "r.append((s.n, not s.o)) | UNARY_NOT TO_BOOL",
        "r.append((s.n, s.l == [1, 2])) | COMPARE_OP", "r.append(((s.p,) == (s.o,), s.n)) | COMPARE_OP",
        "r.append((s.n, s.o == 1)) | COMPARE_OP", "r.append(s.n or s.l and s.n) | POP_JUMP JUMP_IF TO_BOOL",
    ],
    "_item_of_tuple": [
        "r.append((s.n, s.l[-1])) | BINARY_SUBSCR",
        "r.append((s.n, s.t[s.o])) | BINARY_SUBSCR",
        "r.append((s.n, s.d['k'])) | BINARY_SUBSCR",
    ],
    "_attribute_that_stays": [
        "r.append((s.n, s.n)) | LOAD_ATTR.n", "r.append((s.n, s.p.v)) | LOAD_ATTR.p",
        "r.append((s.n, s.o.q)) | LOAD_ATTR.q", "r.append((s.n, s.o.missing)) | LOAD_ATTR.missing",
        "r.append((s.m, s.p.v, s.n)) | LOAD_ATTR.n",
    ],
    "_adds_to_new": [
        "r += {k: s.n for k in (s.o, 1)}.values() | MAP_ADD",
        "r.append((s.n, len({k for k in (s.o, 1)}))) | SET_ADD",
    ],
    "_unpacks_tuple": [
        "x, *y = s.l, s.n; x, y = x; r.append((x, y, s.n)) | UNPACK_SEQUENCE",
        "r.append(s.n); x, y = s.o; r.append(x) | UNPACK_SEQUENCE",
        "r.append([s.n, *s.l]) | LIST_EXTEND",
    ],
    "_merges_own_names": [
        "r.append(dict(x=s.n, **s.d)) | DICT_MERGE", "r.append((lambda **d: dict(x=s.n, **s.d))(y=1)) | DICT_MERGE",
        "r.append((lambda **k: (s.kept(k), dict(x=s.n, **k)))(y=1)) | DICT_MERGE",
    ],
    "_begins_loop": ["r.append((s.n, [i for i in s.o])) | GET_ITER", "r.append((s.n, [i for i in s.d])) | GET_ITER"],
    "_goes_on_in_loop": [
        "r.append(list((i, s.n) for i in s.it)) | LOAD_ATTR.n", "r.append(list((i, s.n) for i in s.l)) | LOAD_ATTR.n",
        "for i in s.l: r.append(s.n) | LOAD_ATTR.n",
    ],
    "_calls": [
        "r.append((s.n, len(s.l))) | CALL.len",
        "r.append((s.n, len(s.o))) | CALL.len",
        "r.append((s.n, getattr(s, 'n'))) | CALL.getattr",
        "r.append((s.n, getattr(s.o, 'q'))) | CALL.getattr",
    ],
    "_yields_to_new": [
        "s.l.extend(s.n for _ in t) | YIELD_VALUE",
        "r.append(sum(s.n for _ in t)) | YIELD_VALUE",
        "r.append(any(s.o for _ in t if s.n == 0)) | YIELD_VALUE",
    ],
}  # fmt: skip


def module_of(line: str) -> ModuleType:
    """Make a module with two bodies: the line, and OTHER."""
    module = ModuleType("operands_of_this_test")
    text = f"{HEAD}\ndef a(s):\n    t, r = (1, 2), []\n    {line}\n    return r\n\ndef b(s):\n"
    text += "\n".join(f"    {part.strip()}" for part in OTHER.split(";"))
    exec(compile(text, f"<{hash(line)}>", "exec"), vars(module))
    return module


def explored(module: ModuleType, whole: bool) -> Exploration:
    """Explore the two bodies; `whole` means by instruction, with every lookup a point, and without reduction."""
    sys.modules[module.__name__] = module
    session.Watch = WithoutNames if whole else Watch  # type: ignore[misc, attr-defined]
    try:
        return explore(
            module.a, module.b, setup=module.State, observe=module.seen, reduce=not whole,
            granularity="instruction" if whole else "auto", budget_s=600,
        )  # fmt: skip
    finally:
        session.Watch = Watch  # type: ignore[misc, attr-defined]
        del sys.modules[module.__name__]


def _codes(code: CodeType) -> list[CodeType]:
    return [code, *(inner for c in code.co_consts if isinstance(c, CodeType) for inner in _codes(c))]


def places(module: ModuleType, found: Exploration) -> set[str]:
    """Return the instructions of the first body at which a schedule stops it: name, and what it looks up or calls."""
    names: set[str] = set()
    for trial in found.trials:
        for stop in parse(trial.schedule, trial.schedule.partition("| ")[2]).stops:
            if stop.thread == "A" and stop.offset is not None:
                names |= {
                    _described(code, stop.offset) for code in _codes(module.a.__code__) if stop.is_in(code.co_name)
                }
    return names


def _described(code: CodeType, offset: int) -> str:
    steps = operands.steps_of_code(code)
    at = next((i for i, step in enumerate(steps) if step.offset == offset), None)
    if at is None:
        return ""
    with suppress(operands.UnknownError, IndexError):
        if (function := operands._only_called(steps, at)) is not None:
            return f"CALL.{function.value}"
    return f"{steps[at].name}.{steps[at].value}"


def bad(found: Exploration) -> set[str]:
    """Return the bad outcomes."""
    return {f"{trial.kind} {list(map(str, trial.results))}" for trial in found.forbidden}


def fault(row: str, applies: bool) -> str:
    """Return what is wrong with the places of a line, or with its outcomes; or ""."""
    line, names = row.rsplit(" | ", 1)
    module = module_of(line)
    found, whole = explored(module, False), explored(module, True)
    there = {name for name in places(module, found) if name.startswith(tuple(names.split()))}
    wrong = f"{there} are places; " if applies and there else ""
    if not applies and not there and any(name in dis.opmap for name in names.replace(".", " ").split()):
        wrong = f"{names} is no place, only {places(module, found)}; "
    if bad(found) != bad(whole) or not found.exhausted or not whole.exhausted:
        wrong += f"only without rules: {bad(whole) - bad(found)}, only with: {bad(found) - bad(whole)}"
    return wrong and f"{line}: {wrong}"


if __name__ == "__main__":
    rows = [(row, True) for rows in APPLIES.values() for row in rows]
    rows += [(row, False) for rows in NEAR_MISSES.values() for row in rows]
    print(json.dumps({row: fault(row, applies) for row, applies in rows}))
