"""A real browser on the built pages, with no way to any other host."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

import axe_playwright_python
from conftest import HTML, PATIENCE
from hosting import sent
from playwright.sync_api import Browser, Page, expect

WIDE, NARROW = 1280, 375
expect.set_options(timeout=1000 * PATIENCE)
AXE = Path(axe_playwright_python.__file__).with_name("axe.min.js").read_text(encoding="utf-8")
# axe measures the contrast of every text again, which takes 10 s on a page of mathematics. Texts of
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
# the time of the run they are plain text, but where a sample of contrast stands, and in formulas
# that stand apart, which scroll or not by how wide they are.
RUN_AXE = """async () => {
  const thin = [...document.querySelectorAll('pre, :not(.katex-display) > .katex > .katex-html')]
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
SHOW_FIGURES = """async () => {
  for (const figure of document.querySelectorAll('.live-stage')) {
    figure.scrollIntoView({behavior: 'instant'});
    await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  }
  window.scrollTo({top: 0, behavior: 'instant'});
}"""
SHOW_PICTURES = """async () => {
  const pictures = [...document.images];
  for (const picture of pictures) picture.loading = 'eager';
  await Promise.allSettled(pictures.map((picture) => picture.decode()));
}"""
UNSEEN = """async () => {
  await document.fonts.ready;
  return [
    ...[...document.images]
      .filter((picture) => !picture.complete || !picture.naturalWidth)
      .map((picture) => `picture: ${picture.src}`),
    ...[...document.fonts].filter((font) => font.status === 'error').map((font) => font.family),
    ...[...document.querySelectorAll('.math')]
      .filter((formula) => !formula.querySelector('.katex .katex-html'))
      .map((formula) => `formula: ${formula.textContent.slice(0, 60)}`),
  ];
}"""
TOO_WIDE = """() => {
  const limit = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth <= limit) return [];
  return [...document.body.querySelectorAll('*')]
    .filter((element) => element.getBoundingClientRect().right > limit + 1)
    .filter((element) => {
      for (let box = element.parentElement; box; box = box.parentElement) {
        if (box !== document.body && getComputedStyle(box).overflowX !== 'visible') return false;
      }
      return true;
    })
    .map((element) => `too wide: ${element.outerHTML.slice(0, 120)}`)
    .slice(0, 5);
}"""
EXPECT_FOCUS = """() => {
  const stops = [...document.querySelectorAll(
    'a[href], button, summary, input, select, textarea, audio[controls], video[controls], '
    + '[contenteditable], [tabindex]',
  )].filter((element) => element.tabIndex >= 0 && !element.disabled && !element.closest('[inert]')
    && (element.type !== 'radio' || element.checked)
    && element.checkVisibility({visibilityProperty: true}));
  const looks = (element) => [element, element.parentElement, element.firstElementChild]
    .filter(Boolean)
    .flatMap((part) => ['', '::before', '::after'].map((pseudo) => {
      const style = getComputedStyle(part, pseudo || null);
      return [
        style.outlineStyle, style.outlineWidth, style.boxShadow, style.backgroundColor,
        style.borderColor, style.color, style.textDecoration, style.stroke, style.strokeWidth,
      ].join();
    }))
    .join('|');
  const before = new Map(stops.map((element) => [element, looks(element)]));
  const reached = new Map();
  document.addEventListener('focusin', ({target}) => {
    let opacity = 1;
    for (let part = target; part; part = part.parentElement) {
      opacity *= Number(getComputedStyle(part).opacity);
    }
    const native = target.matches('audio, video, input');  // draw their own, inside
    reached.set(target, opacity > 0.3 && (native || looks(target) !== before.get(target)));
  });
  window.focusFaults = () => stops.flatMap((element) => {
    const name = element.outerHTML.slice(0, 120);
    if (!reached.has(element)) return [`not reached: ${name}`];
    return reached.get(element) ? [] : [`focus not seen: ${name}`];
  });
  document.activeElement?.blur();
  return stops.length;
}"""


class Visit:
    """One page in a fresh browser context, and what went wrong while it was open."""

    def __init__(self, page: Page, site: str, *, width: int, script: bool, folder: Path):
        self.page = page
        self.site = site
        self.width = width
        self.script = script
        self.folder = folder
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
        self.ready()
        return self.page

    def axe(self) -> list[str]:
        """Return what axe-core finds on the page as it stands, by all of its default rules."""
        if not self.page.evaluate("typeof axe !== 'undefined'"):
            self.page.evaluate(AXE)
        self.page.evaluate(SAMPLE_CONTRAST)
        return self.page.evaluate(RUN_AXE)

    def ready(self) -> None:
        """Wait until everything that the page wants for has come, and its boxes are measured."""
        self.page.wait_for_load_state("networkidle")
        if self.script:
            self.page.evaluate(
                "() => new Promise((done) => requestIdleCallback(() => "
                "requestAnimationFrame(() => setTimeout(done, 50))))"
            )

    def show_all(self) -> None:
        """Load what waits until it comes near."""
        self.page.evaluate(SHOW_FIGURES)
        self.page.evaluate(SHOW_PICTURES)
        self.ready()

    def open_folds(self) -> None:
        """Open every fold of the page."""
        self.page.evaluate(
            "document.querySelectorAll('main details:not(.book-menu)').forEach((fold) => {"
            "  fold.open = true;"
            "})"
        )
        self.ready()

    def colour(self, scheme: str) -> None:
        """Let the system of the reader be set to ``light`` or ``dark``."""
        self.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        self.ready()

    def is_dark(self) -> bool:
        """Whether the page is written in light letters."""
        return self.page.evaluate(
            "Math.max(...getComputedStyle(document.querySelector('h1')).color.match(/\\d+/g)) > 127"
        )

    def unseen(self) -> list[str]:
        """Return pictures that did not load, fonts that did not, and formulas left as text."""
        return self.page.evaluate(UNSEEN)

    def too_wide(self) -> list[str]:
        """Return what makes the page scroll sideways."""
        return self.page.evaluate(TOO_WIDE)

    def transfer(self) -> int:
        """Return the bytes that the host sends for all that the page asked for."""
        paths = {unquote(urlsplit(url).path) for url in self.requested if url.startswith("http")}
        below = urlsplit(self.site).path
        files = (self.folder / (path.removeprefix(below) or "index.html") for path in paths)
        return sum(len(sent(file)) for file in files if file.is_file())

    def keyboard(self) -> list[str]:
        """Press Tab through the page; return what it never reaches or reaches unseen."""
        count = self.page.evaluate(EXPECT_FOCUS)
        players = self.page.locator("audio[controls], video[controls]").count()
        presses = count + 10 * players + 3  # a player has stops of its own
        for more in (presses, 20, 20):  # the contents beside the page unfold as it scrolls
            for _ in range(more):
                self.page.keyboard.press("Tab")
            faults: list[str] = self.page.evaluate("() => window.focusFaults()")
            if not any(fault.startswith("not reached") for fault in faults):
                break
        return faults


def settle(page: Page, *, milliseconds: int = 0) -> None:
    """Wait until a page has handled its input, whose timers run for so long, and has drawn."""
    page.evaluate(
        "(wait) => new Promise((done) => setTimeout(() => "
        "requestAnimationFrame(() => requestAnimationFrame(done)), wait))",
        milliseconds,
    )


@contextmanager
def visiting(
    browser: Browser,
    site: str,
    *,
    width: int = WIDE,
    scheme: str = "light",
    script: bool = True,
    folder: Path = HTML,
) -> Iterator[Visit]:
    """Open a fresh context of the given width and colour scheme, with or without JavaScript."""
    context = browser.new_context(
        viewport={"width": width, "height": 900 if width == WIDE else 700},
        color_scheme=scheme,
        java_script_enabled=script,
        reduced_motion="reduce",
        base_url=site,
    )
    context.set_default_timeout(1000 * PATIENCE)
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    try:
        yield Visit(context.new_page(), site, width=width, script=script, folder=folder)
    finally:
        context.close()
