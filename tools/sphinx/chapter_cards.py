"""The card that opens a chapter, the one that ends it, and the map of all chapters.

:::{opening} 장단기 메모리
:figure: fig-lags
:needs: recurrent, bptt

**The question of this chapter:** Can a network be built so that its memory survives?

What the chapter before could not do, in a sentence or two.

You will be able to

- do this;
- and that;
- and a third thing.
:::

stands at the head of a chapter, with its title in Korean. One of the chapter's own figures is shown
beside it; the chapters that it builds on are linked to. The times are counted, see
``stored_notebooks``.

:::{ending}
:findings: fig-lags-1 "over 95 %", recall-claim-2 "over 0.9"

- What was shown, in a list.

**What remains broken.** What the next chapter removes.
:::

stands under "What was shown". It shows up to three claims of the chapter, by the name of their cell
and their place in it, each with the words of it that are set large. Then come the exercise to be
graded, a button with which readers mark the chapter as read, and the next chapter.

:::{chapter-map}
- {doc}`lstm`, `fig-belt`: *Are all three gates needed?*
:::

shows every chapter of the book as a card: its time, a figure of it, and what it leaves unsolved;
below them, how many chapters the reader has marked as read.
"""

import re
from collections.abc import Iterator, Sequence
from html import escape
from typing import NamedTuple

from docutils import nodes
from docutils.parsers.rst import directives
from exercise_links import exercises_of
from exercise_links import links as exercise_links
from sphinx import addnodes
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective
from stored_notebooks import Summary, numbered_pages, summaries
from tables import page_link

logger = logging.getLogger(__name__)
QUESTION = ("The question of this chapter:",)
BROKEN = ("What remains broken.", "What remains open.")
ABILITIES = 3
MOST_FINDINGS = 3
# A script shows these, see progress.mjs.
BUTTON = (
    '<button type="button" class="mark-read" aria-pressed="false" data-page="{page}" hidden>'
    "Mark chapter {number} as read</button>\n"
)
PROGRESS = (
    '<p class="reading-progress" hidden><output></output> '
    '<button type="button">Forget</button></p>\n'
)
FINDING = re.compile(r'\s*([\w-]+-\d+) "([^"]+)"\s*')


class card_part(nodes.General, nodes.Element):  # noqa: N801, as docutils names its nodes
    """An HTML element of one class."""


class hero_caption(nodes.Part, nodes.TextElement):  # noqa: N801
    """The words below a figure that is shown once more."""


class hero(nodes.General, nodes.Element):  # noqa: N801
    """The place of a figure of the same page, which is shown there once more."""


class map_picture(nodes.General, nodes.Element):  # noqa: N801
    """A figure of another page."""


class Finding(NamedTuple):
    """A claim to be shown in an ending.

    Args:
        anchor: Of its sentence in the page, without the prefix that all have.
        headline: The words of it that are set large.
    """

    anchor: str
    headline: str


def read_findings(argument: str) -> list[Finding]:
    """Read the names of claims, each with its headline in quotation marks."""
    found = [FINDING.fullmatch(part) for part in re.split(r",(?=\s*[\w-]+-\d+ \")", argument)]
    if not all(found) or len(found) > MOST_FINDINGS:
        raise ValueError(f'expected at most {MOST_FINDINGS} of the form: cell-1 "words", ...')
    return [Finding(*match.groups()) for match in found if match]


def _names(argument: str) -> list[str]:
    return [name.strip() for name in argument.split(",")]


def _part(name: str, *children: nodes.Node, tag: str = "div") -> card_part:
    return card_part("", *children, classes=[name], tag=tag)


def _starts_with(node: nodes.Node, words: Sequence[str]) -> bool:
    """Whether a paragraph starts with one of these in bold, perhaps after an empty text."""
    parts = (part for part in node.children if part.astext())
    first = next(parts, None) if isinstance(node, nodes.paragraph) else None
    return isinstance(first, nodes.strong) and first.astext() in words


class Card(SphinxDirective):
    """What opening and ending have in common."""

    has_content = True

    def number(self) -> int:
        """Return the number of the chapter."""
        names = self.chapters
        if self.env.docname not in names:
            raise self.error(f"{self.name}: {self.env.docname} is not among the numbered chapters")
        return names.index(self.env.docname) + 1

    @property
    def chapters(self) -> list[str]:
        return numbered_pages(self.env.config.external_site_map)

    def summary(self, chapter: str) -> Summary:
        return summaries(self.env, [chapter])[chapter]

    def content_nodes(self) -> list[nodes.Node]:
        holder = nodes.container()
        self.state.nested_parse(self.content, self.content_offset, holder)
        return holder.children

    def link(self, chapter: str) -> nodes.Node:
        return page_link(chapter, self.summary(chapter).title, at=self.env.docname)


class Opening(Card):
    """The head of a chapter."""

    required_arguments = 1
    final_argument_whitespace = True
    option_spec = {  # noqa: RUF012, as docutils has it
        "figure": directives.unchanged_required,
        "needs": _names,
    }

    def run(self):
        number = self.number()
        words = self.content_nodes()
        lists = [node for node in words if isinstance(node, nodes.bullet_list)]
        if not words or not _starts_with(words[0], QUESTION):
            raise self.error(f"opening: expected '**{QUESTION[0]}** ...' first")
        if len(lists) != 1 or len(lists[0]) != ABILITIES:
            raise self.error(f"opening: expected one list, of {ABILITIES} abilities")
        place = f"Chapter {number} of {len(self.chapters)} · {self.arguments[0]}"
        card = _part("opening", nodes.paragraph("", place, classes=["opening-place"]))
        card += _part("opening-words", *words)
        card += hero("", figure=self.options["figure"])
        card += self._facts()
        self.set_source_info(card)
        return [card]

    def _facts(self) -> nodes.definition_list:
        chapter = self.summary(self.env.docname)
        seconds = chapter.runs_within_seconds
        with_checks = f"; with every check and solution, {chapter.minutes_with_checks}"
        facts = [
            ("Time to read", [nodes.Text(f"{chapter.reading_minutes} minutes{with_checks}")]),
            ("Runs in", [nodes.Text(f"under {seconds} seconds on two cores, without a GPU")]),
        ]
        if needs := self.options.get("needs"):
            unknown = [name for name in needs if name not in self.chapters]
            if unknown:
                raise self.error(f"opening: no chapter is called {', '.join(unknown)}")
            links = [part for name in needs for part in (nodes.Text(", "), self.link(name))][1:]
            facts.append(("Builds on", links))
        return nodes.definition_list(
            "",
            *(
                nodes.definition_list_item(
                    "",
                    nodes.term("", term),
                    nodes.definition("", nodes.paragraph("", "", *said)),
                )
                for term, said in facts
            ),
            classes=["opening-facts"],
        )


class Ending(Card):
    """What a chapter has shown, what it leaves, and the ways on."""

    option_spec = {"findings": read_findings}  # noqa: RUF012

    def run(self):
        number = self.number()
        words = self.content_nodes()
        start = next((i for i, node in enumerate(words) if _starts_with(node, BROKEN)), None)
        if start is None:
            raise self.error(f"ending: expected a paragraph '**{BROKEN[0]}** ...'")
        card = _part("ending", *self._findings(number), *words[:start])
        card += _part("ending-broken", *words[start:])
        card += _part("ending-ways", *self._ways(number))
        self.set_source_info(card)
        return [card]

    def _findings(self, number: int) -> Iterator[nodes.Node]:
        findings = self.options.get("findings")
        if not findings:
            return
        claims = self.summary(self.env.docname).claims
        places = {claim.anchor.removeprefix("claim-"): place for place, claim in enumerate(claims)}
        tiles = nodes.bullet_list("", classes=["ending-findings"])
        for anchor, headline in findings:
            if anchor not in places:
                raise self.error(f"ending: no claim is called {anchor}")
            place = places[anchor]
            claim = claims[place]
            if headline not in claim.statement:
                raise self.error(f"ending: {headline!r} is not in the claim {claim.statement!r}")
            source = nodes.reference("", f"Claim {number}.{place + 1}", refid=claim.anchor)
            tiles += nodes.list_item(
                "",
                nodes.paragraph("", headline, classes=["ending-headline"]),
                nodes.paragraph("", claim.statement),
                nodes.paragraph("", "", source),
            )
        yield tiles

    def _ways(self, number: int) -> Iterator[nodes.Node]:
        yield nodes.raw("", BUTTON.format(page=self.env.docname, number=number), format="html")
        for exercise in exercises_of(self.env.docname, self.env)[:1]:
            title = f" {exercise.title[:1].upper()}{exercise.title[1:]}, {exercise.steps} steps: "
            way = nodes.paragraph("", "", nodes.strong("", "Write it yourself"), nodes.Text(title))
            way += exercise_links(exercise.name, self.env)
            yield way
        if number < len(self.chapters):
            following = self.chapters[number]
            minutes = self.summary(following).reading_minutes
            words = nodes.strong("", f"Next: chapter {number + 1}, {minutes} minutes")
            yield nodes.paragraph("", "", words, nodes.Text(" "), self.link(following))


class ChapterMap(Card):
    """All chapters as cards in an ordered list."""

    def run(self):
        (items,) = self.content_nodes()
        entries = [self._entry(item) for item in items]
        if [name for name, _, _ in entries] != self.chapters:
            raise self.error(f"chapter-map: expected the chapters {', '.join(self.chapters)}")
        shown = self.env.metadata[self.env.docname].setdefault("pictures shown", [])
        cards = nodes.enumerated_list("", classes=["chapter-map"], enumtype="arabic")
        for number, (name, figure, limit) in enumerate(entries, start=1):
            minutes_to_read = self.summary(name).reading_minutes
            shown.append((name, figure))
            title = nodes.paragraph("", "", classes=["map-title"])
            title += nodes.inline("", f"{number} ", classes=["map-number"])
            title += self.link(name)
            minutes = nodes.paragraph("", f"{minutes_to_read} minutes", classes=["map-minutes"])
            card = nodes.list_item("", title, minutes, map_picture("", page=name, figure=figure))
            if limit:
                card += nodes.paragraph("", "", *limit, classes=["map-limit"])
            cards += card
        return [cards, nodes.raw("", PROGRESS, format="html")]

    def _entry(self, item: nodes.list_item) -> tuple[str, str, list[nodes.Node]]:
        """Return a chapter's name, the name of its figure, and what it leaves."""
        (paragraph,) = item
        chapter = next(iter(paragraph.findall(addnodes.pending_xref)), None)
        figure = next((node for node in paragraph if isinstance(node, nodes.literal)), None)
        if chapter is None or figure is None:
            raise self.error("chapter-map: expected items like '{doc}`lstm`, `fig-belt`: *limit*'")
        limit = next((node for node in paragraph if isinstance(node, nodes.emphasis)), None)
        return chapter["reftarget"], figure.astext(), limit.children if limit else []


def show_figures(app, doctree):
    """Put the pictures of openings in their place, and note those that other pages may show."""
    figures = {
        name: figure
        for figure in doctree.findall(nodes.figure)
        for name in {*figure["ids"], *figure["names"]}
    }
    pictures = {
        name: (image["uri"], image.get("alt", ""))
        for name, figure in figures.items()
        for image in list(figure.findall(nodes.image))[:1]
    }
    app.env.metadata[app.env.docname]["pictures"] = pictures
    for place in list(doctree.findall(hero)):
        if place["figure"] not in pictures:
            logger.warning("opening: no figure is called %s", place["figure"], location=place)
            place.parent.remove(place)
            continue
        place.replace_self(_shown_again(app, place["figure"], figures[place["figure"]]))


def _shown_again(app, name: str, figure: nodes.figure) -> card_part:
    image = next(iter(figure.findall(nodes.image))).deepcopy()
    image["ids"], image["names"] = [], []
    reference = addnodes.pending_xref(
        "",
        nodes.inline("", name),
        refdomain="std",
        reftype="numref",
        reftarget=name,
        refdoc=app.env.docname,
        refexplicit=False,
        refwarn=True,
    )
    caption = hero_caption("", "", tag="figcaption")
    words = next(iter(figure.findall(nodes.caption)), None)
    if words is not None and not next(iter(words.findall(nodes.math)), None):
        sentence = words.astext().partition(". ")[0].rstrip(".")
        caption += nodes.Text(f"{sentence}. ")
    caption += reference
    return _part("hero", image, caption, tag="figure")


def visit_part(translator, node):
    translator.body.append(translator.starttag(node, node["tag"]))


def depart_part(translator, node):
    translator.body.append(f"</{node['tag']}>\n")


def visit_picture(translator, node):
    """Write the picture of another page, and let the builder copy it."""
    builder = translator.builder
    pictures = builder.env.metadata[node["page"]].get("pictures", {})
    if node["figure"] not in pictures:
        logger.warning("chapter-map: %s has no %s", node["page"], node["figure"], location=node)
        return
    uri, alt = pictures[node["figure"]]
    builder.images[uri] = builder.env.images[uri][1]
    source = f"{builder.imgpath}/{builder.images[uri]}"
    words = alt.partition(". ")[0].rstrip(".")
    image = f'<img src="{escape(source)}" alt="{escape(words)}.">'
    translator.body.append(f'<figure class="map-picture">{image}</figure>\n')


def nothing(_translator, _node):
    pass


def setup(app):
    app.setup_extension("stored_notebooks")
    app.add_node(card_part, html=(visit_part, depart_part))
    app.add_node(hero_caption, html=(visit_part, depart_part))
    app.add_node(hero, html=(nothing, nothing))
    app.add_node(map_picture, html=(visit_picture, nothing))
    app.add_directive("opening", Opening)
    app.add_directive("ending", Ending)
    app.add_directive("chapter-map", ChapterMap)
    app.connect("doctree-read", show_figures)
    app.add_js_file("frame.mjs", type="module")
    app.add_js_file("progress.mjs", type="module")
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
