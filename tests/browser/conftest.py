"""Fixtures: an installed browser, and a JupyterLab server for it."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from .jupyter import Lab

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
MAC = ("Google Chrome.app/Contents/MacOS/Google Chrome", "Chromium.app/Contents/MacOS/Chromium")
WINDOWS = ("Google/Chrome/Application/chrome.exe", "Chromium/Application/chrome.exe")


def installed() -> str | None:
    """Return the path of an installed Chromium or Chrome, or None; nothing is downloaded."""
    roots = [os.environ[v] for v in ("PROGRAMFILES", "PROGRAMFILES(X86)", "LOCALAPPDATA") if v in os.environ]
    places = [Path(home, "Applications", app) for home in ("/", Path.home()) for app in MAC]
    places += [Path(root, app) for root in roots for app in WINDOWS]
    found = [*map(shutil.which, NAMES), *(str(place) for place in places if place.is_file())]
    return next(filter(None, found), None)


def browser_needed() -> bool:
    """Return whether a missing browser makes the tests fail instead of skipping them."""
    return os.environ.get("YOLOTHREADS_NEED_BROWSER", "0") not in ("", "0")


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    path = installed()
    if path is None:
        stop_test = pytest.fail if browser_needed() else pytest.skip
        stop_test("There is no Chromium or Chrome here; install one to test the notebooks in a browser.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def lab(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab(chromium, tmp_path_factory.mktemp("lab")) as lab:
        yield lab
