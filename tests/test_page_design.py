"""The look of the pages: type, colour, frame, cards and progress. `make book` first."""

import copy
import json
import re
from itertools import product

import pytest
from browser import NARROW, expect, settle, visiting
from bs4 import BeautifulSoup
from code_lines import UNCOLOURED, with_lines
from conftest import (
    CHAPTERS,
    FIGURE,
    HTML,
    PIXEL,
    ROOT,
    build_pages,
    contrast,
    make_notebook,
    write,
)
from cut_fonts import FONTS, LATIN, read_ranges, syllables
from draw_live_figures import written_text
from nbformat.v4 import new_output
from pygments.styles import get_style_by_name
from pygments.token import Token, string_to_tokentype

STATIC = ROOT / "book" / "_static"
SHEET = (STATIC / "type-and-colour.css").read_text(encoding="utf-8")
TEXTS = ("text-base", "text-muted", "success", "warning", "link")
GROUNDS = ("background", "surface", "success-bg")


# Type and colour.


def test_contrast_is_that_of_the_guidelines():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_texts_are_legible_on_paper_code_and_marks(theme):
    block = SHEET.partition(f'html[data-theme="{theme}"] {{')[2].partition("}")[0]
    colours = dict(re.findall(r"--pst-color-([\w-]+): (#[0-9a-f]{6});", block))
    for text, ground in product(TEXTS, GROUNDS):
        assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)


def test_the_fonts_are_small_and_have_what_the_book_uses():
    style = (FONTS / "fonts.css").read_text(encoding="utf-8")
    files = re.findall(r'url\("([^"]+)"\)', style)
    assert {path.name for path in FONTS.glob("*.woff2")} == set(files)
    assert sum((FONTS / name).stat().st_size for name in files) <= 130_000
    assert style.count("font-display: swap") == len(files) == 5
    assert len(list(FONTS.glob("LICENSE-*.txt"))) == 2
    assert set(range(0x20, 0x7F)) <= read_ranges(style, "Book Serif") <= LATIN
    used = syllables()
    missing = used - read_ranges(style, "Book Hangul")
    # Others are drawn in a font of the reader's machine: `tools/cut_fonts.py` adds them.
    assert len(missing) <= 0.05 * len(used), "".join(map(chr, sorted(missing)))


def test_the_fonts_are_loaded_and_used(browser, site):
    with visiting(browser, site) as visit:
        page = visit.open("lstm.html")
        loaded = page.evaluate(
            "[...document.fonts].filter((font) => font.status === 'loaded')"
            ".map((font) => `${font.family} ${font.weight}`.replaceAll('\"', ''))"
        )
        assert {"Book Serif 400", "Book Hangul 400"} <= set(loaded)
        preloaded = [link.get_attribute("href") for link in page.locator("link[as=font]").all()]
        names = [address.rpartition("/")[2] for address in preloaded]
        assert names == ["serif.woff2", "serif-bold.woff2"]
        assert sum(url.endswith("/serif.woff2") for url in visit.requested) == 1
        assert visit.problems == []


CODE = (
    '<div class="highlight"><pre><span></span><span class="k">if</span> x:\n'
    '<span class="w">    </span><span class="n">y</span>\n\n        z()\n</pre></div>'
)


def test_lines_of_code_know_their_indent_and_keep_their_text():
    page = with_lines(CODE)
    before, after = (BeautifulSoup(text, "html.parser") for text in (CODE, page))
    assert after.get_text() == before.get_text()
    lines = after.select("pre > .code-line")
    assert [line.get_text() for line in lines] == ["if x:\n", "    y\n", "        z()\n"]
    assert [line.get("style") for line in lines] == [None, "--indent:4", "--indent:8"]
    assert with_lines("<pre>x</pre>") == "<pre>x</pre>"


def test_only_what_has_a_colour_of_its_own_is_an_element():
    for style in map(get_style_by_name, ("a11y-high-contrast-light", "a11y-high-contrast-dark")):
        text = style.style_for_token(Token.Text)
        for name in UNCOLOURED.values():
            assert style.style_for_token(string_to_tokentype(name)) == text
    assert not BeautifulSoup(with_lines(CODE), "html.parser").select(".n, .p, .w")


@pytest.mark.parametrize("name", ["lstm.html", "attention.html"])
def test_on_a_phone_code_wraps_with_a_hanging_indent(browser, site, name):
    with visiting(browser, site, width=NARROW) as visit:
        page = visit.open(name)
        visit.open_folds()
        assert (
            page.evaluate(
                "[...document.querySelectorAll('.cell_input pre, .how-checked pre')]"
                ".filter((pre) => pre.scrollWidth > pre.clientWidth).length"
            )
            == 0
        )
        first, second = page.evaluate(
            """() => {
              for (const line of document.querySelectorAll('.cell_input .code-line')) {
                const words = document.createRange();
                words.selectNodeContents(line);
                const boxes = [...words.getClientRects()].filter((box) => box.width > 4);
                const [top, bottom] = [boxes[0], boxes.at(-1)];
                if (bottom.top > top.bottom) return [top.left, bottom.left];
              }
            }"""
        )
        assert second > first + 10


@pytest.mark.parametrize(("scheme", "mode"), [("light", "multiply"), ("dark", "lighten")])
def test_figures_blend_with_the_paper(browser, site, scheme, mode):
    with visiting(browser, site, scheme=scheme) as visit:
        page = visit.open("lstm.html")
        figure = page.locator("main figure img").first
        assert figure.evaluate("(image) => getComputedStyle(image).mixBlendMode") == mode


# The head of a page.


def test_the_head_names_the_section_and_shows_how_far_it_is(browser, site):
    with visiting(browser, site) as visit:
        page = visit.open("lstm.html")
        place = page.locator(".page-place")
        expect(place).to_contain_text("5. Long short-term memory")
        sections = page.locator("article > section > section")
        segments = page.locator(".page-segments > span")
        expect(segments).to_have_count(sections.count())
        expect(page.locator(".page-segments .current")).to_have_count(0)
        last = sections.count() - 2
        page.evaluate(
            "(k) => document.querySelectorAll('article > section > section')[k]"
            ".scrollIntoView({behavior: 'instant'})",
            last,
        )
        name = sections.nth(last).locator("h2").evaluate("(h) => h.childNodes[1].textContent")
        expect(page.locator(".page-section")).to_have_text(name)
        expect(segments.nth(last)).to_have_class("current")
        expect(page.locator(".page-segments .passed")).to_have_count(last)
        widths = segments.evaluate_all("(all) => all.map((one) => one.offsetWidth)")
        heights = sections.evaluate_all("(all) => all.map((one) => one.offsetHeight)")
        assert widths.index(max(widths)) == heights.index(max(heights))
        assert visit.problems == []


def test_without_javascript_the_head_names_the_page(browser, site):
    with visiting(browser, site, width=NARROW, script=False) as visit:
        page = visit.open("gru.html")
        expect(page.locator(".page-place a")).to_contain_text("Gated recurrent unit")
        expect(page.locator(".page-section")).to_be_empty()


# Cards.


CARDS = """# A chapter

:::{opening} 한 장
:figure: fig-point
:needs: first

**The question of this chapter:** Why?

Because.

You will be able to

- do *this*;
- do that;
- do more.
:::

## What was shown

:::{ending}
:findings: printed-1 "is two"

- Something.

**What remains broken.** Much.
:::
"""
MAP = """# Start

:::{chapter-map}
- {doc}`first`, `fig-first`: *all that is left*
- {doc}`second`, `fig-point`
:::
"""


@pytest.fixture
def write_book(tmp_path):
    """Build a book of two chapters, the second with cards; return its pages and the warnings."""
    shown = {"image/png": PIXEL, "text/plain": "<Figure>"}

    def build(old: str = "", new: str = "", start: str = MAP):
        for name in ("first", "second"):
            notebook = make_notebook(printed="claim('Two is two.', 2 == 2)", fig_point="point()")
            notebook.metadata["language_info"] = {"name": "python", "pygments_lexer": "python"}
            source = CARDS.replace(old, new) if name == "second" else f"# About {name}"
            notebook.cells[0].source = source
            figure = copy.deepcopy(FIGURE)
            figure["mystnb"]["figure"]["name"] = "fig-point" if name == "second" else "fig-first"
            notebook.cells[2].metadata = figure
            printed = new_output("stream", name="stdout", text="✓ Two is two.\n")
            notebook.cells[1].outputs = [printed]
            notebook.cells[2].outputs = [new_output("display_data", shown)]
            write(notebook, tmp_path / f"{name}.ipynb")
        (tmp_path / "index.md").write_text(start, encoding="utf-8")
        (tmp_path / "_toc.yml").write_text(
            "root: index\nsubtrees:\n- numbered: true\n  entries:\n"
            "  - file: first\n  - file: second\n",
            encoding="utf-8",
        )
        warnings = build_pages(
            tmp_path,
            extensions=["myst_nb", "sphinx_external_toc", "claims_as_lines", "chapter_cards"],
            nb_execution_mode="off",
            numfig=True,
            myst_enable_extensions=["colon_fence"],
            exclude_patterns=["html", "doctrees"],
        )
        html = tmp_path / "html"
        return {
            name: BeautifulSoup((html / f"{name}.html").read_text("utf-8"), "html.parser")
            for name in ("index", "first", "second")
        }, warnings

    return build


def words(tag) -> str:
    return " ".join(tag.get_text(" ").split())


def test_a_chapter_opens_and_ends_with_its_cards(write_book):
    pages, warnings = write_book()
    assert warnings == ""
    opening = pages["second"].select_one(".opening")
    assert words(opening.select_one(".opening-place")) == "Chapter 2 of 2 · 한 장"
    assert len(opening.select(".opening-words li")) == 3
    picture, link = opening.select_one(".hero img"), opening.select_one(".hero figcaption a")
    assert picture["alt"] == pages["second"].select_one("figure:not(.hero) img")["alt"]
    assert (words(link), link["href"]) == ("Fig. 2.1", "#fig-point")
    facts = dict(zip(map(words, opening("dt")), map(words, opening("dd")), strict=True))
    assert facts["Runs in"].startswith("under 60 seconds")
    assert facts["Builds on"] == "About first"
    ending = pages["second"].select_one(".ending")
    tile = ending.select_one(".ending-findings > li")
    assert [words(part) for part in tile("p")] == ["is two", "Two is two.", "Claim 2.1"]
    assert tile.a["href"] == "#claim-printed-1"
    assert words(ending.select_one(".ending-broken")) == "What remains broken. Much."
    button = ending.select_one("button.mark-read")
    assert button["data-page"] == "second"
    assert button.has_attr("hidden")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("fig-point", "fig-gone", "opening: no figure is called fig-gone"),
        (":needs: first", ":needs: gone", "opening: no chapter is called gone"),
        ("**The question of this chapter:** ", "", "opening: expected '**The question"),
        ("- do more.", "", "opening: expected one list, of 3 abilities"),
        ("printed-1", "printed-9", "ending: no claim is called printed-9"),
        ('"is two"', '"is three"', "ending: 'is three' is not in the claim 'Two is two.'"),
        ('printed-1 "is two"', "printed-1", "expected at most 3 of the form"),
        ("**What remains broken.** ", "", "ending: expected a paragraph"),
    ],
)
def test_a_card_says_what_is_wrong(write_book, old, new, message):
    _, warnings = write_book(old, new)
    assert message in warnings


def test_the_map_shows_every_chapter_as_a_card_with_a_picture(write_book, tmp_path):
    pages, warnings = write_book()
    assert warnings == ""
    cards = pages["index"].select("ol.chapter-map > li")
    assert [card.a["href"] for card in cards] == ["first.html", "second.html"]
    assert [words(card.select_one(".map-title")) for card in cards] == [
        "1 About first",
        "2 A chapter",
    ]
    assert words(cards[0].select_one(".map-limit")) == "all that is left"
    for card in cards:
        assert (tmp_path / "html" / card.img["src"]).is_file()
        assert card.img["alt"].endswith(".")
    assert pages["index"].select_one(".reading-progress").has_attr("hidden")
    _, warnings = write_book(start=MAP.replace("`fig-first`: ", "`fig-gone`: "))
    assert "chapter-map: first has no fig-gone" in warnings
    _, warnings = write_book(start=MAP.replace("- {doc}`second`, `fig-point`\n", ""))
    assert "chapter-map: expected the chapters first, second" in warnings


def test_the_start_page_leads_to_every_chapter():
    page = BeautifulSoup((HTML / "index.html").read_text("utf-8"), "html.parser")
    cards = page.select("ol.chapter-map > li")
    assert [card.select_one("a")["href"] for card in cards] == [
        f"{path.stem}.html" for path in CHAPTERS
    ]
    for card in cards:
        assert (HTML / card.img["src"]).is_file()
        assert re.search(r"\d+ minutes", card.get_text())


# The network that writes on the start page.


def test_the_writer_finishes_at_once_where_motion_is_reduced(browser, site):
    """What it writes is what the package's own model gives, letter by letter."""
    with visiting(browser, site) as visit:
        page = visit.open("index.html")
        text = page.locator(".writer-text")
        first = written_text(seed=1)
        expect(text).to_have_text(first)
        page.get_by_role("button", name="Write again").click()
        expect(text).not_to_have_text(first)
        assert len(text.text_content()) == len(first) == 220
        assert visit.axe() == []
        assert visit.problems == []


def test_the_writer_can_be_paused_and_stops_by_itself(browser, site):
    with visiting(browser, site) as visit:
        visit.page.emulate_media(reduced_motion="no-preference")
        page = visit.open("index.html")
        length = "document.querySelector('.writer-text').textContent.length"
        page.wait_for_function(f"{length} > 10")
        page.get_by_role("button", name="Pause").click()
        paused = page.evaluate(length)
        settle(page, milliseconds=500)
        assert page.evaluate(length) == paused < 220
        page.get_by_role("button", name="Go on").click()
        page.wait_for_function(f"{length} === 220")
        expect(page.get_by_role("button", name="Pause")).to_be_disabled()
        assert visit.problems == []


def test_without_javascript_the_writer_is_a_picture(browser, site):
    with visiting(browser, site, script=False) as visit:
        page = visit.open("index.html")
        expect(page.locator("#live-writer img")).to_be_visible()


# Progress.


def test_a_chapter_is_marked_as_read_by_its_button_alone(browser, site):
    with visiting(browser, site) as visit:
        page = visit.open("index.html")
        progress = page.locator(".reading-progress")
        expect(progress).to_be_hidden()
        visit.open("gru.html")
        page.evaluate("window.scrollTo(0, document.documentElement.scrollHeight)")
        assert page.evaluate("localStorage.getItem('seqbook-progress')") is None
        button = page.get_by_role("button", name="Mark chapter 6 as read")
        expect(button).to_have_attribute("aria-pressed", "false")
        button.click()
        expect(button).to_have_attribute("aria-pressed", "true")
        ticked = page.locator(".bd-sidebar-primary .is-read")
        expect(ticked).to_have_text(re.compile(r"6\. Gated recurrent unit\s*, read"))
        visit.open("index.html")
        expect(page.locator(".chapter-map .is-read")).to_have_count(1)
        expect(progress).to_contain_text("You have marked 1 chapter as read, in this browser only.")
        assert visit.axe() == []
        page.get_by_role("button", name="Forget").click()
        expect(progress).to_be_hidden()
        expect(page.locator(".is-read")).to_have_count(0)
        assert page.evaluate("localStorage.getItem('seqbook-progress')") is None
        assert visit.problems == []


@pytest.mark.parametrize(
    "kept",
    [
        "no JSON",
        "null",
        '{"version": 2, "read": ["gru"]}',
        '{"version": 1}',
        '{"version": 1, "read": 3}',
    ],
)
def test_what_is_kept_in_another_form_is_ignored(browser, site, kept):
    with visiting(browser, site) as visit:
        visit.page.add_init_script(f"localStorage.setItem('seqbook-progress', {json.dumps(kept)})")
        page = visit.open("gru.html")
        expect(page.locator(".mark-read")).to_have_attribute("aria-pressed", "false")
        expect(page.locator(".is-read")).to_have_count(0)
        assert visit.problems == []


def test_a_browser_that_keeps_nothing_shows_no_button(browser, site):
    with visiting(browser, site) as visit:
        visit.page.add_init_script(
            "Object.defineProperty(window, 'localStorage', {get() { throw new Error('no'); }})"
        )
        page = visit.open("gru.html")
        expect(page.locator(".mark-read")).to_be_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_once_a_chapter_is_read(browser, site, scheme):
    with visiting(browser, site, scheme=scheme) as visit:
        page = visit.open("gru.html")
        page.locator(".mark-read").click()
        expect(page.locator(".is-read")).to_have_count(1)
        assert visit.axe() == []
