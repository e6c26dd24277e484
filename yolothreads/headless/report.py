"""HTML report of executed notebooks: one page per notebook, and an index with the verdict on each claim.

The pages open from disk and need no network: they contain their styles and pictures. In place of a live panel they
show the sentence, table and figure that the panel leaves behind. A cell whose exploration found a bad schedule gets a
link to the page of that schedule.
"""

from __future__ import annotations

import shutil
from collections.abc import Container, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from functools import cache
from html import escape
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolothreads import measure
from yolothreads.errors import writing
from yolothreads.headless.notebooks import NotebookRun
from yolothreads.lessons import CLAIMS

if TYPE_CHECKING:
    from bs4 import BeautifulSoup
    from nbformat import NotebookNode

_TEMPLATES = Path(__file__).parent / "templates"
_SHOWN = ["text/html", "image/png", "text/plain"]  # the first of these that an output has
_LIVE = {"application/vnd.jupyter.widget-view+json", "application/javascript"}  # shown only by a live notebook
_PAPERMILL_NOTE = "papermill-error-cell-tag"
_LIGHT, _DARK = "xcode", "github-dark"  # styles of pygments


def make_folder(out: Path) -> None:
    """Make the folder for the pages. Call this before a run of several minutes too, to fail early.

    Raises:
        OutputError: the folder cannot be made.
    """
    with _writing_to(out):
        out.mkdir(parents=True, exist_ok=True)


def write(runs: Sequence[NotebookRun], executed: Path, out: Path) -> Path:
    """Write one page per notebook and `index.html`, and return the path of the index.

    Pages with the same names are overwritten. Pages of other notebooks stay, but the index does not list them.

    Args:
        runs: the results.
        executed: the folder of the executed notebooks.
        out: the folder for the pages; it is made if necessary.

    Raises:
        OutputError: a page could not be written.
    """
    stamps = list(dict.fromkeys(stamp for run in runs for stamp in _stamps(run))) or [measure.stamp()]
    title = "yolothreads: the results of this run"
    pages = {"index": _render("index.html.j2", title=title, runs=runs, claims=CLAIMS, stamps=stamps)}
    names = [run.notebook for run in runs]
    for run, before, after in zip(runs, ["", *names], [*names[1:], ""], strict=False):
        pages[run.notebook] = _page(run, executed, names, {"Previous": before, "Next": after})
    make_folder(out)
    with _writing_to(out):
        for name, page in pages.items():
            half = out / f"{name}.html.part"  # so that a browser never loads half a page
            half.write_text(page, encoding="utf-8")
            half.replace(out / f"{name}.html")
        for run in runs:
            for name, saved in _links(run).items():
                shutil.copyfile(saved, out / name)
    return out / "index.html"


def _stamps(run: NotebookRun) -> list[str]:
    return [str(verdict["stamp"]) for verdict in run.verdicts if "stamp" in verdict]


def _page(run: NotebookRun, executed: Path, names: Sequence[str], neighbours: Mapping[str, str]) -> str:
    file = executed / f"{run.notebook}.ipynb"
    body = _inside(file, names, _links(run)) if file.is_file() else f"<h1>{escape(run.notebook)}</h1>"
    title, stamp = run.notebook.replace("_", " "), next(iter(_stamps(run)), "")
    return _render("page.html.j2", title=title, run=run, body=body, stamp=stamp, neighbours=neighbours)


def _links(run: NotebookRun) -> dict[str, Path]:
    """Return the pages of the schedules of a notebook, by the names that they get in the folder of the report."""
    return {f"{run.notebook}_schedule_{i}.html": page for i, page in enumerate(run.pages, start=1)}


def _render(template: str, **given: Any) -> str:
    from jinja2 import Environment, FileSystemLoader

    environment = Environment(loader=FileSystemLoader(_TEMPLATES), autoescape=True, trim_blocks=True)
    return environment.get_template(template).render(version=version("yolothreads"), style=_style(), **given)


def _inside(file: Path, names: Sequence[str], links: Mapping[str, Path]) -> str:
    """Return the cells of an executed notebook as HTML."""
    import nbformat
    from bs4 import BeautifulSoup
    from nbconvert import HTMLExporter
    from traitlets.config import Config

    given = {"template_name": "report", "extra_template_basedirs": [str(_TEMPLATES)], "exclude_anchor_links": True}
    config = Config({"NbConvertBase": {"display_data_priority": _SHOWN}, "HTMLExporter": given})
    exporter = HTMLExporter(config=config)  # type: ignore[no-untyped-call]
    notebook = nbformat.read(file, as_version=4)
    _remove_live_outputs(notebook)
    for name, page in links.items():
        _add_link(notebook, name, page)
    soup = BeautifulSoup(exporter.from_notebook_node(notebook)[0], "html.parser")
    _relink(soup, names, links)
    _make_accessible(soup)
    return str(soup)


def _remove_live_outputs(notebook: NotebookNode) -> None:
    """Remove outputs that only a live notebook can show, and the cells in which papermill notes an error."""
    notebook.cells = [c for c in notebook.cells if _PAPERMILL_NOTE not in c.metadata.get("tags", [])]
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if _can_be_shown(output.get("data", {}))]


def _can_be_shown(data: Mapping[str, Any]) -> bool:
    # The text of a live output only names a Python object.
    return not _LIVE & set(data) or bool({"text/html", "image/png"} & set(data))


def _add_link(notebook: NotebookNode, name: str, page: Path) -> None:
    """Add a link to the page of a schedule to the output of the cell that explored, or else of the last cell."""
    from nbformat.v4 import new_output

    saved = int(page.name.partition("_")[0]) / 1e9  # seconds since 1970
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    at = next((cell for cell in cells if _ended(cell) >= saved), cells[-1])
    title = page.read_text(encoding="utf-8").partition("<title>")[2].partition("</title>")[0]
    html = f'<p class="schedule"><a href="{escape(name)}">Step by step: {title}</a></p>'
    at.outputs.append(new_output("display_data", {"text/html": html}))


def _ended(cell: NotebookNode) -> float:
    """Return when a cell ended, in seconds since 1970; 0 for one that did not run."""
    text = cell.metadata.get("papermill", {}).get("end_time")
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() if text else 0.0


def _relink(soup: BeautifulSoup, names: Sequence[str], links: Container[str]) -> None:
    """Make links to notebooks lead to their pages, and turn other relative links into plain text."""
    for link in soup.find_all("a", href=True):
        target = str(link["href"]).partition("#")[0]
        if target.endswith(".ipynb") and Path(target).stem in names:
            link["href"] = f"{Path(target).stem}.html"
        elif target and "://" not in target and target not in links:
            link.unwrap()


def _make_accessible(soup: BeautifulSoup) -> None:
    """Let the keyboard scroll wide parts, and say for each header cell of a table that it heads a column."""
    for part in soup.select("figcaption pre, .scrolls pre"):
        part["tabindex"] = "0"
    for part in soup.select(".scrolls:has(table)"):
        part.attrs.update(tabindex="0", role="group")
        part["aria-label"] = "Table"
    for header in soup.select("thead th:not([scope])"):
        header["scope"] = "col"


@cache
def _style() -> str:
    from pygments.formatters import HtmlFormatter

    light, dark = (HtmlFormatter(style=name).get_style_defs(".highlight") for name in (_LIGHT, _DARK))
    own = (_TEMPLATES / "page.css").read_text(encoding="utf-8")
    return f"{light}\n@media (prefers-color-scheme: dark) {{ {dark} }}\n.highlight {{ background: none; }}\n{own}"


def _writing_to(out: Path) -> AbstractContextManager[None]:
    return writing(f'The report could not be written to "{out}"', "choose another folder")
