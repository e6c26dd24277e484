"""Compares the outputs of an executed notebook with those that are stored in the delivered one, as nbval does."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import nbformat
from nbformat import NotebookNode

COMPARED = "nbval-check-output"
# Fields that differ from run to run, or say nothing about what the reader sees. nbval passes over the same ones.
PASSED_OVER = {
    "metadata", "traceback", "prompt_number", "output_type", "name", "execution_count", "data",
    "application/vnd.jupyter.widget-view+json", "image/png", "image/jpeg",
}  # fmt: skip


def is_compared(cell: NotebookNode) -> bool:
    """Whether the output of a cell is compared with the stored one."""
    return COMPARED in cell.metadata.get("tags", [])


def strip_outputs(file: Path, *, keep_compared: bool = False) -> None:
    """Remove the outputs of all cells from a notebook's file, or those of the cells that are not compared."""
    notebook = nbformat.read(file, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code" and not (keep_compared and is_compared(cell)):
            cell.outputs, cell.execution_count = [], None
    nbformat.write(notebook, file)


def differences(executed: NotebookNode, stored: NotebookNode) -> list[str]:
    """Return one sentence per fault: an error in any cell, or a tagged cell whose output is not the stored one."""
    assert [cell.source for cell in executed.cells] == [cell.source for cell in stored.cells]
    found = []
    for number, (ran, kept) in enumerate(zip(executed.cells, stored.cells, strict=True)):
        if ran.cell_type != "code":
            continue
        found += [f"Cell {number} raised {o.ename}: {o.evalue}" for o in ran.outputs if o.output_type == "error"]
        if is_compared(kept):
            if not kept.outputs:
                found.append(f"Cell {number} is tagged, but has no stored output.")
            elif (now := fields(ran.outputs)) != (then := fields(kept.outputs)):
                found.append(f"Cell {number} gave {now}, but this is stored: {then}")
    return found


def fields(outputs: Iterable[NotebookNode]) -> dict[str, list[str]]:
    """Return the contents of outputs by the kind of field: each stream as one text, and all data by their type."""
    found = defaultdict(list)
    streams: dict[str, str] = defaultdict(str)
    for output in outputs:
        if output.output_type == "stream":
            streams[output.name] += output.text
            continue
        for key, value in {**output, **output.get("data", {})}.items():
            if key not in PASSED_OVER:
                found[key].append("".join(value) if isinstance(value, list) else value)
    return {**found, **{name: [text] for name, text in streams.items()}}
