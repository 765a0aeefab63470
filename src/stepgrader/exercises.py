"""Exercises: the author's notebook and steps, and the release that students get.

A source notebook holds, for a step named ``forget_gate``, three cells: ``forget-gate-task``, whose
heading states level, minutes and points; ``forget-gate-answer``, with the solution between
``### BEGIN SOLUTION`` and ``### END SOLUTION``; and ``forget-gate-check``. The cell ``setup``
imports what answers may use. Beside the notebook, ``steps.py`` holds the list ``STEPS``.
"""

from __future__ import annotations

import dataclasses
import json
import re
import sys
import types
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

from stepgrader.steps import CompiledStep, Step, cell_stem, compile_step, rounded

__all__ = ["Exercise", "Heading", "Released", "as_text", "defines"]

EXERCISE = "stepgrader"  # key of a notebook's metadata, with the name of its exercise
SOLUTION = re.compile(
    r"^(?P<indent> *)### BEGIN SOLUTION\n.*?^ *### END SOLUTION$", re.DOTALL | re.MULTILINE
)
HEADING = re.compile(
    r"^## (?P<number>\d+)\. (?P<title>.+) "
    r"\((?P<level>★{1,3}), (?P<minutes>\d+) minutes, (?P<points>\d+) points?\)$"
)
KEPT_METADATA = ("kernelspec", "language_info")
UNSOLVED = "raise NotImplementedError"


@dataclass(frozen=True)
class Heading:
    """What the heading of a step states.

    Args:
        title: Title of the step.
        level: Difficulty, from 1 to 3 stars.
        minutes: Expected time.
        points: Points that a right answer earns.

    Example:
        >>> task = {"id": "double-task", "source": "## 1. Double it (★★, 5 minutes, 3 points)"}
        >>> headings({"cells": [task]}, ["double"])["double"]
        Heading(title='Double it', level=2, minutes=5, points=3)
    """

    title: str
    level: int
    minutes: int
    points: int


@dataclass(frozen=True)
class Released:
    """An exercise as students have it: the notebook without solutions, and the visible cases.

    Args:
        name: Name of the exercise.
        notebook: The notebook, as parsed JSON.
        steps: The steps with their visible cases, in the order of the notebook.

    Example:
        >>> cells = [
        ...     {"id": "title", "source": "# Doubling"},
        ...     {"id": "double-task", "source": "## 1. Double it (★, 5 minutes, 1 point)"},
        ... ]
        >>> step = CompiledStep("double", [], tolerance=1e-5, mistakes=[], cases=[])
        >>> exercise = Released("doubling", {"cells": cells}, [step])
        >>> exercise.title, exercise.headings["double"].points
        ('Doubling', 1)
    """

    name: str
    notebook: dict[str, Any]
    steps: list[CompiledStep]

    @classmethod
    def load(cls, folder: Path, name: str) -> Released:
        """Read an exercise from a folder of released ones."""
        notebook = json.loads((folder / f"{name}.ipynb").read_text(encoding="utf-8"))
        data = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        return cls(name, notebook, [CompiledStep(**step) for step in data["steps"]])

    @property
    def headings(self) -> dict[str, Heading]:
        """The heading of each step, by its name."""
        return headings(self.notebook, [step.name for step in self.steps])

    @property
    def title(self) -> str:
        """The heading of the notebook."""
        return _title(self.notebook)

    def cell(self, cell_id: str) -> str:
        """Return the source of a cell."""
        return _source(_cells(self.notebook)[cell_id])

    def files(self, folder: Path) -> dict[Path, str]:
        """Return the content of each file of the release, by its path in a folder."""
        data = {"steps": [dataclasses.asdict(step) for step in self.steps]}
        return {
            folder / f"{self.name}.ipynb": as_text(self.notebook),
            folder / f"{self.name}.json": json.dumps(
                rounded(data), ensure_ascii=False, separators=(",", ":")
            )
            + "\n",
        }


@dataclass(frozen=True)
class Exercise:
    """An exercise as its author has it.

    Args:
        name: Name of the exercise, its folder and its notebook.
        notebook: The notebook with marked solutions, as parsed JSON.
        steps: The steps, in the order of the notebook.

    Raises:
        ValueError: The notebook and the steps do not belong together.

    Example:
        >>> answer = '''
        ... def double(x):
        ...     ### BEGIN SOLUTION
        ...     return 2 * x
        ...     ### END SOLUTION
        ... '''
        >>> cells = [
        ...     {"id": "double-task", "source": "## 1. Double it (★, 5 minutes, 1 point)"},
        ...     {"id": "double-answer", "source": answer},
        ...     {"id": "double-check", "source": "check(double)"},
        ... ]
        >>> cells = [{"cell_type": "code", **cell} for cell in cells]
        >>> step = Step("double", lambda x: x + x, cases={}, mistakes=[], alternatives=[])
        >>> exercise = Exercise("doubling", {"metadata": {}, "cells": cells}, [step])
        >>> print(exercise.release().cell("double-answer").strip())
        def double(x):
            raise NotImplementedError
    """

    name: str
    notebook: dict[str, Any]
    steps: Sequence[Step]

    @property
    def headings(self) -> dict[str, Heading]:
        """The heading of each step, by its name."""
        return headings(self.notebook, [step.name for step in self.steps])

    @property
    def title(self) -> str:
        """The heading of the notebook."""
        return _title(self.notebook)

    @property
    def answers(self) -> list[str]:
        """The code of each step's cell: with the solution, and as it is given to students."""
        cells = _cells(self.notebook)
        sources = [_source(cells[f"{step.cell}-answer"]) for step in self.steps]
        given = [SOLUTION.sub(rf"\g<indent>{UNSOLVED}", source) for source in sources]
        return [*sources, *given]

    @classmethod
    def load(cls, folder: Path) -> Exercise:
        """Read an exercise from the author's folder.

        Raises:
            ValueError: The notebook and the steps do not belong together.
        """
        name = folder.name
        notebook = json.loads((folder / f"{name}.ipynb").read_text(encoding="utf-8"))
        loader = SourceFileLoader(f"steps_of_{name}", str(folder / "steps.py"))
        module = types.ModuleType(loader.name)
        module.__file__ = loader.path
        sys.modules[loader.name] = module  # so that the sources of its classes are found
        loader.exec_module(module)
        return cls(name, notebook, module.STEPS)

    def release(self, steps: Sequence[CompiledStep] | None = None) -> Released:
        """Return what students get. The same source gives the same release.

        Args:
            steps: The compiled steps of the exercise, if there are any already.
        """
        steps = self.compile() if steps is None else [step.visible for step in steps]
        notebook = {
            **self.notebook,
            "metadata": {
                **{k: v for k, v in self.notebook["metadata"].items() if k in KEPT_METADATA},
                EXERCISE: {"exercise": self.name},
            },
            "cells": [_released_cell(cell) for cell in self.notebook["cells"]],
        }
        return Released(self.name, notebook, steps)

    def compile(self, seed: int | None = None) -> list[CompiledStep]:
        """Return the steps with their visible cases and, with a seed, the hidden ones."""
        return [compile_step(step, seed=seed) for step in self.steps]

    def __post_init__(self) -> None:
        cells = _cells(self.notebook)
        check_cells = [cell_id for cell_id in cells if cell_id.endswith("-check")]
        expected = [f"{step.cell}-check" for step in self.steps]
        if check_cells != expected:
            raise ValueError(f"{self.name}: expected the cells {expected}, got {check_cells}")
        headings(self.notebook, [step.name for step in self.steps])
        for number, step in enumerate(self.steps):
            answer = _source(cells.get(f"{step.cell}-answer", {}))
            if len(SOLUTION.findall(answer)) != 1:
                raise ValueError(f"{self.name}: {step.cell}-answer: expected one marked solution")
            if not defines(answer, step.name):
                raise ValueError(f"{self.name}: {step.cell}-answer does not define {step.name}")
            earlier = [step.name for step in self.steps[:number]]
            if unknown := set(step.depends_on) - set(earlier):
                raise ValueError(
                    f"{self.name}: {step.name} depends on {unknown}, which are not earlier steps"
                )


def headings(notebook: dict[str, Any], names: Sequence[str]) -> dict[str, Heading]:
    """Return the headings of the steps with these names.

    Raises:
        ValueError: One is missing or states no level, minutes and points.
    """
    cells: dict[str, dict[str, Any]] = _cells(notebook)
    by_name: dict[str, Heading] = {}
    for name in names:
        first = _source(cells.get(f"{cell_stem(name)}-task", {})).partition("\n")[0]
        match = HEADING.match(first)
        number = len(by_name) + 1
        if not match or int(match["number"]) != number:
            raise ValueError(
                f"{name}: expected '## {number}. Title (★, 5 minutes, 1 point)' at the head of the "
                f"cell {cell_stem(name)}-task, got {first!r}"
            )
        by_name[name] = Heading(
            match["title"], len(match["level"]), int(match["minutes"]), int(match["points"])
        )
    return by_name


def as_text(notebook: dict[str, Any]) -> str:
    """Return a notebook as Jupyter writes it.

    Example:
        >>> print(as_text({"cells": [], "nbformat": 4}), end="")
        {
         "cells": [],
         "nbformat": 4
        }
    """
    return json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def defines(source: str, name: str) -> bool:
    """Return whether a cell defines a function or class of this name at its left margin.

    Example:
        >>> defines("def gate(x): return x", "gate"), defines("gate = 5", "gate")
        (True, False)
    """
    return bool(re.search(rf"^(def|class) {re.escape(name)}\b", source, re.MULTILINE))


def _released_cell(cell: dict[str, Any]) -> dict[str, Any]:
    cell = dict(cell)
    if cell["cell_type"] == "code":
        source = SOLUTION.sub(rf"\g<indent>{UNSOLVED}", _source(cell))
        cell |= {"source": source.splitlines(keepends=True), "outputs": [], "execution_count": None}
    return cell


def _title(notebook: dict[str, Any]) -> str:
    return _source(notebook["cells"][0]).splitlines()[0].removeprefix("# ")


def _cells(notebook: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {cell["id"]: cell for cell in notebook["cells"]}


def _source(cell: dict[str, Any]) -> str:
    source = cell.get("source", "")
    return source if isinstance(source, str) else "".join(source)
