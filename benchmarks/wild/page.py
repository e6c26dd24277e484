"""docs/in_the_wild.md: the text between its markers is made from the results, the programs and the repairs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from benchmarks.wild import BUGS, KINDS
from benchmarks.wild.bug import BUGGY, FIXED, REPAIRED, Bug
from benchmarks.wild.packages import REPAIRS
from benchmarks.wild.result import EXPLORER, FAILED, FRONTRUN, TOOLS, Result, Results
from benchmarks.wild.runs import ROOT
from yolothreads.tables import Table

PAGE = ROOT / "docs" / "in_the_wild.md"
PROGRAMS = Path(__file__).with_name("programs")
_HEADERS = ("package", "explorer: buggy", "explorer: fixed", "frontrun: buggy", "frontrun: fixed")


def filled(text: str, results: Results) -> str:
    """Return the page with everything between `<!-- name -->` and `<!-- end of name -->` made anew."""

    def made(match: re.Match[str]) -> str:
        name = match[1]
        return f"<!-- {name} -->\n{_part(name, results)}\n<!-- end of {name} -->"

    return re.sub(r"<!-- ([\w ]+) -->\n.*?<!-- end of \1 -->", made, text, flags=re.DOTALL)


def _part(name: str, results: Results) -> str:
    what, _, bug = name.partition(" ")
    if what == "program":
        return f"```python\n{(PROGRAMS / f'show_{bug}.py').read_text('utf-8').rstrip()}\n```"
    if what == "repair":
        diff = (REPAIRS / BUGS[bug].repair).read_text("utf-8").rstrip()
        return f"```diff\n{diff}\n```\n\n{_repaired(BUGS[bug], results)}"
    return {"summary": summary, "table": table, "bugs": described}[what](results)


def _repaired(bug: Bug, results: Results) -> str:
    found = [(tool, results.get(bug.name, REPAIRED, tool)) for tool in TOOLS]
    return "With it: " + "; ".join(f"{tool}: {result or 'not run'}" for tool, result in found) + "."


def table(results: Results) -> str:
    """Return one row per bug: both tools on both versions."""
    rows = []
    for bug in BUGS.values():
        cells = [_cell(bug, version, results.get(bug.name, version, t)) for t in TOOLS for version in (BUGGY, FIXED)]
        rows.append((f"[{bug.name.replace('_', ' ')}](#{_anchor(bug)}){_bound(bug)}", *cells))
    return Table(_HEADERS, rows).to_markdown()


def _anchor(bug: Bug) -> str:
    return next(kind for kind, bugs in KINDS.items() if bug.name in bugs).lower().replace(",", "").replace(" ", "-")


def _bound(bug: Bug) -> str:
    return f", {bug.preemptions} preemptions" if bug.preemptions > 1 else ""


def _cell(bug: Bug, version: str, result: Result | None) -> str:
    if version not in bug.packages:
        return "-"
    return "not run" if result is None else str(result)


def summary(results: Results) -> str:
    """Return who found how many, what both missed, alarms on fixed versions, and the machine."""
    buggy = {bug: {tool: results.get(bug, BUGGY, tool) for tool in TOOLS} for bug in BUGS}
    ran = {bug: of for bug, of in buggy.items() if all(of.values())}
    found = {tool: {bug for bug, of in ran.items() if (r := of[tool]) is not None and r.found} for tool in TOOLS}
    ours, its = found[EXPLORER], found[FRONTRUN]
    failed = {bug for bug, of in ran.items() if any(r is not None and r.says == FAILED for r in of.values())}
    alarms = [bug for bug in BUGS if (r := results.get(bug, FIXED, EXPLORER)) is not None and r.found]
    lines = [
        f"* {len(ran)} races were run with both tools. The explorer found {len(ours)} and frontrun {len(its)}.",
        f"* Only the explorer found: {_names(ours - its)}.",
        f"* Only frontrun found: {_names(its - ours)}.",
        f"* Both missed: {_names(set(ran) - ours - its - failed)}.",
        f"* Versions that are said to be fixed, and in which the explorer still found a race: {_names(alarms)}.",
        f"* Could not be run: {'; '.join(_failures(results)) or 'none'}.",
        f"* Measured on: {'; '.join(sorted({r.stamp for r in results.by_key.values() if r.stamp})) or 'not yet'}.",
    ]
    return "\n".join(lines)


def _names(bugs: set[str] | list[str]) -> str:
    return ", ".join(name.replace("_", " ") for name in BUGS if name in bugs) or "none"


def _failures(results: Results) -> Iterator[str]:
    for result in results.by_key.values():
        if result.says == FAILED and result.bug in BUGS:
            name = result.bug.replace("_", " ")
            yield f"{result.tool} on {name} {BUGS[result.bug].release(result.version)} ({result.note})"


def described(results: Results) -> str:
    """Return every bug in words, by kind, with the first bad outcome that the explorer found."""
    out = []
    for kind, bugs in KINDS.items():
        out += [f"### {kind}", ""]
        for bug in bugs.values():
            releases = ", ".join(f"{v} {bug.release(v)}" for v in (BUGGY, FIXED) if v in bug.packages and bug.pins(v))
            found = results.get(bug.name, BUGGY, EXPLORER)
            shown = f" An outcome: `{found.detail.replace('`', chr(39))}`" if found is not None and found.detail else ""
            name = bug.name.replace("_", " ")
            link = "report" if re.search(r"\d+$", bug.report) else "project"
            out.append(f"* **{name}** ({releases or 'of Python'}; [{link}]({bug.report})): {bug.what}{shown}")
        out.append("")
    return "\n".join(out).rstrip()


def write(results: Results, page: Path = PAGE) -> None:
    """Write the page anew."""
    page.write_text(filled(page.read_text("utf-8"), results), "utf-8")
