"""The check that students run in a notebook."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any

from stepgrader.callees import CALLS_WRONG, called_steps, codes_of
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

    Example:
        >>> from stepgrader.steps import Step, compile_step
        >>> task = {"id": "double-task", "source": "## 1. Double it (★, 5 minutes, 1 point)"}
        >>> cases = {"a list": lambda sampler: {"x": [1, 2]}}
        >>> step = compile_step(Step("double", lambda x: [2 * a for a in x], cases, [], []))
        >>> check = Checker(Released("doubling", {"cells": [task]}, [step]))
        >>> def double(x):
        ...     return 2 * x
        >>> check(double)
        ✗ double: 0 of 1 point, the first that fails: a list
          expected 2 values, got 4
          inputs:
            x = [1, 2]
          expected [2, 4]
          got [1, 2, 1, 2]
          it should return check.expected; to try it yourself: double(**check.inputs)
        >>> check.expected, double(**check.inputs)
        ([2, 4], [1, 2, 1, 2])
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
        if verdict.status == "wrong":
            lines[2:2] = [f"  {CALLS_WRONG.format(wrong)}" for wrong in self._wrong_calls(answer)]
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
        """The expected result of the call that failed."""
        if self._failed is None:
            return None
        return decode(self._failed["expected"]["returned"], tensors=True)

    @property
    def options(self) -> dict[str, Any] | None:
        """For a class, the arguments of the constructor in the case that failed, by name."""
        return self._part("options")

    @property
    def state(self) -> dict[str, Any] | None:
        """For a class, the parameters that were loaded, for ``load_state_dict``."""
        return self._part("state")

    def _part(self, part: str) -> dict[str, Any] | None:
        values = None if self._failed is None else self._failed[part]
        if values is None:
            return None
        return {name: decode(value, tensors=True) for name, value in values.items()}

    def _name(self, answer: Any) -> str:
        """Return the name of the step that asks for an answer."""
        name = getattr(answer, "__name__", None)
        if isinstance(name, str) and name in self._steps:
            return name
        example = next(iter(self._steps))
        if isinstance(answer, str):
            example = answer if answer in self._steps else example
            problem = f"without quotes, as in check({example}); got the text {answer!r:.60}"
        elif name is None:
            kind = type(answer).__name__
            example = kind if kind in self._steps else example
            problem = f"without calling it, as in check({example}); got what it gave, {kind}"
        else:
            steps = ", ".join(self._steps)
            problem = f"under the name that its task gave it, one of {steps}; got {name}"
        raise ValueError(f"check: give it the function or class itself, {problem}")

    def _wrong_calls(self, answer: Callable[..., Any]) -> list[str]:
        """Return the first earlier step that an answer calls and that is wrong, if there is one."""
        own = _first_function(answer)
        if own is None:
            return []
        others = {name: own.__globals__.get(name) for name in self._steps}
        answers = others | {answer.__name__: answer}
        used = called_steps(answer.__name__, lambda name: codes_of(answers.get(name)))
        for name in self._steps[answer.__name__].depends_on:
            other, step = others[name], self._steps[name]
            if name in used and callable(other):
                outcomes = [run_case(other, request) for request in step.requests]
                if judge(step, outcomes).status == "wrong":
                    return [name]
        return []

    def _files(self, answer: Callable[..., Any]) -> dict[str, str]:
        """Return the answers' cells, by the file names that the notebook gives their code."""
        own = _first_function(answer)
        if own is None:
            return {}
        others = {name: _first_function(own.__globals__.get(name)) for name in self._steps}
        files = {_file(other): own_cell(name) for name, other in others.items() if other}
        return files | {_file(own): own_cell(answer.__name__)}

    def _call(self, name: str, answer: Any) -> str:
        """Return the call that failed, as the student can write it."""
        call_inputs = self.inputs or {}
        if self.options is None:
            return f"{name}({_arguments('inputs', answer, call_inputs)})"
        inputs = _arguments("inputs", answer.forward, {"self": None, **call_inputs})
        construct = f"{name}({_arguments('options', answer, self.options)})"
        if self.state is None:
            return f"{construct}({inputs})"
        strict = ", strict=False" if self._has_more_buffers(answer) else ""
        load = f"model.load_state_dict(check.state{strict})"
        return f"model = {construct}.double(); {load}; model({inputs})"

    def _has_more_buffers(self, answer: Callable[..., Any]) -> bool:
        """Return whether a class keeps buffers that the parameters to load do not name."""
        try:
            model = answer(*(self.options or {}).values())
            buffers = {name for name, _ in model.named_buffers()} & set(model.state_dict())
        except Exception:  # of the student's code, which was reported
            return False
        return bool(buffers - set(self.state or {}))


def _first_function(answer: Any) -> FunctionType | None:
    """Return an answer's function, or the first that its class defines."""
    candidates = vars(answer).values() if isinstance(answer, type) else [answer]
    functions = (inspect.unwrap(value) for value in candidates if callable(value))
    return next((value for value in functions if isinstance(value, FunctionType)), None)


def _file(function: FunctionType) -> str:
    return function.__code__.co_filename


def _arguments(attribute: str, function: Callable[..., Any], arguments: Mapping[str, Any]) -> str:
    """Return the arguments of a call as code: by name, if the student kept the names."""
    try:
        inspect.signature(function).bind(**arguments)
    except (TypeError, ValueError):
        return f"*check.{attribute}.values()"
    return f"**check.{attribute}"
