"""One schedule as a page: a single HTML file that opens from disk, to be stepped through by buttons and by keyboard.

The source and the list of all steps stand in the page as text, so that it can be read without JavaScript. The script
of the page only marks lines and fills in texts from `_Story.data`; it makes no HTML. A policy in the page's head allows
this one script and no network.
"""

from __future__ import annotations

import base64
import hashlib
import json
import linecache
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from html import escape
from itertools import pairwise
from pathlib import Path
from string import Template
from typing import Any

from yolothreads.errors import ExploreError, writing
from yolothreads.palette import BLUE, ORANGE, THREADS
from yolothreads.races.results import DEADLOCK, KINDS, RIGHT, Function, Trial, Where, function_of
from yolothreads.races.schedule import label
from yolothreads.races.values import UNREADABLE, Look, brief_afterwards, cut

Again = Callable[[Look], Trial]
"""Replays a schedule; a `Look` is shown the state before each line."""

MOST_STEPS = 2000  # of a longer schedule, those around each change are shown
NEW, RUNS, STOPPED, WAITS, ENDED = "○", "▶", "‖", "…", "■"
"""Signs for what a thread does."""

_WHOLE = 60  # lines of a function that is shown whole
_AROUND = 2  # lines that are shown before and after each line that ran, in a longer one
_FEW = 12  # parts of the state that are shown where none of them changes
_SENTENCE = 80  # characters of a change that is told in the sentence of a step
_NOTHING = "–"
_TEMPLATE = Path(__file__).with_name("page.html")
# Characters that a browser drops, or that change the order of what follows; a reader sees their codes instead.
_UNSEEN = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufffe\uffff]")
_CELL = re.compile(r"^ipykernel_\d+$")


def seen(text: str) -> str:
    """Return a text in which every character can be seen: controls and lone surrogates as their codes."""
    return _UNSEEN.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode(), text)


def html(text: object) -> str:
    """Return a text for HTML."""
    return escape(seen(str(text)))


def save(
    path: Path, again: Again, known: Trial | None, verdict: str, remarks: Sequence[str], *, values: bool = True
) -> None:
    """Replay a schedule, and write its page; an existing file is replaced at once, never half.

    Args:
        path: the file.
        again: replays the schedule.
        known: the outcome of the schedule, if it is known.
        verdict: one sentence about the whole exploration.
        remarks: the sentences below it.
        values: whether values are shown; without them, results and details are left out as well.

    Raises:
        ExploreError: the schedule cannot be followed.
        OutputError: the file could not be written.
    """
    look, trial, note = _replayed(again, known, values)
    text = page(trial, look, verdict, remarks, values=values, note=note)
    half = path.with_name(f".{path.name[:100]}.{os.getpid()}")
    with writing(f'The page could not be written to "{path}"', "name a file in a folder that exists"):
        try:
            half.write_text(text, encoding="utf-8")
            half.replace(path)
        except OSError:
            with suppress(OSError):
                half.unlink()
            raise


def _replayed(again: Again, known: Trial | None, values: bool) -> tuple[Look, Trial, str]:
    """Return a replayed trial, what looked at its state, and a remark about that.

    Texts of values are made by code of the user: where that changes the outcome, the schedule is replayed without.
    """
    without = Look(values=False)
    if not values:
        return without, again(without), "The values were left out of this page."
    if known is None:
        known = again(without)
    look, trial = Look(), None
    with suppress(ExploreError):
        trial = again(look)
        if _outcome(trial) == _outcome(known):
            return look, trial, ""
    plain = again(without)
    if trial is not None and trial.kind == known.kind and _outcome(plain) != _outcome(known):
        return look, trial, ""  # the words of this outcome are others in each run
    return without, plain, "The values are left out: to read them at each step takes too long, or changes what happens."


def _outcome(trial: Trial) -> tuple[str, str]:
    """Return the outcome as far as it is the same in each run."""
    said = trial.detail.partition("\n")[0] if trial.kind == DEADLOCK else trial.detail
    return trial.kind, re.sub(r"0x[0-9a-fA-F]+|[0-9.]+ s\b", "#", said)


def page(trial: Trial, look: Look, verdict: str, remarks: Sequence[str], *, values: bool = True, note: str = "") -> str:
    """Return the page of a replayed trial as HTML.

    Args:
        trial: what its steps have inspected are texts by name (`values.Look`).
        look: made these texts.
        verdict: as for `save`, and so are `remarks` and `values`.
        remarks: as for `save`.
        values: as for `save`.
        note: a remark about the values.
    """
    bodies = look.bodies
    story, template = _Story(trial, look), _TEMPLATE.read_text(encoding="utf-8")
    script = template.partition("<script>")[2].partition("</script>")[0]
    policy = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    schedule = trial.schedule.partition(" |")[0]
    return Template(template).substitute(
        policy=f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{policy}'",
        colours=_colours(),
        title=html(f"{trial.kind}: {', '.join(story.starts())}"),
        kind=html(trial.kind),
        is_right="right" if trial.kind == RIGHT else "wrong",
        meaning=html(KINDS.get(trial.kind, "")),
        verdict=html(verdict),
        schedule=html(schedule),
        full_schedule=html(trial.schedule),
        detail=_detail(trial, bodies, values),
        results=_results(trial, bodies) if values else "",
        remarks="".join(f"<li>{html(remark)}</li>" for remark in [*remarks, *_too_slow(look)]),
        note=f"<p>{html(note)}</p>" if note else "",
        threads=story.threads_html(),
        state=story.state_html(),
        source=story.source_html(),
        steps=story.steps_html(),
        last=story.positions - 1,
        # No "<" can end the element, and the rest is ASCII.
        data=json.dumps(story.data(), separators=(",", ":")).replace("<", "\\u003c").replace("&", "\\u0026"),
    )


def _too_slow(look: Look) -> Iterator[str]:
    if look.too_slow:
        yield f"Takes too long to be shown at each step: {cut(', '.join(look.too_slow))}."


def _colours() -> str:
    badges = [f".t{i} {{ background: {ground}; color: {ink}; }}" for i, (ground, ink) in enumerate(THREADS)]
    return "\n".join([f":root {{ --blue: {BLUE}; --orange: {ORANGE}; }}", *badges])


# --- the outcome ---


def _detail(trial: Trial, bodies: int, values: bool) -> str:
    """Return the outcome in words; without values, only what holds none."""
    first, *stacks = trial.detail.splitlines() or [""]
    if trial.kind == DEADLOCK:
        lines = "\n".join(html(cut(line)) for line in stacks)
        listing = f'<pre class="scrolls" tabindex="0" role="group" aria-label="Stacks">{lines}</pre>' if lines else ""
        more = f"<details><summary>Where each thread stood</summary>{listing}</details>" if lines else ""
        return f"<p>{html(cut(first, 400))}.</p>{more}"
    if trial.kind == RIGHT:
        return ""
    if not values:
        raised = [
            f"{label(i) if i < bodies else 'observe'} raised {type(result).__name__}"
            for i, result in enumerate(trial.results)
            if isinstance(result, BaseException)
        ]
        return f"<p>{html('; '.join(raised))}.</p>" if raised else ""
    said = "; ".join(cut(part) for part in trial.detail.split("; ", 3)[:3])  # each part holds a value or two
    return f"<p>{html(said)}.</p>"


def _results(trial: Trial, bodies: int) -> str:
    rows = []
    for i, result in enumerate(trial.results):
        who = _badge(label(i)) if i < bodies else "observed at the end"
        what = "raised" if isinstance(result, BaseException) else "returned"
        what = f"{what} " if i < bodies else ""
        rows.append(f"<li>{who} {what}<code>{html(brief_afterwards(result))}</code></li>")
    return f'<ul class="plain">{"".join(rows)}</ul>' if rows and trial.kind != DEADLOCK else ""


# --- the functions of the source ---


def _shown_lines(function: Function, ran: set[int]) -> list[int]:
    if len(function.lines) <= _WHOLE:
        return list(function.lines)
    near = {line for at in ran for line in range(at - _AROUND, at + _AROUND + 1)}
    return sorted({function.lines.start} | near & set(function.lines))


def _file(path: str) -> str:
    return "a cell of a notebook" if _CELL.match(Path(path).parent.name) else Path(path).name


# --- the steps ---


class _Story:
    """A replayed schedule. Its positions are the moments before each watched line, and the end."""

    def __init__(self, trial: Trial, look: Look) -> None:
        self.trial = trial
        known = [label(i) for i in range(look.bodies)]
        named = {step.thread for step in trial.steps} | set(trial.waits) | {w for s in trial.steps for w in s.waits}
        self.threads = [*known, *sorted(named - set(known), key=lambda name: (len(name), name))]
        last = trial.inspected if isinstance(trial.inspected, dict) else None
        states = [_as_texts(step.inspected) for step in trial.steps]
        self.states = [*states, _as_texts(last) if last is not None else (states[-1] if states else {})]
        self.kept = self._kept()
        different = list({id(state): state for state in self.states}.values())  # most steps share theirs
        names = dict.fromkeys(name for state in different for name in state if name not in look.too_slow)
        changing = {name for name in names if len({state.get(name) for state in different}) > 1}
        self.names = [name for name in names if name in changing] + [name for name in names if name not in changing]
        self.changing = len(changing)
        self.functions: dict[Function, set[int]] = {}
        for step in trial.steps:
            self.functions.setdefault(function_of(step.where), set()).add(step.where.line)
        self.line_ids: dict[tuple[str, int], int] = {}
        for function, ran in self.functions.items():
            for line in _shown_lines(function, ran):
                self.line_ids.setdefault((function.file, line), len(self.line_ids))
        self._places = self._all_places()

    @property
    def positions(self) -> int:
        """The number of moments that the page shows."""
        return len(self.kept)

    def _kept(self) -> list[int]:
        """Return the positions to show: all, or of a very long schedule those around each change and both ends."""
        steps, end = self.trial.steps, len(self.trial.steps)
        if end < MOST_STEPS:
            return list(range(end + 1))
        changes = [0, end]
        changes += [i for i in range(1, end) if steps[i].thread != steps[i - 1].thread]
        changes += [i for i in range(1, end) if self.states[i] is not self.states[i - 1]]
        near = max(1, MOST_STEPS // (2 * len(changes)))
        kept = {at for i in changes for at in range(max(0, i - near), min(end, i + near) + 1)}
        return sorted(kept)[: MOST_STEPS - 1] + [end]

    def _all_places(self) -> list[list[tuple[str, Where | None, str]]]:
        """Return what each thread does at each position: a sign, its line if it has one, and the same in words."""
        steps, end = self.trial.steps, len(self.trial.steps)
        coming: dict[str, list[Where | None]] = {}
        for thread in self.threads:
            following: Where | None = None
            found: list[Where | None] = [None] * (end + 1)
            for at in range(end - 1, -1, -1):
                following = steps[at].where if steps[at].thread == thread else following
                found[at] = following
            coming[thread] = found
        before: dict[str, Where | None] = dict.fromkeys(self.threads)
        places = []
        for at in range(end + 1):
            places.append([self._place(thread, at, before[thread], coming[thread][at]) for thread in self.threads])
            if at < end:
                before[steps[at].thread] = steps[at].where
        return places

    def _place(self, thread: str, at: int, before: Where | None, coming: Where | None) -> tuple[str, Where | None, str]:
        if at == len(self.trial.steps):
            if thread in self.trial.waits:
                return WAITS, before, f"waits for ever{_at(before, ' in')}"
            return ENDED, None, "has ended" if self.trial.kind != DEADLOCK else "does not go on"
        step = self.trial.steps[at]
        if step.thread == thread:
            return RUNS, step.where, f"has the turn, and is about to run{_at(step.where)}"
        if thread in step.waits:
            what = dict(zip(step.waits, step.awaited, strict=False)).get(thread, "")
            return WAITS, before, f"waits{_at(before, ' in')}{f', for {what}' if what else ''}"
        if before is None:
            return NEW, None, "has not begun"
        if coming is None:
            return ENDED, None, "has run its last watched line"
        return STOPPED, coming, f"is stopped before{_at(coming)}"

    def starts(self) -> list[str]:
        """Return the first function of each thread, as in "A runs add"."""
        first: dict[str, str] = {}
        for step in self.trial.steps:
            first.setdefault(step.thread, step.where.function)
        return [f"{thread} runs {first[thread]}" for thread in self.threads if thread in first]

    def changed(self, at: int) -> list[tuple[str, str, str]]:
        """Return what changed in the step before a position: name, the text before, and the text now."""
        before, now = self.states[max(at - 1, 0)], self.states[at]
        if before is now:
            return []
        return [
            (name, before.get(name, _NOTHING), now.get(name, _NOTHING))
            for name in self.names
            if before.get(name) != now.get(name) and UNREADABLE not in now.get(name, "")
        ]

    # --- as data for the script

    def data(self) -> dict[str, Any]:
        """Return the texts, and for each position the numbers of those that it shows.

        A position is [[sign, line, text] of each thread, [name, text] of each part of the state that is another one
        than at the position before, [name, text before] of those that the last step changed, text of the step].
        """
        texts: dict[str, int] = {}

        def number(text: str) -> int:
            return texts.setdefault(seen(text), len(texts))

        shown: dict[str, str] = {}
        positions = []
        for at in self.kept:
            threads = [
                [sign, -1 if where is None else self.line_ids[where.file, where.line], number(words)]
                for sign, where, words in self._places[at]
            ]
            state = self.states[at]
            updates = [
                [i, number(state.get(name, _NOTHING))]
                for i, name in enumerate(self.names)
                if shown.get(name) != state.get(name, _NOTHING)
            ]
            shown = {name: state.get(name, _NOTHING) for name in self.names}
            marks = [[self.names.index(name), number(before)] for name, before, _ in self.changed(at)]
            positions.append([threads, updates, marks, number(self._sentence(at))])
        return {"threads": self.threads, "texts": list(texts), "positions": positions}

    def _sentence(self, at: int) -> str:
        steps = self.trial.steps
        changes = [f"{name}: {before} → {now}" for name, before, now in self.changed(at)]
        if len(changes) > 1 or any(len(change) > _SENTENCE for change in changes):
            changes = [name for name, _, _ in self.changed(at)]
        more = f" and {len(changes) - 3} more" if len(changes) > 3 else ""
        told = f" {steps[at - 1].thread} changed {', '.join(changes[:3])}{more}." if changes else ""
        if at == len(steps):
            return f"The end, after {len(steps)} steps.{told}"
        return f"Step {at + 1} of {len(steps)}.{told}"

    # --- as HTML

    def threads_html(self) -> str:
        """Return one line for each thread."""
        return "".join(
            f"<li>{_badge(thread)} <span>{html(words)}</span></li>"
            for thread, (_, _, words) in zip(self.threads, self._places[0], strict=True)
        )

    def state_html(self) -> str:
        """Return the tables of the shared state at its beginning: what changes, and then what does not."""
        if not self.names:
            return '<p class="quiet">No values are shown.</p>'
        rows = [
            f'<tr><th scope="row">{html(name)}</th><td>{html(self.states[0].get(name, _NOTHING))}</td><td></td></tr>'
            for name in self.names
        ]
        first = self.changing or min(len(rows), _FEW)
        tables = _table(rows[:first], "Shared state")
        if rest := rows[first:]:
            words = f"{len(rest)} part{'s' * (len(rest) > 1)} of it did not change"
            tables += f"<details><summary>{words}</summary>{_table(rest, 'The same at every step')}</details>"
        return tables

    def source_html(self) -> str:
        """Return the functions that ran."""
        return "".join(self._listing(function, ran) for function, ran in self.functions.items())

    def _listing(self, function: Function, ran: set[int]) -> str:
        shown = _shown_lines(function, ran)
        first = linecache.getline(function.file, function.lines.start)
        indent = first[: len(first) - len(first.lstrip())]
        rows = []
        for before, line in pairwise([shown[0] - 1, *shown]):
            if line > before + 1:
                rows.append('<div class="gap">⋮</div>')
            text = linecache.getline(function.file, line).rstrip().removeprefix(indent)
            known = text or next((s.where.text for s in self.trial.steps if s.where.line == line), "")
            kind = "line" if line in ran else "line idle"
            rows.append(
                f'<div class="{kind}" data-line="{self.line_ids[function.file, line]}"><span class="marks"></span>'
                f'<span class="number">{line}</span><code>{html(cut(known, 400))}</code></div>'
            )
        head = f"{_file(function.file)}, {function.name}"
        return (
            f'<section class="listing"><h3>{html(head)}</h3><div class="scrolls" tabindex="0" role="group" '
            f'aria-label="{html(head)}">{"".join(rows)}</div></section>'
        )

    def steps_html(self) -> str:
        """Return all steps as the items of an ordered list, each with the changes that it makes."""
        return "".join(self._items())

    def _items(self) -> Iterator[str]:
        previous = -1
        for at in self.kept:
            left_out = at - previous - 1
            previous = at
            if left_out:
                yield f'<li class="gap" value="{at}">({left_out} steps left out, without a switch or a change)</li>'
            if at == len(self.trial.steps):
                return
            step = self.trial.steps[at]
            changes = "".join(
                f"<li>{html(name)}: <code>{html(before)}</code> → <code>{html(now)}</code></li>"
                for name, before, now in self.changed(at + 1)
            )
            waiting = "".join(f" {_badge(name)} waits." for name in step.waits if name != step.thread)
            where = f"{_file(step.where.file)}, line {step.where.line} of {step.where.function}"
            yield (
                f'<li value="{at + 1}">{_badge(step.thread)} <code>{html(cut(step.where.text))}</code> '
                f"<small>{html(where)}</small>{waiting}{f'<ul>{changes}</ul>' if changes else ''}</li>"
            )


def _as_texts(inspected: Any) -> dict[str, str]:
    if isinstance(inspected, dict):
        return inspected
    return {} if inspected is None else {"state": cut(f"(not readable: {type(inspected).__name__})")}


def _at(where: Where | None, word: str = "") -> str:
    return "" if where is None else f"{word} line {where.line} of {where.function}"


def _table(rows: Sequence[str], name: str) -> str:
    head = "".join(f'<th scope="col">{word}</th>' for word in ("name", "now", "before this step"))
    return f'<table aria-label="{name}"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def _badge(thread: str) -> str:
    digits = "".join(filter(str.isdecimal, thread))  # workers are W1, W2, ...
    number = int(digits) + 1 if digits else ord(thread[0]) - ord("A")
    return f'<b class="badge t{number % len(THREADS)}">{html(thread)}</b>'
