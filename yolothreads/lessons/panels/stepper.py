"""Buttons and a slider to go through a replayed schedule; whatever they show is in memory, and nothing runs."""

from __future__ import annotations

import linecache
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

from yolothreads.lessons.panels.steps import NOTHING, RUNS, STOPPED, WAITS, Function, Place, Steps, function_of
from yolothreads.races import Where

# Background and text of a thread's badge (Okabe and Ito's palette); its letter stands on it.
_COLOURS = (("#0072b2", "#ffffff"), ("#e69f00", "#111111"), ("#009e73", "#111111"), ("#cc79a7", "#111111"))
_LEGEND = f"<div>{RUNS} about to run this line · {STOPPED} stopped before it · {WAITS} waits in it</div>"
_NOTHING = (
    "<div>Nothing that threads share was looked at; name it in <code>inspect=</code>, and it is shown here.</div>"
)


class Stepper:
    """The widgets. `steps` is what is shown, if anything has been replayed yet; `at` the position in it."""

    def __init__(self) -> None:
        from ipywidgets import HTML, Button, HBox, IntSlider, VBox

        self.steps: Steps | None = None
        self.slider = IntSlider(description="step", min=1, max=1, layout={"flex": "1 1 16em", "width": "auto"})
        self.slider.add_class("yolothreads-step")
        self.slider.observe(lambda change: self._draw(), "value")
        moves: dict[str, Callable[[Steps], int]] = {
            "previous change": lambda steps: steps.previous_change(self.at),
            "back": lambda steps: self.at - 1,
            "forward": lambda steps: self.at + 1,
            "next change": lambda steps: steps.next_change(self.at),
        }
        self.buttons = {name: Button(description=name.capitalize()) for name in moves}
        for (name, move), button in zip(moves.items(), self.buttons.values(), strict=True):
            button.add_class(f"yolothreads-{name.replace(' ', '-')}")
            button.on_click(lambda _, move=move: self._move(move))
        self.threads, self.state, self.source = HTML(), HTML(), HTML()
        for widget, name in ((self.threads, "threads"), (self.state, "state"), (self.source, "source")):
            widget.add_class(f"yolothreads-{name}")
        controls = HBox([*self.buttons.values(), self.slider])
        controls.add_class("yolothreads-row")
        self.widget = VBox([controls, self.threads, self.state, self.source])
        self.widget.add_class("yolothreads-stepper")
        self.show(None)

    @property
    def at(self) -> int:
        """The position: so many watched lines have run."""
        return int(self.slider.value) - 1

    def show(self, steps: Steps | None) -> None:
        """Show another schedule from its beginning; nothing at all without one."""
        self.steps = steps
        self.widget.layout.display = "none" if steps is None else "flex"
        with self.slider.hold_sync():
            self.slider.value = 1
            self.slider.max = 1 if steps is None else len(steps)
        self._draw()

    def go(self, at: int) -> None:
        """Show another position, or the nearest that there is."""
        self.slider.value = min(max(at + 1, 1), self.slider.max)

    def _move(self, move: Callable[[Steps], int]) -> None:
        if self.steps is not None:
            self.go(move(self.steps))

    def _draw(self) -> None:
        if (steps := self.steps) is not None:
            at = min(self.at, steps.end)
            self.threads.value = threads_html(steps, at)
            self.state.value = state_html(steps, at)
            self.source.value = source_html(steps, at)


def threads_html(steps: Steps, at: int) -> str:
    """Which step it is, and where each thread is, in words."""
    trial, end = steps.trial, ", the end," * (at == steps.end)
    lines = [
        f"<b>Step {at + 1} of {len(steps)}{end}</b> of <code>{escape(trial.schedule.partition(' |')[0])}</code>. "
        f"Outcome: <b>{trial.kind}</b>, {escape(trial.detail.splitlines()[0])}"
    ]
    lines += [f"{_badge(place.thread, place.sign)} {place.says} {_line(place.where)}" for place in steps.places(at)]
    return "".join(f"<div>{line}</div>" for line in lines)


def state_html(steps: Steps, at: int) -> str:
    """What the threads share as a table, and what of it has just changed."""
    if not steps.names:
        return _NOTHING
    changed = steps.changed(at)
    head = "".join(f'<th scope="col">{name}</th>' for name in ("shared", "now", "since the step before"))
    rows = []
    for name in steps.names:
        now, kind, since = escape(steps.seen[at].get(name, NOTHING)), "", "as before" if at else ""
        if name in changed:
            before = steps.steps[at - 1]
            after = f"after {_badge(before.thread)} ran line {before.where.line}"
            now, kind = f"<b>{now}</b>", ' class="changed"'
            since = f"<b>● changed</b> {after}; it was <b>{escape(changed[name])}</b>"
        rows.append(f'<tr{kind}><th scope="row">{escape(name)}</th><td>{now}</td><td>{since}</td></tr>')
    return f'<table class="yolothreads-shared"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def source_html(steps: Steps, at: int) -> str:
    """The functions that threads are in, first that of the one that has the turn; who is there stands by the line."""
    if not steps.steps:
        return ""
    here = sorted((p for p in steps.places(at) if p.where is not None), key=lambda place: place.sign != RUNS)
    functions: dict[Function, list[Place]] = {}
    for place in here or [Place("", "", "", steps.steps[-1].where)]:
        if place.where is not None:
            functions.setdefault(function_of(place.where), []).append(place)
    return "".join(_listing(steps, function, there) for function, there in functions.items()) + _LEGEND


def _listing(steps: Steps, function: Function, there: Sequence[Place]) -> str:
    marks: dict[int, list[Place]] = {}
    for place in there:
        if place.where is not None:
            marks.setdefault(place.where.line, []).append(place)
    first = linecache.getline(function.file, function.lines.start)
    indent = first[: len(first) - len(first.lstrip())]
    rows, last = [], function.lines.start - 1
    for line in steps.window(function, next(iter(marks))):
        if line > last + 1:
            rows.append("<div><span></span><span>⋮</span><span></span></div>")
        last = line
        source = linecache.getline(function.file, line).removeprefix(indent).rstrip()
        kind = ' class="turn"' if any(place.sign == RUNS for place in marks.get(line, [])) else ""
        badges = "".join(_badge(place.thread, place.sign) for place in marks.get(line, []) if place.thread)
        rows.append(f"<div{kind}><span>{badges}</span><span>{line}</span><code>{escape(source)}</code></div>")
    head = f'<div class="head">{escape(_file(function.file))}, {escape(function.name)}</div>'
    return f'<div class="yolothreads-listing">{head}{"".join(rows)}</div>'


def _badge(thread: str, sign: str = "") -> str:
    """The letter of a thread in its colour, behind a sign of what it does."""
    number = ord(thread) - ord("A") if len(thread) == 1 else int(thread[1:]) + 1  # workers are W1, W2, ...
    colour, ink = _COLOURS[number % len(_COLOURS)]
    return f'<b class="yolothreads-badge" style="background:{colour};color:{ink}">{f"{sign} {thread}".strip()}</b>'


def _line(where: Where | None) -> str:
    if where is None:
        return ""
    return f"line {where.line} of {escape(function_of(where).name)}: <code>{escape(where.text)}</code>"


def _file(file: str) -> str:
    path = Path(file)
    return "a cell of this notebook" if path.parent.name.startswith("ipykernel_") else path.name
