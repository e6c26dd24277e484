"""Programs whose threads share something in a way that is hard to see: no outcome of theirs may be lost.

Each program is a tuple of bodies, then `setup`, then `observe`.
"""

import collections
import contextvars
import functools
import itertools
import operator
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import torch

State = Any
Body = Callable[[Any], Any]
HIDDEN: dict[str, tuple[tuple[Body, ...], Callable[[], Any], Callable[[Any], Any] | None]] = {}


def hidden(name: str, setup: Callable[[], Any], *bodies: Body, observe: Callable[[Any], Any] | None = None) -> None:
    HIDDEN[name] = bodies, setup, observe


def shared(**parts: Any) -> Callable[[], State]:
    """Return a function that makes a state; lambdas without arguments make its parts."""
    return lambda: SimpleNamespace(**{name: part() if callable(part) else part for name, part in parts.items()})


def number(s: State) -> Any:
    return s.n


def bump(s: State) -> None:
    n = s.n
    s.n = n + 1


def bump_by_ten(s: State) -> None:
    n = s.n
    s.n = n + 10


def bump_key(s: State) -> None:
    n = s.d["k"]
    s.d["k"] = n + 1


def key(s: State) -> Any:
    return s.d["k"]


# --- attributes


class WithProperty:
    def __init__(self) -> None:
        self.kept = 0

    @property
    def n(self) -> int:
        return self.kept

    @n.setter
    def n(self, value: int) -> None:
        self.kept = value


class WithGetattr:
    def __init__(self) -> None:
        self.d = {"k": 0}

    def __getattr__(self, name: str) -> Any:
        return self.__dict__["d"]["k"]

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "n":
            self.d["k"] = value
        else:
            super().__setattr__(name, value)


class Elsewhere:
    values: ClassVar[dict[str, int]] = {}

    def __get__(self, owner: Any, kind: Any) -> int:
        return self.values["n"]

    def __set__(self, owner: Any, value: int) -> None:
        self.values["n"] = value


class WithDescriptor:
    n = Elsewhere()

    def __init__(self) -> None:
        self.n = 0


class WithSlots:
    __slots__ = ("n",)

    def __init__(self) -> None:
        self.n = 0


class Meta(type):
    kept = 0

    @property
    def n(cls) -> int:
        return Meta.kept

    @n.setter
    def n(cls, value: int) -> None:
        Meta.kept = value


class WithMeta(metaclass=Meta):
    pass


def reset_meta() -> Any:
    Meta.kept = 0
    return WithMeta


class Cached:
    def __init__(self) -> None:
        self.n = 0

    @functools.cached_property
    def value(self) -> int:
        self.n += 1
        return self.n


class Base:
    n = 0

    def which(self) -> int:
        return 1


class Other(Base):
    def which(self) -> int:
        return 2


def reset_class() -> Base:
    Base.n = 0
    return Base()


def look_twice(s: State) -> tuple[Any, Any]:
    first = s.n
    second = s.n
    return first, second


def call_twice(s: State) -> tuple[int, int]:
    first = s.which()
    second = s.which()
    return first, second


def set_class_attribute(s: State) -> None:
    Base.n = 5


def set_class_attribute_by_name(s: State) -> None:
    setattr(type(s), "n", 5)  # noqa: B010


def exchange_class(s: State) -> None:
    s.__class__ = Other


def exchange_dict(s: State) -> None:
    s.__dict__ = {"n": 9}


def bump_by_alias(s: State) -> None:
    space = vars(s)
    n = space["n"]
    space["n"] = n + 1


def with_alias() -> State:
    s = SimpleNamespace(n=0)
    s.d = s.__dict__
    return s


def bump_by_kept_alias(s: State) -> None:
    n = s.d["n"]
    s.d.update(n=n + 1)


hidden("property", WithProperty, bump, bump, observe=number)
hidden("__getattr__ and __setattr__", WithGetattr, bump, bump, observe=number)
hidden("descriptor", WithDescriptor, bump, bump, observe=number)
hidden("slots", WithSlots, bump, bump, observe=number)
hidden("property of a metaclass", reset_meta, bump, bump, observe=number)
hidden("cached_property", Cached, lambda s: (s.value, s.value), lambda s: (s.value, s.value), observe=number)
hidden("attribute of a class", reset_class, look_twice, set_class_attribute)
hidden("attribute of a class by name", reset_class, look_twice, set_class_attribute_by_name)
hidden("attribute of a class hidden by the instance", reset_class, look_twice, bump)
hidden("class exchanged", Base, call_twice, exchange_class)
hidden("__dict__ exchanged", reset_class, look_twice, exchange_dict)
hidden("__dict__ by vars()", shared(n=0), bump_by_alias, bump, observe=number)
hidden("__dict__ kept", with_alias, bump_by_kept_alias, bump, observe=number)
hidden(
    "attrgetter", shared(n=0), lambda s: setattr(s, "n", operator.attrgetter("n")(s) + 1), bump_by_ten, observe=number
)

# --- variables


class Cells:
    def __init__(self) -> None:
        n = 0

        def get() -> int:
            return n

        def put(value: int) -> None:
            nonlocal n
            n = value

        self.get, self.put = get, put


def bump_cell(s: Cells) -> None:
    n = s.get()
    s.put(n + 1)


TOTAL = 0


def reset_total() -> None:
    global TOTAL
    TOTAL = 0


def bump_total(_: None) -> None:
    global TOTAL
    n = TOTAL
    TOTAL = n + 1


def bump_total_by_name(_: None) -> None:
    space = globals()
    n = space["TOTAL"]
    space["TOTAL"] = n + 1


def add_module(_: None) -> None:
    sys.modules["not_there"] = SimpleNamespace(n=1)  # type: ignore[assignment]
    _ = 1
    del sys.modules["not_there"]


def import_module(_: None) -> int:
    try:
        import not_there  # type: ignore[import-not-found]
    except ImportError:
        return 0
    return int(not_there.n)


CONTEXT: contextvars.ContextVar[int] = contextvars.ContextVar("CONTEXT", default=0)


def bump_by_context(s: State) -> None:
    CONTEXT.set(CONTEXT.get() + 1)
    n = s.n
    s.n = n + CONTEXT.get()


def bump_by_local(s: State) -> None:
    s.own.n = s.n
    s.n = s.own.n + 1


def first_code() -> int:
    return 1


def second_code() -> int:
    return 2


FIRST = first_code.__code__


def reset_code() -> None:
    first_code.__code__ = FIRST


def exchange_code(_: None) -> None:
    first_code.__code__ = second_code.__code__


def call_code_twice(_: None) -> tuple[int, int]:
    first = first_code()
    second = first_code()
    return first, second


hidden("closure", Cells, bump_cell, bump_cell, observe=lambda s: s.get())
hidden("global variable", reset_total, bump_total, bump_total, observe=lambda _: TOTAL)
hidden("global variable by name", reset_total, bump_total, bump_total_by_name, observe=lambda _: TOTAL)
hidden("sys.modules", lambda: None, add_module, import_module)
hidden("context variable", shared(n=0), bump_by_context, bump_by_context, observe=number)
hidden("thread-local", shared(n=0, own=threading.local), bump_by_local, bump_by_local, observe=number)
hidden("code of a function exchanged", reset_code, exchange_code, call_code_twice)

# --- containers and iterators


def generate() -> Iterator[int]:
    yield from range(4)


def two_next(s: State) -> tuple[Any, Any]:
    first = next(s.it, None)
    second = next(s.it, None)
    return first, second


def drain(s: State) -> list[Any]:
    def values() -> Iterator[Any]:
        yield from s.it

    return list(values())


def read_all(s: State) -> list[Any]:
    found = []
    for value in s.q:
        found.append(value)
    return found


def grow(s: State) -> None:
    s.q.append(9)
    s.q.insert(0, 8)


def set_slice(s: State) -> None:
    n = len(s.q)
    s.q[n:] = [n]


def unpack(s: State) -> tuple[Any, Any]:
    first, second = s.q
    return first, second


def set_both(s: State) -> None:
    s.q[0] = 5
    s.q[1] = 6


def star(s: State) -> Any:
    return max(*s.q), dict(**s.d)


def set_one_of_each(s: State) -> None:
    s.q[0] = 9
    s.d["k"] = 9


def insert_a_and_c(s: State) -> None:
    s.d["a"] = 1
    s.d["c"] = 1


def insert_b(s: State) -> None:
    s.d["b"] = 1


def append_bound(s: State) -> None:
    append, n = s.q.append, len(s.q)
    append(n)


def set_by_partial(s: State) -> None:
    store = functools.partial(operator.setitem, s.d, "k")
    n = s.d["k"]
    store(n + 1)


for _name, _make in {
    "list": lambda: iter([1, 2, 3, 4]),
    "map": lambda: map(str, [1, 2, 3, 4]),
    "zip": lambda: zip([1, 2, 3, 4], [1, 2, 3, 4], strict=True),
    "enumerate": lambda: enumerate([1, 2, 3, 4]),
    "count": itertools.count,
    "generator": generate,
}.items():
    hidden(f"iterator shared: {_name}", shared(it=_make), two_next, two_next)
hidden("iterator drained", shared(it=lambda: iter([1, 2, 3])), drain, drain)
hidden("list iterated", shared(q=lambda: [1, 2]), read_all, grow)
hidden("set iterated", shared(q=lambda: {1, 2}), read_all, lambda s: s.q.add(5))
hidden("dict iterated", shared(q=lambda: {1: 1, 2: 2}), read_all, lambda s: s.q.update({5: 5}))
hidden("slice", shared(q=lambda: [0]), set_slice, set_slice, observe=lambda s: s.q)
hidden("unpacking", shared(q=lambda: [1, 2]), unpack, set_both)
hidden("star arguments", shared(q=lambda: [1, 2], d=lambda: {"k": 1}), star, set_one_of_each)
hidden("order of a dict", shared(d=dict), insert_a_and_c, insert_b, observe=lambda s: list(s.d))
hidden("bound method in C", shared(q=list), append_bound, append_bound, observe=lambda s: s.q)
hidden("partial of C", shared(d=lambda: {"k": 0}), set_by_partial, set_by_partial, observe=key)
for _kind in (functools.partial(collections.defaultdict, int), collections.Counter, collections.OrderedDict):
    hidden(f"dict: {_kind}", shared(d=lambda kind=_kind: kind({"k": 0})), bump_key, bump_key, observe=key)
hidden(
    "deque", shared(q=lambda: collections.deque([1])), append_bound, lambda s: s.q.popleft(),
    observe=lambda s: list(s.q),
)  # fmt: skip

# --- Python code that C code calls, and containers that it looks into


class Noted:
    """Counts how often it is compared, hashed or shown."""

    def __init__(self, s: State):
        self.s = s

    def _note(self) -> int:
        n = self.s.n
        self.s.n = n + 1
        return int(n)

    def __eq__(self, other: object) -> bool:
        return self._note() < 0

    def __lt__(self, other: object) -> bool:
        return self._note() < 0

    def __hash__(self) -> int:
        return self._note() * 0

    def __str__(self) -> str:
        return str(self._note())


def with_noted() -> State:
    s = SimpleNamespace(n=0, d={})
    s.q = [Noted(s), Noted(s)]
    return s


def pass_on(x: object) -> object:
    return x


def take_all(s: State) -> None:
    s.taken.extend(map(pass_on, s.left))


def take_one(s: State) -> bool:
    return (next(s.left, None), len(s.taken)) == (2, 0)


def sort_by_key(s: State) -> None:
    def note(x: int) -> int:
        s.n += 1
        return x

    s.q.sort(key=note)


def with_cache() -> State:
    s = SimpleNamespace(n=0)

    @functools.lru_cache
    def count(_: int) -> int:
        s.n += 1
        return int(s.n)

    s.count = count
    return s


hidden("goes on in C after a call", shared(left=lambda: iter((1, 2)), taken=collections.deque), take_all, take_one)
hidden("== in C", with_noted, lambda s: 5 in s.q, bump_by_ten, observe=number)
hidden("< in C", with_noted, lambda s: len(sorted(s.q)), bump_by_ten, observe=number)
hidden("hash in C", with_noted, lambda s: s.d.update({s.q[0]: 1}), bump_by_ten, observe=number)
hidden("text in C", with_noted, lambda s: f"{s.q[0]}", bump_by_ten, observe=number)
hidden("key of a sort", shared(n=0, q=lambda: [3, 1, 2]), sort_by_key, bump_by_ten, observe=number)
hidden("lru_cache", with_cache, lambda s: (s.count(1), s.count(1)), lambda s: s.count(1), observe=number)
hidden("lru_cache looked at", with_cache, lambda s: (s.count(1), s.count.cache_info().misses), lambda s: s.count(1))
_nested = shared(q=lambda: [[], []])
hidden("truth in C", _nested, lambda s: (any(s.q), all(s.q)), lambda s: s.q[1].append(1))
hidden("truth of what a generator yields", _nested, lambda s: (any(x for x in s.q), 1), lambda s: s.q[1].append(1))
hidden("lists compared", _nested, lambda s: (s.q[0] == s.q[1], max(s.q)), lambda s: s.q[1].append(2))
hidden("list as text", _nested, lambda s: (str(s.q), f"{s.q}"), lambda s: s.q[1].append(2))

# --- objects that vanish


class Last:
    """Counts when it vanishes."""

    def __init__(self, s: State):
        self.s = s

    def __del__(self) -> None:
        self.s.n += 1


def let_vanish(s: State) -> None:
    thing: Any = Last(s)
    _ = 1
    thing = None
    _ = thing


def let_vanish_in_list(s: State) -> None:
    thing = [Last(s)]
    _ = 1
    del thing
    _ = 2


class Thing:
    """Can be looked at weakly."""


def looked_at() -> State:
    s = SimpleNamespace(box=[Thing()], log=[], weak=weakref.WeakValueDictionary())
    s.reference, s.weak["k"] = weakref.ref(s.box[0]), s.box[0]
    return s


def looked_at_by_c() -> State:
    s = SimpleNamespace(box=[Thing()], log=[])
    s.reference = weakref.ref(s.box[0], s.log.append)
    return s


def watch_by_c(s: State) -> None:
    s.reference = weakref.ref(s.box[0], s.log.append)
    let_die(s)


def let_die(s: State) -> None:
    thing = s.box[0]
    s.box[0] = 1
    _ = 1
    thing = None
    _ = thing


hidden("__del__", shared(n=0), let_vanish, bump_by_ten, observe=number)
hidden("__del__ of what a list holds", shared(n=0), let_vanish_in_list, bump_by_ten, observe=number)
hidden("weak reference", looked_at, let_die, lambda s: (s.reference() is None, s.reference() is None))
hidden("weak dictionary", looked_at, let_die, lambda s: (len(s.weak), "k" in s.weak))
hidden("weak reference with a callback in C", looked_at_by_c, let_die, lambda s: (len(s.log), len(s.log)))
hidden("weak reference made in a body", looked_at, watch_by_c, lambda s: (len(s.log), len(s.log)))

# --- locks and time


def bump_locked(s: State) -> None:
    with s.lock:
        n = s.n
        s.n = n + 1


def bump_and_double(s: State) -> None:
    s.lock.acquire()
    s.n += 1
    s.lock.release()
    s.lock.acquire()
    s.n *= 2
    s.lock.release()


def bump_if_free(s: State) -> None:
    if s.lock.acquire(False):
        try:
            s.n += 1
        finally:
            s.lock.release()
    else:
        s.n += 10


def bump_anyhow(s: State) -> None:
    answer = s.lock.acquire(timeout=0.1)
    n = s.n
    s.n = n + 1
    if answer:
        s.lock.release()


def first_then_second(s: State) -> None:
    with s.lock, s.other:
        s.n += 1


def second_then_first(s: State) -> None:
    with s.other, s.lock:
        s.n += 1


def put(s: State) -> None:
    with s.changed:
        s.q.append(1)
        s.changed.notify()


def take(s: State) -> Any:
    with s.changed:
        while not s.q:
            s.changed.wait()
        return s.q.pop()


def look_at_clock(_: None) -> int:
    first = time.monotonic()
    second = time.monotonic()
    return round((second - first) * 2**20)


def raise_if_busy(s: State) -> None:
    try:
        if s.n:
            raise ValueError
        s.n = 1
        s.m += 1
        s.n = 0
    except ValueError:
        s.m += 10


_locks = shared(n=1, m=0, lock=threading.Lock, other=threading.Lock)
hidden("lock, and none", _locks, bump_locked, bump, observe=number)
hidden("lock taken twice", _locks, bump_and_double, bump_and_double, observe=number)
hidden("lock tried", _locks, bump_if_free, bump_if_free, observe=number)
hidden("lock looked at", _locks, bump_if_free, lambda s: (s.lock.locked(), s.lock.locked()))
hidden("lock with a time-out", _locks, bump_anyhow, bump_anyhow, observe=number)
hidden("locks crossed", _locks, first_then_second, second_then_first, observe=number)
hidden("RLock", shared(n=1, lock=threading.RLock), bump_locked, bump, observe=number)
hidden("condition", shared(q=list, changed=threading.Condition), put, take)
hidden("clock", lambda: None, look_at_clock, look_at_clock)
hidden("exception", shared(n=0, m=0), raise_if_busy, raise_if_busy, observe=lambda s: s.m)

# --- memory of arrays and tensors


def views() -> State:
    t = torch.zeros(4)
    return SimpleNamespace(t=t, part=t[2:], array=t.numpy())


def bump_part(s: State) -> None:
    n = float(s.part[0])
    s.part[0] = n + 1


def bump_array(s: State) -> None:
    n = float(s.array[2])
    s.array[2] = n + 1


def add_in_place(s: State) -> None:
    before = s.t.clone()
    s.part.add_(1)
    s.t.copy_(before + s.t)


def over_bytes() -> State:
    memory = bytearray(4)
    return SimpleNamespace(b=memory, array=np.frombuffer(memory, np.uint8), view=memoryview(memory))


def bump_bytes(s: State) -> None:
    n = s.view[2]
    s.view[2] = n + 1


def module() -> State:
    m = torch.nn.Linear(2, 1)
    with torch.no_grad():
        m.weight.fill_(1.0)
        m.bias.zero_()
    return SimpleNamespace(m=m, x=torch.ones(1, 2))


def forward_twice(s: State) -> tuple[float, float]:
    with torch.no_grad():
        first = float(s.m(s.x))
        second = float(s.m(s.x))
    return first, second


def train(s: State) -> None:
    with torch.no_grad():
        s.m.weight.mul_(2)
        s.m.bias.add_(1)


def add_hook(s: State) -> None:
    s.m.register_forward_hook(lambda m, i, o: o + 1)


def exchange_data(s: State) -> None:
    s.m.weight.data = torch.zeros(1, 2)


def switch_mode(s: State) -> bool:
    s.m.train(not s.m.training)
    return bool(s.m.training)


def draw_twice(_: None) -> float:
    torch.rand(1)
    return float(torch.rand(1))


def seed() -> None:
    torch.manual_seed(0)


def elements(s: State) -> Any:
    return s.t.tolist()


hidden("views of a tensor", views, bump_part, bump_part, observe=elements)
hidden("tensor in place", views, add_in_place, bump_part, observe=elements)
hidden("array and tensor share memory", views, bump_array, bump_part, observe=elements)
hidden("tensor resized", views, lambda s: (len(s.t), s.t.shape[0]), lambda s: s.t.resize_(2))
hidden("array over bytes", over_bytes, bump_array, bump_bytes, observe=lambda s: bytes(s.b))
hidden("module trained", module, forward_twice, train)
hidden("module hooked", module, forward_twice, add_hook)
hidden("module gets data", module, forward_twice, exchange_data)
hidden("mode of a module", module, switch_mode, switch_mode)
hidden("random numbers", seed, draw_twice, draw_twice)
