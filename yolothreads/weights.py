"""Weights: the bundled model, an official name, a path or a YOLO object, checked before they are loaded."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
import threading
import weakref
from collections.abc import Collection, Iterable
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Union

from yolothreads import exported
from yolothreads.errors import ArgumentError, WeightsError

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


def check(
    weights: str | os.PathLike[str] = "bundled",
    task: str | None = "detect",
    *,
    allow: Iterable[str] = (),
    formats: Collection[str] = ("pt",),
) -> Path:
    """Find weights and make sure that loading them is safe and useful.

    A .pt file is read with `torch.load(weights_only=True)` and ultralytics' list of model classes. A pickle that would
    run code is refused, and none of its code runs. Of an exported model only the metadata are read: it is a program by
    nature, so use one that you made or trust.

    Args:
        weights: "bundled", the path of a .pt file or of an exported model, or an official name such as "yolo11n.pt",
            which ultralytics downloads where there is a network.
        task: the task that the model must have been made for; None for any.
        allow: the full names of further classes that a .pt file may contain, such as "my_pkg.MyBlock": modules of
            torch that you wrote or have read, because loading the weights runs their code.
        formats: the formats that are of use: "pt", "onnx", "torchscript", "openvino".

    Returns:
        The path of the file or folder.

    Raises:
        WeightsError: the file is missing, damaged, not to be trusted, in another format, or made for another task.
        ArgumentError: a name in `allow` is not that of a `torch.nn.Module` class.
    """
    if isinstance(allow, str):
        raise ArgumentError(f'allow="{allow}" is no list of names; use allow=["{allow}"].')
    path = bundled() if str(weights) == "bundled" else _locate(Path(weights).expanduser())
    kind = exported.format_of(path)
    if kind not in formats:
        raise WeightsError(f'"{path}" is not {_in_words(formats)}; give that, or use weights="bundled".')
    found = _kind_of(path, allow).task
    if task is not None and found != task:
        raise WeightsError(f'"{path}" was made for the task "{found}"; give weights made for "{task}".')
    return path


def channels_of(path: Path, allow: Iterable[str] = ()) -> int:
    """Return the number of channels of the images that a checked model takes: 3 for colours, 1 for grey, or others."""
    return _kind_of(path, allow).channels


def has_end2end(path: Path, allow: Iterable[str] = ()) -> bool:
    """Return whether a checked model has a head that needs no NMS, which `nms=False` selects."""
    return _kind_of(path, allow).end2end


def _in_words(formats: Collection[str]) -> str:
    words = {"pt": "a .pt file", "onnx": "an .onnx file", "torchscript": "a .torchscript file"}
    words |= {"openvino": "an OpenVINO folder (..._openvino_model)"}
    return " or ".join(text for name, text in words.items() if name in formats)


class Snapshot:
    """The network and the settings that a YOLO object has now, in a file of its own. Nothing of the object is changed.

    file: the weights, in full precision; it disappears with this snapshot. settings: what the object's `overrides` say
    about predictions.

    Raises:
        WeightsError: the object is no YOLO object, or cannot be copied completely.
    """

    def __init__(self, model: YOLO, allow: Iterable[str] = ()) -> None:
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
            check(self.file, task=None, allow=allow)
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
    end2end: bool


def _kind_of(path: Path, allow: Iterable[str]) -> _Kind | exported.Exported:
    if exported.format_of(path) != "pt":
        return exported.read(path)
    return _load_safely(path, path.stat().st_mtime_ns, tuple(sorted(set(map(str, allow)))))


def _locate(path: Path) -> Path:
    if path.is_dir() and not exported.format_of(path):
        raise WeightsError(f'The weights "{path}" are a folder; name the .pt file in it.')
    if path.exists():
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


_checking = threading.Lock()


@lru_cache(maxsize=32)
def _load_safely(path: Path, changed_ns: int, allow: tuple[str, ...]) -> _Kind:
    """Load a file without trusting it, and return the kind of its model. `changed_ns` keeps edited files apart."""
    import torch
    from ultralytics.nn.tasks import guess_model_task, torch_safe_load

    if not hasattr(torch.serialization, "get_unsafe_globals_in_checkpoint"):  # without it ultralytics loads unsafely
        raise WeightsError(f'"{path}" cannot be checked with torch {torch.__version__}; install torch 2.6 or newer.')
    stand_ins = [(_stand_in(name), name) for name in allow]
    try:
        # Torch keeps the classes that it may build in one place for the whole process: hence the lock, and not for
        # longer than the block. The stand-ins are new classes, so that its end takes away nothing that others added.
        with _checking, torch.serialization.safe_globals(stand_ins):  # type: ignore[arg-type]
            # Absolute, because ultralytics deletes a damaged file with an official name that is given by its bare name.
            state, _ = torch_safe_load(str(path.absolute()), safe_only=True)
    except OSError as error:
        raise WeightsError(f'"{path}" could not be read ({error.strerror or error}); check it.') from error
    except Exception as error:
        if isinstance(error, TypeError) and "outside the supported" in str(error) and _is_pickle(path, error):
            named = re.search(r"GLOBAL (\S+) was not", str(error.__cause__))
            raise WeightsError(
                f'"{path}" was refused: its pickle asks for {named[1] if named else "objects"}, which no YOLO model '
                "needs, and loading it could run code. Get the weights from a source that you trust, or, for a module "
                "of your own, name its class in allow=[...]."
            ) from error
        kinds = "is damaged or no YOLO checkpoint"
        if allow:  # a class may have a __reduce__ or a __getstate__ of its own
            kinds = "is damaged, no YOLO checkpoint, or builds an allowed class in another way than torch.save does"
        raise WeightsError(f'"{path}" {kinds} ({type(error).__name__}); get it again.') from error
    try:
        model: Any = (state.get("ema") or state.get("model")) if isinstance(state, dict) else None
        model.parameters  # noqa: B018 - an unfinished object has not even that
        about: dict[str, Any] = getattr(model, "yaml", {})
        end2end = any(getattr(layer, "one2one_cv2", None) is not None for layer in model.modules())
        return _Kind(str(guess_model_task(model)), int(about.get("channels", 3)), end2end)
    except (AttributeError, TypeError, ValueError):
        raise WeightsError(f'"{path}" holds no YOLO model; give weights that ultralytics saved.') from None


def _is_pickle(path: Path, error: TypeError) -> bool:
    """Whether a file that torch refused is a pickle at all, not a text or a picture under a wrong name."""
    with path.open("rb") as file:
        head = file.read(2)
    return head == b"PK" or head[:1] == b"\x80" or "Unsupported global" in str(error.__cause__)


def _stand_in(name: str) -> type:
    """Return an empty class, of which a check builds objects in place of those of the class "package.Class".

    It has no constructor with arguments, no `__setstate__`, and no attributes of the real class. So a file gets objects
    of exactly that class as `torch.save` writes them, runs none of its code, and reaches nothing through it.
    """
    from torch.nn import Module

    package, _, own_name = str(name).rpartition(".")
    try:
        found = getattr(import_module(package), own_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ArgumentError(
            f'allow: there is no class "{name}" ({error}); give names such as "my_pkg.MyBlock" that can be imported.'
        ) from error
    if not (isinstance(found, type) and issubclass(found, Module)):
        raise ArgumentError(f'allow: "{name}" is no class of torch.nn.Module; only such classes can be allowed.')
    return type(own_name, (Module,), {"__module__": package})
