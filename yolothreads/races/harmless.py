"""The C functions that are known to touch only what is recorded for them; any other one touches everything.

Each entry of `REASONS` has its reason. The functions here get `seen`, the `accesses.Accesses` to which they add what is
touched, and return whether the call is harmless.
"""

from __future__ import annotations

import _thread
import math
import operator
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from types import BuiltinFunctionType, FunctionType, GeneratorType, MethodType, MethodWrapperType, ModuleType
from typing import Any

MEMORY = -1
"""Instead of the id of an object: the numbers in all arrays and tensors, because two of them may share memory."""
CLOCK = -2
"""The clocks of the explorer: to look at one takes time."""

NUMBERS: set[type] = {int, float, complex, bool}
IMMUTABLE: set[type] = {slice}
Seen = Any
Handler = Callable[[Seen, tuple[Any, ...], Any], Any]


# --- handlers


def _nothing(seen: Seen, arguments: tuple[Any, ...], keywords: Any) -> bool:
    return True


def _of_printable(seen: Seen, arguments: tuple[Any, ...], keywords: Any) -> bool:
    return all(map(seen.is_printable, arguments))


def _of_plain(seen: Seen, arguments: tuple[Any, ...], keywords: Any) -> bool:
    return all(map(seen.is_text, arguments))


def _of_numbers(seen: Seen, arguments: tuple[Any, ...], keywords: Any) -> bool:
    return all(type(value) in NUMBERS for value in arguments)


def _length(seen: Seen, arguments: tuple[Any, ...], keywords: Any) -> bool:
    seen.length(*arguments)
    return True


def _get(seen: Seen, arguments: tuple[Any, ...], keywords: Any) -> bool:
    if len(arguments) < 2 or type(arguments[1]) is not str:
        return False
    seen.get_attribute(arguments[0], arguments[1])
    return True


def _set(seen: Seen, arguments: tuple[Any, ...], keywords: Any) -> bool:
    if len(arguments) < 2 or type(arguments[1]) is not str:
        return False
    seen.set_attribute(arguments[0], arguments[1])
    return True


def _get_plainly(seen: Seen, arguments: tuple[Any, ...], keywords: Any) -> bool:
    if len(arguments) != 2 or type(arguments[1]) is not str:
        return False
    seen._get_generic(arguments[0], type(arguments[0]), arguments[1])
    return True


def _set_plainly(seen: Seen, arguments: tuple[Any, ...], keywords: Any) -> bool:
    if len(arguments) < 2 or type(arguments[1]) is not str:
        return False
    seen.set_generic(arguments[0], arguments[1])
    return True


def _iterate(seen: Seen, arguments: tuple[Any, ...], keywords: Any) -> bool:
    if len(arguments) != 1:
        return False
    seen.iterate(arguments[0])
    return True


def _advance(seen: Seen, arguments: tuple[Any, ...], keywords: Any) -> bool:
    seen.advance(arguments[0])
    return True


def _consume(seen: Seen, arguments: tuple[Any, ...], keywords: Any) -> bool:
    for argument in arguments:
        seen.consume(argument)
    return not keywords


def _consume_hashed(seen: Seen, arguments: tuple[Any, ...], keywords: Any) -> bool:
    for argument in arguments:
        seen.consume_hashed(argument)
    return not keywords


def _truth_of_all(seen: Seen, arguments: tuple[Any, ...], keywords: Any) -> bool:
    """Handle `any` and `all`."""
    seen.consume(*arguments)
    if type(arguments[0]) in (list, tuple, set):
        for value in arguments[0]:
            seen.truth(value)
        return True
    return type(arguments[0]) is GeneratorType  # the truth of what it yields is recorded there


def _compared(seen: Seen, arguments: tuple[Any, ...], keywords: Any) -> bool:
    """Handle `min`, `max`, `sorted` and `sum`."""
    if keywords and "key" in keywords:
        return False
    if len(arguments) == 1:
        if type(arguments[0]) not in (list, tuple, set, dict, range):
            return False
        seen.consume(arguments[0])
        return bool(seen.are_comparable(tuple(arguments[0])))
    return bool(seen.are_comparable(arguments))


def _of_dict(writes: bool, inserts: bool) -> Handler:
    def handle(seen: Seen, arguments: tuple[Any, ...], keywords: Any) -> bool:
        if len(arguments) < 2 or not isinstance(arguments[0], dict):
            return False
        if writes:
            seen.write_key(arguments[0], arguments[1], may_insert=inserts)
        seen.read_key(arguments[0], arguments[1])
        return True

    return handle


def _reads(seen: Seen, arguments: tuple[Any, ...], keywords: Any) -> bool:
    seen.read(id(arguments[0]))
    return True


def _writes(seen: Seen, arguments: tuple[Any, ...], keywords: Any) -> bool:
    seen.write(id(arguments[0]))
    return True


def _writes_and_consumes(seen: Seen, arguments: tuple[Any, ...], keywords: Any) -> bool:
    seen.write(id(arguments[0]))
    for argument in arguments[1:]:
        seen.consume(argument)
    return True


def _updates(seen: Seen, arguments: tuple[Any, ...], keywords: Any) -> bool:
    seen.write(id(arguments[0]))
    for argument in arguments[1:]:
        if type(argument) is not dict and type(arguments[0]) is dict:
            return False
        seen.consume_hashed(argument)
    return True


def _writes_hashed(seen: Seen, arguments: tuple[Any, ...], keywords: Any) -> bool:
    seen.write(id(arguments[0]))
    return all(map(seen.is_hashable, arguments[1:]))


def _compares_with_items(seen: Seen, arguments: tuple[Any, ...], keywords: Any) -> bool:
    """Handle `index`, `count` and `remove`."""
    seen.write(id(arguments[0]))
    return bool(seen.are_comparable((*arguments[0], *arguments[1:])))


def _of_text(seen: Seen, arguments: tuple[Any, ...], keywords: Any) -> bool:
    """Handle methods of a string."""
    return not keywords and all(
        seen.is_text(value) or (type(value) is tuple and all(type(part) is str for part in value))
        for value in arguments
    )


def _join(seen: Seen, arguments: tuple[Any, ...], keywords: Any) -> bool:
    seen.consume(arguments[1])
    return True


def _make_type(seen: Seen, arguments: tuple[Any, ...], keywords: Any) -> bool:
    return len(arguments) == 1


def _enter_class(seen: Seen, arguments: tuple[Any, ...], keywords: Any) -> bool:
    return True


# --- the list

_LOCK, _RLOCK = _thread.LockType, _thread.RLock

_TYPES: dict[type, Handler] = {
    type: _make_type, object: _nothing, int: _of_plain, float: _of_plain, bool: lambda s, a, k: _truth(s, a),
    str: _of_printable, complex: _of_plain, range: _of_numbers, slice: _nothing, list: _consume, tuple: _consume,
    set: _consume_hashed, frozenset: _consume_hashed, enumerate: _iterate, zip: lambda s, a, k: _iterate_all(s, a),
    map: lambda s, a, k: _iterate_all(s, a[1:]), super: _nothing,
    property: _nothing, staticmethod: _nothing, classmethod: _nothing, reversed: lambda s, a, k: _reverse(s, a),
    MethodType: _nothing,
    dict: lambda s, a, k: _new_dict(s, a),
}  # fmt: skip


def _truth(seen: Seen, arguments: tuple[Any, ...]) -> bool:
    for argument in arguments:
        seen.truth(argument)
    return True


def _iterate_all(seen: Seen, arguments: Iterable[Any]) -> bool:
    for argument in arguments:
        seen.iterate(argument)
    return True


def _reverse(seen: Seen, arguments: tuple[Any, ...]) -> bool:
    return type(arguments[0]) in (list, tuple, str, range)


def _new_dict(seen: Seen, arguments: tuple[Any, ...]) -> bool:
    for argument in arguments:
        if type(argument) is dict:
            seen.consume_hashed(argument)
        elif type(argument) in (zip, GeneratorType, list, tuple):
            seen.consume(argument)
            return type(argument) is zip
        else:
            return False
    return True


_MATH = ("ceil", "floor", "sqrt", "exp", "log", "isnan", "isinf", "pow", "gcd", "trunc", "fabs", "isfinite")
REASONS: dict[str, dict[Any, Handler]] = {
    "it is about the type or the identity of its argument": {
        isinstance: _nothing, issubclass: _nothing, callable: _nothing, id: _nothing, iter: _iterate, next: _advance,
    },
    "it is written as an instruction, too": {
        len: _length, getattr: _get, hasattr: _get, setattr: _set, delattr: _set, object.__getattribute__: _get_plainly,
        object.__setattr__: _set_plainly, object.__delattr__: _set_plainly, object.__init__: _nothing,
        object.__new__: _nothing, ModuleType.__getattribute__: _get_plainly, globals: _nothing,
        BaseException.__init__: _nothing, BaseException.__new__: _nothing, operator.index: _of_numbers,
        object.__init_subclass__: _nothing,
    },
    "it works on numbers and strings, which cannot change": {
        abs: _of_numbers, round: _of_numbers, divmod: _of_numbers, pow: _of_numbers, ord: _of_plain,
        chr: _of_numbers, repr: _of_plain, format: _of_plain, hash: _of_plain, hex: _of_numbers,
        bin: _of_numbers, oct: _of_numbers, ascii: _of_plain,
        **{getattr(math, name): _of_numbers for name in _MATH},
        **{value: _of_text for name, value in vars(str).items() if not name.startswith("__") and name not in
           ("join", "maketrans", "format_map", "translate")},
        **{value: _of_text for name, value in vars(bytes).items() if not name.startswith("__") and name not in
           ("join", "maketrans", "translate", "fromhex")},
        **{getattr(int, name): _of_numbers for name in ("bit_length",)},
        **{getattr(float, name): _of_numbers for name in ("is_integer",)},
        str.join: _join, tuple.index: _compares_with_items, tuple.count: _compares_with_items,
    },
    "it reads or changes the container, and what it is given": {
        any: _truth_of_all, all: _truth_of_all, min: _compared, max: _compared, sorted: _compared, sum: _compared,
        dict.get: _of_dict(False, False), dict.__getitem__: _of_dict(False, False),
        dict.__contains__: _of_dict(False, False), dict.setdefault: _of_dict(True, True),
        dict.pop: _of_dict(True, False), dict.__setitem__: _of_dict(True, True),
        dict.keys: _nothing, dict.values: _nothing, dict.items: _nothing, dict.copy: _reads, dict.clear: _writes,
        dict.popitem: _writes, dict.update: _updates,
        list.append: _writes, list.extend: _writes_and_consumes, list.insert: _writes, list.pop: _writes,
        list.clear: _writes, list.reverse: _writes, list.copy: _reads, list.index: _compares_with_items,
        list.count: _compares_with_items, list.remove: _compares_with_items,
        set.add: _writes_hashed, set.discard: _writes_hashed, set.remove: _writes_hashed, set.pop: _writes,
        set.clear: _writes, set.copy: _reads, set.update: _updates,
        deque.append: _writes, deque.appendleft: _writes, deque.pop: _writes, deque.popleft: _writes,
        deque.clear: _writes, deque.extend: _writes_and_consumes,
    },
    "what it does with a lock is an access to the lock": {
        **{getattr(kind, name): _writes for kind in (_LOCK, _RLOCK) for name in ("release", "__exit__")},
        _LOCK.locked: _reads,
    },
    "it runs a generator, whose own instructions are recorded": {
        GeneratorType.send: _writes, GeneratorType.close: _writes, GeneratorType.throw: _writes,
        GeneratorType.__next__: _writes,
    },
}  # fmt: skip
_CALLS: dict[Any, Handler] = {}
for _of_reason in REASONS.values():
    _CALLS.update(_of_reason)


def call(seen: Seen, function: Any, arguments: tuple[Any, ...], keywords: Any) -> bool:
    """Note what a C function touches; return False if it is not known."""
    kind = type(function)
    if kind.__name__ == "instancemethod":
        function = function.__func__
        kind = type(function)
    if kind is BuiltinFunctionType and id(function) not in _table():
        own = function.__self__
        if own is not None and not issubclass(type(own), type | ModuleType):
            owner, _, name = function.__qualname__.rpartition(".")
            arguments = own, *arguments
            found = [vars(base).get(name) for base in type(own).__mro__ if base.__name__ == owner]
            function = found[0] if found else None
    elif kind is MethodWrapperType:
        arguments = function.__self__, *arguments
        function = vars(function.__objclass__).get(function.__name__)
    return _is_harmless(id(function), seen, arguments, keywords)


def _is_harmless(key: int, seen: Seen, arguments: tuple[Any, ...], keywords: Any) -> bool:
    entry = _table().get(key)
    return entry is not None and entry[1](seen, arguments, keywords) is not False


def make(seen: Seen, kind: type, arguments: tuple[Any, ...], keywords: Any) -> bool:
    """Note what it touches to make an object of a C type; return False if that is not known."""
    return _is_harmless(id(kind), seen, arguments, keywords)


def _table() -> dict[int, tuple[Any, Handler]]:
    """Return the handlers by the id of the function, which is kept beside: to hash it might run code of the program."""
    return _with_libraries(*_libraries())


# --- torch, numpy and OpenCV

# By the reason and the owner, the names of functions.
OF_LIBRARIES: dict[str, dict[str, tuple[str, ...]]] = {
    "it reads tensors or arrays and makes a new one, or one that shares their memory": {
        "torch": (
            "conv2d", "cat", "max_pool2d", "split_with_sizes", "zeros", "ones", "arange", "empty_like", "zeros_like",
            "full", "from_numpy", "stack", "sigmoid", "softmax", "empty", "tensor",
        ),
        "torch._C._nn": ("upsample_nearest2d", "gelu", "linear", "silu"),
        "torch._C.TensorBase": (
            "view", "chunk", "dim", "transpose", "unsqueeze", "squeeze", "to", "float", "half", "softmax", "unbind",
            "permute", "contiguous", "flip", "reshape", "sigmoid", "amax", "amin", "expand", "max", "min", "cpu",
            "numpy", "numel", "clone", "split", "flatten", "argsort", "any", "all", "sum", "mean", "size", "item",
            "tolist", "detach", "gather", "topk", "repeat", "long", "int", "bool", "is_floating_point",
            "stride", "nonzero", "split_with_sizes", "view_as", "__len__",
        ),
        "numpy": ("asanyarray", "array", "ascontiguousarray", "asarray"),
    },
    "it may change the memory of its arguments": {
        "torch._C._nn": ("silu_", "gelu_"),
        "torch._C.TensorBase": ("clamp_", "div_", "add_", "sub_", "mul_", "copy_", "zero_", "fill_"),
        "numpy": ("remainder",),
        "cv2": ("copyMakeBorder", "resize"),
    },
    "it is about the calling thread, or about the types of its arguments": {
        "torch._C": (
            "_get_tracing_state", "_has_torch_function_unary", "_has_torch_function", "_has_torch_function_variadic",
            "_is_tracing", "_log_api_usage_once", "is_grad_enabled", "is_inference_mode_enabled",
        ),
    },
}  # fmt: skip
_ATTRIBUTES = {
    "shape", "device", "dtype", "ndim", "is_quantized", "is_cuda", "type", "index", "size", "requires_grad", "layout",
    "is_sparse", "T", "itemsize", "is_mps", "strides", "is_complex", "data",
}  # fmt: skip


def _is_data(seen: Seen, value: Any) -> bool:
    """Return whether a value holds nothing but numbers, strings, tensors and arrays; note the lists that hold them."""
    kind = type(value)
    if kind in NUMBERS or kind in IMMUTABLE or kind in (type(None), str, type(...), range):
        return True
    if kind is list:
        seen.read(id(value))
    if kind in (tuple, list):
        return all(_is_data(seen, part) for part in value)
    return kind in _data_types(*_libraries()) and not getattr(value.dtype, "hasobject", False)


def _libraries() -> tuple[bool, ...]:
    return tuple(name in sys.modules for name in ("torch", "numpy", "cv2", "torchvision"))


@lru_cache(maxsize=8)
def _data_types(*found: bool) -> frozenset[type]:
    torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
    types: set[type] = set()
    if torch is not None:
        types |= {torch.Tensor, torch.nn.Parameter}
    if numpy is not None:
        types |= {numpy.ndarray}
    return frozenset(types)


def _computes(seen: Seen, arguments: tuple[Any, ...], keywords: Any) -> bool:
    seen.read(MEMORY)
    return "out" not in keywords and all(_is_data(seen, value) for value in (*arguments, *dict(keywords).values()))


def _changes(seen: Seen, arguments: tuple[Any, ...], keywords: Any) -> bool:
    seen.write(MEMORY)
    return _computes(seen, arguments, keywords)


_HOW = dict(zip(OF_LIBRARIES, (_computes, _changes, _nothing), strict=True))


def of_libraries() -> Iterator[tuple[Any, Handler]]:
    """Yield the functions of `OF_LIBRARIES` that are loaded, each with its handler."""
    for reason, owners in OF_LIBRARIES.items():
        for path, names in owners.items():
            owner: Any = sys.modules.get(path.partition(".")[0])
            for part in path.split(".")[1:]:
                owner = getattr(owner, part, None)
            yield from ((function, _HOW[reason]) for n in names if (function := getattr(owner, n, None)) is not None)


@lru_cache(maxsize=8)
def _with_libraries(has_torch: bool, has_numpy: bool, *others: bool) -> dict[int, tuple[Any, Handler]]:
    table = {**_CALLS, **_TYPES, **dict(of_libraries())}
    torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
    if torch is not None and has_torch:
        IMMUTABLE.update({torch.Size, torch.device, torch.dtype, torch.layout})
        mode = torch._C._InferenceMode  # it sets a mode of the calling thread
        table |= {mode: _nothing, torch.Size.numel: _nothing}
        table |= {vars(mode)[name].__func__: _nothing for name in ("__init__", "__enter__", "__exit__")}
        if "torchvision" in sys.modules and hasattr(torch.ops.torchvision, "nms"):
            table[torch.ops.torchvision.nms._op] = _computes
    if numpy is not None and has_numpy:
        NUMBERS.update({numpy.float64, numpy.float32, numpy.int64, numpy.int32, numpy.uint8, numpy.bool_})
        IMMUTABLE.update({type(numpy.dtype(name)) for name in ("u1", "f4", "f8", "i4", "i8", "?")})
    return {id(function): (function, handler) for function, handler in table.items()}


def is_attribute(descriptor: Any, name: str) -> bool:
    """Return whether an attribute in C never changes, or only by what touches everything."""
    owner = getattr(descriptor, "__objclass__", None)
    if owner is FunctionType or owner is BuiltinFunctionType:
        return True
    return name in _ATTRIBUTES and getattr(owner, "__module__", "").partition(".")[0] in ("torch", "numpy")


def get_item(seen: Seen, thing: Any, key: Any) -> bool:
    """Note that an item of a tensor or an array is read; return False if it is neither."""
    if type(thing) in IMMUTABLE:
        return True
    return type(thing) in _data_types(*_libraries()) and _computes(seen, (thing, key), {})


def set_item(seen: Seen, thing: Any, key: Any) -> bool:
    """Note that items of a tensor or an array are changed; return False if it is neither."""
    return type(thing) in _data_types(*_libraries()) and _changes(seen, (thing, key), {})


def truth(seen: Seen, thing: Any) -> bool:
    """Note that the truth of a tensor or an array is tested; return False if it is neither."""
    return type(thing) in _data_types(*_libraries()) and _computes(seen, (thing,), {})


def has_length(thing: Any) -> bool:
    """Return whether the length of an object cannot change."""
    return type(thing) in IMMUTABLE or type(thing) in _data_types(*_libraries())


def binary(seen: Seen, a: Any, b: Any, in_place: bool) -> bool:
    """Note that an operator is applied to tensors or arrays; return False if it is to others."""
    if type(a) in IMMUTABLE and type(b) in (*IMMUTABLE, type, int, tuple, str):
        return True
    types = _data_types(*_libraries())
    if type(a) not in types and type(b) not in types:
        return False
    return (_changes if in_place else _computes)(seen, (a, b), {})
