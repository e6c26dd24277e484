"""How fast the pools are here, and what they take, beside what people do instead and what a runtime gives at most."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from yolothreads.bench import goals, plots
from yolothreads.bench.ceilings import BareForward, BareOnnx, BareOpenVino
from yolothreads.bench.contenders import EveryTask, PlainThreads, PredictList, ProcessExecutor
from yolothreads.bench.growth import Growth, MemoryAt, growth, memory_at
from yolothreads.bench.setting import Setting
from yolothreads.errors import DeviceError, ExtraError
from yolothreads.measure import Comparison, Contender, compare
from yolothreads.pools import ModelPerThread, Pool, RayActors, Replicas
from yolothreads.tables import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Bench", "Growth", "Setting", "bench", "growth"]

# Those whose ratio matters stand side by side, so that a machine's ups and downs hit both alike.
_ORDER = (
    ("EveryTask", "Sequential", "SharedModel", "LockedModel", "BatchingWorker", "PredictList", "RayActors")
    + ("ProcessExecutor", "ModelPerProcess", "ModelsBuiltOutside", "BareForward", "Replicas", "PlainThreads")
    + ("ModelPerThread", "OnnxSession", "BareOnnx", "BareOpenVino")
)


@dataclass(frozen=True)
class Bench:
    """What was measured; shows itself as two tables: all contenders, and what the kit promises of them."""

    comparison: Comparison
    setting: Setting
    images: int
    memory: MemoryAt = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    def goals(self) -> list[goals.Goal]:
        """What the kit promises, beside what was measured."""
        return [*goals.of_speed(self.comparison, self.setting.device), *goals.of_memory(self.memory)]

    def tables(self) -> tuple[Table, Table]:
        """All contenders, with their ratio to the bare forward passes; and the goals."""
        all_of_them, ceiling = self.comparison.table(), BareForward.name
        headers = [*all_of_them.headers, f"of {ceiling}"]
        rows = [
            [*row, f"{self.comparison.ratio(measurement.pool, ceiling).median:.2f}"]
            for row, measurement in zip(all_of_them.rows, self.comparison, strict=True)
        ]
        caption = " ".join([f"{self.setting}, {self.images} images a round.", all_of_them.caption, *self.remarks])
        about = "Ratios are taken in each round. The goals are for two CPU cores, yolo11n and 640 pixels."
        return Table(headers, rows, caption), goals.table(self.goals(), about)

    def plots(self) -> dict[str, Figure]:
        """Throughput and latency, by name."""
        return {
            "throughput": plots.speeds(self.comparison, BareForward.name),
            "latency": plots.latencies(self.comparison),
        }

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers and strings, for a JSON file."""
        return {
            "setting": str(self.setting),
            "images": self.images,
            "remarks": self.remarks,
            **self.comparison.to_dict(),
            "memory_mb": {p: {n: m._asdict() for n, m in of.items()} for p, of in self.memory.items()},
            "goals": goals.to_dict(self.goals()),
        }

    def __str__(self) -> str:
        return "\n\n".join(map(str, self.tables()))

    def _repr_html_(self) -> str:
        return "".join(table._repr_html_() for table in self.tables())


def bench(setting: Setting | None = None, *, rounds: int = 5, images: int = 24, memory: bool = True) -> Bench:
    """Measure every pool and what stands beside them on the same images; takes some minutes on two CPU cores.

    Each does the same images in interleaved rounds, with the same share of the cores for each worker. Loading and
    warm-up do not count, except in the guide's way, where they are part of every task, and where ultralytics sets the
    thread count itself.

    Args:
        setting: weights, workers, device and sizes.
        rounds: how many rounds, 1 or more.
        images: how many images each contender does in a round, 1 or more.
        memory: also measure what each pool takes, in fresh processes.

    Raises:
        ArgumentError, DeviceError, WeightsError: at once.
    """
    setting = setting or Setting()
    everyone, remarks = _contenders(setting)
    found = compare(everyone, setting.images(images), rounds, memory=memory)
    counts = {count: replace(setting, workers=count) for count in (1, 8)}
    taken = memory_at(counts, (Replicas, ModelPerThread)) if memory else {}
    return Bench(found, setting, images, taken, tuple(dict.fromkeys(remarks)))


def _contenders(setting: Setting) -> tuple[list[Pool | Contender], list[str]]:
    """All that can run here, and why the others cannot."""
    pools, remarks = setting.pools()
    like = ModelPerThread(**setting.made())
    found: list[Pool | Contender] = [*pools, PredictList(like, setting.batch)]
    for kind in (EveryTask, ProcessExecutor, BareForward, PlainThreads, BareOnnx, BareOpenVino):
        try:
            found.append(kind(like))
        except (ExtraError, DeviceError) as error:
            remarks.append(f"Not measured: {error}")
    if any(isinstance(one, RayActors) for one in found):
        remarks.append("Ray runs beside all of them, and takes about 5 % of a core when it has nothing to do.")
    place = {name: number for number, name in enumerate(_ORDER)}
    return sorted(found, key=lambda one: place.get(type(one).__name__, -1)), remarks
