"""A table that shows itself as HTML in a notebook, and as text everywhere else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from yolothreads.errors import need_extra


@dataclass(frozen=True)
class Table:
    """Rows under headers, with a caption: what the numbers are, and the machine that they were measured on."""

    headers: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str = ""

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return one dict per row, keyed by header."""
        return [dict(zip(self.headers, row, strict=True)) for row in self.rows]

    def to_markdown(self) -> str:
        """Return the table as Markdown of GitHub's flavour, for the docs."""
        return self._formatted("github")

    def __str__(self) -> str:
        text = self._formatted("simple")
        return f"{text}\n{self.caption}" if self.caption else text

    __repr__ = __str__

    def _repr_html_(self) -> str:
        html = self._formatted("html").replace("<th>", '<th scope="col">')
        caption = f'<caption style="text-align:left;min-width:24em">{escape(self.caption)}</caption>'
        return html.replace("<table>", f"<table>\n{caption}", 1) if self.caption else html

    def _formatted(self, tablefmt: str) -> str:
        need_extra("A table", "pools")
        from tabulate import tabulate

        return str(tabulate(self.rows, self.headers, tablefmt=tablefmt, disable_numparse=True))
