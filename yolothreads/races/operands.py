"""Whether an instruction that is about to run touches nothing that threads share, which the values show that it gets.

Python does not show the stack. So an operand is computed a second time, from the variables of the function, if all of
it stands on the same line just before the instruction, and if this runs no code of others: constants, attributes in the
dictionary of an object, items of Python's own containers, arithmetic. It gives the same value, because no other thread
has run since the line began.
"""

from __future__ import annotations

import builtins
import dis
import operator
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from inspect import CO_VARARGS, CO_VARKEYWORDS
from types import CodeType, FrameType, ModuleType, NoneType, SimpleNamespace
from typing import Any, NamedTuple, Protocol

from yolothreads.races.by_code import once_per_code
from yolothreads.races.frames import variable

_OWN_REFERENCES = 3  # to an iterator that only the frame which runs through it knows, and who counts


_LONG = 50  # a longer tuple is not looked at, for it would take too long (unmeasured)
_ATOMS = (int, float, bool, str, bytes, NoneType)
_NUMBERS = (int, float, bool)
_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv,
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_INNER = ("comp>", "<genexpr>")
_RETURNS = ("RETURN_VALUE", "RETURN_CONST")
_ALWAYS_TOUCHES = ("CALL_FUNCTION_EX", "CALL_KW", "STORE_ATTR", "STORE_SUBSCR", "STORE_GLOBAL", "DELETE_SUBSCR")
_GIVES_BOOL = ("hasattr", "isinstance", "issubclass", "callable", "any", "all")
_TRUTH = ("POP_JUMP", "JUMP_IF_", "TO_BOOL", "UNARY_NOT")
_CLOSURE = 8  # in the argument of an instruction that makes a function, or gives it an attribute
_READS_ALL_NAMES = frozenset({"locals", "vars", "dir", "eval", "exec"})
_LOCALS = ("LOAD_FAST", "LOAD_FAST_CHECK", "LOAD_DEREF")
_ITERATORS = (type(iter(())), type(iter(range(0))), type(iter("")))
_USUAL_LOOKUPS: tuple[Any, ...] = (object.__getattribute__, SimpleNamespace.__getattribute__)


class UnknownError(Exception):
    """Nothing is known about an operand."""


class Trust(Protocol):
    """Knows what is stored."""

    def trusts(self, name: str) -> bool:
        """Return whether no code that ran stores anything under a name."""

    def keep_an_eye_on(self, owner: Any, name: str, value: Any) -> None:
        """Notice if an attribute changes in this run all the same, for instance because of a function in C."""


class Now(NamedTuple):
    """A function that is about to run an instruction."""

    frame: FrameType
    watch: Trust

    def trusts(self, name: str) -> bool:
        """Return whether no code stores a name."""
        return self.watch.trusts(name)

    def stays(self, owner: Any, name: str) -> bool:
        """Return whether an attribute keeps its value, as far as is known; if it does not, that will be noticed."""
        if not self.watch.trusts(name):
            return False
        self.watch.keep_an_eye_on(owner, name, attribute(owner, name))
        return True

    def local(self, name: str) -> Any:
        """Return a variable of the function, or of an enclosing one."""
        return variable(self.frame, name)

    def named(self, name: str) -> Any:
        """Return a global variable or a builtin."""
        for space in (self.frame.f_globals, self.frame.f_builtins):
            if name in space:
                return space[name]
        raise UnknownError


Value = Callable[[Now], Any]  # computes an operand
Check = Callable[[Now], bool]  # whether an instruction touches nothing; UnknownError means that this is not known


class Step(NamedTuple):
    """An instruction, as far as it matters here."""

    offset: int
    name: str
    argument: int
    value: Any
    line: int
    is_target: bool  # something may jump to it


def steps_of(instructions: Iterable[dis.Instruction], line_at: dict[int, int]) -> list[Step]:
    """Return the instructions without those that only prepare others."""
    steps: list[Step] = []
    is_target = False
    for i in instructions:
        is_target |= i.is_jump_target
        if i.opname in ("EXTENDED_ARG", "PRECALL", "NOP"):
            continue
        names = i.argval if isinstance(i.argval, tuple) and i.opname.startswith(("LOAD_FAST_", "STORE_FAST_")) else ()
        value = i.argrepr if i.opname == "BINARY_OP" else i.argval
        parts = [(i.opname, value)]
        if len(names) == 2:  # two instructions in one
            first, second = i.opname.split("_FAST_")[0], i.opname.split("_FAST_")[1].split("_")[0]
            parts = [(f"{first}_FAST", names[0]), (f"{second}_FAST", names[1])]
        for name, given in parts:
            steps.append(Step(i.offset, name, i.arg or 0, given, line_at[i.offset], is_target))
            is_target = False
    return steps


def is_plain(value: object, depth: int = 3) -> bool:
    """Return whether a value cannot change, and nothing that is done with it and its like runs code of others."""
    if type(value) is tuple and depth:
        return len(value) < _LONG and all(is_plain(item, depth - 1) for item in value)
    return type(value) in _ATOMS


def attribute(owner: Any, name: str) -> Any:
    """Return an attribute if it is an entry of the dictionary of its object, its class or its module."""
    kind = type(owner)
    if kind is not ModuleType and kind.__getattribute__ not in _USUAL_LOOKUPS:
        raise UnknownError
    try:
        inside = object.__getattribute__(owner, "__dict__")
    except AttributeError:
        raise UnknownError from None
    found = next((vars(base)[name] for base in kind.__mro__ if name in vars(base)), UnknownError)
    if type(inside) is not dict or hasattr(type(found), "__set__") or hasattr(type(found), "__delete__"):
        raise UnknownError
    if name in inside:
        return inside[name]
    if is_plain(found):
        return found
    raise UnknownError


# --- operands


def before(steps: Sequence[Step], i: int) -> int:
    """Return the index of the instruction that ran just before another one of the same line."""
    if i == 0 or steps[i].is_target or steps[i - 1].line != steps[i].line:
        raise UnknownError
    return i - 1


def operand(steps: Sequence[Step], end: int) -> tuple[int, Value]:
    """Return the index at which an operand begins that ends with the instruction `end`, and what computes it."""
    step = steps[end]
    if step.name in _LOCALS:
        return end, lambda now: now.local(step.value)
    if step.name == "LOAD_CONST":
        return end, lambda now: step.value
    if step.name == "LOAD_GLOBAL":
        return end, lambda now: now.named(step.value)
    if step.name == "CALL":
        return _call(steps, end)
    if step.name == "BUILD_TUPLE":
        return _tuple(steps, end)
    if step.name in ("LOAD_ATTR", "LOAD_METHOD"):
        start, owner = operand(steps, before(steps, end))
        return start, lambda now: attribute(owner(now), step.value)
    if step.name == "UNARY_NOT":
        start, given = operand(steps, before(steps, end))
        return start, lambda now: not _plain(given(now))
    if step.name == "TO_BOOL":
        start, given = operand(steps, before(steps, end))
        return start, lambda now: bool(_plain(given(now)))
    if step.name in ("BINARY_SUBSCR", "BINARY_OP", "COMPARE_OP"):
        middle, right = operand(steps, before(steps, end))
        start, left = operand(steps, before(steps, middle))
        join = _item if step.name == "BINARY_SUBSCR" else _joined(step.value.strip("=") or step.value, step)
        return start, lambda now: join(left(now), right(now))
    raise UnknownError


def _plain(value: Any) -> Any:
    if not is_plain(value):
        raise UnknownError
    return value


def _item(container: Any, key: Any) -> Any:
    try:
        if type(container) in (tuple, list, dict) and is_plain(key):
            return container[key]
    except (LookupError, TypeError):
        pass
    raise UnknownError


def _joined(sign: str, step: Step) -> Callable[[Any, Any], Any]:
    """Return what does arithmetic, or compares: nothing can go wrong later that did not go wrong here."""
    sign = step.value if step.name == "COMPARE_OP" else sign
    function = _OPERATORS.get(sign)
    if function is None:
        raise UnknownError

    def join(left: Any, right: Any) -> Any:
        fits = is_plain(left) and is_plain(right)
        if step.name == "BINARY_OP":
            fits = type(left) in _NUMBERS and type(right) in _NUMBERS
        try:
            if fits:
                return function(left, right)
        except (TypeError, ArithmeticError):
            pass
        raise UnknownError

    return join


def _tuple(steps: Sequence[Step], i: int) -> tuple[int, Value]:
    start, values = i, list[Value]()
    for _ in range(steps[i].argument):
        start, value = operand(steps, before(steps, start))
        values.insert(0, value)
    return start, lambda now: tuple([value(now) for value in values])


def _arguments(steps: Sequence[Step], i: int) -> tuple[int, list[Value]]:
    """Return the index before the arguments of a call, and what computes these."""
    start, values = i, list[Value]()
    if steps[i - 1].name == "KW_NAMES":
        start = before(steps, start)
    for _ in range(steps[i].argument):
        start, value = operand(steps, before(steps, start))
        values.insert(0, value)
    return before(steps, start), values


def _call(steps: Sequence[Step], i: int) -> tuple[int, Value]:
    """Return the same for a call; only that of a function which Python itself has can be computed."""
    if (made := _begin_of_inner(steps, i)) is not None:
        return made, _unknown
    end, values = _arguments(steps, i)
    if steps[end].name == "PUSH_NULL":
        end = before(steps, end)
    start, function = operand(steps, end)
    if start > 0 and steps[start - 1].name == "PUSH_NULL" and steps[start - 1].line == steps[start].line:
        start = before(steps, start)
    has_names = steps[i - 1].name == "KW_NAMES"

    def called(now: Now) -> Any:
        which = None if has_names or steps[end].name != "LOAD_GLOBAL" else function(now)
        given = [value(now) for value in values]
        if which is len and len(given) == 1 and type(given[0]) in (tuple, list, dict, str):
            return len(given[0])
        if which is getattr and len(given) in (2, 3) and type(given[1]) is str:
            return attribute(given[0], given[1])
        raise UnknownError

    return start, called


def _unknown(now: Now) -> Any:
    raise UnknownError


def _made_at(steps: Sequence[Step], i: int) -> int:
    """Return which instruction ends the making of the function that a call calls with an iterator."""
    start, _ = operand(steps, before(steps, before(steps, i)))
    return before(steps, start)


def _begin_of_inner(steps: Sequence[Step], i: int) -> int | None:
    """Return where the making of a comprehension or generator expression begins, if this is the call of one."""
    if steps[i].argument != 0 or steps[i - 1].name != "GET_ITER":
        return None
    made = _made_at(steps, i)
    if _made_by(steps, made) is None:
        return None
    has_closure = 0
    while steps[made].name != "LOAD_CONST":
        has_closure |= steps[made].argument & _CLOSURE
        made = before(steps, made)
    if has_closure:  # a tuple of the variables that it uses
        made -= 1 + steps[made - 1].argument
    return made


def _is_builtin(step: Step, function: object, now: Now) -> bool:
    """Return whether an instruction loads a function of Python under a name that nobody stores."""
    is_it = step.name == "LOAD_GLOBAL" and step.value == getattr(function, "__name__", "")
    return is_it and now.trusts(step.value) and now.named(step.value) is function


# --- the rules


def _on_plain_values(steps: Sequence[Step], i: int) -> Check:
    """It works on numbers, texts and the like, which cannot change; and it raises no error, as was just tried."""
    end = before(steps, i)
    if steps[i].name.startswith(_TRUTH):
        if (function := _only_called(steps, end)) is not None and function.value in _GIVES_BOOL:
            return partial(_is_builtin, function, getattr(builtins, function.value))
        _, given = operand(steps, end)
        return lambda now: is_plain(given(now))
    is_limit = steps[end].name == "LOAD_CONST" and type(steps[end].value) is int
    function = _only_called(steps, before(steps, end)) if is_limit and steps[i].name == "COMPARE_OP" else None
    if function is not None and function.value == "len":
        return partial(_is_builtin, function, len)
    _, value = operand(steps, i)
    return lambda now: is_plain(value(now))


def _item_of_tuple(steps: Sequence[Step], i: int) -> Check:
    """A tuple cannot change."""
    middle, key = operand(steps, before(steps, i))
    _, container = operand(steps, before(steps, middle))

    def check(now: Now) -> bool:
        found = container(now)
        return type(found) is tuple and _item(found, key(now)) is not UnknownError

    return check


def _attribute_that_stays(steps: Sequence[Step], i: int) -> Check:
    """It looks up an entry of a dictionary, by a name under which nobody stores anything."""
    _, owner = operand(steps, before(steps, i))
    name = steps[i].value
    return lambda now: now.stays(owner(now), name)


def _adds_to_new(steps: Sequence[Step], i: int) -> Check:
    """It fills a new set or dictionary, with a key whose comparison runs no code of others."""
    end = before(steps, i)
    if steps[i].name == "MAP_ADD":
        start, _ = operand(steps, end)
        end = before(steps, start)
    if steps[end].name not in ("LOAD_FAST", "LOAD_CONST"):
        raise UnknownError
    _, key = operand(steps, end)
    return lambda now: is_plain(key(now))


def _unpacks_tuple(steps: Sequence[Step], i: int) -> Check:
    """A tuple cannot change."""
    last, count = steps[before(steps, i)], steps[i].argument
    if last.name == "BUILD_TUPLE" and last.argument == count:
        return lambda now: True
    _, given = operand(steps, before(steps, i))

    def check(now: Now) -> bool:
        found = given(now)
        return type(found) is tuple and (steps[i].name == "LIST_EXTEND" or len(found) == count)

    return check


def _merges_own_names(steps: Sequence[Step], i: int) -> Check:
    """It reads the dictionary of the function's `**names`, which is new in each call and is used for nothing else."""
    loads = steps[before(steps, i)]
    variables = ("_FAST", "DEREF", "CLOSURE")
    uses = [n for n, s in enumerate(steps) if s.value == loads.value and any(word in s.name for word in variables)]
    is_own = all(steps[n].name == "LOAD_FAST" and steps[n + 1].name in ("DICT_MERGE", "DICT_UPDATE") for n in uses)
    if loads.name != "LOAD_FAST" or not is_own:
        raise UnknownError

    def check(now: Now) -> bool:
        code = now.frame.f_code
        index = code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & CO_VARARGS)
        is_given = bool(code.co_flags & CO_VARKEYWORDS) and code.co_varnames[index] == loads.value
        return is_given and all(type(name) is str for name in now.local(loads.value))

    return check


def _begins_loop(steps: Sequence[Step], i: int) -> Check:
    """A new iterator over one of these reads nothing yet."""
    end = before(steps, i)
    if (function := _only_called(steps, end)) is not None and function.value == "range":
        return partial(_is_builtin, function, range)
    _, given = operand(steps, end)
    return lambda now: type(given(now)) in (tuple, list, str, range)


def _only_called(steps: Sequence[Step], i: int) -> Step | None:
    """Return the instruction that loads the function, if an instruction calls one, and without names."""
    if steps[i].name != "CALL" or steps[i - 1].name == "KW_NAMES":
        return None
    end, _ = _arguments(steps, i)
    return steps[before(steps, end) if steps[end].name == "PUSH_NULL" else end]


def _goes_on_in_loop(steps: Sequence[Step], i: int) -> Check:
    """The next of a range, or of something that cannot change, by an iterator that no other thread can know."""
    last = steps[i - 1]
    is_begun_here = last.name == "GET_ITER" and last.line == steps[i].line
    if is_begun_here and (function := _only_called(steps, before(steps, i - 1))) is not None:
        return partial(_is_builtin, function, range)
    if last.name != "LOAD_FAST" or last.value != ".0":
        raise UnknownError

    def check(now: Now) -> bool:
        return type(now.local(".0")) in _ITERATORS and sys.getrefcount(now.local(".0")) == _OWN_REFERENCES

    return check


def _calls(steps: Sequence[Step], i: int) -> Check:
    """It begins something that has places of its own, a comprehension say; or it only reads what cannot change."""
    if _begin_of_inner(steps, i) is not None:
        made = _made_by(steps, _made_at(steps, i))
        if sys.version_info < (3, 12) or (made is not None and made.co_name == "<genexpr>"):
            return lambda now: True
        raise UnknownError
    function = _only_called(steps, i)
    if function is None:
        raise UnknownError
    _, values = _arguments(steps, i)

    def check(now: Now) -> bool:
        if function.value == "len":
            return _is_builtin(function, len, now) and type(values[0](now)) in (tuple, str)
        given = [value(now) for value in values]
        if function.value == "range":
            return _is_builtin(function, range, now) and all(type(value) is int for value in given)
        if function.value == "getattr" and type(given[1]) is str:
            return _is_builtin(function, getattr, now) and now.stays(given[0], given[1])
        return False

    if function.name != "LOAD_GLOBAL" or function.value not in ("len", "range", "getattr") or not values:
        raise UnknownError
    return check


def _made_by(steps: Sequence[Step], i: int) -> CodeType | None:
    """Return the code of the comprehension or generator expression that an instruction makes a function of."""
    while steps[i].name == "SET_FUNCTION_ATTRIBUTE":
        i = before(steps, i)
    if steps[i].name != "MAKE_FUNCTION":
        return None
    code = steps[before(steps, i)].value
    return code if isinstance(code, CodeType) and code.co_name.endswith(_INNER) else None


def _yields_to_new(steps: Sequence[Step], i: int) -> Check:
    """What it yields goes into a new tuple or list, and then the generator expression continues."""

    def check(now: Now) -> bool:
        caller = now.frame.f_back
        if caller is None or not is_consumed_by(now.frame, (tuple, list), now.watch):
            return False
        return _is_followed(caller.f_code, steps_of_code(caller.f_code), _at_call(caller))

    return check


def _at_call(caller: FrameType) -> int:
    """Return the index of the instruction that a function is running."""
    return next(n for n, step in enumerate(steps_of_code(caller.f_code)) if step.offset == caller.f_lasti)


def is_consumed_by(frame: FrameType, functions: Iterable[Callable[..., Any]], watch: Trust) -> bool:
    """Return whether a function is a generator expression that one of these functions of Python gets, alone."""
    code, caller = frame.f_code, frame.f_back
    if caller is None or code.co_name != "<genexpr>":
        return False
    steps, at = steps_of_code(caller.f_code), _at_call(caller)
    if steps[at].name != "CALL" or steps[at].argument != 1 or steps[at - 1].name != "CALL":
        return False
    start = _begin_of_inner(steps, at - 1)
    if start is None or _made_by(steps, _made_at(steps, at - 1)) is not code:
        return False
    made = before(steps, start)
    made = before(steps, made) if steps[made].name == "PUSH_NULL" else made
    then = Now(caller, watch)
    return any(_is_builtin(steps[made], function, then) for function in functions)


@once_per_code
def steps_of_code(code: CodeType) -> list[Step]:
    """Return the instructions of a code object, without those that only prepare others."""
    line_at = {i: line or 0 for start, end, line in code.co_lines() for i in range(start, end, 2)}
    return steps_of(dis.get_instructions(code), line_at)


RULES: dict[Callable[[Sequence[Step], int], Check], tuple[str, ...]] = {
    _on_plain_values: (*_TRUTH, "COMPARE_OP", "BINARY_OP"),
    _item_of_tuple: ("BINARY_SUBSCR",),
    _attribute_that_stays: ("LOAD_ATTR",),
    _adds_to_new: ("MAP_ADD", "SET_ADD"),
    _unpacks_tuple: ("UNPACK_SEQUENCE", "LIST_EXTEND"),
    _merges_own_names: ("DICT_MERGE", "DICT_UPDATE"),
    _begins_loop: ("GET_ITER",),
    _goes_on_in_loop: ("FOR_ITER",),
    _calls: ("CALL",),
    _yields_to_new: ("YIELD_VALUE",),
}


def _is_followed(code: CodeType, steps: Sequence[Step], i: int) -> bool:
    """Return whether another place follows before the function gives back control, perhaps to code without places.

    If not, a switch after the instruction would be lost.
    """
    line = steps[i].line
    if code.co_name.endswith(_INNER):  # in Python 3.11, its line begins again at each turn, and at the end
        return sys.version_info < (3, 12) or steps[i].name != "FOR_ITER"
    for step in steps[i + 1 :]:
        if step.line == line and step.name in _ALWAYS_TOUCHES:
            return True
        if step.line != line or step.is_target or step.name in _RETURNS or "JUMP" in step.name:
            break
    return not any(step.line == line and step.name in _RETURNS for step in steps)


def checks_of(code: CodeType) -> dict[int, Check]:
    """Return the checks of the instructions for which there is a rule, by offset."""
    checks: dict[int, Check] = {}
    if not _READS_ALL_NAMES.isdisjoint(code.co_names):  # it may keep the mapping that shows its names
        return checks
    steps = steps_of_code(code)
    for i, step in enumerate(steps):
        for rule, names in RULES.items():
            if step.name.startswith(names) and _is_followed(code, steps, i):
                try:
                    checks[step.offset] = rule(steps, i)
                except (UnknownError, IndexError):
                    continue
    return checks


def touches_nothing(check: Check, frame: FrameType, watch: Trust) -> bool:
    """Return whether an instruction is known to touch nothing that other threads can see.

    Args:
        check: that of the instruction.
        frame: the function that is about to run it.
        watch: knows what is stored.
    """
    try:
        return check(Now(frame, watch))
    except Exception:  # nothing is known then
        return False
