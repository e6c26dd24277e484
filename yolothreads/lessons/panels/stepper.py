"""Steps of a replayed schedule: where each thread is, what they share, what changed, and the widgets that show it.

A replay records everything in memory once; going through its steps runs nothing.
"""

from __future__ import annotations

import linecache
import reprlib
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from itertools import pairwise
from pathlib import Path
from threading import Lock, RLock
from typing import Any, NamedTuple

from yolothreads.lessons.panels.base import make_widget
from yolothreads.lessons.texts import section
from yolothreads.palette import THREADS
from yolothreads.races import Trial, Where, holder, label
from yolothreads.races.results import Function, function_of
from yolothreads.tables import Table

Inspect = Mapping[str, Callable[..., Any]]

RUNS, STOPPED, WAITS, NEW, ENDED = "▶", "‖", "…", "○", "■"
"""Signs for what a thread does."""

NOTHING = "–"
_SHORT = 24  # lines of a function that is shown whole
_GAP = 2  # lines between two that ran, which are shown, too
_PAGE = 10  # lines by which the window on a long function moves
_TABLE_ROWS = 40
_LOCKS = (type(Lock()), type(RLock()))
_SCALARS = (bool, int, float, complex, str, bytes, type(None))
_LONGEST = 60  # characters of a value
_DEPTH = 5  # of networks in networks: YOLO, backend, network, its layers
_MOST_NAMES = 12  # shown where nothing changes

_TEXTS = section("panels", "stepper")


# --- what threads share ---


class SharedState:
    """State that threads share, as texts before each line of a replay; made to be the `inspect` of `replay`.

    Args:
        inspect: name -> function of the state, or of nothing where there is none. By default it is chosen from the
            state: of a YOLO model, or of each one in a list, tuple, dict or object, the settings in `predictor.args`,
            who holds the predictor's lock, and the shape that the head keeps; of other things plain values and locks.
        has_state: whether the bodies are given a state.
    """

    def __init__(self, inspect: Inspect | None, *, has_state: bool) -> None:
        self._inspect, self._has_state = inspect, has_state
        self._predictors: dict[int, tuple[int, Any]] = {}  # by id: a number in the order of appearance, and the object
        self._always: set[str] = set()  # names that are shown even where they do not change: locks and shapes
        self.state: Any = None
        self._last: dict[str, str] = {}

    def __call__(self, state: Any) -> dict[str, str]:
        """Return the state at this moment: name -> text."""
        self.state = state
        arguments = (state,) if self._has_state else ()
        if self._inspect is not None:
            facts = {name: _answer(function, arguments) for name, function in self._inspect.items()}
        else:
            facts = dict(self._facts(state)) if self._has_state else {}
        if facts != self._last:  # most steps change nothing, and need no memory
            self._last = facts
        return self._last

    def names(self, history: Sequence[Mapping[str, str]]) -> list[str]:
        """Return the names to show: all that were asked for; by default those that change, with locks and shapes."""
        known = list(dict.fromkeys(name for facts in history for name in facts))
        if self._inspect is not None:
            return known
        changing = {name for name in known if len({facts[name] for facts in history if name in facts}) > 1}
        return [name for name in known if name in changing | self._always] or known[:_MOST_NAMES]

    def _facts(self, state: Any) -> Iterator[tuple[str, str]]:
        for name, part in [("", state)] if _is_model(state) else _parts(state):
            if name.startswith("_"):
                continue
            if _is_model(part):
                yield from self._of_model(part, f"{name}: " if name else "")
            elif isinstance(part, _LOCKS):
                yield self._shown(name), _lock_text(part)
            elif (text := _plain_text(part)) is not None:
                yield name, text

    def _of_model(self, model: Any, prefix: str) -> Iterator[tuple[str, str]]:
        predictor = vars(model).get("predictor")
        if predictor is not None:
            number, _ = self._predictors.setdefault(id(predictor), (len(self._predictors) + 1, predictor))
            yield f"{prefix}predictor", _TEXTS["predictor"].format(number=number)
            for name, value in vars(predictor.args).items():
                yield f"{prefix}predictor.args.{name}", _short(value)
            if isinstance(lock := getattr(predictor, "_lock", None), _LOCKS):
                yield self._shown(f"{prefix}the predictor's lock"), _lock_text(lock)
        elif "predictor" in vars(model):
            yield f"{prefix}predictor", _TEXTS["none_yet"]
        if (head := _head(predictor) or _head(model)) is not None:
            shape = _TEXTS["none_yet"] if head.shape is None else " × ".join(map(str, head.shape))
            yield self._shown(f"{prefix}head.shape"), shape

    def _shown(self, name: str) -> str:
        self._always.add(name)
        return name


def _is_model(thing: Any) -> bool:
    """Return whether it is a YOLO model, or a network whose head keeps a shape."""
    return "predictor" in getattr(thing, "__dict__", {}) or _head(thing) is not None


def _head(thing: Any) -> Any:
    """Return the last layer of the network inside, if that keeps a shape."""
    for _ in range(_DEPTH):
        thing = getattr(thing, "model", None)
        if thing is None or isinstance(thing, str):
            return None
        if hasattr(thing, "__getitem__"):
            return thing[-1] if len(thing) and hasattr(thing[-1], "shape") else None
    return None


def _parts(state: Any) -> list[tuple[str, Any]]:
    if isinstance(state, Mapping):
        return [(str(name), part) for name, part in state.items()]
    if isinstance(state, list | tuple):
        return [(f"[{i}]", part) for i, part in enumerate(state)]
    return list(getattr(state, "__dict__", {}).items())


def _plain_text(value: Any) -> str | None:
    """Return a number, a text, or a container of such as text; None for things whose text may take long."""
    if isinstance(value, _SCALARS):
        return _short(value)
    if not isinstance(value, dict | list | tuple | set | frozenset):
        return None
    parts = [*value, *value.values()] if isinstance(value, dict) else value
    if all(isinstance(part, _SCALARS) for part in parts):
        return _short(value)
    return _TEXTS["several"].format(count=len(value))


def _short(value: Any) -> str:
    return shortened(" ".join((value if isinstance(value, str) else reprlib.repr(value)).split()), _LONGEST)


def shortened(text: str, longest: int) -> str:
    """Return a text, cut off where it is longer than this."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _lock_text(lock: Any) -> str:
    return _TEXTS["held"].format(thread=thread) if (thread := holder(lock)) else _TEXTS["free"]


def _answer(function: Callable[..., Any], arguments: tuple[Any, ...]) -> str:
    try:
        answer = function(*arguments)
        return _lock_text(answer) if isinstance(answer, _LOCKS) else _short(answer) or NOTHING
    except Exception as error:  # an inspection must not change what happens
        return _short(f"{type(error).__name__}: {error}")


# --- the steps ---


class Place(NamedTuple):
    """Where a thread is at a step: a sign, the key of the same in words, and the line, where it has one."""

    thread: str
    sign: str
    key: str
    where: Where | None


class Steps:
    """A replayed schedule. Its positions are the moments before each watched line, and the end.

    Args:
        trial: with its steps, each of which has what `shared` returned.
        bodies: how many there are.
        shared: called once more, for the state at the end.
    """

    def __init__(self, trial: Trial, bodies: int, shared: SharedState) -> None:
        self.trial, self.steps = trial, trial.steps
        seen = [step.inspected if isinstance(step.inspected, dict) else {} for step in self.steps]
        seen.append(seen[-1] if trial.waits and seen else shared(shared.state))  # stuck threads have been ended since
        self.names, self.seen = shared.names(seen), seen
        self.threads = list(dict.fromkeys([*map(label, range(bodies)), *sorted({step.thread for step in self.steps})]))
        self._ran = {step.where for step in self.steps}
        turns = [(step.thread, step.waits) for step in self.steps]
        self.changes = [
            at for at in range(len(self)) if at in (0, self.end) or turns[at - 1] != turns[at] or self.changed(at)
        ]

    def __len__(self) -> int:
        return len(self.steps) + 1

    @property
    def end(self) -> int:
        """The last position: all threads have ended, or none can go on."""
        return len(self.steps)

    def next_change(self, at: int) -> int:
        """Return the next position where the shared state, the thread that has the turn, or a wait is another one."""
        return self.changes[min(bisect_right(self.changes, at), len(self.changes) - 1)]

    def previous_change(self, at: int) -> int:
        """Return the last such position before `at`."""
        return self.changes[max(bisect_left(self.changes, at) - 1, 0)]

    def changed(self, at: int) -> dict[str, str]:
        """Return what changed in the step before: name -> the text before that."""
        before, now = self.seen[max(at - 1, 0)], self.seen[at]
        return {name: before.get(name, NOTHING) for name in self.names if before.get(name) != now.get(name)}

    def places(self, at: int) -> list[Place]:
        """Return where each thread is."""
        return [self._place(thread, at) for thread in self.threads]

    def window(self, function: Function, focus: int) -> list[int]:
        """Return the lines of a function to show: all of a short one; of others those that ran, around line `focus`."""
        if len(function.lines) <= _SHORT:
            return list(function.lines)
        ran = sorted({w.line for w in self._ran if w.file == function.file and w.line in function.lines})
        near = {line for a, b in pairwise(ran) if b - a <= _GAP + 1 for line in range(a, b)}
        shown = sorted({function.lines.start, *ran, *near})
        if len(shown) <= _SHORT:
            return shown
        first = max(0, shown.index(focus) // _PAGE * _PAGE - _PAGE // 2)
        return shown[first : first + 2 * _PAGE]

    def table(self) -> Table:
        """Return the steps around each change as a table for the notebook."""
        shown = sorted({near for at in self.changes for near in (at - 1, at, at + 1) if 0 <= near < self.end})
        rows = []
        for at in shown[:_TABLE_ROWS]:
            step, seen = self.steps[at], [self.seen[at].get(name, NOTHING) for name in self.names]
            rows.append((at + 1, step.thread, step.where.line, step.where.text[:70], *seen))
        caption = _TEXTS["table_caption_cut" if len(shown) > _TABLE_ROWS else "table_caption"]
        caption = caption.format(kind=self.trial.kind, shown=_TABLE_ROWS, all=len(shown), steps=self.end)
        headers = [*_TEXTS["headers"], *(_TEXTS["table_now"].format(name=name) for name in self.names)]
        return Table(headers, rows, caption)

    def _place(self, thread: str, at: int) -> Place:
        before = next((step.where for step in reversed(self.steps[:at]) if step.thread == thread), None)
        coming = next((step.where for step in self.steps[at:] if step.thread == thread), None)
        if at == self.end:
            is_stuck = thread in self.trial.waits
            return Place(thread, WAITS, "waits_for_ever", before) if is_stuck else Place(thread, ENDED, "is_done", None)
        step = self.steps[at]
        if step.thread == thread:
            return Place(thread, RUNS, "has_turn", step.where)
        if thread in step.waits:
            return Place(thread, WAITS, "waits" if before else "waits_before", before)
        if before is None:
            return Place(thread, NEW, "not_begun", None)
        if coming is None:
            return Place(thread, ENDED, "last_line", None)
        return Place(thread, STOPPED, "stopped", coming)


# --- the widgets ---


_MOVES: dict[str, Callable[[Steps, int], int]] = {
    "previous_change": Steps.previous_change,
    "back": lambda _, at: at - 1,
    "forward": lambda _, at: at + 1,
    "next_change": Steps.next_change,
}


class Stepper:
    """Buttons and a slider that go through a replayed schedule.

    `steps` is what is shown, if anything has been replayed yet; `at` is the position in it.
    """

    def __init__(self) -> None:
        self.steps: Steps | None = None
        self.slider = make_widget("IntSlider", "step", description=_TEXTS["step"], min=1, max=1)
        self.slider.observe(lambda change: self._draw(), "value")
        self.buttons = {name: make_widget("Button", name, description=_TEXTS[name]) for name in _MOVES}
        for name, button in self.buttons.items():
            button.on_click(lambda _, move=_MOVES[name]: self._move(move))
        shown = [make_widget("HTML", name) for name in ("threads", "state", "source")]
        self.threads, self.state, self.source = shown
        controls = make_widget("HBox", "row", children=[*self.buttons.values(), self.slider])
        self.widget = make_widget("VBox", "stepper", children=[controls, *shown])
        self.show(None)

    @property
    def at(self) -> int:
        """The position: how many watched lines have run."""
        return int(self.slider.value) - 1

    def show(self, steps: Steps | None) -> None:
        """Show another schedule from its beginning; without one, show nothing."""
        self.steps = steps
        self.widget.layout.display = "none" if steps is None else "flex"
        with self.slider.hold_sync():
            self.slider.value = 1
            self.slider.max = 1 if steps is None else len(steps)
        self._draw()

    def _move(self, move: Callable[[Steps, int], int]) -> None:
        if self.steps is not None:
            self.slider.value = min(max(move(self.steps, self.at) + 1, 1), self.slider.max)

    def _draw(self) -> None:
        if (steps := self.steps) is not None:
            at = min(self.at, steps.end)
            self.threads.value = threads_html(steps, at)
            self.state.value = state_html(steps, at)
            self.source.value = source_html(steps, at)


def threads_html(steps: Steps, at: int) -> str:
    """Return the number of the step, and where each thread is, in words."""
    trial = steps.trial
    schedule, detail = escape(trial.schedule.partition(" |")[0]), escape(trial.detail.splitlines()[0])
    heading = _TEXTS["heading_end" if at == steps.end else "heading"]
    lines = [heading.format(step=at + 1, steps=len(steps), schedule=schedule, kind=trial.kind, detail=detail)]
    for place in steps.places(at):
        line = ""
        if (where := place.where) is not None:
            name, text = escape(function_of(where).name), escape(where.text)
            line = _TEXTS["line"].format(line=where.line, function=name, text=text)
        lines.append(f"{_badge(place.thread, place.sign)} {_TEXTS[place.key].format(line=line)}")
    return "".join(f"<div>{line}</div>" for line in lines)


def state_html(steps: Steps, at: int) -> str:
    """Return the shared state as a table that marks what has just changed."""
    if not steps.names:
        return f"<div>{_TEXTS['nothing']}</div>"
    changed = steps.changed(at)
    head = "".join(f'<th scope="col">{_TEXTS[key]}</th>' for key in ("shared", "now", "since"))
    rows = []
    for name in steps.names:
        now, kind, since = escape(steps.seen[at].get(name, NOTHING)), "", _TEXTS["as_before"] if at else ""
        if name in changed:
            last, before = steps.steps[at - 1], escape(changed[name])
            now, kind = f"<b>{now}</b>", ' class="changed"'
            since = _TEXTS["changed"].format(thread=_badge(last.thread), line=last.where.line, before=before)
        rows.append(f'<tr{kind}><th scope="row">{escape(name)}</th><td>{now}</td><td>{since}</td></tr>')
    return f'<table class="yolothreads-shared"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def source_html(steps: Steps, at: int) -> str:
    """Return the functions that threads are in, first that of the turn, with the threads marked at their lines."""
    if not steps.steps:
        return ""
    places = sorted(steps.places(at), key=lambda place: place.sign != RUNS)
    functions: dict[Function, dict[int, list[Place]]] = {}
    for place in places:
        if (where := place.where) is not None:
            functions.setdefault(function_of(where), {}).setdefault(where.line, []).append(place)
    if not functions:  # all have ended: show where the last line ran
        last = steps.steps[-1].where
        functions[function_of(last)] = {last.line: []}
    listings = "".join(_listing(steps, function, marks) for function, marks in functions.items())
    return f"{listings}<div>{_TEXTS['legend']}</div>"


def _listing(steps: Steps, function: Function, marks: Mapping[int, Sequence[Place]]) -> str:
    first = linecache.getline(function.file, function.lines.start)
    indent = first[: len(first) - len(first.lstrip())]
    rows, last = [], function.lines.start - 1
    for line in steps.window(function, next(iter(marks))):
        if line > last + 1:
            rows.append("<div><span></span><span>⋮</span><span></span></div>")
        last = line
        source = linecache.getline(function.file, line).removeprefix(indent).rstrip()
        here = marks.get(line, [])
        kind = ' class="turn"' if any(place.sign == RUNS for place in here) else ""
        badges = "".join(_badge(place.thread, place.sign) for place in here)
        rows.append(f"<div{kind}><span>{badges}</span><span>{line}</span><code>{escape(source)}</code></div>")
    path = Path(function.file)
    file = _TEXTS["this_notebook"] if path.parent.name.startswith("ipykernel_") else path.name
    head = f'<div class="head">{escape(file)}, {escape(function.name)}</div>'
    return f'<div class="yolothreads-listing">{head}{"".join(rows)}</div>'


def _badge(thread: str, sign: str = "") -> str:
    """Return the letter of a thread on its colour, after a sign for what it does."""
    number = ord(thread) - ord("A") if len(thread) == 1 else int(thread[1:]) + 1  # workers are W1, W2, ...
    colour, ink = THREADS[number % len(THREADS)]
    return f'<b class="yolothreads-badge" style="background:{colour};color:{ink}">{f"{sign} {thread}".strip()}</b>'
