"""OnnxSession with real networks: one session for all workers, the results of Sequential, and a reliable cache."""

import logging
import shutil
import sys
import threading
from pathlib import Path

import onnxruntime
import pytest
import torch
from deadlines import scaled
from fakes import WAIT_S, FakeModels, picture
from ultralytics import YOLO
from ultralytics.utils import LOGGER, SETTINGS

from yolothreads import devices
from yolothreads.detections import same
from yolothreads.errors import ArgumentError, DeviceError, ExtraError, OutputError, WeightsError
from yolothreads.pools import OnnxSession, Sequential, SharedModel, onnx_session
from yolothreads.scenes import SHAPES, scene
from yolothreads.weights import bundled

pytestmark = pytest.mark.timeout(scaled(120))
IMAGES = [scene(seed, SHAPES[seed % len(SHAPES)]).image for seed in range(10)]
PARTS = ("boxes", "masks", "keypoints", "probs", "obb")


@pytest.fixture(scope="session")
def exported() -> Path:
    """The ONNX file of the bundled weights, in the cache of this test session, which the other tests use as well."""
    return onnx_session.onnx_file(bundled())


@pytest.fixture
def cache(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache for one test, with a copy of that file."""
    folder = tmp_path / "cache"
    folder.mkdir()
    shutil.copy(exported, folder)
    monkeypatch.setenv("YOLOTHREADS_CACHE", str(folder))
    return folder


@pytest.fixture
def exports(exported: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Replaces the export: records the weights and returns the file that was exported before."""
    asked = []

    def export(weights: Path) -> str:
        asked.append(weights)
        return str(shutil.copy(exported, weights.with_suffix(".onnx")))

    monkeypatch.setattr(onnx_session, "_export", export)
    return asked


def test_results_equal_those_of_sequential_within_the_tolerance(cache: Path) -> None:
    made = {"device": "cpu", "imgsz": 160, "conf": 0.001, "max_det": 20}
    with Sequential(**made) as alone, OnnxSession(workers=3, **made) as pool:
        pairs = [*zip(alone.map(IMAGES), pool.map(IMAGES), strict=True)]
    assert len({result.orig_shape for _, result in pairs}) == len(SHAPES)
    assert all(same(a, b, pixels=0.001, score=1e-5) for a, b in pairs) and any(len(a.boxes) for a, _ in pairs)


def test_all_workers_use_one_session_concurrently(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, used, together = onnxruntime.InferenceSession.run, [], threading.Barrier(3)

    def run_together(session: onnxruntime.InferenceSession, *args: object) -> list:
        used.append(session)
        together.wait(WAIT_S)
        return run(session, *args)

    with OnnxSession(workers=3, device="cpu", imgsz=160) as pool:
        monkeypatch.setattr(onnxruntime.InferenceSession, "run", run_together)
        results = list(pool.map(IMAGES[:6]))
        assert len(results) == len(used) == 6 and all(session is pool._session for session in used)


def test_each_worker_has_its_own_predictor(fakes: FakeModels, cache: Path) -> None:
    together = threading.Barrier(3)
    fakes.inside = lambda model, tag: together.wait(WAIT_S)
    with OnnxSession(workers=3, device="cpu") as pool:
        list(pool.map([picture(1)] * 6))
    loaded, *twins = fakes.built
    assert loaded.used_by == [] and [model.most_at_once for model in twins] == [1, 1, 1]
    assert all(len(set(model.used_by)) == 1 for model in twins)


@pytest.mark.parametrize(("workers", "threads", "in_all"), [(2, 1, 1), (1, 2, 2), (2, 3, 5)])
def test_the_session_has_the_threads_of_all_workers(workers: int, threads: int, in_all: int, cache: Path) -> None:
    with OnnxSession(workers=workers, threads=threads, device="cpu", imgsz=64) as pool:
        assert pool._session.get_session_options().intra_op_num_threads == in_all


def test_weights_are_exported_once(cache: Path, exports: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    pool = OnnxSession(device="cpu", imgsz=64)
    for _ in range(2):
        with pool:
            pass
    assert exports == []  # the cache had them
    monkeypatch.setattr(onnx_session, "version", lambda package: "0.0")
    for _ in range(2):
        onnx_session.onnx_file(bundled())
    assert len(exports) == 1  # another version of ultralytics, torch or onnx may make another graph


@pytest.mark.parametrize("harm", ["cut", "empty", "one bit"])
def test_a_damaged_file_is_exported_again(harm: str, cache: Path, exports: list[Path]) -> None:
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    file.write_bytes({"cut": whole[:middle], "empty": b"", "one bit": flipped}[harm])
    with OnnxSession(device="cpu", imgsz=64) as pool:
        pool.submit(IMAGES[0]).result(WAIT_S)
    assert len(exports) == 1 and [f.read_bytes() == whole for f in cache.iterdir()] == [True]


def test_an_export_that_fails_half_way_leaves_nothing(
    cache: Path, exports: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(cache)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            onnx_session.onnx_file(bundled())
    assert list(cache.iterdir()) == []
    assert onnx_session.onnx_file(bundled()).parent == cache


def test_exporting_changes_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("YOLOTHREADS_CACHE", str(tmp_path / "new" / "cache"))
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "weights" / "mine.pt"
    file.parent.mkdir()
    shutil.copy(bundled(), file)
    before = Path(SETTINGS.file).read_bytes(), torch.get_num_threads(), LOGGER.filters[:], LOGGER.level
    LOGGER.addHandler(handler := logging.StreamHandler(sys.stderr))
    try:
        with OnnxSession(file, device="cpu", imgsz=64) as pool:
            pool.submit(IMAGES[0]).result(WAIT_S)
    finally:
        LOGGER.removeHandler(handler)
    assert (Path(SETTINGS.file).read_bytes(), torch.get_num_threads(), LOGGER.filters[:], LOGGER.level) == before
    assert [*file.parent.iterdir()] == [file] and {f.name for f in tmp_path.iterdir()} == {"weights", "new"}
    assert capfd.readouterr() == ("", "")


def test_the_error_for_a_model_that_cannot_be_exported_names_it(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(cache)
    monkeypatch.setattr(onnx_session, "_RECIPE", {"format": "no such"})
    with pytest.raises(WeightsError, match=r"scenes-yolo11n.*'no such'.*Replicas"), OnnxSession(device="cpu"):
        pass
    assert list(cache.iterdir()) == []


def test_a_cache_that_cannot_be_written_names_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("YOLOTHREADS_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(OutputError, match="YOLOTHREADS_CACHE"), OnnxSession(device="cpu"):
        pass


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_without_the_extra_the_error_names_the_remedy_at_once(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ExtraError, match=rf'needs {package}.*pip install "yolothreads\[onnx\]"'):
        OnnxSession(device="cpu")


def test_a_gpu_that_onnx_runtime_cannot_use_is_refused_or_omitted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "devices", lambda: ["cuda:0", "cpu"])
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(DeviceError, match="onnxruntime-gpu"):
        OnnxSession(device="cuda")
    assert OnnxSession(device="auto").device == "cpu"
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    assert OnnxSession(device="auto").device == "cuda:0"


@pytest.mark.parametrize("setting", [{"augment": True}, {"visualize": True}, {"nms": False}, {"quantize": 16}])
def test_settings_that_an_exported_model_cannot_follow_are_refused(setting: dict, cache: Path) -> None:
    (name,) = setting
    with pytest.raises(ArgumentError, match=f'"{name}"'):
        OnnxSession(device="cpu", **setting)
    with OnnxSession(device="cpu", imgsz=64, augment=False) as pool, pytest.raises(ArgumentError, match=f'"{name}"'):
        pool.submit(IMAGES[0], **setting)


@pytest.mark.parametrize(
    "task", ["-seg", *(pytest.param(task, marks=pytest.mark.nightly) for task in ("-pose", "-cls", "-obb"))]
)
def test_other_tasks_give_the_output_of_their_network(task: str, cache: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    file = tmp_path / "random.pt"
    YOLO(f"yolo11n{task}.yaml").save(file)
    # Random weights give almost equal scores, so that rounding decides the order of the boxes.
    made = {"weights": file, "device": "cpu", "imgsz": 96, "conf": 1e-6, "max_det": 5}
    with SharedModel(workers=1, **made) as alone, OnnxSession(**made) as pool, torch.no_grad():
        for expected, got in zip(alone.map(IMAGES[:2]), pool.map(IMAGES[:2]), strict=True):
            parts = [name for name in PARTS if getattr(expected, name) is not None]
            assert parts == [name for name in PARTS if getattr(got, name) is not None]
            assert [getattr(expected, n).data.shape for n in parts] == [getattr(got, n).data.shape for n in parts]
        pixels = torch.rand(1, 3, 96, 64)
        outputs = [first(one._model.predictor.model(pixels)) for one in (alone, pool)]
    torch.testing.assert_close(*outputs, rtol=1e-4, atol=1e-4)


def first(output: object) -> torch.Tensor:
    """Return the predictions in the output of a network."""
    while not isinstance(output, torch.Tensor):
        output = output[0]
    return output
