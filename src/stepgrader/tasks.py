"""What one process of the grader does with one notebook."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stepgrader.compiled import Compiled
from stepgrader.grader import Graded, grade_answers
from stepgrader.limits import limited
from stepgrader.sandbox import Sandbox
from stepgrader.submissions import read_answers

__all__ = ["GradingTask"]

JUDGE_MEMORY = 2 * 2**30
JUDGE_CPU_SECONDS = 120


@dataclass(frozen=True)
class GradingTask:
    """A notebook to grade. Call it with a sandbox to get the grade.

    Args:
        exercise: The exercise that the notebook belongs to, with the cases that count.
        notebook: The notebook; its code cells are enough.

    Example:
        >>> from stepgrader.exercises import Released
        >>> from stepgrader.steps import Step, compile_step
        >>> cells = [
        ...     {"id": "title", "source": "# Doubling"},
        ...     {"id": "setup", "source": "import math"},
        ...     {"id": "double-task", "source": "## 1. Double it (★, 5 minutes, 1 point)"},
        ... ]
        >>> cases = {"a vector": lambda sampler: {"x": sampler.normal(2)}}
        >>> step = compile_step(Step("double", lambda x: x + x, cases, [], []), seed=1)
        >>> released = Released("doubling", {"cells": cells}, [step.visible])
        >>> exercise = Compiled.of(released, [step], {"double": "def double(x): return x + x"})
        >>> answer = {"cell_type": "code", "source": "def double(x): return 2 * x"}
        >>> with Sandbox(isolated=False) as sandbox:  # it is our own code
        ...     graded = GradingTask(exercise, {"cells": [answer]})(sandbox)
        >>> graded.points, graded.out_of
        (1, 1)
    """

    exercise: Compiled
    notebook: Mapping[str, Any]

    def __call__(self, sandbox: Sandbox) -> Graded:
        """Grade the notebook, with limits on what comparing its results may take."""
        limits = functools.partial(limited, memory=JUDGE_MEMORY, cpu_seconds=JUDGE_CPU_SECONDS)
        exercise = self.exercise
        with limits():
            answers = read_answers(self.notebook, exercise.released)
        return grade_answers(
            answers,
            exercise.released,
            exercise.steps,
            sandbox,
            solutions=exercise.solutions,
            limits=limits,
        )
