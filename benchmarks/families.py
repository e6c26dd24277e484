"""Compare every pool with `YOLO.predict`, for every model that ultralytics ships as a yaml, with random weights.

    nice -n 19 python -m benchmarks.families build/families.jsonl                  # goes on where it was stopped
    python -m benchmarks.families build/families.jsonl --table docs/compatibility.md

The weights have a fixed seed, and the statistics of their BatchNorm layers are those of the pictures: without these,
the output of a fresh network does not depend on the picture at all. Each model is asked with and without its end-to-end
head if it has both. Networks with random weights give many almost equal scores, so that rounding decides which of two
boxes stays. A result that differs from that of one `YOLO.predict` per picture is therefore compared with what
`YOLO.predict` itself gives for the same batch (`BatchingWorker`) or for the same .onnx file (`OnnxSession`).
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from copy import copy
from pathlib import Path
from typing import Any

os.environ.setdefault("YOLO_OFFLINE", "true")
os.environ.setdefault("YOLO_AUTOINSTALL", "false")

import numpy as np
import torch
import ultralytics
from ultralytics import YOLO

from yolothreads.detections import rows_of, same
from yolothreads.pools import POOLS, BatchingWorker, OnnxSession, Pool, RayActors, make_pool, onnx_file, ray_actors
from yolothreads.scenes import scene

SHAPE, IMGSZ = (144, 192), 192
PICTURES = 8
SETTINGS = {"conf": 1e-6, "max_det": 20}
PIXELS, SCORE, FLIPS = 0.05, 1e-4, 1e-4
MARKS = "<!-- families: made by benchmarks/families.py -->", "<!-- end of families -->"


def models() -> list[str]:
    """Return the name of every yaml of the installed ultralytics, in its smallest size; the large ones come last."""
    folder = Path(ultralytics.__file__).parent / "cfg" / "models"
    names = []
    for file in sorted(folder.rglob("*.yaml")):
        scale = re.search(r"^scales:.*\n(?:\s*#.*\n)*\s+(\w):", file.read_text(encoding="utf-8"), re.MULTILINE)
        sized = re.sub(r"^(yolo[a-z]*-?v?\d+)(?=-|$)", rf"\g<1>{scale[1]}", file.stem) if scale else file.stem
        names.append((re.search(r"\d[nt](-|$)", sized) is None, sized.count("-"), sized))
    return [name for *_, name in sorted(names)]


def build(name: str, file: Path) -> None:
    """Save a model with random weights that answers differently to different pictures."""
    torch.manual_seed(0)
    model = YOLO(f"{name}.yaml", verbose=False)
    network = model.model.eval()
    norms = [layer for layer in network.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    momentum = [layer.momentum for layer in norms]
    pixels = np.stack([picture[..., ::-1].transpose(2, 0, 1) for picture in pictures()])
    for layer in norms:
        layer.reset_running_stats()
        layer.momentum = None  # the mean over all batches
        layer.train()
    side = max(SHAPE)  # a square, which every head takes
    square = torch.zeros(len(pixels), 3, side, side)
    square[:, :, : SHAPE[0], : SHAPE[1]] = torch.from_numpy(pixels / np.float32(255))
    with torch.no_grad():
        network(square)
    for layer, before in zip(norms, momentum, strict=True):
        layer.momentum = before
    network.eval()
    model.save(file)


def pictures() -> list[np.ndarray]:
    """Return the pictures, (H, W, 3) uint8 BGR, all of one shape, so that they may share a batch."""
    return [scene(seed, SHAPE).image for seed in range(PICTURES)]


def heads(file: Path) -> list[bool | None]:
    """Return the values of `nms` with which a model answers in its ways: False selects the end-to-end head."""
    network = YOLO(file).model
    return [None, False] if hasattr(network.model[-1], "one2one_cv2") else [None]


def equal(a: Any, b: Any) -> bool:
    """Return whether two results are equal up to rounding, which also decides on single pixels of a mask."""
    one, other = copy(a), copy(b)
    one.masks = other.masks = None
    if not same(one, other, PIXELS, SCORE) or (a.masks is None) != (b.masks is None):
        return False
    if a.masks is None:
        return True
    x, y = (np.sort(result.masks.data.numpy(), axis=0) for result in (a, b))
    return bool(x.shape == y.shape and (x != y).mean() <= FLIPS)


def alone(file: Path, settings: dict[str, Any]) -> list[Any]:
    """Return the result of one `YOLO.predict` for each picture."""
    model = YOLO(file)
    return [model.predict(picture, **settings)[0].cpu() for picture in pictures()]


def examine(file: Path, nms: bool | None, kinds: list[type[Pool]]) -> dict[str, Any]:
    """Compare the pools with YOLO for one model and head.

    Returns:
        For each pool [the results that equal those of one call per picture, those that only equal YOLO's for the same
        batch or .onnx file], or an error; and of the network: how many results of a batch equal those of one call per
        picture, the largest difference of their scores, and the smallest gap between two scores of one picture.
    """
    head: dict[str, Any] = {} if nms is None else {"nms": nms}
    settings = {"imgsz": IMGSZ, "device": "cpu", "verbose": False, **head, **SETTINGS}
    wanted = alone(file, settings)
    batch = [result.cpu() for result in YOLO(file).predict(pictures(), **settings)]
    found: dict[str, Any] = {"task": YOLO(file).task, "detections": sum(len(result) for result in wanted)}
    found |= {"batch": sum(map(equal, wanted, batch)), **rounding(wanted, batch), "pools": {}}
    for kind in kinds:
        try:
            options = {"max_batch": PICTURES, "max_wait_ms": 60_000.0} if kind is BatchingWorker else {}
            with make_pool(kind, file, workers=2, device="cpu", imgsz=IMGSZ, threads=1, **head, **options) as pool:
                got = list(pool.map(pictures(), buffersize=PICTURES, **SETTINGS))
            differ = [i for i, result in enumerate(got) if not equal(result, wanted[i])]
            other = []
            if differ and kind is BatchingWorker:
                other = batch
            elif differ and kind is OnnxSession:
                plain = {name: value for name, value in settings.items() if name != "nms"}
                other = alone(onnx_file(file, nms), plain)
            known = sum(equal(got[i], other[i]) for i in differ) if other else 0
            found["pools"][kind.__name__] = [PICTURES - len(differ), known]
        except Exception as error:  # it belongs into the table
            found["pools"][kind.__name__] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        gc.collect()
    return found


def rounding(one: list[Any], many: list[Any]) -> dict[str, float]:
    """Return the largest difference that a batch makes to a score of equal results, and the smallest gap of scores."""
    differences, gaps = [0.0], [1.0]
    for a, b in zip(one, many, strict=True):
        x, y = rows_of(a), rows_of(b)
        if x is None or y is None:
            continue
        x, y = np.sort(x[:, 4]), np.sort(y[:, 4])
        gaps.append(float(np.diff(x).min(initial=1)))
        if equal(a, b):
            differences.append(float(np.abs(x - y).max(initial=0)))
    return {"difference": max(differences), "gap": min(gaps)}


def run(file: Path, only: str, kinds: list[type[Pool]]) -> None:
    """Append one line per model and head to a file of JSON lines; leave out those that it has."""
    file.parent.mkdir(parents=True, exist_ok=True)
    done = {(line["model"], line["nms"]) for line in lines(file)}
    with ExitStack() as ends, tempfile.TemporaryDirectory() as folder:
        if RayActors in kinds:  # one Ray for all models
            ray_actors._connection.open(None, 2, 2**29)
            ends.callback(ray_actors._connection.close)
        os.environ.setdefault("YOLOTHREADS_CACHE", folder)
        torch.set_num_threads(1)
        for name in models():
            if not re.search(only, name) or (name, "all") in done:
                continue
            weights = Path(folder, f"{name}-random.pt")  # an official name would be looked up
            try:
                build(name, weights)
                variants = heads(weights)
            except Exception as error:
                add(file, name, "all", {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"})
                continue
            for nms in variants:
                if (name, nms) not in done:
                    add(file, name, nms, examine(weights, nms, kinds))
            add(file, name, "all", {})
            for left in Path(folder).glob("*"):
                with suppress(OSError):
                    left.unlink()


def add(file: Path, name: str, nms: bool | str | None, found: dict[str, Any]) -> None:
    """Append a line to a file of results."""
    line = {"model": name, "nms": nms, "ultralytics": ultralytics.__version__, "torch": torch.__version__, **found}
    with file.open("a", encoding="utf-8") as out:
        out.write(json.dumps(line) + "\n")
    print(json.dumps(line), flush=True)


def lines(file: Path) -> Iterator[dict[str, Any]]:
    """Return what a file of results has for the installed ultralytics."""
    for text in file.read_text(encoding="utf-8").splitlines() if file.exists() else ():
        line = json.loads(text)
        if line["ultralytics"] == ultralytics.__version__:
            yield line


def table(file: Path) -> str:
    """Return the results as a table in Markdown."""
    rows = [line for line in lines(file) if line["nms"] != "all"]
    names = [kind.__name__ for kind in POOLS]
    own = ("BatchingWorker", "OnnxSession")
    text = [
        "| model | task | head | found | other pools | BatchingWorker | OnnxSession | batch, YOLO | rounding | gap |"
    ]
    text.append("|---" * 10 + "|")
    for row in rows:
        others = {name: row["pools"][name] for name in names if name in row["pools"] and name not in own}
        bad = [f"{name} {cell(value)}" for name, value in others.items() if value != [PICTURES, 0]]
        head = "end-to-end" if row["nms"] is False else "as set"
        cells = [row["model"], row["task"], head, row["detections"], ", ".join(bad) or f"{len(others)} x {PICTURES}"]
        cells += [cell(row["pools"][name]) if name in row["pools"] else "-" for name in own]
        scored = row["gap"] < 1
        cells += [row["batch"], *((f"{row['difference']:.0e}", f"{row['gap']:.0e}") if scored else ("-", "-"))]
        text.append(f"| {' | '.join(map(str, cells))} |")
    failed = [line for line in lines(file) if "error" in line]
    text += [""] + [f"* `{line['model']}` could not be built: {line['error']}" for line in failed]
    return "\n".join(text).rstrip() + "\n"


def cell(value: Any) -> str:
    """Return what the table says of one pool: "7 + 1" if 7 results equal YOLO's, and 1 that for the batch or file."""
    if isinstance(value, str):
        return value.replace("|", "/")
    return f"{value[0]} + {value[1]}" if value[1] else str(value[0])


def write_table(file: Path, page: Path) -> None:
    """Replace what stands between the two marks of a page by the table."""
    begin, end = MARKS
    before, _, rest = page.read_text(encoding="utf-8").partition(begin)
    page.write_text(f"{before}{begin}\n\n{table(file)}\n{end}{rest.partition(end)[2]}", encoding="utf-8")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="file of JSON lines with the results")
    parser.add_argument("--only", default="", help="regular expression: the models to run")
    parser.add_argument("--pools", nargs="*", default=[kind.__name__ for kind in POOLS], help="names of pools")
    parser.add_argument("--table", type=Path, metavar="PAGE", help="write the table into this page; run nothing")
    given = parser.parse_args()
    if given.table:
        write_table(given.file, given.table)
    else:
        run(given.file, given.only, [kind for kind in POOLS if kind.__name__ in given.pools])


if __name__ == "__main__":
    main()
