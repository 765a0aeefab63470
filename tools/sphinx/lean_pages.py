"""Make the built pages light: what a reader's browser must load before it can show a page.

- One style sheet instead of ten, without the rules that no page uses.
- The icons that pages show instead of all 2,000, and no script that draws them a second time.
- Scripts that wait until the page is read, and those only that it has a use for.
- Pictures without loss in a smaller format, with their size so that nothing jumps, and loaded
  when they come near.
"""

import hashlib
import io
import logging
import re
from pathlib import Path
from urllib.parse import unquote

from fontTools import subset
from fontTools.ttLib import TTFont
from PIL import Image
from style_sheets import Rule, cut_down, joined, rules

logging.getLogger("fontTools").setLevel(logging.WARNING)  # it tells each table that it cuts
STYLE = "seqbook-all.css"
ICON_FONTS = "vendor/fontawesome"
SHEET = re.compile(r'[ \t]*<link\b(?=[^>]*rel="stylesheet")[^>]*href="([^"?]+)[^"]*"[^>]*/?>\n?')
SCRIPT = re.compile(r'[ \t]*<script\b([^>]*)\bsrc="([^"?]+)([^"]*)"([^>]*)></script>\n?')
UNUSED_INLINE = re.compile(r"[ \t]*<script>DOCUMENTATION_OPTIONS\.\w+ = [^<]*</script>\n?")
PICTURE = re.compile(r"<img\b[^>]*>")
ADDRESS = re.compile(r'\bsrc="([^"]+)"')
WORD = re.compile(r"-?[A-Za-z_][\w-]*")
NOT_FOR_READERS = ("*.map", "fontawesome.js", "bootstrap.js", "katex.min.js")
NEEDED_FOR = {  # scripts, and what a page has if it needs them
    "design-tabs.js": re.compile(r'class="[^"]*\bsd-tab-set\b'),
    "togglebutton.js": re.compile(r'class="[^"]*\b(?:toggle|dropdown)\b'),
    "clipboard.min.js": re.compile(r'class="[^"]*\bhighlight\b'),
    "copybutton.js": re.compile(r'class="[^"]*\bhighlight\b'),
}


def names_used(pages: list[str], scripts: list[str]) -> set[str]:
    """Return the classes and ids in pages, and every word of the scripts, which may set some."""
    used = set()
    for page in pages:
        for found in re.findall(r'\b(?:class|id)="([^"]*)"', page):
            used.update(found.split())
    for script in scripts:
        used.update(WORD.findall(script))
    return used


def with_needed_icons(style: str, static: Path) -> str:
    """Replace the fonts of icons by ones that hold the icons which the style sheet still names."""
    icons = {int(code, 16) for code in re.findall(r'"\\([ef][0-9a-f]{3})"', style)}
    kept = []
    for rule in rules(style):
        if rule.prelude == "@font-face" and ICON_FONTS in rule.body:
            rule = _needed_part(rule, static, icons)
        if rule is not None:
            kept.append(rule.prelude + (";" if rule.body is None else f"{{{rule.body}}}"))
    return "\n".join(kept)


def _needed_part(rule: Rule, static: Path, icons: set[int]) -> Rule | None:
    name = re.search(rf"{ICON_FONTS}/webfonts/([\w-]+)\.woff2", rule.body)[1]
    font = TTFont(static / ICON_FONTS / "webfonts" / f"{name}.ttf", recalcTimestamp=False)
    if not icons & set(font.getBestCmap()):
        return None
    cutter = subset.Subsetter(subset.Options(drop_tables=["FFTM"], layout_features=[]))
    cutter.populate(unicodes=icons)
    cutter.subset(font)
    font.flavor = "woff"  # woff2 needs a compressor that Python has not
    target = static / "icons" / f"{name}.woff"
    target.parent.mkdir(exist_ok=True)
    font.save(target)
    body = re.sub(r"src:[^;}]*", f'src:url("icons/{target.name}") format("woff")', rule.body)
    return Rule(rule.prelude, body)


def one_style_sheet(outdir: Path, pages: dict[Path, str]) -> None:
    """Join the style sheets that pages load, cut them down, and let all pages load the result."""
    static = outdir / "_static"
    sheets = list(
        dict.fromkeys(name for text in pages.values() for name in SHEET.findall(_to_root(text)))
    )

    def moved(path: Path) -> str:
        return path.relative_to(static).as_posix()

    loaded = {name for text in pages.values() for _, name, *_ in SCRIPT.findall(_to_root(text))}
    files = {outdir / name for name in loaded} | set(static.rglob("*.mjs"))
    scripts = [path.read_text(encoding="utf-8") for path in sorted(files) if path.is_file()]
    style = "\n".join(joined(outdir / name, moved) for name in sheets)
    style = cut_down(style, names_used(list(pages.values()), scripts))
    style = with_needed_icons(style, static)
    (static / STYLE).write_text(style, encoding="utf-8")
    version = hashlib.sha256(style.encode()).hexdigest()[:8]
    for path, text in pages.items():
        first = SHEET.search(text)
        if first is None:
            continue
        root = re.search(r'data-content_root="([^"]*)"', text)[1]
        link = f'<link rel="stylesheet" href="{root}_static/{STYLE}?v={version}" />\n'
        pages[path] = text[: first.start()] + link + SHEET.sub("", text[first.end() :])


def _to_root(text: str) -> str:
    """Write the addresses of a page in a folder as its start page would write them."""
    root = re.search(r'data-content_root="([^"]*)"', text)
    return text.replace(f'"{root[1]}', '"') if root and root[1] not in ("", "./") else text


def fewer_scripts(text: str) -> str:
    """Let scripts wait for the page, and drop those that it has no use for."""

    def lean(found: re.Match) -> str:
        before, address, version, after = found.groups()
        file = address.rsplit("/", 1)[-1]
        if file in NEEDED_FOR and not NEEDED_FOR[file].search(text):
            return ""
        wait = "" if re.search(r"\b(?:defer|async|module)\b", before + after) else " defer"
        return f'<script{before.rstrip()}{wait} src="{address}{version}"{after}></script>\n'

    return UNUSED_INLINE.sub("", SCRIPT.sub(lean, text))


def smaller_picture(path: Path) -> Path:
    """Write a PNG as WebP, which loses nothing and is under half as large; return what to show."""
    target = path.with_suffix(".webp")
    if not target.is_file() or target.stat().st_mtime < path.stat().st_mtime:
        content = io.BytesIO()
        with Image.open(path) as picture:
            picture.save(content, "WEBP", lossless=True, exact=True, method=4)
        if content.tell() >= path.stat().st_size:
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
    """Give each picture its size, a smaller file, and leave to wait if it is not the first."""
    position = 0

    def lighter(found: re.Match) -> str:
        nonlocal position
        tag = found[0]
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
            shown = smaller_picture(file).name
            tag = tag.replace(address[0], address[0].replace(file.name, shown))
        return f"{tag[:4]}{added}{tag[4:]}"

    return PICTURE.sub(lighter, text)


def make_lean(app, exception):
    if exception or app.builder.format != "html" or app.builder.name == "singlehtml":
        return
    outdir = Path(app.outdir)
    files = [path for path in outdir.rglob("*.html") if "_static" not in path.parts]
    pages = {path: path.read_text(encoding="utf-8") for path in sorted(files)}
    before = dict(pages)
    for path, text in pages.items():
        pages[path] = lighter_pictures(path, fewer_scripts(text))
    one_style_sheet(outdir, pages)
    for path, text in pages.items():
        if text != before[path]:
            path.write_text(text, encoding="utf-8")
    shown = "".join(pages.values())
    for picture in outdir.glob("_images/*.webp"):
        if (unused := picture.with_suffix(".png")).name not in shown:
            unused.unlink(missing_ok=True)
    for pattern in (
        "*.map",
        "fontawesome.js",
        "bootstrap.js",
        "katex.min.js",
    ):  # for the build or for developers only
        for unused in (outdir / "_static").rglob(pattern):
            unused.unlink()


def all_pages(_app, env):
    """Write every page anew: what is cut out of the style sheet depends on all of them."""
    return sorted(env.found_docs)


def setup(app):
    app.connect("env-updated", all_pages)
    # Late: the theme writes its colours of code when the build is finished.
    app.connect("build-finished", make_lean, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
