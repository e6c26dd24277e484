"""Weights: the bundled model, an official name, a path or a YOLO object, checked before they are loaded."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import weakref
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Union

from yolothreads.errors import WeightsError

if TYPE_CHECKING:
    from ultralytics import YOLO

Weights = Union[str, "os.PathLike[str]", "YOLO"]
"""What a pool can be made of: "bundled", an official name, a path, or a YOLO object, which is copied."""

ASSETS = Path(__file__).parent / "assets"
_BUNDLED = ASSETS / "scenes-yolo11n.pt"


def bundled() -> Path:
    """Return the path of the model that comes with the kit, after comparing its sha256 with the published one.

    Raises:
        WeightsError: the file is missing or was changed.
    """
    shipped = _BUNDLED.with_suffix(".sha256")
    if not _BUNDLED.is_file() or not shipped.is_file():
        raise WeightsError(f'The bundled weights "{_BUNDLED}" are missing; install yolothreads again.')
    if hashlib.sha256(_BUNDLED.read_bytes()).hexdigest() not in shipped.read_text().split()[:1]:
        raise WeightsError(f'The bundled weights "{_BUNDLED}" were changed; install yolothreads again.')
    return _BUNDLED


def check(weights: str | os.PathLike[str] = "bundled", task: str | None = "detect") -> Path:
    """Find weights and make sure that loading them is safe and useful.

    The file is read with `torch.load(weights_only=True)` and ultralytics' list of model classes. A pickle that would
    run code is refused, and none of its code runs.

    Args:
        weights: "bundled", the path of a .pt file, or an official name such as "yolo11n.pt", which ultralytics
            downloads where there is a network.
        task: the task that the model must have been made for; None for any.

    Returns:
        The path of the file.

    Raises:
        WeightsError: the file is missing, damaged, not to be trusted, or made for another task.
    """
    path = bundled() if str(weights) == "bundled" else _locate(Path(weights).expanduser())
    found = _kind_of(path, path.stat().st_mtime_ns).task
    if task is not None and found != task:
        raise WeightsError(f'"{path}" was made for the task "{found}"; give weights made for "{task}".')
    return path


def channels_of(path: Path) -> int:
    """Return the number of channels of the images that a checked model takes: 3 for colours, 1 for grey, or others."""
    return _kind_of(path, path.stat().st_mtime_ns).channels


class Snapshot:
    """The network and the settings that a YOLO object has now, in a file of its own. Nothing of the object is changed.

    file: the weights, in full precision; it disappears with this snapshot. settings: what the object's `overrides` say
    about predictions.

    Raises:
        WeightsError: the object is no YOLO object, or cannot be copied completely.
    """

    def __init__(self, model: YOLO) -> None:
        import torch
        from ultralytics.models import RTDETR, YOLO, YOLOWorld  # loading the file gives each of these again
        from ultralytics.utils import DEFAULT_CFG_DICT

        if type(model) not in (RTDETR, YOLO, YOLOWorld):
            raise WeightsError(f"A {type(model).__name__} is not copied by a pool; give a path, or a YOLO object.")
        if not isinstance(network := model.model, torch.nn.Module):
            raise WeightsError(f'This YOLO object is the exported model "{network}"; give its path instead.')
        if _has_own_callbacks(model):
            raise WeightsError("This YOLO object has callbacks of yours, which no pool calls; take them away first.")
        # The pool itself decides on these, `YOLO.predict` overrides them, or they belong to training.
        others = {"task", "model", "mode", "data", "single_cls", "imgsz", "device", "verbose"}
        others |= {"batch", "conf", "embed", "rect", "save"}
        self.settings = {k: v for k, v in model.overrides.items() if k in DEFAULT_CFG_DICT and k not in others}
        folder = tempfile.mkdtemp(prefix="yolothreads-")
        weakref.finalize(self, _remove, folder, os.getpid())  # at the end of the program at the latest
        self.file = Path(folder, Path(model.ckpt_path or "model.pt").with_suffix(".pt").name)
        try:
            torch.save({"model": network}, self.file)
            check(self.file, task=None)
        except Exception as error:  # pickle raises whatever an object of the user's raises
            raise WeightsError(
                f"This YOLO object cannot be copied ({type(error).__name__}: {error}); give the path of its weights."
            ) from error


def _remove(folder: str, owner: int) -> None:
    """Remove the folder of a snapshot, but not at the end of a forked child."""
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)


def _has_own_callbacks(model: YOLO) -> bool:
    """Return whether a model calls functions that are neither ultralytics' defaults nor of its integrations."""
    called = (callback for callbacks in model.callbacks.values() for callback in callbacks)
    return any(not str(callback.__module__).startswith("ultralytics") for callback in called)


class _Kind(NamedTuple):
    task: str
    channels: int


def _locate(path: Path) -> Path:
    if path.is_dir():
        raise WeightsError(f'The weights "{path}" are a folder; name the .pt file in it.')
    if path.is_file():
        return path
    from ultralytics.utils.downloads import GITHUB_ASSETS_NAMES, attempt_download_asset

    if str(path) not in GITHUB_ASSETS_NAMES:
        raise WeightsError(f'There are no weights at "{path}"; check the path, or use weights="bundled".')
    try:
        got = Path(attempt_download_asset(str(path)))
        got.stat()  # a download may also fail silently
    except Exception as error:  # ultralytics raises whatever its transport does
        raise WeightsError(
            f'The official weights "{path.name}" could not be downloaded ({type(error).__name__}: {error}). '
            'Put the file here yourself, or use weights="bundled".'
        ) from error
    return got


@lru_cache(maxsize=32)
def _kind_of(path: Path, changed_ns: int) -> _Kind:
    """Load a file without trusting it, and return the kind of its model. `changed_ns` keeps edited files apart."""
    import torch
    from ultralytics.nn.tasks import guess_model_task, torch_safe_load

    if path.suffix != ".pt":
        raise WeightsError(f'"{path}" is not a .pt file; give PyTorch weights, or use weights="bundled".')
    if not hasattr(torch.serialization, "get_unsafe_globals_in_checkpoint"):  # without it ultralytics loads unsafely
        raise WeightsError(f'"{path}" cannot be checked with torch {torch.__version__}; install torch 2.6 or newer.')
    try:
        # Absolute, because ultralytics deletes a damaged file with an official name that is given by its bare name.
        state, _ = torch_safe_load(str(path.absolute()), safe_only=True)
    except OSError as error:
        raise WeightsError(f'"{path}" could not be read ({error.strerror or error}); check it.') from error
    except Exception as error:
        if isinstance(error, TypeError) and "outside the supported" in str(error) and _is_pickle(path, error):
            raise WeightsError(
                f'"{path}" was refused: its pickle asks for objects that no YOLO model needs, and loading it '
                "could run code. Get the weights from a source that you trust."
            ) from error
        problem = f'"{path}" is damaged or no YOLO checkpoint ({type(error).__name__}); get it again.'
        raise WeightsError(problem) from error
    model = (state.get("ema") or state.get("model")) if isinstance(state, dict) else None
    if not hasattr(model, "parameters"):
        raise WeightsError(f'"{path}" holds no YOLO model; give weights that ultralytics saved.')
    about: dict[str, Any] = getattr(model, "yaml", {})
    return _Kind(str(guess_model_task(model)), int(about.get("channels", 3)))


def _is_pickle(path: Path, error: TypeError) -> bool:
    """Whether a file that torch refused is a pickle at all, not a text or a picture under a wrong name."""
    with path.open("rb") as file:
        head = file.read(2)
    return head == b"PK" or head[:1] == b"\x80" or "Unsupported global" in str(error.__cause__)
