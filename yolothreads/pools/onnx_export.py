"""YOLO weights as ONNX files: exported once, kept in a cache, and checked each time they are used."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from uuid import uuid4

from yolothreads.errors import WeightsError, writing

# A size of the image does not fix the graph's, but with dynamic=False wide images would be padded to squares, which a
# .pt model does not do. simplify=True would need a further package, and makes no difference in speed.
_RECIPE = {"format": "onnx", "dynamic": True, "simplify": False, "imgsz": 640, "device": "cpu"}
_EXPORT_S = 900.0  # deadline; yolo11n takes 4 to 8 s on two cores
_CODE = "import json, sys, ultralytics; ultralytics.YOLO(sys.argv[1]).export(**json.loads(sys.argv[2]))"


def cache_folder() -> Path:
    """Where exported files are kept: $YOLOTHREADS_CACHE, or the user's folder for caches. It may be deleted."""
    import platformdirs

    chosen = os.environ.get("YOLOTHREADS_CACHE")
    return Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("yolothreads")


def onnx_file(weights: Path) -> Path:
    """The ONNX file of these weights, from the cache if it is there and whole, else exported now.

    The graph takes float32 images (1, 3, H, W) of any height and width that are multiples of the model's stride.

    A file is named by what it was made of and by its own sha256, so that a damaged one is found out and made anew. Two
    processes may export at once: a file appears under its name only when it is complete.

    Raises:
        WeightsError: ultralytics cannot export this model, or the weights can no longer be read.
        OutputError: the cache cannot be written.
    """
    try:
        data = weights.read_bytes()
    except OSError as error:
        raise WeightsError(f'The weights "{weights}" cannot be read ({error.strerror}); check the path.') from error
    made_of = [_RECIPE, *(version(name) for name in ("ultralytics", "torch", "onnx"))]
    key = _digest([data, json.dumps(made_of).encode()])
    folder = cache_folder()
    problem = f'The cache of ONNX files "{folder}" cannot be used'
    with writing(problem, "set the environment variable YOLOTHREADS_CACHE to a folder that can be written to"):
        for found in sorted(folder.glob(f"{key}-*.onnx")):
            if found.stem.endswith(_digest([found.read_bytes()])):
                return found
            found.unlink(missing_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        graph = _export(data, weights)
        file = folder / f"{key}-{_digest([graph])}.onnx"
        _write_whole(file, graph)
    return file


def _digest(parts: Iterable[bytes]) -> str:
    """32 hex digits of a sha256, which keeps names short enough for any file system."""
    sha = hashlib.sha256()
    for part in parts:
        sha.update(part)
    return sha.hexdigest()[:32]


def _write_whole(file: Path, data: bytes) -> None:
    """Write under another name first, so that a half-written file is never taken for a whole one."""
    part = file.with_name(f"part-{uuid4().hex}")
    try:
        part.write_bytes(data)
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


def _export(data: bytes, weights: Path) -> bytes:
    """Have ultralytics export the weights in a process of its own.

    While it exports, ultralytics replaces `torch.arange` for the whole process, prints, writes to the user's settings,
    changes torch's thread count, and installs what it misses. There, all of this touches nobody.
    """
    with tempfile.TemporaryDirectory(prefix="yolothreads-", ignore_cleanup_errors=True) as folder:
        copy = Path(folder, "weights.pt")  # ultralytics writes beside it
        copy.write_bytes(data)
        settings = {"YOLO_AUTOINSTALL": "false", "YOLO_OFFLINE": "true", "YOLO_CONFIG_DIR": folder}
        command = [sys.executable, "-c", _CODE, str(copy), json.dumps(_RECIPE)]
        try:
            subprocess.run(
                command,
                capture_output=True,
                check=True,
                cwd=folder,
                env={**os.environ, **settings},
                stdin=subprocess.DEVNULL,
                timeout=_EXPORT_S,
            )
            return copy.with_suffix(".onnx").read_bytes()
        except (subprocess.SubprocessError, FileNotFoundError) as error:
            said = getattr(error, "stderr", None) or b""
            reason = (said.decode(errors="replace").strip() or str(error)).splitlines()[-1][:300]
            raise WeightsError(
                f'"{weights}" could not be exported to ONNX ({reason}); use another pool, such as Replicas.'
            ) from error
