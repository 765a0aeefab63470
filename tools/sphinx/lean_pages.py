"""Make the built pages light: what a reader's browser must load before it can show a page.

- One style sheet instead of ten, without the rules that no page uses.
- The icons that pages show instead of all 2,000, and no script that draws them a second time.
- Scripts that wait until the page is read, and only those that the page uses.
- Pictures in a smaller lossless format, with their size, so that nothing jumps, and loaded when
  they come near.

``finished_pages`` calls these functions.
"""

import io
import logging
import re
from pathlib import Path
from urllib.parse import unquote

import style_sheets
from fontTools import subset
from fontTools.ttLib import TTFont
from PIL import Image

logging.getLogger("fontTools").setLevel(logging.WARNING)  # it reports every table that it cuts
STYLE = "seqbook-all.css"
SEARCH_INDEX = "searchindex.js"  # the words of the pages, none of which it sets as a class
ICON_FONTS = "vendor/fontawesome"
SHEET = re.compile(r'[ \t]*<link\b(?=[^>]*rel="stylesheet")[^>]*href="([^"?]+)[^"]*"[^>]*/?>\n?')
SCRIPT = re.compile(r'[ \t]*<script\b([^>]*)\bsrc="([^"?]+)([^"]*)"([^>]*)></script>\n?')
UNUSED_INLINE = re.compile(r"[ \t]*<script>DOCUMENTATION_OPTIONS\.\w+ = [^<]*</script>\n?")
CONTENT_ROOT = re.compile(r'data-content_root="([^"]*)"')
PICTURE = re.compile(r"<img\b[^>]*>")
ADDRESS = re.compile(r'\bsrc="([^"]+)"')
NAMES = re.compile(r'\b(?:class|id)="([^"]*)"')
WORD = re.compile(r"-?[A-Za-z_][\w-]*")
NOT_FOR_READERS = ("*.map", "fontawesome.js", "bootstrap.js", "katex.min.js")
NEEDED_FOR = {  # scripts, and what a page has if it needs them
    "design-tabs.js": re.compile(r'class="[^"]*\bsd-tab-set\b'),
    "togglebutton.js": re.compile(r'class="[^"]*\b(?:toggle|dropdown)\b'),
    "clipboard.min.js": re.compile(r'class="[^"]*\bhighlight\b'),
    "copybutton.js": re.compile(r'class="[^"]*\bhighlight\b'),
}


def names_of(page: str) -> set[str]:
    """Return the classes and ids of a page."""
    return {name for names in NAMES.findall(page) for name in names.split()}


def words_of(script: str) -> set[str]:
    """Return every word of a script: it may set any of them as a class."""
    return set(WORD.findall(script))


def sheets_of(page: str) -> list[str]:
    """Return the style sheets that a page loads, as its start page would name them."""
    return SHEET.findall(_to_root(page))


def scripts_of(page: str) -> list[str]:
    """Return the scripts that a page loads, as its start page would name them."""
    return [address for _, address, *_ in SCRIPT.findall(_to_root(page))]


def _to_root(page: str) -> str:
    root = CONTENT_ROOT.search(page)
    return page.replace(f'"{root[1]}', '"') if root and root[1] not in ("", "./") else page


def write_style_sheet(rules: style_sheets.Rules, used: set[str], static: Path) -> bytes:
    """Write the rules that pages use as one style sheet; return its content."""
    needed = _with_needed_icons(style_sheets.cut_down(rules, used), static)
    content = style_sheets.serialize(needed).encode()
    (static / STYLE).write_bytes(content)
    return content


def _with_needed_icons(rules: style_sheets.Rules, static: Path) -> style_sheets.Rules:
    """Replace the icon fonts by ones that hold only the icons which the rules still name."""
    strings = (token.value for token in style_sheets.walk(rules) if token.type == "string")
    icons = {ord(text) for text in strings if len(text) == 1 and "\ue000" <= text <= "\uf8ff"}
    needed = []
    for rule in rules:
        if rule.type == "at-rule" and rule.lower_at_keyword == "font-face":
            fonts = [name for name in style_sheets.addresses(rule) if ICON_FONTS in name]
            if fonts:
                rule = _needed_part(rule, Path(fonts[0]).stem, static, icons)
        if rule is not None:
            needed.append(rule)
    return needed


def _needed_part(rule, name: str, static: Path, icons: set[int]):
    font = TTFont(static / ICON_FONTS / "webfonts" / f"{name}.ttf", recalcTimestamp=False)
    if not icons & set(font.getBestCmap()):
        return None
    cutter = subset.Subsetter(subset.Options(drop_tables=["FFTM"], layout_features=[]))
    cutter.populate(unicodes=icons)
    cutter.subset(font)
    font.flavor = "woff"  # woff2 needs a compressor that Python doesn't have
    target = static / "icons" / f"{name}.woff"
    target.parent.mkdir(exist_ok=True)
    font.save(target)
    return style_sheets.with_declaration(rule, "src", f'url("icons/{target.name}") format("woff")')


def with_one_style_sheet(page: str, version: str) -> str:
    """Let a page load the one style sheet in place of the first of its own, and no other."""
    first = SHEET.search(page)
    if first is None:
        return page
    root = CONTENT_ROOT.findall(page)[0]
    link = f'<link rel="stylesheet" href="{root}_static/{STYLE}?v={version}" />\n'
    return page[: first.start()] + link + SHEET.sub("", page[first.end() :])


def with_version(page: str, version: str) -> str:
    """Replace the version of the one style sheet that a finished page loads."""
    return re.sub(rf"({re.escape(STYLE)}\?v=)\w*", rf"\g<1>{version}", page)


def fewer_scripts(text: str) -> str:
    """Let scripts wait for the page, and drop those that it has no use for."""

    def lean(match: re.Match) -> str:
        before, address, version, after = match.groups()
        file = address.rsplit("/", 1)[-1]
        if file in NEEDED_FOR and not NEEDED_FOR[file].search(text):
            return ""
        wait = "" if re.search(r"\b(?:defer|async|module)\b", before + after) else " defer"
        return f'<script{before.rstrip()}{wait} src="{address}{version}"{after}></script>\n'

    return UNUSED_INLINE.sub("", SCRIPT.sub(lean, text))


def smaller_picture(path: Path) -> Path:
    """Write a PNG as lossless WebP, less than half as large; return the file to show."""
    target = path.with_suffix(".webp")
    if not target.is_file() or target.stat().st_mtime < path.stat().st_mtime:
        content = io.BytesIO()
        with Image.open(path) as picture:
            picture.save(content, "WEBP", lossless=True, exact=True, method=4)
        if content.tell() >= path.stat().st_size:
            target.unlink(missing_ok=True)
            return path
        target.write_bytes(content.getvalue())
    return target


def size_of(path: Path) -> tuple[int, int] | None:
    """Return a picture's width and height in pixels."""
    if path.suffix != ".svg":
        with Image.open(path) as picture:
            return picture.size
    box = re.search(r'viewBox="[\d.-]+ [\d.-]+ ([\d.]+) ([\d.]+)"', path.read_text("utf-8"))
    return box and (round(float(box[1])), round(float(box[2])))


def lighter_pictures(path: Path, text: str) -> str:
    """Give each picture its size and a smaller file; all but the first load when they are near."""
    position = 0
    smaller = {}

    def lighter(match: re.Match) -> str:
        nonlocal position
        tag = match[0]
        address = ADDRESS.search(tag)
        file = path.parent / unquote(address[1]) if address else path
        if not address or address[1].startswith("data:") or not file.is_file():
            return tag
        position += 1
        size = size_of(file)
        added = f' width="{size[0]}" height="{size[1]}"' if size and "width=" not in tag else ""
        if position > 1 and "loading=" not in tag:
            added += ' loading="lazy" decoding="async"'
        if file.suffix == ".png":
            smaller[f"/{file.name}"] = f"/{smaller_picture(file).name}"
        return f"{tag[:4]}{added}{tag[4:]}"

    text = PICTURE.sub(lighter, text)
    for old, new in smaller.items():  # in links to a picture too
        text = text.replace(old, new)
    return text


def remove_unused(outdir: Path) -> None:
    """Remove what the build or developers need but no reader, and pictures that were replaced."""
    for smaller in outdir.glob("_images/*.webp"):
        smaller.with_suffix(".png").unlink(missing_ok=True)
    for pattern in NOT_FOR_READERS:
        for unused in (outdir / "_static").rglob(pattern):
            unused.unlink()
