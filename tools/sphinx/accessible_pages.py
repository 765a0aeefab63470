"""Fix what the theme and its extensions write and a screen reader stumbles over.

- References have the role of a list's items: ``doc-biblioentry`` is deprecated.
- An empty cell in a table's head heads nothing.
- A page that no script has given its colours has those of the light mode, all of them.
- Korean words are marked as Korean, so that they are read with a Korean voice.

``finished_pages`` calls ``accessible``.
"""

import re

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


def accessible(text: str) -> str:
    """Return a page with all of these faults fixed."""
    for fix in (with_roles_of_lists, without_empty_heads, with_light_colours, with_korean_marked):
        text = fix(text)
    return text
