"""Mend what the theme and its extensions write and a screen reader stumbles over.

- References have the role of a list's items: ``doc-biblioentry`` is deprecated.
- An empty cell in a table's head heads nothing.
- A page that no script has given its colours has those of the light mode, all of them.
- Korean words say that they are Korean, so that they are read with a Korean voice.
"""

import re
from pathlib import Path

KOREAN = re.compile(r"[가-힣]+(?:[\s·]+[가-힣]+)*")
# Text of these elements is no text of the page, or can't hold elements.
PIECE = re.compile(
    r"<(script|style|title|math|svg|textarea|option)\b.*?</\1>|<!--.*?-->|<[^>]*>|[^<]+", re.DOTALL
)


def with_roles_of_lists(text: str) -> str:
    return text.replace('role="doc-biblioentry"', 'role="listitem"')


def without_empty_heads(text: str) -> str:
    return re.sub(r"<th\b([^>]*)>\s*(?:<p>\s*</p>)?\s*</th>", r"<td\1></td>", text)


def with_light_colours(text: str) -> str:
    return re.sub(r'(<html\b[^>]*\bdata-theme=)"auto"', r'\1"light"', text)


def with_korean_marked(text: str) -> str:
    if not re.search(r'<html\b[^>]*\blang="en"', text):
        return text

    def marked(piece: re.Match) -> str:
        if piece[0].startswith("<"):
            return piece[0]
        return KOREAN.sub(r'<span lang="ko">\g<0></span>', piece[0])

    return PIECE.sub(marked, text)


def make_accessible(app, exception):
    if exception or app.builder.format != "html" or app.builder.name == "singlehtml":
        return
    for path in Path(app.outdir).rglob("*.html"):
        before = path.read_text(encoding="utf-8")
        text = before
        for mend in (
            with_roles_of_lists,
            without_empty_heads,
            with_light_colours,
            with_korean_marked,
        ):
            text = mend(text)
        if text != before:
            path.write_text(text, encoding="utf-8")


def setup(app):
    app.connect("build-finished", make_accessible)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
