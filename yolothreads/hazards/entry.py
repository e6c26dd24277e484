"""What a hazard is, what a try of it gives, and what tries need: models, pictures, threads that begin together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from yolothreads import weights
from yolothreads.errors import ExploreError
from yolothreads.pools import Pool, make_pool
from yolothreads.races import Exploration, Rate
from yolothreads.scenes import scene

if TYPE_CHECKING:
    from ultralytics import YOLO

SIDE = 160  # pixels; a prediction then takes about 15 ms
DEADLINE_S = 60.0  # of every wait that should not take long
REPRODUCED, NOT_REPRODUCED, NOT_APPLICABLE = "reproduced", "not reproduced", "not applicable"
_WORDS = {"fully": "gone here", "in part": "not found so far", "not": "not tried"}


@dataclass(frozen=True)
class Evidence:
    """What one forced try showed on the installed version of ultralytics.

    `schedule` is a string for `replay` where there is one. `tried` is "in part" if the time ended before every schedule
    was run, and "not" if the try itself was not possible: then nothing is known.
    """

    reproduced: bool
    detail: str
    schedule: str = ""
    tried: Literal["fully", "in part", "not"] = "fully"

    @property
    def word(self) -> str:
        """The verdict: reproduced, gone here, not found so far, or not tried."""
        return REPRODUCED if self.reproduced else _WORDS[self.tried]

    def __str__(self) -> str:
        import ultralytics

        return f"{self.word} (ultralytics {ultralytics.__version__}): {self.detail}"


@dataclass(frozen=True)
class Try:
    """What a hazard did to one pool: `bad` of `count` schedules or trials; `total` are the schedules there are."""

    word: str
    bad: int = 0
    count: int = 0
    unit: str = "trial"
    total: int = 0
    reason: str = ""

    def __str__(self) -> str:
        if self.word == NOT_APPLICABLE:
            return self.word
        if self.word == REPRODUCED:
            return f"{self.word} ({self.bad} of {self.count} {self.unit}{'s' * (self.count > 1)})"
        of = f" of {self.total}" if self.total > self.count else ""
        return f"{self.word} within {self.count}{of} {self.unit}{'s' * (self.count > 1)}"

    @classmethod
    def of(cls, bad: int, count: int, reason: str = "") -> Try:
        """The try that so many trials were, with what was seen in them."""
        return cls(REPRODUCED if bad else NOT_REPRODUCED, bad, count, reason=reason)

    @classmethod
    def of_found(cls, found: Exploration) -> Try:
        """The try that an exploration was."""
        bad = len(found.forbidden)
        reason = f"{found.forbidden[0].detail} before {found.forbidden[0].where}" if bad else ""
        if not bad and found.uncontrolled:
            reason = f"not controlled: {', '.join(found.uncontrolled)}"
        return cls(REPRODUCED if bad else NOT_REPRODUCED, bad, found.schedules, "schedule", found.total, reason)


@dataclass(frozen=True)
class Hazard:
    """One way in which concurrent use of YOLO goes wrong.

    Args:
        status: "seen" or "seen in part" if it was reproduced, "read" if it is known from the source alone.
        symptom, remedy: one sentence each.
        forcing: how it is forced, in words.
        touches: the names of the pools that it can touch.
        versions: where it was seen.
        force: the forced try; None for what is only read.
        meet: (pool class, seconds) -> what it does to that pool; None for what is only read.
        chance: number of trials -> how often it comes by itself; None where chance plays no part.
        apart: both tries run in processes of their own, and may run beside one another.
    """

    id: str
    title: str
    status: str
    symptom: str
    remedy: str
    forcing: str
    touches: tuple[str, ...]
    versions: str = "seen on 8.4.190"
    force: Callable[[], Evidence] | None = field(default=None, repr=False)
    meet: Callable[[type[Pool], float], Try] | None = field(default=None, repr=False)
    chance: Callable[[int], Rate] | None = field(default=None, repr=False)
    apart: bool = False

    def forced(self) -> Evidence:
        """Force it on the installed version; says so where it is gone, or where it could not be tried."""
        if self.force is None:
            return Evidence(False, f"known from the source alone; {self.forcing}", tried="not")
        try:
            with nullcontext() if self.apart else tidy():
                return self.force()
        except (AttributeError, ImportError, KeyError, TypeError, ExploreError, OSError) as error:
            # Internals of another version look different: that says nothing about the hazard itself.
            return Evidence(False, f"could not be tried here ({type(error).__name__}: {error})", tried="not")

    def natural(self, trials: int = 60) -> Rate | None:
        """How often it comes by itself in so many unforced trials; None where chance plays no part."""
        if self.chance is None:
            return None
        with tidy():
            return self.chance(trials)

    def against(self, pool: type[Pool], budget_s: float = 5.0) -> Try:
        """Try it against a pool, for about `budget_s` seconds where schedules are explored."""
        if self.meet is None:
            return Try(NOT_APPLICABLE, reason=f"known from the source alone; {self.forcing}")
        try:
            with nullcontext() if self.apart else tidy():
                return self.meet(pool, budget_s)
        except Exception as error:
            return Try(NOT_APPLICABLE, reason=f"could not be tried ({type(error).__name__}: {error})")


def told(found: Exploration) -> Evidence:
    """The evidence that an exploration gives."""
    if not found.forbidden:
        return Evidence(False, found.verdict, tried="fully" if found.safe else "in part")
    bad = found.forbidden[0]
    share = f"{len(found.forbidden)} of {found.schedules} schedules"
    detail = bad.detail.splitlines()[0]
    return Evidence(True, f"{share}; first: {bad.kind}, {detail}, stopped before {bad.where}", bad.schedule)


@contextmanager
def tidy() -> Iterator[None]:
    """Keeps ultralytics quiet, and gives torch its thread count back, which every set-up changes."""
    import torch
    from ultralytics.utils import LOGGER

    count, disabled = torch.get_num_threads(), LOGGER.disabled
    LOGGER.disabled = True
    try:
        yield
    finally:
        LOGGER.disabled = disabled
        torch.set_num_threads(count)


@contextmanager
def noted(owner: Any, name: str, note: Callable[[], Any]) -> Iterator[list[Any]]:
    """Keeps what `note()` gives at each call of a method, as long as the block lasts."""
    original, seen = getattr(owner, name), []

    def noting(*args: Any, **kwargs: Any) -> Any:
        seen.append(note())
        return original(*args, **kwargs)

    with mock.patch.object(owner, name, noting):
        yield seen


def fresh() -> YOLO:
    """The bundled model, loaded and not used yet."""
    from ultralytics import YOLO

    model = YOLO(weights.bundled())
    model.overrides.update(imgsz=SIDE, device="cpu", verbose=False)
    return model


def warm() -> YOLO:
    """The bundled model after its first prediction."""
    model = fresh()
    model.predict(picture(0))
    return model


def picture(seed: int, shape: tuple[int, int] = (SIDE, SIDE)) -> NDArray[np.uint8]:
    """A scene of (H, W, 3) uint8, BGR."""
    return scene(seed, shape).image


def small(pool: type[Pool], **settings: Any) -> Pool:
    """A pool of the bundled model with two workers on the CPU, not open yet."""
    return make_pool(pool, weights.bundled(), workers=2, device="cpu", imgsz=SIDE, **settings)


def together(*bodies: Callable[[], Any]) -> list[Any]:
    """Run functions in threads that begin at the same moment; gives what each gave, or its exception."""
    everyone = threading.Barrier(len(bodies))

    def run(body: Callable[[], Any]) -> Any:
        everyone.wait(DEADLINE_S)
        return body()

    with ThreadPoolExecutor(len(bodies), thread_name_prefix="hazard") as threads:
        futures = [threads.submit(run, body) for body in bodies]
        return [future.exception(DEADLINE_S) or future.result() for future in futures]
