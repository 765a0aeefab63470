"""Describe in words how a wrong result differs from the expected one, if no known mistake fits.

``_pairs`` holds expected and returned arrays, ``_runs`` whole results. Relations between two arrays
are found by functions that take a ``Context`` and return the end of a sentence or None: those in
``_numbers`` and ``_places`` for arrays of one shape, those in ``_shapes`` for others.

A description is a relation between the two, such as "the negative" or "right up to step 3". It is
given if it holds in every visible case that fails, or in all of the first property that does, and
if enough different numbers bear it out. Anything less would mislead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stepgrader.diagnosis._errors import meaning_of_errors
from stepgrader.diagnosis._numbers import (
    another_result,
    argument,
    bounded,
    elementwise,
    not_finite,
    proportional,
    shifted_by,
    squashed,
    sums,
)
from stepgrader.diagnosis._pairs import EVIDENCE, Context, Pair, numeric_parts
from stepgrader.diagnosis._places import moved, region
from stepgrader.diagnosis._runs import Run, of_form, partly_known, right_parts, swapped
from stepgrader.diagnosis._shapes import longer, other_axis, reduced, reshaped
from stepgrader.steps import CompiledStep
from stepgrader.variations import matching

__all__ = ["Pair", "describe", "explain", "numeric_parts"]


def explain(step: CompiledStep, outcomes: Sequence[dict[str, Any]]) -> str | None:
    """Return a sentence on what is wrong with an answer that makes no known mistake.

    Hidden cases are ignored.

    Args:
        step: The step.
        outcomes: The outcome of each case, in their order.

    Returns:
        The sentence; None if there is nothing to say.

    Example:
        >>> from stepgrader.steps import Step, compile_step
        >>> from stepgrader.worker.calls import run_case
        >>> cases = {"a vector": lambda sampler: {"x": sampler.normal(4)}}
        >>> step = compile_step(Step("double", lambda x: x + x, cases, [], []))
        >>> explain(step, [run_case(lambda x: -2 * x, case) for case in step.requests])
        'The result is the negative of what is expected.'
    """
    try:
        with np.errstate(all="ignore"):
            change = matching(step, outcomes)
            same = (
                None if change is None else f"A correct solution gives the same result if {change}."
            )
            return " ".join(filter(None, (_explain(step, outcomes), same))) or None
    except (ArithmeticError, AttributeError, LookupError, MemoryError, TypeError, ValueError):
        return None  # an outcome can't be read, or is too large; the verdict needs no hint


def _explain(step: CompiledStep, outcomes: Sequence[dict[str, Any]]) -> str | None:
    runs = [
        Run(case, outcome, step.tolerance)
        for case, outcome in zip(step.cases, outcomes, strict=True)
        if not case["hidden"]
    ]
    failing = [run for run in runs if run.fails]
    if not failing:
        return None
    if failing[0].raised:
        return meaning_of_errors([run.error for run in failing if run.raised])
    failing = [run for run in failing if not run.raised]
    if text := swapped(failing) or partly_known(step, runs) or _of_runs(failing):
        return text
    first = failing[0].property
    some = [run for run in failing if run.property == first]
    if len(some) < len(failing) and (text := swapped(some) or _of_runs(some)):
        return f"For {first}: {text[0].lower()}{text[1:]}"
    return right_parts(failing)


def _of_runs(runs: Sequence[Run]) -> str | None:
    """Return a sentence on the results that are wrong in these cases."""
    first = runs[0]
    if any(run.what != first.what for run in runs):
        return None
    if any(run.expected.keys() != run.got.keys() for run in runs):
        return of_form(runs)
    wrong = dict.fromkeys(name for run in runs for name in run.wrong)
    for name in wrong:
        pairs = [run.pair(name) for run in runs if name in run.wrong]
        if text := describe(pairs, first.tolerance):
            what = "The result" if name == "result" else name
            if first.what == "gradient":
                what = f"The gradient with respect to {name}"
            elif len(wrong) == 1 < len(first.expected):
                what = f"The other results are right; {name}"
            return f"{what} is {text}" + ("" if text.endswith("?") else ".")
    return None


def describe(pairs: Sequence[Pair], tolerance: float = 1e-5) -> str | None:
    """Return in words what an answer returned, seen from what is expected.

    Args:
        pairs: Expected and returned arrays of several cases, each of which differ.
        tolerance: A number x is near the expected y within ``tolerance * max(1, |y|)``.

    Returns:
        The predicate of a sentence that begins with "the result is"; None if nothing is certain.

    Example:
        >>> rows = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
        >>> describe([Pair(rows, rows.T)])
        'right but transposed: its axes are in the order 1, 0'
    """
    if not pairs or any(pair.expected.size == 0 or pair.got.size == 0 for pair in pairs):
        return None
    with np.errstate(all="ignore"):
        context = Context(pairs, tolerance)
        same = all(pair.expected.shape == pair.got.shape for pair in pairs)
        if any((pair.expected.dtype == bool) != (pair.got.dtype == bool) for pair in pairs):
            if all(
                np.array_equal(pair.expected.astype(float), pair.got.astype(float))
                for pair in pairs
            ):
                kind = "numbers" if context.is_truth else "Boolean values"
                return f"right except for its type: yours contains {kind}"
            return None
        if context.is_truth and context.evidence < EVIDENCE:
            return None
        for find in SAME_SHAPE if same else OTHER_SHAPE:
            if text := find(context):
                return text
    return None


Finder = Callable[[Context], str | None]

SAME_SHAPE: list[Finder] = [
    not_finite,
    elementwise,
    another_result,
    argument,
    squashed,
    proportional,
    shifted_by,
    moved,
    region,
    sums,
    bounded,
]

OTHER_SHAPE: list[Finder] = [another_result, reshaped, longer, reduced, other_axis]
