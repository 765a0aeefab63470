"""The questions with which readers check themselves."""

import json
import re
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from conftest import CHAPTERS, build_pages

SOUND = """# A page

:::{question} What is $2 + 2$, in `code`?
- [ ] Three

  Too *few*.
- [x] `four`

  Count your fingers.
- [ ] $x$

  Unknown.
:::

:::{question} What does this print?
```python
print("1" + "1")
```
- [x] 11

  Strings are joined.
- [ ] 2

  These are no numbers.
- [ ] An error

  Strings can be added.
- [ ] 1

  Nothing is dropped.
:::
"""


def build(folder: Path, source: str) -> tuple[BeautifulSoup, list[str]]:
    """Build a page of this source; return it and the warnings, each with its place."""
    (folder / "index.md").write_text(source, encoding="utf-8")
    warnings = build_pages(
        folder,
        extensions=["myst_parser", "questions"],
        myst_enable_extensions=["colon_fence", "dollarmath"],
    )
    page = (folder / "html" / "index.html").read_text(encoding="utf-8")
    return BeautifulSoup(page, "html.parser"), warnings.splitlines()


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    page, warnings = build(tmp_path_factory.mktemp("sound"), SOUND)
    assert warnings == []
    return page


def words(tag) -> str:
    return " ".join(tag.get_text(" ").split())


def test_a_question_is_a_group_that_is_called_by_its_text(sound):
    groups = sound.select("[role=group]")
    labels = [sound.find(id=group["aria-labelledby"]) for group in groups]
    assert [words(label) for label in labels] == [
        r"What is \(2 + 2\) , in code ?",
        "What does this print?",
    ]
    assert [label.find_parent(role="group") for label in labels] == groups
    assert labels[0].select_one(".math")
    assert labels[0].code
    ids = [tag["id"] for tag in sound.find_all(id=True)]
    assert len(ids) == len(set(ids))


def test_choices_are_closed_folds_which_say_first_whether_they_are_right(sound):
    first, second = ([*group.find_all("details")] for group in sound.select("[role=group]"))
    assert not any(fold.has_attr("open") for fold in first + second)
    assert [words(fold.summary) for fold in first] == ["A Three", "B four", r"C \(x\)"]
    assert first[1].summary.code
    inside = [words(fold).removeprefix(words(fold.summary)).strip() for fold in first]
    assert inside == [
        "A. Not quite. Too few .",
        "B. Right. Count your fingers.",
        "C. Not quite. Unknown.",
    ]
    assert [("Right." in words(fold)) for fold in second] == [True, False, False, False]


def test_closed_choices_do_not_tell_which_is_right(sound):
    for fold in sound.find_all("details"):
        assert not re.search(r"\[[ x]\]|right|wrong|quite", words(fold.summary), re.IGNORECASE)


def test_what_stands_before_the_choices_belongs_to_the_question(sound):
    code = sound.select("[role=group]")[1].find("pre")
    assert words(code) == 'print ( "1" + "1" )'
    assert code.find_parent("details") is None


def test_the_first_question_says_how_they_work(sound):
    (hint,) = sound.select(".question-hint")
    assert hint.find_next(role="group") is sound.select("[role=group]")[0]


# Each replaces a part of the first question by something that breaks one rule.
BROKEN = {
    "expected 3 or 4 choices, found 2": ("- [ ] $x$\n\n  Unknown.\n", ""),
    "expected 3 or 4 choices, found 5": (
        "- [ ] $x$\n",
        "- [ ] Six\n\n  No.\n- [ ] Seven\n\n  No.\n- [ ] $x$\n",
    ),
    "expected 3 or 4 choices, found 0": (":::\n\n:::", "\nNot a choice.\n:::\n\n:::"),
    "expected exactly one right choice, marked [x], found 0": ("[x] `four`", "[ ] `four`"),
    "expected exactly one right choice, marked [x], found 2": ("[ ] Three", "[x] Three"),
    "expected a paragraph below choice 1 that explains it, found none": ("  Too *few*.\n", ""),
    "expected choice 1 to begin with [ ] or [x] and to say something": ("[ ] Three", "Three"),
    "expected choice 3 to begin with [ ] or [x] and to say something": ("[ ] $x$", "[ ] "),
    "expected choice 1 without a link": ("Three", "{ref}`genindex`"),
    "expected choice 2 without a link": ("`four`", "[four](https://example.org)"),
    "expected different choices, found twice: four": ("[ ] Three", "[ ] four"),
}


@pytest.mark.parametrize("problem", BROKEN)
def test_a_question_that_breaks_a_rule_is_a_warning_with_its_place(tmp_path, problem):
    old, new = BROKEN[problem]
    assert old in SOUND
    _, warnings = build(tmp_path, SOUND.replace(old, new, 1))
    assert any(f"index.md:3: WARNING: question: {problem}" in line for line in warnings)


def questions_of(notebook: Path) -> str:
    """Return the source of the cell with the questions, which stands before the exercises."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    sources = {cell["id"]: "".join(cell["source"]) for cell in cells}
    assert "self-check" in sources, f"{notebook.name} has no cell self-check"
    order = list(sources)
    after = [name for name in order if re.search(r"^## Exercises$", sources[name], re.MULTILINE)]
    assert order.index("self-check") < order.index(after[0])
    return sources["self-check"]


@pytest.mark.parametrize("notebook", CHAPTERS, ids=lambda path: path.stem)
def test_every_chapter_asks_three_to_five_questions(notebook):
    source = questions_of(notebook)
    assert source.startswith("## Check yourself\n")
    assert 3 <= len(re.findall(r"^:::\{question\} \S", source, re.MULTILINE)) <= 5


@pytest.mark.parametrize("notebook", CHAPTERS, ids=lambda path: path.stem)
def test_the_place_of_an_answer_gives_nothing_away(notebook):
    marks = [
        re.findall(r"^- \[([ x])\] ", part, re.MULTILINE)
        for part in questions_of(notebook).split(":::{question}")[1:]
    ]
    assert len({each.index("x") for each in marks}) > 1
