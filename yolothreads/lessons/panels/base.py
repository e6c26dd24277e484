"""Base class of all panels: settings, Run and Stop, a run in the background that redraws, and what the run leaves."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum, auto
from html import escape
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from yolothreads.errors import ArgumentError, PanelError
from yolothreads.lessons.figures import Figure
from yolothreads.lessons.panels.drawings import SHEET
from yolothreads.lessons.texts import section
from yolothreads.tables import Table

if TYPE_CHECKING:
    from ipywidgets import Widget

T = TypeVar("T")
Tick = Callable[[], None]

_REDRAW_S = 0.1  # between two redraws
_END_S = 60.0  # deadline for the end of a run: it may be opening a pool of processes
_NOW_S = 1.0  # the time that "now" means in a speed

_TEXTS = section("panels", "base")

# What widgets cannot do: names of sliders, and keys that JupyterLab leaves to them.
_SCRIPT = Path(__file__).with_name("panels.js").read_text(encoding="utf-8")


class Stopped(Exception):  # noqa: N818
    """Raised inside a run when Stop was pressed."""


class State(StrEnum):
    """Phases of a run, in order; a run may leave some out. Each is the key of a sentence of the panel."""

    NOT_STARTED = auto()
    REFERENCES = auto()  # the right results are being made
    OPENING = auto()  # the pool is being opened
    CALIBRATING = auto()  # the worker shows how fast it is
    WORKING = auto()
    DRAINING = auto()  # no more calls come; those that wait are answered
    DONE = auto()


class Run:
    """One run of a panel: its state, and how much is done of a total. The run's thread writes, any thread may read.

    Attributes:
        began, ended: seconds of the clock; 0 before the beginning and the end.
        moments: seconds of the clock at which each image or frame was done.

    Args:
        total: how many there are to do.
        clock: returns seconds.
    """

    def __init__(self, total: int, clock: Callable[[], float] = perf_counter) -> None:
        self.state, self.stopped = State.NOT_STARTED, False
        self.total, self.done = total, 0
        self.began = self.ended = 0.0
        self.moments: list[float] = []
        self._clock = clock

    def begin(self) -> None:
        """Start the clock."""
        self.began = self._clock()

    def step(self) -> None:
        """Count one more."""
        self.done += 1
        self.moments.append(self._clock())

    def end(self) -> None:
        """Stop the clock, if it runs."""
        if self.began and not self.ended:
            self.ended = self._clock()

    @property
    def seconds(self) -> float:
        """Seconds from the beginning until now, or until the end."""
        return (self.ended or self._clock()) - self.began if self.began else 0.0

    @property
    def so_far(self) -> float:
        """Speed since the beginning, per second."""
        return self.done / self.seconds if self.done else 0.0

    @property
    def now(self) -> float:
        """Speed in the last second, per second."""
        last_second = len(self.moments) - bisect_right(self.moments, (self.ended or self._clock()) - _NOW_S)
        return last_second / min(_NOW_S, max(self.seconds, 1e-9))

    @property
    def left_s(self) -> float | None:
        """Seconds that the rest takes at the speed so far; None before the first is done."""
        return (self.total - self.done) / self.so_far if self.done else None

    @contextmanager
    def until_stopped(self) -> Iterator[None]:
        """Do the work of the run in this block; `Stopped` ends it early and goes no further."""
        try:
            yield
        except Stopped:
            self.stopped = True
        self.end()
        self.state = State.DONE


_one_at_a_time = threading.Lock()  # held by the panel that runs: two at once would disturb each other's measurements
_running: BasePanel[Any] | None = None


def end_run() -> None:
    """End the run of whichever panel is running, and wait until its thread has ended."""
    if (panel := _running) is not None:
        panel.stop(wait_s=_END_S)


class BasePanel(ABC, Generic[T]):
    """Panel with settings and a run in the background that can be watched, stopped and started again.

    In a notebook with a reader, `show()` puts it on the page. Elsewhere (papermill, nbval, nbconvert, a script) it runs
    once, in the caller's thread, and shows what a run leaves: a sentence, a table, a figure.

    A subclass makes its widgets and defines a run (`_work`), its picture (`_draw`), its summary (`_sentence`), and what
    it leaves in the notebook (`_outputs`).

    Args:
        title: the purpose of the panel, in a few words.
        settings: the widgets that a run takes its settings from, in the order of the page.
        pictures: further widgets, below the buttons and `live`, the HTML that moves.
    """

    def __init__(self, title: str, settings: Mapping[str, Widget], pictures: Iterable[Widget] = ()) -> None:
        self.title, self.settings = title, dict(settings)
        self.run_button = make_widget("Button", "run", description=_TEXTS["run"], tooltip=_TEXTS["run_tooltip"])
        self.run_button.button_style = "primary"
        self.stop_button = make_widget("Button", "stop", description=_TEXTS["stop"], tooltip=_TEXTS["stop_tooltip"])
        self.run_button.on_click(lambda _: self._on_run())
        self.stop_button.on_click(lambda _: self.stop())
        self.status, self.live = make_widget("HTML", "status"), make_widget("HTML", "live")
        for name, widget in self.settings.items():
            widget.add_class(_css_class(name))
        head = make_widget("HTML", "head", value=f"{SHEET}<strong>{escape(title)}</strong>")
        fields = make_widget("HBox", "row", children=list(self.settings.values()))
        buttons = make_widget("HBox", "row", children=[self.run_button, self.stop_button, self.status])
        self.widget = make_widget("VBox", "panel", children=[head, fields, buttons, self.live, *pictures])
        self.widget.add_class(_css_class(f"panel-{type(self).__name__.lower()}"))
        self.redraws_ms: list[float] = []  # how long each redraw took
        self.redraws_every_s = _REDRAW_S
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self.is_over = False  # the run has its outcome; its thread may still draw
        self._drawn_at = 0.0
        self._outcome: T | None = None
        self._error: BaseException | None = None
        self._output_below: Any = None  # the notebook's display below the panel, for what a run leaves
        self._say(_TEXTS["choose"])

    # What a panel defines.

    @abstractmethod
    def _work(self, tick: Tick) -> T:
        """Do the run. Call `tick` many times a second, from this thread: it redraws, and raises `Stopped`."""

    @abstractmethod
    def _draw(self) -> None:
        """Update the widgets; called by the thread of the run, up to ten times a second."""

    @abstractmethod
    def _sentence(self, outcome: T) -> str:
        """Return the result of a run in words, for the line beside the buttons."""

    @abstractmethod
    def _outputs(self, outcome: T) -> Iterable[Any]:
        """Return what stays in the notebook: a sentence, then tables and figures, all with `_repr_html_`."""

    # What users call.

    def show(self) -> None:
        """Show the panel; without a front end, run once and show what the run leaves.

        Raises:
            Exception: whatever the run raises, without a front end only; with one, the panel shows the error.
        """
        from IPython.display import HTML, Javascript, display

        if not has_front_end():
            self._begin()
            try:
                self._outcome = self._work(lambda: None)  # in the caller's thread, with no redraws
            finally:
                self._end()
            display(RunOutput(self._outputs(self._outcome)))  # type: ignore[no-untyped-call]
            return
        _show_in_cell(self.close)
        display(self.widget)  # type: ignore[no-untyped-call]
        display(Javascript(_SCRIPT))  # type: ignore[no-untyped-call]
        self._output_below = display(HTML(""), display_id=True)  # type: ignore[no-untyped-call]

    def run(self) -> None:
        """Start a run in the background.

        Raises:
            PanelError: this panel, or another one, is running.
        """
        self._begin()
        self._thread = threading.Thread(target=self._run_in_background, name="panel")
        try:
            self._thread.start()
        except BaseException:  # this process can have no further thread
            self._thread = None
            self._end()
            raise

    def stop(self, wait_s: float = 0.0) -> None:
        """End the run. It ends within half a second, unless it is opening a pool: that is closed as soon as it is open.

        Args:
            wait_s: seconds to wait for the end of its thread.
        """
        if (thread := self._thread) is not None and thread.is_alive():
            self._stop.set()
            self._say(_TEXTS["stopping"])
            if wait_s:
                thread.join(wait_s)

    def close(self) -> None:
        """End the run, wait for the end of its thread, and take the panel off the page."""
        self.stop(wait_s=_END_S)
        _close(self.widget)

    @property
    def is_running(self) -> bool:
        """Whether a run is going on."""
        return self._thread is not None and self._thread.is_alive()

    def result(self, timeout_s: float | None = None) -> T:
        """Return the result of the last run. Wait for one that is going on; if there was none yet, run now.

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
                self.stop(_END_S)
                raise
            if self._thread.is_alive():
                raise PanelError(_TEXTS["too_long"].format(title=self.title, seconds=timeout_s))
        if self._error is not None:
            raise self._error
        if self._outcome is None:
            raise PanelError(_TEXTS["no_result"].format(title=self.title))
        return self._outcome

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # What panels use.

    def _chosen(self) -> dict[str, Any]:
        """Return the values of the settings."""
        return {name: widget.value for name, widget in self.settings.items()}

    def _say(self, text: str, *, is_error: bool = False) -> None:
        kind = "error" if is_error else "said"
        self.status.value = f'<span class="yolothreads-{kind}" role="status">{escape(text)}</span>'

    # How it works.

    def _begin(self) -> None:
        global _running
        if (last := _running) is not None and last.is_over and last._thread is not None:
            last._thread.join(_END_S)  # it only draws what it leaves
        if not _one_at_a_time.acquire(blocking=False):
            raise PanelError(_TEXTS["this_runs" if self.is_running else "another_runs"])
        _running = self
        self.is_over = False
        self._stop.clear()
        self._outcome = self._error = None

    def _end(self) -> None:
        global _running
        _running = None
        _one_at_a_time.release()

    def _run_in_background(self) -> None:
        self._say(_TEXTS["running"])
        try:
            self._outcome = self._work(self._tick)
            said = self._sentence(self._outcome)
            said = _TEXTS["stopped"].format(sentence=said) if self._stop.is_set() else said
        except Stopped:
            said = _TEXTS["stopped_early"]
        except BaseException as error:  # it is raised again where the code asks for the result
            self._error = error
            said = _TEXTS["failed"].format(kind=type(error).__name__, error=error)
        self.is_over = True
        try:
            self._draw()
            self.run_button.description = _TEXTS["run_again"]
            self._say(said, is_error=self._error is not None)
            if self._output_below is not None and self._outcome is not None:
                self._output_below.update(RunOutput(self._outputs(self._outcome), fold_figures=True))
        finally:
            self._end()

    def _tick(self) -> None:
        # When the kernel is shut down, the main thread ends first and then waits for this one.
        if self._stop.is_set() or not threading.main_thread().is_alive():
            raise Stopped
        now = perf_counter()
        if now - self._drawn_at >= self.redraws_every_s:
            self._drawn_at = now
            self._draw()
            self.redraws_ms.append(1000 * (perf_counter() - now))

    def _on_run(self) -> None:
        """Run, or show a refusal: nobody would see an error raised here."""
        try:
            self.run()
        except PanelError as error:
            self._say(str(error))


class RunOutput:
    """Output of a run in the notebook: things with `_repr_html_` and `str`, one below another, shown as one output.

    Args:
        parts: the things, in order; a string is a paragraph.
        fold_figures: hide the figures until a reader opens them, because the panel above shows them already.
    """

    def __init__(self, parts: Iterable[Any], *, fold_figures: bool = False) -> None:
        self.parts, self.fold_figures = list(parts), fold_figures

    def _repr_html_(self) -> str:
        plain, figures = "", ""
        for part in self.parts:
            if isinstance(part, Figure):
                figures += part._repr_html_()
            else:
                plain += f"<p>{escape(part)}</p>" if isinstance(part, str) else part._repr_html_()
        if self.fold_figures and figures:
            figures = f"<details><summary>{_TEXTS['summary']}</summary>{figures}</details>"
        return plain + figures

    def __repr__(self) -> str:
        return "\n".join(map(str, self.parts))


def runs_table(headers: Sequence[str], rows: Sequence[Sequence[Any]], stamp: str) -> Table:
    """Return the table of a panel's runs, one row per run; without runs, its caption says so."""
    return Table(headers, rows, stamp if rows else _TEXTS["no_runs"])


# Widgets.


def _css_class(name: str) -> str:
    return f"yolothreads-{name.replace('_', '-')}"


def make_widget(kind: str, name: str = "", /, **traits: Any) -> Any:
    """Return a widget; ipywidgets is imported when the first one is made.

    Args:
        kind: its class in ipywidgets.
        name: the style sheet and the tests find it by the class yolothreads-`name`.
        **traits: what its class takes.
    """
    import ipywidgets

    widget = getattr(ipywidgets, kind)(**traits)
    if name:
        widget.add_class(_css_class(name))
    return widget


def field(name: str, value: Any, known: Sequence[Any], label: str = "") -> Widget:
    """Return a field for a number, or a list to choose from.

    Args:
        name: the argument's name, for the error message.
        value: what the field shows at first.
        known: what can be chosen; of a range, any whole number can be typed.
        label: the text beside the field; by default the name.

    Raises:
        ArgumentError: `value` cannot be chosen.
    """
    if isinstance(known, range):
        kind, remedy = "BoundedIntText", f"a whole number from {known[0]} to {known[-1]}"
        traits: dict[str, Any] = {"min": known[0], "max": known[-1]}
    else:
        kind, remedy = "Dropdown", f"one of: {', '.join(map(str, known))}"
        traits = {"options": known}
    if value not in known or isinstance(value, bool):
        raise ArgumentError(f"{name}={value!r} cannot be chosen; give {remedy}.")
    return make_widget(kind, value=value, description=label or name, **traits)


def checkbox(value: bool, label: str) -> Widget:
    """Return a box to tick."""
    return make_widget("Checkbox", value=value, description=label, indent=False)


def _close(widget: Widget) -> None:
    for child in getattr(widget, "children", ()):
        _close(child)
    widget.close()


# The front end: whether there is one, and which cell shows which panel.

_close_by_cell: dict[str, Callable[[], None]] = {}


def has_front_end() -> bool:
    """Return whether a person can press buttons: the front end lets the running cell ask its reader for input.

    JupyterLab does, by Jupyter's messaging protocol (`allow_stdin`); papermill, nbclient and nbval do not.
    """
    return bool(_request().get("content", {}).get("allow_stdin", False))


def _show_in_cell(close: Callable[[], None]) -> None:
    """Remember how to close what the running cell shows, and close what the same cell showed in its last run."""
    from IPython import get_ipython

    request = _request()
    # The cell's id; or its source, where the front end does not send one.
    cell = str(request.get("metadata", {}).get("cellId") or request.get("content", {}).get("code", ""))
    if not _close_by_cell and (shell := get_ipython()) is not None:
        shell.events.register("pre_run_cell", _close_deleted)
    _close_cells([cell])
    _close_by_cell[cell] = close


def _close_deleted(*_: object) -> None:
    """Close the panels of deleted cells: each request of JupyterLab names the cells deleted since the one before."""
    _close_cells(_request().get("metadata", {}).get("deletedCells", []))


def _close_cells(cells: Iterable[str]) -> None:
    for cell in cells:
        _close_by_cell.pop(cell, lambda: None)()


def _request() -> dict[str, Any]:
    """Return the message that made this cell run; empty outside of Jupyter."""
    from IPython import get_ipython

    get = getattr(get_ipython(), "get_parent", None)
    return dict(get() or {}) if get is not None else {}
