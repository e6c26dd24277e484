"""Worker processes, for real: killed at each stage, interrupted, orphaned; nothing is lost, doubled or left behind."""

import multiprocessing
import multiprocessing.connection
import os
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import wait
from pathlib import Path
from time import monotonic
from typing import Any

import cv2
import numpy as np
import psutil
import pytest
import torch
import ultralytics
from deadlines import scaled
from fakes import ctrl_c_on
from light_models import STEPS, Light
from steps import BrokenError, failing_once

from yolothreads.errors import ArgumentError, ImageError, OutOfMemoryError, WorkerDiedError, YoloThreadsError
from yolothreads.pools import ModelPerProcess, Sequential, processes
from yolothreads.pools.processes import load_predict
from yolothreads.scenes import scene

pytestmark = pytest.mark.timeout(scaled(120))
HERE = Path(__file__).parent
WAIT_S = scaled(40.0)
SHARED = Path("/dev/shm")


def picture(tag: int, shape: tuple[int, int] = (32, 32)) -> np.ndarray:
    return np.full((*shape, 3), tag, np.uint8)


def tags(results: Any) -> list[int]:
    return [result.speed["tag"] for result in results]


def blocks() -> set[str]:
    return {file.name for file in SHARED.glob("psm_*")}


def open_files() -> list[str]:
    """Return the targets of the open files of this process."""
    found = []
    for file in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            found.append(str(file.readlink()))
    return sorted(found)


def blocks_of(pid: int) -> list[Any]:
    """Return the shared memory that a process has open."""
    return [block for block in psutil.Process(pid).memory_maps(grouped=False) if "psm_" in block.path]


def wait_until(holds: Callable[[], bool]) -> None:
    """Poll a condition that no event signals, with a deadline."""
    end, pause = monotonic() + WAIT_S, threading.Event()
    while not holds():
        assert monotonic() < end, "it did not come true"
        pause.wait(0.02)


@pytest.fixture(autouse=True)
def leaves_no_process_file_or_memory() -> Iterator[None]:
    resource_tracker.ensure_running()  # stays until Python ends, as does the server below
    forkserver.ensure_running()
    files, memory = open_files(), blocks()
    yield
    assert not multiprocessing.active_children()
    assert open_files() == files
    wait_until(lambda: blocks() <= memory)  # another program may have one now and then


@pytest.fixture
def light(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., ModelPerProcess]:
    """Makes a pool whose workers have light models."""

    def make(workers: int = 2, mp_context: Any = "spawn", **given: Any) -> ModelPerProcess:
        monkeypatch.setattr(ModelPerProcess, "_make_predict", Light(tmp_path, **given))
        return ModelPerProcess(workers=workers, device="cpu", mp_context=mp_context)

    return make


def begun(folder: Path) -> Counter[int]:
    return Counter(int(line) for line in (folder / "begun").read_text().split())


@pytest.mark.parametrize("stage", ["start", "load", "image", "answer"])
def test_a_worker_killed_once_is_replaced_and_no_image_is_lost_or_processed_twice(
    stage: str, light: Callable[..., ModelPerProcess], tmp_path: Path
) -> None:
    with light(stage=stage) as pool:
        results = list(pool.map(map(picture, range(1, 13))))
        assert tags(results) == list(range(1, 13))
        assert all((result.orig_img == tag).all() for tag, result in enumerate(results, 1))
        assert len(pool._workers) == 2 and all(worker.is_alive() for worker in pool._workers.values())
    assert (tmp_path / stage).exists()  # it was killed
    died_with = 5 if stage in ("image", "answer") else 0
    assert begun(tmp_path) == {tag: 1 + (tag == died_with) for tag in range(1, 13)}


@pytest.mark.parametrize(
    ("stage", "ending", "word"),
    [("image", signal.SIGKILL, "SIGKILL"), ("answer", signal.SIGTERM, "SIGTERM"), ("image", "exit", "exit code 3")],
)
def test_an_image_that_ends_its_worker_twice_gets_an_error_that_says_how(
    stage: str, ending: int | str, word: str, light: Callable[..., ModelPerProcess], tmp_path: Path
) -> None:
    with light(stage=stage, ending=ending, always=True) as pool:
        results = list(pool.map(map(picture, range(1, 9)), return_exceptions=True))
        error = results.pop(4)
        assert tags(results) == [1, 2, 3, 4, 6, 7, 8]
        assert tags([pool.submit(picture(9)).result(WAIT_S)]) == [9]
    assert isinstance(error, WorkerDiedError) and word in str(error)
    assert begun(tmp_path) == {tag: 1 + (tag == 5) for tag in range(1, 10)}


def test_workers_killed_while_idle_are_replaced_at_the_next_image(light: Callable[..., ModelPerProcess]) -> None:
    with light() as pool:
        processes = [worker.process for worker in pool._workers.values()]
        for process in processes:
            os.kill(process.pid, signal.SIGKILL)
            assert wait([process.sentinel], WAIT_S)
        results = list(pool.map(map(picture, range(1, 9))))
    assert tags(results) == list(range(1, 9))


@pytest.mark.parametrize(("stage", "ending"), [("start", signal.SIGKILL), ("load", "exit")])
def test_open_raises_if_workers_never_load(
    stage: str, ending: int | str, light: Callable[..., ModelPerProcess]
) -> None:
    pool = light(stage=stage, ending=ending, always=True)
    with pytest.raises(WorkerDiedError, match=r"Worker \d ended 3 times.*(SIGKILL|exit code 3)"):
        pool.__enter__()


def test_a_worker_that_fails_to_start_ends_those_that_are_still_loading(light: Callable[..., ModelPerProcess]) -> None:
    pool = light(3, stage="load", ending="stop")  # the first to load goes on for ever
    start = pool._start_worker

    def refuse(index: int) -> Any:
        if index == 0:
            wait_until(lambda: len(pool._loading) == 1 and len(pool._workers) == 1)
            raise LookupError
        return start(index)

    pool._start_worker = refuse  # type: ignore[method-assign]
    with pytest.raises(LookupError):
        pool.__enter__()
    assert not pool._loading


def test_an_error_arrives_with_its_traceback_and_belongs_to_its_image(light: Callable[..., ModelPerProcess]) -> None:
    with light(1) as pool:
        words = ["good", "refuse", "cannot travel", "good"]
        first, refused, lost, last = [pool.submit(picture(i), conf=word) for i, word in enumerate(words)]
        error, other = refused.exception(WAIT_S), lost.exception(WAIT_S)
        with pytest.raises(AttributeError):
            pool.submit(picture(4), conf=lambda: None).result(WAIT_S)  # cannot be sent at all
        assert len({f.result(WAIT_S).speed["pid"] for f in (first, last)}) == 1  # the worker goes on
    assert type(error) is LookupError and "light_models.py" in error.__notes__[0]
    assert type(other) is YoloThreadsError and str(other) == "CannotTravelError: this and that"


def test_a_step_that_fails_in_a_worker_process_leaves_no_image_behind(
    light: Callable[..., ModelPerProcess], tmp_path: Path
) -> None:
    with light(1) as pool:
        for size, step in enumerate(STEPS, 40):
            (tmp_path / step).touch()
            error = pool.submit(picture(1, (size, size))).exception(WAIT_S)  # larger, so that it needs a new block
            assert isinstance(error, LookupError) and str(error) == step
            assert tags(pool.map(map(picture, range(1, 21)))) == list(range(1, 21)), step
    assert not any((tmp_path / step).exists() for step in STEPS)


@pytest.mark.nightly  # each answer that is lost costs a new process
def test_a_step_that_fails_in_the_caller_leaves_no_image_behind(light: Callable[..., ModelPerProcess]) -> None:
    pipe = multiprocessing.connection.Connection
    steps = [
        (processes, "_fill"), (processes.ImageWriter, "_new_block"), (processes, "Slot"), (processes.pickle, "dumps"),
        (pipe, "send_bytes"), (processes, "wait"), (pipe, "recv_bytes"), (processes.pickle, "loads"),
        (processes, "unpack"), (processes.SharedMemory, "unlink"),
    ]  # fmt: skip
    with light(1) as pool:
        for size, (owner, name) in enumerate(steps, 40):
            with failing_once(owner, name) as failed:
                error = pool.submit(picture(1, (size, size))).exception(WAIT_S)
            assert failed and isinstance(error, BrokenError), name
            assert tags(pool.map(map(picture, range(1, 21)))) == list(range(1, 21)), name


def test_an_image_that_is_not_the_one_asked_for_is_refused() -> None:
    writer, reader = processes.ImageWriter(), processes.ImageReader()
    with writer.written(picture(1)) as slot:
        assert (reader.read(slot) == 1).all()
    with writer.written(picture(2)) as second, pytest.raises(YoloThreadsError, match="Image 2, not 1,"):
        assert second.name == ""
        reader.read(slot._replace(name=""))
    with writer.written(picture(3)) as third:
        assert (reader.read(third) == 3).all()
    writer.close()
    reader._close()


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_a_picture_of_another_number_type_does_not_change_the_next_ones(
    kind: type, light: Callable[..., ModelPerProcess], tmp_path: Path
) -> None:
    file = tmp_path / "numbers.tif"
    cv2.imwrite(str(file), np.ones((32, 32, 3), kind))
    with light(1) as pool:
        images = [picture(1), file, picture(2).astype(kind), picture(2), picture(3)]
        one, first, second, two, three = pool.map(images, return_exceptions=True)
    assert tags([one, two, three]) == [1, 2, 3] and {type(first), type(second)} == {ImageError}


def test_an_unreadable_answer_is_not_mistaken_for_the_next_one(
    light: Callable[..., ModelPerProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    with light(1) as pool:
        first = pool.submit(picture(1)).result(WAIT_S)
        with monkeypatch.context() as patch:

            def fail(awaited: list[Any], deadline_s: float | None) -> Any:
                if len(awaited) > 1:  # there is an answer; the worker has not just died
                    raise MemoryError("no room for the answer")
                return wait(awaited, deadline_s)

            patch.setattr(processes, "wait", fail)
            assert isinstance(pool.submit(picture(2)).exception(WAIT_S), OutOfMemoryError)
        third = pool.submit(picture(3)).result(WAIT_S)
    assert third.speed["tag"] == 3 and third.speed["pid"] != first.speed["pid"]


def test_images_of_every_size_arrive_complete_and_huge_ones_release_their_memory(
    light: Callable[..., ModelPerProcess],
) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8)
    huge = np.broadcast_to(np.uint8(3), (1200, 20_000, 3))
    images = [picture(1, (1, 1)), noise, picture(2), noise[::2, ::-3], huge, noise, picture(4, (9, 7))]
    with light(1) as pool:
        (worker,) = pool._workers.values()
        for image in images:
            assert pool.submit(image).result(WAIT_S).speed["sum"] == image.sum(dtype=np.int64)
            # A block loses its name as soon as both have it.
            assert not any(Path(block.path).exists() for block in blocks_of(os.getpid()))
        for owner in (os.getpid(), worker.process.pid):
            assert [block.size < 2**20 for block in blocks_of(owner)] == [True]


def test_full_shared_memory_fails_that_image_with_the_remedy(
    light: Callable[..., ModelPerProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    with light(1) as pool:
        assert tags(pool.map([picture(1)])) == [1]
        with monkeypatch.context() as patch:

            def full(*_: int) -> None:
                raise OSError(28, "No space left on device")

            patch.setattr(os, "posix_fallocate", full)
            with pytest.raises(OutOfMemoryError, match=r"shared memory.*shm-size"):
                pool.submit(picture(2, (900, 900))).result(WAIT_S)
        assert tags(pool.map([picture(3, (900, 900))])) == [3]


def test_many_stopped_workers_are_killed_as_quickly_as_one(
    light: Callable[..., ModelPerProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_END_S", 1.5)
    with light(6) as pool:
        for worker in pool._workers.values():
            os.kill(worker.process.pid, signal.SIGSTOP)
        start = monotonic()
    assert monotonic() - start < 2 * 1.5


CONTEXT = multiprocessing.get_context("spawn")


@pytest.mark.parametrize("method", ["spawn", "forkserver", CONTEXT], ids=["spawn", "forkserver", "a context"])
def test_workers_of_each_mp_context_ignore_ctrl_c_and_print_nothing(
    method: Any, light: Callable[..., ModelPerProcess], capfd: pytest.CaptureFixture[str]
) -> None:
    with light(1, method) as pool:
        (worker,) = pool._workers.values()
        status = Path(f"/proc/{worker.process.pid}/status").read_text()
        assert int(re.search(r"SigIgn:\s*(\w+)", status)[1], 16) >> (signal.SIGINT - 1) & 1
        assert pool.submit(picture(1), conf=0.5).result(WAIT_S).speed["settings"] == {"conf": 0.5}
    assert capfd.readouterr() == ("", "")


def test_fork_and_unknown_mp_contexts_are_refused_with_the_reason() -> None:
    with pytest.raises(ArgumentError, match=r'"fork".*locks.*"spawn"'):
        ModelPerProcess(device="cpu", mp_context="fork")
    with pytest.raises(ArgumentError, match=r"'threads'.*spawn"):
        ModelPerProcess(device="cpu", mp_context="threads")
    with pytest.raises(ArgumentError, match=r'"start_method" is not an option; use mp_context=.spawn.'):
        ModelPerProcess(device="cpu", start_method="spawn")
    with pytest.raises(ArgumentError, match=r'"fork".*"spawn"'):
        ModelPerProcess(device="cpu", mp_context=multiprocessing.get_context("fork"))


def counting_threads(*given: Any) -> Callable[..., list[Any]]:
    """Run in a worker process: the real model, whose results report how many threads torch may use."""
    predict = load_predict(*given)

    def predict_and_count(*args: Any, **kwargs: Any) -> list[Any]:
        (result,) = predict(*args, **kwargs)
        result.speed["threads"] = torch.get_num_threads()
        return [result]

    return predict_and_count


def test_a_real_model_gives_the_results_of_sequential_with_its_share_of_threads(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ModelPerProcess, "_make_predict", staticmethod(counting_threads))
    torch.manual_seed(0)
    file = tmp_path / "random.pt"
    ultralytics.YOLO("yolo11n-seg.yaml").save(file)
    images = [scene(seed, (96, 64 + 32 * (seed % 2))).image for seed in range(4)]
    made = {"weights": file, "device": "cpu", "imgsz": 96, "conf": 1e-6, "max_det": 5, "threads": 1, "workers": 1}
    with Sequential(**made) as alone:
        expected = list(alone.map(images))
    capfd.readouterr()
    with ModelPerProcess(**made) as pool:
        results = list(pool.map(images))
        assert type(pool.submit(images[0], conf=7).exception(WAIT_S)) is ValueError
    assert capfd.readouterr() == ("", "")
    for one, other, image in zip(expected, results, images, strict=True):
        assert torch.equal(one.boxes.data, other.boxes.data) and torch.equal(one.masks.data, other.masks.data)
        assert np.array_equal(other.orig_img, image) and other.names == one.names and other.speed["threads"] == 1


# --- in separate programs ---

BEGIN = f"""
import os, signal, sys, threading
from pathlib import Path
sys.path.insert(0, {str(HERE)!r})
import numpy as np
from light_models import STEPS, Light
from steps import BrokenError, failing_once
from yolothreads.pools import ModelPerProcess
image = np.ones((32, 32, 3), np.uint8)
def endless():
    while True:
        yield image
def pool(**given):
    ModelPerProcess._make_predict = Light(Path(sys.argv[1]), **given)
    return ModelPerProcess(workers=1 if "script" in sys.argv[0] else 2, device="cpu")
"""


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a Python program in its own session, with Ctrl-C switched on; ends all that is left of it."""
    started = []

    def start(*command: str, stdin: str | None = None) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, *command, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=ctrl_c_on,
        )
        started.append(process)
        if stdin is not None:
            process.stdin.write(stdin)
        process.stdin.close()
        process.stdin = None
        return process

    yield start
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=WAIT_S)


def family(leader: int) -> list[psutil.Process]:
    """Return the running processes of a session."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, ProcessLookupError):
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def ended(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Return the output and the errors of a program, once all processes of its session have ended."""
    said = process.communicate(timeout=WAIT_S)
    wait_until(lambda: not family(process.pid))
    return said[0].strip(), said[1]


def test_ctrl_c_in_a_terminal_while_the_workers_load_ends_all_immediately(program: Callable, tmp_path: Path) -> None:
    run = program("-c", BEGIN + "with pool(stage='load', ending='stop', always=True): pass")
    wait_until(lambda: (tmp_path / "load").exists())
    os.killpg(run.pid, signal.SIGINT)
    _, err = ended(run)
    assert err.strip().endswith("KeyboardInterrupt") and "SpawnProcess" not in err and run.returncode != 0


def test_ctrl_c_in_a_terminal_during_map_ends_all_and_workers_print_nothing(program: Callable, tmp_path: Path) -> None:
    run = program("-c", BEGIN + "with pool() as p:\n    for _ in p.map(endless()): pass")
    wait_until(lambda: (tmp_path / "begun").exists() and len(begun(tmp_path)) > 0)
    os.killpg(run.pid, signal.SIGINT)
    out, err = ended(run)
    assert out == "" and err.count("Traceback") == err.count("KeyboardInterrupt") == 1


def test_workers_end_when_the_caller_is_killed(program: Callable, tmp_path: Path) -> None:
    run = program("-c", BEGIN + "with pool() as p:\n    for _ in p.map(endless()): pass")
    wait_until(lambda: (tmp_path / "begun").exists())
    wait_until(lambda: len((tmp_path / "begun").read_text()) > 40)  # the blocks have lost their names by now
    os.kill(run.pid, signal.SIGKILL)
    assert ended(run) == ("", "")


@pytest.mark.parametrize(
    "way", [*(pytest.param(way, marks=pytest.mark.nightly) for way in ("-c", "stdin")), "script", "never closed"]
)
def test_a_pool_runs_in_any_kind_of_program_and_prints_nothing(way: str, program: Callable, tmp_path: Path) -> None:
    work = "with pool() as p: print([int(r.speed['tag']) for r in p.map([image] * 3)])"
    if way == "script":
        (tmp_path / "script.py").write_text(f"{BEGIN}\nif __name__ == '__main__':\n    {work}")
        run = program(str(tmp_path / "script.py"))
    elif way == "stdin":
        run = program("-", stdin=BEGIN + work)
    else:
        unclosed = "p = pool().__enter__(); print([int(p.submit(image).result().speed['tag'])] * 3)"
        run = program("-c", BEGIN + (work if way == "-c" else unclosed))
    assert ended(run) == ("[1, 1, 1]", "")


def test_the_error_for_a_script_without_main_guard_says_so(program: Callable, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(f"{BEGIN}\nwith pool() as p: pass")
    out, err = ended(program(str(tmp_path / "script.py")))
    assert out == "" and err.count("Traceback") == 1 and 'if __name__ == "__main__"' in err.splitlines()[-1]
