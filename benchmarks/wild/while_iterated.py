"""Races in which one thread loops over a dictionary, set or list, and another one changes it."""

from __future__ import annotations

import io
import logging as python_logging
import sys
from typing import Any

from benchmarks.wild.bug import Program, Registry

RACES = Registry()
_GITHUB = "https://github.com"


@RACES.bug(
    f"{_GITHUB}/tqdm/tqdm/issues/754",
    buggy="tqdm==4.32.1",
    fixed="tqdm==4.33.0",
    watch="tqdm",
)
def tqdm(_: bool) -> Program:
    """A bar that is switched off looks for its place among all bars without the lock, while another thread opens one:
    "Set changed size during iteration".
    """
    from tqdm import tqdm

    tqdm.monitor_interval = 0  # no thread that watches the bars

    def no_bars() -> list[Any]:
        if hasattr(tqdm, "_instances"):
            tqdm._instances.clear()
        return []

    def open_bar(bars: list[Any]) -> None:
        bars.append(tqdm(range(1), file=io.StringIO()))  # and leave it open

    def disabled_bar(_: list[Any]) -> None:
        tqdm(range(1), disable=True)

    return Program(open_bar, disabled_bar, setup=no_bars)


_LMFIT = " asteval==1.0.10 uncertainties==3.2.3 dill==0.4.1 scipy==1.17.1"


@RACES.bug(
    f"{_GITHUB}/lmfit/lmfit-py/issues/948",
    buggy="lmfit==1.3.0" + _LMFIT,
    fixed="lmfit==1.3.1" + _LMFIT,
    watch=f"lmfit.jsonutils {__name__}",
)
def lmfit(_: bool) -> Program:
    """Saving a model loops over `sys.modules`, which any import in another thread changes: "dictionary changed size
    during iteration".
    """
    from lmfit.jsonutils import find_importer

    def found_nowhere() -> None:
        """Be a function that no module has, so that all modules are looked at."""

    found_nowhere.__name__ = "nobody_has_this"

    def forget() -> None:
        for name in ("wave", "sndhdr", "chunk"):  # of the standard library, and needed by nothing here
            sys.modules.pop(name, None)

    def import_late(_: None) -> str:
        return __import__("wave").__name__

    return Program(lambda _: find_importer(found_nowhere), import_late, setup=forget)


@RACES.bug(
    f"{_GITHUB}/Delgan/loguru/issues/1183",
    buggy="loguru==0.7.2",
    fixed="loguru==0.7.3",
    watch="loguru",
    preemptions=2,
)
def loguru(_: bool) -> Program:
    """`logger.remove()` hands the logger a dictionary of handlers after it has taken the first one out, and goes on
    taking handlers out of it, while another thread that logs loops over it. Two preemptions.
    """
    from loguru import logger

    def two_sinks() -> None:
        logger.remove()
        for _ in range(2):
            kept: list[str] = []
            logger.add(kept.append, format="{message}", catch=False)

    return Program(lambda _: logger.info("hello"), lambda _: logger.remove(), setup=two_sinks)


@RACES.bug(
    f"{_GITHUB}/python/cpython/issues/79366",
    buggy="",
    watch="logging",
)
def logging(_: bool) -> Program:
    """Python's own `removeHandler` changes the list of handlers that another thread's `callHandlers` loops over without
    a lock, so a handler that stays misses a message.
    """

    class Keep(python_logging.Handler):
        def __init__(self) -> None:
            super().__init__()
            self.kept: list[str] = []

        def emit(self, record: python_logging.LogRecord) -> None:
            self.kept.append(record.getMessage())

    def two_handlers() -> Any:
        log: Any = python_logging.Logger("log")
        log.first, log.second = Keep(), Keep()
        log.addHandler(log.first)
        log.addHandler(log.second)
        return log

    return Program(
        lambda log: log.info("hello"),
        lambda log: log.removeHandler(log.first),
        setup=two_handlers,
        observe=lambda log: log.second.kept,
    )


@RACES.bug(
    f"{_GITHUB}/pallets/werkzeug",
    buggy="werkzeug==3.1.9",
    watch="werkzeug.routing",
)
def werkzeug(_: bool) -> Program:
    """The first match sorts the rules in a loop over the dictionary that `Map.add` adds to: "dictionary changed size
    during iteration". Flask forbids new rules after the first request; Werkzeug does not. We know of no report.
    """
    from werkzeug.routing import Map, Rule

    return Program(
        lambda routes: routes.bind("example.org").match("/a"),
        lambda routes: routes.add(Rule("/b", endpoint="b")),
        setup=lambda: Map([Rule("/a", endpoint="a"), Rule("/c", endpoint="c")]),
    )
