"""The exercise of lesson 06: share a network's tensors, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from yolothreads.lessons.exercises import Exercise

if TYPE_CHECKING:
    import torch


def _network() -> torch.nn.Sequential:
    """A small network with weights and buffers, whose last layer caches, as the head of YOLO does."""
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


def see_make_replica(make_replica: Callable[..., Any]) -> str | None:
    """Whether a replica has the network's own tensors and a head of its own, and gives what the network gives."""
    import torch

    network, given = _network(), torch.linspace(-1, 1, 12).reshape(3, 4)
    with torch.no_grad():
        wanted, before = network(given), _addresses(network)
        replica = make_replica(network)
        if type(replica) is not type(network):
            return f"your function gave {type(replica).__name__} for {type(network).__name__}."
        if _addresses(network) != before:
            return "the tensors of the given network were replaced."
        seen = _see_tensors(before, _addresses(replica)) or _see_caches(network, replica, given)
        return seen or (None if torch.equal(replica(given), wanted) else "the replica gave another output.")


def _addresses(network: torch.nn.Module) -> dict[str, int]:
    """Where the numbers of every parameter and buffer lie."""
    parameters = {f'the parameter "{name}"': tensor.data_ptr() for name, tensor in network.named_parameters()}
    return parameters | {f'the buffer "{name}"': tensor.data_ptr() for name, tensor in network.named_buffers()}


def _see_tensors(ours: dict[str, int], theirs: dict[str, int]) -> str | None:
    apart = [name for name in ours if theirs.get(name) != ours[name]]
    return f"{len(apart)} of {len(ours)} tensors are not shared, such as {apart[-1]}." if apart else None


def _see_caches(network: Any, replica: Any, given: torch.Tensor) -> str | None:
    """Whether either of the two can be used without changing what the other one's head keeps."""
    import torch

    names = {id(network): "network", id(replica): "replica"}
    for rows, used, other in ((2, replica, network), (3, network, replica)):
        shape, met = other[-1].shape, len(other[-1].met)
        used(torch.cat([given] * rows))  # a shape that neither has met
        if (other[-1].shape, len(other[-1].met)) != (shape, met):
            return f"the {names[id(used)]} was used, and what the head of the {names[id(other)]} keeps changed."
    return None


EXERCISES = (
    Exercise(
        name="make_replica",
        starter="def make_replica(network):\n    return network\n",
        answer=(
            "import copy\n"
            "from itertools import chain\n\n\n"
            "def make_replica(network):\n"
            "    tensors = chain(network.parameters(), network.buffers())\n"
            "    return copy.deepcopy(network, {id(tensor): tensor for tensor in tensors})\n"
        ),
        hints=(
            "copy.deepcopy(network, memo) copies everything but what it finds in memo, under id(the original).",
            "Not all tensors are parameters: network.buffers() gives the others, such as a BatchNorm's running mean.",
        ),
        see=see_make_replica,
        also_right=(
            "import copy\n"
            "def make_replica(network):\n"
            "    memo = {id(p): p for p in network.parameters()}\n"
            "    memo.update({id(b): b for b in network.buffers()})\n"
            "    return copy.deepcopy(network, memo)\n",
            "import copy\n"
            "def make_replica(network):\n"
            "    replica = copy.deepcopy(network)\n"
            "    for own, original in zip(replica.modules(), network.modules()):\n"
            "        own._parameters = dict(original._parameters)\n"
            "        own._buffers = dict(original._buffers)\n"
            "    return replica\n",
        ),
        wrong=(
            "import copy\ndef make_replica(network):\n    return copy.copy(network)\n",
            "import copy\ndef make_replica(network):\n    return copy.deepcopy(network)\n",
            "import copy\n"
            "def make_replica(network):\n"
            "    replica = copy.deepcopy(network)\n"
            "    replica.load_state_dict(network.state_dict())\n"
            "    return replica\n",
            "import copy\n"
            "def make_replica(network):\n"
            "    return copy.deepcopy(network, {id(p): p for p in network.parameters()})\n",
            "import copy\n"
            "def make_replica(network):\n"
            "    return copy.deepcopy(network, {id(module): module for module in network})\n",
            "import copy\n"
            "def make_replica(network):\n"
            "    replica = copy.copy(network)\n"
            "    replica._modules = {name: copy.copy(module) for name, module in network._modules.items()}\n"
            "    return replica\n",
            "def make_replica(network):\n    return network.state_dict()\n",
        ),
    ),
)
