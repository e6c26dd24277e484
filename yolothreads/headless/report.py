"""HTML report of executed notebooks: one page per notebook, and an index with the verdict on each claim.

The pages open from disk and need no network: they contain their styles and pictures. In place of a live panel they
show the sentence, table and figure that the panel leaves behind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cache
from html import escape
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolothreads.errors import writing
from yolothreads.headless.notebooks import NotebookRun
from yolothreads.lessons import CLAIMS
from yolothreads.measure import stamp

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
    pages = {"index": _index(runs)}
    names = [run.notebook for run in runs]
    for run, before, after in zip(runs, [None, *names], [*names[1:], None], strict=False):
        pages[run.notebook] = _page(run, executed, names, {"Previous": before, "Next": after})
    make_folder(out)
    with _writing_to(out):
        for name, page in pages.items():
            half = out / f"{name}.html.part"  # so that a browser never loads half a page
            half.write_text(page, encoding="utf-8")
            half.replace(out / f"{name}.html")
    return out / "index.html"


def _index(runs: Sequence[NotebookRun]) -> str:
    stamps = list(dict.fromkeys(str(v["stamp"]) for run in runs for v in run.verdicts if "stamp" in v)) or [stamp()]
    body = _environment().get_template("index.html.j2").render(runs=runs, claim_text=_claim_text, stamps=stamps)
    return _whole("yolothreads: the results of this run", body, "", is_index=True)


def _claim_text(verdict: Mapping[str, Any]) -> str:
    claim = CLAIMS.get(str(verdict.get("claim")))
    return claim.says if claim else str(verdict.get("claim"))


def _page(run: NotebookRun, executed: Path, names: Sequence[str], neighbours: Mapping[str, str | None]) -> str:
    file = executed / f"{run.notebook}.ipynb"
    problem = (
        ""
        if run.ok
        else f'<p class="failed"><strong>This notebook did not run to its end.</strong> {escape(run.error)}</p>'
    )
    body = _inside(file, names) if file.is_file() else f"<h1>{escape(run.notebook)}</h1>"
    links = [(label, name) for label, name in neighbours.items() if name]
    about = f"{run.seconds:.1f} s. " + next((str(v["stamp"]) for v in run.verdicts if "stamp" in v), "")
    return _whole(run.notebook.replace("_", " "), problem + body, about, neighbours=links)


def _whole(title: str, body: str, stamped: str, **more: Any) -> str:
    from markupsafe import Markup

    page = _environment().get_template("page.html.j2")
    given = {"neighbours": [], "is_index": False, "version": version("yolothreads"), **more}
    return page.render(title=title, body=Markup(body), style=Markup(_style()), stamp=stamped, **given)


def _inside(file: Path, names: Sequence[str]) -> str:
    """Return the cells of an executed notebook as HTML."""
    import nbformat
    from bs4 import BeautifulSoup
    from nbconvert import HTMLExporter
    from traitlets.config import Config

    config = Config({"NbConvertBase": {"display_data_priority": _SHOWN}})
    folders = [str(_TEMPLATES)]
    exporter = HTMLExporter(config=config, template_name="report", extra_template_basedirs=folders)  # type: ignore[no-untyped-call]
    exporter.exclude_anchor_links = True
    body, _ = exporter.from_notebook_node(_without_live_outputs(nbformat.read(file, as_version=4)))
    soup = BeautifulSoup(body, "html.parser")
    _relink(soup, names)
    _make_accessible(soup)
    return str(soup)


def _without_live_outputs(notebook: NotebookNode) -> NotebookNode:
    """Remove outputs that only a live notebook can show, and the cells in which papermill notes an error."""
    notebook.cells = [c for c in notebook.cells if _PAPERMILL_NOTE not in c.metadata.get("tags", [])]
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if _can_be_shown(output.get("data"))]
    return notebook


def _can_be_shown(data: Mapping[str, Any] | None) -> bool:
    # The text of a live output only names a Python object.
    return data is None or not _LIVE & set(data) or bool({"text/html", "image/png"} & set(data))


def _relink(soup: BeautifulSoup, names: Sequence[str]) -> None:
    """Make links to notebooks lead to their pages, and turn other relative links into plain text."""
    for link in soup.find_all("a", href=True):
        target = str(link["href"]).partition("#")[0]
        if target.endswith(".ipynb") and Path(target).stem in names:
            link["href"] = f"{Path(target).stem}.html"
        elif target and "://" not in target:
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
def _environment() -> Any:
    from jinja2 import Environment, FileSystemLoader

    return Environment(loader=FileSystemLoader(_TEMPLATES), autoescape=True, trim_blocks=True)


@cache
def _style() -> str:
    from pygments.formatters import HtmlFormatter

    light, dark = (HtmlFormatter(style=name).get_style_defs(".highlight") for name in (_LIGHT, _DARK))
    own = (_TEMPLATES / "page.css").read_text(encoding="utf-8")
    return f"{light}\n@media (prefers-color-scheme: dark) {{ {dark} }}\n.highlight {{ background: none; }}\n{own}"


def _writing_to(out: Path) -> AbstractContextManager[None]:
    return writing(f'The report could not be written to "{out}"', "choose another folder")
