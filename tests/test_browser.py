"""Every built page in a real browser, below a path and without a network: `make book` first."""

import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import pytest
from browser import NARROW, WIDE, Visit, expect, visiting
from conftest import HTML
from hosting import hosting
from playwright.sync_api import Browser

PAGES = sorted(
    path.relative_to(HTML).as_posix()
    for folder in (HTML, HTML / "api")
    for path in folder.glob("*.html")
) or ["index.html"]
CHAPTER = "gru.html"
MOST_BYTES = 1_000_000
SCHEMES = ("dark", "light")


@pytest.fixture
def visit(browser, site, request):
    """Open a page of the book as the test asks: ``width``, ``scheme``, ``script``."""
    with visiting(browser, site, **getattr(request, "param", {})) as visit:
        yield visit


def seen_as(**options):
    return pytest.mark.parametrize("visit", [options], indirect=True)


def faults(visit: Visit, schemes: Iterable[str] = SCHEMES) -> list[str]:
    """Return all that is wrong with a page that was opened: one visit serves every check."""
    problems = visit.axe() if visit.width == NARROW else []  # as it comes, with its folds shut
    visit.show_all()
    visit.open_folds()
    problems += visit.unseen() + visit.too_wide()
    for scheme in schemes:
        visit.colour(scheme)
        problems += [f"{scheme}: {fault}" for fault in visit.axe()]
        if visit.is_dark() != (scheme == "dark"):
            problems.append(f"not {scheme}")
    problems += visit.keyboard()
    if visit.transfer() > MOST_BYTES:
        problems.append(f"too heavy: {visit.transfer():,} bytes")
    return problems + visit.problems


@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_whole_and_for_everybody(browser, site, name, width):
    """Nothing fails or comes from elsewhere, all is shown, fits, and is reached by keyboard.

    To save time, wide pages are light and dark in turns; what a phone does not show is on all.
    """
    with visiting(browser, site, width=width) as visit:
        visit.open(name)
        turn = SCHEMES[PAGES.index(name) % 2]
        assert faults(visit, SCHEMES if width == NARROW else [turn]) == []


def test_the_first_stop_skips_to_the_text(visit):
    page = visit.open(CHAPTER)
    page.keyboard.press("Tab")
    expect(page.locator(":focus")).to_have_text("Skip to main content")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('main') !== null")


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("vanishing gradients", "bptt.html"),
        ("Transformer", "transformer.html"),
        ("어텐션", "attention.html"),
        ("어텐션은", "attention.html"),
        ("순환 신경망", "recurrent.html"),
        ("순환 신경망을", "recurrent.html"),
        ("은닉 상태", "autoregressive.html"),
        ("은닉 상태가", "autoregressive.html"),
        ("그래디언트", "bptt.html"),
        ("LSTM은", "lstm.html"),
    ],
)
def test_the_search_finds_words_in_english_and_korean(visit, query, wanted):
    page = visit.open(CHAPTER)
    page.keyboard.press("Control+k")
    page.keyboard.type(query)
    page.keyboard.press("Enter")
    page.wait_for_url("**/search.html?**")
    page.locator("#search-results .search-summary", has_text="found").wait_for()
    links = page.locator("#search-results ul.search a")
    results = [urlsplit(link.get_attribute("href")).path for link in links.all()]
    assert wanted in results
    links.filter(visible=True).nth(results.index(wanted)).click()
    page.wait_for_url(f"**/{wanted}**")
    assert visit.problems == []


@pytest.mark.parametrize("visit", [{"scheme": "light"}, {"scheme": "dark"}], indirect=True)
def test_results_and_their_absence_are_accessible(visit):
    for query, message in (("memory", "found"), ("zyzzyva", "did not match")):
        page = visit.open(f"search.html?q={query}")
        page.locator("#search-results .search-summary", has_text=message).wait_for()
        visit.ready()
        assert visit.axe() == []
        assert visit.problems == []


@seen_as(script=False)
def test_next_and_previous_lead_through_the_book(visit):
    page = visit.open("index.html")
    forward, back = page.locator("a.right-next"), page.locator("a.left-prev")
    trail = [page.url]
    while forward.count():
        target = urljoin(page.url, forward.get_attribute("href"))
        forward.click()
        page.wait_for_url(target)
        assert urljoin(page.url, back.get_attribute("href")) == trail[-1]
        trail.append(page.url)
        assert len(trail) <= len(PAGES)
    assert len(trail) >= 10
    back.click()
    page.wait_for_url(trail[-2])


def test_the_contents_lead_to_chapters_and_sections(visit):
    page = visit.open("index.html")
    page.locator(".bd-sidebar-primary a", has_text="Gated recurrent unit").click()
    page.wait_for_url(f"**/{CHAPTER}")
    link = page.locator("#pst-secondary-sidebar nav a").filter(visible=True).nth(3)
    link.click()
    target = page.locator(link.get_attribute("href"))
    expect(target).to_be_in_viewport()


@seen_as(width=NARROW)
def test_on_a_phone_the_contents_open_and_close(visit):
    page = visit.open(CHAPTER)
    contents = page.locator("dialog#pst-primary-sidebar-modal")
    page.locator("button.primary-toggle").click()
    expect(contents).to_be_visible()
    assert visit.axe() == []
    page.keyboard.press("Escape")
    expect(contents).to_be_hidden()
    page.locator("button.primary-toggle").click()
    contents.locator("a", has_text="Attention").click()
    page.wait_for_url("**/attention.html")
    page.locator("button.secondary-toggle").click()
    expect(page.locator("dialog#pst-secondary-sidebar-modal")).to_be_visible()
    assert visit.axe() == []


def test_the_colours_can_be_chosen_and_stay(visit):
    page = visit.open(CHAPTER)
    root = page.locator("html")
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    for _ in range(3):
        page.locator("button.theme-switch-button").click()
        if root.get_attribute("data-theme") == "dark":
            break
    assert page.evaluate(background) != light
    page.reload()
    expect(root).to_have_attribute("data-theme", "dark")
    assert page.evaluate(background) != light


def test_code_can_be_copied(visit):
    page = visit.open(CHAPTER)
    code = page.locator("main div.highlight").filter(visible=True).first
    code.hover()
    code.locator("button.copybtn").click()
    page.wait_for_function(
        "async (code) => (await navigator.clipboard.readText()).trim() === code",
        arg=code.locator("pre").text_content().strip(),
    )


def test_folds_open_by_mouse_and_keyboard(visit):
    page = visit.open(CHAPTER)
    folds = page.locator("main details:not(.book-menu)")
    assert folds.count() >= 3
    first = folds.first
    content = first.locator(":scope > :not(summary)").first
    summary = first.locator(":scope > summary")
    expect(content).to_be_hidden()
    summary.click()
    expect(content).to_be_visible()
    summary.press("Enter")
    expect(content).to_be_hidden()


def test_the_notebook_of_a_page_can_be_downloaded(visit):
    page = visit.open(CHAPTER)
    page.locator(".book-menu summary[aria-label*=Download]").click()
    with page.expect_download() as download:
        page.locator(".book-menu a", has_text=".ipynb").click()
    assert download.value.suggested_filename == CHAPTER.replace(".html", ".ipynb")


@seen_as(script=False, width=NARROW)
def test_without_javascript_a_phone_shows_text_folds_and_chapters(visit):
    page = visit.open(CHAPTER)
    expect(page.get_by_role("heading", name="Gated recurrent unit")).to_be_visible()
    fold = page.locator("main details:not(.book-menu)").first
    fold.locator(":scope > summary").click()
    expect(fold.locator(":scope > :not(summary)").first).to_be_visible()
    link = page.locator(".bd-sidebar-primary a", has_text="Attention")
    expect(link).to_be_visible()
    link.click()
    page.wait_for_url("**/attention.html")
    assert visit.problems == []


@seen_as(scheme="dark")
def test_figures_turn_over_in_the_dark_and_code_keeps_its_colours(visit):
    page = visit.open(CHAPTER)
    figure = page.locator("main figure img").first
    assert "invert" in figure.evaluate("(image) => getComputedStyle(image).filter")
    keyword = page.locator("main .highlight .k, main .highlight .kn").first
    dark = keyword.evaluate("(word) => getComputedStyle(word).color")
    page.emulate_media(color_scheme="light")
    expect(page.locator("html")).to_have_attribute("data-theme", "light")
    assert keyword.evaluate("(word) => getComputedStyle(word).color") != dark


SOUND = """<!DOCTYPE html><html lang="en"><head><title>A page</title>
<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">
<style>:root { color-scheme: light dark } body { background: light-dark(white, black) }
a:focus, button:focus { outline: 2px solid }</style>
</head><body><main><h1>A page</h1><p>Words with <a href="page.html">a link</a>.</p>BODY</main>
</body></html>"""


@pytest.fixture
def show(browser: Browser, tmp_path: Path):
    """Show a page that is sound but for what the test puts on it."""
    with hosting(tmp_path) as address, visiting(browser, address, folder=tmp_path) as visit:

        def show(body: str = "") -> Visit:
            (tmp_path / "page.html").write_text(SOUND.replace("BODY", body), encoding="utf-8")
            visit.open("page.html")
            return visit

        yield show


def test_a_sound_page_has_no_faults(show):
    assert faults(show()) == []


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("<script>nothing()</script>", r"error: nothing is not defined"),
        ("<script>console.error('a fault')</script>", r"console: a fault"),
        ('<script src="gone.js"></script>', r"404: .*gone\.js"),
        ('<script src="https://example.org/x.js"></script>', r"outside: https://example\.org"),
        ('<img src="gone.png" alt="A curve.">', r"picture: .*gone\.png"),
        ('<p><span class="math">$x$</span></p>', r"formula: \$x\$"),
        ('<p style="width: 2000px">Wide.</p>', r"too wide: <p"),
        ('<p style="color: #bbb">Pale.</p>', r"light: color-contrast: <p"),
        ('<p style="color: #555">Dim.</p>', r"dark: color-contrast: <p"),
        ("<style>:root { color-scheme: light }</style>", r"not dark"),
        ('<p style="color: #bbb"><span>a</span> and <b style="color: #000">b</b></p>', "contrast"),
        ("<button></button>", r"button-name"),
        ("<h3>Too deep</h3>", r"heading-order"),
        ('<img src="data:image/gif;base64,R0lGODlhAQABAAAAACw=">', r"image-alt"),
        ("<table><tr><th></th></tr><tr><td>1</td></tr></table>", r"empty-table-header"),
        ('<a href="#" style="outline: none">Where am I?</a>', r"focus not seen: <a"),
        ('<button style="opacity: 0">Copy</button>', r"focus not seen: <button"),
        (
            '<button onkeydown="event.preventDefault()">Trap</button><a href="#">After</a>',
            r"not reached: <a[^>]*>After",
        ),
        (
            '<div style="overflow: auto; width: 90px"><p style="width: 900px">' + "Wide " * 99,
            r"scrollable-region-focusable",
        ),
    ],
)
def test_a_fault_is_found(show, body, fault):
    assert any(re.search(fault, line) for line in faults(show(body)))


def test_bytes_are_counted_as_the_host_sends_them(show, tmp_path):
    (tmp_path / "x.js").write_text("// the same again\n" * 10_000)
    (tmp_path / "x.png").write_bytes(bytes(range(256)) * 100)
    visit = show('<script src="x.js"></script><img src="x.png" alt="Noise.">')
    assert 25_600 < visit.transfer() < 28_000
