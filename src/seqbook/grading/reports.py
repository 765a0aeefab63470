"""What students and instructors read."""

from __future__ import annotations

from collections.abc import Iterator

from seqbook.grading.judge import Verdict
from seqbook.grading.steps import CompiledStep

__all__ = ["step_lines"]

MARKS = {"right": "✓", "wrong": "✗", "open": "○"}


def step_lines(step: CompiledStep, verdict: Verdict, points: int) -> Iterator[str]:
    """Yield the lines that tell a student what came of a step."""
    got = points if verdict.status == "right" else 0
    head = f"{MARKS[verdict.status]} {step.name}: {got} of {points} point{'s' * (points != 1)}"
    if verdict.status == "open":
        yield f"{head}, not written yet"
        return
    if verdict.status == "right":
        tested = dict.fromkeys(case["property"] for case in step.cases)
        yield f"{head} ({'; '.join(tested)})"
        return
    yield f"{head}; the first that fails: {verdict.property}"
    if verdict.diagnosis:
        yield f"  {verdict.diagnosis}"
    yield f"  {verdict.finding}"
    if verdict.example:
        yield from (f"  {line}" for line in verdict.example.splitlines())
