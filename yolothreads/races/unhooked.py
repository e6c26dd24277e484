"""Looks at objects and classes without running code of the program, which must not run while an access is recorded."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Iterable
from functools import lru_cache
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType, WrapperDescriptorType
from typing import Any

_pointer = ctypes.c_void_p.from_address
_generic_dict = ctypes.pythonapi.PyObject_GenericGetDict
_generic_dict.restype, _generic_dict.argtypes = ctypes.py_object, (ctypes.py_object, ctypes.c_void_p)
mro = type.__dict__["__mro__"].__get__
dict_of_type = type.__dict__["__dict__"].__get__
_dict_offset = type.__dict__["__dictoffset__"].__get__
_USUAL_GET, _USUAL_SET = (
    ctypes.cast(getattr(ctypes.pythonapi, f"PyObject_Generic{verb}Attr"), ctypes.c_void_p).value
    for verb in ("Get", "Set")
)


def is_usual(method: Any) -> bool:
    """Return whether a method of a C type gets or sets attributes as those of `object` do."""
    if type(method) is not WrapperDescriptorType:
        return False
    at, usual = (144, _USUAL_GET) if method.__name__ == "__getattribute__" else (152, _USUAL_SET)
    return bool(_pointer(id(method.__objclass__) + at).value == usual)


class StrangeError(Exception):
    """A class compares or hashes itself, or shows its name, by code of the program, which must not run here."""


_OF_CLASS = ("__eq__", "__hash__", "__name__", "__mro__", "__dict__")


@lru_cache(maxsize=1000)
def _is_usual_metaclass(kind: Any) -> bool:
    return type(kind) is type and not any(
        name in dict_of_type(base) for base in mro(kind)[: mro(kind).index(type)] for name in _OF_CLASS
    )


def type_of(value: Any) -> type:
    """Return the type of a value; where even to compare types would run code of the program, it is an error."""
    kind = type(value)
    metaclasses: list[Any] = [type(kind), kind] if issubclass(kind, type) else [type(kind)]
    if not all(one is type or (type(one) is type and _is_usual_metaclass(one)) for one in metaclasses):
        raise StrangeError
    return kind


def name_of(kind: type) -> str:
    """Return the name of a class, without a hook."""
    return str(type.__dict__["__name__"].__get__(kind))


def is_one_of(value: Any, others: Iterable[Any]) -> bool:
    """Return whether a value is one of some objects, not only equal to one."""
    return any(value is other for other in others)


def space_of(thing: Any) -> Any:
    """Return the `__dict__` of an object, without any hook; None if it has none."""
    if type(thing) is ModuleType:
        return vars(ModuleType)["__dict__"].__get__(thing)
    return _generic_dict(thing, None) if _dict_offset(type(thing)) else None


def is_hidden(callback: Any) -> bool:
    """Return whether a callback of a weak reference is a C function of the program, whose work cannot be recorded.

    Those of Python and of pybind11 belong to a weak reference or to a record of pybind11, and do their own bookkeeping.
    """
    kind = type(callback)
    if kind is BuiltinFunctionType:
        owner = type(callback.__self__)
        return not (owner is weakref.ReferenceType or name_of(owner).startswith(("PyCapsule", "pybind11_")))
    if callback is None or kind is FunctionType or (kind is MethodType and type(callback.__func__) is FunctionType):
        return False
    return not any(type(dict_of_type(base).get("__call__")) is FunctionType for base in mro(kind))
