"""Pinned packages, each in a folder of its own, outside of every environment."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.wild.bug import REPAIRED, Bug

REPAIRS = Path(__file__).with_name("repairs")
INSTALL_S = 600.0


class InstallError(Exception):
    """A package cannot be had: the registry or pip refused it."""


def default_cache() -> Path:
    """Return the folder that packages are installed in: $YOLOTHREADS_CACHE, or one among the temporary files."""
    return Path(os.environ.get("YOLOTHREADS_CACHE") or Path(tempfile.gettempdir()) / "yolothreads-wild")


def installed(pin: str, cache: Path) -> Path:
    """Return the folder of a pinned package; it is installed first if it is not there.

    Raises:
        InstallError: it cannot be had.
    """
    name, equals, release = pin.partition("==")
    if not (name and equals and release):
        raise InstallError(f"'{pin}' is no exact pin; write it as name==1.2.3.")
    folder = cache / f"{name}-{release}"
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as part:  # so that a folder with its final name is complete
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        done = subprocess.run(
            [*command, "--target", f"{part}/it", pin], capture_output=True, text=True, timeout=INSTALL_S, check=False
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
            raise InstallError(f"{pin} cannot be had: {last}")
        Path(part, "it").rename(folder)
    return folder


def patched(folder: Path, patch: Path) -> Path:
    """Return a copy of a package's folder with a patch applied to it.

    Raises:
        InstallError: the patch does not fit.
    """
    digest = hashlib.sha256(patch.read_bytes()).hexdigest()[:8]
    copy = folder.with_name(f"{folder.name}+{digest}")
    if copy.is_dir():
        return copy
    with tempfile.TemporaryDirectory(dir=folder.parent) as part:
        shutil.copytree(folder, f"{part}/it", ignore=shutil.ignore_patterns("__pycache__"))
        # A ceiling: git takes the folder for no part of a repository that may lie around it.
        environment = {**os.environ, "GIT_CEILING_DIRECTORIES": part}
        command = ["git", "apply", "-p1", str(patch)]
        done = subprocess.run(command, cwd=f"{part}/it", env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise InstallError(f"{patch.name} does not fit {folder.name}: {done.stderr.strip()}")
        Path(part, "it").rename(copy)
    return copy


def folders(bug: Bug, version: str, cache: Path) -> list[Path]:
    """Return the folders to put first on `sys.path` for a version of a bug; missing packages are installed.

    Raises:
        InstallError: a package cannot be had, or a patch does not fit.
    """
    found = [installed(pin, cache) for pin in bug.pins(version)]
    if version == REPAIRED:
        found[0] = patched(found[0], REPAIRS / bug.repair)
    return found
