import pytest
from conftest import build_pages, make_notebook
from stored_notebooks import Length, measure_length, split_chapter


def test_reading_is_counted_in_words_and_lines():
    notebook = make_notebook(one="x = 1\n\nprint(x)", two="y = 2\n")
    notebook.cells[0].source = "Before.\n\n# The title\n\nTwo words, 한글."
    length = measure_length(notebook, split_chapter(notebook))
    assert length == Length(words=6, code_lines=3, folded_lines=0)


def test_code_that_a_page_folds_is_counted_apart():
    check = 'y = 3\nclaim("It is {y}.", y > 2, y=y)'
    notebook = make_notebook(
        set_up="import torch", shown=f"x = 1\nprint(x)\n{check}", solution="z = 2\nprint(z)"
    )
    cells = {cell.id: cell for cell in notebook.cells if cell.cell_type == "code"}
    cells["set-up"].metadata["tags"] = ["remove-cell"]
    cells["shown"].outputs = [{"name": "stdout", "text": "1\n✓ It is 3.\n"}]
    cells["solution"].metadata["tags"] = ["hide-cell"]
    hidden = notebook.cells[0].copy()
    hidden.metadata = {"tags": ["remove-cell"]}
    hidden.id = "hidden"
    notebook.cells.append(hidden)
    length = measure_length(notebook, split_chapter(notebook))
    assert length == Length(words=2, code_lines=3, folded_lines=3)


@pytest.mark.parametrize(
    ("words", "lines", "minutes"),
    [(1, 0, 5), (1000, 0, 5), (1001, 0, 10), (200, 80, 5), (200, 81, 10)],
)
def test_reading_minutes_are_rounded_up_to_five(words, lines, minutes):
    assert Length(words, lines, folded_lines=0).minutes == minutes
    assert Length(words, 0, folded_lines=lines).minutes_with_checks == minutes


def build(folder, source):
    """Build a page with the book's way of typesetting; return its HTML and the warnings."""
    (folder / "index.rst").write_text(source, encoding="utf-8")
    warnings = build_pages(folder, extensions=["katex_static"], html_math_renderer="katex")
    return (folder / "html" / "index.html").read_text(encoding="utf-8"), warnings


def test_formulas_are_typeset_while_the_book_is_built(tmp_path):
    html, warnings = build(
        tmp_path, "T\n=\n\n:math:`x_t`\n\n.. math:: \\frac{1}{T}\n   :label: mean\n"
    )
    assert warnings == ""
    assert html.count('class="katex"') == 2
    assert html.count('class="katex-display"') == 1
    assert 'class="eqno">(1)' in html
    assert 'href="_static/katex/katex.min.css' in html
    assert (tmp_path / "html/_static/katex/katex.min.css").is_file()
    assert "mathjax" not in html.lower()


@pytest.mark.parametrize("formula", [r"\frac{1", r"\unknown", "한"])
def test_a_formula_that_is_not_understood_is_a_warning_with_its_place(tmp_path, formula):
    _, warnings = build(tmp_path, f"T\n=\n\n:math:`{formula}`\n")
    assert "index.rst:4: WARNING: mathematics: " in warnings
    assert formula in warnings.replace("\\\\", "\\")
