"""The catalogue of hazards: its entries, their outcome on this version, and the matrix. Nothing is left behind."""

import json
import os
import subprocess
import tempfile
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ultralytics.utils
from deadlines import scaled
from fakes import FakeModels
from ultralytics.engine.model import Model

from yolothreads import cli, hazards, replay
from yolothreads.errors import ArgumentError
from yolothreads.hazards import (
    CATALOGUE,
    NOT_APPLICABLE,
    NOT_REPRODUCED,
    REPRODUCED,
    Evidence,
    Hazard,
    Matrix,
    Try,
    attempts,
    sharing,
    surroundings,
)
from yolothreads.pools import (
    POOLS,
    BatchingWorker,
    LockedModel,
    ModelPerProcess,
    ModelPerThread,
    RayActors,
    RemotePool,
    Replicas,
    Sequential,
    SharedModel,
)
from yolothreads.races import EXCEPTION, RIGHT, WRONG, Rate

pytestmark = pytest.mark.timeout(scaled(240))
IDS = [
    "argument-leak",
    "first-call",
    "setup-keys",
    "anchor-cache",
    "stream-holds-lock",
    "lock-scope",
    "tracker-mix",
    "run-directory",
    "fork",
    "thread-count",
    "nms-clock",
    "aliasing",
    "shutdown",
    "prompts",
    "cuda-default-stream",
]
OFTEN = (ModelPerThread, Replicas, BatchingWorker)  # tested with every change where a test takes seconds for each pool
QUICK = [
    "setup-keys",
    pytest.param("anchor-cache", marks=pytest.mark.nightly),  # lesson 02 forces it with every change
    "stream-holds-lock",
    "lock-scope",
    "tracker-mix",
    "thread-count",
    "nms-clock",
    "aliasing",
]


@pytest.fixture
def predict_under_a_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A version of ultralytics in which two calls of one model never overlap."""
    monkeypatch.setattr(Model, "predict", ultralytics.utils.ThreadingLocked()(Model.predict))


def test_the_catalogue_contains_every_known_hazard() -> None:
    assert list(CATALOGUE) == IDS


@pytest.mark.parametrize("hazard", CATALOGUE.values(), ids=lambda h: h.id)
def test_every_entry_is_complete(hazard: Hazard) -> None:
    assert hazard.title and hazard.versions and hazard.forcing
    assert hazard.symptom.count(". ") == 0 and hazard.symptom.endswith(".") and hazard.remedy.endswith(".")
    assert set(hazard.touches) <= {pool.__name__ for pool in POOLS}
    assert (hazard.force is None, hazard.meet is None) == ((hazard.status == "read"),) * 2
    assert hazard.status in ("seen", "seen in part", "read")


def test_no_pool_follows_objects_so_no_tracker_can_be_mixed_in_one() -> None:
    assert not any(hasattr(pool, "track") for pool in POOLS)


@pytest.mark.parametrize("name", QUICK)
def test_forcing_shows_the_hazard_on_this_version(name: str) -> None:
    evidence = CATALOGUE[name].forced()
    assert evidence.reproduced, evidence
    assert evidence.detail


@pytest.mark.nightly  # lesson 02 finds and replays the same leak with every change
def test_replaying_a_schedule_that_leaked_arguments_leaks_them_again() -> None:
    evidence = CATALOGUE["argument-leak"].forced()
    assert evidence.reproduced, evidence
    bodies = [lambda m, ask=ask: m.predict(ask[0], **ask[1])[0] for ask in sharing._asks()]
    with attempts.quiet_ultralytics():
        model = attempts.warm_model()
        again = replay(evidence.schedule, *bodies, setup=lambda: model, watch=[Model.predict])
    assert again.kind == WRONG


@pytest.mark.parametrize("name", ["first-call", "anchor-cache", "run-directory"])
def test_natural_trials_are_counted(name: str) -> None:
    counted = CATALOGUE[name].natural(3)
    assert counted is not None
    assert counted.trials == 3 == sum(counted.counts.values())
    assert set(counted.counts) <= {RIGHT, WRONG, EXCEPTION}


def test_deterministic_hazards_have_no_rate() -> None:
    assert CATALOGUE["aliasing"].natural(3) is None


def test_hazards_known_only_from_the_source_say_so() -> None:
    assert "source alone" in str(CATALOGUE["prompts"].forced())
    assert CATALOGUE["cuda-default-stream"].against(Sequential).word == NOT_APPLICABLE


# --- where a hazard is gone ---


@pytest.mark.nightly  # 20 s; another hazard shows the word with every change
@pytest.mark.usefixtures("predict_under_a_lock")
def test_a_leak_that_is_gone_is_reported_as_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "_FORCE_S", 600.0)  # "gone" needs every schedule, however slow the machine is
    evidence = CATALOGUE["argument-leak"].forced()
    assert (evidence.reproduced, evidence.word) == (False, "gone here"), evidence
    assert "SAFE" in evidence.detail and ultralytics.__version__ in str(evidence)


@pytest.mark.usefixtures("predict_under_a_lock")
def test_a_search_that_ran_out_of_time_does_not_report_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "_FORCE_S", 0.0)
    assert CATALOGUE["argument-leak"].forced().word == "not found so far"


def test_the_thread_count_hazard_is_gone_if_the_count_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ultralytics.utils.torch_utils.NUM_THREADS", ultralytics.utils.NUM_THREADS + 1)
    assert CATALOGUE["thread-count"].forced().word == "gone here"


def test_a_hazard_whose_parts_are_missing_is_not_called_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(ultralytics.utils, "ThreadingLocked")
    evidence = CATALOGUE["lock-scope"].forced()
    assert evidence.word == "not tried" and "ThreadingLocked" in evidence.detail


# --- processes and files ---


@pytest.mark.parametrize("name", [pytest.param("fork", marks=pytest.mark.nightly), "shutdown"])  # fork: lesson 07
def test_hazards_that_need_a_process_show_on_this_version(name: str) -> None:
    assert CATALOGUE[name].forced().reproduced


@pytest.mark.nightly  # with light models: tests/pools/test_forking.py
def test_a_pool_used_after_a_fork_says_so_at_once() -> None:
    tried = CATALOGUE["fork"].against(SharedModel)
    assert tried.word == NOT_REPRODUCED and "PoolClosedError" in tried.reason, tried


def test_a_process_that_exceeds_its_deadline_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[str]] = []
    start = subprocess.Popen

    def noting(*args: Any, **kwargs: Any) -> subprocess.Popen[str]:
        started.append(start(*args, **kwargs))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", noting)
    monkeypatch.setattr(surroundings, "_CHILD_S", 0.05)
    evidence = CATALOGUE["shutdown"].forced()
    assert evidence.word == "not tried" and "took longer" in evidence.detail
    with pytest.raises(ProcessLookupError):
        os.kill(started[0].pid, 0)


@pytest.mark.parametrize("pool", [SharedModel, ModelPerThread])
def test_no_pool_saves_a_picture(pool: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def saved() -> set[Path]:
        return set(Path(ultralytics.utils.SETTINGS["runs_dir"]).rglob("*.jpg"))

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = saved()
    tried = CATALOGUE["run-directory"].against(pool)
    assert tried.word == NOT_APPLICABLE and "the pool refuses it" in tried.reason and "result.save(" in tried.reason
    assert saved() == before and list(tmp_path.rglob("*.jpg")) == []


def test_a_pool_of_a_model_neither_changes_it_nor_is_changed_with_it() -> None:
    assert CATALOGUE["aliasing"].against(ModelPerThread).word == NOT_REPRODUCED


def test_a_pool_that_shares_the_callers_model_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    class Aliased(Sequential):
        def __init__(self, weights: Any, **options: Any) -> None:
            super().__init__(**options)
            self.given = weights

        def _predictor(self, index: int) -> Any:
            return self.given.predict

    tried = CATALOGUE["aliasing"].against(Aliased)
    assert tried.word == REPRODUCED and "the pool changed the model: True" in tried.reason


def test_a_try_restores_logging_and_the_thread_count() -> None:
    was, threads = ultralytics.utils.LOGGER.disabled, set(threading.enumerate())
    CATALOGUE["stream-holds-lock"].forced()
    left = [thread for thread in set(threading.enumerate()) - threads if "tqdm" not in thread.name]
    assert (ultralytics.utils.LOGGER.disabled, left) == (was, [])


# --- the matrix ---


def test_exploring_tells_two_pools_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "_FEW", 1)  # a busy machine runs few schedules in 2 s
    leak = CATALOGUE["argument-leak"]
    shared = leak.against(SharedModel, scaled(300.0))  # it ends with the first schedule that goes wrong
    locked = leak.against(LockedModel, scaled(2.0))
    assert (shared.word, locked.word) == (REPRODUCED, NOT_REPRODUCED), (shared, locked)
    assert 0 < shared.bad < shared.count and shared.unit == locked.unit == "schedule"
    assert CATALOGUE["argument-leak"].touches == ("SharedModel",)


def test_a_pool_that_cannot_be_explored_gets_natural_trials(fakes: FakeModels) -> None:
    tried = CATALOGUE["argument-leak"].against(LockedModel, 1.0)
    assert (tried.word, tried.unit, tried.count) == (NOT_REPRODUCED, "trial", 30), tried


@pytest.fixture(
    scope="module",
    params=[pytest.param(kind, marks=[pytest.mark.nightly] * (kind not in OFTEN)) for kind in POOLS],
)
def pool(request: pytest.FixtureRequest) -> type:
    """Each kind of pool; those of Ray share one cluster with other tests."""
    if request.param is RayActors:
        request.getfixturevalue("ray_joined")
    return request.param


def test_pools_keep_their_thread_count_and_lose_no_box_to_the_time_limit(pool: type) -> None:
    for name in ("thread-count", "nms-clock", "stream-holds-lock"):
        is_patched = name != "stream-holds-lock"  # which has no effect in the worker processes of a remote pool
        word = NOT_APPLICABLE if is_patched and issubclass(pool, RemotePool) else NOT_REPRODUCED
        assert CATALOGUE[name].against(pool).word == word


@pytest.mark.parametrize("name", ["thread-count", "nms-clock"])
def test_hazards_that_are_patched_in_are_not_applicable_to_worker_processes(name: str) -> None:
    for kind in (ModelPerProcess, RayActors):
        tried = CATALOGUE[name].against(kind)
        assert tried.word == NOT_APPLICABLE and "process" in tried.reason


def test_a_pool_that_refuses_is_reported_with_the_reason() -> None:
    tried = CATALOGUE["setup-keys"].against(Sequential)
    assert tried.word == NOT_APPLICABLE and '"tracker" cannot be set' in tried.reason


def test_a_try_that_fails_gives_no_verdict() -> None:
    def broken(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("no room")

    tried = CATALOGUE["setup-keys"].against(broken)  # type: ignore[arg-type]
    assert tried.word == NOT_APPLICABLE and "no room" in tried.reason


def test_arguments_that_make_no_matrix_are_refused() -> None:
    with pytest.raises(ArgumentError, match="argument-lek"):
        hazards.matrix(hazards=["argument-lek"])
    with pytest.raises(ArgumentError, match="0 pools"):
        hazards.matrix([])


def test_each_cell_is_told_as_soon_as_it_is_known() -> None:
    lines: list[str] = []
    hazards.matrix([Sequential, SharedModel], hazards=["prompts"], trials=0, progress=lines.append)
    assert lines == [
        "prompts, forced: not tried",
        "prompts, Sequential: not applicable",
        "prompts, SharedModel: not applicable",
    ]


@pytest.mark.nightly  # 15 s
def test_heads_remember_no_shape_of_the_run_before_so_a_pool_is_tried_in_every_schedule() -> None:
    tried = CATALOGUE["anchor-cache"].against(BatchingWorker, scaled(600))
    assert (tried.word, tried.unit) == (NOT_REPRODUCED, "schedule")
    assert tried.count == tried.total > 100


def small_matrix() -> Matrix:
    tries = {
        ("a", "Sequential"): Try(NOT_REPRODUCED, 0, 30, "schedule", 90),
        ("a", "SharedModel"): Try(REPRODUCED, 2, 30, "schedule", 90, "lost <b>"),
        ("b", "Sequential"): Try(NOT_APPLICABLE, reason="it refuses"),
        ("b", "SharedModel"): Try(NOT_REPRODUCED, 0, 1),
    }
    forced = {"a": Evidence(True, "it came", "A@f:1#1>B"), "b": Evidence(False, "clean")}
    return Matrix(forced, {"a": Rate({RIGHT: 3, WRONG: 1}, 4, 0.005)}, tries, "cpu, 2 cores")


def test_a_matrix_shows_verdicts_reasons_and_the_machine() -> None:
    text = str(small_matrix())
    assert "cpu, 2 cores" in text and "b, Sequential: not applicable: it refuses" in text
    assert "1 of 4 wrong result" in text and "gone here" in text
    rows = small_matrix().table().rows
    assert rows[0] == ["a", "reproduced", "not reproduced within 30 of 90 schedules", "reproduced (2 of 30 schedules)"]
    assert rows[1][2:] == ["not applicable", "not reproduced within 1 trial"]
    assert "lost &lt;b&gt;" in small_matrix()._repr_html_()


def test_the_command_prints_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    given: list[Any] = []
    monkeypatch.setattr(hazards, "matrix", lambda **kwargs: given.append(kwargs) or small_matrix())
    assert cli.main(["hazards", "--json", "--budget", "9"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert done["stamp"] == "cpu, 2 cores" and given[0]["budget_s"] == 9
    assert done["cells"][0] == {
        "hazard": "a", "pool": None, "word": "reproduced", "reason": "it came", "schedule": "A@f:1#1>B",
        "natural": {RIGHT: 3, WRONG: 1},
    }  # fmt: skip
    assert SimpleNamespace(**done["cells"][3]).reason == "lost <b>"
