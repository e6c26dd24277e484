"""JupyterLab for tests: a server that is theirs alone, and the notebooks that a browser opens there."""

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
from playwright.sync_api import TimeoutError as OutOfTime

from yolothreads.headless import notebooks

WIDTH, HEIGHT = 1280, 1024
# Else cells out of sight are neither drawn nor in a picture.
SETTINGS = {
    "@jupyterlab/notebook-extension/tracker.jupyterlab-settings": {"windowingMode": "none", "scrollPastEnd": False}
}
# With either of these a page asks the server to ask somebody outside.
ERRANDS = ("/lab/api/news", "/lab/api/update")


class Lab:
    """A server as `yolothreads lab` starts it, over a copy of the notebooks and with settings of its own."""

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
        words = [*(f"--ServerApp.{k}={v}" for k, v in server.items()), f"--IdentityProvider.token={self._token}"]
        command = [sys.executable, "-m", "yolothreads", "lab", "--", "--no-browser", "--expose-app-in-browser", *words]
        own = {"CONFIG_DIR": "config", "DATA_DIR": "data", "RUNTIME_DIR": "runtime"}
        environment = {f"JUPYTER_{k}": str(self.place / v) for k, v in own.items()}
        environment |= {f"JUPYTERLAB_{k}_DIR": str(self.place / k) for k in ("SETTINGS", "WORKSPACES")}
        environment |= {"IPYTHONDIR": str(self.place / "ipython"), "YOLOTHREADS_QUICK": "1"}
        with (self.place / "log").open("wb") as log:
            self._process = subprocess.Popen(
                command, env=os.environ | environment, stdout=log, stderr=log, start_new_session=True
            )
        try:
            _until(self._answers, 60, "JupyterLab did not start")
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
        """The server, its kernels and theirs: all that were started with its runtime folder."""
        found = []
        for process in psutil.process_iter(["cmdline"]):
            try:
                if process.environ().get("JUPYTER_RUNTIME_DIR") == str(self.place / "runtime"):
                    found.append(process)
            except psutil.Error:  # gone meanwhile, or somebody else's
                continue
        return found

    def _answers(self) -> bool:
        assert self._process.poll() is None, (self.place / "log").read_text()
        try:
            self.api("GET", "status")
        except OSError:
            return False
        return True

    def api(self, method: str, path: str) -> bytes:
        """Ask the server itself."""
        request = urllib.request.Request(f"{self.url}/api/{path}", method=method)
        request.add_header("Authorization", f"token {self._token}")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.read()

    def write(self, name: str, *sources: str) -> str:
        """Make a notebook of these code cells; gives back the name, which `open` takes."""
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}  # else it asks
        notebook = new_notebook(cells=[new_code_cell(source) for source in sources], metadata=kernel)
        nbformat.write(notebook, self.notebooks / f"{name}.ipynb")
        return name

    def open(self, name: str, width: int = WIDTH, height: int = HEIGHT) -> "Notebook":
        """Open a notebook of the folder, in a fresh browser context and with JupyterLab's settings as at first."""
        shutil.rmtree(self.place / "SETTINGS", ignore_errors=True)
        for file, values in SETTINGS.items():
            (self.place / "SETTINGS" / file).parent.mkdir(parents=True, exist_ok=True)
            (self.place / "SETTINGS" / file).write_text(json.dumps(values))
        self._opened += 1  # a workspace would bring back what was open in it before
        at = f"{self.url}/lab/workspaces/w{self._opened}/tree/{quote(name)}.ipynb?token={self._token}"
        return Notebook(self, at, width, height)


class Notebook:
    """One notebook, alone in a page.

    `console_errors` and `outside_requests` grow while it is open; Playwright tells of them during its own calls only.
    """

    def __init__(self, lab: Lab, url: str, width: int, height: int) -> None:
        self._lab, self._session = lab, ""
        self.console_errors: list[str] = []
        self.outside_requests: list[str] = []
        self.context = lab.browser.new_context(viewport={"width": width, "height": height})
        self.context.set_default_timeout(60_000)
        self.context.on("console", lambda m: m.type == "error" and self.console_errors.append(m.text))
        self.context.on("weberror", lambda e: self.console_errors.append(str(e.error)))
        self.context.on("request", lambda r: self._note(r.url))
        self.page = self.context.new_page()
        self.page.on("websocket", lambda w: self._note(w.url))
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

    def _note(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.hostname not in (None, "127.0.0.1") or parts.path in ERRANDS:
            self.outside_requests.append(url)

    def shutdown(self) -> None:
        """Close the page and end the kernel."""
        self.context.close()
        if self._session:
            self._lab.api("DELETE", f"sessions/{self._session}")

    def start_all(self) -> None:
        """Start Run All, and let it run."""
        run = "jupyterapp.commands.execute('notebook:run-all-cells')"
        then = "then(ok => { window.ran = ok }, error => { window.ran = String(error) })"
        self.page.evaluate(f"() => {{ window.ran = null; {run}.{then} }}")

    def finished(self, within_s: float) -> bool:
        """Wait so long for what `start_all` started; JupyterLab's own answer is then in `answer()`."""
        try:
            self.page.wait_for_function("() => window.ran !== null", timeout=within_s * 1000)
        except OutOfTime:
            return False
        return True

    def answer(self) -> object:
        """What Run All came to: true, false, or an error as text."""
        return self.page.evaluate("window.ran")

    def run_all(self, timeout_s: float = 120) -> object:
        """Run all cells; true if JupyterLab says that each of them ran."""
        self.start_all()
        assert self.finished(timeout_s), f"Run All took more than {timeout_s} s"
        return self.answer()

    def save(self) -> None:
        """Have JupyterLab save the notebook, and wait until it has."""
        self.page.evaluate("() => jupyterapp.commands.execute('docmanager:save')")

    def cell_errors(self) -> list[str]:
        """A line for every error output of any cell."""
        outputs = f"Array.from({_PANEL}.content.model.cells).flatMap(c => c.toJSON().outputs ?? [])"
        return self.page.evaluate(
            f"() => {outputs}.filter(o => o.output_type === 'error').map(o => `${{o.ename}}: ${{o.evalue}}`)"
        )

    def pop_ups(self) -> list[str]:
        """The texts of JupyterLab's notifications and dialogs."""
        return self.page.locator(".Toastify__toast, .jp-Dialog").all_inner_texts()

    def find(self, css_class: str) -> Locator:
        """What has this class, e.g. one given to a widget by `add_class`."""
        return self.page.locator(f".jp-Notebook .{css_class}")

    def click(self, css_class: str) -> None:
        """Click on the one thing of this class, once it can be clicked."""
        self.find(css_class).click()

    def wait_for_text(self, css_class: str, pattern: str, timeout_s: float = 30) -> str:
        """Wait until a regular expression is found in the text of the one thing of this class; gives that text."""
        expect(self.find(css_class)).to_have_text(re.compile(pattern), timeout=timeout_s * 1000)
        return self.find(css_class).inner_text()

    def press(self, *keys: str) -> None:
        """Press keys one after another, wherever the focus is: "Tab", "Shift+Tab", "Enter", "Space", ..."""
        for key in keys:
            self.page.keyboard.press(key)

    def zoom(self, percent: int) -> None:
        """What the browser's zoom does: the window stays, everything in it grows, and less of it has room."""
        size, factor = self.page.viewport_size, percent / 100
        assert size is not None
        metrics = {f"{side}": round(size[side] / factor) for side in ("width", "height")}
        self._cdp = self.context.new_cdp_session(self.page)  # ends with the session, so it is kept
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
        """What axe finds wrong inside the things of this class.

        Args:
            css_class: of the part of the page that is looked at.
            rules: those to try, e.g. "color-contrast", "button-name", "label"; by default all that axe has.
            kind: "violations", or "incomplete" for what axe could not decide.
        """
        # JupyterLab's body has no height and clips what overflows it: axe would take all in it for hidden.
        self.page.evaluate("document.body.style.height = '100vh'")
        options = {"runOnly": {"type": "rule", "values": rules}} if rules else None
        with self.whole():
            found = Axe().run(self.page, f".jp-Notebook .{css_class}", options).response
        assert any(found[k] for k in ("violations", "incomplete", "passes")), f"nothing in .{css_class} for {rules}"
        return [f"{r['id']}: {n['html']} {n.get('failureSummary', '')}" for r in found[kind] for n in r["nodes"]]

    def screenshot(self, path: Path) -> None:
        """A picture of the whole notebook, however long."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with self.whole():
            # Written here, for Playwright would do it in a thread that it keeps.
            path.write_bytes(self.page.locator(".jp-NotebookPanel").screenshot())

    @contextmanager
    def whole(self) -> Iterator[None]:
        """For as long as this lasts, the window is so high that all of the notebook is to be seen."""
        size = self.page.viewport_size
        assert size is not None
        height = size["height"]
        try:
            # Again and again: JupyterLab measures a cell only once it is in sight.
            while (hidden := self.page.evaluate(f"{_INSIDE}.scrollHeight - {_INSIDE}.clientHeight")) > 0:
                height += hidden
                self._resize({"width": size["width"], "height": height})
            yield
        finally:
            if height != size["height"]:
                self._resize(size)

    def _resize(self, size: ViewportSize) -> None:
        """Change the window's height, and wait until JupyterLab has followed, which it does some frames later."""
        before = self.page.evaluate(f"{_INSIDE}.clientHeight")
        self.page.set_viewport_size(size)
        self.page.wait_for_function(f"before => {_INSIDE}.clientHeight !== before", arg=before)


_INSIDE = "document.querySelector('.jp-Notebook .jp-WindowedPanel-outer')"
_PANEL = "window.jupyterapp?.shell.currentWidget"
_CONTEXT = f"{_PANEL}?.context?.sessionContext"


def _until(true: Callable[[], bool], seconds: float, what: str) -> None:
    deadline, pause = monotonic() + seconds, threading.Event()
    while not true():
        assert monotonic() < deadline, f"{what} within {seconds} s"
        pause.wait(0.05)
