"""Every pool with the real model and small images: the results of one model alone, no side effects of ultralytics."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import ultralytics
from deadlines import scaled

from yolothreads.devices import cores, torch_threads_kept
from yolothreads.errors import ImageError
from yolothreads.measure import same
from yolothreads.pools import POOLS, Pool, RayActors, RemotePool, SharedModel, make_pool
from yolothreads.scenes import SHAPES, scene

pytestmark = pytest.mark.timeout(scaled(120))
IMAGES = [scene(seed, SHAPES[seed % 2]).image for seed in range(6)]
SETTINGS = {"conf": 0.001, "max_det": 20}
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


@pytest.fixture(scope="module", params=POOLS, ids=lambda kind: kind.__name__)
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


def test_bad_images_fail_alone(pool: Pool, alone: list, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("not a picture")
    grey = np.zeros((64, 64), np.uint8)
    images = [IMAGES[0], tmp_path / "missing.png", IMAGES[1], tmp_path / "text.png", IMAGES[2], grey, IMAGES[3]]
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
