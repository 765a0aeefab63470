"""The check that students run in a notebook."""

from __future__ import annotations

import contextlib
import functools
import inspect
import io
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import FunctionType
from typing import Any

import torch

from stepgrader.after import folded, unlock
from stepgrader.callees import called_steps, calls_wrong, codes_of
from stepgrader.definitions import Definitions, Selection, complaints
from stepgrader.differences import listed
from stepgrader.exercises import Released
from stepgrader.judge import SHARES_MEMORY, Verdict, judge, own_cell
from stepgrader.marks import earned
from stepgrader.reports import UNDONE, verdict_lines
from stepgrader.steps import CompiledStep
from stepgrader.worker.calls import run_case, shared_names, weighted_sum
from stepgrader.worker.cells import add_module, new_namespace, run_cell
from stepgrader.worker.process_state import (
    changed_settings,
    original_libraries,
    seed_generators,
    seeded,
    usual_settings,
)
from stepgrader.worker.values import decode
from stepgrader.worker.walls import walls

__all__ = ["Checker"]


class Checker:
    """Check answers against the visible cases of an exercise.

    With ``check = Checker(exercise)``, ``check(forget_gate)`` checks the step of that name. It
    prints the points and, if something is wrong, what and why. The points are provisional: the mark
    is based on more cases.

    In a notebook, an answer that passes is run once more, as grading runs it: after the setup cell
    and the earlier answers, with what ``Definitions`` takes along from other cells, and without
    what the sandbox refuses. If it fails then, the line says why. Then three parts unfold, if the
    author wrote them: another idiom, why the property matters, and a stretch goal. ``check.after``
    prints them.

    After a check that failed, ``inputs``, ``expected``, ``options`` and ``state`` hold the smallest
    case that failed in the same way; after any other check they are ``None``. Each access makes a
    new copy, which may be changed. Inputs require gradients where gradients are compared: of
    ``total(result)``, ``gradients`` holds the expected ones.

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
        ✗ double: 0 of 1 point; first property that fails: a list
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
        self._setup = exercise.setup
        self._locked = exercise.after
        self._opened: dict[str, str] = {}
        self._failed: dict[str, Any] | None = None
        self._passed: dict[str, Any] = {}  # the answers that passed their last check
        original_libraries()

    def __call__(self, answer: Callable[..., Any]) -> None:
        """Check one answer.

        Args:
            answer: The function or class, with the name that the task asks for.

        Raises:
            ValueError: No step asks for a function or class of this name.
        """
        self._failed = None
        caller = inspect.currentframe()
        caller = caller.f_back if caller else None
        names = {**caller.f_globals, **caller.f_locals} if caller else {}
        name = self._name(answer, names)
        step, files = self._steps[name], self._files(name, answer)
        changed = [*changed_settings(), *original_libraries().changed()]
        with _usual_state():
            outcomes = [run_case(answer, request, files=files) for request in step.requests]
            verdict = judge(step, outcomes)
            if verdict.case is not None:
                self._failed = step.cases[verdict.case]
                verdict = self._with_smaller(
                    step, verdict, lambda case: run_case(answer, case, files=files)
                )
        self._passed.pop(name, None)
        if verdict.status == "right":
            self._passed[name] = answer
        tested = [case["property"] for case in step.cases]
        first, *others = verdict_lines(name, verdict, self._headings[name].points, tested)
        if doubt := self._doubt(step, verdict, names):
            first = f"{first}; but {doubt}"
        lines = [first, *others]
        if verdict.status == "wrong":
            notes = [
                calls_wrong(wrong, verdict.diagnosis, again=wrong in self._passed)
                for wrong in self._wrong_calls(name, answer)
            ]
            if changed:
                verb, pronoun = ("is", "it") if len(changed) == 1 else ("are", "them")
                notes.append(
                    f"{listed(changed)} {verb} changed in this notebook; check and grading reset "
                    f"{pronoun} before they call an answer"
                )
            lines[2:2] = [f"  {note}" for note in notes]
        if self._failed is not None:
            lines.append(f"  {self._replay(name, answer, verdict)}")
        print("\n".join(lines))
        if verdict.status == "right" and name in self._locked:
            self._unfold(name, answer)

    def after(self, step: str | Callable[..., Any]) -> None:
        """Print what unfolds after a step, as Markdown.

        Args:
            step: Name of the step, or the answer itself.

        Raises:
            ValueError: There is no such step, or its check has not passed yet.
        """
        name = step if isinstance(step, str) else getattr(step, "__name__", None)
        if name not in self._steps:
            raise ValueError(f"check.after: expected one of {', '.join(self._steps)}, got {name}")
        if name not in self._locked:
            raise ValueError(f"check.after: the exercise has nothing to unfold after {name}")
        if name not in self._opened:
            raise ValueError(f"check.after: expected that check({name}) has passed; run it first")
        print(self._opened[name])

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

    @property
    def gradients(self) -> dict[str, Any] | None:
        """The expected gradients of ``total(result)``, by the names of inputs and parameters."""
        if self._failed is None:
            return None
        gradients = self._failed["expected"].get("gradients", {})
        return {name: decode(value, tensors=True) for name, value in gradients.items()}

    @staticmethod
    def total(result: Any) -> torch.Tensor:
        """Return the number whose gradients are compared: a weighted sum of all results.

        Shape:
            result: a scalar ``()``.

        Raises:
            ValueError: No gradient can flow back from the result.
        """
        total = weighted_sum(result)
        if not total.requires_grad:
            raise ValueError("check.total: no gradient flows back from this result to any input")
        return total

    @staticmethod
    def shared(result: Any, inputs: Mapping[str, Any]) -> list[str]:
        """Return the names of the inputs whose memory a result uses."""
        return shared_names(result, inputs)

    def _with_smaller(
        self, step: CompiledStep, verdict: Verdict, run: Callable[[dict[str, Any]], dict[str, Any]]
    ) -> Verdict:
        """Take a smaller case that fails in the same way, if there is one, for the example."""
        for case in step.smaller:
            if case["property"] == verdict.property:
                alone = replace(step, cases=[case], mistakes=[], variations=[])
                smaller = judge(alone, [run(case)])
                if (smaller.kind, smaller.gradient) == (verdict.kind, verdict.gradient):
                    self._failed = case
                    parts = ("finding", "example", "argument")
                    return replace(verdict, **{part: getattr(smaller, part) for part in parts})
        return verdict

    def _unfold(self, name: str, answer: Callable[..., Any]) -> None:
        """Show what unfolds after a step: folded in a notebook, in a terminal how to print it."""
        with _usual_state():
            text = unlock(self._locked[name], answer)
        if text is None:
            return
        self._opened[name] = text
        what = "another way to write it, why it matters, and a stretch goal"
        line = f'  to read on ({what}): check.after("{name}")'
        if _shell() is None:
            print(line)
        else:
            from IPython.display import display

            display({"text/markdown": folded(text, name), "text/plain": line}, raw=True)

    def _part(self, part: str) -> dict[str, Any] | None:
        values = None if self._failed is None else self._failed[part]
        if self._failed is None or values is None:
            return None
        decoded = {name: decode(value, tensors=True) for name, value in values.items()}
        if part == "inputs":
            for name in self._failed["gradients"]:
                # No leaf, as in the check, so that a change in place raises no error of autograd.
                with usual_settings():
                    decoded[name] = decoded[name].requires_grad_() * 1
                decoded[name].retain_grad()
        return decoded

    def _doubt(self, step: CompiledStep, verdict: Verdict, names: Mapping[str, Any]) -> str | None:
        """Return why grading may differ from a verdict; None if nothing suggests it."""
        if verdict.status not in ("right", "open"):
            return None
        definitions = Definitions(
            _executed_cells(), list(self._steps), setup=self._setup, executed=True
        )
        if verdict.status == "open":
            if verdict.finding or not definitions.written(step.name):
                return None
            return "grading uses a finished definition if the notebook still contains one"
        if (selection := definitions.select(step.name)) is None:
            return None  # no notebook, or one that keeps no history
        selected = {name: one for name in self._steps if (one := definitions.select(name))}
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            again, faulty = self._as_graded(step, selected, names)
        if again.status == "right":
            modules = _modules(step.name, selected)
            return (
                "; ".join(complaints(replace(selection, foreign=(), changed=(), modules=modules)))
                or None
            )
        reasons = complaints(replace(selection, modules=_modules(step.name, selected)))
        if faulty:
            verb, pronoun = ("is", "it") if len(faulty) == 1 else ("are", "them")
            reasons.append(
                f"{listed(faulty)} {verb} not right as graded, so grading calls the correct "
                f"version of {pronoun} here"
            )
            return f"grading may give other points: {'; '.join(reasons)}"
        if not reasons:
            finding = again.finding or UNDONE.get(again.status, again.status)
            reasons = [f"with only the setup cell and the earlier answers, it fails: {finding}"]
        mark = earned(again, self._headings[step.name].points)
        return f"grading gives {mark}: {'; '.join(reasons)}"

    def _as_graded(
        self, step: CompiledStep, selected: Mapping[str, Selection], names: Mapping[str, Any]
    ) -> tuple[Verdict, list[str]]:
        """Return the verdict on a step as grading runs it.

        Where earlier steps that it uses are not right as they are graded, grading calls right
        versions of them. Those in the kernel are taken, if they are right in a new process too.

        Returns:
            The verdict, and the names of such steps of which there is no right version here.
        """
        own = self._verdicts_as_graded([step.name], selected, names)[step.name]
        used = [name for name in step.depends_on if name in _used_steps(step.name, selected)]
        if own.status == "right" or not used:
            return own, []
        verdicts = self._verdicts_as_graded([*used, step.name], selected, names)
        faulty = [name for name in used if verdicts[name].status != "right"]
        right = {
            name: names[name]
            for name in faulty
            if callable(names.get(name)) and self._passes(name, names[name])
        }
        if missing := [name for name in faulty if name not in right]:
            return own, missing
        if not right:
            return own, []
        other = self._verdicts_as_graded([step.name], selected, names, right)[step.name]
        return (other if other.share() > own.share() else own), []

    def _passes(self, name: str, answer: Callable[..., Any]) -> bool:
        step = self._steps[name]
        with _new_process():
            outcomes = [run_case(answer, request) for request in step.requests]
        return judge(step, outcomes).status == "right"

    def _verdicts_as_graded(
        self,
        wanted: Collection[str],
        selected: Mapping[str, Selection],
        names: Mapping[str, Any],
        right: Mapping[str, Any] | None = None,
    ) -> dict[str, Verdict]:
        """Return the verdicts on steps, of which the last one may call right versions of others."""
        *_, last = wanted
        verdicts: dict[str, Verdict] = {}
        namespace = new_namespace()
        files = dict(pair for part in selected.values() for pair in part.files)
        modules = {module for part in selected.values() for module in part.modules}
        steps = list(self._steps)
        with _new_process({*files, *modules}):
            with usual_settings():
                run_cell(self._setup, "<setup>", namespace)
            for name in steps[: steps.index(last) + 1]:
                with usual_settings():
                    part = selected.get(name)
                    if part is not None:
                        for module, source in part.files:
                            add_module(module, source)
                        run_cell(part.helpers, f"<helpers of {name}>", namespace)
                        namespace |= (right or {}) if name == last else {}
                        run_cell(part.source, own_cell(name), namespace, lines=part.lines)
                    elif name in names:  # defined in a way that can't be seen in a cell
                        namespace[name] = names[name]
                if name in wanted:
                    verdicts[name] = self._judge_as_graded(name, namespace)
        return verdicts

    def _judge_as_graded(self, name: str, namespace: Mapping[str, Any]) -> Verdict:
        if name not in namespace:
            return Verdict("missing")
        step = self._steps[name]
        with original_libraries().restored():
            seed_generators()
            return judge(step, [run_case(namespace[name], request) for request in step.requests])

    def _name(self, answer: Any, names: Mapping[str, Any]) -> str:
        """Return the name of the step that asks for an answer: its own, or what it is bound to."""
        name = getattr(answer, "__name__", None)
        bound = [step for step in self._steps if names.get(step) is answer and callable(answer)]
        if bound and name not in bound:
            return bound[0]
        if isinstance(name, str) and name in self._steps:
            return name
        example = next(iter(self._steps))
        if isinstance(answer, str):
            example = answer if answer in self._steps else example
            problem = f"without quotes, as in check({example}); got the string {answer!r:.60}"
        elif name is None:
            kind = type(answer).__name__
            example = kind if kind in self._steps else example
            problem = f"without calling it, as in check({example}); got its result, {kind}"
        else:
            steps = ", ".join(self._steps)
            problem = f"under the name that its task gives it, one of {steps}; got {name}"
        raise ValueError(f"check: expected the function or class itself, {problem}")

    def _wrong_calls(self, name: str, answer: Callable[..., Any]) -> list[str]:
        """Return the first earlier step that an answer calls and that is wrong, if there is one."""
        own = _first_function(answer)
        if own is None:
            return []
        written = {
            key: function
            for key, value in list(own.__globals__.items())
            if (function := _first_function(value)) and function.__globals__ is own.__globals__
        }
        values = own.__globals__ | {name: answer}
        known = {*self._steps, *written}
        used = called_steps(name, lambda key: codes_of(values.get(key) if key in known else None))
        # A cell may define more than its step, and what is called may be the other function.
        files = {_file(written[key]) for key in used & written.keys()} - {_file(own)}
        for earlier in self._steps[name].depends_on:
            other, step = values.get(earlier), self._steps[earlier]
            in_used_cell = earlier in written and _file(written[earlier]) in files
            if (earlier in used or in_used_cell) and callable(other):
                with _usual_state():
                    outcomes = [run_case(other, request) for request in step.requests]
                if judge(step, outcomes).status == "wrong":
                    return [earlier]
        return []

    def _files(self, name: str, answer: Callable[..., Any]) -> dict[str, str]:
        """Return the answers' cells, by the file names that the notebook gives their code."""
        own = _first_function(answer)
        if own is None:
            return {}
        others = {step: _first_function(own.__globals__.get(step)) for step in self._steps}
        files = {_file(other): own_cell(step) for step, other in others.items() if other}
        return files | {_file(own): own_cell(name)}

    def _replay(self, name: str, answer: Any, verdict: Verdict) -> str:
        """Return how the student can repeat what failed."""
        inputs, gradient, argument = self.inputs or {}, verdict.gradient, verdict.argument
        keeps_inputs = gradient in inputs or argument is not None
        before = ["inputs = check.inputs"] if keeps_inputs else []
        call_inputs = "inputs" if keeps_inputs else "check.inputs"
        called = answer if self.options is None else getattr(answer, "forward", None)
        arguments = inputs if self.options is None else {"self": None, **inputs}
        call = f"({_arguments(call_inputs, called, arguments)})"
        if self.options is None:
            call = name + call
        else:
            construct = f"{name}({_arguments('check.options', answer, self.options)})"
            if self.state is None and gradient is None:
                call = construct + call
            else:
                strict = ", strict=False" if self._has_more_buffers(answer) else ""
                load = f"model.load_state_dict(check.state{strict})"
                loaded = [] if self.state is None else [load]
                before += [f"model = {construct}.double()", *loaded]
                call = f"model{call}"
        if gradient is not None:
            what = f'the gradient should be check.gradients["{gradient}"]'
            of_input = f'inputs["{gradient}"].grad'
            result = of_input if gradient in inputs else f'model.get_parameter("{gradient}").grad'
            steps = [*before, f"check.total({call}).backward()", result]
        elif argument is None:
            what, steps = "it should return check.expected", [*before, call]
        elif verdict.kind == SHARES_MEMORY:
            what = "no input should share memory with the result"
            steps = [*before, f"check.shared({call}, inputs)"]
        else:
            what = f'the argument should still equal check.inputs["{argument}"]'
            steps = [*before, call, f'inputs["{argument}"]']
        return f"{what}; to try it yourself: {'; '.join(steps)}"

    def _has_more_buffers(self, answer: Callable[..., Any]) -> bool:
        """Return whether a class keeps buffers that the parameters to load do not name."""
        try:
            model = answer(*(self.options or {}).values())
            buffers = {name for name, _ in model.named_buffers()} & set(model.state_dict())
        except Exception:  # of the student's code, which was reported
            return False
        return bool(buffers - set(self.state or {}))


def _shell() -> Any:
    """Return the IPython that runs this code; None outside of a notebook or such a terminal."""
    return sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None


@contextlib.contextmanager
def _usual_state() -> Iterator[None]:
    """Call answers as grading does: with the original libraries, and with seeded generators."""
    with original_libraries().restored(), seeded():
        yield


@contextlib.contextmanager
def _new_process(modules: Collection[str] = ()) -> Iterator[None]:
    """Give answers what they find in a new process in the sandbox.

    This is an empty folder, no module that lies beside the notebook, and no way to start processes.

    Args:
        modules: Modules that may lie there.
    """
    here, path, before = Path.cwd().resolve(), list(sys.path), tempfile.tempdir
    local = {name: sys.modules[name] for name in modules if _is_local(name, here)}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        try:
            for name in local:
                del sys.modules[name]
            sys.path[:] = [entry for entry in path if entry and Path(entry) != here]
            tempfile.tempdir = folder
            with contextlib.chdir(folder), _usual_state(), walls():
                yield
        finally:
            tempfile.tempdir = before
            sys.path[:] = path
            for name in modules:
                if name in sys.modules and not hasattr(sys.modules[name], "__file__"):
                    del sys.modules[name]  # which add_module made
            sys.modules.update(local)


def _is_local(name: str, folder: Path) -> bool:
    """Return whether a module is a file below a folder, and not installed there."""
    file = getattr(sys.modules.get(name), "__file__", None)
    if file is None:
        return False
    path = Path(file).resolve()
    installed = {"site-packages", "dist-packages"} & set(path.parts)
    return path.is_relative_to(folder) and not installed


def _executed_cells() -> list[tuple[str, str]]:
    """Return id and source of the cells that this kernel has run; none outside of a notebook."""
    history = getattr(_shell(), "history_manager", None)
    return [("", source) for source in getattr(history, "input_hist_raw", [])]


def _modules(name: str, selected: Mapping[str, Selection]) -> tuple[str, ...]:
    """Return the modules in doubt of an answer and of the earlier ones that it refers to."""
    if name not in selected:
        return ()
    earlier = [module for step in selected[name].steps for module in _modules(step, selected)]
    return tuple(sorted({*selected[name].modules, *earlier}))


def _used_steps(name: str, selected: Mapping[str, Selection]) -> set[str]:
    """Return the earlier steps that an answer uses, itself or through another."""
    direct = selected[name].steps if name in selected else ()
    return set(direct).union(*(_used_steps(step, selected) for step in direct))


def _first_function(answer: Any) -> FunctionType | None:
    """Return an answer's function, or the first that its class defines."""
    while isinstance(answer, functools.partial):
        answer = answer.func
    if isinstance(answer, type):
        candidates = list(vars(answer).values())
    elif isinstance(answer, FunctionType):
        candidates = [answer]
    else:
        candidates = [type(answer).__call__] if callable(answer) else []
    functions = (inspect.unwrap(value) for value in candidates if callable(value))
    return next((value for value in functions if isinstance(value, FunctionType)), None)


def _file(function: FunctionType) -> str:
    return function.__code__.co_filename


def _arguments(values: str, function: Any, arguments: Mapping[str, Any]) -> str:
    """Return the arguments of a call as code: by name, if the student kept the names."""
    try:
        inspect.signature(function).bind(**arguments)
    except (TypeError, ValueError):
        return f"*{values}.values()"
    return f"**{values}"
