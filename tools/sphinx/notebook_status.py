"""The status of every notebook, from the record that ``make status`` writes.

``{notebook-status}`` is a paragraph on the machine and the versions, and a table.
"""

import json
from pathlib import Path

from docutils import nodes
from sphinx.util.docutils import SphinxDirective
from stored_notebooks import all_notebooks, read_notebook, title_of
from tables import page_link, table

TITLES = ("Notebook", "Seconds", "Limit", "Cells", "Claims")


class NotebookStatus(SphinxDirective):
    """What the last recorded run of all notebooks found."""

    def run(self):
        path = Path(self.env.srcdir) / "status.json"
        self.env.note_dependency(str(path))
        status = json.loads(path.read_text(encoding="utf-8"))
        entries = status["notebooks"]
        pages = {
            f"book/{name}.ipynb": page_link(name, notebook.title, at=self.env.docname)
            for name, notebook in all_notebooks(self.env).items()
        }
        of_pages = [(link, entries[path]) for path, link in pages.items() if path in entries]
        of_exercises = [
            (self._title(path), entry) for path, entry in entries.items() if path not in pages
        ]
        return [
            self._surroundings(status),
            *self._part("Pages of the book", of_pages),
            *self._part("Exercises to be graded", of_exercises),
        ]

    def _surroundings(self, status: dict) -> nodes.paragraph:
        days = sorted({entry["recorded"] for entry in status["notebooks"].values()})
        versions = ", ".join(f"{name} {number}" for name, number in status["versions"].items())
        threads = "one thread" if status["threads"] == 1 else f"{status['threads']} threads"
        return nodes.paragraph(
            "",
            f"Recorded {' to '.join(dict.fromkeys([days[0], days[-1]]))} on {status['processor']} "
            f"({status['cores']} cores, of which the networks used {threads}; {status['system']}) "
            f"with {versions}.",
        )

    def _part(self, heading: str, rows: list[tuple]) -> list[nodes.Node]:
        if not rows:
            return []
        counted = ("seconds", "code_cells", "claims")
        total = {name: sum(entry[name] for _, entry in rows) for name in counted}
        lines = [
            (title, f"{e['seconds']:.0f}", e["bound"], e["code_cells"], e["claims"])
            for title, e in rows
        ]
        last = ("All", f"{total['seconds']:.0f}", "", total["code_cells"], total["claims"])
        section = nodes.section(ids=[f"status-{heading.split()[0].lower()}"])
        section["names"] = [nodes.fully_normalize_name(heading)]
        section += [nodes.title("", heading), table(TITLES, (40, 15, 15, 15, 15), [*lines, last])]
        section[-1]["classes"] += ["numbers"]
        return [section]

    def _title(self, exercise: str) -> str:
        path = Path(self.env.srcdir).parent / exercise
        self.env.note_dependency(str(path))
        return title_of(read_notebook(path))


def setup(app):
    app.setup_extension("stored_notebooks")
    app.add_directive("notebook-status", NotebookStatus)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
