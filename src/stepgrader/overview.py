"""Progress of a student: all notebooks of a folder in one table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stepgrader.exercises import Released
from stepgrader.grader import Graded, GradedStep, grade_answers
from stepgrader.judge import Verdict
from stepgrader.sandbox import Sandbox
from stepgrader.submissions import read_answers

__all__ = ["Progress", "grade_visible", "notebooks_below", "overview"]


@dataclass(frozen=True)
class Progress:
    """Progress in one notebook.

    Args:
        path: Path of the notebook.
        graded: Its grade on the visible cases.
        minutes: For each step, the time that its heading states.

    Example:
        >>> gate = GradedStep("gate", "A gate", 1, 1, Verdict("right"))
        >>> layer = GradedStep("layer", "A layer", 0, 3, Verdict("open"))
        >>> graded = Graded("lstm", "The LSTM", [gate, layer])
        >>> progress = Progress(Path("lstm.ipynb"), graded, minutes=[5, 20])
        >>> progress.next_step, progress.begun
        ('2. A layer, 20 minutes', True)
    """

    path: Path
    graded: Graded
    minutes: Sequence[int]

    def count(self, *statuses: str) -> int:
        """Return the number of steps with one of these verdicts."""
        return sum(step.verdict.status in statuses for step in self.graded.steps)

    @property
    def begun(self) -> bool:
        """Whether an answer was written, right or wrong."""
        return self.count("right", "wrong") > 0

    @property
    def next_step(self) -> str | None:
        """Number, title and minutes of the first step that is not right; None if all are."""
        for number, step in enumerate(self.graded.steps):
            if step.verdict.status != "right":
                wrong = " (wrong)" if step.verdict.status == "wrong" else ""
                return f"{number + 1}. {step.title}, {self.minutes[number]} minutes{wrong}"
        return None


def notebooks_below(folder: Path) -> list[Path]:
    """Return the notebooks in a folder and in its subfolders, without hidden ones.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as name:
        ...     folder = Path(name)
        ...     for path in ("lstm.ipynb", "gru/gru.ipynb", ".ipynb_checkpoints/lstm.ipynb"):
        ...         (folder / path).parent.mkdir(exist_ok=True)
        ...         (folder / path).touch()
        ...     [path.relative_to(folder).as_posix() for path in notebooks_below(folder)]
        ['gru/gru.ipynb', 'lstm.ipynb']
    """
    return sorted(
        path
        for pattern in ("*.ipynb", "*/*.ipynb")
        for path in folder.glob(pattern)
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def grade_visible(notebook: Mapping[str, Any], exercise: Released, sandbox: Sandbox) -> Graded:
    """Grade a notebook on the visible cases; one that is as it was released is not run.

    Args:
        notebook: The notebook, as parsed JSON.
        exercise: The exercise that it belongs to.
        sandbox: The sandbox to run it in.

    Raises:
        SandboxFaultError: The sandbox failed.

    Example:
        >>> from stepgrader.steps import CompiledStep
        >>> cells = [
        ...     {"id": "title", "source": "# Doubling"},
        ...     {"id": "double-task", "source": "## 1. Double it (★, 5 minutes, 1 point)"},
        ... ]
        >>> step = CompiledStep("double", [], tolerance=1e-5, mistakes=[], cases=[])
        >>> exercise = Released("doubling", {"cells": cells}, [step])
        >>> with Sandbox(isolated=False) as sandbox:
        ...     grade_visible({"cells": cells}, exercise, sandbox).steps[0].verdict.status
        'open'
    """
    answers = read_answers(notebook, exercise)
    if answers != read_answers(exercise.notebook, exercise):
        return grade_answers(answers, exercise, exercise.steps, sandbox)
    steps = [
        GradedStep(name, heading.title, 0, heading.points, Verdict("open"))
        for name, heading in exercise.headings.items()
    ]
    return Graded(exercise.name, exercise.title, steps)


def overview(folder: Path, notebooks: Sequence[Progress]) -> Iterator[str]:
    r"""Yield the lines of a table of notebooks, and what to do next.

    The next step is one of the first notebook that was begun and is not done, or else of the first
    that was not begun.

    Args:
        folder: The folder that the notebooks are in.
        notebooks: The notebooks, in the order of the course.

    Example:
        >>> gate = GradedStep("gate", "A gate", 1, 1, Verdict("right"))
        >>> layer = GradedStep("layer", "A layer", 0, 3, Verdict("open"))
        >>> graded = Graded("lstm", "The LSTM", [gate, layer])
        >>> progress = Progress(Path("mine/lstm.ipynb"), graded, minutes=[5, 20])
        >>> print("\n".join(overview(Path("mine"), [progress])))
        notebook    points  done  wrong  open  next
        lstm.ipynb  1 of 4     1      0     1  2. A layer, 20 minutes
        1 of 4 points
        Next: lstm.ipynb, step 2. A layer, 20 minutes
    """
    rows: list[tuple[str, ...]] = [("notebook", "points", "done", "wrong", "open", "next")]
    for progress in notebooks:
        counts = [progress.count(*kinds) for kinds in (("right",), ("wrong",), ("open", "missing"))]
        rows.append(
            (
                progress.path.relative_to(folder).as_posix(),
                f"{progress.graded.points} of {progress.graded.out_of}",
                *map(str, counts),
                progress.next_step or "all done",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, *numbers, following in rows:
        cells = [f"{text:>{width}}" for text, width in zip(numbers, widths[1:], strict=False)]
        yield "  ".join([f"{name:{widths[0]}}", *cells, following])
    points, out_of = (
        sum(getattr(progress.graded, part) for progress in notebooks)
        for part in ("points", "out_of")
    )
    yield f"{points} of {out_of} points"
    unfinished = [progress for progress in notebooks if progress.next_step]
    for progress in sorted(unfinished, key=lambda progress: not progress.begun)[:1]:
        path = progress.path.relative_to(folder).as_posix()
        yield f"Next: {path}, step {progress.next_step}"
