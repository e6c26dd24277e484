"""Checks of the predict settings that a pool is given."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from yolothreads.errors import ArgumentError

_OWN = ("source", "stream", "predictor", "model", "embed", "show")  # a pool feeds its models and gives Results


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
