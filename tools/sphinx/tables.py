"""Tables that extensions make while the book is built."""

from collections.abc import Iterable, Sequence

from docutils import nodes
from sphinx import addnodes


def table(titles: Sequence[str], widths: Sequence[int], rows: Iterable[Sequence]) -> nodes.table:
    """Return a table whose cells are texts or inline nodes."""
    group = nodes.tgroup(
        "",
        *(nodes.colspec(colwidth=width) for width in widths),
        nodes.thead("", _row(titles)),
        nodes.tbody("", *map(_row, rows)),
        cols=len(titles),
    )
    return nodes.table("", group)


def page_link(docname: str, title: str, *, at: str) -> nodes.Node:
    """Return a link to a page of the book, from the page ``at``."""
    return addnodes.pending_xref(
        "",
        nodes.inline("", title),
        refdomain="std",
        reftype="doc",
        reftarget=docname,
        refexplicit=True,
        refdoc=at,
    )


def _row(cells: Iterable) -> nodes.row:
    return nodes.row(
        "",
        *(
            nodes.entry(
                "",
                nodes.paragraph("", "", cell)
                if isinstance(cell, nodes.Node)
                else nodes.paragraph("", str(cell)),
            )
            for cell in cells
        ),
    )
