"""Grade one notebook: run each step in the sandbox and judge its outcomes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from types import CodeType
from typing import Any, NamedTuple

from stepgrader.answers import failing_line, fingerprint
from stepgrader.callees import called_steps, calls_wrong, codes_of_source
from stepgrader.differences import listed
from stepgrader.exercises import Released
from stepgrader.judge import Verdict, judge
from stepgrader.marks import earned, total
from stepgrader.outcomes import ends, last_line, read_outcomes
from stepgrader.sandbox import Reply, Sandbox
from stepgrader.steps import CompiledStep, cell_stem
from stepgrader.submissions import Answer, read_answers
from stepgrader.worker import MODULE

__all__ = ["Graded", "GradedStep", "SandboxFaultError", "grade_answers", "grade_notebook"]

TOGETHER = {"cpu_seconds": 4, "wall_seconds": 10}  # limits on all steps in one process
NOTEBOOK_SECONDS = 120  # for all answers of a notebook together; a usual one takes 2
OUT_OF_TIME = "earlier answers used up the time allowed for one notebook"
RIGHT = Verdict("right")
TOO_LARGE = "comparing what it returned takes too much memory"


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
        points: Points that the answer earned, by property; see ``Graded.marked``.
        out_of: Points that a right answer earns.
        verdict: The verdict on the answer.
        notes: Further remarks for the student.
        right_versions: The earlier steps of which right versions were called, because the
            student's own are not right and the result is better with them.
        source: The code of the answer; None if there is none.
        line: The line of it that raised an error, if one may be told.
        outcome: The same for answers that behave alike; see ``answers.fingerprint``.

    Example:
        >>> note = "2 cells answer this step; the last counts"
        >>> step = GradedStep("gate", "A gate", 2, 2, Verdict("right"), notes=[note])
        >>> step.points == step.out_of, step.verdict.status
        (True, 'right')
    """

    name: str
    title: str
    points: float
    out_of: int
    verdict: Verdict
    notes: list[str] = field(default_factory=list)
    right_versions: list[str] = field(default_factory=list)
    source: str | None = None
    line: int | None = None
    outcome: str = ""


@dataclass(frozen=True)
class Graded:
    """The grade of a notebook.

    Args:
        exercise: Name of the exercise.
        title: Title of the exercise.
        steps: The grade of each step.
        by_clock: Whether the clock stopped an answer, so that another time it may come further.
        adjusted: Points that count instead of the sum of the steps' points; None for the sum.
        remarks: What was decided about the points, for the student.

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
    by_clock: bool = False
    adjusted: float | None = None
    remarks: list[str] = field(default_factory=list)

    @property
    def points(self) -> float:
        """Points that the notebook earned, or those that count instead."""
        return total(step.points for step in self.steps) if self.adjusted is None else self.adjusted

    @property
    def out_of(self) -> int:
        """Points that it could earn."""
        return sum(step.out_of for step in self.steps)

    def marked(self, marks: str) -> Graded:
        """Return the grade with points by ``marks.SHARES`` or by ``marks.ALL_OR_NOTHING``."""
        steps = [
            replace(step, points=earned(step.verdict, step.out_of, marks)) for step in self.steps
        ]
        return replace(self, steps=steps)

    def as_data(self) -> dict[str, Any]:
        """Return the grade as JSON data."""
        return asdict(self)

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Graded:
        """Return the grade that ``as_data`` was called on."""
        steps = [
            GradedStep(**{**step, "verdict": Verdict(**step["verdict"])}) for step in data["steps"]
        ]
        return cls(data["exercise"], data["title"], steps, data["by_clock"])


def grade_notebook(
    notebook: Mapping[str, Any],
    exercise: Released,
    steps: Sequence[CompiledStep],
    sandbox: Sandbox,
    *,
    solutions: Mapping[str, str] | None = None,
) -> Graded:
    """Grade a notebook.

    Of the notebook only the answers are run, each after the exercise's own setup cell and the
    answers to the earlier steps, without those that never ended.

    Args:
        notebook: The notebook that was handed in, as parsed JSON.
        exercise: The exercise that it belongs to.
        steps: The exercise's steps with the cases that count.
        sandbox: The sandbox to run it in.
        solutions: See ``grade_answers``.

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
    answers = read_answers(notebook, exercise)
    return grade_answers(answers, exercise, steps, sandbox, solutions=solutions)


def grade_answers(
    answers: Mapping[str, Answer],
    exercise: Released,
    steps: Sequence[CompiledStep],
    sandbox: Sandbox,
    *,
    solutions: Mapping[str, str] | None = None,
    limits: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
) -> Graded:
    """Grade the answers of a notebook.

    All answers run on the visible cases before any runs on a hidden one. So what a student reads
    about visible cases can't hold what a process left behind that knew hidden ones, such as which
    pages of a file are in memory.

    In both rounds the answers first run one after another in a single process, which is all that
    right ones take. Any other answer runs again, in a process of its own, and only what it does
    there counts.

    With solutions, a step that isn't right and depends on earlier ones that aren't either is run
    again, in a process of its own, with the author's versions of those, and the better result
    counts. That run judges this step alone, so a solution in it can't earn the points of the step
    that it solves. Code in it can read the solutions; so of this run a student learns, as of
    hidden cases, the kind of a failure and no text or number.

    Args:
        answers: The answer to each step, by its name.
        exercise: The exercise that they belong to.
        steps: The exercise's steps with the cases that count.
        sandbox: The sandbox to run them in.
        solutions: The author's code for each step, by its name; None if there is none to run.
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
    runs = _Runs(sandbox, limits)
    verdicts: dict[str, Verdict] = {}
    outcomes: dict[str, list[dict[str, Any]]] = {}
    added: dict[str, list[tuple[str, str]]] = {}
    for step in steps:
        answer = answers[step.name]
        if answer.source is None:
            verdicts[step.name] = Verdict("missing", finding=f"no cell defines {step.name}")
            continue
        added[step.name] = [(f"{MODULE}{name}", text) for name, text in answer.files]
        if answer.helpers:
            added[step.name].append((f"{cell_stem(step.name)}-helpers", answer.helpers))
        added[step.name].append((f"{cell_stem(step.name)}-answer", answer.source))
    written = [step for step in steps if step.name in added]
    cells = [("setup", exercise.cell("setup"))]
    cells_until = {step.name: (cells := [*cells, *added[step.name]]) for step in written}
    together = runs.together(_Attempt(s, s.visible, cells_until[s.name], []) for s in written)
    endless: list[tuple[str, str]] = []  # the later steps need not wait for them again
    for step in written:
        cells = [cell for cell in cells_until[step.name] if cell not in endless]
        cells_until[step.name] = cells
        if step.name in together:
            verdicts[step.name], outcomes[step.name] = together[step.name]
            continue
        verdicts[step.name], outcomes[step.name], ended = runs.visible(step, cells)
        if not ended:
            endless.append(cells[-1])
    together = runs.together(
        _Attempt(s, s.hidden, cells_until[s.name], outcomes[s.name])
        for s in written
        if verdicts[s.name].status == RIGHT.status
    )
    for step in written:
        if step.name in together:
            verdicts[step.name], _ = together[step.name]
        else:
            parts = cells_until[step.name], outcomes[step.name], verdicts[step.name]
            verdicts[step.name] = runs.hidden(step, *parts)
    graded: list[GradedStep] = []
    for step in steps:
        verdict, note = verdicts[step.name], answers[step.name].note
        notes = [] if note is None else [note]
        right_versions: list[str] = []
        faults = [
            name for name in step.depends_on if verdicts.get(name, RIGHT).status != RIGHT.status
        ]
        if faults and _may_follow(verdict) and solutions is not None:
            solved = [(f"{cell_stem(name)}-solution", solutions[name]) for name in faults]
            *before, own = cells_until[step.name]
            second = runs.all_hidden(step, [*before, *solved, own])
            if _rank(second) > _rank(verdict):
                verdict, right_versions = second, faults
                notes.append(f"graded with {_correct_versions(faults)}")
            elif verdict.status == "wrong":
                notes.append(f"it does no better with {_correct_versions(faults)}")
        elif faults and verdict.status == "wrong":
            used = _used(step.name, answers)
            wrong = [name for name in faults if name in used and verdicts[name].status == "wrong"]
            notes += [calls_wrong(wrong[0], verdict.diagnosis)] if wrong else []
        heading = exercise.headings[step.name]
        known = outcomes.get(step.name, [])
        with limits():
            alike = fingerprint(known, verdict) if verdict.status == "wrong" else ""
        graded.append(
            GradedStep(
                step.name,
                heading.title,
                earned(verdict, heading.points),
                heading.points,
                verdict,
                notes,
                right_versions,
                source=answers[step.name].source,
                line=failing_line(step.name, known, verdict),
                outcome=alike,
            )
        )
    return Graded(exercise.name, exercise.title, graded, by_clock=runs.by_clock)


def _correct_versions(names: Sequence[str]) -> str:
    return f"the correct version{'s' if len(names) > 1 else ''} of {listed(names)}"


def _may_follow(verdict: Verdict) -> bool:
    """Return whether an answer may be better with right versions of the steps that it calls."""
    waits = verdict.status == "open" and verdict.finding is not None
    return verdict.status == "wrong" or waits


def _rank(verdict: Verdict) -> tuple[Fraction, bool]:
    return verdict.share(), verdict.diagnosis is not None


def _used(name: str, answers: Mapping[str, Answer]) -> set[str]:
    """Return the names that an answer uses, also through other answers and helpers.

    A function that another step's answer defines beside its own stands for that step.
    """
    steps = {
        code.co_name: step
        for step, answer in answers.items()
        for code in codes_of_source(answer.source or "")
    }

    def codes(used: str) -> list[CodeType]:
        answer = answers.get(steps.get(used, used))
        if answer is None:
            return []
        return codes_of_source(answer.helpers) + codes_of_source(answer.source or "")

    return {steps.get(used, used) for used in called_steps(name, codes)}


class _Attempt(NamedTuple):
    """Cases of a step to be run, with all cells until its answer's and the outcomes before."""

    step: CompiledStep
    part: CompiledStep
    cells: Sequence[tuple[str, str]]
    before: list[dict[str, Any]]

    def judged(self, reply: Reply) -> tuple[Verdict, list[dict[str, Any]] | None]:
        """Return the verdict and all outcomes, or None if the reply holds none."""
        new = read_outcomes(reply, self.part, self.cells)
        if isinstance(new, Verdict):
            return new, None
        outcomes = self.before + new
        cases = self.step.visible.cases[: len(self.before)] + self.part.cases
        return judge(replace(self.step, cases=cases), outcomes), outcomes


class _Runs:
    """The runs of one notebook's answers, which share the time that a notebook has."""

    def __init__(self, sandbox: Sandbox, limits: Callable[[], AbstractContextManager[None]]):
        self.by_clock = False
        self._sandbox = sandbox
        self._limits = limits
        self._seconds = 0.0

    def together(
        self, attempts: Iterable[_Attempt]
    ) -> dict[str, tuple[Verdict, list[dict[str, Any]]]]:
        """Run several steps in one process; return verdict and outcomes of those that are right."""
        attempts = [attempt for attempt in attempts if attempt.part.cases]
        if len(attempts) < 2 or self._seconds > NOTEBOOK_SECONDS:
            return {}
        requests, sent = [], 0
        for step, part, cells, _ in attempts:
            requests.append({"cells": cells[sent:], "name": step.name, "cases": part.requests})
            sent = len(cells)
        reply = self._ask(*requests, **TOGETHER)
        right = {}
        with contextlib.suppress(MemoryError), self._limits():
            pairs = zip(ends(reply.output), attempts, strict=False)  # a step may stop the process
            for line, attempt in pairs:
                verdict, outcomes = attempt.judged(Reply("ended", line))
                if verdict.status == RIGHT.status and outcomes is not None:
                    right[attempt.step.name] = verdict, outcomes
        return right

    def _ask(self, *requests: dict[str, Any], **limits: int) -> Reply:
        began = time.monotonic()
        reply = self._sandbox.run(*requests, **limits)
        self._seconds += time.monotonic() - began
        return reply

    def visible(
        self, step: CompiledStep, cells: Sequence[tuple[str, str]]
    ) -> tuple[Verdict, list[dict[str, Any]], bool]:
        """Return verdict and outcomes of the visible cases, and whether the answer's cell ended."""
        if not step.visible.cases:
            return Verdict("right"), [], True
        return self._run(step, step.visible, cells, [])

    def hidden(
        self,
        step: CompiledStep,
        cells: Sequence[tuple[str, str]],
        outcomes: list[dict[str, Any]],
        visible: Verdict,
    ) -> Verdict:
        """Return the verdict on all cases, given outcomes and verdict of the visible ones.

        A property that fails on a visible case isn't tested again.
        """
        held = {case["property"]: True for case in step.cases} | visible.properties
        cases = [case for case in step.hidden.cases if held[case["property"]]]
        answered = visible.status == "right" or visible.properties  # and not open or stopped
        if not answered or not cases:
            return visible
        verdict = self._run(step, replace(step, cases=cases), cells, outcomes)[0]
        if visible.status == "right":
            return verdict
        tested = verdict.properties or dict.fromkeys((case["property"] for case in cases), False)
        return replace(visible, properties=visible.properties | tested)

    def all_hidden(self, step: CompiledStep, cells: Sequence[tuple[str, str]]) -> Verdict:
        """Return the verdict on all cases, as if all were hidden, so that nothing is shown."""
        hidden = replace(step, cases=[{**case, "hidden": True} for case in step.cases])
        return self._run(hidden, hidden, cells, [])[0]

    def _run(
        self,
        step: CompiledStep,
        part: CompiledStep,
        cells: Sequence[tuple[str, str]],
        before: list[dict[str, Any]],
    ) -> tuple[Verdict, list[dict[str, Any]], bool]:
        if self._seconds > NOTEBOOK_SECONDS:
            self.by_clock = True
            return Verdict("wrong", finding=OUT_OF_TIME), before, True
        reply = self._ask({"cells": cells, "name": step.name, "cases": part.requests})
        if reply.end == "fault":
            raise SandboxFaultError(f"the sandbox failed on {step.name}")
        self.by_clock |= reply.end == "clock"
        try:
            with self._limits():
                verdict, outcomes = _Attempt(step, part, cells, before).judged(reply)
                if outcomes is None:
                    return verdict, before, last_line(reply.output) != {"at": cells[-1][0]}
                return verdict, outcomes, True
        except MemoryError:
            return Verdict("wrong", finding=TOO_LARGE), before, True
