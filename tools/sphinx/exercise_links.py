"""The graded exercises, to open on Colab or download.

``{exercise-link}`` in a chapter leads to those of the chapter; ``{exercise-table}`` lists all.
What they show comes from the headings of the notebooks that students get. Those are read here and
not by the grader, whose import would double the time that the build takes after an edit.
"""

import os
import re
from typing import NamedTuple

from addresses import ROOT, addresses
from docutils import nodes
from sphinx import addnodes
from sphinx.util.docutils import SphinxDirective
from stored_notebooks import chapters, read_notebook, title_of
from tables import page_link, table

RELEASED = "src/seqbook/exercises"
STEP = re.compile(r"^## .+\(★+, (\d+) minutes, (\d+) points?\)$", re.MULTILINE)


class Exercise(NamedTuple):
    """An exercise and what its table states.

    Args:
        name: Of its notebook.
        title: What students write.
        steps: The number of its steps.
        minutes: The time that all steps take.
        points: The points of all steps.
    """

    name: str
    title: str
    steps: int
    minutes: int
    points: int


def read_exercise(name: str) -> Exercise:
    """Read an exercise from the notebook that students get."""
    notebook = read_notebook(ROOT / RELEASED / f"{name}.ipynb")
    text = "\n".join(
        "".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "markdown"
    )
    steps = [(int(minutes), int(points)) for minutes, points in STEP.findall(text)]
    title = title_of(notebook).removeprefix("Exercises: ")
    return Exercise(name, title, len(steps), *map(sum, zip(*steps, strict=True)))


def exercises_of(chapter: str, env) -> list[Exercise]:
    """Return the exercises that belong to a chapter, the one that has its name first.

    The page that is being read is made to depend on their files.
    """
    paths = [
        *(ROOT / RELEASED).glob(f"{chapter}.ipynb"),
        *sorted((ROOT / RELEASED).glob(f"{chapter}_in_*.ipynb")),
    ]
    for path in paths:
        env.note_dependency(str(path))
    return [read_exercise(path.stem) for path in paths]


def links(name: str, env) -> list[nodes.Node]:
    """Return links that open an exercise on Colab, if its address is known, or download it."""
    path = f"{RELEASED}/{name}.ipynb"
    download = addnodes.download_reference(
        "",
        "",
        nodes.inline("", "download the notebook"),
        reftarget="/" + os.path.relpath(ROOT / path, env.srcdir),  # from the folder of the pages
        refdoc=env.docname,
    )
    if not (address := addresses().on_colab(path)):
        return [download]
    colab = nodes.reference("", "open it on Colab", refuri=address, internal=False)
    return [colab, nodes.Text(" or "), download]


class ExerciseLink(SphinxDirective):
    """A paragraph for each exercise that belongs to the chapter it stands in."""

    def run(self):
        exercises = exercises_of(self.env.docname, self.env)
        if not exercises:
            raise self.error(f"exercise-link: no exercise belongs to {self.env.docname}")
        return [self._paragraph(exercise) for exercise in exercises]

    def _paragraph(self, exercise: Exercise) -> nodes.paragraph:
        paragraph = nodes.paragraph("", classes=["exercise-link"])
        paragraph += nodes.strong("", "Write it yourself:")
        paragraph += nodes.Text(
            f" {exercise.title}, in {exercise.steps} steps that are checked at once and take about "
            f"{exercise.minutes} minutes. You can "
        )
        paragraph += links(exercise.name, self.env)
        if "exercises" in self.env.found_docs:
            paragraph += nodes.Text("; what it is and how it is graded is explained in ")
            paragraph += page_link("exercises", "Exercises to be graded", at=self.env.docname)
        paragraph += nodes.Text(".")
        return paragraph


class ExerciseTable(SphinxDirective):
    """A table of all exercises."""

    def run(self):
        titles = ("What you write", "Steps", "Minutes", "Points")
        rows = [
            self._row(exercise)
            for chapter in chapters(self.env)
            for exercise in exercises_of(chapter, self.env)
        ]
        node = table(titles, (70, 10, 10, 10), rows)
        node["classes"] += ["numbers"]
        return [node]

    def _row(self, exercise: Exercise) -> tuple:
        cell = nodes.inline("", f"{exercise.title[:1].upper()}{exercise.title[1:]}: ")
        cell += links(exercise.name, self.env)
        return cell, exercise.steps, exercise.minutes, exercise.points


def setup(app):
    app.setup_extension("stored_notebooks")
    app.add_directive("exercise-table", ExerciseTable)
    app.add_directive("exercise-link", ExerciseLink)
    return {"version": "2", "parallel_read_safe": True, "parallel_write_safe": True}
