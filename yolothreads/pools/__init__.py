"""Pools run YOLO concurrently: one file a strategy, all with the same four verbs (open, submit, map, shutdown)."""

from yolothreads.pools.base import Pool
from yolothreads.pools.batching_worker import Batch, BatchingWorker, Counters
from yolothreads.pools.image import Image, read_image
from yolothreads.pools.locked_model import LockedModel
from yolothreads.pools.model import Predict, load
from yolothreads.pools.model_per_process import ModelPerProcess
from yolothreads.pools.model_per_thread import ModelPerThread
from yolothreads.pools.models_built_outside import ModelsBuiltOutside
from yolothreads.pools.onnx_export import onnx_file
from yolothreads.pools.onnx_session import OnnxSession
from yolothreads.pools.packing import pack, unpack
from yolothreads.pools.ray_actors import RayActors
from yolothreads.pools.remote import RemotePool
from yolothreads.pools.replicas import Replicas
from yolothreads.pools.sequential import Sequential
from yolothreads.pools.shared_model import SharedModel

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
    "Replicas",
    "Sequential",
    "SharedModel",
    "load",
    "onnx_file",
    "pack",
    "read_image",
    "unpack",
]
