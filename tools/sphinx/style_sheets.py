"""Style sheets as rules: read with their imports, and cut down to what pages use.

A theme's style sheets hold every component that it could show. A book uses a tenth of them, and a
browser must have read all of them before it draws the first line. tinycss2 does the parsing.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import tinycss2
from tinycss2.ast import AtRule, Node, QualifiedRule

NESTING = {"media", "supports", "layer", "container"}
ELSEWHERE = ("data:", "#", "http:", "https:")
Rules = list[Node]


def parse(style: str) -> Rules:
    """Parse a style sheet; comments are left out."""
    tokens = tinycss2.parse_component_value_list(style, skip_comments=True)
    return tinycss2.parse_stylesheet(tokens, skip_whitespace=True)


def serialize(rules: Iterable[Node]) -> str:
    """Write rules as a style sheet with one rule in each line."""
    return "\n".join(rule.serialize() for rule in rules)


def read(path: Path, moved: Callable[[Path], str]) -> Rules:
    """Read a style sheet with its imports in their place.

    Args:
        path: The file.
        moved: Gives the new address of a file that the style sheet refers to.

    Raises:
        ValueError: A rule can't be parsed.
    """
    rules = []
    for rule in parse(path.read_text(encoding="utf-8")):
        if rule.type == "error":
            raise ValueError(f"{path}, line {rule.source_line}: {rule.message}")
        if rule.type == "at-rule" and rule.lower_at_keyword == "charset":
            continue
        if rule.type == "at-rule" and rule.lower_at_keyword == "import":
            (target,) = (token for token in rule.prelude if token.type != "whitespace")
            name = target.value if target.type == "string" else _address(target)
            if name is None:
                raise ValueError(f"{path}, line {rule.source_line}: expected a file to import")
            rules += read(path.parent / _file(name), moved)
            continue

        def address(target: str) -> str:
            if target.startswith(ELSEWHERE):
                return target
            return moved((path.parent / _file(target)).resolve())

        _replace_addresses(rule.content or [], address)
        rules.append(rule)
    return rules


def _file(address: str) -> str:
    return re.split("[?#]", address)[0]


def walk(nodes: Iterable[Node]) -> Iterator[Node]:
    """Yield nodes and all that they contain, in the order of the text."""
    for node in nodes:
        yield node
        for part in ("prelude", "arguments", "content"):
            yield from walk(getattr(node, part, None) or ())


def _address(token: Node) -> str | None:
    if token.type == "url":
        return token.value
    if token.type == "function" and token.lower_name == "url":
        return next(part.value for part in token.arguments if part.type == "string")
    return None


def addresses(rule: Node) -> list[str]:
    """Return the addresses that the body of a rule refers to."""
    return [
        address for token in walk(rule.content or ()) if (address := _address(token)) is not None
    ]


def _replace_addresses(tokens: list[Node], new: Callable[[str], str]) -> None:
    for place, token in enumerate(tokens):
        old = _address(token)
        if old is not None:
            (tokens[place],) = tinycss2.parse_component_value_list(f'url("{new(old)}")')
        else:
            for part in ("arguments", "content"):
                _replace_addresses(getattr(token, part, None) or [], new)


def _selectors(prelude: Iterable[Node]) -> Iterator[list[Node]]:
    """Split at the commas that are not inside brackets."""
    selector: list[Node] = []
    for token in prelude:
        if token == ",":
            yield selector
            selector = []
        else:
            selector.append(token)
    yield selector


def _names(selector: Iterable[Node]) -> Iterator[str]:
    """Yield classes and ids that an element must have; what stands in ``:not()`` or ``[]`` may."""
    before = None
    for token in selector:
        if token.type == "hash" or (token.type == "ident" and before == "."):
            yield token.value
        before = token


def names(rules: Iterable[Node]) -> set[str]:
    """Return the classes and ids that the selectors of the rules require."""
    named = set()
    for rule in rules:
        if _is_nesting(rule):
            named |= names(_inner(rule))
        elif rule.type == "qualified-rule":
            named.update(_names(rule.prelude))
    return named


def _is_nesting(rule: Node) -> bool:
    return rule.type == "at-rule" and rule.lower_at_keyword in NESTING and rule.content is not None


def _inner(rule: AtRule) -> Rules:
    return tinycss2.parse_rule_list(rule.content, skip_whitespace=True)


def cut_down(rules: Iterable[Node], used: set[str]) -> Rules:
    """Drop the rules whose classes and ids are not among the ``used`` names."""
    used_rules = []
    for rule in rules:
        if _is_nesting(rule):
            if inner := cut_down(_inner(rule), used):
                used_rules.append(_copy(rule, content=inner))
        elif rule.type != "qualified-rule":
            used_rules.append(rule)
        elif any(token.type != "whitespace" for token in rule.content):
            matching = [part for part in _selectors(rule.prelude) if used.issuperset(_names(part))]
            if matching:
                used_rules.append(_copy(rule, prelude=_joined(matching)))
    return used_rules


def _joined(selectors: list[list[Node]]) -> list[Node]:
    (comma,) = tinycss2.parse_component_value_list(",")
    tokens = [token for selector in selectors for token in (comma, *_stripped(selector))]
    return tokens[1:]


def _stripped(tokens: list[Node]) -> list[Node]:
    words = [place for place, token in enumerate(tokens) if token.type != "whitespace"]
    return tokens[words[0] : words[-1] + 1] if words else []


def _copy(rule, *, prelude: list[Node] | None = None, content: list[Node] | None = None) -> Node:
    prelude = rule.prelude if prelude is None else prelude
    content = rule.content if content is None else content
    if isinstance(rule, QualifiedRule):
        return QualifiedRule(rule.source_line, rule.source_column, prelude, content)
    return AtRule(
        rule.source_line,
        rule.source_column,
        rule.at_keyword,
        rule.lower_at_keyword,
        prelude,
        content,
    )


def with_declaration(rule: AtRule, name: str, value: str) -> AtRule:
    """Return an at-rule with another value of one of its declarations."""
    declarations = tinycss2.parse_blocks_contents(rule.content, skip_whitespace=True)
    others = [part for part in declarations if getattr(part, "lower_name", None) != name]
    added = tinycss2.parse_blocks_contents(f"{name}:{value}")
    return _copy(rule, content=[*others, *added])
