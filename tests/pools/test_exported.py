"""Exported models: their metadata, the results of every pool that takes them, and what is refused."""

import json
import subprocess
import sys
import zipfile
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from deadlines import scaled
from exports import RECIPES, Exports
from fakes import WAIT_S
from ultralytics import YOLO
from ultralytics.nn.backends import ONNXBackend

from yolothreads import exported, weights
from yolothreads.detections import same
from yolothreads.devices import torch_threads_kept
from yolothreads.errors import ArgumentError, ExtraError, WeightsError
from yolothreads.pools import (
    POOLS,
    BatchingWorker,
    ModelPerThread,
    OnnxSession,
    Pool,
    RayActors,
    Replicas,
    Sequential,
    make_pool,
    onnx_session,
)
from yolothreads.scenes import SHAPES, scene

pytestmark = pytest.mark.timeout(scaled(300))
IMAGES = [scene(seed, SHAPES[seed % 2]).image for seed in (1, 2)]
SETTINGS = [{"conf": 1e-6, "max_det": 20}, {"conf": 0.3, "classes": [0, 1]}]
SIZES = {"nms-any-size.onnx": 192, "any-size.torchscript": 192}  # the others decide themselves
TAKE_ALL = [kind for kind in POOLS if kind not in (OnnxSession, RayActors, Replicas)]  # Ray: see its own tests


@pytest.fixture(scope="session")
def any_size(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled model as an .onnx file for images of any size: the one that OnnxSession exports itself."""
    file = tmp_path_factory.mktemp("any") / "best.onnx"
    file.write_bytes(onnx_session.onnx_file(weights.bundled()).read_bytes())
    return file


@cache
def alone(file: Path, imgsz: int) -> list:
    """Return the results of `YOLO(file).predict` for each of the settings, image by image."""
    with torch_threads_kept():
        model = YOLO(file)
        given = {"imgsz": imgsz, "device": "cpu", "verbose": False}
        return [[model.predict(image, **given, **settings)[0] for image in IMAGES] for settings in SETTINGS]


def check_equal(pool: Pool, file: Path, imgsz: int = 640) -> None:
    """Compare what an open pool finds with what YOLO finds, to a thousandth of a pixel."""
    found = 0
    for settings, expected in zip(SETTINGS, alone(file, imgsz), strict=True):
        got = list(pool.map(IMAGES, **settings))
        assert all(same(a, b, pixels=0.001, score=1e-5) for a, b in zip(expected, got, strict=True)), settings
        assert all(a.names == b.names and a.orig_shape == b.orig_shape for a, b in zip(expected, got, strict=True))
        found += sum(len(result) for result in got)
    assert found > 0


def test_the_metadata_say_all_that_a_pool_needs(any_size: Path, exports: Exports) -> None:
    assert exported.read(any_size) == exported.Exported(any_size, "onnx", "detect", 3, None, False)
    fixed = exports("fixed.onnx")
    assert exported.read(fixed) == exported.Exported(fixed, "onnx", "detect", 3, (160, 160), False)
    assert weights.check(str(fixed), formats=["onnx"]) == fixed
    with pytest.raises(WeightsError, match=r'"detect".*"pose"'):
        weights.check(fixed, "pose", formats=["onnx"])


@pytest.mark.parametrize("kind", [OnnxSession, ModelPerThread, BatchingWorker], ids=lambda kind: kind.__name__)
def test_an_onnx_file_of_one_size_gives_the_results_of_yolo(kind: type[Pool], exports: Exports) -> None:
    file = exports("fixed.onnx")
    with make_pool(kind, file, workers=2, device="cpu") as pool:
        assert pool.imgsz == 160 and pool.weights == file
        check_equal(pool, file)


@pytest.mark.nightly
@pytest.mark.parametrize("name", [name for name in RECIPES if name.endswith(".onnx")])
def test_a_session_gives_the_results_of_yolo_for_every_way_to_export(name: str, exports: Exports) -> None:
    file = exports(name)
    with OnnxSession(str(file), workers=3, device="cpu", imgsz=SIZES.get(name, 640)) as pool:
        check_equal(pool, file, SIZES.get(name, 640))


def test_an_onnx_file_of_any_size_gives_the_results_of_yolo(any_size: Path) -> None:
    with OnnxSession(any_size, device="cpu", imgsz=128) as pool:
        check_equal(pool, any_size, 128)
        other = pool.submit(IMAGES[0], imgsz=160, **SETTINGS[0]).result(WAIT_S)
        assert same(other, alone(any_size, 160)[0][0], pixels=0.001, score=1e-5)


@pytest.mark.nightly
@pytest.mark.parametrize("kind", TAKE_ALL, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(
    "name",
    ["nms.onnx", "fixed.torchscript", "any-size.torchscript", "nms.torchscript", "fixed_openvino_model"],
)
def test_every_other_pool_goes_through_the_loader_of_ultralytics(name: str, kind: type[Pool], exports: Exports) -> None:
    file = exports(name)
    given = f"{file}/" if file.is_dir() else file
    with make_pool(kind, given, workers=2, device="cpu", imgsz=SIZES.get(name, 640)) as pool:
        check_equal(pool, file, SIZES.get(name, 640))


@pytest.mark.nightly
def test_openvino_takes_images_of_any_size(exports: Exports) -> None:
    file = exports("any-size_openvino_model")
    with ModelPerThread(file, device="cpu", imgsz=320) as pool:
        check_equal(pool, file, 320)


def test_only_replicas_refuse_an_exported_model_and_the_session_takes_onnx_only(
    any_size: Path, tmp_path: Path, exports: Exports
) -> None:
    with pytest.raises(WeightsError, match=r"Replicas cannot use .*best\.onnx.*ModelPerThread"):
        Replicas(any_size, device="cpu")
    with pytest.raises(WeightsError, match=r"OnnxSession cannot use .*model\.torchscript.*ModelPerThread"):
        OnnxSession(torchscript(tmp_path / "model.torchscript"), device="cpu")


def torchscript(file: Path) -> Path:
    """Write the frame of a .torchscript file, with metadata, and without a network."""
    with zipfile.ZipFile(file, "w") as archive:
        about = {"task": "detect", "names": {"0": "a"}, "stride": 32, "imgsz": [64, 64], "channels": 3, "args": {}}
        about |= {"end2end": False}
        archive.writestr("model/extra/config.txt", json.dumps(about))
    return file


@pytest.mark.parametrize("harm", ["cut", "empty", "no metadata", "another task", "text"])
def test_a_file_that_ultralytics_did_not_export_is_refused_in_one_sentence(
    harm: str, any_size: Path, tmp_path: Path
) -> None:
    file = tmp_path / "other.onnx"
    graph = onnx.load(any_size)
    for one in list(graph.metadata_props):
        if harm == "no metadata":
            graph.metadata_props.remove(one)
        elif one.key == "task" and harm == "another task":
            one.value = "__import__('os').getcwd()"
    whole = graph.SerializeToString()
    file.write_bytes({"cut": whole[: len(whole) // 2], "empty": b"", "text": b"no model\n" * 9}.get(harm, whole))
    for kind in (OnnxSession, ModelPerThread):
        with pytest.raises(WeightsError, match=r'other\.onnx" is damaged, or ultralytics did not export it.*export\('):
            kind(file, device="cpu")


def test_a_graph_that_cannot_be_loaded_is_an_error_that_names_the_file(any_size: Path, tmp_path: Path) -> None:
    graph = onnx.load(any_size)
    graph.graph.node[0].op_type = "NoSuchOperator"
    onnx.save(graph, file := tmp_path / "odd.onnx")
    for kind in (OnnxSession, ModelPerThread):
        with pytest.raises(WeightsError, match=r'odd\.onnx" could not be loaded .*model\.0/conv.*again'):
            kind(file, device="cpu", workers=1).open()
    with pytest.raises(WeightsError, match=r'model\.torchscript" could not be loaded'):
        Sequential(torchscript(tmp_path / "model.torchscript"), device="cpu").open()


def test_metadata_that_do_not_fit_the_graph_are_an_error(any_size: Path, tmp_path: Path) -> None:
    graph = onnx.load(any_size)
    next(one for one in graph.metadata_props if one.key == "args").value = "{'dynamic': False}"
    onnx.save(graph, file := tmp_path / "lies.onnx")
    with pytest.raises(WeightsError, match=r"lies\.onnx.*'height', 'width'.*640, 640.*again"):
        OnnxSession(file, device="cpu").open()


def test_files_of_older_versions_say_less_and_are_read_like_by_ultralytics(any_size: Path, tmp_path: Path) -> None:
    graph = onnx.load(any_size)
    for one in [one for one in graph.metadata_props if one.key in ("args", "channels", "end2end", "head")]:
        graph.metadata_props.remove(one)
    onnx.save(graph, file := tmp_path / "old.onnx")
    assert exported.read(file) == exported.Exported(file, "onnx", "detect", 3, None, False)
    with OnnxSession(file, device="cpu", imgsz=128) as pool:
        check_equal(pool, file, 128)


@pytest.mark.parametrize("setting", [{"augment": True}, {"nms": False}, {"quantize": 16}, {"imgsz": 320}], ids=str)
def test_settings_on_which_the_export_has_decided_are_refused(setting: dict, exports: Exports) -> None:
    (name,) = setting
    for kind in (OnnxSession, Sequential):
        with pytest.raises(ArgumentError, match=name):
            kind(exports("fixed.onnx"), device="cpu", **setting)
    if name in ("augment", "imgsz"):
        with Sequential(exports("fixed.onnx"), device="cpu", imgsz=160) as pool, pytest.raises(ArgumentError):
            pool.submit(IMAGES[0], **setting)


def test_a_library_that_is_missing_is_named_and_nothing_is_installed(
    any_size: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "best_openvino_model"
    folder.mkdir()
    (folder / "best.xml").write_text("")
    about = "task: detect\nnames: {0: a}\nstride: 32\nimgsz: [64, 64]\nchannels: 3\nend2end: false\nargs: {}\n"
    (folder / "metadata.yaml").write_text(about)
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ExtraError, match=r'"best_openvino_model" needs openvino.*pip install openvino'):
        ModelPerThread(folder, device="cpu")
    with pytest.raises(ExtraError, match=r"needs onnxruntime.*pip install onnxruntime"):
        ModelPerThread(any_size, device="cpu")


def test_other_formats_and_folders_are_refused(tmp_path: Path) -> None:
    for name in ("best.engine", "best_qnn.onnx", "best.xml"):
        (tmp_path / name).write_bytes(b"model")
        with pytest.raises(WeightsError, match=r"best.*is not a \.pt file or an \.onnx file or"):
            ModelPerThread(tmp_path / name, device="cpu")
    (tmp_path / "best_saved_model").mkdir()
    with pytest.raises(WeightsError, match="are a folder"):
        ModelPerThread(tmp_path / "best_saved_model", device="cpu")


def test_no_two_workers_share_a_part_of_an_exported_model_that_a_call_changes(exports: Exports) -> None:
    """`YOLO` of an exported model shares nothing with another object: each has a session and a backend of its own."""
    one, other = YOLO(exports("fixed.onnx")), YOLO(exports("fixed.onnx"))
    with torch_threads_kept():
        for model in (one, other):
            model.predict(np.zeros((64, 64, 3), np.uint8), device="cpu", verbose=False)
    first, second = one.predictor.model.backend, other.predictor.model.backend
    assert first is not second and first.session is not second.session and first.metadata is not second.metadata
    immutable = (int, str, bool, float, tuple, type(None), type(first.device))
    shared = {
        name
        for name, value in vars(first).items()
        if value is vars(second).get(name) and not isinstance(value, immutable)
    }
    assert shared == set()


def test_threads_do_not_share_memory_that_ultralytics_binds_outputs_to(
    exports: Exports, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it does on CUDA for a graph of one size: here the same is done on the CPU."""
    load_model = ONNXBackend.load_model

    def load_as_on_cuda(backend: ONNXBackend, weight: object) -> None:
        load_model(backend, weight)
        (output,) = backend.session.get_outputs()
        bound = torch.empty(output.shape)
        backend.use_io_binding, backend.io, backend.bindings = True, backend.session.io_binding(), [bound]
        place = {"shape": tuple(bound.shape), "buffer_ptr": bound.data_ptr()}
        backend.io.bind_output(output.name, "cpu", 0, np.float32, **place)

    monkeypatch.setattr(ONNXBackend, "load_model", load_as_on_cuda)
    file = exports("fixed.onnx")
    with OnnxSession(file, workers=2, device="cpu") as pool:
        assert not pool._model.predictor.model.backend.use_io_binding
        check_equal(pool, file)


@pytest.mark.nightly  # it exports a model
def test_a_pool_of_an_openvino_folder_sends_no_telemetry_and_leaves_no_thread(exports: Exports) -> None:
    code = (
        "import sys, threading; from yolothreads import Sequential, scene; "
        "pool = Sequential(sys.argv[1], imgsz=160).open(); list(pool.map([scene(0, (160, 160)).image])); pool.close(); "
        "print([m for m in sys.modules if 'openvino_telemetry' in m], threading.active_count())"
    )
    command = [sys.executable, "-c", code, str(exports("fixed_openvino_model"))]
    printed = subprocess.check_output(command, text=True, timeout=scaled(200))
    assert printed.splitlines()[-1] == "[] 1"
