"""The benchmark: contenders, goals, the layout of growth tables; and one small run of everything."""

import json
from pathlib import Path

import pytest
import torch
from deadlines import scaled
from fakes import FakeModels

from yolothreads import bench as module
from yolothreads import charts, errors
from yolothreads.bench import (
    BARE,
    PLAIN,
    Bench,
    Goal,
    Growth,
    Setting,
    bench,
    contenders,
    goals_of_mapping,
    goals_of_memory,
    goals_of_speed,
    growth,
)
from yolothreads.errors import ArgumentError, DeviceError, OutputError
from yolothreads.measure import Comparison, Measurement, Spread
from yolothreads.memory import Memory
from yolothreads.pools import POOLS, BatchingWorker, RemotePool

pytestmark = pytest.mark.timeout(scaled(300))


def made_up(**speeds: tuple[float, ...]) -> Comparison:
    """Figures of pools, and of the bare forward passes with 10 images in each of three rounds."""
    pools = [
        Measurement(name, 2, right=3, speeds=of, latency_p50_ms=5, latency_p99_ms=9, memory=Memory(10, 20))
        for name, of in speeds.items()
    ]
    return Comparison([*pools, Measurement(BARE, 2, speeds=(10, 10, 10))], 3, "here, today")


TWO = made_up(Replicas=(9.9, 9.7, 9.6), ModelPerThread=(9, 9, 9.7))
MEMORY = {
    "Replicas": {1: Memory(20, 24), 8: Memory(34, 70)},
    "ModelPerThread": {1: Memory(48, 50), 8: Memory(400, 420)},
}


def test_the_goals_table_shows_each_measurement_and_whether_it_meets_the_goal() -> None:
    of = {goal.what: goal for goal in goals_of_speed(TWO, "cpu")}
    assert list(of) == ["Replicas / bare forward", "Replicas / ModelPerThread", "ModelPerThread / bare forward"]
    assert [goal.met for goal in of.values()] == [True, True, None]
    assert Goal("", Spread(0.9, 0, 1), 0.95).met is False
    rows = [goal.cells() for goal in of.values()]
    assert [(bound, met) for *_, bound, met in rows] == [("0.95 or more", "yes"), ("1 or more", "yes"), ("-", "-")]
    assert rows[0][1] == "0.97 (0.96 to 0.99)"


def test_batching_is_compared_with_the_locked_model_on_a_cpu_and_with_threads_on_a_gpu() -> None:
    three = made_up(LockedModel=(1, 1, 1), ModelPerThread=(2, 2, 2), BatchingWorker=(6, 6, 6))
    by_device = {d: {g.what: (g.measured.median, g.met) for g in goals_of_speed(three, d)} for d in ("cpu", "cuda:0")}
    assert by_device["cpu"]["BatchingWorker / LockedModel"] == (6, True)
    assert by_device["cuda:0"]["BatchingWorker / ModelPerThread"] == (3, False)


def test_memory_goals_are_for_one_more_worker_and_for_eight_workers() -> None:
    opened, opened_8, worked, worked_8 = goals_of_memory(MEMORY)
    assert (opened.measured.median, opened.met) == (2.0, True)
    assert (opened_8.measured.median, opened_8.met) == (0.085, True)
    assert worked.measured.median == pytest.approx(46 / 7) and worked.met is None
    assert (worked_8.measured.median, worked_8.met) == (pytest.approx(1 / 6), None)
    assert next(iter(goals_of_memory({"Replicas": {1: Memory(1, 2), 8: Memory(16, 2)}}))).met is False
    assert not list(goals_of_memory({"Replicas": {2: Memory(1, 2)}}))
    assert [goal.met for goal in goals_of_mapping({"a": {5: 99.0, 10: 1.0}, "b": {10: 50.0}})] == [True, False]


def test_the_tables_name_the_machine_the_upper_bound_and_the_omitted_contenders() -> None:
    done = Bench(TWO, Setting(), 4, MEMORY, ("Not measured: this.",))
    rows = {row["pool"]: row for row in done.tables()[0].to_dicts()}
    assert rows["ModelPerThread"]["of bare forward"] == "0.90" and rows["bare forward"]["p99 ms"] == "-"
    for word in ("here, today", "Not measured: this.", "4 images", "640x640", "bundled", "Replicas / bare forward"):
        assert word in str(done)
    assert done._repr_html_().count("<table>") == 2
    told = json.loads(json.dumps(done.to_dict()))
    assert told["goals"]["Replicas / bare forward"]["met"] is True
    assert told["measured"][0]["memory"] == {"opened_mb": 10, "worked_mb": 20}


def grown() -> Growth:
    mapped = {"Replicas": {5: 1.0, 10: 1.5}}
    return Growth(Setting(), "here, today", {1: TWO, 2: TWO}, {64: TWO}, MEMORY, mapped, ["Not measured: this."])


def test_growth_has_a_column_for_each_step_and_a_row_for_each_pool() -> None:
    speed, size, memory, mapped, promised = grown().tables()
    assert list(speed.headers)[1:] == ["1", "2"] and list(size.headers)[1:] == ["64"]
    assert [row[0] for row in speed.rows] == ["Replicas", "ModelPerThread", "bare forward"]
    assert speed.rows[0][1:] == ["9.7 (9.6 to 9.9)"] * 2 and size.rows[2][1:] == ["10.0"]
    assert memory.to_dicts()[0]["8"] == "34 / 70" and mapped.rows == [["Replicas", "1.0", "1.5"]]
    assert len(promised.rows) == 5
    assert "Not measured: this." in str(grown()) and "here, today" in str(grown())
    assert json.loads(json.dumps(grown().to_dict()))["memory_mb"]["Replicas"]["8"]["opened_mb"] == 34


def test_every_figure_has_a_title_units_and_the_machine(tmp_path: Path) -> None:
    figures = {**Bench(TWO, Setting(), 4).plots(), **grown().plots()}
    assert len(figures) == 7
    for figure in figures.values():
        (axes,) = figure.axes
        assert axes.get_title(loc="left") and axes.get_xlabel() and figure.get_supxlabel() == "here, today"
        assert axes.get_legend().get_texts()
    assert any("images per second" in f.axes[0].get_ylabel() for f in figures.values())
    paths = charts.save(figures, tmp_path / "new")
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)
    with pytest.raises(OutputError, match="not a folder"):
        (tmp_path / "not a folder").write_text("")
        charts.save(figures, tmp_path / "not a folder")


def test_lines_differ_in_mark_where_they_share_a_colour() -> None:
    values = {n: Spread.of([n]) for n in (1, 2)}
    figure = charts.lines({f"pool{i}": values for i in range(9)}, "t", ("x", "y"), "")
    drawn = {
        (line.get_color(), line.get_marker())
        for line in figure.axes[0].get_lines()
        if line.get_marker() in "osD^vPX*<>"
    }
    assert len(drawn) == 9


def test_growth_measures_each_step_with_its_own_number_of_workers(
    fakes: FakeModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, int, int]] = []

    def note(pool: object) -> Memory:
        asked.append((type(pool).__name__, pool.workers, pool.at_once))
        return Memory(1, 2)

    monkeypatch.setattr(module, "memory_of", note)
    found = growth(of=["memory"], counts=(1, 4), pools=("Replicas", "BatchingWorker"))
    assert sorted(asked) == [("BatchingWorker", 1, 1), ("BatchingWorker", 1, 4), ("Replicas", 1, 1), ("Replicas", 4, 4)]
    assert list(found.memory["Replicas"]) == [1, 4] and not found.workers and not found.sizes


@pytest.mark.parametrize(
    "wrong",
    [{"of": ["speed"]}, {"pools": ["Replica"]}, {"pools": []}, {"rounds": 0}, {"images": 0}, {"counts": [0]}]
    + [{"sizes": [100]}, {"mapped": 9}],
)
def test_growth_refuses_invalid_arguments_before_it_measures(wrong: dict, fakes: FakeModels) -> None:
    with pytest.raises(ArgumentError):
        growth(**wrong)
    assert fakes.built == []


@pytest.mark.parametrize("wrong", [{"workers": 0}, {"batch": 0}, {"imgsz": 100}, {"imgsz": 32}])
def test_the_error_for_an_invalid_number_names_it(wrong: dict[str, int]) -> None:
    with pytest.raises(ArgumentError, match=next(iter(wrong))):
        Setting(**wrong)


@pytest.mark.parametrize("wrong", [{"rounds": 0}, {"images": -1}])
def test_zero_rounds_or_zero_images_is_an_error(wrong: dict[str, int], fakes: FakeModels) -> None:
    with pytest.raises(ArgumentError, match=next(iter(wrong))):
        bench(**wrong)
    assert fakes.built == []


def test_a_device_that_is_not_here_is_an_error() -> None:
    with pytest.raises(DeviceError, match="cuda:99"):
        bench(Setting(device="cuda:99"))


def test_contenders_whose_library_is_missing_are_omitted_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    find = errors.find_spec
    gone = ("onnxruntime", "openvino", "ray")
    monkeypatch.setattr(errors, "find_spec", lambda name, *more: None if name in gone else find(name, *more))
    found, remarks = module._contenders(Setting(imgsz=64))
    names = {type(one).__name__ for one in found}
    assert {"Replicas", "EveryTask", "BareForward"} <= names
    assert not names & {"OnnxSession", "BareOnnx", "BareOpenVino", "RayActors"}
    assert any("onnxruntime" in remark for remark in remarks) and any("openvino" in remark for remark in remarks)


def test_contenders_that_a_goal_compares_are_measured_next_to_each_other() -> None:
    found, _ = module._contenders(Setting(imgsz=64, batch=3))
    names = [type(one).__name__ for one in found]
    assert {kind.__name__ for kind in POOLS} <= set(names)
    for pair in (("BareForward", "Replicas"), ("PlainThreads", "ModelPerThread"), ("LockedModel", "BatchingWorker")):
        assert names.index(pair[1]) == names.index(pair[0]) + 1
    assert [one.at_once for one in found if isinstance(one, BatchingWorker)] == [3]


@pytest.mark.timeout(scaled(900))
@pytest.mark.parametrize("with_remote", [False, pytest.param(True, marks=pytest.mark.nightly)])
def test_every_contender_runs_on_small_images(with_remote: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = [kind for kind in POOLS if with_remote or not issubclass(kind, RemotePool)]
    monkeypatch.setattr(contenders, "POOLS", kinds)
    threads = torch.get_num_threads()
    done = bench(Setting(imgsz=64), rounds=1, images=2, memory=False)
    assert torch.get_num_threads() == threads
    names = {measurement.pool for measurement in done.comparison}
    assert names >= {kind.__name__ for kind in kinds}
    assert names >= {"YOLO() in every task", "predict(list, batch=8)", "ProcessPoolExecutor", BARE, PLAIN}
    for measurement in done.comparison:
        assert len(measurement.speeds) == 1 and measurement.speeds[0] > 0
        assert not measurement.judged or measurement.right == 2, measurement.pool
    assert json.loads(json.dumps(done.to_dict()))["goals"].keys() == {goal.what for goal in done.goals()}


@pytest.mark.nightly
def test_growth_measures_workers_and_image_sizes_on_small_images() -> None:
    found = growth(Setting(imgsz=64), of=["workers", "sizes"], counts=[1, 2], sizes=[64, 96], pools=["Replicas"],
                   rounds=1, images=2)  # fmt: skip
    assert list(found.workers) == [1, 2] and list(found.sizes) == [64, 96]
    assert [m.workers for m in found.workers[2]] == [2, 2]
