"""The layers of the packages and their imports, read from the source, and the picture of them.

``python tools/architecture.py`` draws ``book/_static/architecture.svg``; tests/test_architecture.py
compares the file with the imports.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"
PICTURE = ROOT / "book" / "_static" / "architecture.svg"

# From the bottom up: a folder imports only from those before it.
LAYERS = {
    "validation": "checks of arguments",
    "data": "data sets, vocabularies, batches",
    "statistics": "dependence, Markov and AR models",
    "kernels": "backward passes derived by hand",
    "layers": "RNN, LSTM, GRU, attention",
    "models": "language models, encoder-decoders",
    "training": "the loop, runs, theory of BPTT",
    "compression": "mixtures, coder, archives",
    "cli": "the command seqbook",
}
# Beside the layers: what each of them may import, apart from itself.
BESIDE = {
    "plots": ("figures of the book, from numbers", {"data", "validation"}),
    "claims": ("statements that are checked", {"validation"}),
    "stepgrader": ("the grader, a package of its own", set[str]()),
}


class Import(NamedTuple):
    """One imported name.

    Attributes:
        module: The importing module.
        line: Line number in it.
        imported: The module imported from.
        name: The name imported, empty for ``import module``.
    """

    module: str
    line: int
    imported: str
    name: str


def modules(folder: Path = SOURCE) -> Iterator[tuple[str, ast.Module]]:
    """Parse the modules below a folder, except the exercises, which are data."""
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        if parts[:2] != ("seqbook", "exercises"):
            name = ".".join(part for part in parts if part != "__init__")
            yield name, ast.parse(path.read_text(encoding="utf-8"))


def imports(module: str, tree: ast.Module) -> Iterator[Import]:
    """List what a module imports, inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield Import(module, node.lineno, node.module or ".", alias.name)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(module, node.lineno, alias.name, "")


def folder_of(module: str, name: str = "") -> str | None:
    """Return the layer a module belongs to, or None for other packages and ``seqbook`` itself."""
    package, *rest = module.split(".")
    if package == "stepgrader":
        return package
    if package != "seqbook":
        return None
    layer = rest[0] if rest else name
    return layer if layer in LAYERS or layer in BESIDE else None


def folder_imports(folder: Path = SOURCE) -> set[tuple[str, str]]:
    """Return the pairs of a folder and another one that it imports from."""
    edges = set()
    for module, tree in modules(folder):
        importer = folder_of(module)
        for item in imports(module, tree):
            imported = folder_of(item.imported, item.name)
            if importer and imported and importer != imported:
                edges.add((importer, imported))
    return edges


BOX, STEP, LEFT, WIDTH = 44, 58, 2, 262  # height and distance of boxes, their left edge and width


def draw(edges: set[tuple[str, str]]) -> str:
    """Draw the layers as a stack, the top layer first, and each import as an arc beside it.

    Those of ``validation`` are left out, which every layer may import.
    """
    edges = {edge for edge in edges if edge[1] != "validation"}
    order = list(reversed(LAYERS))
    top = {name: 4 + STEP * i for i, name in enumerate(order)}
    below = 4 + STEP * len(order) + 26
    top |= {name: below + STEP * i for i, name in enumerate(BESIDE)}
    height = below + STEP * len(BESIDE)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 360 {height}" font-family='
        "\"system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif\">",
        "<title>Folders of the packages and their imports</title>",
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" '
        'markerHeight="6" orient="auto"><path d="M0 0 8 4 0 8Z" fill="#555555"/></marker></defs>',
    ]
    for name, y in top.items():
        about = LAYERS.get(name) or BESIDE[name][0]
        fill, edge = ("#f4f4f4", "#555555") if name in BESIDE else ("#e6f0f7", "#0064a5")
        lines += [
            f'<rect x="{LEFT}" y="{y}" width="{WIDTH}" height="{BOX}" rx="8" fill="{fill}" '
            f'stroke="{edge}" stroke-width="1.6"/>',
            f'<text x="{LEFT + 12}" y="{y + 19}" font-size="15" font-weight="700" '
            f'fill="{edge}">{name}</text>',
            f'<text x="{LEFT + 12}" y="{y + 36}" font-size="12.5" fill="#1a1a1a">{about}</text>',
        ]
    lines.append(
        f'<text x="{LEFT}" y="{below - 10}" font-size="13" font-style="italic" fill="#555555">'
        "beside the layers</text>"
    )
    x = LEFT + WIDTH
    rank = {name: i for i, name in enumerate(top)}
    for importer, imported in sorted(edges, key=lambda edge: (rank[edge[0]], rank[edge[1]])):
        span = abs(rank[importer] - rank[imported])
        down = rank[importer] < rank[imported]
        start = top[importer] + BOX * (0.68 if down else 0.3)
        end = top[imported] + BOX * (0.3 if down else 0.68)
        reach = x + 10 + 11 * span
        lines.append(
            f'<path d="M{x} {start:g}C{reach} {start:g} {reach} {end:g} {x + 2} {end:g}" '
            'fill="none" stroke="#555555" stroke-width="1.3" marker-end="url(#head)"/>'
        )
    return "\n".join([*lines, "</svg>"]) + "\n"


if __name__ == "__main__":
    PICTURE.write_text(draw(folder_imports()), encoding="utf-8")
    print(f"wrote {PICTURE.relative_to(ROOT)}")
