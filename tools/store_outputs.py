"""Executes lessons and stores the outputs of the cells that tests compare; strips all other outputs.

    python tools/store_outputs.py [NOTEBOOK...]     # all of notebooks/ by default

The tests compare the cells that are tagged `nbval-check-output`. Read the difference before you commit it, because
every later run is compared with the stored outputs.
"""

import argparse
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "notebooks"
sys.path.insert(0, str(ROOT / "tests"))

from comparer import strip_outputs  # noqa: E402


def store(path: Path) -> None:
    """Execute one notebook in its folder and write it back with the outputs of the compared cells only."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": path.parent}}).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    nbformat.write(notebook, path)
    strip_outputs(path, keep_compared=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="*", type=Path, default=sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb")))
    for path in parser.parse_args().notebooks:
        store(path)
        print(f"{path.name}: outputs stored")


if __name__ == "__main__":
    main()
