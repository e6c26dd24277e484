"""Which threads use which model at the same time, in each strategy, by forced schedules of fake models."""

import gc
import threading
import weakref

import pytest
from deadlines import scaled
from fakes import WAIT_S, FakeModel, FakeModels, picture

from yolothreads.pools import (
    BatchingWorker,
    LockedModel,
    ModelPerThread,
    ModelsBuiltOutside,
    Pool,
    Replicas,
    Sequential,
    SharedModel,
    make_pool,
)

pytestmark = pytest.mark.timeout(scaled(120))


def meet(parties: int, fakes: FakeModels) -> threading.Barrier:
    """Let each predict end only when this many threads are inside predict at the same time."""
    barrier = threading.Barrier(parties)
    fakes.inside = lambda model, tag: barrier.wait(WAIT_S)
    return barrier


def test_shared_model_lets_all_threads_into_one_model(fakes: FakeModels) -> None:
    meet(3, fakes)
    with SharedModel(workers=3, device="cpu") as pool:
        list(pool.map(map(picture, range(1, 7))))
    (model,) = fakes.built
    assert model.most_at_once == 3 and len(set(model.used_by)) == 3


def test_shared_model_mixes_up_the_settings_of_two_calls(fakes: FakeModels) -> None:
    second_is_in = threading.Event()
    fakes.inside = lambda model, tag: second_is_in.wait(WAIT_S) if tag == 1 else second_is_in.set()
    with SharedModel(workers=2, device="cpu") as pool:
        futures = [pool.submit(picture(1), conf=0.1), pool.submit(picture(2), conf=0.95)]
        assert [len(f.result(WAIT_S).boxes) for f in futures] == [0, 0]  # by itself the first call gives 2


def test_locked_model_lets_in_one_thread_at_a_time(fakes: FakeModels) -> None:
    first_is_in, most = threading.Event(), []

    def inside(model: FakeModel, tag: int) -> None:
        if tag == 1:
            first_is_in.set()
            second_asked.wait(WAIT_S)
        most.append(model.most_at_once)

    fakes.inside = inside
    with LockedModel(workers=2, device="cpu") as pool:
        second_asked = threading.Event()
        first = pool.submit(picture(1), conf=0.1)
        assert first_is_in.wait(WAIT_S)
        rest = [pool.submit(picture(i), conf=0.95) for i in range(2, 8)]
        second_asked.set()
        assert [len(f.result(WAIT_S).boxes) for f in (first, *rest)] == [2, 0, 0, 0, 0, 0, 0]
    assert len(fakes.built) == 1 and set(most) == {1}


def test_locked_model_blocks_a_second_thread_while_one_predicts(fakes: FakeModels) -> None:
    barrier = threading.Barrier(2)
    fakes.inside = lambda model, tag: barrier.wait(0.3)  # two never meet inside, so the barrier breaks
    with LockedModel(workers=2, device="cpu") as pool:
        errors = [pool.submit(picture(i)).exception for i in (1, 2)]
        assert [type(error(WAIT_S)) for error in errors] == [threading.BrokenBarrierError] * 2
    assert fakes.built[0].most_at_once == 1


@pytest.mark.parametrize(("kind", "in_the_worker"), [(ModelPerThread, True), (ModelsBuiltOutside, False)])
def test_one_model_per_thread_is_never_shared(kind: type[Pool], in_the_worker: bool, fakes: FakeModels) -> None:
    meet(3, fakes)
    with make_pool(kind, workers=3, device="cpu") as pool:
        list(pool.map(map(picture, range(1, 10))))
    assert len(fakes.built) == 3
    assert [model.most_at_once for model in fakes.built] == [1, 1, 1]
    users = [set(model.used_by) for model in fakes.built]
    assert [len(u) for u in users] == [1, 1, 1] and len(set.union(*users)) == 3
    here = threading.current_thread()
    if in_the_worker:
        assert all(model.built_by in used for model, used in zip(fakes.built, users, strict=True))
    else:
        assert all(model.built_by is here for model in fakes.built)


def test_replicas_share_the_tensors_of_one_model_and_nothing_else(fakes: FakeModels) -> None:
    meet(3, fakes)
    with Replicas(workers=3, device="cpu") as pool:
        list(pool.map(map(picture, range(1, 10))))
    loaded, *twins = fakes.built
    assert loaded.built_by is threading.current_thread() and loaded.used_by == []
    assert [model.most_at_once for model in twins] == [1, 1, 1]
    assert all(len(set(model.used_by)) == 1 and model.tensor is loaded.tensor for model in twins)


def test_shared_and_locked_models_are_built_by_the_caller(fakes: FakeModels) -> None:
    for kind in (SharedModel, LockedModel):
        with make_pool(kind, workers=2, device="cpu"):
            assert fakes.built.pop().built_by is threading.current_thread()
        assert fakes.built == []


def test_sequential_has_one_worker(fakes: FakeModels) -> None:
    with Sequential(device="cpu") as pool:
        list(pool.map(map(picture, range(1, 10))))
    assert pool.workers == 1 and fakes.done == list(range(1, 10))
    assert len(fakes.built) == 1 and len(set(fakes.built[0].used_by)) == 1


@pytest.mark.parametrize("kind", [SharedModel, LockedModel, ModelsBuiltOutside, Replicas, BatchingWorker])
def test_a_closed_pool_releases_its_models(kind: type[Pool], fakes: FakeModels) -> None:
    pool = make_pool(kind, workers=2, device="cpu")
    with pool:
        list(pool.map([picture(1)] * 4))
        models = [weakref.ref(model) for model in fakes.built]
        fakes.built.clear()
        assert all(model() for model in models)
    gc.collect()
    assert not any(model() for model in models)
