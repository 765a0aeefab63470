"""The graded exercises, to open on Colab or download.

``{exercise-link}`` in a chapter leads to those of the chapter; ``{exercise-table}`` lists all.
What it says of each comes from the headings of its released notebook.
"""

import os
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.util.docutils import SphinxDirective
from tables import page_link, table

import seqbook.exercises
from stepgrader.exercises import ORDER, released

RELEASED = "src/seqbook/exercises"


def colab_link(name: str, env) -> nodes.reference:
    """Return a link that opens an exercise on Colab."""
    options = env.config.html_theme_options
    repository = options["repository_url"].removeprefix("https://github.com/")
    path = f"{repository}/blob/{options['repository_branch']}/{RELEASED}/{name}.ipynb"
    address = f"{options['launch_buttons']['colab_url']}/github/{path}"
    return nodes.reference("", "open it on Colab", refuri=address, internal=False)


def download_link(name: str, env) -> nodes.Node:
    """Return a link that downloads an exercise from the site itself."""
    path = Path(seqbook.exercises.__file__).parent / f"{name}.ipynb"
    return addnodes.download_reference(
        "",
        "",
        nodes.inline("", "download the notebook"),
        reftarget="/" + os.path.relpath(path, env.srcdir),  # from the folder of the pages
        refdoc=env.docname,
    )


class ExerciseLink(SphinxDirective):
    """A paragraph for each exercise that belongs to the chapter it stands in."""

    def run(self):
        chapter = self.env.docname
        names = [name for name in ORDER if name == chapter or name.startswith(f"{chapter}_in_")]
        if not names:
            raise self.error(f"exercise-link: no exercise belongs to {chapter}")
        return [self._paragraph(name) for name in names]

    def _paragraph(self, name: str) -> nodes.paragraph:
        exercise = released(name)
        headings = exercise.headings.values()
        title = exercise.title.removeprefix("Exercises: ")
        minutes = sum(heading.minutes for heading in headings)
        paragraph = nodes.paragraph("", classes=["exercise-link"])
        paragraph += nodes.strong("", "Write it yourself:")
        paragraph += nodes.Text(
            f" {title}, in {len(headings)} steps that are checked at once and take about {minutes} "
            "minutes. You can "
        )
        paragraph += [colab_link(name, self.env), nodes.Text(" or ")]
        paragraph += download_link(name, self.env)
        if "exercises" in self.env.found_docs:
            paragraph += nodes.Text("; what it is and how it is graded is told in ")
            paragraph += page_link("exercises", "Exercises to be graded", at=self.env.docname)
        paragraph += nodes.Text(".")
        return paragraph


class ExerciseTable(SphinxDirective):
    """A table of all exercises."""

    def run(self):
        titles = ("What you write", "Steps", "Minutes", "Points")
        shown = table(titles, (70, 10, 10, 10), [self._row(released(name)) for name in ORDER])
        shown["classes"] += ["numbers"]
        return [shown]

    def _row(self, exercise) -> tuple:
        headings = exercise.headings.values()
        title = exercise.title.removeprefix("Exercises: ")
        cell = nodes.inline("", f"{title[:1].upper()}{title[1:]}: ")
        cell += [colab_link(exercise.name, self.env), nodes.Text(" or ")]
        cell += download_link(exercise.name, self.env)
        return (
            cell,
            len(headings),
            sum(heading.minutes for heading in headings),
            sum(heading.points for heading in headings),
        )


def setup(app):
    app.add_directive("exercise-table", ExerciseTable)
    app.add_directive("exercise-link", ExerciseLink)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
