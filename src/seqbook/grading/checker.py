"""Check a step inside a notebook, in one line."""

from __future__ import annotations

from collections.abc import Callable

from seqbook.grading.exercises import released
from seqbook.grading.inside.calls import run_case
from seqbook.grading.judge import judge
from seqbook.grading.reports import verdict_lines

__all__ = ["Checker"]


class Checker:
    """Check answers against the visible cases of an exercise.

    ``check = Checker("lstm")`` makes the checker, ``check(forget_gate)`` checks the step of that
    name and prints points and, where something is wrong, what and why. The points are advice: the
    mark comes from more cases.

    Args:
        name: Of the exercise.

    Raises:
        ValueError: There is no exercise of this name.
    """

    def __init__(self, name: str):
        exercise = released(name)
        self._steps = {step.name: step for step in exercise.steps}
        self._headings = exercise.headings

    def __call__(self, answer: Callable) -> None:
        """Check one answer.

        Args:
            answer: The function or class, under the name that the task gave it.

        Raises:
            ValueError: No step asks for a function or class of this name.
        """
        name = getattr(answer, "__name__", None)
        if name not in self._steps:
            raise ValueError(
                f"check: expected one of {', '.join(self._steps)}, got {name or repr(answer)}; "
                "give it the function itself, as in check(name)"
            )
        step = self._steps[name]
        verdict = judge(step, [run_case(answer, request) for request in step.requests])
        tested = [case["property"] for case in step.cases]
        print("\n".join(verdict_lines(name, verdict, self._headings[name].points, tested)))
