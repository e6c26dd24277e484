"""Child processes: call a function in a fresh Python, with arguments and an answer as JSON."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from subprocess import DEVNULL, PIPE
from typing import Any

from yolothreads.errors import YoloThreadsError


class ChildError(YoloThreadsError):
    """A child process failed or took too long. The message is the reason only; callers say what was asked of it."""


def call(function: str, *arguments: Any, timeout_s: float, environment: Mapping[str, str] | None = None) -> Any:
    """Call a function in a fresh Python process, and return its answer.

    The answer is what the function returns. A function that returns None must call `answer` later, for example from a
    thread that outlives the main thread.

    Args:
        function: "module:function".
        arguments: its arguments; JSON must be able to hold them.
        timeout_s: seconds after which the process is killed, with every process of its session.
        environment: variables that are added to those of this process.

    Raises:
        ChildError: the process failed (the reason is the last line of its standard error), or took too long.
    """
    command = [sys.executable, "-P", "-m", "yolothreads.child", function, json.dumps(arguments)]
    path = os.pathsep.join(filter(None, sys.path))  # the child finds what this process finds, and nothing else
    env = {**os.environ, "PYTHONPATH": path, **(environment or {})}
    child = subprocess.Popen(
        command, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, env=env, start_new_session=True, errors="replace"
    )
    try:
        output, complaints = child.communicate(timeout=timeout_s)
    except BaseException as error:
        _kill_session(child)
        child.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            raise ChildError(f"the process took longer than {timeout_s:g} s") from error
        raise
    if child.returncode or not output.strip():
        last_line = next(reversed(complaints.strip().splitlines()), "it printed no error")
        raise ChildError(f"the process ended with {child.returncode}: {last_line[:300]}")
    return json.loads(output.splitlines()[-1])


def _kill_session(child: subprocess.Popen[str]) -> None:
    """Kill the process and whatever it started in its session, which is its own."""
    if hasattr(os, "killpg"):
        os.killpg(child.pid, signal.SIGKILL)
    else:
        child.kill()


def answer(value: Any) -> None:
    """Send the answer from inside the child process, as the last line of its standard output."""
    sys.stdout.write(f"\n{json.dumps(value)}\n")
    sys.stdout.flush()


def name_of(thing: Any) -> str:
    """Return "module:name" of a function or class, which `resolve` finds again in another process."""
    return f"{thing.__module__}:{thing.__qualname__}"


def resolve(name: str) -> Any:
    """Import the function or class that is called "module:name"."""
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _main(function: str, arguments: str) -> None:
    value = resolve(function)(*json.loads(arguments))
    if value is not None:
        answer(value)
        os._exit(0)  # taking torch apart would cost more than a second


if __name__ == "__main__":
    _main(*sys.argv[1:])
