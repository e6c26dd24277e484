"""Compares the explorer with an oracle: a model without threads that runs all interleavings of random programs."""

import random
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from deadlines import scaled

from yolothreads.races import DEADLOCK, Exploration, explore

pytestmark = pytest.mark.timeout(scaled(120))

Line = tuple[str, str, int]  # "read", "write", "lock" or "unlock"; the variable or lock; the number that a write adds
Program = tuple[Line, ...]
HUNG = "hung"


def random_program(chance: random.Random) -> Program:
    """Make a program of a few lines, some of them under one or two locks."""
    lines: list[Line] = []
    for _ in range(chance.randint(1, 2)):
        held = chance.sample(["l", "m"], chance.choice([0, 0, 1, 1, 2]))
        lines += [("lock", lock, 0) for lock in held]
        for _ in range(chance.randint(1, 2)):
            lines.append((chance.choice(["read", "write"]), chance.choice("xy"), chance.randint(1, 3)))
        lines += [("unlock", lock, 0) for lock in reversed(held)]
    return tuple(lines)


# --- the model


def outcomes(programs: list[Program], preemptions: int, bodies: list[int] | None = None) -> set[Any]:
    """Return all outcomes within a preemption bound; with `bodies`, the outcome of running them in this order."""
    found: set[Any] = set()

    def go(
        at: list[int], local: list[int], shared: dict[str, int], holder: dict[str, int], now: int, left: int
    ) -> None:
        def free(i: int) -> bool:
            if at[i] == len(programs[i]):
                return False
            kind, name, _ = programs[i][at[i]]
            return kind != "lock" or name not in holder

        able = [i for i in range(len(programs)) if free(i)]
        if not able:
            over = all(at[i] == len(programs[i]) for i in range(len(programs)))
            found.add((shared["x"], shared["y"], *local) if over else HUNG)
            return
        if bodies is not None:
            turn = next((i for i in bodies if at[i] < len(programs[i])), 0)
            able = [turn] if turn in able else []
            if not able:
                found.add(HUNG)
        for i in able:
            cost = int(now in able and i != now)
            if cost > left:
                continue
            kind, name, more = programs[i][at[i]]
            at2, local2, shared2, holder2 = list(at), list(local), dict(shared), dict(holder)
            at2[i] += 1
            if kind == "read":
                local2[i] = shared[name]
            elif kind == "write":
                shared2[name] = local[i] + more
            elif kind == "lock":
                holder2[name] = i
            else:
                del holder2[name]
            go(at2, local2, shared2, holder2, i, left - cost)

    n = len(programs)
    go([0] * n, [0] * n, {"x": 0, "y": 0}, {}, -1, preemptions)
    return found


# --- the same programs in Python


def _lines(program: Program, with_blocks: bool, in_one_line: bool = False) -> Iterator[str]:
    """Yield the lines of a body; `in_one_line` writes reads and writes that follow one another on the same line."""
    templates = {
        "read": "v = s.{0}",
        "write": "s.{0} = v + {1}",
        "lock": "s.{0}.acquire()",
        "unlock": "s.{0}.release()",
    }
    indent, open_line = 4, ""
    for kind, name, more in program:
        if in_one_line and kind in ("read", "write"):
            open_line += f"{'; ' if open_line else ' ' * indent}{templates[kind].format(name, more)}"
            continue
        if open_line:
            yield f"{open_line}\n"
            open_line = ""
        if with_blocks and kind == "lock":
            yield " " * indent + f"with s.{name}:\n"
            indent += 4
        elif with_blocks and kind == "unlock":
            indent -= 4
        else:
            yield " " * indent + templates[kind].format(name, more) + "\n"
    if open_line:
        yield f"{open_line}\n"


def module_of(
    name: str, programs: list[Program], how: tuple[bool, bool], folder: Any, monkeypatch: pytest.MonkeyPatch
) -> types.ModuleType:
    """Make a module with one function per program.

    Args:
        name: the name of the module.
        programs: the programs.
        how: whether locks are taken in `with` blocks, and whether one line holds all that can stand in it.
        folder: where the module is written.
        monkeypatch: of the test.
    """
    text = "import threading\n\n\nclass State:\n    def __init__(self):\n        self.x = self.y = 0\n"
    text += "        self.l, self.m = threading.Lock(), threading.Lock()\n"
    for i, program in enumerate(programs):
        text += f"\n\ndef body_{i}(s):\n    v = 0\n" + "".join(_lines(program, *how)) + "    return v\n"
    (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, name, raising=False)
    return __import__(name)


def explored(module: types.ModuleType, count: int, **options: Any) -> Exploration:
    bodies: list[Callable[..., Any]] = [getattr(module, f"body_{i}") for i in range(count)]
    return explore(*bodies, setup=module.State, observe=lambda s: (s.x, s.y), watch=[module], **options)


def bad(found: Exploration) -> set[Any]:
    """Return the bad outcomes in the form that the model uses."""
    return {HUNG if t.kind == DEADLOCK else (*t.results[-1], *t.results[:-1]) for t in found.forbidden}


@pytest.mark.parametrize("in_one_line", [False, True])
@pytest.mark.parametrize(
    "seed", [seed if seed % 3 == 0 else pytest.param(seed, marks=pytest.mark.nightly) for seed in range(60)]
)
def test_the_explorer_finds_exactly_the_bad_outcomes_of_the_model(
    seed: int, in_one_line: bool, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(seed)
    count = 3 if seed % 4 == 0 else 2
    programs = [random_program(chance) for _ in range(count)]
    preemptions = chance.choice([0, 1, 1, 2]) if count == 2 else chance.choice([0, 1])
    orders = [[0, 1], [1, 0]] if count == 2 else [[a, b, 3 - a - b] for a in range(3) for b in range(3) if a != b]
    right = {outcome for order in orders for outcome in outcomes(programs, 99, order)} - {HUNG}
    expected = outcomes(programs, preemptions) - right
    module = module_of(f"random_{seed}", programs, (seed % 3 > 0, in_one_line), tmp_path, monkeypatch)
    for reduce in (True, False):
        found = explored(module, count, preemptions=preemptions, reduce=reduce)
        assert found.exhausted and bad(found) == expected, (reduce, programs, str(found))


def test_the_model_gives_the_known_outcomes_of_a_counter_and_of_crossed_locks() -> None:
    counter: Program = (("read", "x", 0), ("write", "x", 1))
    assert outcomes([counter, counter], 0) == {(2, 0, 0, 1), (2, 0, 1, 0)}
    assert (1, 0, 0, 0) in outcomes([counter, counter], 1)
    crossed: list[Program] = [
        (("lock", a, 0), ("lock", b, 0), ("unlock", b, 0), ("unlock", a, 0)) for a, b in ("lm", "ml")
    ]
    assert HUNG in outcomes(crossed, 1) and HUNG not in outcomes(crossed, 0)


def test_the_random_programs_cover_hung_wrong_and_safe_outcomes() -> None:
    """Without all of these outcomes, the comparison above would prove little."""
    hung = wrong = safe = 0
    for seed in range(60):
        chance = random.Random(seed)
        programs = [random_program(chance) for _ in range(2)]
        right = {outcome for order in ([0, 1], [1, 0]) for outcome in outcomes(programs, 99, order)}
        bad_ones = outcomes(programs, 1) - right
        hung, wrong, safe = hung + (HUNG in bad_ones), wrong + bool(bad_ones - {HUNG}), safe + (not bad_ones)
    assert hung >= 3 and wrong >= 10 and safe >= 10, (hung, wrong, safe)
