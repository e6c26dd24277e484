"""What every panel is: settings, Run and Stop, a run in the background that draws as it goes, and what it leaves."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from html import escape
from time import perf_counter
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from yolothreads.errors import PanelError
from yolothreads.lessons.panels import front_end, looks

if TYPE_CHECKING:
    from ipywidgets import Widget

T = TypeVar("T")
Tick = Callable[[], None]

_EVERY_S = 0.1  # between two redraws
_KEPT = 1000  # durations of redraws
_PATIENCE_S = 60.0  # for a run that is just opening a pool of processes

# What widgets cannot say. JupyterLab takes arrows and Enter for commands of its own, also where the focus
# is on a list or a button, unless that element itself says that it must not; and sliders have a name for the eye only.
_SCRIPT = """setTimeout(() => {
  const area = element.closest(".jp-OutputArea");
  if (!area) return;
  area.addEventListener("focusin", event => event.target.setAttribute("data-lm-suppress-shortcuts", "true"));
  const name = () => area.querySelectorAll("[role=slider]:not([aria-label])").forEach(handle => {
    const label = handle.closest(".widget-inline-hbox")?.querySelector("label");
    if (label) handle.setAttribute("aria-label", label.textContent);
  });
  name();
  new MutationObserver(name).observe(area, {childList: true, subtree: true});
})"""

_turn = threading.Lock()  # held by the panel that runs: two at once would measure each other
_running: Shell[Any] | None = None


class Stopped(Exception):  # noqa: N818
    """Raised in a run when Stop was pressed."""


def end_run() -> None:
    """End the run that is going on in any panel, if there is one, and wait until its thread has ended."""
    if (panel := _running) is not None:
        panel.stop(wait_s=_PATIENCE_S)


class Shell(ABC, Generic[T]):
    """A panel: settings, and a run in the background that can be watched, stopped and started again.

    In a notebook with somebody before it, `show()` puts it on the page. Elsewhere (papermill, nbval, nbconvert, a
    script) it runs once, in the caller's thread, and leaves what a run leaves: a sentence, a table, a figure.

    A subclass makes its widgets, and says what a run does (`_work`), how it looks meanwhile (`_draw`), and what it
    leaves behind (`_leaves`).

    Args:
        title: what the panel is for, a few words.
        settings: the widgets that a run takes its settings from, in the order in which they stand.
        pictures: what moves, below the buttons.
    """

    def __init__(self, title: str, settings: Mapping[str, Widget], pictures: Iterable[Widget]) -> None:
        from ipywidgets import HTML, Button, HBox, VBox

        self.title, self.settings = title, dict(settings)
        self.run_button = Button(description="Run", button_style="primary", tooltip="Start with these settings")
        self.stop_button = Button(description="Stop", tooltip="End the run")
        self.run_button.on_click(lambda _: self._politely(self.run))
        self.stop_button.on_click(lambda _: self._politely(self.stop))
        self.status = HTML()
        for widget, name in ((self.run_button, "run"), (self.stop_button, "stop"), (self.status, "status")):
            widget.add_class(f"yolothreads-{name}")
        for name, widget in self.settings.items():
            widget.add_class(f"yolothreads-{name}")
        rows = [HBox(list(self.settings.values())), HBox([self.run_button, self.stop_button, self.status])]
        for row in rows:
            row.add_class("yolothreads-row")
        self.widget = VBox([HTML(looks.STYLE), HTML(f"<strong>{escape(title)}</strong>"), *rows, *pictures])
        self.widget.add_class("yolothreads-panel")
        self.widget.add_class(f"yolothreads-panel-{type(self).__name__.lower()}")
        self.redraws_ms: deque[float] = deque(maxlen=_KEPT)  # how long each of the last redraws took
        self.redraws_every_s = _EVERY_S
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self.is_over = False  # the run has its outcome; its thread may still draw what it leaves
        self._drawn_at = 0.0
        self._outcome: T | None = None
        self._error: BaseException | None = None
        self._place: Any = None  # where in the notebook stands what the run leaves
        self._say("Choose, then press Run.")

    # What a panel decides.

    @abstractmethod
    def _work(self, tick: Tick) -> T:
        """Do the run. Call `tick` many times a second, from this thread: it redraws, and raises `Stopped`."""

    @abstractmethod
    def _draw(self) -> None:
        """Put the widgets up to date; called by the thread of the run, up to ten times a second."""

    @abstractmethod
    def _leaves(self, outcome: T) -> Iterable[Any]:
        """What stays in the notebook: a sentence first, then tables and figures, all with `_repr_html_`."""

    @abstractmethod
    def _sentence(self, outcome: T) -> str:
        """What came of a run, for the line beside the buttons."""

    # What people do with it.

    def show(self) -> None:
        """Show the panel; where nobody is there to press Run, run once and show what that leaves.

        Raises:
            YoloThreadsError, or whatever the run raises: only without a front end; with one, the panel says it.
        """
        from IPython.display import HTML, Javascript, display

        if not front_end.is_there():
            display(looks.Left(self._leaves(self._run_here())))  # type: ignore[no-untyped-call]
            return
        front_end.show_in_cell(self.close)
        display(self.widget)  # type: ignore[no-untyped-call]
        display(Javascript(_SCRIPT))  # type: ignore[no-untyped-call]
        self._place = display(HTML(""), display_id=True)  # type: ignore[no-untyped-call]

    def run(self) -> None:
        """Start a run in the background.

        Raises:
            PanelError: this panel, or another one, is running.
        """
        self._begin()
        self._thread = threading.Thread(target=self._run_behind, name="panel")
        try:
            self._thread.start()
        except BaseException:
            self._end()
            raise

    def stop(self, wait_s: float = 0.0) -> None:
        """End the run. It is over within half a second, unless it is just opening a pool: that is closed when open.

        Args:
            wait_s: seconds to wait until its thread has ended.
        """
        if self.is_running:
            self._stop.set()
            self._say("Stopping …")
            if wait_s and self._thread is not None:
                self._thread.join(wait_s)

    def close(self) -> None:
        """End the run, wait until its thread is gone, and take the panel off the page."""
        self.stop(wait_s=_PATIENCE_S)
        _close(self.widget)

    @property
    def is_running(self) -> bool:
        """Whether a run is going on."""
        return self._thread is not None and self._thread.is_alive()

    def result(self, timeout_s: float | None = None) -> T:
        """What the last run gave; waits for one that is going on, and if there was none yet, runs now.

        Raises:
            PanelError: it takes longer than `timeout_s`, was stopped before it had a result, or cannot run now.
            Exception: whatever ended the run.
        """
        if self._thread is None and self._outcome is None:
            self.run()
        if self._thread is not None:
            try:
                self._thread.join(timeout_s)
            except BaseException:  # Ctrl-C, or the button that interrupts the kernel
                self.stop(_PATIENCE_S)
                raise
            if self._thread.is_alive():
                raise PanelError(f'"{self.title}" still runs after {timeout_s:g} s; wait longer, or stop it.')
        if self._error is not None:
            raise self._error
        if self._outcome is None:
            raise PanelError(f'"{self.title}" was stopped before it had a result; press Run again.')
        return self._outcome

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # How it is done.

    def _begin(self) -> None:
        global _running
        if (last := _running) is not None and last.is_over and last._thread is not None:
            last._thread.join(_PATIENCE_S)  # it only draws what it leaves
        if not _turn.acquire(blocking=False):
            whose = "This panel" if self.is_running else "Another panel"
            raise PanelError(f"{whose} is running; press Stop there first, or wait until it is done.")
        _running = self
        self.is_over = False
        self._stop.clear()
        self._outcome = self._error = None

    def _end(self) -> None:
        global _running
        _running = None
        _turn.release()

    def _run_here(self) -> T:
        """Run in the caller's thread, with nobody to watch."""
        self._begin()
        try:
            self._outcome = self._work(lambda: None)
        finally:
            self._end()
        return self._outcome

    def _run_behind(self) -> None:
        self._say("Running …")
        try:
            self._outcome = self._work(self._tick)
            said = "Stopped. " * self._stop.is_set() + self._sentence(self._outcome)
        except Stopped:
            said = "Stopped before anything was measured."
        except BaseException as error:  # it is raised again where the code asks for the result
            self._error = error
            said = f"Failed. {type(error).__name__}: {error}"
        self.is_over = True
        try:
            self._draw()
            self.run_button.description = "Run again"
            self._say(said, is_error=self._error is not None)
            if self._place is not None and self._outcome is not None:
                self._place.update(looks.Left(self._leaves(self._outcome), folded=True))
        finally:
            self._end()

    def _tick(self) -> None:
        # The main thread ends first when the kernel is shut down; it then waits for this one.
        if self._stop.is_set() or not threading.main_thread().is_alive():
            raise Stopped
        now = perf_counter()
        if now - self._drawn_at >= self.redraws_every_s:
            self._drawn_at = now
            self._draw()
            self.redraws_ms.append(1000 * (perf_counter() - now))

    def _politely(self, act: Callable[[], None]) -> None:
        """A button was pressed: what is refused is said, and nothing is raised where nobody would see it."""
        try:
            act()
        except PanelError as error:
            self._say(str(error))

    def _say(self, text: str, *, is_error: bool = False) -> None:
        self.status.value = looks.status(text, is_error=is_error)


def _close(widget: Widget) -> None:
    for child in getattr(widget, "children", ()):
        _close(child)
    widget.close()
