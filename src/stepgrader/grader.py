"""Grade one notebook: run each step in the sandbox, judge what comes out of it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from stepgrader.exercises import Released
from stepgrader.judge import Verdict, judge
from stepgrader.sandbox import Reply, Sandbox
from stepgrader.steps import CompiledStep, cell_stem
from stepgrader.submissions import Answer, read_answers
from stepgrader.worker.calls import OWN_CELL

__all__ = ["Graded", "GradedStep", "SandboxFaultError", "grade_answers", "grade_notebook"]

TOO_LARGE = "to compare what it returned takes too much memory"


class SandboxFaultError(RuntimeError):
    """The sandbox failed, twice: this is the grader's fault, and no mark."""


@dataclass(frozen=True)
class GradedStep:
    """What came of one step of a notebook.

    Args:
        name: Of the step.
        title: Of the step, for reading.
        points: What it earned.
        out_of: What it could earn.
        verdict: Why.
        notes: What else the student should know.
    """

    name: str
    title: str
    points: int
    out_of: int
    verdict: Verdict
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Graded:
    """What came of a notebook.

    Args:
        exercise: Its name.
        title: Its title.
        steps: What came of each step.
    """

    exercise: str
    title: str
    steps: list[GradedStep]

    @property
    def points(self) -> int:
        """What it earned."""
        return sum(step.points for step in self.steps)

    @property
    def out_of(self) -> int:
        """What it could earn."""
        return sum(step.out_of for step in self.steps)

    def as_data(self) -> dict[str, Any]:
        """Return this as JSON has it."""
        return asdict(self)

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Graded:
        """Return what ``as_data`` was called on."""
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

    Args:
        notebook: As it was handed in, as JSON has it.
        exercise: The exercise it belongs to. Only its setup cell is run, and no cell of the
            student's but the answers: each after those of the steps before it, save those that
            never ended.
        steps: The exercise's steps with the cases that count.
        sandbox: Where to run it.

    Raises:
        SandboxFaultError: The sandbox failed.
    """
    return grade_answers(read_answers(notebook, exercise), exercise, steps, sandbox)


def grade_answers(
    answers: Mapping[str, Answer],
    exercise: Released,
    steps: Sequence[CompiledStep],
    sandbox: Sandbox,
    *,
    judging: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
) -> Graded:
    """Grade the answers of a notebook.

    Args:
        answers: The answer to each step, by its name.
        exercise: As in ``grade_notebook``.
        steps: As in ``grade_notebook``.
        sandbox: As in ``grade_notebook``.
        judging: Makes the context in which outcomes are compared, such as limits on memory.

    Returns:
        The grade.

    Raises:
        SandboxFaultError: The sandbox failed.
    """
    headings = exercise.headings
    cells = [("setup", exercise.cell("setup"))]
    graded: list[GradedStep] = []
    for step in steps:
        answer, heading = answers[step.name], headings[step.name]
        if answer.source is not None:
            cells.append((f"{cell_stem(step.name)}-answer", answer.source))
        verdict, ran = _grade_step(answer, step, cells, sandbox, judging)
        if answer.source is not None and not ran:
            cells.pop()  # the later steps need not wait for it again
        points = heading.points if verdict.status == "right" else 0
        notes = [] if answer.note is None else [answer.note]
        if verdict.status == "wrong":
            notes += _earlier_faults(step, graded)
        graded.append(GradedStep(step.name, heading.title, points, heading.points, verdict, notes))
    return Graded(exercise.name, exercise.title, graded)


def _earlier_faults(step: CompiledStep, graded: Sequence[GradedStep]) -> list[str]:
    wrong = [
        one.name for one in graded if one.name in step.depends_on and one.verdict.status != "right"
    ]
    return [f"if it calls {', '.join(wrong)}, fix that first"] if wrong else []


def _grade_step(
    answer: Answer,
    step: CompiledStep,
    cells: list[tuple[str, str]],
    sandbox: Sandbox,
    judging: Callable[[], AbstractContextManager[None]],
) -> tuple[Verdict, bool]:
    """Return the verdict on the last of the cells, and whether that cell ran to its end."""
    if answer.source is None:
        return Verdict("missing", finding=f"no cell defines {step.name}"), False
    # The hidden cases are given to a process whose words nobody repeats. So the answer runs on the
    # visible ones alone first; what it says of those, it may say.
    outcomes: list[dict[str, Any]] = []
    for part in (step.visible, step.hidden):
        if not part.cases:
            continue
        reply = sandbox.run({"cells": cells, "name": step.name, "cases": part.requests})
        if reply.end == "fault":
            raise SandboxFaultError(f"the sandbox failed on {step.name}")
        try:
            with judging():
                came = _read_reply(reply, part, cells)
                if isinstance(came, Verdict):
                    return came, _last_line(reply.output) != {"at": cells[-1][0]}
                outcomes += came
                verdict = judge(replace(step, cases=step.cases[: len(outcomes)]), outcomes)
        except MemoryError:
            return Verdict("wrong", finding=TOO_LARGE), True
        if verdict.status != "right":
            break
    return verdict, True


def _read_reply(
    reply: Reply, step: CompiledStep, cells: Sequence[tuple[str, str]]
) -> list[dict[str, Any]] | Verdict:
    """Return the outcomes that a process wrote, or the verdict if it wrote none."""
    *earlier, own_cell = [cell_id for cell_id, _ in cells]
    last = _last_line(reply.output)
    try:
        if reply.end == "ended" and "outcomes" in last:
            return _believe(last["outcomes"], len(step.cases), dict(cells))
        if reply.end == "ended" and "failed" in last:
            outcomes = [{"raised": last["failed"]}] * len(step.cases)
            return _believe(outcomes, len(step.cases), dict(cells))
    except ValueError:
        return Verdict("wrong", finding="what came out of the sandbox can't be read")
    if "undefined" in last:
        return Verdict("wrong", finding=f"the cell {own_cell} does not define {step.name}")
    at = last.get("at")
    where = f", in {at}, which runs before" if at in earlier else ""
    what = {
        "time": "it did not end in time: is there a loop that never stops?",
        "output": "it wrote too much",
        "ended": "the process ended before it answered: by os._exit, a crash, or out of memory",
    }
    return Verdict("wrong", finding=what[reply.end] + where)


def _last_line(output: bytes) -> dict[str, Any]:
    """Return the last whole line that a process wrote, if that is an object of JSON."""
    line = output.rpartition(b"\n")[0].rpartition(b"\n")[2]
    try:
        last = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return last if isinstance(last, dict) else {}


def _believe(outcomes: Any, count: int, cells: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return outcomes if they have the form of what ``run_case`` returns."""
    if not isinstance(outcomes, list) or len(outcomes) != count:
        raise ValueError("expected an outcome for every case")
    for outcome in outcomes:
        if not isinstance(outcome, dict):
            raise ValueError("expected an outcome")
        if "raised" in outcome:
            raised = outcome["raised"]
            if (
                not isinstance(raised, dict)
                or not isinstance(raised.get("type"), str)
                or not isinstance(raised.get("message"), str)
                or not isinstance(raised.get("cell"), (str, type(None)))
                or type(raised.get("line")) not in (int, type(None))
            ):
                raise ValueError("expected an error")
            cell = (raised.get("cell") or "").removeprefix(f"{OWN_CELL} ").removesuffix(">")
            if not 0 < (raised.get("line") or 0) <= len(cells.get(cell, "").splitlines()):
                raised["line"] = None  # a number that the student's code made up
        elif "returned" not in outcome or not all(
            isinstance(outcome.get(part, {}), dict) for part in ("arguments", "gradients")
        ):
            raise ValueError("expected a result")
    return outcomes
