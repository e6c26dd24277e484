"""Which code is watched: its places are switch points, and its source determines the version of a schedule.

A *place* in a code object is one number: that of a line; or, below zero, `~offset` of an instruction.
"""

from __future__ import annotations

import dis
import hashlib
import importlib
import inspect
import linecache
import site
import sys
import sysconfig
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import suppress
from functools import cached_property, lru_cache, partial, partialmethod, singledispatchmethod
from pathlib import Path
from tokenize import TokenError
from types import CodeType, FrameType, FunctionType, MappingProxyType, MethodType, ModuleType
from typing import Any, Literal
from weakref import ref

from yolothreads.errors import ExploreError
from yolothreads.races.by_code import once_per_code
from yolothreads.races.bytecode import Code, stored_names
from yolothreads.races.operands import UnknownError, attribute, is_plain
from yolothreads.races.results import Where

Granularity = Literal["auto", "line", "instruction"]

# Their functions wait, and nothing else; and every wait is a switch point by itself.
_WAITING_MODULES = (
    "threading", "queue", "concurrent.futures", "asyncio", "selectors", "importlib._bootstrap",
    "importlib._bootstrap_external",
)  # fmt: skip
_CALLS_OTHERS = ("run", "_run", "_invoke_callbacks")  # their functions that call what they were given
# Code with one of these can store under names that stand nowhere in it.
_STORES_ANY_NAME = frozenset({
    "setattr", "delattr", "__setattr__", "__delattr__", "__dict__", "vars", "globals", "exec", "eval",
})  # fmt: skip
_DICTIONARIES = frozenset({"__dict__", "vars", "globals"})  # those among them that may be read only
_CHANGES_DICTIONARY = frozenset({"update", "setdefault", "pop", "popitem", "clear", "__setitem__", "__delitem__"})
# What a store under one of these changes is found under other names.
_CHANGES_LOOKUPS = frozenset({"__class__", "__bases__", "__getattr__", "__getattribute__", "cell_contents"})
# Python calls these in whatever thread collects garbage, not because a body reaches them.
_FINALIZERS = (
    ".__del__", "_weakrefset.WeakSet.__init__.<locals>._remove", "weakref.WeakValueDictionary.__init__.<locals>.remove",
    "weakref.WeakKeyDictionary.__init__.<locals>.remove",
)  # fmt: skip
_OWN_FOLDER, _OWN_NAME = f"{Path(__file__).parents[1]}/", __name__.partition(".")[0]
_EXPLORER = f"{Path(__file__).parent}/"  # it stores nothing in the objects of the watched code


class Watch:
    """The code whose lines are switch points: modules, packages, classes or functions, by name or as objects.

    Args:
        watch: the code.
        granularity: "line", "instruction", or "auto" for lines, and instructions inside the lines that need it.
        all_of_user: whether all code is watched, too, that belongs neither to Python nor to an installed package.
        by_names: whether a lookup of a name that no code stores is known to touch nothing. The points may then increase
            from run to run, as further code is met.
    """

    def __init__(
        self, watch: Iterable[Any], granularity: Granularity = "auto", all_of_user: bool = False, by_names: bool = True
    ):
        self.granularity, self._all_of_user, self._by_names = granularity, all_of_user, by_names
        self.by_line = granularity != "instruction"
        self.names: dict[str, None] = {}  # of all that is watched, for people
        self.unwatched: dict[str, None] = {}  # the functions of other code that controlled threads ran
        self.files: set[str] = set()
        self.folders: tuple[str, ...] = ()
        self.packages: list[str] = []  # the top-level names, whose versions a schedule carries
        self._all_cells = False  # whether code is watched that has no file, as in a notebook
        self._codes: list[CodeType] = []  # of watched functions and classes
        self._ran: list[CodeType] = []  # watched code that controlled threads ran
        self.known: dict[int, Code | None] = {}  # by the id of the code object: comparing code objects is slow
        self._places: dict[tuple[int, int], Where] = {}
        self.noted: set[int] = set()  # the ids of code that a controlled thread ran
        self.points: dict[int, frozenset[int]] = {}  # the offsets of the instructions that are switch points, by id
        self.unsplit_ends: set[tuple[int, int]] = set()  # lines at whose end C code goes on, by the id of the code
        self.generation = 0  # counts how often points were added for code that had run
        self._wanted: list[tuple[Callable[[str], bool], int]] = []
        self._stored: set[str] = set()  # the names that the code that ran may store
        self._has_new_names = False
        self._trusted: set[str] = set()  # names that were taken for names that nobody stores, other than by points
        self.looked_at: list[tuple[ref[Any], str, int, Any]] = []  # attributes that were taken for fixed, in this run
        self._distrusts_all = False  # code that is not watched may store attributes under any name
        self._kept: list[CodeType] = []  # the code objects with these ids, so that no other can get one of them
        is_one = isinstance(watch, str | type) or not isinstance(watch, Iterable)
        for entry in [watch] if is_one else watch:
            self._add(_import(entry) if isinstance(entry, str) else entry)
        self._ids = {id(code) for code in self._codes}

    def _add(self, entry: Any) -> None:
        is_module, file = isinstance(entry, ModuleType), getattr(entry, "__file__", None)
        name = entry.__name__ if is_module else getattr(entry, "__module__", None) or ""
        if is_module and hasattr(entry, "__path__"):
            self.folders += tuple(f"{Path(folder)}/" for folder in entry.__path__)
        elif is_module and file and file.endswith(".py"):
            self.files.add(file)
        elif is_module and name == "__main__" and not Path(file or "").is_file():
            self._all_cells = True
        elif is_module and not self._all_of_user:  # otherwise it is of no file, and watched like all code of the user
            raise ExploreError(f"watch names '{name}', which has no Python lines; name a module written in Python.")
        elif codes := list(_codes(entry)):
            self._codes += codes
        elif not is_module:
            raise ExploreError(f"watch holds {entry!r}, which has no Python lines; name a module, class or function.")
        self.packages.append(name.split(".")[0])
        self.names[name if is_module else getattr(entry, "__qualname__", name)] = None

    def facts(self, code: CodeType) -> Code:
        """Return the facts about a code object that is watched and has run."""
        return self.known[id(code)]  # type: ignore[return-value]

    def line_of(self, code: CodeType, at: int) -> int:
        """Return the line of a place."""
        return at if at > 0 else self.facts(code).line_at[~at]

    def where(self, code: CodeType, at: int) -> Where:
        """Return the source of a place."""
        if (id(code), at) not in self._places:
            line = self.line_of(code, at)
            text = linecache.getline(code.co_filename, line).strip()
            self._places[id(code), at] = Where(code.co_filename, code.co_name, line, text)
        return self._places[id(code), at]

    def is_unsplit(self, code: CodeType, at: int) -> bool:
        """Return whether a place is a line that is not split, although a switch inside it can matter."""
        if self.granularity != "line":
            return False
        facts, stored = self.facts(code), self._stored if self._by_names else None
        return (id(code), at) in self.unsplit_ends or any(
            facts.line_at[offset] == at for offset in facts.points(stored)
        )

    def may_do_more(self, names: set[str]) -> bool:
        """Return whether looking these names up may touch something: code stores one, or is run by that, as a property.

        Watched code that is run by it has switch points of its own.
        """
        run = {name.rpartition(".")[2] for name in self.unwatched}
        asked = {*names, "__getattr__", "__getattribute__"}
        if not self._by_names or not asked.isdisjoint(run | self._stored):
            return True
        self._trusted |= asked
        return False

    def trusts(self, name: str) -> bool:
        """Return whether no code that ran stores anything under a name."""
        if not self._by_names or self._distrusts_all or name in self._stored:
            return False
        self._trusted.add(name)
        return True

    def keep_an_eye_on(self, owner: Any, name: str, value: Any) -> None:
        """Notice if an attribute changes in this run all the same, for instance because of a function in C."""
        self.looked_at.append((ref(owner), name, id(value), value if is_plain(value) else None))

    def look_again(self) -> None:
        """Note the names of the attributes that were taken for fixed, and have changed."""
        for owner, name, identity, _ in self.looked_at:
            if name not in self._stored and (alive := owner()) is not None:
                try:
                    is_same = id(attribute(alive, name)) == identity
                except UnknownError:
                    is_same = False
                if not is_same:
                    self._stored.add(name)
                    self._has_new_names = True

    # --- code as it is met

    def get(self, code: CodeType) -> Code | None:
        """Return the facts about a code object; None if it is not watched."""
        key = id(code)
        if key not in self.known:
            self._kept.append(code)
            facts = _facts_about(code) if self._is_watched(code) else None
            if facts is not None:
                self.points[key] = self._points_of(facts)
            self.known[key] = facts
        return self.known[key]

    def note(self, frame: FrameType) -> None:
        """Note that a controlled thread runs a function."""
        code, module = frame.f_code, _module_of(frame)
        is_generated = _is_generated(code, module)
        if is_generated:
            self._kept.append(code)
            self.known.setdefault(id(code))
        facts = self.get(code)
        self.noted.add(id(code))
        names = stored_names(code) - self._stored
        if names and not code.co_filename.startswith(_EXPLORER):
            self._stored |= names
            self._has_new_names = True
        is_of_others = facts is None and not code.co_filename.startswith(_EXPLORER)
        if is_of_others and not self._distrusts_all and _may_store_any_attribute(code):
            self._distrusts_all = self._has_new_names = True
        if facts is not None:
            self._ran.append(code)
            if self._by_names and _may_store_any_name(code):
                self._by_names, self._has_new_names = False, True
            if self._all_of_user:
                self.names.setdefault(module)
        elif not _is_in(module, (*_WAITING_MODULES, _OWN_NAME)) and not is_generated:
            name = f"{module}.{code.co_qualname}"
            if _serves_waiting(frame):
                self.noted.remove(id(code))  # somebody else may call it, too
            elif not name.endswith(_FINALIZERS):
                self.unwatched[name] = None

    def is_waiting_module(self, frame: FrameType) -> bool:
        """Return whether a function belongs to a module that starts threads, waits for them, or keeps their results."""
        return self.get(frame.f_code) is None and _is_in(_module_of(frame), _WAITING_MODULES)

    def is_of_library(self, frame: FrameType) -> bool:
        """Return whether a function is not watched, and belongs to Python or to an installed package."""
        return self.get(frame.f_code) is None and _is_library(frame.f_code.co_filename)

    def want_point(self, is_in: Callable[[str], bool], offset: int) -> None:
        """Make an instruction a switch point, for a replay: code that no sequential order runs may have made it one.

        Args:
            is_in: whether it is in the function of this name.
            offset: of the instruction.
        """
        self._wanted.append((is_in, offset))
        for facts in [facts for facts in self.known.values() if facts is not None]:
            self._points_of(facts)

    def refresh(self) -> bool:
        """Add the points that code which was met lately has made necessary; return whether there are any."""
        if not self._has_new_names:
            return False
        self._has_new_names = False
        # A thread that was given up may still be running, and meet further code meanwhile.
        known = {key: facts for key, facts in list(self.known.items()) if facts is not None}
        points = {key: self._points_of(facts) for key, facts in known.items()}
        changed = any(self.points[key] != found for key, found in points.items())
        lost = self._trusted if self._distrusts_all or not self._by_names else self._trusted & self._stored
        changed |= bool(lost)
        self._trusted -= lost
        self.points.update(points)
        self.generation += changed
        return changed

    def _points_of(self, facts: Code) -> frozenset[int]:
        if self.granularity == "line":
            return frozenset()
        points = self._points_by_names(facts)
        for point in [offset for is_in, offset in self._wanted if is_in(facts.code.co_name)]:
            names = facts.names_for(point, points) - self._stored - {""}
            if names:
                self._stored |= names
                self._has_new_names = True
                points = self._points_by_names(facts)
        return points

    def _points_by_names(self, facts: Code) -> frozenset[int]:
        return facts.points(self._stored if self._by_names else None, every_line=not self.by_line)

    def _is_watched(self, code: CodeType) -> bool:
        file = code.co_filename
        if file in self.files or file.startswith(self.folders or ("\0",)) or id(code) in self._ids:
            return True
        if self._all_cells and not _is_library(file) and not Path(file).is_file():
            return True
        return self._all_of_user and not _is_library(file)

    # --- the version

    def version(self, key: Hashable = None) -> str:
        """Return what schedules depend on: Python, the versions of the watched packages, a digest of the source.

        Args:
            key: names the bodies; code that they reached earlier in this process counts, too, because something that
                is cached since then may have kept them from reaching it again.
        """
        words = [f"py{sys.version_info.major}.{sys.version_info.minor}"]
        for package in dict.fromkeys(self.packages):
            number = getattr(sys.modules.get(package), "__version__", None)
            if isinstance(number, str):
                words.append(f"{package}-{number}"[:30])
        return " ".join([*words[:3], *([self.granularity] if self.granularity != "auto" else []), self._digest(key)])

    def _digest(self, key: Hashable) -> str:
        """Return eight letters that change with the watched source."""
        files, loose = set(self.files), list(self._codes)
        if self._all_of_user or self._all_cells:
            reached = _reached.setdefault(key, {})
            ran: dict[str, list[CodeType]] = {}
            for code in self._ran:
                ran.setdefault(_file_or_name(code), []).append(code)
            reached.update(ran)
            files |= {name for name in reached if Path(name).is_file()}
            loose += [code for name, codes in reached.items() if name not in files for code in codes]
        else:  # of a zip file, for instance
            loose += [code for code in self._ran if not Path(code.co_filename).is_file()]
        files = {file for file in files if Path(file).is_file()}
        paths = [Path(file) for file in sorted(files)]
        paths += [path for folder in self.folders for path in sorted(Path(folder).rglob("*.py"))]
        texts = [_text(path, path.stat().st_mtime_ns) for path in dict.fromkeys(paths)]
        texts += sorted({_source(code) for code in loose if code.co_filename not in files})
        return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:8]


_reached: dict[Hashable, dict[str, list[CodeType]]] = {}


def _file_or_name(code: CodeType) -> str:
    """Return the file of a code object, or its name if it has none: under each name, only what ran last counts."""
    return code.co_filename if Path(code.co_filename).is_file() else code.co_qualname


def granularity_of(schedule: str) -> Granularity:
    """Return the granularity that a schedule was made for."""
    words = schedule.partition("|")[2].split()
    return "line" if "line" in words else "instruction" if "instruction" in words else "auto"


_facts_about = once_per_code(Code)  # kept from one exploration to the next


@lru_cache(maxsize=1000)
def _text(file: Path, modified_ns: int) -> str:
    return f"{file.name}\n{file.read_text(encoding='utf-8', errors='replace')}"


def _source(code: CodeType) -> str:
    """Return the source of a function that has no file; or its instructions, where Python does not know it."""
    first = ""
    if not code.co_name.startswith("<"):  # a lambda may be repeated on another line, in another cell
        first, lines = f"{code.co_firstlineno} ", linecache.getlines(code.co_filename)
        with suppress(SyntaxError, TokenError, IndexError):
            if block := "".join(inspect.getblock(lines[code.co_firstlineno - 1 :])):
                return f"{first}{block}"
    constants = " ".join(map(_constant, code.co_consts))
    return f"{first}{code.co_qualname} {code.co_code.hex()} {code.co_names} {constants}"


def _constant(value: Any) -> str:
    if isinstance(value, CodeType):
        return _source(value)
    return repr(sorted(map(repr, value))) if isinstance(value, frozenset) else repr(value)


def _import(name: str) -> ModuleType:
    if not name or name.startswith("."):
        raise ExploreError(f"watch names '{name}', which is not the whole name of a module; give that, such as 'shop'.")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ExploreError(f"watch names '{name}', but there is no module '{error.name}'; check the name.") from error


def _may_store_any_name(code: CodeType) -> bool:
    """Return whether code can change what is found under names that stand nowhere in it."""
    return not _STORES_ANY_NAME.isdisjoint(code.co_names) or not _CHANGES_LOOKUPS.isdisjoint(stored_names(code))


def _may_store_any_attribute(code: CodeType) -> bool:
    """Return whether code that is not watched can store attributes under names that stand nowhere in it."""
    if not {"__dict__", *_CHANGES_LOOKUPS}.isdisjoint(stored_names(code)):
        return True
    names = _STORES_ANY_NAME.intersection(code.co_names)
    if not names or not names <= _DICTIONARIES:
        return bool(names)
    changes = any(i.opname in ("STORE_SUBSCR", "DELETE_SUBSCR", "STORE_SLICE") for i in dis.get_instructions(code))
    return changes or not _CHANGES_DICTIONARY.isdisjoint(code.co_names)


def _module_of(frame: FrameType | None) -> str:
    return "" if frame is None else str(frame.f_globals.get("__name__"))


def _is_generated(code: CodeType, module: str) -> bool:
    """Return whether the standard library has made a function, and knows what it does: that of a named tuple, say."""
    file = getattr(sys.modules.get(module), "__file__", None)
    is_of_library = module.startswith("namedtuple_") or (isinstance(file, str) and _is_library(file))
    return code.co_filename.startswith("<") and is_of_library


def _serves_waiting(frame: FrameType) -> bool:
    """Return whether a module that waits called a function of the standard library, directly or by way of others."""
    called: FrameType | None = frame
    while called is not None and _is_of_python(called.f_code.co_filename):
        if _is_in(_module_of(called), _WAITING_MODULES):
            return called.f_code.co_name not in _CALLS_OTHERS
        called = called.f_back
    return False


@lru_cache(maxsize=10_000)
def _is_of_python(file: str) -> bool:
    return file.startswith(("<frozen ", _OWN_FOLDER, f"{Path(inspect.__file__).parent}/")) and "-packages/" not in file


def _is_in(module: str, packages: tuple[str, ...]) -> bool:
    return module.startswith(tuple(f"{package}." for package in packages)) or module in packages


@lru_cache(maxsize=1)
def _library_folders() -> tuple[str, ...]:
    """Return the folders of Python, of installed packages, and of this package."""
    paths = sysconfig.get_paths()
    folders = [paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    folders += [str(Path(inspect.__file__).parent), *site.getsitepackages(), site.getusersitepackages()]
    return ("<frozen ", _OWN_FOLDER, *{f"{folder}/" for path in folders for folder in (path, Path(path).resolve())})


@lru_cache(maxsize=10_000)
def _is_library(file: str) -> bool:
    """Return whether code with this file name belongs to Python or to an installed package."""
    if file.startswith(_library_folders()):
        return True
    return not {"site-packages", "dist-packages"}.isdisjoint(Path(file).parts)


def _codes(thing: Any) -> Iterator[CodeType]:
    """Yield the code objects of a function, a method, a class or a wrapper of one, with those nested inside."""
    parts: Iterable[Any] = ()
    if isinstance(thing, CodeType):
        yield thing
        parts = thing.co_consts
    elif isinstance(thing, type):
        inside = f"{thing.__qualname__}."
        parts = [m for m in vars(thing).values() if not isinstance(m, type) or m.__qualname__.startswith(inside)]
    elif isinstance(thing, property):
        parts = (thing.fget, thing.fset, thing.fdel)
    elif isinstance(thing, staticmethod | classmethod | MethodType):
        parts = (thing.__func__,)
    elif isinstance(thing, partial | partialmethod | cached_property):
        parts = (thing.func,)
    elif isinstance(thing, singledispatchmethod):
        parts = (thing.func, *thing.dispatcher.registry.values())
    elif isinstance(thing, FunctionType):
        parts = (thing.__code__, getattr(thing, "__wrapped__", None))
        if isinstance(registry := getattr(thing, "registry", None), MappingProxyType):  # of functools.singledispatch
            parts = (*parts, *registry.values())
    elif hasattr(thing, "__wrapped__"):  # functools.lru_cache, and what wraps a function in the same way
        parts = (thing.__wrapped__,)
    for part in parts:
        yield from _codes(part)
