"""What a thread touches: the meaning of single operations on objects, as a set of locations that are read or written.

A *location* is a part of one object: (id of the object, name or key), or the whole object. The attributes of an object
are the entries of its `__dict__`, wherever that is reached from. An id that is given again to a new object can make two
locations look like one, but loses no access.

Whatever cannot be seen through touches everything: a descriptor or a C function that is in no list here or in
`harmless`. So does every write to a class, which makes it needless to record that classes are read. Methods that are
written in Python touch nothing by being called: their own instructions are recorded.

No function here may run code of the program, because it would run at a time when the program does not.
"""

from __future__ import annotations

import builtins
import gc
import weakref
from _thread import _local
from collections import deque
from collections.abc import Iterable
from functools import lru_cache, partial
from types import (
    BuiltinFunctionType,
    ClassMethodDescriptorType,
    FunctionType,
    GeneratorType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodDescriptorType,
    MethodType,
    MethodWrapperType,
    ModuleType,
    SimpleNamespace,
    WrapperDescriptorType,
)  # fmt: skip
from typing import Any

from yolothreads.races import harmless
from yolothreads.races.frames import NOTHING
from yolothreads.races.pieces import ORDER, WHOLE, Touched
from yolothreads.races.unhooked import dict_of_type, is_hidden, is_one_of, is_usual, mro, name_of, space_of, type_of

PLAIN = frozenset({
    int, float, complex, str, bytes, bool, type(None), type(...), type(NotImplemented), range, type, FunctionType,
    BuiltinFunctionType, ModuleType,
})  # fmt: skip
"""Types whose values do not change, and which no code can be hung into; or which are compared by identity."""


_LENGTHS = (dict.__len__, list.__len__, set.__len__, deque.__len__)
_CACHE = type(lru_cache(len))
PYTHON = (FunctionType,)
_BINDING = (
    FunctionType, MethodDescriptorType, WrapperDescriptorType, BuiltinFunctionType, staticmethod, classmethod,
    ClassMethodDescriptorType, MethodWrapperType, property, MemberDescriptorType, GetSetDescriptorType, _CACHE,
)  # fmt: skip
_MODULE_GETTER = ModuleType.__getattribute__
_LOCAL_GETTER, _LOCAL_SETTER = _local.__getattribute__, _local.__setattr__
_SUPER_CLASS = super.__dict__["__thisclass__"].__get__
_SUPER_OWNER = super.__dict__["__self_class__"].__get__
_OF_CLASSES = (
    "__name__", "__qualname__", "__module__", "__mro__", "__base__", "__bases__", "__doc__", "__dict__", "__class__",
)  # fmt: skip
_FIXED = (tuple, str, bytes, range, frozenset)
_KEYS = (str, int, bool, float, bytes, type(None))
_NUMBERS = harmless.NUMBERS
_IMMUTABLE = harmless.IMMUTABLE
VIEWS: tuple[type, ...] = (type({}.keys()), type({}.values()), type({}.items()))
ITERATORS: tuple[type, ...] = (
    type(iter([])), type(reversed([])), type(iter(())), type(iter("")), type(iter("é")), type(iter(range(0))),
    type(iter({})), type(iter({}.values())), type(iter({}.items())), type(iter(set())), zip, map, enumerate,
    type(iter(b"")),
)  # fmt: skip
_COMPARISONS = ("__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__")
_OF_OBJECT = tuple(getattr(object, name) for name in _COMPARISONS)
_WEAK = (weakref.ReferenceType.__new__, weakref.proxy)
_NEW = (object.__new__, BaseException.__new__, SimpleNamespace.__new__)
_INIT = (object.__init__, BaseException.__init__, SimpleNamespace.__init__)


class Accesses:
    """What one thread touches: the meaning of single operations on objects.

    `touched` is replaced from outside where a new piece of the run begins.
    """

    def __init__(self) -> None:
        self.touched, self.of_new = Touched(), Touched()
        self.now: list[Any] = []  # what the current instruction has touched so far
        self.made: set[int] = set()  # the ids of objects that were made since the thread last got the turn
        self.makes_hidden_callbacks = False  # whether it has made a weak reference that calls a C function
        self.makes_iterator = False  # whether the iterator that the last instruction gave is a new one
        self.own: set[int] = set()  # the ids of operands that only the stack refers to: no other thread can know them
        self._found: dict[tuple[int, str], tuple[type, Any]] = {}

    def begin_turn(self) -> None:
        """Forget what may have become wrong while another thread ran."""
        self.made.clear()
        self._found.clear()

    def read(self, thing: int, key: Any = WHOLE) -> None:
        """Note that a part of an object is read."""
        if thing not in self.own:
            self.now.append((False, thing, key))
            touched = self.of_new if thing in self.made else self.touched
            touched.reads.setdefault(thing, set()).add(key)

    def write(self, thing: int, key: Any = WHOLE) -> None:
        """Note that a part of an object is changed."""
        if thing not in self.own:
            self.now.append((True, thing, key))
            touched = self.of_new if thing in self.made else self.touched
            touched.writes.setdefault(thing, set()).add(key)

    def everything(self, reason: str) -> None:
        """Note that something happens that cannot be seen through; it may have changed classes, too."""
        self._found.clear()
        self.now.append(reason)
        if not self.touched.everything:
            self.touched.everything = reason

    # --- classes

    def find(self, kind: type, name: str) -> Any:
        """Return an attribute of a class as it stands in the class or a base; `NOTHING` if there is none."""
        entry = self._found.get((id(kind), name))
        if entry is not None:
            return entry[1]
        found = NOTHING
        for base in mro(kind):
            space = dict_of_type(base)
            if name in space:
                found = space[name]
                break
        self._found[id(kind), name] = kind, found  # the class is kept, and so its id
        return found

    def is_python(self, kind: type, name: str) -> bool:
        """Return whether a special method is written in Python, so that its own instructions are recorded."""
        return type(self.find(kind, name)) in PYTHON

    def is_hashable(self, value: Any) -> bool:
        """Return whether a value can be hashed and compared without touching anything that is not recorded."""
        kind = type_of(value)
        if kind in PLAIN:
            return True
        if kind is tuple or kind is frozenset:
            return all(map(self.is_hashable, value))
        equal, hashed = self.find(kind, "__eq__"), self.find(kind, "__hash__")
        by_identity = equal is object.__eq__ and hashed is object.__hash__
        return by_identity or kind in _IMMUTABLE or (type(equal) in PYTHON and type(hashed) in PYTHON)

    # --- attributes

    def get_attribute(self, thing: Any, name: str) -> None:
        """Note that an attribute is looked up."""
        kind = type_of(thing)
        getter = self.find(kind, "__getattribute__")
        if getter is object.__getattribute__ or getter is _MODULE_GETTER or is_usual(getter):
            self._get_generic(thing, kind, name)
        elif getter is type.__getattribute__:
            self._get_of_class(thing, kind, name)
        elif getter is super.__getattribute__:
            self._get_super(thing, name)
        elif type(getter) not in PYTHON and not (getter is _LOCAL_GETTER and name != "__dict__"):
            self.everything(f"reads {name_of(kind)}.{name}")

    def _get_generic(self, thing: Any, kind: type, name: str) -> None:
        found = self.find(kind, name)
        how = type(found)
        if how in (FunctionType, MethodDescriptorType, WrapperDescriptorType, staticmethod, classmethod):
            pass  # it may be hidden by an attribute of the object
        elif how is property:
            self._call_python(found.fget, f"property {name}")
            return
        elif how is MemberDescriptorType:
            if self._is_slot(found, name) or issubclass(kind, BaseException):
                self.read(id(thing), name)
            elif not harmless.is_attribute(found, name):
                self.everything(f"reads {name_of(kind)}.{name}")
            return
        elif how is GetSetDescriptorType:
            if name not in ("__dict__", "__class__") and not harmless.is_attribute(found, name):
                self.everything(f"reads {name_of(kind)}.{name}")
            return
        elif found is not NOTHING:
            descriptor = self.find(how, "__get__")
            is_data = self.find(how, "__set__") is not NOTHING or self.find(how, "__delete__") is not NOTHING
            if (
                descriptor is not NOTHING
                and type(descriptor) not in PYTHON
                and how is not _CACHE
                and name_of(how) != "instancemethod"
            ):
                self.everything(f"reads {name_of(kind)}.{name}")
                return
            if is_data and descriptor is not NOTHING:
                return
        space = space_of(thing)
        if space is not None:
            self.read(id(space), name)
            if type(space) is not dict:
                self.everything(f"reads {name_of(kind)}.{name}")
                return
        if found is NOTHING and (space is None or name not in space):
            fallback = self.find(kind, "__getattr__")
            if fallback is not NOTHING and type(fallback) not in PYTHON:
                self.everything(f"reads {name_of(kind)}.{name}")
            elif kind is ModuleType:
                self.read(id(space), "__getattr__")

    def _is_slot(self, descriptor: Any, name: str) -> bool:
        """Return whether a member is of `__slots__`; C code may change other members by itself."""
        slots = dict_of_type(descriptor.__objclass__).get("__slots__")
        if type(slots) not in (tuple, list, str):
            return False
        return any(type(s) is str and name.endswith(s) for s in ([slots] if type(slots) is str else slots))

    def _get_of_class(self, thing: type, kind: type, name: str) -> None:
        meta = self.find(kind, name)
        if type(meta) in (GetSetDescriptorType, MemberDescriptorType):
            if name not in _OF_CLASSES:
                self.everything(f"reads the {name} of a class")
            return
        if type(meta) is property:
            self._call_python(meta.fget, f"property {name}")
            return
        for found in (meta, self.find(thing, name)):
            how = type(found)
            if found is NOTHING or how in _BINDING:
                continue
            descriptor = self.find(how, "__get__")
            if descriptor is not NOTHING and type(descriptor) not in PYTHON:
                self.everything(f"reads {name_of(thing)}.{name}")

    def _get_super(self, thing: Any, name: str) -> None:
        this, owner = _SUPER_CLASS(thing), _SUPER_OWNER(thing)
        if this is None or owner is None:
            self.everything(f"reads {name} of super()")
            return
        order = mro(owner)
        for base in order[order.index(this) + 1 :] if this in order else ():
            found = dict_of_type(base).get(name, NOTHING)
            if found is NOTHING:
                continue
            if type(found) is property:
                self._call_python(found.fget, f"property {name}")
            elif type(found) not in _BINDING and self.find(type(found), "__get__") is not NOTHING:
                self.everything(f"reads {name} of super()")
            return
        self.everything(f"reads {name} of super()")

    def _call_python(self, function: Any, what: str) -> None:
        if type(function) not in PYTHON:
            self.everything(f"{what} in C")

    def set_attribute(self, thing: Any, name: str) -> None:
        """Note that an attribute is set or deleted."""
        kind = type_of(thing)
        setter = self.find(kind, "__setattr__")
        if setter is object.__setattr__ or is_usual(setter):
            self.set_generic(thing, name)
        elif type(setter) not in PYTHON and not (setter is _LOCAL_SETTER and name != "__dict__"):
            self.everything(f"sets {name_of(kind)}.{name}")

    def set_generic(self, thing: Any, name: str) -> None:
        """Note that an attribute is set as `object.__setattr__` does it."""
        kind = type_of(thing)
        found = self.find(kind, name)
        if found is not NOTHING:
            how = type(found)
            if how is MemberDescriptorType and self._is_slot(found, name):
                self.write(id(thing), name)
                return
            if how is property:
                self._call_python(found.fset or found.fget, f"property {name}")
                return
            if self.find(how, "__set__") is not NOTHING or self.find(how, "__delete__") is not NOTHING:
                if not self.is_python(how, "__set__"):
                    self.everything(f"sets {name_of(kind)}.{name}")
                return
        space = space_of(thing)
        if space is None or type(space) is not dict or name in ("__class__", "__dict__"):
            self.everything(f"sets {name_of(kind)}.{name}")
        else:
            self.write_key(space, name)

    # --- containers

    def read_key(self, space: Any, key: Any) -> None:
        """Note that an entry of a dictionary is looked up."""
        if type(key) in _KEYS:
            self.read(id(space), key)
        elif self.is_hashable(key):
            self.read(id(space))
        else:
            self.everything(f"looks up a {type(key).__name__} in a dict")

    def write_key(self, space: Any, key: Any, may_insert: bool = True) -> None:
        """Note that an entry of a dictionary is stored or deleted."""
        if not self.is_hashable(key):
            self.everything(f"stores a {type(key).__name__} in a dict")
        elif type(key) not in _KEYS:
            self.write(id(space))
        else:
            self.write(id(space), key)
            if not may_insert or key not in space:
                self.write(id(space), ORDER)

    def get_item(self, thing: Any, key: Any) -> None:
        """Note that `thing[key]` is looked up."""
        kind = type_of(thing)
        if kind is dict:
            self.read_key(thing, key)
        elif kind is list:
            if type(key) is int or type(key) is slice or type(key) is bool:
                self.read(id(thing))
            elif not self.is_python(type(key), "__index__"):
                self.everything("indexes a list")
            else:
                self.read(id(thing))
        elif kind in (tuple, str, bytes, range):
            if type(key) not in (int, slice, bool) and not self.is_python(type(key), "__index__"):
                self.everything("indexes a sequence")
        elif issubclass(kind, type) and self.find(kind, "__getitem__") is NOTHING:
            if type(self.find(thing, "__class_getitem__")) not in (classmethod, ClassMethodDescriptorType):
                self.everything("makes an alias of a class")
        elif not self.is_python(kind, "__getitem__") and not harmless.get_item(self, thing, key):
            self.everything(f"reads an item of a {name_of(kind)}")

    def set_item(self, thing: Any, key: Any, deletes: bool = False) -> None:
        """Note that `thing[key]` is stored or deleted."""
        kind = type_of(thing)
        if kind is dict:
            self.write_key(thing, key, may_insert=not deletes)
        elif kind is list and type(key) is int:
            self.write(id(thing))
        elif kind is list and type(key) is slice:
            self.everything("sets a slice of a list")
        elif not self.is_python(kind, "__delitem__" if deletes else "__setitem__") and (
            deletes or not harmless.set_item(self, thing, key)
        ):
            self.everything(f"sets an item of a {name_of(kind)}")

    def contains(self, thing: Any, value: Any) -> None:
        """Note that a value is looked for in a container."""
        kind = type_of(thing)
        if kind is dict:
            self.read_key(thing, value)
        elif kind in (set, frozenset):
            if self.is_hashable(value):
                self.read(id(thing))
            else:
                self.everything("looks for a value in a set")
        elif kind in (list, tuple):
            if self.are_comparable((value, *thing)):
                self.read(id(thing))
            else:
                self.everything("looks for a value in a sequence")
        elif (kind is str and type(value) is str) or (kind is range and type(value) is int):
            pass
        elif kind in VIEWS and self.is_hashable(value) and kind is not type({}.values()):
            self.read(id(gc.get_referents(thing)[0]))
        elif not self.is_python(kind, "__contains__"):
            self.everything(f"looks into a {name_of(kind)}")

    def are_comparable(self, values: Iterable[Any]) -> bool:
        """Return whether values can be compared without touching anything that is not recorded."""
        for value in values:
            kind = type_of(value)
            if kind in PLAIN or kind in _IMMUTABLE:
                continue
            if kind is tuple or kind is list or kind is frozenset or kind is set:
                if kind is list or kind is set:
                    self.read(id(value))
                if not self.are_comparable(tuple(value)):
                    return False
            elif kind is dict:
                self.read(id(value))
                if not self.are_comparable((*value, *value.values())):
                    return False
            elif not all(
                is_one_of(self.find(kind, name), _OF_OBJECT) or self.is_python(kind, name) for name in _COMPARISONS
            ):
                return False
        return True

    def truth(self, thing: Any) -> None:
        """Note that the truth of a value is tested."""
        kind = type_of(thing)
        if kind in PLAIN or kind is tuple or kind is frozenset or kind in _IMMUTABLE:
            return
        method = self.find(kind, "__bool__")
        if method is NOTHING:
            method = self.find(kind, "__len__")
        if is_one_of(method, _LENGTHS):
            self.length(thing)
        elif method is not NOTHING and type(method) not in PYTHON and not harmless.truth(self, thing):
            self.everything(f"tests the truth of a {name_of(kind)}")

    def length(self, thing: Any) -> None:
        """Note that the length of a container is looked at."""
        kind = type_of(thing)
        method = self.find(kind, "__len__")
        if is_one_of(method, _LENGTHS):
            self.read(id(thing), ORDER if method is dict.__len__ else WHOLE)
        elif kind in VIEWS:
            self.read(id(gc.get_referents(thing)[0]))
        elif not (kind in _FIXED or type(method) in PYTHON or harmless.has_length(thing)):
            self.everything(f"takes the length of a {name_of(kind)}")

    # --- iteration

    def iterate(self, thing: Any) -> None:
        """Note that an iterator is made."""
        kind = type_of(thing)
        if kind in (list, tuple, str, range, bytes, GeneratorType) or kind in ITERATORS:
            return
        if self.find(kind, "__iter__") is tuple.__iter__:
            return
        if kind in (dict, set, frozenset) or kind in VIEWS:
            self.consume(thing)  # it remembers the size
        elif not self.is_python(kind, "__iter__"):
            self.everything(f"iterates over a {name_of(kind)}")

    def advance(self, thing: Any) -> None:
        """Note that an iterator gives its next value."""
        kind = type_of(thing)
        if kind is GeneratorType:
            self.write(id(thing))
        elif kind in ITERATORS:
            self.write(id(thing))
            parts = gc.get_referents(thing)
            if kind is map:  # its iterators, and its function
                self.call(parts[1], None)
            for part in parts[0] if kind in (map, zip) else parts:
                self._advance_inside(part)
        elif not self.is_python(kind, "__next__"):
            self.everything(f"goes on in a {name_of(kind)}")

    def _advance_inside(self, part: Any) -> None:
        """Note what an iterator does with what it iterates over."""
        kind = type_of(part)
        if kind in ITERATORS or kind is GeneratorType:
            self.advance(part)
        elif kind in (list, dict, set):
            self.read(id(part))
        elif kind not in PLAIN and kind not in (tuple, frozenset, *VIEWS) and not self.is_python(kind, "__next__"):
            self.everything(f"goes on in an iterator over a {name_of(kind)}")

    def consume(self, thing: Any) -> None:
        """Note that something is iterated over to its end."""
        kind = type_of(thing)
        if kind in (list, dict, set):
            self.read(id(thing))
        elif kind in VIEWS:
            self.read(id(gc.get_referents(thing)[0]))
        elif kind is GeneratorType or kind in ITERATORS:
            self.advance(thing)
        elif kind not in _FIXED and self.find(kind, "__iter__") is not tuple.__iter__:
            self.everything(f"iterates over a {name_of(kind)}")  # which iterator it makes is not known yet

    def consume_hashed(self, thing: Any) -> None:
        """Note that something is iterated over, and its values are hashed."""
        self.consume(thing)
        if type(thing) is type({}.keys()):
            thing = gc.get_referents(thing)[0]
        if type(thing) in (list, tuple, set, frozenset, dict):
            if not all(map(self.is_hashable, thing)):
                self.everything("hashes values")
        elif type(thing) not in (str, bytes, range, type(iter("")), type(iter(range(0)))):
            self.everything(f"hashes values of a {type(thing)}")

    # --- operators

    def binary(self, a: Any, b: Any, names: tuple[str, ...], in_place: bool) -> None:
        """Note that an operator is applied; `names` are those of its methods, in both orders."""
        first, second = type_of(a), type_of(b)
        if first in _NUMBERS and second in _NUMBERS:
            return
        if first in (str, bytes, tuple, range) and second in (str, bytes, tuple, int, bool):
            if first in (str, bytes) and names[0] == "__mod__" and not self.is_printable(b):
                self.everything("formats a value")
            return
        if first in (list, set, dict, frozenset) and second in (list, set, dict, frozenset, tuple, int):
            for value in (a, b):
                if type(value) not in PLAIN:
                    self.read(id(value))
                    if type(value) in (set, dict) and not all(map(self.is_hashable, value)):
                        self.everything("hashes values")
            if in_place:
                self.write(id(a))
            return
        if harmless.binary(self, a, b, in_place):
            return
        for kind in (first, second):
            for name in names:
                method = self.find(kind, name)
                if method is not NOTHING and type(method) not in PYTHON and kind not in PLAIN:
                    self.everything(f"computes with a {name_of(first)} and a {name_of(second)}")
                    return

    def compare(self, a: Any, b: Any) -> None:
        """Note that two values are compared."""
        if not harmless.binary(self, a, b, False) and not self.are_comparable((a, b)):
            self.everything(f"compares a {type(a).__name__} with a {type(b).__name__}")

    def is_text(self, value: Any) -> bool:
        """Return whether a value is a number, a string or nothing."""
        return type_of(value) in _NUMBERS or type(value) in (str, bytes, type(None))

    def is_printable(self, value: Any) -> bool:
        """Return whether a value can be turned into text without touching anything that is not recorded."""
        kind = type_of(value)
        if kind is tuple:
            return all(map(self.is_printable, value))
        if kind in _NUMBERS or kind in (str, bytes, type(None)) or kind in _IMMUTABLE:
            return True
        formats, text, shown = (self.find(kind, name) for name in ("__format__", "__str__", "__repr__"))
        is_python = type(text) in PYTHON or (text is object.__str__ and type(shown) in PYTHON)
        return is_python and (formats is object.__format__ or type(formats) in PYTHON)

    # --- calls

    def call(self, function: Any, arguments: tuple[Any, ...] | None, keywords: Any = ()) -> None:
        """Note that something is called; of arguments that are None nothing is known, but that it is not harmful."""
        kind = type_of(function)
        if kind is FunctionType:
            return
        if is_one_of(function, _WEAK) or (issubclass(kind, type) and issubclass(function, weakref.ReferenceType)):
            callbacks = (None, None, len) if arguments is None else (*arguments, *dict(keywords).values())
            self.makes_hidden_callbacks |= any(map(is_hidden, callbacks[1 + (function is _WEAK[0]) :]))
        if kind is MethodType:
            own = None if arguments is None else (function.__self__, *arguments)
            self.call(function.__func__, own, keywords)
        elif kind is partial and type(function.args) is tuple:
            own = None if arguments is None else (*function.args, *arguments)
            self.call(function.func, own, (*function.keywords, *(keywords or ())))
        elif arguments is None:
            self.everything(f"calls a {name_of(kind)}")
        elif issubclass(kind, type):
            self._make(function, arguments, keywords)
        elif kind is _CACHE:
            self.write(id(function))
            if not all(map(self.is_hashable, arguments)) or keywords:
                self.everything("looks into a cache")
            self.call(function.__wrapped__, arguments, keywords)
        elif name_of(kind) == "_ArrayFunctionDispatcher":
            pass  # it looks at the types, and calls a Python function
        elif not harmless.call(self, function, arguments, keywords) and not self.is_python(kind, "__call__"):
            self.everything(f"calls a {name_of(kind)}")

    def _make(self, kind: type, arguments: tuple[Any, ...], keywords: Any) -> None:
        maker = self.find(type(kind), "__call__")
        if type(maker) in PYTHON or harmless.make(self, kind, arguments, keywords):
            return
        if maker is not type.__call__:
            self.everything(f"makes a {name_of(kind)}")
        else:
            new, init = self.find(kind, "__new__"), self.find(kind, "__init__")
            makes = (
                type(new) in PYTHON
                or type(new) is staticmethod
                or is_one_of(new, _NEW)
                or _is_of_error(new, "__self__")
            )
            if not makes or not (type(init) in PYTHON or is_one_of(init, _INIT) or _is_of_error(init, "__objclass__")):
                self.everything(f"makes a {name_of(kind)}")


def _is_of_error(method: Any, owner: str) -> bool:
    """Return whether a method belongs to an exception that is written in C."""
    if type(method) not in (BuiltinFunctionType, WrapperDescriptorType):
        return False
    kind = getattr(method, owner, None)
    return type(kind) is type and issubclass(kind, BaseException) and vars(builtins).get(kind.__name__) is kind
