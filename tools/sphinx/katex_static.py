"""Typeset mathematics with KaTeX while the book is built, so that pages ship it as HTML.

Sphinx's own way leaves the typesetting to a script that every reader downloads from another
host. Here the copy of KaTeX under ``book/_vendor`` runs in V8 (the ``mini-racer`` wheel), a
formula that it does not understand is a warning with its place, and the page needs the style
sheet and the fonts only.
"""

import re
from functools import cache
from pathlib import Path

from docutils import nodes
from py_mini_racer import JSEvalException, MiniRacer
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number

logger = logging.getLogger(__name__)
ENVIRONMENT = re.compile(r"\\begin\{(\w+\*?)\}.*?\\end\{\1\}", re.DOTALL)
KATEX = Path(__file__).parents[2] / "book" / "_vendor" / "katex"


@cache
def _engine() -> MiniRacer:
    engine = MiniRacer()
    engine.eval((KATEX / "katex.min.js").read_text(encoding="utf-8"))
    return engine


@cache
def _typeset(tex: str, display: bool) -> str:
    options = {"displayMode": display, "throwOnError": True, "strict": "error"}
    return _engine().call("katex.renderToString", tex, options)


def _aligned(tex: str) -> str:
    """Align lines at their ``&``, as Sphinx's own renderers do with a ``math`` directive."""
    if "&" in ENVIRONMENT.sub("", tex):
        return rf"\begin{{aligned}}{tex.strip()}\end{{aligned}}"
    return tex


def _render(node, *, display: bool) -> str:
    tex = _aligned(node.astext()) if display else node.astext()
    try:
        return _typeset(tex, display)
    except JSEvalException as error:
        message = str(error).strip().splitlines()[0]
        logger.warning("mathematics: %s in %r", message, node.astext(), location=node)
        return ""


def visit_inline(translator, node: nodes.math):
    translator.body.append(f'<span class="math">{_render(node, display=False)}</span>')
    raise nodes.SkipNode


def visit_block(translator, node: nodes.math_block):
    translator.body.append(translator.starttag(node, "div", CLASS="math"))
    if node["number"]:
        translator.body.append(f'<span class="eqno">({get_node_equation_number(translator, node)})')
        translator.add_permalink_ref(node, "Link to this equation")
        translator.body.append("</span>")
    translator.body.append(_render(node, display=True) + "</div>\n")
    raise nodes.SkipNode


def _serve_katex(app):
    app.config.html_static_path.append(str(KATEX.parent))
    app.add_css_file("katex/katex.min.css")


def setup(app):
    app.add_html_math_renderer("katex", (visit_inline, None), (visit_block, None))
    app.connect("builder-inited", _serve_katex)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
