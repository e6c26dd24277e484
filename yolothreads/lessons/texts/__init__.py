"""The sentences, titles and labels that code cells show, kept apart from the code so that they can be translated.

Each notebook has a file here, `NN.toml`; `panels.toml` has a section for each part of the panels, `exercises.toml` for
each exercise, and `claims.toml` for each claim. A key names a sentence with named fields, `{bad:d} of {all:d} went
wrong`, or, for `table`, a section with the headers of its columns and a caption.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from yolothreads.errors import ArgumentError
from yolothreads.tables import Table

_FOLDER = Path(__file__).parent


def text(key: str, **fields: Any) -> str:
    """Return one sentence or label of a notebook.

    Args:
        key: the number of the notebook and the name of the sentence: "08.capacity".
        **fields: the value of each field that the sentence names.

    Raises:
        ArgumentError: there is no such sentence, or a field is missing or cannot be formatted as the sentence asks.
    """
    return _filled(key, _entry(key, str), fields)


def say(key: str, **fields: Any) -> None:
    """Print one sentence of a notebook; takes and raises what `text` does."""
    print(text(key, **fields))


def table(key: str, rows: Sequence[Sequence[Any]], stamp: str = "", **fields: Any) -> Table:
    """Make a table of a notebook, with the headers and the caption that stand under its key.

    Args:
        key: the number of the notebook and the name of the table: "08.policies".
        rows: one row per item, each with one cell per header.
        stamp: device, cores and versions, which follow the caption.
        **fields: the value of each field that the caption names.

    Raises:
        ArgumentError: there is no such table, a row has another number of cells, or a field is missing.
    """
    entry = _entry(key, dict)
    headers = entry["headers"]
    if any(len(row) != len(headers) for row in rows):
        raise ArgumentError(f'The table "{key}" has {len(headers)} columns; give each row as many cells.')
    caption = _filled(key, entry.get("caption", ""), fields)
    return Table(headers, rows, " ".join(filter(None, (caption, stamp))))


def section(file: str, name: str) -> dict[str, Any]:
    """Return the texts of one section of a file, unfilled: key -> sentence with named fields, or list of headers."""
    return sections(file)[name]


@lru_cache
def sections(file: str) -> dict[str, Any]:
    """Return the contents of a file, "08" or "claims": its sections, or its single sentences, by their names.

    Raises:
        ArgumentError: there is no such file.
    """
    place = _FOLDER / f"{file}.toml"
    if not place.is_file():
        raise ArgumentError(f'There are no texts of a notebook "{file}"; begin the key with its number, as "08.".')
    return tomllib.loads(place.read_text(encoding="utf-8"))


def _entry(key: str, kind: type) -> Any:
    notebook, _, name = key.partition(".")
    entry = sections(notebook).get(name)
    if not isinstance(entry, kind):
        what = "table" if kind is dict else "sentence"
        raise ArgumentError(f'There is no {what} "{name}" in texts/{notebook}.toml; add it there, or check the name.')
    return entry


def _filled(key: str, sentence: str, fields: dict[str, Any]) -> str:
    try:
        return sentence.format(**fields)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ArgumentError(f'The text "{key}" cannot be filled in ({error!r}); give all its fields.') from error
