"""Our output comparer and nbval accept the same sound notebook and refuse the same three faults."""

import copy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from comparer import COMPARED, differences
from deadlines import scaled
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook


def delivered() -> NotebookNode:
    """Return a notebook with an untagged cell and a tagged one, whose output is stored."""
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    cells = [new_code_cell("number = 2"), new_code_cell("print(number)", metadata={"tags": [COMPARED]})]
    notebook = new_notebook(cells=cells, metadata={"kernelspec": kernel})
    NotebookClient(notebook, timeout=scaled(60)).execute()
    notebook.cells[0].outputs, notebook.cells[0].execution_count = [], None
    return notebook


def changed_output(notebook: NotebookNode) -> None:
    notebook.cells[1].outputs[0].text = "3\n"


def missing_output(notebook: NotebookNode) -> None:
    notebook.cells[1].outputs = []


def error_in_an_untagged_cell(notebook: NotebookNode) -> None:
    notebook.cells[0].source = "number = 2\n1 / 0"


def no_fault(notebook: NotebookNode) -> None:
    pass


FAULTS = (changed_output, missing_output, error_in_an_untagged_cell)


def accepted_by_comparer(stored: NotebookNode) -> bool:
    """Return whether our comparer accepts a notebook."""
    executed = copy.deepcopy(stored)
    NotebookClient(executed, timeout=scaled(60), allow_errors=True).execute()
    return not differences(executed, stored)


def accepted_by_nbval(stored: NotebookNode, file: Path) -> bool:
    """Return whether nbval accepts a notebook."""
    nbformat.write(stored, file)
    options = ["-m", "pytest", "-q", "--nbval-lax", "-p", "no:cacheprovider", "-p", "no:frontrun", "--rootdir", "."]
    done = subprocess.run(
        [sys.executable, *options, file.name], cwd=file.parent, capture_output=True, timeout=scaled(120), check=False
    )
    assert done.returncode in (0, 1), done.stdout
    return done.returncode == 0


@pytest.fixture(scope="module")
def stored() -> NotebookNode:
    return delivered()


@pytest.mark.timeout(240)
@pytest.mark.parametrize("fault", [no_fault, *FAULTS], ids=lambda fault: fault.__name__)
def test_both_accept_a_sound_notebook_and_refuse_each_fault(
    fault: Callable[[NotebookNode], None], stored: NotebookNode, tmp_path: Path
) -> None:
    notebook = copy.deepcopy(stored)
    fault(notebook)
    sound = fault is no_fault
    assert accepted_by_comparer(notebook) is sound
    assert accepted_by_nbval(notebook, tmp_path / "small.ipynb") is sound
