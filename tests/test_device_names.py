"""Devices are named as `YOLO.predict` names them, and an unknown one is an error that says what is here."""

from typing import Any

import pytest
import torch

from yolothreads import devices
from yolothreads.errors import DeviceError


@pytest.mark.parametrize("given", ["cpu", None, "auto", torch.device("cpu"), torch.device("cpu", 0)], ids=repr)
def test_without_a_gpu_it_is_the_cpu(given: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "devices", lambda: ["cpu"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert devices.resolve(given) == "cpu"


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (0, "cuda:0"), ("0", "cuda:0"), (1, "cuda:1"), ("1", "cuda:1"), ("cuda", "cuda:0"), ("cuda:1", "cuda:1"),
        (torch.device("cuda"), "cuda:0"), (torch.device("cuda", 1), "cuda:1"), (torch.device("cpu"), "cpu"),
        (None, "cuda:1"), ("auto", "cuda:0"), ("cpu", "cpu"),
    ],
    ids=repr,
)  # fmt: skip
def test_numbers_none_and_devices_of_torch_name_a_gpu(given: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "devices", lambda: ["cuda:0", "cuda:1", "cpu"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert devices.resolve(given) == name


@pytest.mark.parametrize("given", [0, "0", "cuda", torch.device("cuda", 3), torch.device("meta"), True, -1, [0], ""])
def test_a_device_that_is_not_here_is_refused(given: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "devices", lambda: ["cpu"])
    with pytest.raises(DeviceError, match=r"There is no device .* one of: cpu\."):
        devices.resolve(given)
