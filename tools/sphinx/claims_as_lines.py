"""Show what ``seqbook.claims`` prints as lines of text and not as terminal output.

A cell's printed output is a literal block. Its lines that start with a tick are claims: they
become paragraphs of the class ``claim``, which the style sheet sets; other lines stay as they
are, in their order.
"""

from itertools import groupby

from docutils import nodes

TICK = "✓ "


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


def show_claims(_app, doctree):
    for block in list(doctree.findall(nodes.literal_block)):
        if "stream" in block["classes"] and TICK in block.astext():
            place = block.parent.index(block)
            block.parent[place : place + 1] = list(_parts(block))


def setup(app):
    app.connect("doctree-read", show_claims)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
