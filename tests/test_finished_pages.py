"""A build after an edit writes what has changed, and ends with the same pages as a full build."""

import re
import shutil

import pytest
import style_sheets
from conftest import build_pages
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


def build(folder):
    """Build, and return the pages, the style sheet and the index of the search by their names."""
    warnings = build_pages(
        folder,
        extensions=["sphinx_exercise", "finished_pages"],
        html_static_path=["look"],
        html_css_files=["own.css"],
        numfig=True,
        exclude_patterns=["html"],
    )
    assert warnings == ""
    html = folder / "html"
    files = [*html.glob("*.html"), html / "_static" / "seqbook-all.css", html / "searchindex.js"]
    return {path.name: path.read_text(encoding="utf-8") for path in files}


def times(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("html/*.html")}


def built_afresh(folder):
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


def test_a_build_that_failed_is_made_up_for(book, monkeypatch):
    """Pages that were written but not finished are written again."""
    edit(book, "Words.", "Some words.")
    with monkeypatch.context() as broken:
        broken.setattr("lean_pages.fewer_scripts", None)
        with pytest.raises(ExtensionError):
            build(book)
    assert build(book) == built_afresh(book)


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
def test_a_rule_is_kept_if_a_page_can_match_it(style, kept):
    rules = cut_down(parse(style), {"used"})
    shown = serialize(rules).replace('"', "'")
    assert re.sub(r"\s+", "", shown) == re.sub(r"\s+", "", kept)


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
