"""Train the bundled model from scratch on generated scenes, and measure it on scenes it never saw.

    python tools/make_weights.py train       # writes yolothreads/assets/: weights, sha256 and card
    python tools/make_weights.py evaluate    # measures the bundled weights again and prints the card's figures

Training takes one background run on two CPU cores; nothing is downloaded. Training scenes have seeds from 10,000,000
up, the validation scenes of the training run from 20,000,000 up, and the evaluation uses seeds 0 to 499: scenes with
small seeds, which the lessons show, are all new to the model.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import tempfile
import time
from pathlib import Path

os.environ.setdefault("YOLO_AUTOINSTALL", "false")
os.environ.setdefault("YOLO_OFFLINE", "true")

ROOT = Path(__file__).resolve().parents[1]
ASSETS = ROOT / "yolothreads" / "assets"
WEIGHTS = ASSETS / "scenes-yolo11n.pt"

TRAIN_FROM, VALIDATE_FROM, EVALUATE_FROM = 10_000_000, 20_000_000, 0
COMMON = {
    "batch": 16,
    "nbs": 16,
    "optimizer": "AdamW",
    "cos_lr": True,
    "warmup_bias_lr": 0.0,
    "mosaic": 0.0,
    "scale": 0.5,
    "translate": 0.1,
    "flipud": 0.5,
    "fliplr": 0.5,
    "seed": 0,
    "deterministic": True,
    "amp": False,  # ultralytics' own needs a GPU; see use_bfloat16
    "workers": 0,
    "cache": "ram",
    "device": "cpu",
    "plots": False,
}
STAGES = (
    # Most is learned from small images, 128 to 384 pixels, where an epoch is cheap ...
    {"epochs": 20, "imgsz": 256, "multi_scale": 0.5, "lr0": 0.002, "warmup_epochs": 1.0, "pretrained": False},
    # ... and the rest from the sizes that people use, 160 to 736 pixels.
    {"epochs": 2, "imgsz": 448, "multi_scale": 0.6, "lr0": 0.0007, "warmup_epochs": 0.1},
)


def write_dataset(folder: Path, splits: dict[str, tuple[int, int]]) -> Path:
    """Write scenes as a YOLO data set: `splits` maps a name to (first seed, count). Returns the data file."""
    import cv2

    from yolothreads.scenes import CLASSES, SHAPES, scene

    for split, (first, count) in splits.items():
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            drawn = scene(first + i, SHAPES[i % len(SHAPES)])
            height, width = drawn.image.shape[:2]
            x1, y1, x2, y2 = (drawn.boxes / [width, height, width, height]).T
            rows = zip(drawn.classes, (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1, strict=True)
            cv2.imwrite(str(folder / "images" / split / f"{first + i}.png"), drawn.image)
            label = folder / "labels" / split / f"{first + i}.txt"
            label.write_text("".join(f"{c} {x:.6f} {y:.6f} {w:.6f} {h:.6f}\n" for c, x, y, w, h in rows))
    data = folder / "data.yaml"
    lines = [f"path: {folder}"] + [f"{split}: images/{split}" for split in splits]
    lines += ["names:"] + [f"  {i}: {name}" for i, name in enumerate(CLASSES)]
    data.write_text("\n".join(lines) + "\n")
    return data


def use_bfloat16() -> None:
    """Let training passes run in bfloat16 on the CPU, which halves their time; the loss stays in float32."""
    import torch
    from ultralytics.nn.tasks import DetectionModel

    def to_float(value):
        if isinstance(value, torch.Tensor):
            return value.float()
        if isinstance(value, dict):
            return {key: to_float(item) for key, item in value.items()}
        return [to_float(item) for item in value] if isinstance(value, list | tuple) else value

    forward = DetectionModel._predict_once

    def faster_forward(self, *args, **kwargs):
        if not self.training:
            return forward(self, *args, **kwargs)
        with torch.autocast("cpu", torch.bfloat16):
            return to_float(forward(self, *args, **kwargs))

    DetectionModel._predict_once = faster_forward


def train(work: Path, scenes: int, stages: list[int]) -> None:
    """Train stage by stage, evaluate, and write weights, sha256 and card into the package."""
    use_bfloat16()
    work = work.resolve()
    if 1 in stages:
        for made_before in ("data", "runs"):
            shutil.rmtree(work / made_before, ignore_errors=True)
        write_dataset(work / "data", {"train": (TRAIN_FROM, scenes), "val": (VALIDATE_FROM, 100)})
    for number in stages:
        train_stage(work, number)
    ASSETS.mkdir(parents=True, exist_ok=True)
    save_clean(checkpoint(work, len(STAGES)))
    digest = hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()
    WEIGHTS.with_suffix(".sha256").write_text(f"{digest}  {WEIGHTS.name}\n")
    minutes = [float((work / f"minutes-{i}.txt").read_text()) for i in range(1, len(STAGES) + 1)]
    write_card(digest, scenes, minutes, evaluate(500))


def checkpoint(work: Path, number: int) -> Path:
    return work / "runs" / f"stage-{number}" / "weights" / "last.pt"


def train_stage(work: Path, number: int) -> None:
    """Train one stage from where the previous one ended, and record the minutes that it took."""
    import torch
    from ultralytics import YOLO

    model = YOLO("yolo11n.yaml" if number == 1 else checkpoint(work, number - 1))
    # ultralytics sets torch to one thread fewer than there are cores; use them all.
    model.add_callback("on_train_start", lambda trainer: torch.set_num_threads(os.cpu_count() or 1))
    start = time.perf_counter()
    where = {"data": str(work / "data" / "data.yaml"), "project": str(work / "runs"), "name": f"stage-{number}"}
    model.train(**where, exist_ok=True, **COMMON, **STAGES[number - 1])
    (work / f"minutes-{number}.txt").write_text(f"{(time.perf_counter() - start) / 60:.1f}")


def save_clean(checkpoint: Path) -> None:
    """Keep the half-precision network and its class names, and nothing about the machine that trained it."""
    import torch

    state = torch.load(checkpoint, map_location="cpu", weights_only=False)
    network = (state["ema"] or state["model"]).half()
    for parameter in network.parameters():
        parameter.requires_grad = False
    network.args = {"task": "detect", "imgsz": 640}
    state = {"model": network, "train_args": {"task": "detect", "imgsz": 640}, "version": state["version"]}
    torch.save(state, WEIGHTS)


def evaluate(count: int) -> dict[str, float]:
    """mAP of the bundled weights on `count` scenes that were in no training run, at 640 pixels."""
    from ultralytics import YOLO

    with tempfile.TemporaryDirectory() as folder:
        data = write_dataset(Path(folder), {"train": (EVALUATE_FROM, 1), "val": (EVALUATE_FROM, count)})
        figures = {}
        for imgsz in (640, 320, 160):
            metrics = YOLO(WEIGHTS).val(
                data=str(data), imgsz=imgsz, batch=8, device="cpu", workers=0, plots=False, verbose=False,
                project=folder, name="val", exist_ok=True,
            )  # fmt: skip
            figures |= {
                f"mAP50 at {imgsz} px": round(float(metrics.box.map50), 4),
                f"mAP50-95 at {imgsz} px": round(float(metrics.box.map), 4),
            }
    return figures


def write_card(digest: str, scenes: int, minutes: list[float], figures: dict[str, float]) -> None:
    import torch
    import ultralytics

    from yolothreads.scenes import CLASSES

    versions = f"Python {platform.python_version()}, torch {torch.__version__}, ultralytics {ultralytics.__version__}"
    rows = "\n".join(f"| {name} | {value:.3f} |" for name, value in figures.items())
    listed = [", ".join(f"{k}={v}" for k, v in settings.items()) for settings in (*STAGES, COMMON)]
    stages = "\n".join(f"* stage {i}, {m:.0f} minutes: {listed[i - 1]}" for i, m in enumerate(minutes, 1))
    (ASSETS / "CARD.md").write_text(f"""# The bundled model

`{WEIGHTS.name}`: the YOLO11n architecture, trained from scratch on scenes that `yolothreads.scenes` draws.
It exists so that every lesson runs without a network, on pictures whose true boxes are known. It knows nothing of
photographs: for those, give the lessons official weights (`weights="yolo11n.pt"`) or your own.

* Classes: {", ".join(CLASSES)}.
* Size: {WEIGHTS.stat().st_size / 1e6:.1f} MB, half precision. sha256: `{digest}`.
* Licence: AGPL-3.0, as ultralytics.

## Measured on 500 scenes it never saw (seeds 0 to 499, five image shapes)

| figure | value |
|---|---|
{rows}

Measure again: `python tools/make_weights.py evaluate`.

## How it was trained

`python tools/make_weights.py train`: {scenes} scenes (seeds from {TRAIN_FROM}), {sum(minutes):.0f} minutes on
{os.cpu_count()} CPU cores with {versions}; other work ran beside it. The last epoch's averaged weights are kept.

{stages}
* both stages: {listed[-1]}
""")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    training = commands.add_parser("train")
    training.add_argument("--work", type=Path, default=ROOT / "build" / "weights", help="folder for data and runs")
    training.add_argument("--scenes", type=int, default=3000)
    training.add_argument("--stages", type=int, nargs="+", default=[1, 2], help="2 goes on where 1 has ended")
    measuring = commands.add_parser("evaluate")
    measuring.add_argument("--count", type=int, default=500)
    args = parser.parse_args()
    if args.command == "train":
        train(args.work, args.scenes, args.stages)
    else:
        print(json.dumps(evaluate(args.count), indent=2))


if __name__ == "__main__":
    main()
