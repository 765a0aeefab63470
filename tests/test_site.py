"""The built pages, read as a browser reads them: `make book` first."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from browser import visiting
from bs4 import BeautifulSoup
from conftest import CHAPTERS, HTML, ROOT
from stored_notebooks import code_cells, read_notebook, stored_claims

KATEX = ROOT / "book" / "_vendor" / "katex"
REMOTE = re.compile(r"(https?:)?//")
LOADING = {
    "script": "src",
    "img": "src",
    "audio": "src",
    "video": "src",
    "source": "src",
    "iframe": "src",
    "embed": "src",
    "object": "data",
    "link": "href",
}
LOADING_RELATIONS = {"stylesheet", "preload", "modulepreload", "prefetch", "preconnect", "icon"}
TEX = re.compile(r"\$\S[^$\n]*\$|\$\$|\\\(|\\\[|\\begin\{|[_^]\{")
MARKUP = re.compile(r"`|:[a-z]+:\S|<factory>|(?<![\w/])~[a-z]+\.")
SPOKEN = {"alt", "aria-label", "content", "placeholder", "title"}  # attributes that people read
FILE_NAME = re.compile(r"\S+\.(png|svg|jpe?g|gif|webp)", re.IGNORECASE)


@cache
def read(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


@cache
def anchors(path: Path) -> set[str]:
    page = read(path)
    return {tag["id"] for tag in page.find_all(id=True)} | {
        tag["name"] for tag in page.find_all("a", attrs={"name": True})
    }


@pytest.fixture(scope="module")
def pages() -> list[Path]:
    paths = sorted(HTML.rglob("*.html")) if (HTML / "index.html").is_file() else []
    paths = [path for path in paths if "_static" not in path.relative_to(HTML).parts]
    if not paths:
        pytest.fail(f"no pages in {HTML}: run make book")
    return paths


def loads(page: BeautifulSoup) -> Iterator[tuple[str, str]]:
    """Yield the element's name and the address of everything that a page makes a browser load."""
    for name, attribute in LOADING.items():
        for tag in page.find_all(name, attrs={attribute: True}):
            if name != "link" or LOADING_RELATIONS & set(tag.get("rel", [])):
                yield name, tag[attribute]


def broken_links(path: Path) -> Iterator[str]:
    targets = [tag["href"] for tag in read(path).find_all(href=True)]
    for target in [*targets, *(address for _, address in loads(read(path)))]:
        parts = urlsplit(target)
        if parts.scheme or parts.netloc:
            continue
        file = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        place = unquote(parts.fragment)
        if not file.is_file():
            yield f"{target}: no such file"
        elif place and file.suffix == ".html" and place not in anchors(file):
            yield f"{target}: no such place in the page"


def repeated_ids(path: Path) -> Iterator[str]:
    ids = [tag["id"] for tag in read(path).find_all(id=True)]
    yield from {name for name in ids if ids.count(name) > 1}


def pictures_without_words(path: Path) -> Iterator[str]:
    for picture in read(path).find_all("img"):
        alt = picture.get("alt", "").strip()
        if not alt or FILE_NAME.fullmatch(alt) or "/" in alt:
            yield f"{picture.get('src', '')[:80]}: alternative text {alt!r}"


def loads_from_elsewhere(path: Path) -> Iterator[str]:
    page = read(path)
    addresses = list(loads(page))
    yield from (address for _, address in addresses if REMOTE.match(address))
    styles = {"<style>": "\n".join(tag.get_text() for tag in page.find_all("style"))}
    for name, address in addresses:
        file = path.parent / unquote(urlsplit(address).path)
        if name == "link" and file.suffix == ".css" and file.is_file():
            styles[address] = file.read_text(encoding="utf-8")
    for name, style in styles.items():
        for address_found in re.findall(
            r"""(?:url\(|@import)\s*['"]?((?:https?:)?//[^'")\s]+)""", style
        ):
            yield f"{name}: {address_found}"


def raw_mathematics(path: Path) -> Iterator[str]:
    page = read(path)
    for formula in page.select(".math"):
        if not formula.select_one(".katex"):
            yield f"not typeset: {formula.get_text()[:60]!r}"
    yield from (f"error: {tag.get('title')}" for tag in page.select(".katex-error"))
    for text in page.find_all(string=TEX):
        if not text.find_parent(["pre", "code", "script", "style", "annotation"]):
            yield f"not typeset: {text.strip()[:60]!r}"
    for tag in page.find_all(True):
        for name, value in tag.attrs.items():
            if name in SPOKEN and TEX.search(value):
                yield f"not typeset in {name}: {value[:60]!r}"


def raw_markup(path: Path) -> Iterator[str]:
    for text in read(path).body.find_all(string=MARKUP):
        if not text.find_parent(["pre", "code", "script", "style", "annotation"]):
            yield f"not read: {text.strip()[:60]!r}"


def incomplete_heads(path: Path) -> Iterator[str]:
    page = read(path)
    title = page.title.get_text(strip=True) if page.title else ""
    parts = re.split(r" (?:—|-) ", title)
    if not title:
        yield "no title"
    elif len(set(parts)) < len(parts):
        yield f"a title that repeats itself: {title}"
    if not page.html.get("lang"):
        yield "no language"
    if not page.find("meta", attrs={"name": "viewport"}):
        yield "no viewport"
    headings = page.find_all("h1")
    on_screen = [tag for tag in headings if not tag.find_parent(id="jb-print-docs-body")]
    if len(on_screen) != 1:
        yield f"{len(on_screen)} headings of the first level"
    for tag in page.find_all(re.compile("^h[1-6]$")):
        if not tag.get_text(strip=True):
            yield f"an empty heading {tag.name}"


def repeated_titles(pages: list[Path]) -> list[str]:
    titles = [read(path).title.get_text(strip=True) for path in pages]
    return [title for title in titles if titles.count(title) > 1]


RULES = [
    broken_links,
    repeated_ids,
    pictures_without_words,
    loads_from_elsewhere,
    raw_mathematics,
    raw_markup,
    incomplete_heads,
]


@pytest.mark.parametrize("rule", RULES)
def test_every_page_keeps_the_rule(rule, pages):
    problems = {path.relative_to(HTML).as_posix(): list(rule(path)) for path in pages}
    assert {name: violations for name, violations in problems.items() if violations} == {}


def test_every_page_has_a_title_of_its_own(pages):
    assert repeated_titles(pages) == []


SOUND = """<html lang="en"><head><title>T</title><meta name="viewport">
<link rel="canonical" href="https://example.org/"><link rel="stylesheet" href="s.css?v=1"></head>
<body><h1 id="top">T</h1><a href="https://example.org/#x">out</a><a href="#">up</a>
<a href="page.html#top">here</a><img src="p.png" alt="A curve that falls.">
<code>$$x$$</code><span class="math"><span class="katex">x</span></span>BODY</body></html>"""


@pytest.fixture
def make(tmp_path):
    def write(*, style: str = "a { background: url(p.png) }", **replace: str) -> Path:
        page = SOUND
        for old, new in replace.items():
            page = page.replace(old, new)
        (tmp_path / "s.css").write_text(style)
        (tmp_path / "p.png").touch()
        (tmp_path / "page.html").write_text(page)
        return tmp_path / "page.html"

    return write


def test_a_sound_page_keeps_all_rules(make):
    path = make()
    assert [list(rule(path)) for rule in RULES] == [[]] * len(RULES)


@pytest.mark.parametrize(
    ("rule", "body"),
    [
        (broken_links, '<a href="gone.html">x</a>'),
        (broken_links, '<a href="#gone">x</a>'),
        (broken_links, '<a href="page.html#gone">x</a>'),
        (broken_links, '<img src="gone.png" alt="A curve.">'),
        (repeated_ids, '<p id="top">x</p>'),
        (pictures_without_words, '<img src="p.png">'),
        (pictures_without_words, '<img src="p.png" alt=" ">'),
        (pictures_without_words, '<img src="p.png" alt="_images/0a1b.png">'),
        (loads_from_elsewhere, '<script src="https://example.org/x.js"></script>'),
        (loads_from_elsewhere, '<script src="//example.org/x.js"></script>'),
        (loads_from_elsewhere, '<link rel="preload" href="https://example.org/x.woff2">'),
        (loads_from_elsewhere, '<audio src="http://example.org/x.wav"></audio>'),
        (loads_from_elsewhere, "<style>@import '//example.org/x.css';</style>"),
        (raw_mathematics, "Where $$x$$ is."),
        (raw_mathematics, r"Where \(x\) is."),
        (raw_mathematics, '<span class="math">x</span>'),
        (raw_mathematics, '<span class="katex-error" title="Undefined">x</span>'),
        (raw_mathematics, "It costs $O(n^2)$ in memory."),
        (raw_mathematics, '<a title="It costs $O(n^2)$.">x</a>'),
        (raw_mathematics, '<meta content="Of $n$ symbols">'),
        (raw_mathematics, "The state h_{t-1}."),
        (raw_markup, "See ``lstm_step``."),
        (raw_markup, "See :func:`lstm_step`."),
        (raw_markup, "<dt>Recipe(options: ~typing.Any)</dt>"),
        (raw_markup, "<dt>Recipe(options=&lt;factory&gt;)</dt>"),
        (incomplete_heads, "<h1>Two</h1>"),
        (incomplete_heads, "<h2> </h2>"),
    ],
)
def test_a_rule_finds_what_it_forbids(make, rule, body):
    assert len(list(rule(make(BODY=body)))) == 1


def test_the_other_parts_of_a_page_are_looked_at(make):
    elsewhere = make(style='a { src: url("https://example.org/x.woff2") }')
    assert list(loads_from_elsewhere(elsewhere)) == ["s.css?v=1: https://example.org/x.woff2"]
    read.cache_clear()
    bare = make(**{"<title>T</title>": "", ' lang="en"': "", '<meta name="viewport">': ""})
    assert list(incomplete_heads(bare)) == ["no title", "no language", "no viewport"]
    read.cache_clear()
    doubled = make(**{"<title>T</title>": "<title>T — T</title>"})
    assert list(incomplete_heads(doubled)) == ["a title that repeats itself: T — T"]


def statements(notebook: Path) -> list[str]:
    """Return what the claims in a notebook's stored output say."""
    return [claim.statement for claim in stored_claims(read_notebook(notebook))]


def without_tolerance(statement: str) -> str:
    """Return the statement of an identity as a page shows it, which groups them by tolerance."""
    return re.sub(r" \(equal to [^)]*\)\.$", "", statement)


def test_every_claim_of_a_notebook_is_on_its_page(pages):
    for notebook in sorted((ROOT / "book").glob("*.ipynb")):
        path = HTML / f"{notebook.stem}.html"
        assert path in pages
        claims = {claim["id"]: claim.get_text() for claim in read(path).select(".claim")}
        assert claims == {
            claim.anchor: without_tolerance(claim.statement)
            for claim in stored_claims(read_notebook(notebook))
        }
        assert claims, f"{notebook.name} claims nothing"


def test_the_list_of_claims_holds_each_and_leads_to_where_it_stands(pages):
    rows = read(HTML / "proved.html").select("table.claims-table tbody tr")
    listed = [tuple(cell.get_text(strip=True) for cell in row("td")) for row in rows]
    chapters = [
        link["href"] for link in read(HTML / "index.html").select(".chapter-map .map-title a")
    ]
    notebooks = [ROOT / "book" / f"{Path(href).stem}.ipynb" for href in chapters]
    assert notebooks == CHAPTERS
    assert set(listed) == {
        (f"{chapter}.{number}", statement)
        for chapter, notebook in enumerate(notebooks, start=1)
        for number, statement in enumerate(statements(notebook), start=1)
    }
    assert len(listed) == len(set(listed))
    for row, (_, statement) in zip(rows, listed, strict=True):
        page, _, anchor = row.a["href"].partition("#")
        said = read(HTML / page).find(id=anchor).get_text()
        assert said == without_tolerance(statement)
    for page in ("index", "proved"):
        assert f" {len(listed)} " in " ".join(read(HTML / f"{page}.html").main.get_text().split())


def test_claims_are_listed_by_kind(pages):
    for section in read(HTML / "proved.html").select("section section"):
        kinds = [table.th.get_text(strip=True) for table in section("table")]
        assert kinds == [k for k in ("Findings", "Measurements", "Identities") if k in kinds] != []
        for kind, table in zip(kinds, section("table"), strict=True):
            for row in table.tbody("tr"):
                assert ("(equal to " in row.get_text()) == (kind == "Identities")


def test_the_code_of_a_cell_is_on_its_page_whole_and_checks_are_folded(pages):
    for notebook in sorted((ROOT / "book").glob("*.ipynb")):
        page = read(HTML / f"{notebook.stem}.html")
        shown = Counter(
            line
            for code in page.select("main div.highlight pre")
            for line in code.get_text().splitlines()
        )
        for cell in code_cells(read_notebook(notebook)):
            lines = "".join(cell["source"]).splitlines()
            removed = {"remove-cell", "remove-input"} & set(cell["metadata"].get("tags", []))
            assert removed or Counter(lines) - shown <= Counter([""] * len(lines)), cell["id"]
        checks = page.select("details.how-checked")
        assert checks
        for code in page.select(".cell_input pre"):
            assert not re.search(r"^(claim|claim_equal|finding)\(", code.get_text(), re.M)
        names = [check.summary.get_text() for check in checks]
        assert len(set(names)) == len(names) or notebook.stem == "speed"


def test_claims_can_be_searched_by_words(browser, site):
    listed = [row.get_text().lower() for row in read(HTML / "proved.html").select("tbody tr")]
    matching = [text for text in listed if "clipping" in text and "all three" in text]
    assert 0 < len(matching) < len(listed)
    with visiting(browser, site) as visit:
        page = visit.open("proved.html")
        page.get_by_label("Show only claims").fill("All three CLIPPING")
        assert page.locator("tbody tr:visible").count() == len(matching)
        assert page.locator("output").inner_text() == f"{len(matching)} of {len(listed)} claims"
        chapters = page.locator("article section section:visible").count()
        assert chapters == len({text.strip().partition(".")[0] for text in matching})
        page.get_by_label("Show only claims").fill("")
        assert page.locator("tbody tr:visible").count() == len(listed)
        assert visit.problems == []
    with visiting(browser, site, script=False) as visit:
        page = visit.page
        page.goto(site + "proved.html")
        assert page.locator("tbody tr:visible").count() == len(listed)
        assert not page.get_by_label("Show only claims").is_visible()


def test_every_picture_of_a_notebook_is_on_its_page_with_its_words(pages):
    for notebook in sorted((ROOT / "book").glob("*.ipynb")):
        alternatives = {
            tag.get("alt") for tag in read(HTML / f"{notebook.stem}.html").find_all("img")
        }
        for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
            alt = cell["metadata"].get("mystnb", {}).get("image", {}).get("alt")
            assert alt is None or alt in alternatives


def test_titles_of_exercises_tell_level_and_minutes():
    for notebook in CHAPTERS:
        titles = read(HTML / f"{notebook.stem}.html").select(".exercise > .admonition-title")
        assert titles
        for title in titles:
            assert re.fullmatch(
                r"Exercise \d+\.\d+ [^()]+ \(★+, \d+ minutes\)", " ".join(title.get_text().split())
            )


def test_katex_style_sheet_and_script_are_of_one_version():
    sheet = (KATEX / "katex.min.css").read_text(encoding="utf-8")
    script = (KATEX / "katex.min.js").read_text(encoding="utf-8")
    (of_sheet,) = re.findall(r'\.katex-version:after\{content:"([\d.]+)"', sheet)
    assert re.findall(r'version:"([\d.]+)"', script) == [of_sheet]
    fonts = set(re.findall(r"url\(([^)]+)\)", sheet))
    assert {font for font in fonts if (KATEX / font).is_file()} == fonts != set()
