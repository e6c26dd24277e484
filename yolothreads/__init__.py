"""yolothreads: run YOLO in threads without wrong results, and prove it on your own machine.

    pools        run YOLO concurrently, one file a strategy, all with the same four verbs
    races        code under every schedule, and how often something goes wrong by itself; knows nothing of YOLO
    detections   when two results are the same, and what is wrong with one; the explorer that knows it
    tracking     cameras: an identity for each object, over any pool
    hazards      the catalogue: each hazard forced, met by chance, and tried against every pool
    measure      correctness, throughput, latency and start-up of any pool; `comparison` holds what was measured
    memory       how much a pool takes, in a fresh process
    bench        the pools beside ceilings and what people do instead; how both grow
    bench_races  the explorer beside another one, and what it costs
    lessons      shows it to people: claims and verdicts, figures, exercises, panels
    headless     runs the lessons without people, and reports
    cli          the command `yolothreads`

    scenes, weights, trace, tables, errors stand below all of these. Imports go downwards only:
    cli -> headless -> lessons -> bench, hazards, measure -> detections, tracking -> pools, races -> scenes, weights
    -> trace, tables, errors

Importing this package is quick: what needs torch is imported when it is first used.
"""

from importlib import import_module
from typing import Any

from yolothreads.errors import YoloThreadsError

__version__ = "0.1.0"

_HOMES = {
    "BatchingWorker": "pools",
    "Camera": "tracking",
    "LockedModel": "pools",
    "ModelPerProcess": "pools",
    "ModelPerThread": "pools",
    "ModelsBuiltOutside": "pools",
    "OnnxSession": "pools",
    "RayActors": "pools",
    "Replicas": "pools",
    "Sequential": "pools",
    "SharedModel": "pools",
    "clip": "scenes",
    "compare": "measure",
    "explore": "detections",
    "identity_switches": "tracking",
    "pictures": "scenes",
    "rate": "races",
    "recording": "trace",
    "replay": "detections",
    "scene": "scenes",
}

__all__ = [
    "BatchingWorker",
    "Camera",
    "LockedModel",
    "ModelPerProcess",
    "ModelPerThread",
    "ModelsBuiltOutside",
    "OnnxSession",
    "RayActors",
    "Replicas",
    "Sequential",
    "SharedModel",
    "YoloThreadsError",
    "clip",
    "compare",
    "explore",
    "identity_switches",
    "pictures",
    "rate",
    "recording",
    "replay",
    "scene",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'yolothreads' has no attribute '{name}'")
    return getattr(import_module(f"yolothreads.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
