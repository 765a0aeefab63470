"""A build after an edit writes what has changed, and ends with the same pages as a full build."""

import os
import re
import shutil

import nbformat
import pytest
import style_sheets
from conftest import build_pages, make_notebook, write
from nbformat.v4 import new_output
from sphinx.errors import ExtensionError
from style_sheets import cut_down, names, parse, serialize

PAGES = {
    "index.rst": "Start\n=====\n\n.. toctree::\n   :numbered:\n\n   first\n   second\n",
    "first.rst": """First
=====

.. index:: beginning, words

Words.

A part
------

More.

.. code-block:: text
   :caption: Code
   :name: code

   x

.. math:: x
   :label: first-formula

.. exercise:: Try it
   :label: first-exercise

   What to do.
""",
    "second.rst": """Second
======

.. index:: end, words

See :doc:`first` and :numref:`code`.

.. math:: y
   :label: second-formula

.. exercise:: Try that
   :label: second-exercise

   What else to do.

.. solution:: first-exercise

   How to do it.
""",
    "look/own.css": ".fresh { color: red } .zyzzyva { color: blue } #a-part { margin: 0 }",
}


@pytest.fixture
def book(tmp_path):
    folder = tmp_path / "book"
    for name, text in PAGES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def build(folder, **settings):
    """Build, and return the pages, the style sheet and the index of the search by their names."""
    settings = {
        "extensions": ["sphinx_exercise", "finished_pages"],
        "html_static_path": ["look"],
        "html_css_files": ["own.css"],
        "numfig": True,
        "exclude_patterns": ["html"],
    } | settings
    warnings = build_pages(folder, **settings)
    assert warnings == ""
    html = folder / "html"
    files = [*html.glob("*.html"), html / "_static" / "seqbook-all.css", html / "searchindex.js"]
    return {path.name: path.read_text(encoding="utf-8") for path in files}


def times(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("html/*.html")}


def built_afresh(folder, build=build):
    other = folder.with_name("afresh")
    shutil.rmtree(other, ignore_errors=True)
    shutil.copytree(folder, other, ignore=shutil.ignore_patterns("html", "doctrees"))
    return build(other)


def edit(folder, old, new):
    path = folder / "first.rst"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_word_writes_its_page_only(book):
    build(book)
    before = times(book)
    edit(book, "Words.", "Other words, zyzzyva.")  # the style sheet has a class of that name
    edit(book, "What to do.", "What to try.")
    built = build(book)
    changed = {name for name, time in times(book).items() if time != before[name]}
    assert "first.html" in changed
    assert "second.html" not in changed
    assert "Other words, zyzzyva." in built["first.html"]
    assert built == built_afresh(book)


def test_a_removed_index_entry_is_found_no_longer(book):
    assert '"beginning"' in build(book)["searchindex.js"]
    edit(book, "beginning, words", "words")
    built = build(book)
    assert '"beginning"' not in built["searchindex.js"]
    assert built == built_afresh(book)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("First\n=====", "Changed\n======="),  # second.html shows the title
        ("Try it", "Try this"),  # and that of an exercise
        ("More.", ".. container:: fresh\n\n   More."),  # another rule is needed
        ("A part\n------", "B part\n------"),  # and one less
    ],
)
def test_what_other_pages_show_or_load_is_up_to_date(book, old, new):
    before = build(book)
    edit(book, old, new)
    built = build(book)
    assert built == built_afresh(book)
    assert built["second.html"] != before["second.html"]


def test_a_number_that_changed_reaches_the_pages_that_show_it(book):
    build(book)
    assert "Listing 1.1" in build(book)["second.html"]
    edit(book, "More.", ".. code-block:: text\n   :caption: Other code\n\n   y")
    built = build(book)
    assert "Listing 1.2" in built["second.html"]
    assert built == built_afresh(book)


def test_a_script_or_style_that_changed_reaches_every_page(book):
    build(book)
    (book / "look" / "own.css").write_text(".fresh { color: green } #a-part { margin: 1px }")
    built = build(book)
    assert "margin: 1px" in built["seqbook-all.css"]
    assert built == built_afresh(book)


def test_a_build_after_a_failed_one_is_complete(book, monkeypatch):
    """Pages that were written but not finished are written again."""
    edit(book, "Words.", "Some words.")
    with monkeypatch.context() as broken:
        broken.setattr("lean_pages.fewer_scripts", None)
        with pytest.raises(ExtensionError):
            build(book)
    assert build(book) == built_afresh(book)


COURSE = {
    "_toc.yml": """root: index
subtrees:
  - numbered: true
    entries:
      - file: gates
      - file: attention
  - entries:
      - file: proved
      - file: status
""",
    "index.md": "# Start\n\n{claim-count}`all` claims.\n\n```{chapter-table}\n```\n",
    "proved.md": "# Proved\n\nSee {claim}`gates:sum`.\n\n```{claims-table}\n```\n",
    "status.md": "# Status\n\n```{notebook-status}\n```\n",
    "status.json": """{
  "processor": "p", "cores": 2, "threads": 1, "system": "s", "versions": {},
  "notebooks": {
    "book/gates.ipynb": {
      "seconds": 1.0, "bound": 60, "code_cells": 1, "claims": 1, "recorded": "2026-01-01"
    }
  }
}""",
}
SHOWING_NOTEBOOKS = ("index", "proved", "status")  # the pages


@pytest.fixture
def course(tmp_path):
    """Return the folder of a book of two notebooks, and of pages that show titles and claims."""
    folder = tmp_path / "book"
    folder.mkdir()
    for name, text in COURSE.items():
        (folder / name).write_text(text)
    for name in ("gates", "attention"):
        notebook = make_notebook(sum="claim('Two is two.', 2 == 2)")
        notebook.metadata["language_info"] = {"name": "python", "pygments_lexer": "python"}
        notebook.cells[0].source = f"# About {name}\n\nWords."
        notebook.cells[1].outputs = [new_output("stream", name="stdout", text="✓ Two is two.\n")]
        write(notebook, folder / f"{name}.ipynb")
    return folder


def build_course(folder):
    extensions = ["claims_as_lines", "chapter_table", "claims_table", "notebook_status"]
    return build(
        folder,
        extensions=["myst_nb", "sphinx_external_toc", *extensions, "finished_pages"],
        nb_execution_mode="off",
        html_static_path=[],
        html_css_files=[],
        exclude_patterns=["html", "doctrees", "jupyter_execute"],
    )


def reading_times(folder):
    return {n: (folder / "doctrees" / f"{n}.doctree").stat().st_mtime_ns for n in SHOWING_NOTEBOOKS}


def edit_notebook(path, change):
    notebook = nbformat.read(path, as_version=4)
    change(notebook)
    write(notebook, path)


def change_title(notebook):
    notebook.cells[0].source = notebook.cells[0].source.replace("About", "All about")


THREE = "claim('Three is three.', 3 == 3)"


def change_claim(notebook):
    notebook.cells[1].source = THREE
    notebook.cells[1].outputs[0].text = "✓ Three is three.\n"


def add_claim(notebook):
    notebook.cells[1].source += f"\n{THREE}"
    notebook.cells[1].outputs[0].text += "✓ Three is three.\n"


def rename_cell(notebook):
    """Give another cell the name, to which the page on claims has a link."""
    cell = notebook.cells[1].copy()
    notebook.cells[1].id = "product"
    notebook.cells.append(cell)


def add_words(notebook):
    notebook.cells[0].source += " More."


def double_minutes(notebook):
    notebook.cells[0].source += "\n\n" + "word " * 1200


def raise_limit(notebook):
    notebook.metadata["seqbook"]["runs_within_seconds"] = 90


def test_words_of_a_notebook_do_not_read_pages_again_that_show_none_of_them(course):
    build_course(course)
    before = reading_times(course)
    gates = course / "gates.ipynb"
    edit_notebook(gates, add_words)
    built = build_course(course)
    assert "Words. More." in built["gates.html"]
    assert reading_times(course) == before
    assert built == built_afresh(course, build_course)
    os.utime(gates)
    assert build_course(course) == built
    assert reading_times(course) == before


@pytest.mark.parametrize(
    ("change", "page", "shown"),
    [
        (change_title, "index.html", "All about gates"),
        (change_title, "proved.html", "1. All about gates"),
        (change_title, "status.html", "All about gates"),
        (change_claim, "proved.html", "Three is three."),
        (add_claim, "index.html", "3 claims."),
        (rename_cell, "proved.html", "gates.html#claim-product-1"),
        (double_minutes, "index.html", "<p>10</p>"),
        (raise_limit, "index.html", "<p>90</p>"),
    ],
)
def test_what_pages_show_of_a_notebook_is_up_to_date(course, change, page, shown):
    first = build_course(course)
    assert shown not in first[page]
    gates = course / "gates.ipynb"
    text = gates.read_text(encoding="utf-8")
    edit_notebook(gates, change)
    built = build_course(course)
    assert shown in built[page]
    assert built == built_afresh(course, build_course)
    gates.write_text(text, encoding="utf-8")
    assert build_course(course) == first


def test_pages_load_one_style_sheet_without_rules_that_none_uses(book):
    built = build(book)
    for name in ("index.html", "first.html", "genindex.html"):
        (sheet,) = re.findall(r'<link rel="stylesheet"[^>]*>', built[name])
        assert "_static/seqbook-all.css?v=" in sheet
    style = built["seqbook-all.css"]
    assert "#a-part" in style
    assert ".zyzzyva" not in style
    assert ".fresh" not in style


@pytest.mark.parametrize(
    ("style", "kept"),
    [
        (".used { a: b }", ".used{ a: b }"),
        (".used .other { a: b }", ""),
        (".used, .other { a: b }", ".used{ a: b }"),
        ("a:not(.other), p[class~='.x'] { a: b }", "a:not(.other),p[class~='.x']{ a: b }"),
        (".sm\\:used { a: b }", ""),
        ("#used::after { content: '}.other{' }", "#used::after{ content: '}.other{' }"),
        ("@media print { .used { a: b } .other { a: b } }", "@media print {.used{ a: b }}"),
        ("@media print { .other { a: b } }", ""),
        ("/* } */ @font-face { src: url(x) }", "@font-face { src: url(x) }"),
        (".used { }", ""),
    ],
)
def test_only_rules_that_a_page_can_match_remain(style, kept):
    rules = cut_down(parse(style), {"used"})
    serialized = serialize(rules).replace('"', "'")
    assert re.sub(r"\s+", "", serialized) == re.sub(r"\s+", "", kept)


def test_names_are_those_that_selectors_require():
    rules = parse(".a #b:not(.c) { x: y } @media print { .d\\.e { x: y } }")
    assert names(rules) == {"a", "b", "d.e"}


def test_imports_and_addresses_are_resolved(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "main.css").write_text('@charset "utf-8"; @import url("deep/inner.css?v=1");')
    (tmp_path / "deep" / "inner.css").write_text(
        ".a { background: url('x.png#y') } .b { background: url(data:image/png;base64,AA) }"
    )
    rules = style_sheets.read(tmp_path / "main.css", lambda path: path.name.upper())
    assert [style_sheets.addresses(rule) for rule in rules] == [
        ["X.PNG"],
        ["data:image/png;base64,AA"],
    ]
    (tmp_path / "main.css").write_text("}")
    with pytest.raises(ValueError, match="line 1"):
        style_sheets.read(tmp_path / "main.css", str)
