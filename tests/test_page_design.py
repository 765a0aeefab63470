"""The look of the pages: type, colour, frame, cards and progress. `make book` first."""

import re
from itertools import product

import pytest
from browser import NARROW, visiting
from bs4 import BeautifulSoup
from code_lines import with_lines
from conftest import HTML, ROOT
from cut_fonts import FONTS, LATIN, SYLLABLE, read_ranges

STATIC = ROOT / "book" / "_static"
SHEET = (STATIC / "type-and-colour.css").read_text(encoding="utf-8")
TEXTS = ("text-base", "text-muted", "success", "warning", "link")
GROUNDS = ("background", "surface", "success-bg")


# Type and colour.


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


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
    sources = [*(ROOT / "book").glob("*.md"), *(ROOT / "book").glob("*.ipynb")]
    used = set(SYLLABLE.findall("".join(path.read_text(encoding="utf-8") for path in sources)))
    missing = {letter for letter in used if ord(letter) not in read_ranges(style, "Book Hangul")}
    # Others are drawn in a font of the reader's machine: `tools/cut_fonts.py` adds them.
    assert len(missing) <= 0.05 * len(used), "".join(sorted(missing))


def test_the_fonts_are_loaded_and_used(browser, site):
    with visiting(browser, site) as visit:
        page = visit.open("lstm.html")
        loaded = page.evaluate(
            "[...document.fonts].filter((font) => font.status === 'loaded')"
            ".map((font) => `${font.family} ${font.weight}`.replaceAll('\"', ''))"
        )
        assert {"Book Serif 400", "Book Hangul 400"} <= set(loaded)
        preloaded = page.locator("link[rel=preload][as=font]").get_attribute("href")
        assert preloaded.endswith("serif.woff2")
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
        assert HTML.is_dir()
