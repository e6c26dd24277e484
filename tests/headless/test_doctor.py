"""The check-up of a machine: one row per item, and a remedy for each problem."""

import importlib
import os
import shutil
from types import ModuleType, SimpleNamespace

import pytest

from yolothreads import weights
from yolothreads.headless import doctor


def state(item: str) -> str:
    return next(row["state"] for row in doctor.checkup().to_dicts() if row["item"] == item)


def test_a_machine_that_has_everything_has_no_problem() -> None:
    table = doctor.checkup()
    items = [row["item"] for row in table.to_dicts()]
    assert items[:4] == ["Python", "torch", "torchvision", "ultralytics"]
    assert {"devices", "cores", "memory", "bundled model", "JupyterLab", "free disk"} < set(items)
    assert all(row["found"] for row in table.to_dicts())
    assert state("torchvision") == state("bundled model") == doctor.OK


def test_a_torchvision_that_does_not_import_is_a_problem_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.import_module

    def fails(name: str) -> ModuleType:
        if name == "torchvision":
            raise RuntimeError("operator torchvision::nms does not exist\nand a long story")
        return real(name)

    monkeypatch.setattr(importlib, "import_module", fails)
    table = doctor.checkup()
    row = next(r for r in table.to_dicts() if r["item"] == "torchvision")
    assert row["found"] == "RuntimeError: operator torchvision::nms does not exist"
    assert "make install" in row["state"]
    assert doctor.problems(table) == 1


def test_cores_seen_and_given_and_the_load_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(doctor.devices, "cores", lambda: 2)
    monkeypatch.setattr(os, "getloadavg", lambda: (3.21, 2.0, 1.0), raising=False)
    found = {row["item"]: (row["found"], row["state"]) for row in doctor.checkup().to_dicts()}
    assert found["cores"] == ("8 seen, 2 given, load 3.2", doctor.OK)


def test_a_changed_bundled_model_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "_BUNDLED", weights.ASSETS / "missing.pt")
    assert "install yolothreads again" in state("bundled model")


def test_a_disk_that_is_nearly_full_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10e6))
    assert "make room" in state("free disk")
