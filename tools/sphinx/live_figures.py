"""Interactive figures.

```{live-figure} roots
:name: live-roots
:alt: What the still picture shows, for readers who can't see it.
:title: Roots and roll-out of an AR(2) process
:heights: 620 700

The caption: what to try, what to see.
```

gives a figure with the still picture ``_static/live/roots.svg``. A page with such a figure loads
``_static/live/live.mjs``, which puts the module ``_static/live/roots.mjs`` in the picture's place
when it comes into view. Its height, wide and on a phone, is reserved, so that nothing jumps.
"""

from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective

LIVE = "_static/live"


class live_stage(nodes.General, nodes.Element):  # noqa: N801, as docutils names its nodes
    """Where the module draws; it holds the still picture."""


def heights(argument: str) -> tuple[int, int]:
    """Read two heights in pixels: of a wide page, and of a phone's."""
    wide, narrow = map(int, argument.split())
    return wide, narrow


class LiveFigure(SphinxDirective):
    """A figure with a still picture and a module that replaces it."""

    required_arguments = 1
    has_content = True
    option_spec = {  # noqa: RUF012, as docutils has it
        "name": directives.unchanged_required,
        "alt": directives.unchanged_required,
        "title": directives.unchanged_required,
        "heights": heights,
    }

    def run(self):
        if missing := set(self.option_spec) - set(self.options):
            raise self.error(f"live-figure: options missing: {', '.join(sorted(missing))}")
        (module,) = self.arguments
        for kind in ("mjs", "svg"):
            if not (Path(self.env.srcdir) / LIVE / f"{module}.{kind}").is_file():
                raise self.error(f"live-figure: there is no {LIVE}/{module}.{kind}")
        picture = nodes.image(uri=f"/{LIVE}/{module}.svg", alt=self.options["alt"])
        shown = {"module": module, "title": self.options["title"]}
        stage = live_stage("", picture, heights=self.options["heights"], **shown)
        caption = nodes.caption()
        self.state.nested_parse(self.content, self.content_offset, caption)
        if len(caption) != 1:
            raise self.error("live-figure: expected a caption of one paragraph")
        caption.children = caption[0].children
        figure = nodes.figure("", stage, caption, classes=["live"])
        self.set_source_info(figure)
        self.set_source_info(picture)
        self.add_name(figure)
        return [figure]


def visit_stage(translator, node: live_stage):
    wide, narrow = node["heights"]
    translator.body.append(
        translator.starttag(
            node,
            "div",
            "",
            CLASS="live-stage",
            style=f"--wide: {wide}px; --narrow: {narrow}px",
            **{"data-live": node["module"], "data-title": node["title"]},
        )
    )


def depart_stage(translator, _node):
    translator.body.append("</div>")


def load_modules(app, _page, _template, _context, doctree):
    if doctree is not None and next(doctree.findall(live_stage), None):
        app.add_js_file("live/live.mjs", type="module")


def setup(app):
    app.add_node(live_stage, html=(visit_stage, depart_stage))
    app.add_directive("live-figure", LiveFigure)
    app.connect("html-page-context", load_modules)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
