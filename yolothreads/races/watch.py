"""Which code is watched."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import linecache
from collections.abc import Iterable, Iterator
from functools import lru_cache, partial
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from yolothreads.errors import ExploreError
from yolothreads.races.lines import Code


class Watch:
    """The code whose lines are switch points: modules, packages, classes or functions, by name or as they are."""

    def __init__(self, watch: Iterable[Any]):
        self.files: set[str] = set()
        self.folders: tuple[str, ...] = ()
        self.packages: list[str] = []  # the top-level names, whose versions a schedule carries
        self._codes: list[CodeType] = []  # of watched functions and classes
        self.known: dict[int, Code | None] = {}  # by the id of the code object: to compare them is slow
        self._kept: list[CodeType] = []  # whose ids these are, so that no other gets one of them
        named = [watch] if isinstance(watch, str | ModuleType) else list(watch)
        if not named:
            raise ExploreError("watch=[] names no code; name the modules whose lines may be interrupted.")
        for entry in named:
            self._add(_module(entry) if isinstance(entry, str) else entry)
        self._ids = {id(code) for code in self._codes}

    def _add(self, entry: Any) -> None:
        if isinstance(entry, ModuleType):
            self._add_module(entry)
        else:
            codes = list(_codes(entry))
            if not codes:
                raise ExploreError(
                    f"watch holds {entry!r}, which has no Python lines; name a module, class or function."
                )
            self._codes += codes
            self.packages.append((getattr(entry, "__module__", None) or "").split(".")[0])

    def _add_module(self, module: ModuleType) -> None:
        file = getattr(module, "__file__", None)
        if hasattr(module, "__path__"):
            self.folders += tuple(f"{Path(folder)}/" for folder in module.__path__)
        elif file and file.endswith(".py"):
            self.files.add(file)
        elif module.__name__ == "__main__" and file is None:  # a notebook: its cells are known by what they defined
            self._codes += [code for thing in vars(module).values() if _of_main(thing) for code in _codes(thing)]
            self.files.update(code.co_filename for code in self._codes)
        else:
            raise ExploreError(
                f"watch names '{module.__name__}', which has no Python lines; name a module written in Python."
            )
        self.packages.append(module.__name__.split(".")[0])

    def get(self, code: CodeType) -> Code | None:
        """What is known of a code object; None if it is not watched."""
        if id(code) not in self.known:
            name = code.co_filename
            watched = name in self.files or name.startswith(self.folders or ("\0",)) or id(code) in self._ids
            self._kept.append(code)
            self.known[id(code)] = _known(code) if watched else None
        return self.known[id(code)]

    def digest(self) -> str:
        """Eight letters that change with the watched source."""
        files = [Path(file) for file in sorted(self.files) if Path(file).is_file()]
        files += [file for folder in self.folders for file in sorted(Path(folder).rglob("*.py"))]
        texts = [_text(file, file.stat().st_mtime_ns) for file in files]
        for code in self._codes:
            lines = linecache.getlines(code.co_filename)
            if code.co_filename not in self.files:
                texts.append("".join(inspect.getblock(lines[code.co_firstlineno - 1 :])) if lines else code.co_name)
        return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:8]


_all_known: dict[int, Code] = {}


def _known(code: CodeType) -> Code:
    """From one exploration to the next nothing is looked up twice."""
    if id(code) not in _all_known:
        _all_known[id(code)] = Code(code)  # which keeps the code object, and so its id
    return _all_known[id(code)]


@lru_cache(maxsize=1000)
def _text(file: Path, changed: int) -> str:
    return f"{file.name}\n{file.read_text(encoding='utf-8', errors='replace')}"


def _module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ExploreError(f"watch names '{name}', but there is no module '{error.name}'; check the name.") from error


def _of_main(thing: Any) -> bool:
    return isinstance(thing, FunctionType | type) and getattr(thing, "__module__", "") == "__main__"


def _codes(thing: Any) -> Iterator[CodeType]:
    """The code objects of a function, a method, a class or what wraps them, with those nested inside."""
    if isinstance(thing, CodeType):
        yield thing
        for constant in thing.co_consts:
            if isinstance(constant, CodeType):
                yield from _codes(constant)
    elif isinstance(thing, type):
        for member in vars(thing).values():
            if not isinstance(member, type) or member.__qualname__.startswith(f"{thing.__qualname__}."):
                yield from _codes(member)
    elif isinstance(thing, property):
        for part in (thing.fget, thing.fset, thing.fdel):
            yield from _codes(part)
    elif isinstance(thing, staticmethod | classmethod | MethodType):
        yield from _codes(thing.__func__)
    elif isinstance(thing, partial):
        yield from _codes(thing.func)
    elif isinstance(thing, FunctionType):
        yield from _codes(thing.__code__)
        if hasattr(thing, "__wrapped__"):
            yield from _codes(thing.__wrapped__)
