"""Child processes: arguments and answers travel, failures have reasons, and nothing survives a deadline."""

import os
import threading
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from deadlines import scaled

from yolothreads import child

pytestmark = pytest.mark.timeout(scaled(240))


def call(function: str, *arguments: object, timeout_s: float = 120.0) -> object:
    return child.call(f"test_child:{function}", *arguments, timeout_s=timeout_s)


def add(a: int, b: int) -> dict[str, object]:
    print("a line of a library")
    return {"sum": a + b, "pid": os.getpid()}


def fail() -> None:
    raise ValueError("no room")


def answer_late() -> None:
    def work() -> None:
        threading.main_thread().join()
        child.answer("late")

    threading.Thread(target=work).start()


def hang(file: str) -> None:
    if hasattr(os, "fork"):
        os.fork()
    with Path(file).open("a") as out:
        out.write(f"{os.getpid()}\n")
    threading.Event().wait()


def test_arguments_and_the_answer_travel_as_json() -> None:
    answer = call("add", 1, 2)
    assert answer["sum"] == 3 and answer["pid"] != os.getpid()


def test_modules_are_found_where_this_process_finds_them_and_not_in_the_folder_it_runs_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('a file of the user')")
    monkeypatch.chdir(tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "only_here.py").write_text("def add(a, b):\n    return a + b\n")
    monkeypatch.syspath_prepend(elsewhere)
    assert child.call("only_here:add", 1, 2, timeout_s=120.0) == 3


def test_an_error_carries_the_last_line_of_the_process() -> None:
    with pytest.raises(child.ChildError, match="ended with 1: ValueError: no room"):
        call("fail")


def test_a_function_may_answer_after_the_main_thread_has_ended() -> None:
    assert call("answer_late") == "late"


def test_a_process_that_takes_too_long_is_killed_with_all_its_children(tmp_path: Path) -> None:
    file = tmp_path / "pids"
    timeout_s = 1.0
    while not file.exists():  # a slow machine may need longer to reach the function
        timeout_s *= 2
        with pytest.raises(child.ChildError, match="took longer than"):
            call("hang", str(file), timeout_s=timeout_s)
    processes = []
    for pid in file.read_text().split():
        with suppress(psutil.NoSuchProcess):
            processes.append(psutil.Process(int(pid)))
    _, alive = psutil.wait_procs(processes, timeout=20)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []


def test_a_class_is_found_by_its_name() -> None:
    assert child.resolve(child.name_of(child.ChildError)) is child.ChildError
