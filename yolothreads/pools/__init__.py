"""Pools run YOLO concurrently: one file a strategy, all with the same four verbs (open, submit, map, shutdown)."""

from yolothreads.pools.base import Pool
from yolothreads.pools.batching_worker import BatchingWorker
from yolothreads.pools.locked_model import LockedModel
from yolothreads.pools.model_per_process import ModelPerProcess
from yolothreads.pools.model_per_thread import ModelPerThread
from yolothreads.pools.models_built_outside import ModelsBuiltOutside
from yolothreads.pools.onnx_session import OnnxSession
from yolothreads.pools.ray_actors import RayActors
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
    "BatchingWorker",
    "LockedModel",
    "ModelPerProcess",
    "ModelPerThread",
    "ModelsBuiltOutside",
    "OnnxSession",
    "Pool",
    "RayActors",
    "Replicas",
    "Sequential",
    "SharedModel",
]
