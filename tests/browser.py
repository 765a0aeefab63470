"""A real browser on the built pages, with no way to any other host."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import axe_playwright_python
from conftest import ROOT
from playwright.sync_api import Browser, Page, Playwright

HTML = Path(os.environ.get("SEQBOOK_HTML", ROOT / "_build" / "html"))  # another build, if named
BELOW = "/a/path/"  # the book must work below a path, as on GitHub Pages
WIDE, NARROW = 1280, 375
AXE = Path(axe_playwright_python.__file__).with_name("axe.min.js").read_text(encoding="utf-8")
SWITCHES = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
# Every other name leads nowhere: the pages show what a reader without a network sees.
NOWHERE = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"

# axe measures the contrast of every text anew, which takes 10 s on a page of mathematics. Texts of
# one colour, size and weight on the same backgrounds have one contrast: one of each is measured.
SAMPLE_CONTRAST = """() => {
  const seen = new Set();
  const clear = (colour) => colour === 'rgba(0, 0, 0, 0)';
  const looks = new Map();
  const behind = (element) => {
    if (!element) return '';
    if (!looks.has(element)) {
      const style = getComputedStyle(element);
      const own = [
        clear(style.backgroundColor) ? '' : style.backgroundColor,
        style.backgroundImage === 'none' ? '' : style.backgroundImage,
        style.opacity === '1' ? '' : style.opacity,
        style.filter === 'none' ? '' : style.filter,
        style.position === 'static' || style.position === 'relative' ? '' : style.position,
      ].filter(Boolean).join(' ');
      looks.set(element, behind(element.parentElement) + (own && '|' + own));
    }
    return looks.get(element);
  };
  for (const old of document.querySelectorAll('[data-sampled]')) {
    old.removeAttribute('data-sampled');
  }
  for (const element of document.body.querySelectorAll('*')) {
    const text = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!text && !element.matches('input, select, textarea')) continue;
    if (!element.checkVisibility()) continue;
    const style = getComputedStyle(element);
    const look = [style.color, style.fontSize, style.fontWeight, behind(element)].join(' ');
    if (seen.has(look)) continue;
    seen.add(look);
    element.setAttribute('data-sampled', '');
  }
  axe.configure({rules: [{id: 'color-contrast', selector: '[data-sampled]'}]});
}"""
# Nine tenths of a page's elements are the colours of words in code and the glyphs of formulas. For
# the time of the run they are plain text, but where a sample of contrast stands.
RUN_AXE = """async () => {
  const thin = [...document.querySelectorAll('pre, .katex-html')]
    .filter((element) => !element.querySelector('[data-sampled]'))
    .map((element) => {
      const text = element.textContent;
      const parts = document.createDocumentFragment();
      parts.append(...element.childNodes);
      element.textContent = text;
      return [element, parts];
    });
  const {violations} = await axe.run(document, {resultTypes: ['violations']});
  for (const [element, parts] of thin) element.replaceChildren(parts);
  return violations.flatMap(({id, nodes}) => nodes.map((node) => {
    const [first] = [...node.any, ...node.all, ...node.none];
    return `${id}: ${node.html.slice(0, 160)} ${first ? first.message : ''}`;
  }));
}"""


def launch(playwright: Playwright) -> Browser:
    """Start the system's Chromium; its path comes from SEQBOOK_CHROMIUM if that is set."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    path = os.environ.get("SEQBOOK_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if path is None:
        raise FileNotFoundError(f"expected a browser, one of {', '.join(names)}; found none")
    return playwright.chromium.launch(executable_path=path, args=[*SWITCHES.split(), NOWHERE])


class Visit:
    """One page in a fresh browser context, and what went wrong while it was open."""

    def __init__(self, page: Page, site: str):
        self.page = page
        self.site = site
        self.requested: list[str] = []
        self.problems: list[str] = []
        page.on("request", self._request)
        page.on("response", self._response)
        page.on("requestfailed", lambda request: self.problems.append(f"failed: {request.url}"))
        page.on("pageerror", lambda error: self.problems.append(f"error: {error}"))
        page.on("console", self._console)

    def _request(self, request) -> None:
        self.requested.append(request.url)
        if not request.url.startswith((self.site, "data:", "blob:")):
            self.problems.append(f"outside: {request.url}")

    def _response(self, response) -> None:
        if response.status >= 400:
            self.problems.append(f"{response.status}: {response.url}")

    def _console(self, message) -> None:
        if message.type in ("error", "warning"):
            self.problems.append(f"console: {message.text}")

    def open(self, address: str) -> Page:
        """Go to a page of the site and wait until it has loaded all that it wants."""
        self.page.goto(self.site + address, wait_until="load")
        self.page.wait_for_load_state("networkidle")
        return self.page

    def axe(self) -> list[str]:
        """Return what axe-core finds on the page as it stands, by all of its default rules."""
        if not self.page.evaluate("typeof axe !== 'undefined'"):
            self.page.evaluate(AXE)
        self.page.evaluate(SAMPLE_CONTRAST)
        return self.page.evaluate(RUN_AXE)


@contextmanager
def visiting(
    browser: Browser, site: str, *, width: int = WIDE, scheme: str = "light", script: bool = True
) -> Iterator[Visit]:
    """Open a fresh context of the given width and colour scheme, with or without JavaScript."""
    context = browser.new_context(
        viewport={"width": width, "height": 900 if width == WIDE else 700},
        color_scheme=scheme,
        java_script_enabled=script,
        reduced_motion="reduce",
        base_url=site,
    )
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    try:
        yield Visit(context.new_page(), site)
    finally:
        context.close()
