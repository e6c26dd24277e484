"""Exercises on what threads may share: lessons 02, 04, 05 and 06."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

from yolothreads.errors import ExploreError
from yolothreads.lessons.exercises.exercise import CheckFailed, Function
from yolothreads.races import RIGHT, WRONG, Trial, explore

if TYPE_CHECKING:
    import torch

_SEARCH_S = 60.0  # a correct answer takes a tenth of a second
_ENOUGH_S = 2.0  # then a search that has found something wrong may end


class _KeepsConf:
    """The smallest model that a switch can break: it keeps `conf` on itself, as YOLO keeps the arguments of a call."""

    def predict(self, image: int, conf: float = 0.25) -> tuple[int, float]:
        """Return the image and the `conf` that was really used for it."""
        self.conf = conf
        return self._run(image)

    def _run(self, image: int) -> tuple[int, float]:
        return image, self.conf

    def stream(self, image: int, conf: float = 0.25) -> Iterator[tuple[int, float]]:
        """Yield three results of an image, each made when it is taken, as with `stream=True`."""
        self.conf = conf
        return self._parts(image)

    def _parts(self, image: int) -> Iterator[tuple[int, float]]:
        for part in range(3):
            yield 10 * image + part, self.conf


def _explore(*bodies: Callable[..., Any], setup: Callable[[], Any], watch: list[Any]) -> None:
    """Run the bodies under every schedule with up to two preemptions; raise CheckFailed if any of them goes wrong."""
    begin, wrong = monotonic(), list[Trial]()
    try:
        found = explore(
            *bodies,
            setup=setup,
            watch=watch,
            preemptions=2,
            budget_s=_SEARCH_S,
            max_steps=1000,
            on_trial=lambda trial: None if trial.kind == RIGHT else wrong.append(trial),
            stop=lambda: bool(wrong) and monotonic() - begin > _ENOUGH_S,
        )
    except ExploreError as error:
        raise CheckFailed(f"Your function could not be explored. {error}") from None
    if found.safe:
        return
    if not found.forbidden:
        raise CheckFailed(found.verdict)
    bad = found.forbidden[0]
    count = sum(trial.kind == bad.kind for trial in found.forbidden)
    if bad.kind == WRONG:
        one, other = bad.results
        detail = f'With a switch just before "{bad.where.text}", the threads got {one!r} and {other!r}'
    else:
        detail = bad.detail.partition("\n")[0].removesuffix(".")
    raise CheckFailed(f"{count} of {found.schedules} schedules ended with: {bad.kind}. {detail}.")


def check_make_detector(make_detector: Function) -> None:
    """Check that two calls are each answered with their own `conf`, under every schedule."""
    answers: dict[tuple[int, float], Any] = {(1, 0.25): None, (2, 0.75): None}

    def call(detect: Function, image: int, conf: float) -> Any:
        answers[image, conf] = detect(image, conf)
        return answers[image, conf]

    _explore(
        *(partial(call, image=image, conf=conf) for image, conf in answers),
        setup=lambda: make_detector(_KeepsConf),
        watch=[make_detector, _KeepsConf],
    )
    for (image, conf), got in answers.items():
        _check_call(image, conf, got)


def _check_call(image: int, conf: float, got: Any) -> None:
    if got != (image, conf):
        raise CheckFailed(f"The call for image {image} with conf={conf} was answered with {got!r}.")


def check_make_worker(make_worker: Function) -> None:
    """Check that two threads load one model each and are answered by it, under every schedule."""
    runs: list[list[_KeepsConf]] = []

    def setup() -> Any:
        made: list[_KeepsConf] = []
        runs.append(made)

        def load() -> _KeepsConf:
            made.append(_KeepsConf())
            return made[-1]

        return make_worker(load)

    def call(detect: Function, images: tuple[int, int], conf: float) -> list[Any]:
        return [detect(image, conf) for image in images]

    _explore(
        partial(call, images=(1, 2), conf=0.25),
        partial(call, images=(3, 4), conf=0.75),
        setup=setup,
        watch=[make_worker, _KeepsConf],
    )
    _check_call(1, 0.25, make_worker(_KeepsConf)(1, 0.25))
    if loads := {len(made) for made in runs} - {2}:
        raise CheckFailed(f"2 threads that did 2 images each loaded {max(loads)} model{'s' * (max(loads) != 1)}.")


def check_detect_all(detect_all: Function) -> None:
    """Check that two callers get lists of all their own results, under every schedule."""
    kinds: set[str] = set()

    def call(model: _KeepsConf, image: int, conf: float) -> list[Any]:
        got = detect_all(model, image, conf)
        kinds.add(type(got).__name__)
        return list(got)

    asked = [(1, 0.25), (2, 0.75)]
    _explore(
        *(partial(call, image=image, conf=conf) for image, conf in asked),
        setup=_KeepsConf,
        watch=[detect_all, _KeepsConf],
    )
    for image, conf in asked:
        model = _KeepsConf()
        if (got := list(detect_all(model, image, conf))) != (wanted := list(model.stream(image, conf))):
            raise CheckFailed(f"The results of image {image} with conf={conf} were {got!r} instead of {wanted!r}.")
    if kinds != {"list"}:
        raise CheckFailed(f"The results came as a {', '.join(sorted(kinds))}; the task asks for a list.")


def _network() -> torch.nn.Sequential:
    """Return a small network with weights and buffers, whose last layer caches, as the head of YOLO does."""
    import torch

    class Head(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(6, 2)
            self.shape: Any = None
            self.met: list[Any] = []

        def forward(self, features: torch.Tensor) -> torch.Tensor:
            if self.shape != features.shape:
                self.grid, self.shape = torch.arange(float(len(features)))[:, None], features.shape
                self.met.append(features.shape)
            out: torch.Tensor = self.linear(features) + self.grid
            return out

    layers: list[torch.nn.Module] = [torch.nn.Linear(4, 6), torch.nn.BatchNorm1d(6), Head()]
    return torch.nn.Sequential(*layers).eval()


def check_make_replica(make_replica: Function) -> None:
    """Check that a replica has the network's own tensors, a head of its own, and the same output."""
    import torch

    network, given = _network(), torch.linspace(-1, 1, 12).reshape(3, 4)
    with torch.no_grad():
        wanted, before = network(given), _addresses(network)
        replica = make_replica(network)
        if type(replica) is not type(network):
            raise CheckFailed(f"Your function returned a {type(replica).__name__} for a {type(network).__name__}.")
        if _addresses(network) != before:
            raise CheckFailed("The tensors of the given network were replaced.")
        theirs = _addresses(replica)
        if apart := [name for name in before if theirs.get(name) != before[name]]:
            raise CheckFailed(f"{len(apart)} of {len(before)} tensors are not shared, for example {apart[-1]}.")
        _check_caches(network, replica, given)
        if not torch.equal(replica(given), wanted):
            raise CheckFailed("The replica gave another output than the network.")


def _addresses(network: torch.nn.Module) -> dict[str, int]:
    """Return the memory address of every parameter and buffer."""
    parameters = {f'the parameter "{name}"': tensor.data_ptr() for name, tensor in network.named_parameters()}
    return parameters | {f'the buffer "{name}"': tensor.data_ptr() for name, tensor in network.named_buffers()}


def _check_caches(network: Any, replica: Any, given: torch.Tensor) -> None:
    """Check that the use of each of the two changes nothing in the head of the other."""
    import torch

    names = {id(network): "network", id(replica): "replica"}
    for rows, used, other in ((2, replica, network), (3, network, replica)):
        shape, met = other[-1].shape, len(other[-1].met)
        used(torch.cat([given] * rows))  # a shape that neither has met
        if (other[-1].shape, len(other[-1].met)) != (shape, met):
            raise CheckFailed(f"Using the {names[id(used)]} changed what the head of the {names[id(other)]} keeps.")
