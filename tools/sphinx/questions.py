"""Questions with which readers check themselves; each choice opens to say why it is right or wrong.

:::{question} What is twice two?
- [ ] Three

  Why one may believe it, and why it is wrong.
- [x] Four

  Why it is right.
- [ ] Five

  And so on: three or four choices, exactly one of them right.
:::

The first question of a page says how they work. No script is needed: a choice is a ``<details>``
element, which opens by a click or the keyboard. Whatever stands before the list of choices, such
as code to be read, belongs to the question. A question that breaks a rule is a warning with its
place.
"""

from collections.abc import Iterator
from typing import NamedTuple

from docutils import nodes
from sphinx import addnodes
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

logger = logging.getLogger(__name__)

CHOICES = (3, 4)
MARKS = {"[ ] ": False, "[x] ": True}
VERDICTS = {True: "Right.", False: "Not quite."}
HINT = "Choose an answer: it opens and tells you whether it is right, and why."


class question(nodes.General, nodes.Element):  # noqa: N801, as docutils names its nodes
    """The text that is asked, as the group's label, and the choices."""


class choice(nodes.General, nodes.Element):  # noqa: N801
    """A choice: its label, and why it is right or wrong."""


class choice_label(nodes.Part, nodes.TextElement):  # noqa: N801
    """The text of a choice, which is visible while the choice is closed."""


class Choice(NamedTuple):
    """A choice as it is written."""

    right: bool | None  # None without a mark
    label: nodes.paragraph
    explanation: list[nodes.Node]

    @property
    def words(self) -> str:
        return " ".join(self.label.astext().split())


def read_choice(item: nodes.list_item) -> Choice:
    """Split an item of the list into its mark, its first paragraph and the rest."""
    label = next(iter(item), None)
    if not isinstance(label, nodes.paragraph) or not label.astext():
        return Choice(None, nodes.paragraph(), item.children)
    first = label[0].astext() if isinstance(label[0], nodes.Text) else ""
    right = MARKS.get(first[:4])
    if right is not None:
        label[0] = nodes.Text(first[4:])
        label.rawsource = label.rawsource.replace(first[:4], "", 1)
    return Choice(right, label, item.children[1:])


def problems(choices: list[Choice]) -> Iterator[str]:
    """Yield what is wrong with the choices of a question, in words."""
    fewest, most = CHOICES
    if not fewest <= len(choices) <= most:
        yield f"expected {fewest} or {most} choices, found {len(choices)}"
    for number, each in enumerate(choices, start=1):
        if each.right is None or not each.words:
            yield f"expected choice {number} to begin with [ ] or [x] and to say something"
        if any(each.label.findall(addnodes.pending_xref)) or any(
            each.label.findall(nodes.reference)
        ):
            yield f"expected choice {number} without a link, since pressing it opens the choice"
        if not any(node.astext().strip() for node in each.explanation):
            yield f"expected a paragraph below choice {number} that explains it, found none"
    right = sum(each.right is True for each in choices)
    if right != 1:
        yield f"expected exactly one right choice, marked [x], found {right}"
    words = [each.words for each in choices]
    for twice in sorted({text for text in words if text and words.count(text) > 1}):
        yield f"expected different choices, found twice: {twice}"


class Question(SphinxDirective):
    """A question and its choices."""

    required_arguments = 1
    final_argument_whitespace = True
    has_content = True

    def run(self):
        parsed = nodes.container()
        self.state.nested_parse(self.content, self.content_offset, parsed)
        choices = []
        if len(parsed) and isinstance(parsed[-1], nodes.bullet_list):
            choices = [read_choice(item) for item in parsed.pop()]
        for problem in problems(choices):
            logger.warning("question: %s", problem, location=self.get_location(), type="question")
        text, messages = self.state.inline_text(self.arguments[0], self.lineno)
        number = self.env.new_serialno("question") + 1
        label = nodes.paragraph(
            self.arguments[0],
            "",
            *text,
            ids=[f"question-{number}"],
            classes=["question-text"],
        )
        self.set_source_info(label)
        group = question("", label, *parsed.children, labelled_by=label["ids"][0])
        group += [self._choice(letter, each) for letter, each in zip("ABCD", choices, strict=False)]
        hint = [nodes.paragraph("", HINT, classes=["question-hint"])] if number == 1 else []
        return [*hint, group, *messages]

    def _choice(self, letter: str, content: Choice) -> choice:
        label = choice_label(content.label.rawsource, "", *content.label.children)
        label.source, label.line = content.label.source, content.label.line
        return choice("", label, *content.explanation, letter=letter, right=content.right is True)


def visit_question(translator, node: question):
    translator.body.append(
        f'<div class="question" role="group" aria-labelledby="{node["labelled_by"]}">\n'
    )


def depart_question(translator, _node):
    translator.body.append("</div>\n")


def visit_choice(translator, node: choice):
    kind = "right-choice" if node["right"] else "wrong-choice"
    translator.body.append(f'<details class="choice {kind}">')


def depart_choice(translator, _node):
    translator.body.append("</div></details>\n")


def visit_choice_label(translator, node: choice_label):
    translator.body.append(
        f'<summary><span class="choice-letter">{node.parent["letter"]}</span> '
        '<span class="choice-text">'
    )


def depart_choice_label(translator, node: choice_label):
    # The letter again, for paper: there all answers come after all choices.
    translator.body.append(
        '</span></summary>\n<div class="choice-answer"><p class="choice-verdict">'
        f'<span class="choice-letter-again">{node.parent["letter"]}. </span>'
        f"{VERDICTS[node.parent['right']]}</p>\n"
    )


def setup(app):
    app.add_node(question, html=(visit_question, depart_question))
    app.add_node(choice, html=(visit_choice, depart_choice))
    app.add_node(choice_label, html=(visit_choice_label, depart_choice_label))
    app.add_directive("question", Question)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
