"""Advice follows from the measurements and the needs, and gives its reason."""

import pytest

from yolothreads.errors import ArgumentError
from yolothreads.lessons.advice import Advice, Needs, recommend
from yolothreads.measure import Comparison, Measurement
from yolothreads.memory import Memory


def measured(device: str = "cpu") -> Comparison:
    def pool(name: str, speed: float, p99_ms: float, mb: float, workers: int = 2, wrong: int = 0) -> Measurement:
        return Measurement(
            name, workers, 60 - wrong, wrong, 0, None, None, (speed,) * 3, p99_ms, p99_ms, 1, Memory(0, mb)
        )

    pools = [
        pool("SharedModel", 50, 10, 10, wrong=1),
        pool("LockedModel", 8, 90, 10),
        pool("ModelPerThread", 20, 60, 100),
        pool("Replicas", 19.5, 61, 20),
        pool("BatchingWorker", 12, 40, 30, workers=1),
        pool("RayActors", 15, 80, 900),
    ]
    return Comparison([*pools, Measurement("bare forward", 2, speeds=(25.0,) * 3)], 3, f"{device} (machine), 2 cores")


def words(advice: Advice) -> dict[str, str]:
    return {row[0]: row[1] for row in advice.table.rows}


def test_of_equally_fast_pools_the_one_that_needs_least_memory_is_chosen() -> None:
    advice = recommend(Needs(), measured())
    assert advice.pool == "Replicas"
    assert "19.5 images/s" in advice.reason and "20 MB for 2 images at once" in advice.reason
    assert "ModelPerThread" in advice.reason and "noise" in advice.reason
    assert "Replicas needs the least memory" in advice.reason


def test_a_pool_that_gave_wrong_results_is_never_chosen_however_fast() -> None:
    assert words(recommend(Needs(), measured()))["SharedModel"] == "1 wrong results and 0 errors here"


def test_ranking_by_latency_can_choose_another_pool() -> None:
    advice = recommend(Needs(goal="latency"), measured())
    assert advice.pool == "BatchingWorker" and "40 ms (p99)" in advice.reason
    assert "The next best is ModelPerThread with 60 ms" in advice.reason


def test_a_memory_limit_excludes_pools_by_the_number_of_concurrent_images() -> None:
    assert recommend(Needs(images_at_once=8, memory_mb=100), measured()).pool == "Replicas"
    few = recommend(Needs(images_at_once=16, memory_mb=100), measured())
    assert few.pool == "BatchingWorker" and words(few)["Replicas"] == "needs 160 MB"
    none = recommend(Needs(memory_mb=1), measured())
    assert none.pool == "" and "more memory" in none.reason and "RayActors" not in none.reason


def test_only_one_pool_remains_for_several_machines() -> None:
    advice = recommend(Needs(machines=3), measured())
    assert advice.pool == "RayActors" and words(advice)["Replicas"] == "stays on one machine"
    assert "network" in advice.cautions[0]
    here = Comparison([m for m in measured() if m.pool != "RayActors"], 3, "cpu (machine), 2 cores")
    assert "Only RayActors uses several machines" in recommend(Needs(machines=3), here).reason


def test_figures_from_another_device_get_a_caution() -> None:
    assert "not from a GPU" in recommend(Needs(gpu=True), measured()).cautions[0]
    assert recommend(Needs(gpu=True), measured("cuda:0")).cautions == ()
    assert "from a GPU" in recommend(Needs(), measured("cuda:0")).cautions[0]


def test_upper_bounds_and_alternatives_are_not_recommended() -> None:
    assert "bare forward" not in words(recommend(Needs(), measured()))


@pytest.mark.parametrize(
    "wrong", [{"images_at_once": 0}, {"goal": "cheap"}, {"memory_mb": -1}, {"machines": 0}], ids=str
)
def test_the_error_for_an_impossible_need_names_it(wrong: dict) -> None:
    with pytest.raises(ArgumentError, match=next(iter(wrong))):
        Needs(**wrong)


def test_a_memory_limit_requires_measured_memory() -> None:
    only = Comparison([Measurement("Replicas", 2, 60, speeds=(1.0,), latency_p99_ms=1)], 1, "cpu")
    with pytest.raises(ArgumentError, match="memory=True"):
        recommend(Needs(memory_mb=100), only)
    advice = recommend(Needs(), only)
    assert advice.pool == "Replicas" and "memory" not in advice.reason
