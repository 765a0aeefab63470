"""``{chapter-table}``: all chapters with their times, which ``stored_notebooks`` counts."""

from sphinx.util.docutils import SphinxDirective
from stored_notebooks import Summary, chapters
from tables import page_link, table


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
    app.add_directive("chapter-table", ChapterTable)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
