"""Expected and returned arrays, and how much evidence they hold for a relation between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stepgrader.differences import as_numbers, near

__all__ = [
    "EVIDENCE",
    "MANY",
    "MAX_AXES",
    "Context",
    "Pair",
    "aligned",
    "all_near",
    "as_array",
    "count_wrong",
    "numeric_parts",
    "sizes",
]

MAX_AXES = 5
"""Largest number of axes of the arrays that are compared."""

MAX_SIZE = 20_000  # numbers of an array

EVIDENCE = 2
"""How many different numbers must agree, beside those that a relation is fitted to."""

MANY = 12
"""How many different numbers do not lie in a range by chance."""


@dataclass(frozen=True)
class Pair:
    """An expected array, the one that an answer gave, and what the answer was given.

    Args:
        expected: The expected array, of any shape ``(...)``, as are the others.
        got: The array that the answer returned.
        inputs: Arguments and parameters, by the name that a description gives them.
        others: The other expected results of the same call, by their names.

    Example:
        >>> numbers = np.array([1.0, 2.0, 3.0])
        >>> Context([Pair(numbers, -numbers)], tolerance=1e-5).evidence
        2
    """

    expected: np.ndarray
    got: np.ndarray
    inputs: Mapping[str, np.ndarray] = field(default_factory=dict)
    others: Mapping[str, np.ndarray] = field(default_factory=dict)


def numeric_parts(value: Any, name: str = "result") -> Iterator[tuple[str, np.ndarray]]:
    """Yield each array of numbers ``(...)`` in a result with its name.

    Example:
        >>> [name for name, array in numeric_parts((1.5, np.ones(2)))]
        ['result[0]', 'result[1]']
    """
    if isinstance(value, dict):
        for key, item in value.items():
            yield from numeric_parts(item, f"{name}[{key!r}]")
    elif (array := as_array(value)) is not None and not _holds_arrays(value):
        yield name, array
    elif isinstance(value, (list, tuple)):
        for number, item in enumerate(value):
            yield from numeric_parts(item, f"{name}[{number}]")


def _holds_arrays(value: Any) -> bool:
    """Return whether a value is several results: a tuple, or a list of arrays."""
    if isinstance(value, tuple):
        return True
    return isinstance(value, list) and any(isinstance(item, np.ndarray) for item in value)


def as_array(value: Any) -> np.ndarray | None:
    """Return numbers as an array; None for anything else, and for too many of them."""
    if value is None or isinstance(value, (str, dict)) or (array := as_numbers(value)) is None:
        return None
    return array if array.ndim <= MAX_AXES and array.size <= MAX_SIZE else None


def all_near(expected: np.ndarray, got: Any, tolerance: float) -> bool:
    """Return whether an array was returned, of the expected shape and numbers.

    Example:
        >>> all_near(np.ones(2), np.ones(2), 1e-5), all_near(np.ones(2), np.ones(3), 1e-5)
        (True, False)
    """
    if not isinstance(got, np.ndarray) or expected.shape != got.shape:
        return False
    if (expected.dtype == bool) != (got.dtype == bool):
        return False
    return bool(near(expected.astype(float), got.astype(float), tolerance).all())


def count_wrong(pairs: Sequence[Pair]) -> int:
    """Return how many different numbers are wrong, of truth values half as many as differ.

    A number that takes the place of another and the reverse count once.
    """
    seen: set[tuple[float, ...]] = set()
    truths = 0
    for pair in pairs:
        if pair.expected.shape != pair.got.shape:
            seen.update((number,) for number in pair.expected.astype(float).round(6).flat)
        elif pair.expected.dtype == bool:
            truths += int((pair.expected != pair.got).sum())
        else:
            both = (pair.expected, pair.got)
            first, second = (array.astype(float).round(6).ravel() for array in both)
            pairs_of_numbers = zip(first, second, strict=True)
            seen.update((min(a, b), max(a, b)) for a, b in pairs_of_numbers if a != b)
    return len(seen) + truths // 2


def _are_whole(pairs: Sequence[Pair]) -> bool:
    """Return whether all numbers are whole ones."""
    arrays = (array for pair in pairs for array in (pair.expected, pair.got))
    return all((array == np.round(array)).all() for array in arrays)


class Context:
    """Pairs of one result, with what the relations ask of them."""

    def __init__(self, pairs: Sequence[Pair], tolerance: float):
        self.pairs = pairs
        self.tolerance = tolerance
        self.is_truth = pairs[0].expected.dtype == bool
        # Whole numbers agree by chance more often than others.
        self.evidence = count_wrong(pairs) - (not self.is_truth and _are_whole(pairs))
        self.axes = min(min(p.expected.ndim, p.got.ndim) for p in pairs)

    def equal(self, expected: Any, got: Any) -> bool:
        """Return whether two arrays are near each other."""
        expected, got = np.asarray(expected, float), np.asarray(got, float)
        return expected.shape == got.shape and bool(near(expected, got, self.tolerance).all())

    def equal_to(self, arrays: Sequence[np.ndarray]) -> bool:
        """Return whether the answer returned these arrays, which are no truth values."""
        return all(
            array.dtype != bool and self.equal(array, pair.got)
            for array, pair in zip(arrays, self.pairs, strict=True)
        )

    def hold(self, relation: Callable[[np.ndarray, np.ndarray], bool], fitted: int = 0) -> bool:
        """Return whether a relation of expected and got holds in all cases, on enough numbers."""
        if self.evidence < EVIDENCE + fitted:
            return False
        return all(relation(pair.expected, pair.got) for pair in self.pairs)

    def names(self) -> list[str]:
        """Return the names of the inputs that all cases have."""
        return [name for name in self.pairs[0].inputs if all(name in p.inputs for p in self.pairs)]


def sizes(context: Context) -> Iterator[tuple[str, list[float]]]:
    """Yield numbers that a factor may come from: lengths of axes, and arguments."""
    for name in context.names():
        arrays = [pair.inputs[name] for pair in context.pairs]
        if all(array.ndim == 0 for array in arrays):
            yield name, [float(array) for array in arrays]
        axes = min(array.ndim for array in arrays)
        for axis in range(axes):
            of = f"the length of {name}" + (f" along axis {axis}" if axes > 1 else "")
            yield of, [float(array.shape[axis]) for array in arrays]
        yield f"the number of elements of {name}", [float(array.size) for array in arrays]


def aligned(array: np.ndarray, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """Yield an array spread over a shape, its axes at the end or at the beginning of those."""
    if array.ndim > len(shape):
        return
    missing = len(shape) - array.ndim
    for before in dict.fromkeys((missing, 0, *range(missing))):
        placed = array.reshape((1,) * before + array.shape + (1,) * (missing - before))
        if all(a in (1, b) for a, b in zip(placed.shape, shape, strict=True)):
            yield np.broadcast_to(placed, shape)
