"""Show what ``seqbook.claims`` prints as sentences, with the code that checks them behind each.

A cell's printed lines that start with a tick are claims. Each becomes a sentence with an id, so
that ``{claims-table}`` can link to it; other printed lines stay as they are, in their order. The
code that checked it (see ``checks_in_cells``) moves from the cell to a ``<details>`` element behind
the sentence, which needs no script. A cell without other code shows none. Consecutive identities
of one tolerance share a line.
"""

from collections.abc import Iterator
from itertools import count, groupby
from pathlib import Path
from typing import NamedTuple

from checks_in_cells import CheckError, PrintedClaim
from docutils import nodes
from sphinx.errors import ExtensionError
from stored_notebooks import TICK, claim_anchor, numbered_pages, read_notebook, split_chapter


class checked(nodes.General, nodes.Element):  # noqa: N801, as docutils names its nodes
    """Sentences of one kind, and the code that checked them."""


class how_checked(nodes.General, nodes.Element):  # noqa: N801
    """The code that checked the claims whose numbers it holds."""


class finding_number(nodes.Part, nodes.Element):  # noqa: N801
    """The line above a finding that gives its number."""


class headline(nodes.Part, nodes.TextElement):  # noqa: N801
    """The number of a finding, large. The sentence says it too, so it is for the eye alone."""


class Line(NamedTuple):
    """A claim in its place on the page."""

    number: int  # among the claims of the page
    anchor: str
    claim: PrintedClaim
    code: str

    @property
    def group(self) -> tuple:
        """What the lines of one block have in common."""
        claim = self.claim
        return claim.kind, claim.tolerance if claim.kind == "identity" else self.code


def show_claims(app, doctree):
    """Give the cells of a page their sentences."""
    page = Path(app.env.doc2path(app.env.docname))
    if page.suffix != ".ipynb":
        return
    notebook = read_notebook(page)
    try:
        split = split_chapter(notebook)
    except CheckError as error:
        raise ExtensionError(f"{page}: {error}") from None
    numbers = count(1)
    lines = {
        name: [
            Line(next(numbers), claim_anchor(name, place), claim, code)
            for place, (claim, code) in enumerate(cell.claims, start=1)
        ]
        for name, cell in split.items()
    }
    for cell in list(doctree.findall(_is_cell)):
        name = notebook["cells"][cell["cell_index"]]["id"]
        if name in split:
            show_checks(cell, split[name].visible, lines[name])


def _is_cell(node: nodes.Node) -> bool:
    return isinstance(node, nodes.container) and node.get("nb_element") == "cell_code"


def show_checks(cell: nodes.container, visible: str, lines: list[Line]) -> None:
    """Replace the ticked lines of a cell by sentences, and leave only its other code in view."""
    language = "python"
    waiting = iter(lines)
    for block in list(cell.findall(nodes.literal_block)):
        if _is_source(block.parent):
            language = block.get("language", language)
            _show_only(block, visible)
        elif "stream" in block["classes"] and TICK in block.astext():
            place = block.parent.index(block)
            block.parent[place : place + 1] = list(_parts(block, waiting, language))
    for output in cell:
        if any(output.findall(nodes.image)):  # first the figure, then what it shows
            output.children.sort(key=lambda part: isinstance(part, checked))


def _is_source(node: nodes.Node) -> bool:
    return isinstance(node, nodes.container) and node.get("nb_element") == "cell_code_source"


def _show_only(block: nodes.literal_block, code: str) -> None:
    if code:
        block.rawsource = code
        block.children = [nodes.Text(code)]
    else:
        block.parent.parent.remove(block.parent)


def _parts(block: nodes.literal_block, lines: Iterator[Line], language: str):
    for is_claim, texts in groupby(block.astext().splitlines(), lambda line: line.startswith(TICK)):
        if is_claim:
            yield from _blocks([next(lines) for _ in texts], language)
        else:
            part = block.deepcopy()
            part.children = [nodes.Text("\n".join(texts))]
            part.rawsource = part.astext()
            yield part


def _blocks(lines: list[Line], language: str) -> Iterator[checked]:
    """Yield a block for the claims of a statement, or of consecutive identities."""
    ordered = [
        line
        for _, of_statement in groupby(lines, lambda line: line.code)
        for line in sorted(of_statement, key=lambda line: line.claim.kind == "identity")
    ]
    for (kind, _), found in groupby(ordered, lambda line: line.group):
        together = list(found)
        block = checked("", classes=["checked", kind])
        if kind == "identity":
            block += _identities(together)
        else:
            block += [node for line in together for node in _sentences(line)]
        code = "\n".join(dict.fromkeys(line.code for line in together))
        details = how_checked("", numbers=[line.number for line in together])
        details += nodes.literal_block(code, code, language=language)
        block += details
        yield block


def _sentences(line: Line) -> Iterator[nodes.Element]:
    """Yield the sentence of a measurement; a finding has its number above."""
    if line.claim.kind == "finding":
        yield finding_number("", number=line.number)
        yield headline("", nodes.Text(line.claim.headline))
    yield nodes.paragraph("", line.claim.statement, ids=[line.anchor], classes=["claim"])


def _identities(lines: list[Line]) -> nodes.paragraph:
    """Return the line that identities share."""
    words = "1 identity" if len(lines) == 1 else f"{len(lines)} identities"
    paragraph = nodes.paragraph("", "", nodes.strong("", words))
    paragraph += nodes.Text(f" to {lines[0].claim.tolerance}: ")
    for place, line in enumerate(lines):
        if place:
            paragraph += nodes.Text("; ")
        paragraph += nodes.inline("", line.claim.sentence, ids=[line.anchor], classes=["claim"])
    paragraph += nodes.Text(".")
    return paragraph


def visit_checked(translator, node):
    translator.body.append(translator.starttag(node, "div", classes=node["classes"]))


def depart_checked(translator, _node):
    translator.body.append("</div>\n")


def visit_how_checked(translator, node):
    claims, verb = _names(translator.builder, node["numbers"])
    translator.body.append(
        '<details class="how-checked"><summary>'
        f'<span>How <span class="visually-hidden">{claims} {verb} </span>checked</span></summary>\n'
    )


def _names(builder, numbers: list[int]) -> tuple[str, str]:
    """Return how claims of a page are called, and the verb that follows."""
    several = len(numbers) > 1
    chapter = _chapter(builder)
    if chapter is None:
        return ("these claims", "were") if several else ("this claim", "was")
    if several:
        return f"claims {chapter}.{numbers[0]} to {chapter}.{numbers[-1]}", "were"
    return f"claim {chapter}.{numbers[0]}", "was"


def _chapter(builder) -> int | None:
    """Return the number of the chapter that is being written."""
    names = numbered_pages(builder.config.external_site_map)
    page = builder.current_docname
    return names.index(page) + 1 if page in names else None


def depart_how_checked(translator, _node):
    translator.body.append("</details>\n")


def visit_finding_number(translator, node):
    chapter = _chapter(translator.builder)
    number = "" if chapter is None else f" {chapter}.{node['number']}"
    translator.body.append(f'<p class="finding-number">Finding{number}')


def visit_headline(translator, _node):
    translator.body.append('<p class="headline" aria-hidden="true">')


def depart_paragraph(translator, _node):
    translator.body.append("</p>\n")


def setup(app):
    app.add_node(finding_number, html=(visit_finding_number, depart_paragraph))
    app.add_node(headline, html=(visit_headline, depart_paragraph))
    app.add_node(checked, html=(visit_checked, depart_checked))
    app.add_node(how_checked, html=(visit_how_checked, depart_how_checked))
    app.connect("doctree-read", show_claims)
    return {"version": "3", "parallel_read_safe": True, "parallel_write_safe": True}
