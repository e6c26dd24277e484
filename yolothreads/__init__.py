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
    testing      The pytest plugin, which stands on races alone
    cli          The command `yolothreads`

    sources (files and cameras, the newest frame), scenes, weights, exported (the metadata of exported models) and
    devices, then allocator, child, palette, trace, tables and errors stand below all of these.
    Imports go downwards only, and never in a circle:
    cli -> headless -> lessons -> bench, hazards, charts, measure -> detections, tracking, memory -> pools, races
    -> sources, scenes, weights, exported, devices -> allocator, child, palette, trace, tables, errors

Importing this package is quick, and needs no other package: a module is imported when one of its names is first used.
Modules that need an extra, such as `yolothreads[pools]`, say so then.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from yolothreads.detections import explore, finds_all, outcome, replay, same
    from yolothreads.devices import cores
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
        SourceError,
        WeightsError,
        WorkerDiedError,
        YoloThreadsError,
    )
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
    from yolothreads.sources import Latest, frames, latest
    from yolothreads.tables import Table
    from yolothreads.trace import Span, TracedLock, recording, span
    from yolothreads.tracking import Camera, identity_switches

__version__ = "0.1.0"

_NAMES = {
    "detections": "explore finds_all outcome replay same",
    "devices": "cores",
    "errors": (
        "ArgumentError DeadlineError DeviceError ExploreError ExtraError ImageError NotebookError OutOfMemoryError "
        "OutputError PanelError PoolClosedError QueueFullError SourceError WeightsError WorkerDiedError "
        "YoloThreadsError"
    ),
    "headless.doctor": "checkup",
    "measure": "Comparison Measurement Spread compare stamp turns",
    "memory": "memory_of used_mb",
    "pools": (
        "Batch BatchingWorker Counters LockedModel ModelPerProcess ModelPerThread ModelsBuiltOutside "
        "OnnxSession POOLS Pool RayActors Replicas Sequential SharedModel pack read_image unpack"
    ),
    "races": "rate",
    "scenes": "Scene clip pictures scene",
    "sources": "Latest frames latest",
    "tables": "Table",
    "trace": "Span TracedLock recording span",
    "tracking": "Camera identity_switches",
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names.split()}
"""The module of each public name, which is imported when the name is first used."""

_EXTRAS = {
    "headless.doctor": "lessons",
    **dict.fromkeys(("measure", "memory", "pools", "scenes", "sources", "tracking"), "pools"),
}
"""The extras that some of these modules need."""

__all__ = [
    "POOLS", "ArgumentError", "Batch", "BatchingWorker", "Camera", "Comparison", "Counters", "DeadlineError",
    "DeviceError", "ExploreError", "ExtraError", "ImageError", "Latest", "LockedModel", "Measurement",
    "ModelPerProcess", "ModelPerThread", "ModelsBuiltOutside", "NotebookError", "OnnxSession", "OutOfMemoryError",
    "OutputError", "PanelError", "Pool", "PoolClosedError", "QueueFullError", "RayActors", "Replicas", "Scene",
    "Sequential", "SharedModel", "SourceError", "Span", "Spread", "Table", "TracedLock", "WeightsError",
    "WorkerDiedError", "YoloThreadsError", "checkup", "clip", "compare", "cores", "explore", "finds_all", "frames",
    "identity_switches", "latest", "memory_of", "outcome", "pack", "pictures", "rate", "read_image", "recording",
    "replay", "same", "scene", "span", "stamp", "turns", "unpack", "used_mb",
]  # fmt: skip

if not TYPE_CHECKING:  # a type checker would take any name for one of ours

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module 'yolothreads' has no attribute '{name}'")
        if (extra := _EXTRAS.get(_HOMES[name])) is not None:
            import_module("yolothreads.errors").need_extra(name, extra)
        return getattr(import_module(f"yolothreads.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    from yolothreads.errors import missing

    absent = {extra for extra in set(_EXTRAS.values()) if missing(extra)}  # help() could not get what needs these
    return [*globals(), *(name for name, home in _HOMES.items() if _EXTRAS.get(home) not in absent)]
