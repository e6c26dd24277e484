"""JupyterLab for tests: a private server, and the notebooks that a browser opens there."""

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from urllib.parse import quote, urlsplit

import nbformat
import psutil
from axe_playwright_python.sync_playwright import Axe
from nbformat.v4 import new_code_cell, new_notebook
from playwright.sync_api import Browser, Locator, ViewportSize, expect
from playwright.sync_api import TimeoutError as PlaywrightTimeoutError

from yolothreads.headless import notebooks

WIDTH, HEIGHT = 1280, 1024
# With other settings, JupyterLab does not render cells outside the window, and screenshots lack them.
SETTINGS = {
    "@jupyterlab/notebook-extension/tracker.jupyterlab-settings": {"windowingMode": "none", "scrollPastEnd": False}
}
# A request for either path makes the server contact an outside host.
UPDATE_CHECKS = ("/lab/api/news", "/lab/api/update")


class Lab:
    """A server that `yolothreads lab` starts, with a copy of the notebooks and its own settings."""

    def __init__(self, browser: Browser, place: Path) -> None:
        self.browser, self.place, self.notebooks = browser, place, place / "notebooks"
        self._token, self._opened = secrets.token_hex(), 0

    def __enter__(self) -> "Lab":
        shutil.copytree(notebooks.folder(), self.notebooks, ignore=shutil.ignore_patterns(".ipynb_checkpoints", "runs"))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        server = {"port": port, "port_retries": 0, "root_dir": self.notebooks, "allow_root": True}
        options = [*(f"--ServerApp.{k}={v}" for k, v in server.items()), f"--IdentityProvider.token={self._token}"]
        command = [
            sys.executable,
            "-m",
            "yolothreads",
            "lab",
            "--",
            "--no-browser",
            "--expose-app-in-browser",
            *options,
        ]
        own = {"CONFIG_DIR": "config", "DATA_DIR": "data", "RUNTIME_DIR": "runtime"}
        environment = {f"JUPYTER_{k}": str(self.place / v) for k, v in own.items()}
        environment |= {f"JUPYTERLAB_{k}_DIR": str(self.place / k) for k in ("SETTINGS", "WORKSPACES")}
        environment |= {"IPYTHONDIR": str(self.place / "ipython"), "YOLOTHREADS_QUICK": "1"}
        with (self.place / "log").open("wb") as log:
            self._process = subprocess.Popen(
                command, env=os.environ | environment, stdout=log, stderr=log, start_new_session=True
            )
        try:
            _wait_until(self._is_ready, 60, "JupyterLab did not start")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(30)
        finally:
            left = self._processes()
            for process in left:
                process.kill()
            psutil.wait_procs(left, 10)
        assert not left, f"left behind by JupyterLab: {[process.info['cmdline'] for process in left]}"

    def _processes(self) -> list[psutil.Process]:
        """Return the server, its kernels and their child processes: all that have its runtime folder."""
        found = []
        for process in psutil.process_iter(["cmdline"]):
            try:
                if process.environ().get("JUPYTER_RUNTIME_DIR") == str(self.place / "runtime"):
                    found.append(process)
            except psutil.Error:  # it has ended, or belongs to another user
                continue
        return found

    def _is_ready(self) -> bool:
        assert self._process.poll() is None, (self.place / "log").read_text()
        try:
            self.api("GET", "status")
        except OSError:
            return False
        return True

    def api(self, method: str, path: str) -> bytes:
        """Send a request to the REST interface of the server."""
        request = urllib.request.Request(f"{self.url}/api/{path}", method=method)
        request.add_header("Authorization", f"token {self._token}")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.read()

    def write(self, name: str, *sources: str) -> str:
        """Make a notebook of these code cells; return its name for `open`."""
        kernel = {
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}
        }  # without it, JupyterLab asks for a kernel
        notebook = new_notebook(cells=[new_code_cell(source) for source in sources], metadata=kernel)
        nbformat.write(notebook, self.notebooks / f"{name}.ipynb")
        return name

    def open(self, name: str, width: int = WIDTH, height: int = HEIGHT) -> "Notebook":
        """Open a notebook of the folder in a fresh browser context, with the initial settings of JupyterLab."""
        shutil.rmtree(self.place / "SETTINGS", ignore_errors=True)
        for file, values in SETTINGS.items():
            (self.place / "SETTINGS" / file).parent.mkdir(parents=True, exist_ok=True)
            (self.place / "SETTINGS" / file).write_text(json.dumps(values))
        self._opened += 1  # an old workspace would reopen its notebooks
        at = f"{self.url}/lab/workspaces/w{self._opened}/tree/{quote(name)}.ipynb?token={self._token}"
        return Notebook(self, at, width, height)


class Notebook:
    """One notebook, alone on a page.

    `console_errors` and `outside_requests` grow while it is open, but only during calls of Playwright.
    """

    def __init__(self, lab: Lab, url: str, width: int, height: int) -> None:
        self._lab, self._session = lab, ""
        self.console_errors: list[str] = []
        self.outside_requests: list[str] = []
        self.context = lab.browser.new_context(viewport={"width": width, "height": height})
        self.context.set_default_timeout(60_000)
        self.context.on("console", lambda m: m.type == "error" and self.console_errors.append(m.text))
        self.context.on("weberror", lambda e: self.console_errors.append(str(e.error)))
        self.context.on("request", lambda r: self._record_request(r.url))
        self.page = self.context.new_page()
        self.page.on("websocket", lambda w: self._record_request(w.url))
        try:
            self.page.goto(url)
            self.page.wait_for_function(f"() => {_CONTEXT}?.session?.kernel?.status === 'idle'")
            self._session = self.page.evaluate(f"{_CONTEXT}.session.id")
        except BaseException:
            self.shutdown()
            raise

    def __enter__(self) -> "Notebook":
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()

    def _record_request(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.hostname not in (None, "127.0.0.1") or parts.path in UPDATE_CHECKS:
            self.outside_requests.append(url)

    def shutdown(self) -> None:
        """Close the page and end the kernel."""
        self.context.close()
        if self._session:
            self._lab.api("DELETE", f"sessions/{self._session}")

    def start_all(self) -> None:
        """Start Run All without waiting for its end."""
        run = "jupyterapp.commands.execute('notebook:run-all-cells')"
        then = "then(ok => { window.ran = ok }, error => { window.ran = String(error) })"
        self.page.evaluate(f"() => {{ window.ran = null; {run}.{then} }}")

    def finished(self, within_s: float) -> bool:
        """Wait up to this time for Run All; return whether it ended. `answer()` then has JupyterLab's result."""
        try:  # asked a few times per second: by default it would be with every frame, which keeps both pages drawing
            self.page.wait_for_function("() => window.ran !== null", timeout=within_s * 1000, polling=100)
        except PlaywrightTimeoutError:
            return False
        return True

    def answer(self) -> object:
        """Return the result of Run All: true, false, or an error as text."""
        return self.page.evaluate("window.ran")

    def run_all(self, timeout_s: float = 120) -> object:
        """Run all cells; return true if JupyterLab reports that each of them ran."""
        self.start_all()
        assert self.finished(timeout_s), f"Run All took more than {timeout_s} s"
        return self.answer()

    def save(self) -> None:
        """Save the notebook in JupyterLab, and wait until it is saved."""
        self.page.evaluate("() => jupyterapp.commands.execute('docmanager:save')")

    def cell_errors(self) -> list[str]:
        """Return one line per error output of all cells."""
        outputs = f"Array.from({_PANEL}.content.model.cells).flatMap(c => c.toJSON().outputs ?? [])"
        return self.page.evaluate(
            f"() => {outputs}.filter(o => o.output_type === 'error').map(o => `${{o.ename}}: ${{o.evalue}}`)"
        )

    def pop_ups(self) -> list[str]:
        """Return the texts of JupyterLab's notifications and dialogs."""
        return self.page.locator(".Toastify__toast, .jp-Dialog").all_inner_texts()

    def find(self, css_class: str) -> Locator:
        """Return a locator of the elements with this class, e.g. a class that `add_class` gave to a widget."""
        return self.page.locator(f".jp-Notebook .{css_class}")

    def click(self, css_class: str) -> None:
        """Click on the only element of this class, once it can be clicked."""
        self.find(css_class).click()

    def wait_for_text(self, css_class: str, pattern: str, timeout_s: float = 30) -> str:
        """Wait until the text of the only element of this class matches a regular expression; return that text."""
        expect(self.find(css_class)).to_have_text(re.compile(pattern), timeout=timeout_s * 1000)
        return self.find(css_class).inner_text()

    def press(self, *keys: str) -> None:
        """Press keys one after another, wherever the focus is: "Tab", "Shift+Tab", "Enter", "Space", ..."""
        for key in keys:
            self.page.keyboard.press(key)

    def zoom(self, percent: int) -> None:
        """Zoom like the browser: the window keeps its size, everything in it grows, and less of it fits."""
        size, factor = self.page.viewport_size, percent / 100
        assert size is not None
        metrics = {f"{side}": round(size[side] / factor) for side in ("width", "height")}
        self._cdp = self.context.new_cdp_session(self.page)  # kept, because the zoom ends with the session
        self._cdp.send("Emulation.setDeviceMetricsOverride", {**metrics, "deviceScaleFactor": factor, "mobile": False})
        self.page.wait_for_function("width => innerWidth === width", arg=metrics["width"])

    def theme(self, name: str) -> None:
        """Change to "JupyterLab Dark", "JupyterLab Light" or "JupyterLab Dark High Contrast"."""
        self.page.evaluate(
            "name => { jupyterapp.commands.execute('apputils:change-theme', {theme: name}) }",
            name,
        )
        self.page.wait_for_function("name => document.body.dataset.jpThemeName === name", arg=name)

    def axe(self, css_class: str, *rules: str, kind: str = "violations") -> list[str]:
        """Return the faults that axe finds inside the elements of this class.

        Args:
            css_class: class of the part of the page to check.
            rules: rules to check, e.g. "color-contrast", "button-name", "label"; all rules of axe by default.
            kind: "violations", or "incomplete" for elements that axe could not judge.
        """
        # JupyterLab's body has no height and clips its overflow, so axe would treat everything in it as hidden.
        self.page.evaluate("document.body.style.height = '100vh'")
        options = {"runOnly": {"type": "rule", "values": rules}} if rules else None
        with self.full_height():
            found = Axe().run(self.page, f".jp-Notebook .{css_class}", options).response
        assert any(found[k] for k in ("violations", "incomplete", "passes")), f"nothing in .{css_class} for {rules}"
        return [f"{r['id']}: {n['html']} {n.get('failureSummary', '')}" for r in found[kind] for n in r["nodes"]]

    def screenshot(self, path: Path) -> None:
        """Save a screenshot of the whole notebook, whatever its length."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with self.full_height():
            # Playwright would write the file in a thread that stays alive.
            path.write_bytes(self.page.locator(".jp-NotebookPanel").screenshot())

    @contextmanager
    def full_height(self) -> Iterator[None]:
        """Make the window high enough to show the whole notebook inside the `with` block."""
        size = self.page.viewport_size
        assert size is not None
        height = size["height"]
        try:
            # Repeated, because JupyterLab measures a cell only once it is visible.
            while (hidden := self.page.evaluate(f"{_INSIDE}.scrollHeight - {_INSIDE}.clientHeight")) > 0:
                height += hidden
                self._resize({"width": size["width"], "height": height})
            yield
        finally:
            if height != size["height"]:
                self._resize(size)

    def _resize(self, size: ViewportSize) -> None:
        """Change the window's height, and wait until JupyterLab has adapted, which takes some frames."""
        before = self.page.evaluate(f"{_INSIDE}.clientHeight")
        self.page.set_viewport_size(size)
        self.page.wait_for_function(f"before => {_INSIDE}.clientHeight !== before", arg=before)


_INSIDE = "document.querySelector('.jp-Notebook .jp-WindowedPanel-outer')"
_PANEL = "window.jupyterapp?.shell.currentWidget"
_CONTEXT = f"{_PANEL}?.context?.sessionContext"


def _wait_until(condition: Callable[[], bool], seconds: float, failure: str) -> None:
    deadline, pause = monotonic() + seconds, threading.Event()
    while not condition():
        assert monotonic() < deadline, f"{failure} within {seconds} s"
        pause.wait(0.05)
