"""Users get the types of the public names: mypy checks a small program of theirs, from outside the clone."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from deadlines import scaled

PROGRAM = Path(__file__).with_name("user_program.py")
CACHE = Path(__file__).parents[2] / "build" / "mypy_of_users"  # kept, because mypy reads all of torch the first time


@pytest.mark.timeout(300)
def test_mypy_reports_exactly_the_six_wrong_lines_of_a_users_program(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.read_text(encoding="utf-8"), encoding="utf-8")
    settings = ["--strict", "--ignore-missing-imports", "--config-file=", f"--cache-dir={CACHE}"]
    command = [sys.executable, "-m", "mypy", *settings, program.name]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=scaled(250), check=False)
    lines = program.read_text(encoding="utf-8").splitlines()
    wrong = {number for number, line in enumerate(lines, 1) if line.endswith("# wrong")}
    found = {int(number) for number in re.findall(r"^program\.py:(\d+): error", done.stdout, flags=re.M)}
    assert found == wrong, done.stdout + done.stderr
    assert len(wrong) == 6
