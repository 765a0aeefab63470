"""The code of answers in reports: where it failed, and which answers behave alike."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from stepgrader.differences import printable
from stepgrader.judge import Verdict, own_cell

if TYPE_CHECKING:
    from stepgrader.grader import Graded, GradedStep

__all__ = ["candidates", "code_lines", "failing_line", "fingerprint"]

MAX_LINES = 200  # of an answer, in a report
MAX_COLUMNS = 300
DIGITS = 5  # to which outcomes are alike


def failing_line(name: str, outcomes: Sequence[Mapping[str, Any]], verdict: Verdict) -> int | None:
    """Return the line of an answer that raised the error of a verdict; None if none did.

    Hidden cases have no line, because a student could choose it to say what the input was.

    Args:
        name: Name of the step.
        outcomes: The outcome of each case.
        verdict: The verdict on them.

    Example:
        >>> raised = {"type": "ValueError", "cell": "<answer gate-answer>", "line": 4}
        >>> failing_line("gate", [{"raised": raised}], Verdict("wrong", case=0))
        4
    """
    if verdict.case is None or verdict.case >= len(outcomes):
        return None
    raised = outcomes[verdict.case].get("raised") or {}
    line = raised.get("line")
    return line if raised.get("cell") == own_cell(name) and isinstance(line, int) else None


def fingerprint(outcomes: Sequence[Mapping[str, Any]], verdict: Verdict) -> str:
    """Return a text that is the same for answers that behave alike.

    Numbers are compared to a few digits, and errors by their type.

    Args:
        outcomes: The outcome of each visible case.
        verdict: The verdict on all cases.

    Example:
        >>> wrong = Verdict("wrong", property="a batch of one")
        >>> one, other = ([{"returned": number}] for number in (0.3, 0.1 + 0.2))
        >>> fingerprint(one, wrong) == fingerprint(other, wrong)
        True
    """
    alike = [verdict.property, [_rounded(outcome) for outcome in outcomes]]
    if not outcomes:  # no case ran to its end
        alike.append(verdict.finding)
    return hashlib.sha256(json.dumps(alike, sort_keys=True).encode()).hexdigest()[:16]


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value + 0.0:.{DIGITS}g}"
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    if isinstance(value, dict):
        raised = value.get("raised")
        if isinstance(raised, dict):
            return str(raised.get("type"))
        return {str(name): _rounded(item) for name, item in value.items()}
    return value


def code_lines(step: GradedStep) -> Iterator[tuple[str, bool]]:
    r"""Yield the numbered lines of an answer, and for each whether it failed.

    Example:
        >>> from stepgrader.grader import GradedStep
        >>> source = "def gate(x):\n    return x.sigmoid_()"
        >>> step = GradedStep("gate", "A gate", 0, 2, Verdict("wrong"), source=source, line=2)
        >>> for line, failed in code_lines(step):
        ...     print(line)
           1  def gate(x):
        ▶  2      return x.sigmoid_()
    """
    lines = (step.source or "").rstrip().split("\n")
    for number, line in enumerate(lines[:MAX_LINES], start=1):
        failed = number == step.line
        text = printable(line.rstrip().expandtabs(4), limit=MAX_COLUMNS)
        yield f"{'▶' if failed else ' '}{number:3}  {text}".rstrip(), failed
    if len(lines) > MAX_LINES:
        yield f"      ... and {len(lines) - MAX_LINES} more lines", False


def candidates(notebooks: Iterable[Graded]) -> Iterator[str]:
    r"""Yield the lines of a page with failures that no known mistake explains.

    Answers with the same outcomes are one group, as they probably make the same mistake. Each
    group shows its shortest answer.

    Args:
        notebooks: The grades of the notebooks that were handed in.

    Example:
        >>> from stepgrader.grader import Graded, GradedStep
        >>> verdict = Verdict("wrong", property="a batch of one", finding="expected 2, got 3")
        >>> step = GradedStep("gate", "A gate", 0, 2, verdict, source="def gate(x): return 3")
        >>> print("\n".join(list(candidates([Graded("lstm", "The LSTM", [step])] * 2))[4:]))
        ## lstm, gate: 2 answers
        <BLANKLINE>
        Fails at: a batch of one
        <BLANKLINE>
            expected 2, got 3
        <BLANKLINE>
        The shortest of them:
        <BLANKLINE>
               1  def gate(x): return 3
        <BLANKLINE>
    """
    groups: dict[tuple[str, str, str], list[GradedStep]] = defaultdict(list)
    for graded in notebooks:
        for step in graded.steps:
            if step.verdict.status == "wrong" and step.verdict.diagnosis is None and step.source:
                groups[graded.exercise, step.name, step.outcome].append(step)
    yield "# Candidates for known mistakes"
    yield ""
    yield (
        "Failed answers that no known mistake explains, grouped by what they return."
        if groups
        else "Every failed answer makes a known mistake."
    )
    yield ""
    for (exercise, name, _), steps in sorted(
        groups.items(), key=lambda item: (-len(item[1]), item[0])
    ):
        shortest = min(steps, key=lambda step: len((step.source or "").strip()))
        verdict = shortest.verdict
        yield f"## {exercise}, {name}: {len(steps)} answer" + ("s" if len(steps) > 1 else "")
        yield ""
        yield f"Fails at: {verdict.property}" if verdict.property else "It returned no result."
        yield ""
        for line in filter(
            None, (verdict.finding, verdict.hint, *(verdict.example or "").split("\n"))
        ):
            yield f"    {printable(line)}"
        yield ""
        yield "The shortest of them:" if len(steps) > 1 else "The answer:"
        yield ""
        yield from (f"    {line}" for line, _ in code_lines(shortest))
        yield ""
