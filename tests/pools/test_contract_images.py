"""What every pool does with pictures: it reads them in its own threads, and a step that fails leaves nothing behind."""

import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from deadlines import scaled
from fakes import KINDS, WAIT_S, FakeModel, FakeModels, picture, tag_of
from pictures import arrays, files, pil_images, pixels, refused
from steps import BrokenError, failing_once
from ultralytics.engine.results import Results

from yolothreads.errors import ArgumentError, ImageError
from yolothreads.pools import BatchingWorker, Pool, batching, images, make_pool, read_image, remote, thread_pools

pytestmark = [pytest.mark.timeout(scaled(120)), pytest.mark.parametrize("kind", [*KINDS, BatchingWorker])]


def write(file: Path, image: np.ndarray) -> Path:
    file.write_bytes(cv2.imencode(file.suffix, image)[1].tobytes())
    return file


def test_a_result_shows_the_pixels_that_yolo_sees(kind: type[Pool], fakes: FakeModels, tmp_path: Path) -> None:
    given = [*arrays(pixels()).values(), *pil_images(pixels()).values(), *files(tmp_path, pixels()).values()]
    given += [file.read_bytes() for file in given if isinstance(file, Path)]
    with make_pool(kind, workers=2, device="cpu") as pool:
        for image, result in zip(given, pool.map(given), strict=True):
            wanted, name = read_image(image)
            assert np.array_equal(result.orig_img, wanted) and result.path == (name or "image0.jpg")


def test_a_picture_that_is_refused_is_refused_alone(kind: type[Pool], fakes: FakeModels, tmp_path: Path) -> None:
    bad = [image for image, _ in refused(tmp_path).values()]
    mixed = [image for tag, each in enumerate(bad, 1) for image in (picture(tag), each)]
    with make_pool(kind, workers=2, device="cpu") as pool:
        submitted = [pool.submit(image) for image in mixed]
        mapped = list(pool.map(mixed, return_exceptions=True))
        assert [tag_of(f.result(WAIT_S)) for f in submitted[::2]] == list(range(1, len(bad) + 1))
        assert [tag_of(result) for result in mapped[::2]] == list(range(1, len(bad) + 1))
        assert {type(future.exception(WAIT_S)) for future in submitted[1::2]} == {ImageError}
        assert {type(error) for error in mapped[1::2]} == {ImageError}


def test_map_takes_a_folder_and_a_glob(kind: type[Pool], fakes: FakeModels, tmp_path: Path) -> None:
    for tag, name in ((2, "b.png"), (1, "a.png"), (3, "c.bmp")):
        write(tmp_path / name, picture(tag))
    with kind(device="cpu") as pool:
        for source, tags in ((tmp_path, [1, 2, 3]), (str(tmp_path / "*.png"), [1, 2]), (tmp_path / "c.bmp", [3])):
            assert [tag_of(result) for result in pool.map(source)] == tags
        with pytest.raises(ImageError, match="missing"):
            pool.map(tmp_path / "missing" / "*.png")


def test_no_file_is_read_in_the_callers_thread(
    kind: type[Pool], fakes: FakeModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, threads = images._read, []

    def noting(*args: Any) -> Any:
        threads.append(threading.current_thread())
        return read(*args)

    monkeypatch.setattr(images, "_read", noting)
    file = write(tmp_path / "a.png", picture(1))
    given = [
        file,
        file.read_bytes(),
        pil_images(picture(1))["PIL RGB"],
        picture(1)[..., 0],
        picture(1).astype(np.uint16),
    ]
    with kind(device="cpu") as pool:
        for image in given:
            pool.submit(image).result(WAIT_S)
    assert len(threads) == len(given) and threading.current_thread() not in threads


STEPS = [
    (images, "_read"), (images, "_from_path"), (images, "_imread"), (images, "_converted"), (images, "_check"),
    (thread_pools, "read_image"), (batching, "read_image"), (batching, "is_ready"), (batching, "batch_key"),
    (thread_pools.ThreadPool, "_hand_over"), (thread_pools.ThreadPool, "_track"), (batching.CallQueue, "put"),
    (batching.CallQueue, "add_pixels"), (batching.BatchingWorker, "_answer"), (batching, "predict_batch"),
    (thread_pools, "memory_errors_named"), (batching, "memory_errors_named"), (remote.RemotePool, "_live_worker"),
    (FakeModel, "_results"), (Results, "cpu"), (Results, "__init__"),
]  # fmt: skip
"""The functions on the way of a picture through the pools, which do not all use each."""


def test_a_step_that_fails_leaves_nothing_behind(kind: type[Pool], fakes: FakeModels, tmp_path: Path) -> None:
    file = write(tmp_path / "5.png", picture(5)[..., 0])
    given = [picture(4), file, picture(6).astype(np.uint16) << 8, picture(7)[..., 0]]
    tags = [4, 5, 6, 7]
    used = set()
    with make_pool(kind, workers=2, device="cpu") as pool:
        for owner, name in STEPS:
            for image in given:
                with failing_once(owner, name) as failed:
                    try:
                        error = pool.submit(image).exception(WAIT_S)
                    except BrokenError as raised:
                        error = raised
                    if failed:
                        used.add(name)
                        assert isinstance(error, BrokenError) or isinstance(error.__cause__, BrokenError)
            assert [tag_of(result) for result in pool.map(given * 5)] == tags * 5, name
            assert not pool._under_way
            if isinstance(pool, BatchingWorker):
                assert pool.counters.waiting == 0 and len(pool._queue._waiting) == 0
    assert {"_read", "_from_path", "_imread", "_converted", "_check", "read_image", "_results", "__init__"} <= used


@pytest.mark.parametrize(
    ("name", "value", "instead"),
    [
        ("save", True, r"result\.save\("),
        ("save_txt", True, r"result\.save_txt\("),
        ("save_crop", True, r"result\.save_crop\("),
        ("save_conf", True, r"result\.save_txt\(.*save_conf=True"),
        ("save_frames", True, r"frames\(path\).*result\.save\("),
        ("project", "runs", r"result\.save\("),
        ("name", "exp", r"result\.save\("),
        ("exist_ok", True, r"result\.save\("),
        ("visualize", True, r"YOLO\.predict"),
    ],
)
def test_settings_that_write_files_are_refused_with_the_line_that_does_it(
    kind: type[Pool], name: str, value: Any, instead: str, fakes: FakeModels
) -> None:
    with pytest.raises(ArgumentError, match=f'writes no files.*"{name}".*{instead}'):
        kind(device="cpu", **{name: value})
    pool = kind(device="cpu", save=False, save_txt=False)
    with pytest.raises(ArgumentError, match=f'"{name}".*{instead}'):
        pool.submit(picture(1), **{name: value})
    with pytest.raises(ArgumentError, match=f'"{name}".*{instead}'), pool:
        pool.map([picture(1)], **{name: value})
