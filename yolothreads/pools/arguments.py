"""What a pool may be asked: checks of numbers, of predict settings, and that a library is there."""

from __future__ import annotations

import math
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

from yolothreads.errors import ArgumentError, ExtraError

_OWN = ("source", "stream", "predictor", "model", "embed", "show")  # a pool feeds its models and gives Results


def at_least_one(name: str, value: int) -> int:
    """Give `value` back if it is a whole number of 1 or more; else an ArgumentError that names it."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ArgumentError(f"{name}={value!r} makes no sense; give a whole number, 1 or more.")
    return value


def not_negative(name: str, value: float) -> float:
    """Give `value` back if it is a finite number of 0 or more; else an ArgumentError that names it."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ArgumentError(f"{name}={value!r} makes no sense; give a number, 0 or more.")
    return value


def need_extra(who: str, *libraries: str, install: str) -> None:
    """Raise an ExtraError that says what to install if one of the libraries is not there; imports none of them."""
    for library in libraries:
        if find_spec(library) is None:
            raise ExtraError(f"{who} needs {library}, which is not installed; run: pip install {install}.")


def check_settings(settings: dict[str, Any], *, of_pool: bool = False) -> None:
    """Refuse settings that `YOLO.predict` does not know, or that cannot be chosen here, with an ArgumentError."""
    if not settings:
        return
    known, setup = _known_settings()
    for name in settings:
        if name in _OWN:
            raise ArgumentError(f'"{name}" is decided by the pool; leave it out.')
        if name in setup and not of_pool:
            raise ArgumentError(f'"{name}" cannot be set for single images: a pool has one, chosen when it is made.')
        if name not in known:
            raise ArgumentError(f'"{name}" is no setting of YOLO.predict; see its documentation for those there are.')


@lru_cache(maxsize=1)
def _known_settings() -> tuple[frozenset[str], frozenset[str]]:
    """What `YOLO.predict` takes, and which of it sets up a model and so can be chosen for a whole pool only."""
    from ultralytics.engine.model import PREDICTOR_SETUP_KEYS
    from ultralytics.utils import DEFAULT_CFG_DICT

    return frozenset(DEFAULT_CFG_DICT), frozenset(PREDICTOR_SETUP_KEYS)
