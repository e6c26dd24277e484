"""Results of attempts, `Evidence` and `Try`, and what attempts share: models, pictures, pools, threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from yolothreads.detections import same
from yolothreads.devices import torch_threads_kept
from yolothreads.pools import Pool, make_pool
from yolothreads.races import RIGHT, WRONG, Exploration, Rate, rate
from yolothreads.scenes import scene
from yolothreads.weights import bundled

if TYPE_CHECKING:
    from ultralytics import YOLO

REPRODUCED, NOT_REPRODUCED, NOT_APPLICABLE = "reproduced", "not reproduced", "not applicable"
_WORDS = {"fully": "gone here", "in part": "not found so far", "not": "not tried"}

SIDE = 160  # pixels; a prediction then takes about 15 ms
DEADLINE_S = 60.0  # of every wait that should not take long


@dataclass(frozen=True)
class Evidence:
    """Result of one forced attempt on the installed version of ultralytics.

    `schedule` is a string for `replay`, or empty. `tried` is "in part" if the time ended before every schedule was run,
    and "not" if the attempt was not possible: then nothing is known.
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

    @classmethod
    def of_found(cls, found: Exploration) -> Evidence:
        """Make it from an exploration."""
        if not found.forbidden:
            return cls(False, found.verdict, tried="fully" if found.safe else "in part")
        bad = found.forbidden[0]
        share = f"{len(found.forbidden)} of {found.schedules} schedules"
        detail = bad.detail.splitlines()[0]
        return cls(True, f"{share}; first: {bad.kind}, {detail}, stopped before {bad.where}", bad.schedule)

    @classmethod
    def of_answers(cls, answers: Mapping[str, bool]) -> Evidence:
        """Make it from statements, of which any that is true is evidence."""
        return cls(any(answers.values()), "; ".join(f"{what}: {'yes' if so else 'no'}" for what, so in answers.items()))


@dataclass(frozen=True)
class Try:
    """Result of one hazard against one pool: `bad` of `count` schedules (out of `total`) or trials."""

    word: str
    bad: int = 0
    count: int = 0
    unit: str = "trial"
    total: int = 0
    reason: str = ""

    def __str__(self) -> str:
        if self.word == NOT_APPLICABLE:
            return self.word
        units = f"{self.unit}{'s' * (self.count > 1)}"
        if self.word == REPRODUCED:
            return f"{self.word} ({self.bad} of {self.count} {units})"
        of = f" of {self.total}" if self.total > self.count else ""
        return f"{self.word} within {self.count}{of} {units}"

    @classmethod
    def of(cls, bad: int, count: int, reason: str = "") -> Try:
        """Make it from the number of bad trials among `count`, with a reason."""
        return cls(REPRODUCED if bad else NOT_REPRODUCED, bad, count, reason=reason)

    @classmethod
    def of_found(cls, found: Exploration) -> Try:
        """Make it from an exploration."""
        bad = len(found.forbidden)
        reason = f"not controlled: {', '.join(found.uncontrolled)}" if found.uncontrolled else ""
        if bad:
            reason = f"{found.forbidden[0].detail} before {found.forbidden[0].where}"
        return cls(REPRODUCED if bad else NOT_REPRODUCED, bad, found.schedules, "schedule", found.total, reason)


@contextmanager
def quiet_ultralytics() -> Iterator[None]:
    """Silence ultralytics' logger and keep torch's thread count, until the end of the block."""
    from ultralytics.utils import LOGGER

    with mock.patch.object(LOGGER, "disabled", True), torch_threads_kept():
        yield


def new_model() -> YOLO:
    """Load the bundled model, and do not use it yet."""
    from ultralytics import YOLO

    model = YOLO(bundled())
    model.overrides.update(imgsz=SIDE, device="cpu", verbose=False)
    return model


def warm_model() -> YOLO:
    """Load the bundled model, and make a first prediction."""
    model = new_model()
    model.predict(picture(0))
    return model


def picture(seed: int, shape: tuple[int, int] = (SIDE, SIDE)) -> NDArray[np.uint8]:
    """Return a scene as an array of (H, W, 3) uint8, BGR."""
    return scene(seed, shape).image


def pool_of_two(kind: type[Pool], weights: Any = "bundled", **settings: Any) -> Pool:
    """Make a pool of small images with two workers on the CPU; it is not open yet."""
    return make_pool(kind, weights, workers=2, device="cpu", imgsz=SIDE, **settings)


def run_together(*bodies: Callable[[], Any]) -> list[Any]:
    """Run functions in threads that begin at the same moment; return their results in order, or raise an error."""
    everyone = threading.Barrier(len(bodies))

    def run(body: Callable[[], Any]) -> Any:
        everyone.wait(DEADLINE_S)
        return body()

    with ThreadPoolExecutor(len(bodies), thread_name_prefix="hazard") as threads:
        return [future.result(DEADLINE_S) for future in [threads.submit(run, body) for body in bodies]]


def rate_together(
    state: Any, bodies: list[Callable[[Any], Any]], trials: int, restore: Callable[[Any], None] = lambda state: None
) -> Rate:
    """Run functions of one model or pool at the same time, unforced, and compare with the results of each alone."""
    wanted = [body(state) for body in bodies]

    def trial(i: int) -> str:
        restore(state)
        return RIGHT if same(run_together(*[lambda body=b: body(state) for b in bodies]), wanted) else WRONG

    return rate(trial, trials)
