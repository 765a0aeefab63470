"""Show what ``seqbook.claims`` prints as lines of text and not as terminal output.

A cell's printed output is a literal block. Its lines that start with a tick are claims: they
become paragraphs of the class ``claim``, which the style sheet sets; other lines stay as they
are, in their order. In a notebook each claim gets an id, so that ``{claims-table}`` can link to it.
"""

from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from docutils import nodes
from stored_notebooks import TICK, claim_anchor, read_notebook


def _parts(block: nodes.literal_block):
    for is_claim, lines in groupby(block.astext().splitlines(), lambda line: line.startswith(TICK)):
        if is_claim:
            yield from (
                nodes.paragraph("", line.removeprefix(TICK), classes=["claim"]) for line in lines
            )
        else:
            part = block.deepcopy()
            part.children = [nodes.Text("\n".join(lines))]
            part.rawsource = part.astext()
            yield part


def show_claims(app, doctree):
    for block in list(doctree.findall(nodes.literal_block)):
        if "stream" in block["classes"] and TICK in block.astext():
            place = block.parent.index(block)
            block.parent[place : place + 1] = list(_parts(block))
    if app is not None and (page := Path(app.env.doc2path(app.env.docname))).suffix == ".ipynb":
        cells = read_notebook(page)["cells"]
        give_anchors(doctree, [cell["id"] for cell in cells])


def give_anchors(doctree, cell_ids: list[str]):
    """Give each claim the id that its cell and its number in the cell make."""
    numbers: Counter[str] = Counter()
    for claim in doctree.findall(
        lambda node: "claim" in getattr(node, "attributes", {}).get("classes", [])
    ):
        cell = cell_ids[next(_cells_around(claim))["cell_index"]]
        numbers[cell] += 1
        claim["ids"] = [claim_anchor(cell, numbers[cell])]


def _cells_around(node) -> Iterator[nodes.container]:
    while (node := node.parent) is not None:
        if isinstance(node, nodes.container) and "cell_index" in node:
            yield node


def setup(app):
    app.connect("doctree-read", show_claims)
    return {"version": "2", "parallel_read_safe": True, "parallel_write_safe": True}
