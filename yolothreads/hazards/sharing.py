"""Hazards of one model that several threads use: arguments, set-up, anchors, trackers, and its locks."""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from importlib import import_module
from time import perf_counter
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from yolothreads.detections import explore, same
from yolothreads.errors import ArgumentError, ExploreError
from yolothreads.hazards.attempts import (
    DEADLINE_S,
    NOT_APPLICABLE,
    Evidence,
    Try,
    new_model,
    picture,
    pool_of_two,
    rate_together,
    warm_model,
)
from yolothreads.pools import Pool, RemotePool
from yolothreads.races import RIGHT, Rate

if TYPE_CHECKING:
    from ultralytics import YOLO

Ask = tuple[NDArray[np.uint8], Mapping[str, Any]]
_FORCE_S = 20.0  # of an exploration; it ends earlier where every schedule was run
_POOL_TRIALS, _FEW = 30, 10  # so many natural trials where fewer schedules than this were run in time
_FIRST_S = 6.0  # of first calls into one kind of pool: these are trials, which no budget exhausts
_WIDE, _TALL = (64, 96), (96, 64)


def _predicts(image: Any, settings: Mapping[str, Any]) -> Callable[[Any], Any]:
    return lambda model: model.predict(image, **settings)[0]


def _submits(image: Any, settings: Mapping[str, Any]) -> Callable[[Pool], Any]:
    return lambda pool: pool.submit(image, **settings).result(DEADLINE_S)


def _explored(
    pool: type[Pool],
    asks: Sequence[Ask],
    watch: Sequence[Any],
    budget_s: float,
    restore: Callable[[Pool], None] = lambda opened: None,
) -> Try:
    """Explore two calls into one open pool until one goes wrong; or run trials if that reaches too few schedules."""
    if issubclass(pool, RemotePool):  # its lines run in another process
        return _met(pool, asks)
    warm_model()  # else the first prediction of the process would use up the budget
    kinds: set[str] = set()
    try:
        found = explore(
            *[_submits(*ask) for ask in asks], setup=lambda: pool_of_two(pool), restore=restore, watch=watch,
             budget_s=budget_s, on_trial=lambda trial: kinds.add(trial.kind), stop=lambda: kinds > {RIGHT},
        )  # fmt: skip
    except ExploreError as error:
        if "ran no line" not in str(error):
            raise
        return _met(pool, asks)  # the pool does without these lines
    few = found.schedules < _FEW and not found.exhausted and not found.forbidden
    return _met(pool, asks) if few else Try.of_found(found)


def _met(pool: type[Pool], asks: Sequence[Ask]) -> Try:
    with pool_of_two(pool) as opened:
        counted = rate_together(opened, [_submits(*ask) for ask in asks], _POOL_TRIALS)
    return Try.of(counted.trials - counted[RIGHT], counted.trials)


# argument-leak: the settings of one call overwrite those of another


def _asks() -> list[Ask]:
    return [(picture(3), {"max_det": 1}), (picture(3), {"max_det": 300})]


def force_leak() -> Evidence:
    """Explore two calls with different `max_det` on one warm model, by the lines of `Model.predict`."""
    model, bodies = warm_model(), [_predicts(*ask) for ask in _asks()]
    found = explore(*bodies, setup=lambda: model, watch=[type(model).predict], budget_s=_FORCE_S)
    return Evidence.of_found(found)


def natural_leak(trials: int) -> Rate:
    """Run the same two calls at the same time, unforced."""
    return rate_together(warm_model(), [_predicts(*ask) for ask in _asks()], trials)


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
    model, bodies = _edited(), [_predicts(picture(3), {})] * 2
    watch = [type(model).predict]
    return Evidence.of_found(explore(*bodies, setup=lambda: model, restore=_unused, watch=watch, budget_s=_FORCE_S))


def natural_first(trials: int) -> Rate:
    """Make three first calls at the same time."""
    return rate_together(_edited(), [_predicts(picture(3), {})] * 3, trials, _unused)


def first_in(pool: type[Pool], budget_s: float) -> Try:
    """The first two calls into a pool just opened, again and again; it must not set a model up in them."""
    images, model = [picture(3), picture(4)], warm_model()
    wanted = [model.predict(image)[0] for image in images]
    bad = count = 0
    until = perf_counter() + min(budget_s, _FIRST_S)
    while not count or perf_counter() < until:
        with pool_of_two(pool) as opened, _set_ups() as set_ups:
            futures = [opened.submit(image) for image in images]
            got = [future.exception(DEADLINE_S) or future.result() for future in futures]
        bad += set_ups.called or not same(got, wanted)
        count += 1
    return Try.of(bad, count)


def _set_ups() -> Any:
    """Count the calls that set a predictor up, until the end of the block."""
    from ultralytics.engine.predictor import BasePredictor

    return mock.patch.object(BasePredictor, "setup_model", autospec=True, side_effect=BasePredictor.setup_model)


# setup-keys: settings that rebuild the predictor


def _set_ups_of(ask: Callable[..., Any]) -> int:
    """Count the set-ups of a model while calls alternate between two settings that were both used before."""
    trackers = ("botsort.yaml", "bytetrack.yaml")
    for tracker in trackers:
        ask(picture(3), tracker=tracker)
    with _set_ups() as set_ups:
        for tracker in trackers * 2:
            ask(picture(3), tracker=tracker)
    return int(set_ups.call_count)


def force_setup() -> Evidence:
    """Alternate one setting, and count the set-ups."""
    count = _set_ups_of(warm_model().predict)
    return Evidence(count > 0, f"{count} set-ups in 4 calls that alternate between two trackers, both used before")


def setup_in(pool: type[Pool], budget_s: float) -> Try:
    """Do the same through a pool, if it takes such a setting."""
    with pool_of_two(pool) as opened:
        try:
            count = _set_ups_of(lambda image, **settings: opened.submit(image, **settings).result(DEADLINE_S))
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
    found = explore(*bodies, setup=lambda: network, watch=[type(network.model[-1])], budget_s=_FORCE_S)
    return Evidence.of_found(found)


def natural_anchors(trials: int) -> Rate:
    """Run the two shapes at the same time, twice each."""
    network, bodies = _network()
    return rate_together(network, bodies * 2, trials)


def anchors_in(pool: type[Pool], budget_s: float) -> Try:
    """Explore two shapes through a pool, whose heads forget the shapes of one run before the next."""
    from ultralytics.nn.modules.head import Detect

    heads: list[Detect] = []

    def forget_shapes(opened: Pool) -> None:
        if not heads:  # the models belong to the pool's workers, which give nobody access
            heads.extend(each for each in gc.get_objects() if issubclass(type(each), Detect))
        for head in heads:
            head.shape = None

    return _explored(pool, [(picture(5, _WIDE), {}), (picture(5, _TALL), {})], [Detect], budget_s, forget_shapes)


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
    """Return that it does not apply: pools only detect, and follow no object."""
    return Try(NOT_APPLICABLE, reason="the pool has no track()")


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
    return Evidence.of_answers(shares)


def aliases_in(pool: type[Pool], budget_s: float) -> Try:
    """Give a pool a model instead of weights, and find out whether either changes the other."""
    import torch

    model = new_model()
    before = _insides(model)
    with pool_of_two(pool, model) as opened:
        wanted = opened.submit(picture(3)).result(DEADLINE_S)
        changes_model = _insides(model) != before
        with torch.no_grad():
            for parameter in model.model.parameters():
                parameter.zero_()
        changes_pool = not same(opened.submit(picture(3)).result(DEADLINE_S), wanted)
    said = f"the pool changed the model: {changes_model}; a change of the model changed the pool: {changes_pool}"
    return Try.of(int(changes_model or changes_pool), 1, said)


def _insides(model: YOLO) -> list[Any]:
    """Return a copy of all that a model holds, as far as predictions use it."""
    tensors = [tensor.numpy().tobytes() for tensor in model.model.state_dict().values()]
    return [tensors, dict(model.overrides), model.predictor is None, model.model.training]


# stream-holds-lock and lock-scope: limits of the locks of ultralytics

_ANSWER_S = 10.0  # a prediction takes 15 ms here; one that waits for a lock never comes


@contextmanager
def _model_and_streams() -> Iterator[tuple[YOLO, ExitStack]]:
    """Yield a model, and a stack that closes the streams begun with it at the end, which releases their locks."""
    with ExitStack() as streams:
        yield warm_model(), streams


def _take_one(state: tuple[YOLO, ExitStack]) -> Any:
    model, streams = state
    return next(streams.enter_context(closing(model.predict([picture(3), picture(4)], stream=True))))


def force_stream() -> Evidence:
    """Explore: A takes one result of a stream and keeps the stream; B predicts."""
    bodies = _take_one, lambda state: state[0].predict(picture(5))[0]
    found = explore(*bodies, setup=_model_and_streams, watch=["ultralytics.engine"], preemptions=0, budget_s=_FORCE_S)
    return Evidence.of_found(found)


def stream_in(pool: type[Pool], budget_s: float) -> Try:
    """Take one result of `map`, keep the rest, and ask for another image."""
    with pool_of_two(pool) as opened:
        results = opened.map([picture(seed) for seed in range(6)])
        try:
            next(results)
            opened.submit(picture(6)).result(_ANSWER_S)
        except TimeoutError:
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
    return Evidence.of_answers(limits)


def scope_in(pool: type[Pool], budget_s: float) -> Try:
    """Return that it does not apply: `submit` is no generator, and calls no function of its caller."""
    return Try(NOT_APPLICABLE, reason="no caller gets inside its lock: submit() takes no function and is no generator")
