"""What threads share, as text, before each line of a replay: of YOLO models, what one thread can change for others."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from threading import Lock, RLock
from typing import Any

from yolothreads.races import holder

Looks = Mapping[str, Callable[..., Any]]

_LOCKS = (type(Lock()), type(RLock()))
_SCALARS = (bool, int, float, complex, str, bytes, type(None))
_LONGEST = 60  # characters of a value
_DEPTH = 5  # of networks in networks: YOLO, backend, network, its layers


class SharedState:
    """Looks at what threads share; made to be the `look` of `replay`.

    Args:
        look: name -> function of the state, or of nothing where there is none. By default it is chosen from the state:
            of a YOLO model, or of each one in a list, tuple or dict, what changes in `predictor.args`, who holds the
            predictor's lock, and the shape that the head remembers; of other things their plain values and locks.
        has_state: whether the bodies are given a state.
    """

    def __init__(self, look: Looks | None, has_state: bool) -> None:
        self._look, self._has_state = look, has_state
        self._predictors: list[Any] = []  # numbered in the order in which they are met
        self._state: Any = None
        self._last: dict[str, str] = {}

    def __call__(self, state: Any) -> dict[str, str]:
        """What is seen now: a text for each name."""
        self._state = state
        arguments = (state,) if self._has_state else ()
        if self._look is not None:
            seen = {name: _answer(ask, arguments) for name, ask in self._look.items()}
        else:
            seen = dict(self._facts(state)) if self._has_state else {}
        if seen != self._last:  # most steps change nothing, and need no memory
            self._last = seen
        return self._last

    def at_the_end(self) -> dict[str, str]:
        """What is seen after the replay."""
        return self(self._state)

    def forget(self) -> None:
        """Let go of the state."""
        self._state, self._predictors = None, []

    def names(self, seen: Sequence[Mapping[str, str]]) -> list[str]:
        """What is worth being shown: all that was asked for; by default what changes, and every lock and shape."""
        known = list(dict.fromkeys(name for facts in seen for name in facts))
        if self._look is not None:
            return known
        changing = {name for name in known if len({facts[name] for facts in seen if name in facts}) > 1}
        return [name for name in known if name in changing or name.endswith(("lock", "head.shape"))] or known[:12]

    def _facts(self, state: Any) -> Iterator[tuple[str, str]]:
        if _is_known(state):
            yield from self._of_model(state, "")
            return
        for name, part in _parts(state):
            if name.startswith("_"):
                continue
            if _is_known(part):
                yield from self._of_model(part, f"{name}: ")
            elif isinstance(part, _LOCKS):
                yield name if name.endswith("lock") else f"{name}, a lock", _held(part)
            elif (text := _plain(part)) is not None:
                yield name, text

    def _of_model(self, model: Any, of: str) -> Iterator[tuple[str, str]]:
        predictor = vars(model).get("predictor")
        if predictor is not None:
            if not any(predictor is known for known in self._predictors):
                self._predictors.append(predictor)
            number = next(i for i, known in enumerate(self._predictors, 1) if known is predictor)
            yield f"{of}predictor", f"predictor {number}"
            for name, value in vars(getattr(predictor, "args", object)).items():
                yield f"{of}predictor.args.{name}", _short(value)
            if isinstance(lock := getattr(predictor, "_lock", None), _LOCKS):
                yield f"{of}the predictor's lock", _held(lock)
        elif "predictor" in vars(model):
            yield f"{of}predictor", "none yet"
        head = _head(predictor) or _head(model)
        if head is not None:
            yield f"{of}head.shape", _shape(head.shape)


def _is_known(thing: Any) -> bool:
    """Whether it is a YOLO model, or a network with a head that remembers a shape."""
    return "predictor" in getattr(thing, "__dict__", {}) or _head(thing) is not None


def _head(thing: Any) -> Any:
    """The last layer of the network inside, if it remembers a shape."""
    for _ in range(_DEPTH):
        thing = getattr(thing, "model", None)
        if thing is None or isinstance(thing, str):
            return None
        if hasattr(thing, "__getitem__"):
            last = thing[-1] if len(thing) else None
            return last if hasattr(last, "shape") else None
    return None


def _parts(state: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(state, Mapping):
        yield from ((str(name), part) for name, part in list(state.items()))
    elif isinstance(state, list | tuple):
        yield from ((f"[{i}]", part) for i, part in enumerate(state))
    else:
        yield from list(getattr(state, "__dict__", {}).items())


def _plain(value: Any) -> str | None:
    """A number, a text, or a container of such; None for things whose text may take long."""
    if isinstance(value, _SCALARS):
        return _short(value)
    if isinstance(value, dict):
        parts: list[Any] = [*value.keys(), *value.values()]
    elif isinstance(value, list | tuple | set | frozenset):
        parts = list(value)
    else:
        return None
    return _short(value) if all(isinstance(part, _SCALARS) for part in parts) else f"{len(value)} of them"


def _short(value: Any) -> str:
    text = " ".join((value if isinstance(value, str) else reprlib.repr(value)).split())
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _shape(shape: Any) -> str:
    return "none yet" if shape is None else " × ".join(map(str, shape))


def _held(lock: Any) -> str:
    return f"held by {who}" if (who := holder(lock)) else "free"


def _answer(ask: Callable[..., Any], arguments: tuple[Any, ...]) -> str:
    try:
        answer = ask(*arguments)
        return _held(answer) if isinstance(answer, _LOCKS) else _short(answer) or "–"
    except Exception as error:  # what looks on must not change what happens
        return _short(f"{type(error).__name__}: {error}")
