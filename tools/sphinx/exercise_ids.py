"""Number the ids of exercises: sphinx-exercise gives all the same, but ids are unique in a page."""

from itertools import count

from docutils import nodes

SHARED = "exercise-content"


def number_ids(_app, doctree):
    numbers = count(1)
    for section in doctree.findall(nodes.section):
        if section["ids"] == [SHARED]:
            section["ids"] = [f"{SHARED}-{next(numbers)}"]


def setup(app):
    app.connect("doctree-read", number_ids)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
