"""Which notebooks of a class share code that others did not write, whatever their names are.

No library is used for it. copydetect 0.5 (2024, its last release) does find a copy with other
names (0.77 of it, where this module finds all) and with functions in another order (0.98). But it
compares two files at a time and can't weigh what is rare in a class. Of 32 notebooks, 26 had the
same usual function and two an unusual one: it put the pair of the two at rank 332 of 496, below
pairs of honest students; this module lists that pair alone. The edit distances of rapidfuzz have
the same limit: of 20 renamed copies among 300 notebooks, with functions in another order, none was
among the first 50; here all 20 come first, in 1.4 s.
"""

from __future__ import annotations

import builtins
import io
import itertools
import keyword
import tokenize
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from stepgrader.answers import code_lines
from stepgrader.reports import plain

if TYPE_CHECKING:
    from stepgrader.batch import Result
    from stepgrader.exercises import Exercise
    from stepgrader.grader import Graded, GradedStep
    from stepgrader.roster import Roster

__all__ = ["Pair", "fragments", "similar_pairs", "similarity_page"]

LENGTH = 10  # tokens of a fragment
FEWEST = 20  # fragments that are its own, without which a notebook is too short to compare
SHARE = 0.5  # of what is the shorter notebook's own, from which a pair is listed
COMMON = 0.2  # share of the class, above which a fragment is nobody's own,
AT_LEAST = 4  # but not in fewer notebooks, so that a few who copy are found in a small class
MAX_PAIRS = 50
BUILTINS = set(dir(builtins))
SKIPPED = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}


@dataclass(frozen=True)
class Pair:
    """Two notebooks of one exercise that share code.

    Args:
        one: The student of the first.
        other: The student of the second.
        share: The shared part of the shorter of both, from 0 to 1. A fragment of code counts the
            more, the fewer notebooks of the class have it.
        steps: Names of the steps that share any.
        weight: What all shared fragments count together.

    Example:
        >>> Pair("ada", "bob", 0.9, ["gate"]).share
        0.9
    """

    one: str
    other: str
    share: float
    steps: list[str] = field(default_factory=list)
    weight: float = 0.0


def fragments(source: str) -> set[tuple[str, ...]]:
    """Return all runs of a few tokens in code, without names, values and comments.

    Names that a student can't choose stay: those of attributes and of Python's own functions.

    Example:
        >>> one = "def gate(x, w):  # mine" + chr(10) + "    return torch.sigmoid(x @ w)"
        >>> other = "def gate(a, b): return torch.sigmoid(a @ b)"
        >>> fragments(one) == fragments(other), len(fragments(one))
        (True, 8)
    """
    tokens = [text for text in _tokens(source) if text]
    return {tuple(tokens[i : i + LENGTH]) for i in range(len(tokens) - LENGTH + 1)}


def _tokens(source: str) -> Iterator[str]:
    found: list[tokenize.TokenInfo] = []
    try:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type not in SKIPPED:
                found.append(token)
    except (tokenize.TokenError, SyntaxError):
        pass  # of a cell that is not valid code, what stands before the fault
    for number, token in enumerate(found):
        before = found[number - 1].string if number else ""
        owner = found[number - 2].string if number > 1 else ""
        if token.type == tokenize.NAME and not keyword.iskeyword(token.string):
            attribute = before == "." and owner != "self"
            yield token.string if attribute or token.string in BUILTINS else "name"
        elif token.type == tokenize.NUMBER:
            yield "number"
        elif token.type == tokenize.STRING:
            yield "text"
        else:
            yield token.string


def similar_pairs(
    notebooks: Mapping[str, Graded],
    given: Sequence[str],
    together: Mapping[str, str] | None = None,
) -> list[Pair]:
    """Return the pairs of notebooks of an exercise that share much, the least usual first.

    Code that is in the author's notebook, or in that of many students, is what the task leads to,
    and does not count. Other code counts by how few students wrote it.

    Args:
        notebooks: The grade of each student, with the code of the answers.
        given: The code of the author's answers.
        together: The group of students who work together; they are not compared.

    Example:
        >>> similar_pairs({}, given=[])
        []
    """
    expected = set().union(*map(fragments, given)) if given else set()
    students = list(notebooks)
    own = [
        {step.name: fragments(step.source or "") - expected for step in graded.steps if step.source}
        for graded in notebooks.values()
    ]
    holders: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for number, steps in enumerate(own):
        for fragment in set().union(*steps.values(), set()):
            holders[fragment].append(number)
    most = max(AT_LEAST, COMMON * len(students))
    rare = {fragment for fragment, numbers in holders.items() if len(numbers) <= most}
    counts = np.zeros(len(students), int)
    shared = np.zeros((len(students), len(students)))  # on the diagonal, with oneself
    for fragment in rare:
        numbers = holders[fragment]
        counts[numbers] += 1
        shared[np.ix_(numbers, numbers)] += np.log2((len(students) + 1) / len(numbers))
    groups = together or {}
    pairs: list[Pair] = []
    for one, other in itertools.combinations(range(len(students)), 2):
        shorter = min(one, other, key=lambda number: shared[number, number])
        group = groups.get(students[one])
        if counts[shorter] < FEWEST or (group and group == groups.get(students[other])):
            continue
        # Rounded, as the order of the sums, and with it their last digits, differs between runs.
        weight = round(float(shared[one, other]), 6)
        share = round(float(shared[one, other] / shared[shorter, shorter]), 6)
        if share >= SHARE:
            names = [
                name
                for name, found in own[one].items()
                if rare & found & own[other].get(name, set())
            ]
            pairs.append(Pair(students[one], students[other], share, names, weight))
    return sorted(pairs, key=lambda pair: -pair.weight)[:MAX_PAIRS]


def similarity_page(
    results: Sequence[Result],
    count: set[int],
    exercises: Mapping[str, Exercise],
    roster: Roster | None = None,
) -> Iterator[str]:
    """Yield the lines of the report on similar notebooks, with the code of both.

    Args:
        results: The result of every submission.
        count: The numbers of those that count.
        exercises: All exercises, by name.
        roster: Who is in the class. Members of a group are not compared.

    Example:
        >>> list(similarity_page([], set(), {}))[-2]
        'No two notebooks share much.'
    """
    notebooks: dict[str, dict[str, Graded]] = defaultdict(dict)
    for number in sorted(count):
        if (graded := results[number].graded) is not None:
            notebooks[graded.exercise][results[number].submission.student] = graded
    people = roster.people if roster else {}
    groups = {student: person.group for student, person in people.items()}
    pairs = {
        exercise: similar_pairs(own, exercises[exercise].answers, groups)
        for exercise, own in notebooks.items()
    }
    yield "# Similar notebooks"
    yield ""
    yield (
        "Pairs of notebooks that share code which is neither in the author's solution nor in many "
        "others. Names, numbers, texts and comments don't count. The percentage is of the shorter "
        "one's own code. The pair that shares the most unusual code comes first. That is no proof: "
        "read both, and ask."
    )
    yield ""
    if not any(pairs.values()):
        yield "No two notebooks share much."
        yield ""
    for exercise, similar in pairs.items():
        for pair in similar:
            students = [plain(pair.one), plain(pair.other)]
            yield f"## {exercise}: {students[0]} and {students[1]}, {pair.share:.0%}"
            yield ""
            for name in pair.steps:
                for student, label in zip((pair.one, pair.other), students, strict=True):
                    yield f"{plain(name)}, by {label}:"
                    yield ""
                    step = _step(notebooks[exercise][student], name)
                    yield from (f"    {line}" for line, _ in code_lines(step))
                    yield ""


def _step(graded: Graded, name: str) -> GradedStep:
    [step] = [step for step in graded.steps if step.name == name]
    return step
