"""The check that students run in a notebook."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any

from stepgrader.exercises import Released
from stepgrader.judge import judge, own_cell
from stepgrader.reports import verdict_lines
from stepgrader.worker.calls import run_case
from stepgrader.worker.values import decode

__all__ = ["Checker"]


class Checker:
    """Check answers against the visible cases of an exercise.

    With ``check = Checker(exercise)``, ``check(forget_gate)`` checks the step of that name. It
    prints the points and, if something is wrong, what and why. The points are advice: the mark
    comes from more cases.

    After a check that failed, ``inputs``, ``expected``, ``options`` and ``state`` hold the smallest
    case that failed; after any other check they are ``None``. Each access makes a new copy, which
    may be changed.

    Args:
        exercise: The released exercise.
    """

    def __init__(self, exercise: Released):
        self._steps = {step.name: step for step in exercise.steps}
        self._headings = exercise.headings
        self._failed: dict[str, Any] | None = None

    def __call__(self, answer: Callable[..., Any]) -> None:
        """Check one answer.

        Args:
            answer: The function or class, with the name that the task asks for.

        Raises:
            ValueError: No step asks for a function or class of this name.
        """
        self._failed = None
        name = self._name(answer)
        step, files = self._steps[name], self._files(answer)
        outcomes = [run_case(answer, request, files=files) for request in step.requests]
        verdict = judge(step, outcomes)
        tested = [case["property"] for case in step.cases]
        lines = [*verdict_lines(name, verdict, self._headings[name].points, tested)]
        if verdict.case is not None:
            self._failed = step.cases[verdict.case]
            call = self._call(name, answer)
            lines.append(f"  it should return check.expected; to try it yourself: {call}")
        print("\n".join(lines))

    @property
    def inputs(self) -> dict[str, Any] | None:
        """The arguments of the call that failed, by name."""
        return self._part("inputs")

    @property
    def expected(self) -> Any:
        """What the call that failed should have returned."""
        if self._failed is None:
            return None
        return decode(self._failed["expected"]["returned"], tensors=True)

    @property
    def options(self) -> dict[str, Any] | None:
        """Of a class, the arguments with which the object that failed was made, by name."""
        return self._part("options")

    @property
    def state(self) -> dict[str, Any] | None:
        """Of a class, the parameters that were loaded, for ``load_state_dict``."""
        return self._part("state")

    def _part(self, part: str) -> dict[str, Any] | None:
        values = None if self._failed is None else self._failed[part]
        if values is None:
            return None
        return {name: decode(value, tensors=True) for name, value in values.items()}

    def _name(self, answer: Any) -> str:
        """Return the name of the step that asks for an answer."""
        name = getattr(answer, "__name__", None)
        if name in self._steps:
            return name
        for_example = next(iter(self._steps))
        if isinstance(answer, str):
            for_example = answer if answer in self._steps else for_example
            problem = f"without quotes, as in check({for_example}); got the text {answer!r:.60}"
        elif name is None:
            kind = type(answer).__name__
            for_example = kind if kind in self._steps else for_example
            problem = f"without calling it, as in check({for_example}); got what it gave, {kind}"
        else:
            steps = ", ".join(self._steps)
            problem = f"under the name that its task gave it, one of {steps}; got {name}"
        raise ValueError(f"check: give it the function or class itself, {problem}")

    def _files(self, answer: Callable) -> dict[str, str]:
        """Return the cells of answers by the names that a notebook gives their files."""
        own = _first_function(answer)
        if own is None:
            return {}
        around = {name: _first_function(own.__globals__.get(name)) for name in self._steps}
        files = {_file(other): own_cell(name) for name, other in around.items() if other}
        return files | {_file(own): own_cell(answer.__name__)}

    def _call(self, name: str, answer: Callable) -> str:
        """Return the call that failed, as the student can write it."""
        if self.options is None:
            return f"{name}({_arguments('inputs', answer, self.inputs)})"
        inputs = _arguments("inputs", answer.forward, {"self": None, **self.inputs})
        made = f"{name}({_arguments('options', answer, self.options)})"
        if self.state is None:
            return f"{made}({inputs})"
        return f"model = {made}.double(); model.load_state_dict(check.state); model({inputs})"


def _first_function(answer: Any) -> FunctionType | None:
    """Return an answer's function, or the first that its class defines."""
    candidates = vars(answer).values() if isinstance(answer, type) else [answer]
    candidates = [inspect.unwrap(one) for one in candidates if callable(one)]
    return next((one for one in candidates if isinstance(one, FunctionType)), None)


def _file(function: FunctionType) -> str:
    return function.__code__.co_filename


def _arguments(attribute: str, function: Callable, arguments: Mapping[str, Any]) -> str:
    """Return how to hand over arguments: by name, if the student kept the names."""
    try:
        inspect.signature(function).bind(**arguments)
    except (TypeError, ValueError):
        return f"*check.{attribute}.values()"
    return f"**check.{attribute}"
