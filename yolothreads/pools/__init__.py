"""Pools run YOLO concurrently. All strategies share the methods of an executor: open, submit, map, close."""
# ruff: noqa: E402

from yolothreads.errors import need_extra

need_extra("yolothreads.pools", "pools")  # in a sentence, before an import below fails

from yolothreads.pools.base import Pool, Predict, load, make_pool
from yolothreads.pools.batching import Batch, BatchingWorker, Counters
from yolothreads.pools.images import Image, read_image
from yolothreads.pools.onnx_session import OnnxSession, onnx_file
from yolothreads.pools.processes import ModelPerProcess
from yolothreads.pools.ray_actors import RayActors
from yolothreads.pools.remote import RemotePool, RemoteWorker, pack, unpack
from yolothreads.pools.thread_pools import (
    LockedModel,
    ModelPerThread,
    ModelsBuiltOutside,
    Replicas,
    Sequential,
    SharedModel,
)

POOLS: tuple[type[Pool], ...] = (
    Sequential,
    SharedModel,
    ModelsBuiltOutside,
    ModelPerThread,
    LockedModel,
    Replicas,
    ModelPerProcess,
    BatchingWorker,
    OnnxSession,
    RayActors,
)
"""Every pool, in the order in which the lessons meet them."""

__all__ = [
    "POOLS",
    "Batch",
    "BatchingWorker",
    "Counters",
    "Image",
    "LockedModel",
    "ModelPerProcess",
    "ModelPerThread",
    "ModelsBuiltOutside",
    "OnnxSession",
    "Pool",
    "Predict",
    "RayActors",
    "RemotePool",
    "RemoteWorker",
    "Replicas",
    "Sequential",
    "SharedModel",
    "load",
    "make_pool",
    "onnx_file",
    "pack",
    "read_image",
    "unpack",
]
