"""What a published book needs beside its pages.

- In the head of each page: a description from its first paragraph, what a link to it shows
  elsewhere (Open Graph), and icons for browsers that draw no SVG icon.
- In the menus at the head of a page: names that say what they open, and the whole book as a PDF.
- ``sitemap.xml``, ``robots.txt`` and ``404.html``, which a host sends from any address: it holds
  its own style and full addresses.

What names an address is left out where none is known, see ``addresses``. Written by hand, since:

- sphinx-sitemap lists only the pages of one build: after an edit the site map would have one page;
- sphinxext-opengraph cuts descriptions in the middle of a sentence, all 19 when it was tried, and
  writes a relative address where none is known;
- the page of sphinx-notfound-page loads its style from a path that must be known at build time.
"""

import re
from html import escape
from pathlib import Path
from string import Template
from urllib.parse import quote

from docutils import nodes

CARD = "_static/social-card.png"
CARD_SIZE = (1200, 630)
CARD_WORDS = "The book's title above three centuries of yearly sunspot numbers"
PDF = "sequence-models.pdf"
LONGEST = 200  # characters; search engines cut longer descriptions themselves
OPENING = "The question of this chapter: "
FILES = ("sitemap.xml", "robots.txt", "404.html")
NOT_FOUND = Path(__file__).with_name("404.html")


def description(doctree: nodes.document) -> str:
    """Return the beginning of a page: whole sentences of its first paragraph of plain words."""
    for paragraph in doctree.findall(nodes.paragraph):
        parent = paragraph.parent
        inside = isinstance(parent, (nodes.section, nodes.document))
        inside = inside or "opening-words" in parent.get("classes", ())
        plain = not next(paragraph.findall(nodes.math), None)
        if inside and plain:
            text = " ".join(paragraph.astext().split()).removeprefix(OPENING)
            return shortened(text[:1].upper() + text[1:])
    return ""


def shortened(text: str) -> str:
    """Cut at the end of a sentence, or else of a word."""
    if len(text) <= LONGEST:
        return text
    head = text[: LONGEST - 1]
    sentences = re.match(r".*[.!?](?=\s)", head)
    if sentences and len(sentences[0]) > LONGEST // 2:
        return sentences[0]
    return head.rpartition(" ")[0].rstrip(",;:") + "…"


def describe(app, page, _template, context, doctree):
    base, site = app.config.html_baseurl, app.config.html_title
    title = re.sub(r"<[^>]*>", "", context.get("title", "")) or page.capitalize()
    text = (description(doctree) if doctree is not None else "") or f"{title}, in: {site}"
    context.setdefault("pagetitle", title)  # the heading on paper of the index and the search
    is_start = page == app.config.root_doc
    properties = {
        "og:site_name": site,
        "og:title": site if is_start else title,
        "og:description": text,
        "og:type": "website" if is_start else "article",
    }
    named = {"description": text}
    if base:
        if is_start:
            context["pageurl"] = base  # one address for the start page, not two
        properties |= {
            "og:url": context["pageurl"],
            "og:image": base + CARD,
            "og:image:width": str(CARD_SIZE[0]),
            "og:image:height": str(CARD_SIZE[1]),
            "og:image:alt": CARD_WORDS,
        }
        named["twitter:card"] = "summary_large_image"
    if doctree is None:
        named["robots"] = "noindex"  # such as the search page
    static = context["pathto"]
    context["metatags"] = context.get("metatags", "") + "\n".join(
        [
            "",
            *(f'<meta name="{key}" content="{escape(text)}" />' for key, text in named.items()),
            *(
                f'<meta property="{key}" content="{escape(text)}" />'
                for key, text in properties.items()
            ),
            f'<link rel="icon" href="{static("_static/favicon.ico", 1)}" sizes="32x32" />',
            f'<link rel="apple-touch-icon" href="{static("_static/apple-touch-icon.png", 1)}" />',
        ]
    )


NAMES = {
    "Binder": "Run on Binder",
    "Colab": "Run on Colab",
    ".ipynb": "Notebook (.ipynb)",
    ".md": "Source (.md)",
    ".pdf": "Print this page",
}


def name_buttons(app, _page, _template, context, _doctree):
    """Name the buttons; the whole book is printed where it is published."""
    whole_book = {
        "type": "link",
        "url": app.config.html_baseurl + PDF,
        "text": "Whole book (.pdf)",
        "icon": "fas fa-file-pdf",
    }
    for group in context.get("header_buttons", ()):
        for button in group.get("buttons", ()):
            if button["text"] in NAMES:
                button["text"] = NAMES[button["text"]]
                button.pop("tooltip", None)  # it would repeat the description
        if group.get("label") == "download-buttons" and app.config.html_baseurl:
            group["buttons"].append(whole_book)


def in_order(env) -> list[str]:
    """Return the pages in the order of the table of contents, the start page first."""
    order = [name for name in env.config.external_site_map if name in env.found_docs]
    return [env.config.root_doc, *(name for name in order if name != env.config.root_doc)]


def write_files(app, exception):
    if exception or app.builder.format != "html":
        return
    base, out = app.config.html_baseurl, Path(app.outdir)
    if not base:
        for name in FILES:
            (out / name).unlink(missing_ok=True)  # of a build that knew an address
        return
    links = {name: app.env.titles[name].astext() for name in in_order(app.env)}
    address = {name: base + quote(app.builder.get_target_uri(name)) for name in links}
    address[app.config.root_doc] = base
    places = "".join(f"  <url><loc>{escape(place)}</loc></url>\n" for place in address.values())
    (out / "sitemap.xml").write_text(
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n{places}</urlset>\n',
        encoding="utf-8",
    )
    (out / "robots.txt").write_text(
        f"User-agent: *\nAllow: /\nSitemap: {base}sitemap.xml\n", encoding="utf-8"
    )
    items = "\n".join(
        f'<li><a href="{escape(address[name])}">{escape(title)}</a></li>'
        for name, title in links.items()
    )
    page = Template(NOT_FOUND.read_text(encoding="utf-8")).substitute(
        title=escape(app.config.html_title),
        language=app.config.language or "en",
        start=base,
        search=f"{base}search.html",
        pages=items,
    )
    (out / "404.html").write_text(page, encoding="utf-8")


def setup(app):
    app.add_js_file("print.mjs", type="module")
    app.connect("html-page-context", describe)
    app.connect("html-page-context", name_buttons, priority=900)  # after the theme adds buttons
    app.connect("build-finished", write_files, priority=900)  # nothing changes these afterwards
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
