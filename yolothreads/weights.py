"""Weights: the bundled model, an official name or a path, checked before they are loaded."""

from __future__ import annotations

import hashlib
import os
from functools import lru_cache
from pathlib import Path

from yolothreads.errors import WeightsError

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
    found = _task_of(path, path.stat().st_mtime_ns)
    if task is not None and found != task:
        raise WeightsError(f'"{path}" was made for the task "{found}"; give weights made for "{task}".')
    return path


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
def _task_of(path: Path, changed_ns: int) -> str:
    """Load a file without trusting it, and return the task of its model. `changed_ns` keeps edited files apart."""
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
    return str(guess_model_task(model))


def _is_pickle(path: Path, error: TypeError) -> bool:
    """Whether a file that torch refused is a pickle at all, not a text or a picture under a wrong name."""
    with path.open("rb") as file:
        head = file.read(2)
    return head == b"PK" or head[:1] == b"\x80" or "Unsupported global" in str(error.__cause__)
