"""Mark the lines of code on a page, so that a narrow page can wrap them with a hanging indent.

Each line is an element that knows how far it is indented. Text that is copied stays the same. Names
and punctuation, which have the colour of the text, are no elements of their own: they would be half
of all elements of a chapter. ``finished_pages`` calls ``with_lines``.
"""

import re

CODE = re.compile(r'(<div class="highlight"><pre[^>]*>(?:<span></span>)?)(.*?)(</pre>)', re.DOTALL)
# A blank line stays as it is. In others the first text, after tags, may begin with spaces.
LINE = re.compile(r"^(?=[^\n])((?:<[^>]*>)*)( *)([^\n]*\n?)", re.MULTILINE)
UNCOLOURED = {"n": "Name", "nn": "Name.Namespace", "p": "Punctuation", "w": "Text.Whitespace"}
PLAIN = re.compile(rf'<span class="(?:{"|".join(UNCOLOURED)})">([^<]*)</span>')


def _line(match: re.Match) -> str:
    indent = f' style="--indent:{len(match[2])}"' if match[2] else ""
    return f'<span class="code-line"{indent}>{match[0]}</span>'


def with_lines(page: str) -> str:
    """Return a page whose lines of code are elements."""

    def marked(match: re.Match) -> str:
        before, code, after = match.groups()
        return before + LINE.sub(_line, PLAIN.sub(r"\1", code)) + after

    return CODE.sub(marked, page)
