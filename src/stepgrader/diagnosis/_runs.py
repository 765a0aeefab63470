"""Several results of a call: in another order, of another form, or of a known mistake in part."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from stepgrader.diagnosis._pairs import (
    EVIDENCE,
    MAX_AXES,
    Pair,
    all_near,
    as_array,
    count_wrong,
    numeric_parts,
)
from stepgrader.differences import listed
from stepgrader.steps import CompiledStep
from stepgrader.worker.values import decode

__all__ = ["Run", "of_form", "partly_known", "right_parts", "swapped"]


class Run:
    """A case with what is expected of it and what an answer gave, both cut into arrays."""

    def __init__(self, case: dict[str, Any], outcome: dict[str, Any], tolerance: float):
        self.property: str = case["property"]
        self.mistakes: list[dict[str, Any]] = case["mistakes"]
        self.raised = "raised" in outcome
        self.error = str((outcome.get("raised") or {}).get("message", ""))
        self.tolerance = tolerance
        self.expected = dict(numeric_parts(decode(case["expected"]["returned"])))
        self.got = {} if self.raised else dict(numeric_parts(decode(outcome["returned"])))
        self.wrong = [name for name in self.expected if not self._is_right(name)]
        self.lacks_none = not self.raised and any(
            one is None and other is not None
            for one, other in zip(
                _items(case["expected"]["returned"]), _items(outcome["returned"]), strict=False
            )
        )
        self.what = "result"
        gradients = case["expected"].get("gradients")
        if not self.wrong and not self.raised and gradients:
            self.what = "gradient"
            self.expected = {name: decode(value) for name, value in gradients.items()}
            self.got = {
                name: decode(value)
                for name, value in outcome["gradients"].items()
                if value is not None
            }
            self.wrong = [name for name in self.expected if not self._is_right(name)]
        self.fails = self.raised or bool(self.wrong) or self.expected.keys() != self.got.keys()
        self.inputs = {}
        for part, prefix in (("inputs", "the argument"), ("state", "the parameter")):
            for name, value in (case[part] or {}).items():
                if isinstance(array := as_array(decode(value)), np.ndarray):
                    self.inputs[f"{prefix} {name}"] = array

    def _is_right(self, name: str) -> bool:
        return all_near(self.expected[name], self.got.get(name), self.tolerance)

    def pair(self, name: str) -> Pair:
        """Return a result with what relations may need."""
        others = {
            other: array for other, array in self.expected.items() if other != name and array.size
        }
        return Pair(self.expected[name], self.got[name], self.inputs, others)


def _items(encoded: Any) -> list[Any]:
    value = decode(encoded)
    return list(value) if isinstance(value, (list, tuple)) else [value]


def partly_known(step: CompiledStep, runs: Sequence[Run]) -> str | None:
    """Return the message of a mistake that accounts for one of several results in every case."""
    if any(run.what != "result" or run.expected.keys() != run.got.keys() for run in runs):
        return None
    for name in dict.fromkeys(name for run in runs for name in run.wrong):
        pairs = [run.pair(name) for run in runs if name in run.wrong and name in run.got]
        if count_wrong(pairs) <= EVIDENCE + 1:
            continue
        numbers = [
            number
            for number in range(len(step.mistakes))
            if all(_agrees(run, name, run.mistakes[number]) for run in runs)
        ]
        if numbers:  # take the one that differs least in the other results
            number = min(numbers, key=lambda n: sum(_others(run, name, n) for run in runs))
            return (
                f"{name} is what a known mistake gives, which may be part of yours: "
                f"{step.mistakes[number]}"
            )
    return None


def _agrees(run: Run, name: str, mistake: dict[str, Any]) -> bool:
    """Return whether a result is that of a mistake."""
    if "raised" in mistake:
        return False
    if "returned" not in mistake:  # the mistake has the expected results here
        return name not in run.wrong
    parts = dict(numeric_parts(decode(mistake["returned"])))
    if name not in parts or not all_near(parts[name], run.got.get(name), run.tolerance):
        return False
    others = {other: array for other, array in run.expected.items() if other != name}
    # What another result should be is no sign of this mistake, whose message may say what is right.
    return not any(
        all_near(array, parts[name], run.tolerance)
        or (other in run.wrong and all_near(array, parts.get(other), run.tolerance))
        for other, array in others.items()
    )


def _others(run: Run, name: str, number: int) -> int:
    """Return in how many other results an answer differs from a mistake."""
    if "returned" not in run.mistakes[number]:
        return len(run.wrong)
    parts = dict(numeric_parts(decode(run.mistakes[number]["returned"])))
    return sum(
        not all_near(array, run.got.get(other), run.tolerance)
        for other, array in parts.items()
        if other != name
    )


def of_form(runs: Sequence[Run]) -> str | None:
    """Return what is right of results that have another form than the expected ones."""
    if any(not run.got or run.what != "result" or run.lacks_none for run in runs):
        return None
    for relation, text in (
        (_is_joined, "Your numbers are right, but their form is not: see what is expected below."),
        (_has_all, "Your results include all that is expected, but you return more than that."),
        (_has_some, "What you return is right, but some of the results are missing."),
    ):
        if all(relation(run) for run in runs):
            return text
    return None


def _is_joined(run: Run) -> bool:
    """Return whether the numbers of all results are right, one after the other or stacked."""
    parts, got = (
        [array.astype(float) for array in arrays.values()] for arrays in (run.expected, run.got)
    )
    ours, theirs = (np.concatenate([array.ravel() for array in each]) for each in (parts, got))
    if all_near(ours, theirs, run.tolerance):
        return True
    if len(got) > 1 or any(array.shape != parts[0].shape for array in parts):
        return False
    stacks = (np.stack(parts, axis) for axis in range(parts[0].ndim + 1))
    return any(all_near(stack, got[0], run.tolerance) for stack in stacks)


def _has_all(run: Run) -> bool:
    return len(run.got) > len(run.expected) and all(
        any(all_near(array, got, run.tolerance) for got in run.got.values())
        for array in run.expected.values()
    )


def _has_some(run: Run) -> bool:
    return len(run.got) < len(run.expected) and all(
        any(all_near(array, got, run.tolerance) for array in run.expected.values())
        for got in run.got.values()
    )


def swapped(runs: Sequence[Run]) -> str | None:
    """Return that the results are right, but in another order."""
    if any(run.expected.keys() != run.got.keys() for run in runs):
        return None
    names = list(runs[0].expected)
    if not 2 <= len(names) <= MAX_AXES or runs[0].what != "result":
        return None
    for order in itertools.permutations(names):
        moved = [name for name, source in zip(names, order, strict=True) if name != source]
        if moved and all(
            all(
                all_near(run.expected[source], run.got[name], run.tolerance)
                for name, source in zip(names, order, strict=True)
            )
            for run in runs
        ):
            if len(moved) == 2:
                return f"Your results are right, but {' and '.join(moved)} are swapped."
            places = ", ".join(
                f"{name} holds what {source} should"
                for name, source in zip(names, order, strict=True)
                if name != source
            )
            return f"Your results are right, but in another order: {places}."
    return None


def right_parts(runs: Sequence[Run]) -> str | None:
    """Return which results are right, if some are and the others are not."""
    names = list(runs[0].expected)
    if any(list(run.expected) != names or run.what != "result" for run in runs):
        return None
    wrong = [name for name in names if any(name in run.wrong for run in runs)]
    right = [name for name in names if name not in wrong]
    if not wrong or not right or len(names) > MAX_AXES:
        return None
    return f"{listed(right)} {'is' if len(right) == 1 else 'are'} right; look at {listed(wrong)}."
