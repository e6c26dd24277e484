"""Every pool with the real model and small images: the results of one model alone, no side effects of ultralytics."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import ultralytics
from deadlines import scaled
from pictures import arrays, files, pil_images
from ultralytics.models import YOLO  # not the one that is replaced below

from yolothreads import weights
from yolothreads.devices import cores, torch_threads_kept
from yolothreads.errors import ArgumentError, ImageError
from yolothreads.measure import same
from yolothreads.pools import POOLS, ModelPerProcess, OnnxSession, Pool, RayActors, RemotePool, SharedModel, make_pool
from yolothreads.scenes import SHAPES, scene

pytestmark = pytest.mark.timeout(scaled(120))
IMAGES = [scene(seed, SHAPES[seed % 2]).image for seed in range(6)]
SETTINGS = {"conf": 0.001, "max_det": 20}
WAIT_S = scaled(60.0)
seen_threads: set[int] = set()


class CountsThreads(ultralytics.YOLO):
    """The real model; it records how many threads torch may use during a prediction."""

    def predict(self, *args: object, **kwargs: object) -> list:
        results = super().predict(*args, **kwargs)
        seen_threads.add(torch.get_num_threads())
        return results


@pytest.fixture(scope="module")
def alone() -> list:
    """The results of one YOLO object in one thread."""
    from yolothreads.weights import bundled

    model = ultralytics.YOLO(bundled())
    return [model.predict(i, imgsz=160, device="cpu", verbose=False, **SETTINGS)[0] for i in IMAGES]


# Their worker processes take long to start. With every change, their own files test them with a real model.
SLOW = (ModelPerProcess, RayActors)


@pytest.fixture(
    scope="module",
    params=[pytest.param(kind, marks=[pytest.mark.nightly] * (kind in SLOW)) for kind in POOLS],
    ids=lambda kind: kind.__name__,
)
def pool(request: pytest.FixtureRequest) -> Iterator[Pool]:
    """An open pool of each kind."""
    if request.param is RayActors:
        request.getfixturevalue("ray_joined")
    before = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ultralytics, "YOLO", CountsThreads)
        with make_pool(request.param, workers=2, device="cpu", imgsz=160) as opened:
            yield opened
    assert torch.get_num_threads() == before


@pytest.fixture(autouse=True)
def leaves_nothing_behind() -> None:
    """Pools stay open from one test to the next here; the fixture above checks that they close."""


def test_results_equal_those_of_one_model_alone_and_are_in_order(pool: Pool, alone: list) -> None:
    assert any(len(result.boxes) for result in alone)
    for _ in range(3):
        results = list(pool.map(IMAGES, **SETTINGS))
        assert all(same(a, b) for a, b in zip(results, alone, strict=True))


def test_a_result_is_on_the_cpu_and_has_its_image_and_classes(pool: Pool) -> None:
    result = pool.submit(IMAGES[1], **SETTINGS).result(60)
    assert result.boxes.data.device.type == "cpu"
    assert result.orig_shape == IMAGES[1].shape[:2] and (result.orig_img == IMAGES[1]).all()
    assert set(result.names.values()) == {"disc", "ring", "square", "triangle", "star"}


def test_a_file_gives_the_result_of_its_pixels_with_its_own_name(pool: Pool, alone: list, tmp_path: Path) -> None:
    file = tmp_path / "scene 0.png"
    file.write_bytes(cv2.imencode(".png", IMAGES[0])[1].tobytes())
    result = pool.submit(file, **SETTINGS).result(60)
    assert result.path == str(file) and same(result, alone[0])


@pytest.mark.nightly
def test_every_kind_of_picture_gives_what_yolo_gives(pool: Pool, tmp_path: Path) -> None:
    model = ultralytics.YOLO(pool.weights)
    given = [*arrays(IMAGES[0]).values(), *pil_images(IMAGES[0]).values(), *files(tmp_path, IMAGES[0]).values()]
    bytes_of = [file.read_bytes() for file in given if isinstance(file, Path)]
    with torch_threads_kept():
        expected = [model.predict(one, imgsz=160, device="cpu", verbose=False, **SETTINGS)[0] for one in given]
    found = list(pool.map([*given, *bytes_of], **SETTINGS))
    for one, other in zip([*expected, *expected[-len(bytes_of) :]], found, strict=True):
        assert same(one, other) and np.array_equal(one.orig_img, other.orig_img)
    assert [result.path for result in found[: len(given)]] == [result.path for result in expected]
    assert any(len(result.boxes) for result in expected)
    folder = [result.path for result in model.predict(tmp_path, imgsz=160, device="cpu", verbose=False)]
    assert [result.path for result in pool.map(tmp_path)] == folder


@pytest.mark.nightly
def test_a_size_of_two_numbers_gives_what_yolo_gives(pool: Pool) -> None:
    model = ultralytics.YOLO(pool.weights)
    with torch_threads_kept():
        expected = model.predict(IMAGES[0], imgsz=(96, 160), device="cpu", verbose=False, **SETTINGS)[0]
    assert len(expected.boxes)
    assert same(pool.submit(IMAGES[0], imgsz=(96, 160), **SETTINGS).result(WAIT_S), expected)


def test_bad_images_fail_alone(pool: Pool, alone: list, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("not a picture")
    floats = np.zeros((64, 64, 3), np.float32)
    images = [IMAGES[0], tmp_path / "missing.png", IMAGES[1], tmp_path / "text.png", IMAGES[2], floats, IMAGES[3]]
    results = list(pool.map(images, return_exceptions=True, **SETTINGS))
    assert [type(r) for r in results[1::2]] == [ImageError] * 3
    assert all(same(a, b) for a, b in zip(results[::2], alone, strict=False))


def test_an_image_20000_pixels_wide_is_processed_like_any_other(pool: Pool, alone: list) -> None:
    wide = np.tile(IMAGES[1], (1, 20_000 // IMAGES[1].shape[1] + 1, 1))[:, :20_000]
    model = ultralytics.YOLO(pool.weights)
    with torch_threads_kept():
        expected = model.predict(wide, imgsz=640, device="cpu", verbose=False, **SETTINGS)[0]
    huge, after = pool.map([wide, IMAGES[0]], imgsz=640, **SETTINGS), alone[0]
    result = next(huge)
    assert same(result, expected) and len(expected.boxes) and result.orig_shape == wide.shape[:2]
    huge.close()
    assert same(pool.submit(IMAGES[0], **SETTINGS).result(60), after)


def test_a_setting_out_of_range_fails_that_call_only(pool: Pool, alone: list) -> None:
    with pytest.raises(ValueError, match="conf"):
        pool.submit(IMAGES[0], conf=7.0).result(60)
    assert same(pool.submit(IMAGES[0], **SETTINGS).result(60), alone[0])


def test_ultralytics_does_not_change_the_thread_count(pool: Pool) -> None:
    if isinstance(pool, RemotePool):
        pytest.skip("it predicts in another process: see its own tests")
    seen_threads.clear()
    list(pool.map(IMAGES, imgsz=160))
    list(pool.map(IMAGES, imgsz=192))
    assert seen_threads == {max(1, cores() // pool.workers)}


def test_overlapping_pools_do_not_change_the_callers_thread_count() -> None:
    with torch_threads_kept():
        before = torch.get_num_threads()
        torch.set_num_threads(before + 3)  # ultralytics would set its own
        first, second = SharedModel(device="cpu", imgsz=64), SharedModel(device="cpu", imgsz=64)
        with first:
            second.__enter__()
            assert torch.get_num_threads() == before + 3
        second.shutdown()
        assert torch.get_num_threads() == before + 3


# --- pools of other models and options, with the real model ---


def made(kind: type[Pool], request: pytest.FixtureRequest, *given: object, **options: object) -> Pool:
    if kind is RayActors:
        request.getfixturevalue("ray_joined")
    return make_pool(kind, *given, workers=1, device="cpu", threads=1, **options)


@pytest.mark.nightly
@pytest.mark.parametrize("kind", POOLS)
def test_a_pool_of_a_changed_yolo_object_gives_what_the_object_gives(
    kind: type[Pool], request: pytest.FixtureRequest
) -> None:
    model = YOLO(weights.bundled())
    with torch.no_grad():
        for parameter in model.model.model[-1].parameters():
            parameter.mul_(0.97)
    model.overrides["iou"] = 0.3
    asked = {"imgsz": 160, "conf": 0.001}
    with torch_threads_kept():
        expected = [model.predict(image, device="cpu", verbose=False, **asked)[0] for image in IMAGES]
        plain = YOLO(weights.bundled()).predict(IMAGES[0], device="cpu", verbose=False, **asked)[0]
    with made(kind, request, model, imgsz=(160, 160), conf=0.001) as pool:
        assert all(same(one, other) for one, other in zip(expected, pool.map(IMAGES), strict=True))
    assert not same(plain, expected[0])


@pytest.mark.nightly
@pytest.mark.parametrize("kind", POOLS)
@pytest.mark.parametrize("channels", [1, 4])
def test_models_of_other_numbers_of_channels_work_where_yolo_does(
    kind: type[Pool], channels: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    from ultralytics.nn.tasks import DetectionModel

    torch.manual_seed(0)
    file = tmp_path / "channels.pt"
    torch.save({"model": DetectionModel("yolo11n.yaml", ch=channels, nc=3, verbose=False)}, file)
    model, asked = ultralytics.YOLO(file), {"imgsz": 96, "conf": 1e-6, "max_det": 5}
    given = [*arrays(IMAGES[0]).values(), *pil_images(IMAGES[0]).values(), *files(tmp_path, IMAGES[0]).values()]
    right = 0
    with made(kind, request, file, imgsz=96, conf=1e-6, max_det=5) as pool:
        for image, result in zip(given, pool.map(given, return_exceptions=True), strict=True):
            try:
                with torch_threads_kept():
                    expected = model.predict(image, device="cpu", verbose=False, **asked)[0]
            except RuntimeError:  # another number of channels than its network takes
                assert isinstance(result, ImageError), image
                continue
            right += 1
            assert np.array_equal(result.orig_img, expected.orig_img)
            assert result.orig_img.shape[2] == channels and len(result.boxes) == len(expected.boxes)
            assert kind is OnnxSession or same(result, expected)  # random weights: rounding may swap equal scores
    assert right >= 4


@pytest.mark.nightly
@pytest.mark.parametrize("kind", POOLS)
def test_half_precision_has_no_effect_on_a_cpu_or_is_refused(kind: type[Pool], request: pytest.FixtureRequest) -> None:
    if kind is OnnxSession:
        with pytest.raises(ArgumentError, match="half=True"):
            kind(device="cpu", half=True)
        return
    model = ultralytics.YOLO(weights.bundled())
    with torch_threads_kept():
        expected = model.predict(IMAGES[0], imgsz=160, device="cpu", half=True, verbose=False)[0]
    assert next(model.predictor.model.backend.model.parameters()).dtype == torch.float32
    with made(kind, request, imgsz=160, half=True) as pool:
        assert same(pool.submit(IMAGES[0]).result(WAIT_S), expected)
        with pytest.raises(ArgumentError, match='"half" cannot be set for single images'):
            pool.submit(IMAGES[0], half=True)
