"""How claims stand on a page: their kinds, and the code that checked them behind each."""

import io
import sys
from pathlib import Path

import pytest
from browser import NARROW, expect, visiting
from bs4 import BeautifulSoup
from conftest import ROOT, build_pages, make_notebook, write
from hosting import hosting
from pypdf import PdfReader
from sphinx.errors import ExtensionError

STATIC = ROOT / "book" / "_static"
TOC = """format: jb-book
root: index
parts:
  - numbered: true
    chapters:
      - file: first
      - file: page
  - chapters:
      - file: appendix
"""
# The extension that reads the table of contents warns when torch is loaded; its reader does not.
SITE_MAP = """from pathlib import Path

from sphinx_external_toc.parsing import parse_toc_yaml


def setup(app):
    site_map = parse_toc_yaml(Path(app.srcdir) / "_toc.yml")
    app.add_config_value("external_site_map", site_map, "")
"""
START = """# Start

```{toctree}
first
page
appendix
```
"""
CELL = {
    "before": ("x = 1\nprint(x)", "1\n"),
    "measured": (
        'half = 0.5\nprint("before")\nclaim("Half is {half:.1f}.", half < 1, half=half)\nprint(2)',
        "before\n✓ Half is 0.5.\n2\n",
    ),
    "equal": (
        'claim_equal("One", 1, 1)\nother = 2\nclaim_equal("Two", other, 2)\n'
        'claim_equal("Three", 3, 3, tolerance=2e-3)',
        "✓ One (equal to 10⁻¹²).\n✓ Two (equal to 10⁻¹²).\n✓ Three (equal to 2·10⁻³).\n",
    ),
    "found": (
        'finding("After {n} steps {left:.0%} is left.", True, headline="left", n=3, left=0.5)',
        "✓ After 3 steps 50% is left.\n",
    ),
    "loop": (
        'for n in range(2):\n    claim_equal(f"{n} is {n}", n, n)\n'
        '    claim("{n} < 2.", n < 2, n=n)',
        "✓ 0 is 0 (equal to 10⁻¹²).\n✓ 0 < 2.\n✓ 1 is 1 (equal to 10⁻¹²).\n✓ 1 < 2.\n",
    ),
}


def build(folder: Path, cells: dict[str, tuple[str, str]]) -> dict[str, BeautifulSoup]:
    """Build a book whose second chapter and whose appendix have these cells, with their output."""
    notebook = make_notebook(**{name: source for name, (source, _) in cells.items()})
    notebook.metadata["language_info"] = {"name": "python", "pygments_lexer": "python"}
    for cell, (_, printed) in zip(notebook.cells[1:], cells.values(), strict=True):
        cell.outputs = [{"output_type": "stream", "name": "stdout", "text": printed}]
        cell.outputs = [type(notebook)(output) for output in cell.outputs]
    for name in ("page", "appendix"):
        write(notebook, folder / f"{name}.ipynb")
    (folder / "index.md").write_text(START, encoding="utf-8")
    (folder / "first.md").write_text("# First\n", encoding="utf-8")
    (folder / "_toc.yml").write_text(TOC, encoding="utf-8")
    (folder / "site_map.py").write_text(SITE_MAP, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.delitem(sys.modules, "site_map", raising=False)
        warnings = build_pages(
            folder,
            extensions=["site_map", "myst_nb", "claims_as_lines"],
            nb_execution_mode="off",
            html_theme="basic",
            html_static_path=[str(STATIC)],
            html_css_files=["seqbook.css", "print.css"],
        )
    assert warnings == ""
    pages = {}
    for name in ("page", "appendix"):
        path = folder / "html" / f"{name}.html"
        # The class to which the book's theme, and so its style sheets, restrict their rules.
        text = path.read_text("utf-8").replace('class="body"', 'class="body bd-article"')
        path.write_text(text, "utf-8")
        pages[name] = BeautifulSoup(text, "html.parser")
    return pages


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("claims")


@pytest.fixture(scope="module")
def pages(folder):
    return build(folder, CELL)


def cells(page: BeautifulSoup):
    return dict(zip(CELL, page.select("div.cell"), strict=True))


def words(tag) -> str:
    return " ".join(tag.get_text().split())


def test_only_code_that_checks_nothing_stays_in_view(pages):
    shown = {name: cell.select(".cell_input") for name, cell in cells(pages["page"]).items()}
    assert {name: words(*code) for name, code in shown.items() if code} == {
        "before": "x = 1 print(x)",
        "measured": 'half = 0.5 print("before") print(2)',
    }


def test_a_measurement_stands_among_the_other_printed_lines(pages):
    output = cells(pages["page"])["measured"].select_one(".cell_output")
    assert [words(part) for part in output.find_all(recursive=False)] == [
        "before",
        'Half is 0.5. How claim 2.1 was checked claim("Half is {half:.1f}.", half < 1, half=half)',
        "2",
    ]
    assert output.select_one(".measurement > p.claim")["id"] == "claim-measured-1"


def test_identities_of_one_tolerance_share_a_line(pages):
    blocks = cells(pages["page"])["equal"].select(".checked.identity")
    assert [words(block.p) for block in blocks] == [
        "2 identities to 10⁻¹²: One; Two.",
        "1 identity to 2·10⁻³: Three.",
    ]
    first, second = blocks
    assert [claim["id"] for claim in first.select(".claim")] == ["claim-equal-1", "claim-equal-2"]
    assert words(first.summary) == "How claims 2.2 to 2.3 were checked"
    assert first.pre.get_text().splitlines() == [
        'claim_equal("One", 1, 1)',
        "other = 2",
        'claim_equal("Two", other, 2)',
    ]
    assert words(second.summary) == "How claim 2.4 was checked"


def test_a_finding_shows_its_number_to_the_eye_alone(pages):
    (block,) = cells(pages["page"])["found"].select(".checked.finding")
    number, headline, sentence = block.find_all("p", recursive=False)
    assert (words(number), words(headline)) == ("Finding 2.5", "50%")
    assert headline["aria-hidden"] == "true"
    assert words(sentence) == "After 3 steps 50% is left."
    assert sentence["id"] == "claim-found-1"


def test_a_loop_has_a_block_for_each_kind_with_its_code(pages):
    blocks = cells(pages["page"])["loop"].select(".checked")
    assert [[words(claim) for claim in block.select(".claim")] for block in blocks] == [
        ["0 < 2.", "1 < 2."],
        ["0 is 0", "1 is 1"],
    ]
    assert [claim["id"] for claim in blocks[0].select(".claim")] == ["claim-loop-2", "claim-loop-4"]
    for block in blocks:
        assert block.pre.get_text().startswith("for n in range(2):")


def test_claims_of_a_page_without_a_number_have_none(pages):
    names = {words(summary) for summary in pages["appendix"].select("summary")}
    assert names == {"How this claim was checked", "How these claims were checked"}
    assert words(pages["appendix"].select_one(".finding-number")) == "Finding"


def test_a_claim_that_no_statement_prints_fails_the_build(tmp_path):
    with pytest.raises(ExtensionError, match=r"\.ipynb: cell other: .*no statement prints 'Y'"):
        build(tmp_path, {"other": ('claim("X", True)', "✓ Y\n")})


@pytest.fixture
def site(pages, folder):
    with hosting(folder / "html") as address:
        yield address


@pytest.mark.parametrize("script", [True, False])
def test_the_check_opens_by_keyboard_with_and_without_a_script(browser, site, folder, script):
    with visiting(browser, site, script=script, width=NARROW, folder=folder / "html") as visit:
        page = visit.open("page.html")
        expect(page.get_by_text("Half is 0.5.")).to_be_visible()
        check = page.locator(".measurement").first
        closed = check.bounding_box()
        sentence = check.locator("p.claim").bounding_box()
        assert closed["height"] <= max(sentence["height"], 44) + 1  # a finger's width
        expect(check.locator("pre")).to_be_hidden()
        check.locator("summary").focus()
        page.keyboard.press("Enter")
        expect(check.locator("pre")).to_be_visible()
        page.keyboard.press("Enter")
        expect(check.locator("pre")).to_be_hidden()
        assert check.bounding_box() == closed


def test_a_link_leads_to_a_claim_whose_check_is_closed(browser, site, folder):
    with visiting(browser, site, folder=folder / "html") as visit:
        page = visit.open("page.html#claim-loop-3")
        expect(page.locator("#claim-loop-3")).to_be_in_viewport()
        expect(page.locator("#claim-loop-3")).to_have_text("1 is 1")
        assert page.locator("details[open]").count() == 0


def test_words_in_a_closed_check_are_found(browser, site, folder):
    """A browser that finds text in a closed check opens it."""
    with visiting(browser, site, folder=folder / "html") as visit:
        page = visit.open("page.html#:~:text=other%20%3D%202")
        expect(page.locator(".identity pre").first).to_be_visible()


def test_checks_can_be_read_on_paper(browser, site, folder):
    with visiting(browser, site, script=False, folder=folder / "html") as visit:
        page = visit.open("page.html")
        printed = PdfReader(io.BytesIO(page.pdf()))
    text = " ".join(" ".join(sheet.extract_text() for sheet in printed.pages).split())
    assert 'claim_equal("Two", other, 2)' in text
    assert "checked" not in text
