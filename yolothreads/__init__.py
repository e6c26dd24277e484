"""yolothreads: run YOLO in threads without wrong results, and prove it on your own machine.

    pools        Runs YOLO concurrently: ten strategies with the methods of a `concurrent.futures.Executor`
    races        Runs code under every thread schedule and measures how often it fails unforced. Independent of YOLO
    detections   Compares YOLO results and describes what is wrong with one; `explore` and `replay` that use it
    tracking     Cameras: follows the identity of each object, over any pool
    hazards      The catalogue of hazards: each is forced, met by chance, and tried against every pool
    measure      Measures the correctness, throughput, latency and start-up time of any pool
    memory       Reads the memory of processes, and measures how much a pool takes
    bench        Benchmarks the pools against upper bounds and common alternatives, and how each scales
    lessons      Notebook helpers: settings, verdicts, figures, exercises, panels
    headless     Runs the notebooks without a browser, writes reports, checks the machine
    cli          The command `yolothreads`

    scenes, weights and devices, then child, palette, trace, tables and errors stand below all of these.
    Imports go downwards only, and never in a circle:
    cli -> headless -> lessons -> bench, hazards, charts, measure -> detections, tracking, memory -> pools, races
    -> scenes, weights, devices -> child, palette, trace, tables, errors

Importing this package is quick: a module that needs torch is imported when one of its names is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from yolothreads.errors import (
    ArgumentError,
    DeadlineError,
    DeviceError,
    ExploreError,
    ExtraError,
    ImageError,
    NotebookError,
    OutOfMemoryError,
    OutputError,
    PanelError,
    PoolClosedError,
    QueueFullError,
    WeightsError,
    WorkerDiedError,
    YoloThreadsError,
)

if TYPE_CHECKING:
    from yolothreads.detections import explore, finds_all, outcome, replay, same
    from yolothreads.devices import cores
    from yolothreads.headless.doctor import checkup
    from yolothreads.measure import Comparison, Measurement, Spread, compare, stamp, turns
    from yolothreads.memory import memory_of, used_mb
    from yolothreads.pools import (
        POOLS,
        Batch,
        BatchingWorker,
        Counters,
        LockedModel,
        ModelPerProcess,
        ModelPerThread,
        ModelsBuiltOutside,
        OnnxSession,
        Pool,
        RayActors,
        Replicas,
        Sequential,
        SharedModel,
        pack,
        read_image,
        unpack,
    )
    from yolothreads.races import rate
    from yolothreads.scenes import Scene, clip, pictures, scene
    from yolothreads.tables import Table
    from yolothreads.trace import Span, TracedLock, recording, span
    from yolothreads.tracking import Camera, identity_switches

__version__ = "0.1.0"

_NAMES = {
    "detections": "explore finds_all outcome replay same",
    "devices": "cores",
    "headless.doctor": "checkup",
    "measure": "Comparison Measurement Spread compare stamp turns",
    "memory": "memory_of used_mb",
    "pools": (
        "Batch BatchingWorker Counters LockedModel ModelPerProcess ModelPerThread ModelsBuiltOutside "
        "OnnxSession POOLS Pool RayActors Replicas Sequential SharedModel pack read_image unpack"
    ),
    "races": "rate",
    "scenes": "Scene clip pictures scene",
    "tables": "Table",
    "trace": "Span TracedLock recording span",
    "tracking": "Camera identity_switches",
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names.split()}
"""The module of each public name that is imported only when it is used."""

__all__ = [
    "POOLS", "ArgumentError", "Batch", "BatchingWorker", "Camera", "Comparison", "Counters", "DeadlineError",
    "DeviceError", "ExploreError", "ExtraError", "ImageError", "LockedModel", "Measurement", "ModelPerProcess",
    "ModelPerThread", "ModelsBuiltOutside", "NotebookError", "OnnxSession", "OutOfMemoryError", "OutputError",
    "PanelError", "Pool", "PoolClosedError", "QueueFullError", "RayActors", "Replicas", "Scene", "Sequential",
    "SharedModel", "Span", "Spread", "Table", "TracedLock", "WeightsError", "WorkerDiedError", "YoloThreadsError",
    "checkup", "clip", "compare", "cores", "explore", "finds_all", "identity_switches", "memory_of", "outcome", "pack",
    "pictures", "rate", "read_image", "recording", "replay", "same", "scene", "span", "stamp", "turns", "unpack",
    "used_mb",
]  # fmt: skip

if not TYPE_CHECKING:  # a type checker would take any name for one of ours

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module 'yolothreads' has no attribute '{name}'")
        return getattr(import_module(f"yolothreads.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
