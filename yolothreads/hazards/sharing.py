"""Hazards of one model that several threads use: arguments, set-up, anchors, trackers, and its locks."""

from __future__ import annotations

import concurrent.futures
import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from yolothreads import pools
from yolothreads.detections import explore, outcome, same
from yolothreads.errors import ArgumentError, ExploreError, WeightsError
from yolothreads.hazards.fixtures import DEADLINE_S, SIDE, make_pool, new_model, picture, run_together, spy, warm_model
from yolothreads.hazards.hazard import NOT_APPLICABLE, Evidence, Try, evidence_of
from yolothreads.pools import Pool, RemotePool
from yolothreads.races import RIGHT, WRONG, Rate, rate

if TYPE_CHECKING:
    from ultralytics import YOLO

Ask = tuple[NDArray[np.uint8], Mapping[str, Any]]
_FORCE_S = 20.0  # of an exploration; it ends earlier where every schedule was run
_POOL_TRIALS, _FEW = 30, 10  # so many natural trials where fewer schedules than this were run in time
_WIDE, _TALL = (64, 96), (96, 64)


def _submits(asks: Sequence[Ask]) -> list[Callable[[Pool], Any]]:
    def body(image: Any, settings: Mapping[str, Any]) -> Callable[[Pool], Any]:
        return lambda pool: pool.submit(image, **settings).result(timeout=DEADLINE_S)

    return [body(*ask) for ask in asks]


def _explored(pool: type[Pool], asks: Sequence[Ask], watch: Sequence[Any], budget_s: float) -> Try:
    """Explore two calls into one open pool, or run natural trials if that reaches too few schedules."""
    if issubclass(pool, RemotePool):  # its lines run in another process
        return _met(pool, asks)
    warm_model()  # else the first prediction of the process would use up the budget
    try:
        found = explore(
            *_submits(asks), setup=lambda: make_pool(pool), restore=lambda opened: None, watch=watch, budget_s=budget_s
        )
    except ExploreError as error:
        if "ran no line" not in str(error):  # its lines run in another process
            raise
        return _met(pool, asks)
    few = found.schedules < _FEW and not found.exhausted and not found.forbidden
    return _met(pool, asks) if few else Try.of_found(found)


def _met(pool: type[Pool], asks: Sequence[Ask]) -> Try:
    with make_pool(pool) as opened:
        bodies = _submits(asks)
        wanted = [body(opened) for body in bodies]

        def trial(i: int) -> str:
            futures = [opened.submit(image, **settings) for image, settings in asks]
            return outcome([f.exception(DEADLINE_S) or f.result() for f in futures], wanted)

        counted = rate(trial, _POOL_TRIALS)
    return Try.of(counted.trials - counted[RIGHT], counted.trials)


# argument-leak: the settings of one call overwrite those of another


def _asks() -> list[Ask]:
    return [(picture(3), {"max_det": 1}), (picture(3), {"max_det": 300})]


def force_leak() -> Evidence:
    """Explore two calls with different `max_det` on one warm model, by the lines of `Model.predict`."""
    model = warm_model()
    bodies = [_predicts(image, settings) for image, settings in _asks()]
    return evidence_of(explore(*bodies, setup=lambda: model, watch=[type(model).predict], budget_s=_FORCE_S))


def _predicts(image: Any, settings: Mapping[str, Any]) -> Callable[[Any], Any]:
    return lambda model: model.predict(image, **settings)[0]


def natural_leak(trials: int) -> Rate:
    """Run the same two calls at the same time, unforced."""
    model = warm_model()
    bodies = [_predicts(image, settings) for image, settings in _asks()]
    wanted = [body(model) for body in bodies]
    return rate(lambda i: outcome(run_together(*[lambda body=b: body(model) for b in bodies]), wanted), trials)


def leak_in(pool: type[Pool], budget_s: float) -> Try:
    """Explore two calls into a pool that differ in `max_det`."""
    from ultralytics.engine.model import Model

    return _explored(pool, _asks(), [Model.predict], budget_s)


# first-call: a predictor that others can see before it is set up


def _edited() -> YOLO:
    """Return a model with weights changed in memory: it finds nothing, unless they are read from the disc again."""
    model = new_model()
    for branch in model.model.model[-1].cv3:
        branch[-1].bias.data -= 30
    return model


def _unused(model: YOLO) -> None:
    model.predictor = None


def force_first() -> Evidence:
    """Explore two first calls of one model with weights edited in memory, by the lines of `Model.predict`."""
    model, image = _edited(), picture(3)
    first = _predicts(image, {})
    return evidence_of(
        explore(first, first, setup=lambda: model, restore=_unused, watch=[type(model).predict], budget_s=_FORCE_S)
    )


def natural_first(trials: int) -> Rate:
    """Make three first calls at the same time."""
    model, image = _edited(), picture(3)
    wanted = [model.predict(image)[0]] * 3

    def trial(i: int) -> str:
        _unused(model)
        return outcome(run_together(*[lambda: model.predict(image)[0]] * 3), wanted)

    return rate(trial, trials)


def first_in(pool: type[Pool], budget_s: float) -> Try:
    """The first two calls into a pool just opened, again and again; it must not set a model up in them."""
    from ultralytics.engine.predictor import BasePredictor

    asks: list[Ask] = [(picture(3), {}), (picture(4), {})]
    wanted = [warm_model().predict(image)[0] for image, _ in asks]
    bad = count = 0
    until = perf_counter() + budget_s
    while not count or perf_counter() < until:
        with make_pool(pool) as opened, spy(BasePredictor, "setup_model", lambda: 1) as setups:
            futures = [opened.submit(image) for image, _ in asks]
            got = [future.exception(DEADLINE_S) or future.result() for future in futures]
        bad += bool(setups) or outcome(got, wanted) != RIGHT
        count += 1
    return Try.of(bad, count)


# setup-keys: settings that rebuild the predictor


def _set_ups(ask: Callable[..., Any]) -> int:
    """Count the set-ups of a model while calls alternate between two settings that were both used before."""
    from ultralytics.engine.predictor import BasePredictor

    trackers = ("botsort.yaml", "bytetrack.yaml")
    for tracker in trackers:
        ask(picture(3), tracker=tracker)
    with spy(BasePredictor, "setup_model", lambda: 1) as setups:
        for i in range(4):
            ask(picture(3), tracker=trackers[i % 2])
    return len(setups)


def force_setup() -> Evidence:
    """Alternate one setting, and count the set-ups."""
    count = _set_ups(warm_model().predict)
    return Evidence(count > 0, f"{count} set-ups in 4 calls that alternate between two trackers, both used before")


def setup_in(pool: type[Pool], budget_s: float) -> Try:
    """Do the same through a pool, if it takes such a setting."""
    with make_pool(pool) as opened:
        try:
            count = _set_ups(lambda image, **settings: opened.submit(image, **settings).result(DEADLINE_S))
        except ArgumentError as error:
            return Try(NOT_APPLICABLE, reason=f"the pool refuses it: {error}")
    return Try.of(count, 4)


# anchor-cache: one network, two shapes


def _network() -> tuple[Any, list[Callable[[Any], Any]]]:
    import torch

    def detects(shape: tuple[int, int]) -> Callable[[Any], Any]:
        pixels = torch.from_numpy(picture(5, shape).transpose(2, 0, 1)[None] / np.float32(255))

        def body(network: Any) -> Any:
            with torch.inference_mode():
                rows = network(pixels)[0][0].T  # x, y, width, height, a score for each class
                score, kind = rows[:, 4:].max(1, keepdim=True)
                return torch.cat([rows[:, :4], score, kind], 1)[score[:, 0] > 0.25]

        return body

    return new_model().model.eval(), [detects(_WIDE), detects(_TALL)]


def force_anchors() -> Evidence:
    """Explore two shapes through one raw network, by the lines of its head."""
    network, bodies = _network()
    return evidence_of(explore(*bodies, setup=lambda: network, watch=[type(network.model[-1])], budget_s=_FORCE_S))


def natural_anchors(trials: int) -> Rate:
    """Run the two shapes at the same time, twice each."""
    network, bodies = _network()
    wanted = [body(network) for body in bodies] * 2

    def trial(i: int) -> str:
        got = run_together(*[lambda body=b: body(network) for b in bodies * 2])
        errors = [result for result in got if isinstance(result, Exception)]
        if errors:
            raise errors[0]
        return RIGHT if all(same(a, b) for a, b in zip(got, wanted, strict=True)) else WRONG

    return rate(trial, trials)


def anchors_in(pool: type[Pool], budget_s: float) -> Try:
    """Explore two shapes through a pool."""
    from ultralytics.nn.modules.head import Detect

    return _explored(pool, [(picture(5, _WIDE), {}), (picture(5, _TALL), {})], [Detect], budget_s)


# tracker-mix: one model follows two cameras


def _ids(model: YOLO, frame: NDArray[np.uint8]) -> list[int]:
    boxes = model.track(frame, persist=True)[0].boxes
    return [] if boxes.id is None else sorted(int(i) for i in boxes.id)


def force_trackers() -> Evidence:
    """Track two cameras in turn with one model, and compare the ids with those of one model per camera."""
    import_module("lap")  # else ultralytics would install it by itself
    cameras = [[np.roll(picture(seed), 2 * i, axis=1) for i in range(6)] for seed in (3, 4)]
    alone = []
    for frames in cameras:
        model = new_model()
        alone.append([_ids(model, frame) for frame in frames])
    shared = new_model()
    mixed = [[_ids(shared, frames[i]) for frames in cameras] for i in range(6)]
    other = sum(mixed[i][camera] != alone[camera][i] for camera in range(2) for i in range(6))
    return Evidence(other > 0, f"{other} of 12 frames got other track ids than with a model for each camera")


def trackers_in(pool: type[Pool], budget_s: float) -> Try:
    """Return that it does not apply: pools that only detect follow no object."""
    tracks = hasattr(pool, "track")
    return Try(NOT_APPLICABLE, reason="its track() is not known here" if tracks else "the pool has no track()")


# aliasing: two names, one model


def force_aliases() -> Evidence:
    """Make a second model from a first one, in two ways, and find what they share."""
    from ultralytics import YOLO

    model = new_model()
    wrapped, copied = YOLO(model), copy.copy(model)
    shares = {
        "YOLO(model) shares its whole state": wrapped.__dict__ is model.__dict__,
        "copy.copy(model) shares the network": copied.model is model.model,
        "copy.copy(model) shares the callbacks": copied.callbacks is model.callbacks,
    }
    return Evidence(any(shares.values()), "; ".join(f"{what}: {'yes' if so else 'no'}" for what, so in shares.items()))


def aliases_in(pool: type[Pool], budget_s: float) -> Try:
    """Give a pool a model instead of weights, and find out whether it uses the caller's own."""
    model = new_model()
    try:
        with pools.make_pool(pool, model, workers=2, device="cpu", imgsz=SIDE) as opened:
            opened.submit(picture(3)).result(DEADLINE_S)
    except (TypeError, WeightsError, ArgumentError):
        return Try(NOT_APPLICABLE, reason="the pool refuses a model: it takes weights, and loads them itself")
    return Try.of(int(model.predictor is not None), 1)


# stream-holds-lock and lock-scope: limits of the locks of ultralytics

Streams = list[Any]
_ANSWER_S = 10.0  # a prediction takes 15 ms here; one that waits for a lock never comes


@contextmanager
def _model_and_streams() -> Iterator[tuple[YOLO, Streams]]:
    """Yield a model and the list of streams begun with it. Closing the streams at the end releases their locks."""
    streams: Streams = []
    try:
        yield warm_model(), streams
    finally:
        for stream in streams:
            stream.close()


def _take_one(state: tuple[YOLO, Streams]) -> Any:
    model, streams = state
    streams.append(model.predict([picture(3), picture(4)], stream=True))
    return next(streams[-1])


def force_stream() -> Evidence:
    """Explore: A takes one result of a stream and keeps the stream; B predicts."""
    bodies = _take_one, lambda state: state[0].predict(picture(5))[0]
    return evidence_of(
        explore(*bodies, setup=_model_and_streams, watch=["ultralytics.engine"], preemptions=0, budget_s=20.0)
    )


def stream_in(pool: type[Pool], budget_s: float) -> Try:
    """Take one result of `map`, keep the rest, and ask for another image."""
    with make_pool(pool) as opened:
        results = opened.map([picture(seed) for seed in range(6)])
        try:
            next(results)
            opened.submit(picture(6)).result(_ANSWER_S)
        except concurrent.futures.TimeoutError:
            return Try.of(1, 1, f"no answer within {_ANSWER_S:.0f} s beside a half-used map()")
        finally:
            results.close()  # type: ignore[attr-defined]
    return Try.of(0, 1)


def force_scope() -> Evidence:
    """Test inside a locked function whether its lock, and that of another decorator, can be acquired."""
    from ultralytics.utils import ThreadingLocked

    one, other = ThreadingLocked(), ThreadingLocked()

    def inside() -> dict[str, bool]:
        again = one.lock.acquire(blocking=False)
        if again:
            one.lock.release()
        return {"it is not re-entrant": not again, "another decorator does not exclude it": other(lambda: True)()}

    def stream() -> Iterator[bool]:
        yield one.lock.locked()

    limits = {**one(inside)(), "a generator runs without it": not next(one(stream)())}
    return Evidence(any(limits.values()), "; ".join(f"{what}: {'yes' if so else 'no'}" for what, so in limits.items()))


def scope_in(pool: type[Pool], budget_s: float) -> Try:
    """Return that it does not apply: `submit` is no generator, and calls no function of its caller."""
    return Try(NOT_APPLICABLE, reason="no caller gets inside its lock: submit() takes no function and is no generator")
