"""Contents of the stored notebooks: their order, their cells, their claims, their exercises."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

TICK = "✓ "


class StoredClaim(NamedTuple):
    """A claim in the output of a cell: the place of its paragraph, and what it says."""

    anchor: str
    statement: str


def read_notebook(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def code_cells(notebook: dict) -> list[dict]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def claim_anchor(cell_id: str, number: int) -> str:
    """Return the id that the claim of this number in this cell has in the page."""
    return f"claim-{cell_id}-{number}"


def stored_claims(notebook: dict) -> list[StoredClaim]:
    """Return the claims in the stored outputs, in the order in which they are read."""
    return [
        StoredClaim(claim_anchor(cell["id"], number), statement)
        for cell in code_cells(notebook)
        for number, statement in enumerate(_claims_of(cell), start=1)
    ]


def _claims_of(cell: dict) -> list[str]:
    printed = [
        "".join(output["text"]) for output in cell["outputs"] if output.get("name") == "stdout"
    ]
    lines = "\n".join(printed).splitlines()
    return [line.removeprefix(TICK) for line in lines if line.startswith(TICK)]


def title_of(notebook: dict) -> str:
    """Return the first heading."""
    for cell in notebook["cells"]:
        for line in "".join(cell["source"]).splitlines():
            if cell["cell_type"] == "markdown" and line.startswith("# "):
                return line.removeprefix("# ").strip()
    raise ValueError("title_of: expected a notebook with a heading of the first level, found none")


def chapters(env) -> dict[str, Path]:
    """Return the notebooks of the numbered part of the table of contents, by their pages' names.

    The page that is being read is made to depend on them.
    """
    parts = env.config.external_site_map.root.subtrees
    return _notebooks(env, (name for part in parts if part.numbered for name in part.items))


def all_notebooks(env) -> dict[str, Path]:
    """Return the notebooks of the whole table of contents, as ``chapters`` does."""
    return _notebooks(env, env.config.external_site_map)


def _notebooks(env, names: Iterable[str]) -> dict[str, Path]:
    found = {}
    for name in map(str, names):
        path = Path(env.srcdir) / f"{name}.ipynb"
        if path.is_file():
            env.note_dependency(str(path))
            found[name] = path
    return found
