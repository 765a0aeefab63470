"""``{exercise-table}`` lists the graded exercises, from their own headings."""

from sphinx.util.docutils import SphinxDirective
from tables import table

from seqbook.grading.exercises import ORDER, released


class ExerciseTable(SphinxDirective):
    """A table of the graded exercises with steps, level, minutes and points."""

    def run(self):
        return [
            table(
                ("Notebook", "What you write", "Steps", "Level", "Minutes", "Points"),
                (20, 40, 10, 10, 10, 10),
                [_row(released(name)) for name in ORDER],
            )
        ]


def _row(exercise):
    headings = list(exercise.headings.values())
    levels = sorted({heading.level for heading in headings})
    return (
        f"{exercise.name}.ipynb",
        exercise.title.partition(": ")[2] or exercise.title,
        len(headings),
        " to ".join("★" * level for level in (levels[0], levels[-1])) if levels[1:] else "★",
        sum(heading.minutes for heading in headings),
        sum(heading.points for heading in headings),
    )


def setup(app):
    app.add_directive("exercise-table", ExerciseTable)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
