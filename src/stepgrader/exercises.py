"""Exercises: the author's notebook and steps, and the release that students get.

A source notebook holds, for a step named ``forget_gate``, three cells: ``forget-gate-task``, whose
heading states level, minutes and points; ``forget-gate-answer``, with the solution between
``### BEGIN SOLUTION`` and ``### END SOLUTION``; and ``forget-gate-check``. The cell ``setup``
imports what answers may use. Beside the notebook, ``steps.py`` holds the list ``STEPS``, and
``after.md`` what unfolds in the notebook after a step's check has passed.
"""

from __future__ import annotations

import dataclasses
import json
import re
import sys
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

from stepgrader.after import lock, read_sections
from stepgrader.differences import listed
from stepgrader.recorded import Recorded, read_recorded
from stepgrader.smaller import record_smaller
from stepgrader.steps import CompiledStep, Mistake, Step, cell_stem, compile_step, rounded
from stepgrader.variations import record_variations

__all__ = ["Exercise", "Heading", "Released", "as_text", "defines", "solutions"]

EXERCISE = "stepgrader"  # key of a notebook's metadata, with the name of its exercise
SOLUTION = re.compile(
    r"^(?P<indent> *)### BEGIN SOLUTION\n(?P<code>.*?)^ *### END SOLUTION$",
    re.DOTALL | re.MULTILINE,
)
MARKER = re.compile(r"^ *### (BEGIN|END) SOLUTION$", re.MULTILINE)
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
        after: What unfolds after a step, enciphered as ``after.lock`` returns it, by its name.

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
    after: Mapping[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def load(cls, folder: Path, name: str) -> Released:
        """Read an exercise from a folder of released ones."""
        notebook = json.loads((folder / f"{name}.ipynb").read_text(encoding="utf-8"))
        data = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        steps = [CompiledStep(**step) for step in data["steps"]]
        return cls(name, notebook, steps, data.get("after", {}))

    @property
    def headings(self) -> dict[str, Heading]:
        """The heading of each step, by its name."""
        return headings(self.notebook, [step.name for step in self.steps])

    @property
    def title(self) -> str:
        """The heading of the notebook."""
        return _title(self.notebook)

    @property
    def setup(self) -> str:
        """The source of the cell that runs before every answer; empty if there is none."""
        return _source(_cells(self.notebook).get("setup", {}))

    def cell(self, cell_id: str) -> str:
        """Return the source of a cell."""
        return _source(_cells(self.notebook)[cell_id])

    def files(self, folder: Path) -> dict[Path, str]:
        """Return the content of each file of the release, by its path in a folder."""
        steps = [dataclasses.asdict(step) for step in self.steps]
        data = {"steps": steps} | ({"after": self.after} if self.after else {})
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
        notebook: The notebook with marked solutions, as parsed JSON. Its setup cell and its
            solutions are run, because mistakes may be edits of them.
        steps: The steps, in the order of the notebook.
        after: What unfolds after a step, by its name, as ``after.md`` has it.
        recorded: What ``record`` returned.

    Raises:
        ValueError: The notebook and the steps do not belong together, or the edits of a mistake
            do not fit the solution.

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
    after: Mapping[str, str] = field(default_factory=dict)
    recorded: Recorded = field(default_factory=dict)

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
        unsolved = [SOLUTION.sub(rf"\g<indent>{UNSOLVED}", source) for source in sources]
        return [*sources, *unsolved]

    @classmethod
    def load(cls, folder: Path) -> Exercise:
        """Read an exercise from the author's folder.

        What was recorded of another notebook or of other steps is left out.

        Raises:
            ValueError: As for ``Exercise``.
        """
        name = folder.name
        notebook = json.loads((folder / f"{name}.ipynb").read_text(encoding="utf-8"))
        loader = SourceFileLoader(f"steps_of_{name}", str(folder / "steps.py"))
        module = types.ModuleType(loader.name)
        module.__file__ = loader.path
        sys.modules[loader.name] = module  # so that the sources of its classes are found
        loader.exec_module(module)
        after = read_sections(folder, [step.name for step in module.STEPS])
        return cls(name, notebook, module.STEPS, after, read_recorded(folder) or {})

    def solution(self, step: Step, mistake: Mistake | None = None) -> str:
        """Return the source of a step's solution, or of a mistake that is made of edits.

        Raises:
            ValueError: The edits do not fit the solution.
        """
        source = self._answer(step)
        marked = SOLUTION.search(source)
        if marked is None:
            raise ValueError(f"{self.name}: {step.cell}-answer: expected one marked solution")
        code = mistake.edit(marked["code"]) if mistake else marked["code"]
        return source[: marked.start()] + code + source[marked.end() :]

    def release(self, steps: Sequence[CompiledStep] | None = None) -> Released:
        """Return what students get. The same source gives the same release.

        Args:
            steps: The compiled steps of the exercise, if there are any already.
        """
        steps = self.compile() if steps is None else [step.visible for step in steps]
        compared = {f"{cell_stem(step.name)}-task": _compared(step) for step in steps}
        notebook = {
            **self.notebook,
            "metadata": {
                **{k: v for k, v in self.notebook["metadata"].items() if k in KEPT_METADATA},
                EXERCISE: {"exercise": self.name},
            },
            "cells": [
                _released_cell(cell, compared.get(cell["id"], ""))
                for cell in self.notebook["cells"]
            ],
        }
        after = {
            step.name: lock(step, self.after[step.name])
            for step in self.steps
            if step.name in self.after
        }
        return Released(self.name, notebook, steps, after)

    def compile(self, seed: int | None = None) -> list[CompiledStep]:
        """Return the steps with their visible cases and, with a seed, the hidden ones.

        Each names all steps that it depends on, also through another.
        """
        compiled = [compile_step(step, seed=seed) for step in self.steps]
        needed: dict[str, set[str]] = {}
        for step in self.steps:
            direct = set(step.depends_on)
            needed[step.name] = direct.union(*(needed[name] for name in direct))
        return [
            dataclasses.replace(
                step,
                depends_on=[n for n in needed if n in needed[step.name]],
                variations=recorded.get("variations", []),
                smaller=recorded.get("smaller", []),
            )
            for step in compiled
            for recorded in [self.recorded.get(step.name, {})]
        ]

    def record(self) -> Recorded:
        """Return the variations of each step and its smaller cases, by its name.

        To compute them takes much longer than to compile, so a release stores them.
        """
        recorded = {}
        for step, names in self._names_before():
            compiled = compile_step(dataclasses.replace(step, mistakes=[]))
            cell = self._answer(step)
            solution = _run(self.solution(step), f"{self.name}, {step.name}", dict(names))
            recorded[step.name] = {
                "variations": record_variations(compiled, cell, names),
                "smaller": record_smaller(step, compiled, solution[step.name]),
            }
        return recorded

    def _answer(self, step: Step) -> str:
        return _source(_cells(self.notebook)[f"{step.cell}-answer"])

    @property
    def solutions(self) -> dict[str, str]:
        """The source of each step's answer cell with its solution, by the name of the step."""
        cells = _cells(self.notebook)
        return {
            step.name: MARKER.sub("", _source(cells[f"{step.cell}-answer"])) for step in self.steps
        }

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
        object.__setattr__(self, "steps", self._with_edits_run())

    def _with_edits_run(self) -> list[Step]:
        """Return the steps with the answers of those mistakes that are edits of the solution."""
        return [
            dataclasses.replace(
                step, mistakes=[self._edited(step, mistake, names) for mistake in step.mistakes]
            )
            for step, names in self._names_before()
        ]

    def _names_before(self) -> Iterator[tuple[Step, dict[str, Any]]]:
        """Yield each step with the names of the setup cell and of the solutions before it."""
        names: dict[str, Any] = {"__name__": f"solutions_of_{self.name}"}
        _run(_source(_cells(self.notebook).get("setup", {})), f"{self.name}, setup", names)
        for step in self.steps:
            yield step, names
            _run(self.solution(step), f"{self.name}, {step.name}", names)

    def _edited(self, step: Step, mistake: Mistake, names: dict[str, Any]) -> Mistake:
        if not mistake.edits:
            return mistake
        where = f"{self.name}, {step.name}, the mistake {mistake.message!r}"
        try:
            source = self.solution(step, mistake)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        answer = _run(source, where, dict(names))[step.name]
        return Mistake(mistake.message, *mistake.edits, answer=answer)


def solutions(steps_file: str, *names: str) -> list[Any]:
    """Return functions and classes of the author's notebook, for answers that call earlier steps.

    Args:
        steps_file: ``__file__`` of the ``steps.py`` beside the notebook.
        names: Names of steps.

    Returns:
        The solution of each.

    Raises:
        ValueError: A cell of the notebook is no valid Python, or raises an error.
        KeyError: The notebook does not define a name.

    Example:
        >>> import tempfile
        >>> source = "def double(x): return 2 * x"
        >>> cell = {"id": "double-answer", "cell_type": "code", "source": source}
        >>> with tempfile.TemporaryDirectory() as name:
        ...     folder = Path(name, "doubling")
        ...     folder.mkdir()
        ...     length = (folder / "doubling.ipynb").write_text(json.dumps({"cells": [cell]}))
        ...     (double,) = solutions(str(folder / "steps.py"), "double")
        >>> double(4)
        8
    """
    folder = Path(steps_file).parent
    notebook = json.loads((folder / f"{folder.name}.ipynb").read_text(encoding="utf-8"))
    namespace: dict[str, Any] = {"__name__": f"solutions_of_{folder.name}"}
    for cell_id, cell in _cells(notebook).items():
        if cell_id == "setup" or cell_id.endswith("-answer"):
            _run(_source(cell), f"{folder.name}, {cell_id}", namespace)
    return [namespace[name] for name in names]


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


def _run(source: str, where: str, names: dict[str, Any]) -> dict[str, Any]:
    """Run a cell of the author in a namespace, and return that.

    Raises:
        ValueError: The source is no valid Python, or raises an error.
    """
    try:
        exec(compile(source, f"<{where}>", "exec", dont_inherit=True), names)
    except Exception as error:
        raise ValueError(f"{where}: {type(error).__name__}: {error}, in\n{source}") from error
    return names


def _compared(step: CompiledStep) -> str:
    """Return what is compared of an answer, for its task."""
    case = step.cases[0] if step.cases else {"gradients": [], "state": None}
    gradients, form = "", "lists, arrays and tensors of any precision are alike"
    if names := [f"`{name}`" for name in case["gradients"]]:
        names += [] if case["state"] is None else ["all parameters"]
        wanted = listed(names)
        gradients = f" gradients with respect to {wanted} (so compute with torch throughout),"
        form = "of any precision"
    return (
        f"**Compared:** values and shapes ({form}),{gradients} and that the arguments stay "
        "unchanged."
    )


def _released_cell(cell: dict[str, Any], compared: str) -> dict[str, Any]:
    """Return a cell without its solution, or a task with what is compared above its hints."""
    cell = dict(cell)
    if cell["cell_type"] == "code":
        source = SOLUTION.sub(rf"\g<indent>{UNSOLVED}", _source(cell))
        cell |= {"source": source.splitlines(keepends=True), "outputs": [], "execution_count": None}
    elif compared:
        task, hint, hints = _source(cell).partition("<details>")
        source = f"{task.rstrip()}\n\n{compared}" + (f"\n\n{hint}{hints}" if hint else "")
        cell["source"] = source.splitlines(keepends=True)
    return cell


def _title(notebook: dict[str, Any]) -> str:
    return _source(notebook["cells"][0]).splitlines()[0].removeprefix("# ")


def _cells(notebook: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {cell["id"]: cell for cell in notebook["cells"]}


def _source(cell: dict[str, Any]) -> str:
    source = cell.get("source", "")
    return source if isinstance(source, str) else "".join(source)
