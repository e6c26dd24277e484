"""Weights with classes of the user's own: allowed by name, in every pool and worker, and nothing else is loaded."""

import struct
import sys
import warnings
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from deadlines import scaled
from own_classes import weights_with, write_package
from ultralytics.nn import tasks

from yolothreads import weights
from yolothreads.detections import same
from yolothreads.errors import ArgumentError, WeightsError
from yolothreads.pools import POOLS, ModelPerThread, Pool, RayActors, Sequential, make_pool
from yolothreads.scenes import scene

pytestmark = pytest.mark.timeout(scaled(300))
ALLOW = ["my_pkg.MyBlock"]
IMAGES = [scene(seed, (160, 160)).image for seed in (1, 2)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that Python searches for packages, with the package `my_pkg`."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_pkg", raising=False)
    write_package(tmp_path)
    return tmp_path


@pytest.fixture
def mine(folder: Path) -> Path:
    return weights_with("MyBlock", folder)


def refused(file: Path, match: str) -> None:
    with pytest.raises(WeightsError, match=match):
        weights.check(file, allow=ALLOW)


def test_a_class_is_loaded_only_where_it_is_allowed(mine: Path) -> None:
    for _ in range(2):  # what one pool allows, no other one allows
        with pytest.raises(WeightsError, match=r"asks for my_pkg\.MyBlock.*run code.*allow="):
            Sequential(mine, device="cpu")
        assert weights.check(mine, allow=ALLOW) == mine
    with Sequential(mine, device="cpu", imgsz=160, allow=ALLOW) as pool, Sequential(device="cpu", imgsz=160) as plain:
        assert all(same(a, b) for a, b in zip(pool.map(IMAGES), plain.map(IMAGES), strict=True))
    assert not any("my_pkg" in str(entry) for entry in torch.serialization.get_safe_globals())


def test_another_class_of_the_same_package_is_not_loaded(folder: Path) -> None:
    refused(weights_with("Other", folder), r"asks for my_pkg\.Other")


@pytest.mark.nightly
@pytest.mark.parametrize("kind", [kind for kind in POOLS if kind is not RayActors], ids=lambda kind: kind.__name__)
def test_every_pool_and_its_workers_check_and_load_such_weights(kind: type[Pool], mine: Path) -> None:
    with Sequential(mine, device="cpu", imgsz=160, allow=ALLOW) as alone:
        expected = list(alone.map(IMAGES))
    with make_pool(kind, mine, workers=2, device="cpu", imgsz=160, allow=ALLOW) as pool:
        assert all(same(a, b) for a, b in zip(expected, pool.map(IMAGES), strict=True))
    with pytest.raises(WeightsError, match=r"my_pkg\.MyBlock"):
        make_pool(kind, mine, workers=2, device="cpu", imgsz=160)
    evil = saved(call("my_pkg", "run", f"touch {mine.parent / 'ran'}"), mine.parent / "evil.pt")
    pool = make_pool(kind, mine, workers=1, device="cpu", imgsz=160, allow=ALLOW)
    evil.replace(mine)  # after the pool was made: the worker itself looks
    with pytest.raises(WeightsError, match=r"my_pkg\.run"):
        pool.open()
    assert not (mine.parent / "ran").exists()


def test_a_worker_checks_the_file_that_it_loads(mine: Path) -> None:
    pool = ModelPerThread(mine, device="cpu", imgsz=160, workers=1, allow=ALLOW)
    saved(call("my_pkg", "run", f"touch {mine.parent / 'ran'}"), mine)
    with pytest.raises(WeightsError, match=r"my_pkg\.run"):
        pool.open()
    assert not (mine.parent / "ran").exists()


# --- pickles that try to get further ---


def name(module: str, attribute: str) -> bytes:
    return b"c" + module.encode() + b"\n" + attribute.encode() + b"\n"


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def call(module: str, attribute: str, command: str) -> bytes:
    return name(module, attribute) + text(command) + b"\x85R"


def attribute_of(cls: str, attribute: str) -> bytes:
    return name("builtins", "getattr") + name("my_pkg", cls) + text(attribute) + b"\x86R"


def saved(value: bytes, file: Path, protocol: bytes = b"\x02") -> Path:
    """Write a checkpoint whose pickle is {"model": value}, with a value in opcodes."""
    torch.save({"model": 0}, file)
    with zipfile.ZipFile(file) as archive:
        parts = {one.filename: archive.read(one) for one in archive.infolist()}
    with zipfile.ZipFile(file, "w") as archive:
        for part, data in parts.items():
            pickled = b"\x80" + protocol + b"}" + text("model") + value + b"s."
            archive.writestr(part, pickled if part.endswith("data.pkl") else data)
    return file


BLOCK = name("my_pkg", "MyBlock")
ATTACKS = {
    "a function of the package": lambda run: call("my_pkg", "run", run),
    "a module of the package": lambda run: call("my_pkg", "os.system", run),
    "a module that is no module": lambda run: call("my_pkg.os", "system", run),
    "a method": lambda run: call("my_pkg", "MyBlock.__init__", run),
    "a static method": lambda run: call("my_pkg", "MyBlock.helper", run),
    "a class as a module": lambda run: call("my_pkg.MyBlock", "helper", run),
    "a class inside": lambda run: name("my_pkg", "MyBlock.Inner") + b")\x81",
    "a class inside, by getattr": lambda run: attribute_of("MyBlock", "Inner") + b")\x81",
    "a static method, by getattr": lambda run: attribute_of("MyBlock", "helper") + text(run) + b"\x85R",
    "the constructor, by getattr": lambda run: attribute_of("MyBlock", "__init__") + text(run) + b"\x85R",
    "the constructor with arguments": lambda run: BLOCK + b"N" + text(run) + b"\x86R",
    "a state that is a function": lambda run: (
        BLOCK + b")\x81}" + text("__setstate__") + attribute_of("MyBlock", "helper") + b"sb" + text(run) + b"b"
    ),
    "a state in another class": lambda run: (
        name("torch.nn.modules.conv", "Conv2d")
        + b")\x81}"
        + text("__setstate__")
        + attribute_of("MyBlock", "helper")
        + b"sb"
        + text(run)
        + b"b"
    ),
    "another callable": lambda run: name("functools", "partial") + BLOCK + text(run) + b"\x86R",
    "a nested archive": lambda run: call("torch.storage", "_load_from_bytes", run),
    "an opcode of another protocol": lambda run: text("my_pkg") + text("run") + b"\x93" + text(run) + b"\x85R",
    "an old opcode": lambda run: b"(" + text(run) + b"imy_pkg\nrun\n",
}


@pytest.mark.filterwarnings("ignore:Detected pickle protocol 4")
@pytest.mark.parametrize("protocol", [b"\x02", b"\x04"], ids=["protocol 2", "protocol 4"])
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_pickle_gets_nothing_but_objects_of_the_allowed_class(
    attack: str, protocol: bytes, folder: Path, tmp_path: Path
) -> None:
    run = f"touch {tmp_path / 'ran'}"
    refused(saved(ATTACKS[attack](run), tmp_path / "evil.pt", protocol), "refused|damaged|no YOLO model")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("place", ["first", "last"])
def test_a_second_pickle_in_the_archive_is_not_loaded_unchecked(place: str, mine: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(mine) as archive:
        parts = {one.filename: archive.read(one) for one in archive.infolist()}
    (own,) = [part for part in parts if part.endswith("data.pkl")]
    evil = b"\x80\x02}" + text("model") + call("my_pkg", "run", f"touch {tmp_path / 'ran'}") + b"s."
    both = [(own, evil), *parts.items()] if place == "first" else [*parts.items(), (own, evil)]
    with zipfile.ZipFile(file := tmp_path / "two.pt", "w") as archive, warnings.catch_warnings(action="ignore"):
        for part, data in both:
            archive.writestr(part, data)
    with suppress(WeightsError):
        Sequential(file, device="cpu", imgsz=160, allow=ALLOW).open().close()
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "wrong",
    ["my_pkg.MyBlock", ["my_pkg.run"], ["my_pkg.MyBlock.Inner"], ["subprocess.Popen"], ["nobody.X"], ["my_pkg"], [3]],
    ids=str,
)
def test_only_module_classes_can_be_allowed(wrong: object, folder: Path) -> None:
    with pytest.raises(ArgumentError, match="allow"):
        Sequential(device="cpu", allow=wrong)


def test_torch_knows_an_allowed_class_only_while_no_other_check_runs(
    mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Because it keeps what may be loaded in one place for the whole process."""
    load, seen = tasks.torch_safe_load, []

    def watched(*args: object, **kwargs: object) -> tuple:
        known = [entry for entry in torch.serialization.get_safe_globals() if "my_pkg" in str(entry)]
        seen.append((len(known), weights._checking.locked()))
        return load(*args, **kwargs)

    monkeypatch.setattr(tasks, "torch_safe_load", watched)
    weights.check(mine, allow=ALLOW)
    with pytest.raises(WeightsError):
        weights.check(mine)
    assert seen == [(1, True), (0, True)]
