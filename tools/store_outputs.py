"""Executes lessons and stores the outputs of the cells that tests compare; strips all other outputs.

    python tools/store_outputs.py [NOTEBOOK...]     # all of notebooks/ by default

The tests compare the cells that are tagged `nbval-check-output`. Read the difference before you commit it, because
every later run is compared with the stored outputs.
"""

import argparse
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
COMPARED = "nbval-check-output"


def store(path: Path) -> None:
    """Execute one notebook in its folder and write it back with the outputs of the compared cells only."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": path.parent}}).execute()
    for cell in notebook.cells:
        if cell.cell_type == "code" and COMPARED not in cell.metadata.get("tags", []):
            cell.outputs, cell.execution_count = [], None
        cell.metadata.pop("execution", None)
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    nbformat.write(notebook, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="*", type=Path, default=sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb")))
    for path in parser.parse_args().notebooks:
        store(path)
        print(f"{path.name}: outputs stored")


if __name__ == "__main__":
    main()
