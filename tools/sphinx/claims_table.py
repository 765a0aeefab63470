"""What was proved: the claims that the book's cells printed when they ran last.

``{claims-table}`` lists all of them, a section for each chapter with a table for each kind, each
claim with its number and a link to its place. ``{claim-count}`` is a role that gives the number of
claims in the book (``all``) or of ``chapters``; ``{claim}`lstm:update-claim` `` links to the claims
of a cell, with their numbers. All are read from the stored outputs, which the tests of the book
compare with what cells print.
"""

from docutils import nodes
from sphinx.util.docutils import SphinxDirective, SphinxRole
from stored_notebooks import Summary, chapters
from tables import page_link, table

MODULE = "claims-filter.mjs"

# The field is hidden until the script has made it work.
FIELD = """<form class="claims-filter" role="search" hidden>
<label for="claims-words">Show only claims with these words</label>
<input id="claims-words" type="search" autocomplete="off" spellcheck="false">
<output for="claims-words" aria-live="polite"></output>
</form>"""


# In the order in which they are listed.
TITLES = {"finding": "Findings", "measurement": "Measurements", "identity": "Identities"}


class ClaimsTable(SphinxDirective):
    """A section for each chapter with a table of its claims of each kind."""

    def run(self):
        sections = [
            self._section(number, name, chapter)
            for number, (name, chapter) in enumerate(chapters(self.env).items(), start=1)
        ]
        return [nodes.raw("", FIELD, format="html"), *sections]

    def _section(self, number: int, name: str, chapter: Summary) -> nodes.section:
        heading = f"{number}. {chapter.title}"
        section = nodes.section(ids=[f"proved-{name}"], names=[nodes.fully_normalize_name(heading)])
        section += nodes.title("", heading)
        count = f"{len(chapter.claims)} claims in "
        sentence = nodes.paragraph("", count, classes=["claims-count"])
        sentence += [page_link(name, chapter.title, at=self.env.docname), nodes.Text(".")]
        section += sentence
        for kind, title in TITLES.items():
            rows = [
                (_link(self.env, name, claim.anchor, f"{number}.{place}"), claim.statement)
                for place, claim in enumerate(chapter.claims, start=1)
                if chapter.kinds[place - 1] == kind
            ]
            if rows:
                claims = table((title, "What was shown"), (14, 86), rows)
                claims["classes"] += ["claims-table"]
                claims["support_smartquotes"] = False  # word for word what the cells print
                section += claims
        return section


class ClaimCount(SphinxRole):
    """How many claims, or chapters, there are."""

    def run(self):
        numbered = chapters(self.env)
        if self.text == "chapters":
            number = len(numbered)
        elif self.text == "all":
            number = sum(len(chapter.claims) for chapter in numbered.values())
        else:
            message = f"claim-count: expected all or chapters, got {self.text!r}"
            return [], [self.inliner.reporter.error(message, line=self.lineno)]
        return [nodes.Text(str(number))], []


class ClaimLink(SphinxRole):
    """The numbers of the claims of a cell, with a link to the first."""

    def run(self):
        page, _, cell = self.text.partition(":")
        numbered = chapters(self.env)
        claims = numbered[page].claims if page in numbered else ()
        places = [
            place
            for place, claim in enumerate(claims, start=1)
            if claim.anchor.rpartition("-")[0] == f"claim-{cell}"
        ]
        if not places:
            message = f"claim: expected the page and the id of a cell with claims, got {self.text}"
            return [], [self.inliner.reporter.error(message, line=self.lineno)]
        number = list(numbered).index(page) + 1
        ends = dict.fromkeys(f"{number}.{place}" for place in (places[0], places[-1]))
        words = f"claim{'s' * (len(ends) > 1)} {' to '.join(ends)}"
        return [_link(self.env, page, claims[places[0] - 1].anchor, words)], []


def _link(env, page: str, anchor: str, words: str) -> nodes.reference:
    uri = env.app.builder.get_relative_uri(env.docname, page)
    return nodes.reference("", words, internal=True, refuri=f"{uri}#{anchor}")


def load_filter(app, _page, _template, _context, doctree):
    if doctree is not None and any(
        "claims-table" in node["classes"] for node in doctree.findall(nodes.table)
    ):
        app.add_js_file(MODULE, type="module")


def setup(app):
    app.setup_extension("stored_notebooks")
    app.add_directive("claims-table", ClaimsTable)
    app.add_role("claim-count", ClaimCount())
    app.add_role("claim", ClaimLink())
    app.connect("html-page-context", load_filter)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
