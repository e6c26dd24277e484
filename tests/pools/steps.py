"""Steps of a pool that fail on demand."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest


class BrokenError(Exception):
    """The error of a step that was made to fail."""


@contextmanager
def failing_once(owner: Any, name: str) -> Iterator[list[str]]:
    """Make the next call of a function fail; yield a list that has its name as soon as it has failed."""
    function: Callable[..., Any] = getattr(owner, name)
    failed: list[str] = []

    def fail(*args: Any, **kwargs: Any) -> Any:
        if not failed:
            failed.append(name)
            raise BrokenError(name)
        return function(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, fail)
        yield failed
