"""Weights are found and checked before they are loaded; no code in a file is run."""

import copy
import gc
import pickle
import shutil
from pathlib import Path

import pytest
import torch
import ultralytics.utils.downloads
from deadlines import scaled
from ultralytics import YOLO

from yolothreads import weights
from yolothreads.errors import WeightsError

pytestmark = pytest.mark.timeout(scaled(120))


class Payload:
    """An object whose pickle creates a file when it is loaded."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple:
        return open, (str(self.file), "w")


def refusal(path: Path | str) -> str:
    """Return the message of the error: one or two sentences that name the file."""
    with pytest.raises(WeightsError) as error:
        weights.check(path)
    message = str(error.value)
    assert Path(path).name in message and "\n" not in message
    return message


def test_the_bundled_model_is_small_and_as_shipped() -> None:
    path = weights.bundled()
    assert path.parent == weights.ASSETS and path.stat().st_size <= 6_000_000
    assert weights.check() == weights.check("bundled") == weights.check(path) == path


def test_a_changed_byte_of_the_bundled_model_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / weights._BUNDLED.name
    content = bytearray(weights._BUNDLED.read_bytes())
    content[len(content) // 2] ^= 1
    copy.write_bytes(content)
    shutil.copy(weights._BUNDLED.with_suffix(".sha256"), tmp_path)
    monkeypatch.setattr(weights, "_BUNDLED", copy)
    with pytest.raises(WeightsError, match="were changed"):
        weights.check("bundled")


@pytest.mark.parametrize("missing", [".pt", ".sha256"])
def test_a_part_of_the_bundled_model_missing_is_noticed(
    missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for suffix in {".pt", ".sha256"} - {missing}:
        shutil.copy(weights._BUNDLED.with_suffix(suffix), tmp_path)
    monkeypatch.setattr(weights, "_BUNDLED", tmp_path / weights._BUNDLED.name)
    with pytest.raises(WeightsError, match=r"missing.*install yolothreads again"):
        weights.check()


def test_a_missing_file_a_folder_and_another_file_type_are_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"onnx")
    assert "no weights at" in refusal(tmp_path / "missing.pt")
    assert "are a folder" in refusal(tmp_path)
    assert "is not a .pt file" in refusal(tmp_path / "model.onnx")


def test_a_damaged_file_is_reported_as_damaged(tmp_path: Path) -> None:
    whole = weights.bundled().read_bytes()
    for name, content in (("cut.pt", whole[: len(whole) // 2]), ("empty.pt", b"")):
        (tmp_path / name).write_bytes(content)
        assert "is damaged" in refusal(tmp_path / name)


@pytest.mark.parametrize("content", [b"this is no model\n" * 9, b"\x89PNG\r\n\x1a\n" + bytes(50), b"GIF89a"])
def test_another_kind_of_file_is_not_accused_of_running_code(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "renamed.pt").write_bytes(content)
    message = refusal(tmp_path / "renamed.pt")
    assert "no YOLO checkpoint" in message and "run code" not in message


def test_the_payload_would_run_if_it_were_trusted(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Payload(tmp_path / "ran"))).close()
    assert (tmp_path / "ran").exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol 4")
@pytest.mark.parametrize("how", ["zip", "old", "bare", "text"])
def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(how: str, tmp_path: Path) -> None:
    file, ran = tmp_path / "evil.pt", tmp_path / "ran"
    if how in ("zip", "old"):
        torch.save({"model": Payload(ran)}, file, _use_new_zipfile_serialization=how == "zip")
    else:
        file.write_bytes(pickle.dumps({"model": Payload(ran)}, protocol=4 if how == "bare" else 0))
    # A pickle of the oldest protocol is text, and torch does not read it at all.
    assert ("no YOLO checkpoint" if how == "text" else "was refused: its pickle") in refusal(file)
    assert not ran.exists()


@pytest.mark.parametrize("content", [{"epoch": 1}, [1, 2], {"model": torch.zeros(2)}])
def test_a_checkpoint_without_a_model_is_refused(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "other.pt")
    assert "no YOLO" in refusal(tmp_path / "other.pt")


def test_the_error_for_a_model_of_another_task_names_the_task(tmp_path: Path) -> None:
    from ultralytics import YOLO

    YOLO("yolo11n-cls.yaml", verbose=False).save(tmp_path / "classifier.pt")
    assert '"classify"' in refusal(tmp_path / "classifier.pt")
    assert weights.check(tmp_path / "classifier.pt", task="classify") == tmp_path / "classifier.pt"


def test_an_edited_file_is_checked_again(tmp_path: Path) -> None:
    copy = Path(shutil.copyfile(weights.bundled(), tmp_path / "mine.pt"))
    assert weights.check(str(copy)) == copy
    copy.write_bytes(b"")
    assert "is damaged" in refusal(copy)


def test_an_official_name_without_a_network_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*args: object, **kwargs: object) -> str:
        raise ConnectionError("no route to host")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ultralytics.utils.downloads, "attempt_download_asset", no_network)
    message = refusal("yolo11n.pt")
    assert "could not be downloaded" in message and "no route to host" in message and '"bundled"' in message
    monkeypatch.setattr(ultralytics.utils.downloads, "attempt_download_asset", lambda file: file)  # fails silently
    assert "could not be downloaded" in refusal("yolo11n.pt")


def test_a_damaged_file_with_an_official_name_is_not_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("yolo11n.pt").write_bytes(b"")
    assert "is damaged" in refusal("yolo11n.pt")
    assert Path("yolo11n.pt").exists()


# --- YOLO objects ---


@pytest.fixture(scope="module")
def model() -> YOLO:
    """A YOLO object, which no test may change."""
    return YOLO(weights.bundled())


def test_a_snapshot_holds_the_network_in_full_precision_until_it_is_dropped(model: YOLO) -> None:
    network = copy.deepcopy(model.model)
    changed = YOLO(weights.bundled())
    with torch.no_grad():
        next(changed.model.parameters()).add_(1e-6)  # lost in half precision
    changed.overrides.update(iou=0.5, conf=0.9, imgsz=64, verbose=True)
    snapshot = weights.Snapshot(changed)
    loaded = YOLO(snapshot.file)
    pairs = zip(loaded.model.state_dict().values(), changed.model.state_dict().values(), strict=True)
    assert all(torch.equal(mine, theirs) for mine, theirs in pairs)
    assert not torch.equal(next(loaded.model.parameters()), next(network.parameters()))
    assert snapshot.settings == {"iou": 0.5} and changed.predictor is None
    file = snapshot.file
    del snapshot
    gc.collect()
    assert not file.parent.exists()


def test_a_later_change_of_the_object_does_not_reach_the_snapshot() -> None:
    mine = YOLO(weights.bundled())
    snapshot = weights.Snapshot(mine)
    before = next(mine.model.parameters()).clone()
    with torch.no_grad():
        next(mine.model.parameters()).zero_()
    assert torch.equal(next(YOLO(snapshot.file).model.parameters()), before)


def test_the_channels_of_a_model_are_known(tmp_path: Path, model: YOLO) -> None:
    assert weights.channels_of(weights.bundled()) == 3
    grey = copy.deepcopy(model.model)
    grey.yaml["channels"] = 1
    torch.save({"model": grey}, tmp_path / "grey.pt")
    assert weights.channels_of(tmp_path / "grey.pt") == 1


class Own(torch.nn.Identity):
    """A module that no checkpoint of ultralytics has."""


def test_an_object_that_cannot_be_copied_completely_is_refused(tmp_path: Path) -> None:
    class Mine(YOLO):
        pass

    heard = YOLO(weights.bundled())
    heard.add_callback("on_predict_start", print)
    own = YOLO(weights.bundled())
    own.model.extra = Own()
    (tmp_path / "best.onnx").touch()
    exported = YOLO(tmp_path / "best.onnx", task="detect")
    hooked = YOLO(weights.bundled())
    hooked.model.register_forward_hook(lambda *_: None)
    for given, words in (
        (Mine(weights.bundled()), "A Mine is not copied"),
        (7, "A int is not copied"),
        (heard, "callbacks"),
        (own, "cannot be copied"),
        (exported, "exported model"),
        (hooked, "cannot be copied"),
    ):
        with pytest.raises(WeightsError, match=words) as error:
            weights.Snapshot(given)
        assert "\n" not in str(error.value) and len(str(error.value)) < 400
