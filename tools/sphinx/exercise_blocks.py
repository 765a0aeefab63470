"""Fix what sphinx-exercise writes: ids that repeat in a page, and titles in parentheses."""

from itertools import count

from docutils import nodes

SHARED = "exercise-content"


def number_ids(_app, doctree):
    """Number the ids: the extension gives all exercises the same, but ids are unique in a page."""
    numbers = count(1)
    for section in doctree.findall(nodes.section):
        if section["ids"] == [SHARED]:
            section["ids"] = [f"{SHARED}-{next(numbers)}"]


def free_titles(app, doctree, _name):
    """Take off the parenthesis round each title, which has one of its own for level and minutes."""
    for title in doctree.findall(nodes.title):
        if title.get("title") == app.config.numfig_format["exercise"]:
            parts = [part.astext() for part in title.children]
            if parts[:1] == [" ("] and parts[-1:] == [")"]:  # an exercise may have no title
                title.children = title.children[1:-1]


def setup(app):
    app.connect("doctree-read", number_ids)
    app.connect("doctree-resolved", free_titles)
    return {"version": "2", "parallel_read_safe": True, "parallel_write_safe": True}
