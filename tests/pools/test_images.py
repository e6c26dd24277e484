"""Pictures of every kind: the pixels that YOLO's own loaders give, and one sentence for each that is refused."""

import io
import threading
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from fakes import WAIT_S
from pictures import arrays, files, pil_images, pixels, refused
from ultralytics.data import load_inference_source
from ultralytics.data.loaders import LoadImagesAndVideos

from yolothreads.errors import ImageError
from yolothreads.pools import images, read_image
from yolothreads.pools.images import expand, is_ready

CHANNELS = (1, 3, 4)


def of_yolo(source: Any, channels: int) -> tuple[np.ndarray, str]:
    """Return the pixels and the path that the loaders of YOLO.predict give."""
    (path,), (loaded,), _ = next(iter(load_inference_source(source, channels=channels)))
    return loaded, path


@pytest.mark.parametrize("channels", CHANNELS)
def test_arrays_and_pil_images_become_the_pixels_that_yolo_sees(channels: int) -> None:
    for kind, image in {**arrays(pixels()), **pil_images(pixels())}.items():
        wanted, path = of_yolo(image, channels)
        if wanted.shape[2] != channels:  # no conversion makes 4 channels of 3: YOLO.predict fails, too
            with pytest.raises(ImageError, match=rf"shape.*\(H, W, {channels}\)"):
                read_image(image, channels)
            continue
        got, name = read_image(image, channels)
        assert got.dtype == np.uint8 and got.flags.c_contiguous, kind
        assert np.array_equal(got, wanted), kind
        assert (name or "image0.jpg") == path, kind


@pytest.mark.parametrize("channels", CHANNELS)
def test_files_and_their_bytes_become_the_pixels_that_yolo_sees(channels: int, tmp_path: Path) -> None:
    right = 0
    for kind, file in files(tmp_path, pixels()).items():
        wanted, path = of_yolo(file, channels)
        if wanted.shape[2] != channels:
            for image in (file, file.read_bytes()):
                with pytest.raises(ImageError, match=rf"shape.*\(H, W, {channels}\)"):
                    read_image(image, channels)
            continue
        right += 1
        got, name = read_image(str(file), channels)
        assert np.array_equal(got, wanted) and name == path, kind
        for data in (file.read_bytes(), bytearray(file.read_bytes()), memoryview(file.read_bytes())):
            assert np.array_equal(read_image(data, channels)[0], wanted), f"bytes of {kind}"
    assert right >= 2


def test_a_file_keeps_the_name_that_yolo_gives_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files(tmp_path, pixels())
    monkeypatch.chdir(tmp_path)
    assert read_image("colour.png")[1] == of_yolo("colour.png", 3)[1] == str(tmp_path / "colour.png")
    with PIL.Image.open("colour.png") as image:
        assert read_image(image)[1] == of_yolo(image, 3)[1] == "colour.png"


def test_every_other_picture_is_refused_in_one_sentence(tmp_path: Path) -> None:
    for kind, (image, words) in refused(tmp_path).items():
        with pytest.raises(ImageError, match=words) as error:
            read_image(image)
        message = str(error.value)
        assert message.endswith(".") and ". " not in message and len(message) < 400, kind


def test_nothing_is_left_of_bytes_that_had_to_be_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    data = files(tmp_path, pixels())["colour.tif"].read_bytes()
    before = set(tmp_path.iterdir())
    read_image(data)
    with pytest.raises(ImageError):
        read_image(data[:40])
    assert set(tmp_path.iterdir()) == before


def test_only_an_array_that_yolo_takes_as_it_is_is_ready() -> None:
    ready = {kind for kind, image in arrays(pixels()).items() if is_ready(image)}
    assert ready == {"array", "read-only array"}
    image = pixels()
    assert read_image(image)[0] is image
    assert is_ready(pixels(channels=1), channels=1) and not is_ready(pixels(channels=1))


def test_two_threads_never_load_one_pil_image_at_the_same_time() -> None:
    begun, now, most = threading.Event(), 0, 0

    class File(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            nonlocal now, most
            now, most = now + 1, max(most, now + 1)
            begun.set()
            threading.Event().wait(0.05)  # time for the other thread to come, if it can
            now -= 1
            return super().read(size)

    picture = io.BytesIO()
    PIL.Image.fromarray(pixels()).save(picture, "PNG")
    image = PIL.Image.open(File(picture.getvalue()))
    begun.clear()
    first = threading.Thread(target=read_image, args=(image,))
    first.start()
    assert begun.wait(WAIT_S)
    got, _ = read_image(image)
    first.join()
    assert most == 1 and np.array_equal(got, pixels()[..., ::-1])


def test_a_folder_a_glob_and_a_list_give_the_files_of_yolo_in_its_order(tmp_path: Path) -> None:
    files(tmp_path, pixels())
    (tmp_path / "notes.md").write_text("no picture")
    (tmp_path / "list.txt").write_text("grey.png\ncolour.jpg\n")
    for source in (tmp_path, str(tmp_path), str(tmp_path / "*.png"), tmp_path / "list.txt"):
        assert list(expand(source)) == LoadImagesAndVideos(source).files
    assert len(list(expand(tmp_path))) == 17
    assert [Path(file).name for file in expand(tmp_path / "list.txt")] == ["colour.jpg", "grey.png"]


def test_a_video_in_a_folder_is_not_left_out(tmp_path: Path) -> None:
    for name, (image, _) in refused(tmp_path).items():
        if name == "GIF":
            inside = tmp_path / "inside"
            inside.mkdir()
            image.rename(inside / "moves.gif")
    (inside / "one.png").write_bytes(files(tmp_path, pixels())["colour.png"].read_bytes())
    one, two = expand(inside)
    assert read_image(one)[1] == str(inside / "one.png")
    with pytest.raises(ImageError, match="frames"):
        read_image(two)


def test_other_images_are_passed_on_and_one_path_is_one_image(tmp_path: Path) -> None:
    several = iter([1, 2])
    assert expand(several) is several
    assert list(expand(tmp_path / "one.png")) == [tmp_path / "one.png"]
    assert list(expand("one.png")) == ["one.png"]


@pytest.mark.parametrize("source", ["empty", "missing/*.png", "missing.txt"])
def test_a_source_without_pictures_is_an_error_at_once(source: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageError, match=source.split("*")[0].replace(".", r"\.")):
        expand(tmp_path / source)


def test_running_out_of_memory_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(images, "_converted", full)
    with pytest.raises(MemoryError, match="no memory for An array"):
        read_image(pixels()[..., 0])
