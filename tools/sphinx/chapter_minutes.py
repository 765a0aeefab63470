"""The minutes that a chapter takes, stated on its page and in the start page's table.

Reading time is counted, not guessed: 200 words of prose a minute and 20 lines of code a minute.
MyST's own count would leave out what stands in directives: 800 to 1,200 words of questions and
exercises in each chapter. Running time is the bound in the notebook's own metadata, which
``make notebooks`` enforces.

``{chapter-minutes}`` stands in a chapter; ``{chapter-table}`` lists every notebook of the book.
"""

import math
import re
from pathlib import Path
from typing import NamedTuple

from docutils import nodes
from sphinx.util.docutils import SphinxDirective
from stored_notebooks import chapters, read_notebook, stored_claims, title_of
from tables import page_link, table

WORDS_PER_MINUTE = 200
CODE_LINES_PER_MINUTE = 20


class Chapter(NamedTuple):
    """What the minutes are computed from."""

    title: str
    words: int
    code_lines: int
    runs_within_seconds: int

    @property
    def reading_minutes(self) -> int:
        """Minutes of reading, rounded up to five."""
        minutes = self.words / WORDS_PER_MINUTE + self.code_lines / CODE_LINES_PER_MINUTE
        return 5 * math.ceil(minutes / 5)


def read_chapter(path: Path) -> Chapter:
    """Count the words and code lines of a notebook."""
    notebook = read_notebook(path)
    source: dict[str, list[str]] = {"markdown": [], "code": []}
    for cell in notebook["cells"]:
        if "remove-cell" not in cell["metadata"].get("tags", []):  # not on the page
            source[cell["cell_type"]].append("".join(cell["source"]))
    prose = "\n".join(source["markdown"])
    code_lines = [line for cell in source["code"] for line in cell.splitlines() if line.strip()]
    bound = notebook["metadata"]["seqbook"]["runs_within_seconds"]
    return Chapter(title_of(notebook), len(re.findall(r"\w+", prose)), len(code_lines), bound)


class ChapterMinutes(SphinxDirective):
    """One line with the minutes of the notebook it stands in."""

    def run(self):
        chapter = read_chapter(Path(self.env.doc2path(self.env.docname)))
        text = (
            f"{chapter.reading_minutes} minutes to read. Its cells run in under "
            f"{chapter.runs_within_seconds} seconds on two cores, without a GPU."
        )
        return [nodes.paragraph("", "", nodes.emphasis("", text), classes=["chapter-minutes"])]


class ChapterTable(SphinxDirective):
    """A table of every notebook in the table of contents with its minutes and its claims."""

    def run(self):
        rows = [self._row(name, path) for name, path in chapters(self.env).items()]
        titles = ("Chapter", "Minutes to read", "Seconds to run", "Claims")
        shown = table(titles, (55, 15, 15, 15), rows)
        shown["classes"] += ["numbers"]
        return [shown]

    def _row(self, name: str, path: Path):
        chapter = read_chapter(path)
        link = page_link(name, chapter.title, at=self.env.docname)
        claims = len(stored_claims(read_notebook(path)))
        return link, chapter.reading_minutes, chapter.runs_within_seconds, claims


def setup(app):
    app.add_directive("chapter-minutes", ChapterMinutes)
    app.add_directive("chapter-table", ChapterTable)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
