"""How to cite the book: ``{how-to-cite}`` makes it from ``CITATION.cff``, so that both agree."""

from pathlib import Path

import yaml
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

CITATION = Path(__file__).parents[2] / "CITATION.cff"


def read_citation(path: Path = CITATION) -> dict[str, str]:
    """Return the fields of the file as text, and the name of the first author as ``name``."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    fields = {name: str(value) for name, value in content.items() if not isinstance(value, list)}
    return fields | {"name": content["authors"][0]["name"]}


def bibtex(citation: dict[str, str], address: str = "") -> str:
    """Return the entry of the book; the year is that of its release."""
    fields = {
        "author": f"{{{citation['name']}}}",
        "title": citation["title"],
        "year": citation["date-released"][:4],
        "url": address,
        "note": f"Version {citation['version']}",
    }
    lines = [f"  {name:6} = {{{value}}}," for name, value in fields.items() if value]
    return "\n".join(["@book{seqbook,", *lines]).rstrip(",") + "\n}"


class HowToCite(SphinxDirective):
    """One sentence with version and date, and the entry for BibTeX."""

    def run(self):
        self.env.note_dependency(str(CITATION))
        citation = read_citation()
        address = self.config.html_baseurl
        sentence = (
            f"{citation['name']}. {citation['title']}. Version {citation['version']}, "
            f"{citation['date-released']}. {address}"
        ).strip()
        entry = bibtex(citation, address)
        return [
            nodes.block_quote("", nodes.paragraph("", sentence)),
            nodes.literal_block(entry, entry, language="bibtex"),
        ]


def setup(app):
    app.add_directive("how-to-cite", HowToCite)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
