"""Smaller inputs than those of the visible cases, for an example that can be read.

The inputs of a case are cut along axes of one length: the sequences of a batch, the steps of a
sequence, the features. The author's reference says what is expected of the rest. What is left may
not be a valid input, so it is kept only if all right answers agree on it.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from stepgrader.differences import numbers_in
from stepgrader.judge import judge
from stepgrader.steps import CompiledStep, Step
from stepgrader.worker.values import decode, encode

__all__ = ["count_numbers", "record_smaller"]

READABLE = 12  # numbers that need not become fewer
LENGTHS = (1, 2)  # to which axes are cut
MAX_LENGTHS = 4  # different lengths of axes that are tried
BLOCKS = (4, 3, 2)  # numbers of blocks that one axis may hold, such as those of gates
EXPECTED = ("returned", "gradients")


def count_numbers(case: Mapping[str, Any]) -> int:
    """Return how many numbers the inputs and parameters of a case hold.

    Example:
        >>> tensor = {"tensor": [1.0, 2.0], "dtype": "float64", "shape": [2]}
        >>> count_numbers({"inputs": {"x": tensor, "rate": 0.5}, "state": None})
        3
    """
    values = [*case["inputs"].values(), *(case["state"] or {}).values()]
    return sum(math.prod(value["shape"]) if _is_array(value) else 1 for value in values)


def record_smaller(
    step: Step, compiled: CompiledStep, solution: Callable[..., Any]
) -> list[dict[str, Any]]:
    """Return smaller cases than the visible ones, each with the property of its origin.

    Args:
        step: The step, with its reference and other right answers.
        compiled: The same step, compiled.
        solution: The author's solution in the notebook.

    Example:
        >>> from stepgrader.steps import compile_step
        >>> cases = {"a batch": lambda sampler: {"x": sampler.normal(5, 3)}}
        >>> step = Step("double", lambda x: x + x, cases, [], [lambda x: 2 * x])
        >>> for case in record_smaller(step, compile_step(step), lambda x: x * 2):
        ...     print(case["inputs"]["x"]["shape"], case["inputs"]["x"]["tensor"])
        [1, 1] [1.7]
        [1, 2] [1.7, -0.1]
        [2, 1] [1.7, 0.5]
        [2, 2] [1.7, -0.1, 0.5, -1.2]
    """
    answers = [*step.alternatives, solution]
    found = []
    for name in step.cases:
        origin = next(case for case in compiled.cases if case["property"] == name)
        cut = _valid_cuts(origin, compiled, step.reference, answers)
        found += _chosen(cut)
    return found


Cut = tuple[dict[int, int], dict[str, Any]]  # length before and after, and the case


def _valid_cuts(
    origin: dict[str, Any],
    compiled: CompiledStep,
    reference: Callable[..., Any],
    answers: Sequence[Callable[..., Any]],
) -> list[Cut]:
    """Return what a case is cut to, from the smallest on, where all right answers agree."""
    from stepgrader.worker.calls import run_case

    if count_numbers(origin) <= READABLE:
        return []
    parts = {part: origin[part] for part in ("inputs", "options", "state") if origin[part]}
    used = {n for values in parts.values() for value in values.values() for n in _shape(value)}
    valid: list[Cut] = []
    for split in (0, *(n for n in sorted(used) if _blocks(n, used))):  # an axis of blocks, or none
        lengths = sorted(n for n in used if n > 1 and n != split)[-MAX_LENGTHS:]
        options = [[*(n for n in LENGTHS if n < length), length] for length in lengths]
        for chosen in itertools.product(*options):
            changed = dict(zip(lengths, chosen, strict=True))
            case = origin | {
                part: {name: _cut(value, changed, split) for name, value in values.items()}
                for part, values in parts.items()
            }
            if 2 * count_numbers(case) > count_numbers(origin):
                continue
            outcome = run_case(reference, case)
            if "raised" in outcome or not _has_numbers(outcome["returned"]):
                continue
            expected = {part: outcome[part] for part in EXPECTED if part in outcome}
            case |= {"expected": expected, "mistakes": []}
            alone = dataclasses.replace(compiled, cases=[case], mistakes=[])
            if all(judge(alone, [run_case(each, case)]).status == "right" for each in answers):
                valid.append((changed, case))
    return sorted(valid, key=lambda each: count_numbers(each[1]))


def _blocks(length: int, used: Collection[int]) -> int:
    """Return of how many blocks an axis may consist, each as long as another axis; 0 of none."""
    return next((n for n in BLOCKS if length % n == 0 and 1 < length // n in used), 0)


def _chosen(cuts: Sequence[Cut]) -> list[dict[str, Any]]:
    """Return the smallest case, and the smallest that keep at least two along an axis, or all."""
    if not cuts:
        return []
    kept = [cuts[0][1]]
    lengths = dict.fromkeys(n for changed, _ in cuts for n in changed)
    wishes: list[Sequence[int]] = [[length] for length in lengths]
    for wish in [*wishes, list(lengths)]:
        fitting = (case for changed, case in cuts if all(changed.get(n, 2) > 1 for n in wish))
        case = next(fitting, None)
        if case is not None and case not in kept:
            kept.append(case)
    return sorted(kept, key=count_numbers)


def _cut(value: Any, lengths: Mapping[int, int], split: int) -> Any:
    """Return the start of an input along its axes of these lengths.

    An axis of the length ``split`` is one of blocks, and of each the start is returned.

    Whole numbers that may count what is cut off, such as the lengths of sequences, shrink with it.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return lengths.get(value, value)
    if not _is_array(value):
        return value
    part = decode(value)
    for axis, length in enumerate(part.shape):
        size = length // (_blocks(length, lengths) or 1) if length == split else length
        if size in lengths:
            part = part.compress(np.arange(length) % size < lengths[size], axis)
    counted = [n for n in lengths if part.dtype.kind == "i" and n >= decode(value).max(initial=0)]
    if counted:
        length = min(counted)
        part = np.where(part > 0, -(-part * lengths[length] // length), part)  # rounded up
    made = encode(part)
    kind = "tensor" if "tensor" in value else "array"
    return {kind: made["array"], "dtype": made["dtype"], "shape": made["shape"]}


def _is_array(value: Any) -> bool:
    return isinstance(value, dict) and "shape" in value


def _shape(value: Any) -> list[int]:
    return list(value["shape"]) if _is_array(value) else []


def _has_numbers(encoded: Any) -> bool:
    """Return whether a result holds numbers, all of them finite."""
    numbers = [*numbers_in(decode(encoded))]
    return bool(numbers) and all(math.isfinite(number) for number in numbers)
