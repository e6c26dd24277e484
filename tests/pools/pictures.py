"""One picture of every kind that pools take, and of every kind that they refuse."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image


def pixels(height: int = 60, width: int = 80, channels: int = 3) -> np.ndarray:
    """Return (H, W, C) uint8 pixels that differ everywhere, and in every channel."""
    return np.random.default_rng(channels).integers(0, 256, (height, width, channels), np.uint8)


def wide(image: np.ndarray) -> np.ndarray:
    """Return an image with 16 bits, whose lower 8 bits are no zeros."""
    return image.astype(np.uint16) * 256 + 37


def arrays(bgr: np.ndarray) -> dict[str, np.ndarray]:
    """Return every kind of array that shows this (H, W, 3) image, or something like it."""
    grey, alpha = bgr[..., 0], bgr[..., 1:2]
    bgra = np.concatenate([bgr, alpha], axis=2)
    return {
        "array": bgr,
        "array with gaps": bgr[::2, ::-1],
        "read-only array": np.frombuffer(bgr.tobytes(), np.uint8).reshape(bgr.shape),
        "grey array": np.ascontiguousarray(grey),
        "grey array of one channel": np.ascontiguousarray(grey[..., None]),
        "array of grey and alpha": np.ascontiguousarray(bgr[..., :2]),
        "BGRA array": bgra,
        "16-bit array": wide(bgr),
        "16-bit grey array": wide(grey),
        "16-bit BGRA array": wide(bgra),
    }


def pil_images(bgr: np.ndarray) -> dict[str, PIL.Image.Image]:
    """Return PIL images of every mode that shows this image, or something like it."""
    rgb = PIL.Image.fromarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB))
    found = {f"PIL {mode}": rgb.convert(mode) for mode in ("RGB", "RGBA", "L", "LA", "P", "CMYK", "1")}
    found["PIL I;16"] = PIL.Image.fromarray(wide(bgr[..., 0]))
    file = io.BytesIO()
    rgb.save(file, "PNG", exif=_turned())
    found["PIL, turned by EXIF"] = PIL.Image.open(file)  # not loaded yet
    return found


def _turned() -> PIL.Image.Exif:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    return exif


def files(folder: Path, bgr: np.ndarray) -> dict[str, Path]:
    """Write a file of every kind that shows this image, or something like it."""
    grey, bgra = bgr[..., 0], np.concatenate([bgr, bgr[..., :1]], axis=2)
    to_write = {
        "colour.png": bgr, "grey.png": grey, "alpha.png": bgra, "16 bits.png": wide(bgr),
        "grey, 16 bits.png": wide(grey), "colour.jpg": bgr, "grün.bmp": bgr, "colour.webp": bgr,
        "colour.tif": bgr, "grey.tiff": grey, "alpha.tif": bgra, "16 bits.TIF": wide(bgr),
    }  # fmt: skip
    found = {}
    for name, image in to_write.items():
        found[name] = folder / name
        found[name].write_bytes(cv2.imencode(found[name].suffix.lower(), image)[1].tobytes())
    found["pages.tif"] = folder / "pages.tif"
    cv2.imwritemulti(str(found["pages.tif"]), [bgr, bgr[::-1]])
    rgb = PIL.Image.fromarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB))
    for name, image, more in (
        ("turned.jpg", rgb, {"exif": _turned()}),
        ("palette.png", rgb.convert("P"), {}),
        ("cmyk.jpg", rgb.convert("CMYK"), {}),
        ("colour.avif", rgb, {}),
    ):
        found[name] = folder / name
        image.save(found[name], **more)
    return found


def huge_png() -> bytes:
    """Return a PNG of 100 bytes that claims to have 60000 x 60000 pixels."""
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    parts = (b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*part) for part in parts)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def refused(folder: Path) -> dict[str, tuple[Any, str]]:
    """Return images that no pool takes, each with words that the error says."""
    bgr = pixels()
    whole = cv2.imencode(".png", bgr)[1].tobytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "text.jpg").write_text("not a picture")
    (folder / "empty.png").write_bytes(b"")
    (folder / "huge.png").write_bytes(huge_png())
    (folder / "list.txt").write_text("one.png")
    for name, kind in (("float.tif", np.float32), ("int.tif", np.int32)):
        cv2.imwrite(str(folder / name), bgr.astype(kind))
    PIL.Image.fromarray(bgr).save(folder / "moves.gif")
    (folder / "clip.mp4").write_bytes(b"\0\0\0\x18ftypisom\0\0\2\0isomiso2")
    return {
        "missing file": (folder / "missing.jpg", "no image at"),
        "name too long": ("n" * 300 + ".jpg", "no image at"),
        "name with a zero": ("a\0b.jpg", "no image at"),
        "folder": (folder, "a folder, not one picture; give it to map"),
        "glob": (str(folder / "*.png"), "a glob, not one picture; give it to map"),
        "list": (folder / "list.txt", "a list of sources"),
        "camera": ("0", r"use frames\(0\)"),
        "URL": ("https://example.com/bus.jpg", "is a URL, and a pool opens no connection"),
        "stream": ("rtsp://camera/1", r"use frames\(url\)"),
        "GIF": (folder / "moves.gif", r"use frames\(path\)"),
        "video": (str(folder / "clip.mp4"), r"use frames\(path\)"),
        "bytes of a GIF": ((folder / "moves.gif").read_bytes(), r"use frames\(path\)"),
        "bytes of a video": ((folder / "clip.mp4").read_bytes(), r"use frames\(path\)"),
        "cut file": (folder / "cut.png", "could not be read as a picture"),
        "text": (folder / "text.jpg", "could not be read as a picture"),
        "empty file": (folder / "empty.png", "could not be read as a picture"),
        "huge file": (folder / "huge.png", "could not be read as a picture"),
        "no bytes": (b"", "no picture"),
        "bytes of a text": (b"not a picture", "no picture"),
        "huge bytes": (huge_png(), "could not be read as a picture"),
        "float TIFF": (folder / "float.tif", "pixels of type float32"),
        "int32 TIFF": (folder / "int.tif", "pixels of type int32"),
        "bytes of a float TIFF": ((folder / "float.tif").read_bytes(), "pixels of type float32"),
        "float array": (bgr.astype(np.float32), "type float32"),
        "double array": (bgr / 255, "type float64"),
        "int32 array": (bgr.astype(np.int32), "type int32"),
        "bool array": (bgr > 9, "type bool"),
        "float PIL image": (PIL.Image.fromarray(bgr[..., 0].astype(np.float32)), "pixels of type float32"),
        "int32 PIL image": (PIL.Image.fromarray(bgr[..., 0].astype(np.int32)), "pixels of type int32"),
        "row": (bgr[0, :, 0], "shape"),
        "batch": (bgr[None], "shape"),
        "empty array": (bgr[:0], "shape"),
        "number": (3, "A int is no image"),
        "nothing": (None, "A NoneType is no image"),
    }
