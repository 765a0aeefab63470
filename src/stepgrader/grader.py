"""Grade one notebook: run each step in the sandbox and judge its outcomes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from stepgrader.exercises import Released
from stepgrader.judge import Verdict, judge
from stepgrader.outcomes import last_line, read_outcomes
from stepgrader.sandbox import Sandbox
from stepgrader.steps import CompiledStep, cell_stem
from stepgrader.submissions import Answer, read_answers

__all__ = ["Graded", "GradedStep", "SandboxFaultError", "grade_answers", "grade_notebook"]

TOO_LARGE = "to compare what it returned takes too much memory"


class SandboxFaultError(RuntimeError):
    """The sandbox failed twice, which is the grader's fault: there is no mark.

    Example:
        >>> from stepgrader.sandbox import Reply
        >>> class Broken:
        ...     def run(self, request):
        ...         return Reply("fault", output=b"")
        >>> cells = [
        ...     {"id": "title", "source": "# Doubling"},
        ...     {"id": "setup", "source": ""},
        ...     {"id": "double-task", "source": "## 1. Double it (★, 5 minutes, 1 point)"},
        ... ]
        >>> from stepgrader.steps import Step, compile_step
        >>> cases = {"a number": lambda sampler: {"x": 1.5}}
        >>> step = compile_step(Step("double", lambda x: x + x, cases, [], []))
        >>> exercise = Released("doubling", {"cells": cells}, [step])
        >>> grade_answers({"double": Answer("def double(x): return x")}, exercise, [step], Broken())
        Traceback (most recent call last):
        ...
        stepgrader.grader.SandboxFaultError: the sandbox failed on double
    """


@dataclass(frozen=True)
class GradedStep:
    """The grade of one step of a notebook.

    Args:
        name: Name of the step's function or class.
        title: Title of the step.
        points: Points that the answer earned.
        out_of: Points that a right answer earns.
        verdict: The verdict on the answer.
        notes: Further remarks for the student.

    Example:
        >>> note = "2 cells answer this step; the last counts"
        >>> step = GradedStep("gate", "A gate", 2, 2, Verdict("right"), notes=[note])
        >>> step.points == step.out_of, step.verdict.status
        (True, 'right')
    """

    name: str
    title: str
    points: int
    out_of: int
    verdict: Verdict
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Graded:
    """The grade of a notebook.

    Args:
        exercise: Name of the exercise.
        title: Title of the exercise.
        steps: The grade of each step.

    Example:
        >>> gate = GradedStep("gate", "A gate", 1, 1, Verdict("right"))
        >>> layer = GradedStep("layer", "A layer", 0, 3, Verdict("open"))
        >>> graded = Graded("lstm", "The LSTM", [gate, layer])
        >>> graded.points, graded.out_of
        (1, 4)
    """

    exercise: str
    title: str
    steps: list[GradedStep]

    @property
    def points(self) -> int:
        """Points that the notebook earned."""
        return sum(step.points for step in self.steps)

    @property
    def out_of(self) -> int:
        """Points that it could earn."""
        return sum(step.out_of for step in self.steps)

    def as_data(self) -> dict[str, Any]:
        """Return the grade as JSON data."""
        return asdict(self)

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Graded:
        """Return the grade that ``as_data`` was called on."""
        steps = [
            GradedStep(**{**step, "verdict": Verdict(**step["verdict"])}) for step in data["steps"]
        ]
        return cls(data["exercise"], data["title"], steps)


def grade_notebook(
    notebook: Mapping[str, Any],
    exercise: Released,
    steps: Sequence[CompiledStep],
    sandbox: Sandbox,
) -> Graded:
    """Grade a notebook.

    Of the notebook only the answers are run, each after the exercise's own setup cell and the
    answers to the earlier steps, without those that never ended.

    Args:
        notebook: The notebook that was handed in, as parsed JSON.
        exercise: The exercise that it belongs to.
        steps: The exercise's steps with the cases that count.
        sandbox: The sandbox to run it in.

    Returns:
        The grade.

    Raises:
        SandboxFaultError: The sandbox failed.

    Example:
        >>> from stepgrader.steps import Step, compile_step
        >>> cells = [
        ...     {"id": "title", "source": "# Doubling"},
        ...     {"id": "setup", "source": "import math"},
        ...     {"id": "double-task", "source": "## 1. Double it (★, 5 minutes, 1 point)"},
        ... ]
        >>> cases = {"a vector": lambda sampler: {"x": sampler.normal(2)}}
        >>> step = compile_step(Step("double", lambda x: x + x, cases, [], []), seed=1)
        >>> exercise = Released("doubling", {"cells": cells}, [step.visible])
        >>> answer = {"cell_type": "code", "source": "def double(x): return 2 * x"}
        >>> with Sandbox(isolated=False) as sandbox:  # it is our own code
        ...     graded = grade_notebook({"cells": [answer]}, exercise, [step], sandbox)
        >>> graded.points, graded.out_of
        (1, 1)
    """
    return grade_answers(read_answers(notebook, exercise), exercise, steps, sandbox)


def grade_answers(
    answers: Mapping[str, Answer],
    exercise: Released,
    steps: Sequence[CompiledStep],
    sandbox: Sandbox,
    *,
    limits: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
) -> Graded:
    """Grade the answers of a notebook.

    Args:
        answers: The answer to each step, by its name.
        exercise: The exercise that they belong to.
        steps: The exercise's steps with the cases that count.
        sandbox: The sandbox to run them in.
        limits: Makes the context in which outcomes are compared, such as ``limits.limited``.

    Returns:
        The grade.

    Raises:
        SandboxFaultError: The sandbox failed.

    Example:
        >>> from stepgrader.steps import Step, compile_step
        >>> cells = [
        ...     {"id": "title", "source": "# Doubling"},
        ...     {"id": "setup", "source": "import math"},
        ...     {"id": "double-task", "source": "## 1. Double it (★, 5 minutes, 1 point)"},
        ... ]
        >>> cases = {"a vector": lambda sampler: {"x": sampler.normal(2)}}
        >>> step = compile_step(Step("double", lambda x: x + x, cases, [], []), seed=1)
        >>> exercise = Released("doubling", {"cells": cells}, [step.visible])
        >>> answers = {"double": Answer("def double(x): return x ** 2")}
        >>> with Sandbox(isolated=False) as sandbox:  # it is our own code
        ...     graded = grade_answers(answers, exercise, [step], sandbox)
        >>> graded.steps[0].verdict.status, graded.steps[0].verdict.property
        ('wrong', 'a vector')
    """
    headings = exercise.headings
    cells = [("setup", exercise.cell("setup"))]
    graded: list[GradedStep] = []
    for step in steps:
        answer, heading = answers[step.name], headings[step.name]
        if answer.source is None:
            verdict = Verdict("missing", finding=f"no cell defines {step.name}")
        else:
            cells.append((f"{cell_stem(step.name)}-answer", answer.source))
            verdict, ended = _grade_step(step, cells, sandbox, limits)
            if not ended:
                cells.pop()  # the later steps need not wait for it again
        points = heading.points if verdict.status == "right" else 0
        notes = [] if answer.note is None else [answer.note]
        if verdict.status == "wrong":
            notes += _earlier_faults(step, graded)
        graded.append(GradedStep(step.name, heading.title, points, heading.points, verdict, notes))
    return Graded(exercise.name, exercise.title, graded)


def _earlier_faults(step: CompiledStep, graded: Sequence[GradedStep]) -> list[str]:
    wrong = [
        earlier.name
        for earlier in graded
        if earlier.name in step.depends_on and earlier.verdict.status != "right"
    ]
    return [f"if it calls {', '.join(wrong)}, fix that first"] if wrong else []


def _grade_step(
    step: CompiledStep,
    cells: Sequence[tuple[str, str]],
    sandbox: Sandbox,
    limits: Callable[[], AbstractContextManager[None]],
) -> tuple[Verdict, bool]:
    """Return the verdict on the last of the cells, and whether that cell ran to its end."""
    verdict = Verdict("right")
    outcomes: list[dict[str, Any]] = []
    # Messages of a process that knows hidden cases are never shown. So the answer runs on the
    # visible cases alone first, where its messages may be repeated.
    for part in (step.visible, step.hidden):
        if not part.cases:
            continue
        reply = sandbox.run({"cells": cells, "name": step.name, "cases": part.requests})
        if reply.end == "fault":
            raise SandboxFaultError(f"the sandbox failed on {step.name}")
        try:
            with limits():
                new = read_outcomes(reply, part, cells)
                if isinstance(new, Verdict):
                    return new, last_line(reply.output) != {"at": cells[-1][0]}
                outcomes += new
                verdict = judge(replace(step, cases=step.cases[: len(outcomes)]), outcomes)
        except MemoryError:
            return Verdict("wrong", finding=TOO_LARGE), True
        if verdict.status != "right":
            break
    return verdict, True
