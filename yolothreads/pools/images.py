"""Pictures: whatever a pool takes as one image becomes pixels here, the very pixels that `YOLO.predict` would see.

Every picture of every pool is read, converted and checked by `read_image`, in a thread of the pool. What ultralytics
does to a picture, its own loaders do here, too.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from yolothreads import trace
from yolothreads.errors import ImageError, OutOfMemoryError
from yolothreads.sources import load_pil

Image = str | os.PathLike[str] | bytes | bytearray | memoryview | PIL.Image.Image | NDArray[np.uint8 | np.uint16]
"""One picture: a path; the bytes of a picture file; a PIL image; or an array of uint8 or uint16 pixels.

An array is (H, W, 3) in the order BGR, (H, W, 4) in the order BGRA, or grey: (H, W) or (H, W, 1).
"""

Images = Iterable[Image] | str | os.PathLike[str]
"""Several pictures; a path stands for a folder, a glob such as "photos/*.jpg", or one picture."""

_ARRAYS = "(H, W, 3) BGR, (H, W, 4) BGRA, (H, W) or (H, W, 1) of uint8 or uint16"
_DOWNLOADS = ("http://", "https://")
_STREAMS = ("rtsp://", "rtmp://", "tcp://")  # and files that name some: *.streams
_LISTS = (".txt", ".csv")


def read_image(image: Image, channels: int = 3) -> tuple[NDArray[np.uint8], str]:
    """Read, convert and check one picture as `YOLO.predict` does.

    Pictures with 16 bits become 8-bit, grey and RGBA pictures get the channels of the model, and a PIL image is turned
    as its EXIF data says. Only float and int32 pixels, which `YOLO.predict` takes for 0 to 255, are refused.

    Args:
        image: as described at `Image`.
        channels: the number of channels of the model: 3 (BGR), 1 (grey), or more, which no conversion makes.

    Returns:
        The pixels, (H, W, channels) uint8 without gaps, and the path ("" for an image that has none).

    Raises:
        ImageError: there is no such file, it is not a picture, or its pixels have another type or shape.
        OutOfMemoryError: there is no memory for the picture.
    """
    try:
        pixels, name = _read(image, channels)
        return _check(pixels, channels, image), name
    except ImageError:
        raise
    except MemoryError as error:
        raise OutOfMemoryError(f"There is no memory for {_named(image)}; give smaller images, or fewer.") from error
    except Exception as error:  # OpenCV and Pillow raise whatever comes from their decoders
        raise ImageError(f"{_named(image)} could not be read as a picture ({_reason(error)}); check it.") from error


def is_ready(image: Image, channels: int = 3) -> bool:
    """Return whether an image is an array that needs no work, so that `read_image` takes microseconds."""
    return (
        isinstance(image, np.ndarray)
        and image.dtype == np.uint8
        and image.ndim == 3
        and image.shape[2] == channels
        and image.flags.c_contiguous
    )


def expand(images: Images) -> Iterable[Image]:
    """Return several images as they are, and the files of a folder, a glob or a list, sorted as `YOLO.predict` does.

    Raises:
        ImageError: there is no such folder or file, or it holds neither a picture nor a video.
    """
    if not isinstance(images, str | os.PathLike):
        return images
    from ultralytics.data.loaders import LoadImagesAndVideos

    source = os.fspath(images)
    if not (Path(source).is_dir() or "*" in source or source.lower().endswith(_LISTS)):
        return [images]
    try:
        loader = LoadImagesAndVideos(source)
    except (OSError, ValueError) as error:
        raise ImageError(f'The pictures of "{_cut(source)}" could not be listed ({_reason(error)}).') from error
    loader.close()
    return loader.files


# --- from each kind of image to pixels ---


def _read(image: Image, channels: int) -> tuple[NDArray[Any], str]:
    if isinstance(image, np.ndarray):
        return _from_array(image, channels), ""
    with trace.span("load"):
        if isinstance(image, PIL.Image.Image):
            return _from_pil(image, channels)
        if isinstance(image, bytes | bytearray | memoryview):
            return _from_bytes(image, channels), ""
        if isinstance(image, str | os.PathLike):
            return _from_path(image, channels)
    raise ImageError(f"A {type(image).__name__} is no image; give a path, bytes, a PIL image or an array of {_ARRAYS}.")


def _from_array(image: NDArray[Any], channels: int) -> NDArray[Any]:
    if image.dtype not in (np.uint8, np.uint16) or image.ndim not in (2, 3) or 0 in image.shape:
        raise ImageError(f"An array of shape {image.shape} and type {image.dtype} is no image; give {_ARRAYS}.")
    return image if is_ready(image, channels) else _converted(image, channels)


def _from_pil(image: PIL.Image.Image, channels: int) -> tuple[NDArray[Any], str]:
    if image.mode in ("I", "F"):
        kind = "int32" if image.mode == "I" else "float32"
        raise ImageError(f"{_named(image)} has pixels of type {kind}; convert them to 8 bits yourself.")
    load_pil(image)
    return _converted(image, channels), str(getattr(image, "filename", ""))


def _converted(image: NDArray[Any] | PIL.Image.Image, channels: int) -> NDArray[Any]:
    from ultralytics.data.loaders import LoadPilAndNumpy

    return LoadPilAndNumpy(image, channels=channels).im0[0]


def _from_path(image: str | os.PathLike[str], channels: int) -> tuple[NDArray[Any], str]:
    text = os.fspath(image)
    _refuse_other_sources(text)
    path = Path(text).absolute()  # as in a result of YOLO.predict
    try:
        if not path.is_file():
            raise _absent(text, is_folder=path.is_dir())
    except OSError as error:
        raise ImageError(f'There is no image at "{_cut(text)}" ({_reason(error)}); check the path.') from error
    pixels = _imread(str(path), channels)
    if pixels is None:
        raise ImageError(f'"{_cut(text)}" could not be read as a picture; the file is damaged or of an unknown format.')
    return pixels, str(path)


def _absent(text: str, *, is_folder: bool) -> ImageError:
    """Return the error for a path that is no file."""
    if is_folder or "*" in text:
        what = "a folder" if is_folder else "a glob"
        return ImageError(f'"{_cut(text)}" is {what}, not one picture; give it to map.')
    remedy = f"for a camera use frames({text})" if text.isdecimal() else "check the path"
    return ImageError(f'There is no image at "{_cut(text)}"; {remedy}.')


def _refuse_other_sources(text: str) -> None:
    """Raise an ImageError for a string that is a source of `YOLO.predict`, but not a file of one picture."""
    from ultralytics.data.utils import VID_FORMATS

    low = text.lower()
    if low.startswith(_DOWNLOADS):
        raise ImageError(f'"{_cut(text)}" is a URL, and a pool opens no connection; download it and give its bytes.')
    if low.startswith(_STREAMS) or low.endswith(".streams"):
        raise ImageError(f'"{_cut(text)}" is a stream, not one picture; use frames(url), and give its frames to map.')
    if low.rpartition(".")[2] in VID_FORMATS:
        raise ImageError(f'"{_cut(text)}" is a video or an animation; use frames(path), and give its frames to map.')
    if low.endswith(_LISTS):
        raise ImageError(f'"{_cut(text)}" is a list of sources, not one picture; give it to map.')


def _imread(file: str, channels: int) -> NDArray[Any] | None:
    from ultralytics.utils.patches import imread  # the function with which YOLO.predict reads files

    return imread(file, flags=_flags(channels))


def _flags(channels: int) -> int:
    """Return how OpenCV has to decode a picture for a model; as ultralytics' LoadImagesAndVideos."""
    import cv2

    return {1: cv2.IMREAD_GRAYSCALE, 3: cv2.IMREAD_COLOR}.get(channels, cv2.IMREAD_UNCHANGED)


# The beginnings of files that `imread` does not simply hand to OpenCV.
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_FILMS = (b"GIF8", b"\x1aE\xdf\xa3")  # and those in a box of another brand than these:
_STILL = {b"avif": ".avif", b"heic": ".heic", b"heix": ".heic", b"mif1": ".heic"}


def _from_bytes(data: bytes | bytearray | memoryview, channels: int) -> NDArray[Any]:
    head = bytes(data[:12])
    in_box = head[4:8] == b"ftyp"
    if head.startswith(_FILMS) or head[8:] == b"AVI " or (in_box and head[8:] not in _STILL):
        raise ImageError("These bytes are a video or an animation; save them as a file and use frames(path).")
    if suffix := ".tif" if head.startswith(_TIFF) else _STILL[head[8:]] if in_box else "":
        with tempfile.TemporaryDirectory(prefix="yolothreads-") as folder:  # ultralytics decodes these by their name
            file = Path(folder, f"image{suffix}")
            file.write_bytes(data)
            pixels = _imread(str(file), channels)
    else:
        pixels = _decode(data, channels)
    if pixels is None:
        raise ImageError(f"{_named(data)} are no picture; they are damaged or of an unknown format.")
    return pixels


def _decode(data: bytes | bytearray | memoryview, channels: int) -> NDArray[Any] | None:
    """Decode as `imread` does."""
    import cv2

    if not len(data):
        return None
    pixels: NDArray[Any] | None = cv2.imdecode(np.frombuffer(data, np.uint8), _flags(channels))
    if pixels is not None and pixels.dtype == np.uint16:
        pixels = np.right_shift(pixels, 8).astype(np.uint8)
    return pixels[..., None] if pixels is not None and pixels.ndim == 2 else pixels


def _check(pixels: NDArray[Any], channels: int, image: Image) -> NDArray[np.uint8]:
    """Return the pixels without gaps, on which ultralytics could not draw; or raise an ImageError."""
    if pixels.dtype != np.uint8:
        raise ImageError(f"{_named(image)} has pixels of type {pixels.dtype}; convert them to 8 bits yourself.")
    if pixels.ndim != 3 or 0 in pixels.shape or pixels.shape[2] != channels:
        wanted = f"(H, W, {channels}), which the model takes"
        raise ImageError(f"{_named(image)} has pixels of shape {pixels.shape}; give a picture of {wanted}.")
    return np.ascontiguousarray(pixels)


# --- messages ---


def _named(image: Any) -> str:
    if isinstance(image, str | os.PathLike):
        return f'"{_cut(str(image))}"'
    if isinstance(image, np.ndarray):
        return f"An array of shape {image.shape} and type {image.dtype}"
    if isinstance(image, bytes | bytearray | memoryview):
        return f"These {len(image)} bytes"
    if isinstance(image, PIL.Image.Image):
        return f"A PIL image of {image.width} x {image.height} pixels and mode {image.mode}"
    return f"A {type(image).__name__}"


def _cut(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:100]}...{text[-60:]}"


def _reason(error: Exception) -> str:
    words = getattr(error, "err", "") or getattr(error, "strerror", "") or str(error) or type(error).__name__
    return " ".join(str(words).split())[:200]
