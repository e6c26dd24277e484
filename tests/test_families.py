"""The benchmark of all model families, with a few of them: every pool gives what YOLO gives."""

import json
from pathlib import Path

import pytest
from deadlines import scaled

from benchmarks import families
from yolothreads.devices import torch_threads_kept
from yolothreads.pools import POOLS, RayActors

pytestmark = pytest.mark.timeout(scaled(900))
HERE = [kind for kind in POOLS if kind is not RayActors]  # Ray: see its own tests


def test_every_family_is_found_once_and_the_smallest_of_its_sizes() -> None:
    names = families.models()
    assert len(names) == len(set(names)) > 50
    assert {"yolov5n", "yolov8n-seg", "yolov9t", "yolov10n", "yolo11n-obb", "yolo12n", "yolo26n-pose"} <= set(names)
    assert {"rtdetr-l", "yolov8n-world", "yolo26n-sem", "yolov8n-cls"} <= set(names)


def test_the_table_tells_equal_results_from_ties_and_errors(tmp_path: Path) -> None:
    pools = {"Sequential": [8, 0], "Replicas": [6, 0], "BatchingWorker": [7, 1], "OnnxSession": "ExtraError: none"}
    found = {"task": "detect", "detections": 40, "batch": 7, "difference": 3e-7, "gap": 1e-9, "pools": pools}
    families.add(tmp_path / "found", "yolo11n", None, found)
    families.add(tmp_path / "found", "yolo11n", "all", {})
    families.add(tmp_path / "found", "odd", "all", {"error": "KeyError: head"})
    page = tmp_path / "page.md"
    page.write_text("before\n" + "\n".join(families.MARKS) + "\nafter\n")
    for _ in range(2):
        families.write_table(tmp_path / "found", page)
    text = page.read_text()
    assert "| yolo11n | detect | as set | 40 | Replicas 6 | 7 + 1 | ExtraError: none | 7 | 3e-07 | 1e-09 |" in text
    assert "`odd` could not be built: KeyError: head" in text
    assert text.startswith("before") and text.endswith("after\n") and text.count("| yolo11n |") == 1


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["yolov5n", "yolov10n", "yolo26n-seg", "yolo11n-pose", "yolo26n-sem", "yolov8n-world"])
def test_every_pool_gives_what_yolo_gives(name: str, tmp_path: Path) -> None:
    file = tmp_path / f"{name}-random.pt"
    with torch_threads_kept():
        families.build(name, file)
        for nms in families.heads(file):
            found = families.examine(file, nms, HERE)
            print(json.dumps(found))
            assert found["detections"] or name.endswith("-sem")
            for pool, numbers in found["pools"].items():
                if name == "yolov8n-world" and pool == "OnnxSession":  # torch cannot export it for its given words
                    assert "could not be exported to ONNX" in numbers
                    continue
                may_round = pool in ("BatchingWorker", "OnnxSession")
                assert sum(numbers) == families.PICTURES and (may_round or numbers[0] == families.PICTURES), pool
