"""Print the built book as one PDF: every page in its order, with bookmarks and page numbers.

The browser prints each page with the book's print style, without its scripts; then the parts are
joined. Links within the book lead within the PDF, a table of contents stands at its head.

Usage: python tools/print_book.py [--html FOLDER] [--only PAGE ...] [PDF]
"""

import argparse
import html
import io
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import yaml
from addresses import ROOT, addresses
from chromium import chromium
from hosting import hosting
from pypdf import PageObject, PdfReader, PdfWriter
from pypdf.generic import (
    ArrayObject,
    DictionaryObject,
    Fit,
    NameObject,
    NumberObject,
    TextStringObject,
)
from sphinx_external_toc.parsing import parse_toc_yaml

HTML = ROOT / "_build" / "html"
API = "api"  # the folder of the reference, which is read on a screen
PDF_NAME = "sequence-models.pdf"  # beside the pages, as the menu of every page names it
LINK = re.compile(r'<a\b[^>]*\bhref="([^"]+)"')
HEADING = re.compile(
    r'<section id="([^"]+)">(?:\s*<span id="[^"]*"></span>)*\s*<h2>(.*?)</h2>', re.S
)
PAPER = {"format": "A4", "prefer_css_page_size": True, "print_background": True}
TITLE = re.compile(r"<section\b[^>]*>(?:\s*<span id=[^>]*></span>)*\s*<h1>(.*?)</h1>", re.S)

FRONT_STYLE = """
body { font: 11pt/1.5 system-ui, "DejaVu Sans", sans-serif; margin: 0; color: #222; }
@page { size: A4; margin: 22mm 20mm 24mm; }
.cover { height: 240mm; break-after: page; display: flex; flex-direction: column; }
.cover img { width: 100%; margin-top: 30mm; }
.cover .authors { margin-top: 14mm; font-size: 16pt; }
.cover .rights { margin-top: auto; color: #555; }
a { color: inherit; text-decoration: none; }
h1 { font-size: 20pt; }
ul { list-style: none; padding: 0; margin: 0; }
li a { display: flex; gap: 2mm; }
li a .number { margin-left: auto; }
li.page { font-weight: 600; margin-top: 3mm; break-after: avoid; }
li.section { padding-left: 6mm; color: #444; font-size: 10pt; }
"""
FOOT_STYLE = """
body { font: 8.5pt system-ui, "DejaVu Sans", sans-serif; margin: 0; color: #555; }
@page { size: A4; margin: 0; }
div { height: 297mm; position: relative; break-after: page; overflow: hidden; }
div:last-child { break-after: auto; }
p { position: absolute; bottom: 9mm; left: 17mm; right: 17mm; margin: 0; display: flex; }
p span:last-child { margin-left: auto; }
"""


@dataclass
class Part:
    """One page of the book on paper.

    Args:
        name: Its file below the start page's folder.
        title: Of the page, with its number.
        source: Its HTML.
        pdf: What the browser printed.
        first: The number of its first page in the whole, counted from 0.
    """

    name: str
    title: str
    source: str
    pdf: PdfReader | None = None
    first: int = 0
    places: dict[str, tuple[int, float]] = field(default_factory=dict)

    @property
    def pages(self) -> Sequence[PageObject]:
        """Pages of paper.

        Raises:
            ValueError: The part was not printed.
        """
        if self.pdf is None:
            raise ValueError(f"{self.name}: expected a printed part")
        return self.pdf.pages

    @property
    def sections(self) -> list[tuple[str, str]]:
        """Id and words of each section."""
        return [(match[1], _words(match[2])) for match in HEADING.finditer(self.source)]


def _words(markup: str) -> str:
    """Return the text of a heading without its link and its second form of formulas."""
    markup = re.sub(r'<a class="headerlink".*?</a>', "", markup, flags=re.S)
    markup = re.sub(r'<span class="katex-html".*', "", markup, flags=re.S)
    markup = re.sub(r"<annotation.*?</annotation>", "", markup, flags=re.S)
    return html.unescape(" ".join(re.sub(r"<[^>]*>", "", markup).split()))


def read_parts(folder: Path, only: Sequence[str] = ()) -> list[Part]:
    """Read the pages in the order of the table of contents, but those of the API reference.

    Raises:
        FileNotFoundError: The book is not built.
    """
    names = [str(name) for name in parse_toc_yaml(ROOT / "book" / "_toc.yml")]
    parts = []
    for name in (f"{name}.html" for name in names if name.partition("/")[0] != API):
        if only and Path(name).stem not in only:
            continue
        source = (folder / name).read_text(encoding="utf-8")
        parts.append(Part(name, _words(TITLE.findall(source)[0]), source))
    return parts


def with_marks(part: Part, parts: Sequence[Part]) -> str:
    """Add a link to each place that other pages lead to: only linked places are printed as such."""
    wanted = {section for section, _ in part.sections}
    for other in parts:
        for target in LINK.findall(other.source):
            parts_of_target = urlsplit(urljoin(other.name, html.unescape(target)))
            if parts_of_target.path == part.name and not parts_of_target.netloc:
                wanted.add(unquote(parts_of_target.fragment))
    style = "position:absolute;top:0;left:0;font-size:1px;color:transparent"
    marks = "".join(
        f'<a style="{style}" href="#{html.escape(place)}">.</a>' for place in sorted(wanted - {""})
    )
    return part.source.replace("</article>", f"<div>{marks}</div></article>", 1)


def print_parts(browser, site: str, parts: Sequence[Part]) -> None:
    """Let the browser print each page."""
    context = browser.new_context(java_script_enabled=False, color_scheme="light")
    sources = {site + part.name: with_marks(part, parts) for part in parts}
    context.route(
        lambda address: address in sources,
        lambda route: route.fulfill(
            body=sources[route.request.url], content_type="text/html; charset=utf-8"
        ),
    )
    for part in parts:
        page = context.new_page()
        page.goto(site + part.name, wait_until="load")
        part.pdf = pdf = PdfReader(io.BytesIO(page.pdf(**PAPER)))
        page.close()
        for place, destination in pdf.named_destinations.items():
            number = pdf.get_destination_page_number(destination)
            if number is not None:
                part.places[unquote(place.lstrip("/#"))] = (number, float(destination.top or 0))
    context.close()


def print_text(browser, site: str, style: str, body: str) -> PdfReader:
    """Print a page that is not part of the site, whose pictures may be."""
    page = browser.new_page()
    # An address of the same host, for the pictures. Links to it itself would lose their address.
    page.goto(site + "index.html?contents")
    page.set_content(f"<style>{style}</style>{body}", wait_until="load")
    page.emulate_media(media="print")
    content = page.pdf(**PAPER)
    page.close()
    return PdfReader(io.BytesIO(content))


def front(site: str, parts: Sequence[Part], rights: str, author: str, title: str) -> str:
    """Return cover and contents; the numbers come from where the parts begin."""
    published = addresses().site
    online = f"<br>Read it in a browser: {published}" if published else ""
    rows = []
    for part in parts:
        rows.append(_row("page", site + part.name, part.title, part.first))
        for place, words in part.sections:
            number = part.first + part.places.get(place, (0, 0))[0]
            rows.append(_row("section", f"{site}{part.name}#{place}", words, number))
    return (
        f'<div class="cover"><img src="{site}_static/social-card.png" alt="{html.escape(title)}">'
        f'<p class="authors">{html.escape(author)}</p><p class="rights">{html.escape(rights)}'
        f"{online}</p></div>"
        f"<h1>Contents</h1><ul>{''.join(rows)}</ul>"
    )


def _row(kind: str, address: str, words: str, page: int) -> str:
    return (
        f'<li class="{kind}"><a href="{html.escape(address)}"><span>{html.escape(words)}</span>'
        f'<span class="number">{page + 1}</span></a></li>'
    )


def feet(parts: Sequence[Part], pages: int) -> str:
    """Return one page of paper for each page, with title and number at its foot."""
    titles: dict[int, str] = {}
    for part in parts:
        titles |= dict.fromkeys(range(part.first, part.first + len(part.pages)), part.title)
    return "".join(
        f"<div><p><span>{html.escape(titles.get(number, 'Contents'))}</span>"
        f"<span>{number + 1}</span></p></div>"
        if number
        else "<div></div>"
        for number in range(pages)
    )


def lead_within(writer: PdfWriter, site: str, parts: Sequence[Part]) -> int:
    """Let links to pages of the book lead to paper; return how many do."""
    by_name = {part.name: part for part in parts}
    published, count = addresses().site, 0
    owner: dict[int, Part] = {}
    for part in parts:
        owner |= dict.fromkeys(range(part.first, part.first + len(part.pages)), part)
    for number, page in enumerate(writer.pages):
        annotations = ArrayObject()
        for reference in page.get("/Annots", ()):
            annotation = reference.get_object()
            left, bottom, right, top = map(float, annotation["/Rect"])
            if right - left < 3 and top - bottom < 3:
                continue  # a mark, see with_marks
            target = _target(annotation, site, owner.get(number))
            destination = by_name.get(target[0] or "index.html") if target else None
            if target and destination is None and not published:
                continue  # a page that is neither on paper nor at a known address
            annotations.append(reference)
            if target is None:
                continue
            name, place = target
            if destination is None:
                address = published + name + (f"#{place}" if place else "")
                annotation[NameObject("/A")] = _opens(address)
                annotation.pop("/Dest", None)
                continue
            offset, height = destination.places.get(place, (0, 842.0))
            annotation.pop("/A", None)
            annotation[NameObject("/Dest")] = ArrayObject(
                [
                    writer.pages[destination.first + offset].indirect_reference,
                    NameObject("/XYZ"),
                    NumberObject(0),
                    NumberObject(round(height) + 12),
                    NumberObject(0),
                ]
            )
            count += 1
        if "/Annots" in page:
            page[NameObject("/Annots")] = annotations
    return count


def _opens(address: str) -> DictionaryObject:
    return DictionaryObject(
        {
            NameObject("/S"): NameObject("/URI"),
            NameObject("/URI"): TextStringObject(address),
        }
    )


def _target(annotation, site: str, part: Part | None) -> tuple[str, str] | None:
    """Return page and place within the book that a link leads to, or None if it leads out."""
    if "/Dest" in annotation and part is not None:
        return part.name, unquote(str(annotation["/Dest"]).lstrip("/#"))
    action = annotation.get("/A", {})
    if action.get("/S") == "/GoTo" and part is not None:
        return part.name, unquote(str(action["/D"]).lstrip("/#"))
    address = str(action.get("/URI", ""))
    if not address.startswith(site):
        return None
    name, _, place = address.removeprefix(site).partition("#")
    return unquote(name.partition("?")[0]), unquote(place)


def print_book(folder: Path, target: Path, only: Sequence[str] = ()) -> str:
    """Print the book below ``folder`` into ``target``; return a line that describes the result."""
    start = time.monotonic()
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    imprint = (f"© {config['copyright']}", config["author"], config["title"])
    parts = read_parts(folder, only)
    with hosting(folder) as site, chromium() as browser:
        print_parts(browser, site, parts)
        for _ in range(2):  # the first time, only to see how many pages the contents take
            cover = print_text(browser, site, FRONT_STYLE, front(site, parts, *imprint))
            position = len(cover.pages)
            for part in parts:
                part.first, position = position, position + len(part.pages)
        stamps = print_text(browser, site, FOOT_STYLE, feet(parts, position))
        writer = PdfWriter()
        for number in range(len(cover.pages)):
            writer.add_page(cover.pages[number])
        for part in parts:
            for page in part.pages:
                writer.add_page(page)
        for page, stamp in zip(writer.pages, stamps.pages, strict=True):
            page.merge_page(stamp)
            page.compress_content_streams()
        linked = lead_within(writer, site, parts)
    writer.add_outline_item(title="Contents", page_number=1)
    for part in parts:
        parent = writer.add_outline_item(title=part.title, page_number=part.first)
        for place, words in part.sections:
            number, height = part.places.get(place, (0, 842.0))
            fit = Fit.xyz(left=0, top=height + 12)
            writer.add_outline_item(
                title=words, page_number=part.first + number, parent=parent, fit=fit
            )
    writer.add_metadata({"/Title": config["title"], "/Author": config["author"]})
    writer.page_mode = "/UseOutlines"
    writer.compress_identical_objects(remove_duplicates=True, remove_unreferenced=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".partial")
    writer.write(partial)
    partial.replace(target)
    return (
        f"{target}: {len(writer.pages)} pages, {linked} links within, "
        f"{target.stat().st_size / 1e6:.1f} MB, {time.monotonic() - start:.0f} s"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the arguments and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", nargs="?", type=Path, metavar="PDF")
    parser.add_argument("--html", type=Path, default=HTML, help="the built book")
    parser.add_argument("--only", nargs="+", default=(), metavar="PAGE", help="these pages only")
    options = parser.parse_args(arguments)
    target = options.target or options.html / PDF_NAME
    try:
        print(print_book(options.html, target, options.only))
    except FileNotFoundError as error:
        print(f"{error}; is the book built? (make book)", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
