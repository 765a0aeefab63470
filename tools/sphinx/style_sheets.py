"""Style sheets as text: split into rules, joined, and cut down to what pages use.

A theme's style sheets hold every component that it could show. What a book uses of them is a
tenth, and a reader's browser must have read all of it before it draws the first line.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

NESTING = re.compile(r"@(media|supports|layer|container)\b")
IMPORT = re.compile(r"""@import\s+(?:url\()?\s*["']?([^"')\s]+)""")
ADDRESS = re.compile(r"""url\(\s*["']?([^"')]+)["']?\s*\)""")
TOKEN = re.compile(r"""/\*.*?\*/|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|[{};]""", re.DOTALL)
FUNCTION = re.compile(r":(?:not|is|where|has|host|nth-child|nth-last-child)\([^()]*\)")
NAME = re.compile(r"[.#](-?[A-Za-z_](?:[\w-]|\\.)*)")


class Rule(NamedTuple):
    """What stands before the braces and in them; ``None`` for a statement without braces."""

    prelude: str
    body: str | None


def rules(style: str) -> Iterator[Rule]:
    """Split a style sheet, or the inside of a nesting rule, into its rules."""
    style = re.sub(r"/\*.*?\*/", "", style, flags=re.DOTALL)
    depth, start, prelude = 0, 0, ""
    for token in TOKEN.finditer(style):
        if token[0] == "{":
            depth += 1
            if depth == 1:
                prelude, start = style[start : token.start()].strip(), token.end()
        elif token[0] == "}":
            depth -= 1
            if depth == 0:
                yield Rule(prelude, style[start : token.start()].strip())
                start = token.end()
        elif token[0] == ";" and depth == 0:
            yield Rule(style[start : token.start()].strip(), None)
            start = token.end()


def joined(path: Path, moved: Callable[[Path], str]) -> str:
    """Return a style sheet with its imports in their place and its addresses as ``moved`` says."""

    def address(found: re.Match) -> str:
        if found[1].startswith(("data:", "#", "http:", "https:")):
            return found[0]
        return f'url("{moved((path.parent / re.split("[?#]", found[1])[0]).resolve())}")'

    parts = []
    for rule in rules(path.read_text(encoding="utf-8")):
        if rule.body is not None:
            parts.append(ADDRESS.sub(address, f"{rule.prelude}{{{rule.body}}}"))
        elif target := IMPORT.match(rule.prelude):
            parts.append(joined(path.parent / re.split("[?#]", target[1])[0], moved))
        elif not rule.prelude.startswith("@charset"):
            parts.append(f"{rule.prelude};")
    return "\n".join(parts)


def _selectors(prelude: str) -> list[str]:
    """Split at the commas that are not inside brackets."""
    return [part.strip() for part in re.split(r",(?![^()\[\]]*[)\]])", prelude) if part.strip()]


def _can_match(selector: str, used: set[str]) -> bool:
    while (plain := FUNCTION.sub("", selector)) != selector:
        selector = plain
    selector = re.sub(r"\[[^\]]*\]", "", selector)
    return all(re.sub(r"\\(.)", r"\1", name) in used for name in NAME.findall(selector))


def cut_down(style: str, used: set[str]) -> str:
    """Drop the rules whose classes and ids are not among the ``used`` names."""
    kept = []
    for rule in rules(style):
        if rule.body is None:
            kept.append(f"{rule.prelude};")
        elif NESTING.match(rule.prelude):
            if inner := cut_down(rule.body, used):
                kept.append(f"{rule.prelude}{{{inner}}}")
        elif rule.prelude.startswith("@"):
            kept.append(f"{rule.prelude}{{{rule.body}}}")
        elif rule.body:
            selectors = [part for part in _selectors(rule.prelude) if _can_match(part, used)]
            if selectors:
                kept.append(f"{','.join(selectors)}{{{rule.body}}}")
    return "\n".join(kept)
