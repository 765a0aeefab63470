"""The minutes that a chapter takes, stated on its page and in the start page's table.

``{chapter-minutes}`` stands in a chapter; ``{chapter-table}`` lists every chapter of the book.
``stored_notebooks`` says how the minutes are counted.
"""

from docutils import nodes
from sphinx.util.docutils import SphinxDirective
from stored_notebooks import Summary, chapters, summaries
from tables import page_link, table


class ChapterMinutes(SphinxDirective):
    """One line with the minutes of the notebook it stands in."""

    def run(self):
        (chapter,) = summaries(self.env, [self.env.docname]).values()
        text = (
            f"{chapter.reading_minutes} minutes to read. Its cells run in under "
            f"{chapter.runs_within_seconds} seconds on two cores, without a GPU."
        )
        return [nodes.paragraph("", "", nodes.emphasis("", text), classes=["chapter-minutes"])]


class ChapterTable(SphinxDirective):
    """A table of every chapter with its minutes and its number of claims."""

    def run(self):
        rows = [self._row(name, chapter) for name, chapter in chapters(self.env).items()]
        titles = ("Chapter", "Minutes to read", "Seconds to run", "Claims")
        node = table(titles, (55, 15, 15, 15), rows)
        node["classes"] += ["numbers"]
        return [node]

    def _row(self, name: str, chapter: Summary):
        link = page_link(name, chapter.title, at=self.env.docname)
        return link, chapter.reading_minutes, chapter.runs_within_seconds, len(chapter.claims)


def setup(app):
    app.setup_extension("stored_notebooks")
    app.add_directive("chapter-minutes", ChapterMinutes)
    app.add_directive("chapter-table", ChapterTable)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
