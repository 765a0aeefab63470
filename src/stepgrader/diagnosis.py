"""Describe in words how a wrong result differs from the expected one, if no known mistake fits.

A description is a relation between the two, such as "the negative" or "right up to step 3". It is
given if it holds in every visible case that fails, or in all of the first property that does, and
if enough different numbers bear it out. Anything less would mislead.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stepgrader.differences import as_numbers, listed, near, short_number
from stepgrader.steps import CompiledStep
from stepgrader.worker.values import decode

__all__ = ["Pair", "describe", "explain", "numeric_parts"]

MAX_AXES = 5
MAX_SIZE = 20_000  # numbers of an array
MAX_SLICES = 50  # along an axis, of which the order is compared
EVIDENCE = 2  # different numbers that must agree, beside those that a relation is fitted to
MANY = 12  # different numbers that lie in a range, and not by chance


@dataclass(frozen=True)
class Pair:
    """An expected array, the one that an answer gave, and what the answer was given.

    Args:
        expected: The expected array.
        got: The array that the answer returned.
        inputs: Arguments and parameters, by the name that a description gives them.
        others: The other expected results of the same call, by their names.

    Example:
        >>> numbers = np.array([1.0, 2.0, 3.0])
        >>> describe([Pair(numbers, -numbers)])
        'the negative of what is expected'
    """

    expected: np.ndarray
    got: np.ndarray
    inputs: Mapping[str, np.ndarray] = field(default_factory=dict)
    others: Mapping[str, np.ndarray] = field(default_factory=dict)


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
            return _explain(step, outcomes)
    except (ArithmeticError, AttributeError, LookupError, MemoryError, TypeError, ValueError):
        return None  # an outcome can't be read, or is too large; the verdict needs no hint


def _explain(step: CompiledStep, outcomes: Sequence[dict[str, Any]]) -> str | None:
    runs = [
        _Run(case, outcome, step.tolerance)
        for case, outcome in zip(step.cases, outcomes, strict=True)
        if not case["hidden"]
    ]
    failing = [run for run in runs if run.fails]
    if not failing:
        return None
    if failing[0].raised:
        return _of_errors([run.error for run in failing if run.raised])
    failing = [run for run in failing if not run.raised]
    if text := _swapped(failing) or _partly_known(step, runs) or _of_runs(failing):
        return text
    first = failing[0].property
    some = [run for run in failing if run.property == first]
    if len(some) < len(failing) and (text := _swapped(some) or _of_runs(some)):
        return f"With {first}: {text[0].lower()}{text[1:]}"
    return _right_parts(failing)


NO_FIT = re.compile(r"shapes cannot be multiplied \((\d+)x(\d+) and (\d+)x(\d+)\)")
INDEX = re.compile(r"index (\d+) is out of bounds for (?:dimension|axis) \d+ with size (\d+)")
ERRORS = {
    "numpy() on Tensor that requires grad": "Gradients can't flow through NumPy: stay with torch.",
    "modified by an inplace operation": "You overwrite a tensor that the gradient still needs: "
    "build a new one instead of changing it in place.",
    "leaf Variable that requires grad": "You change a parameter in place: compute a new tensor.",
}


def _of_errors(messages: Sequence[str]) -> str | None:
    """Return what errors of torch or NumPy mean, if all that were raised mean the same.

    They come from an answer's own code on visible cases.
    """
    meanings = {_of_error(message) for message in messages}
    return meanings.pop() if len(meanings) == 1 else None


def _of_error(message: str) -> str | None:
    if match := NO_FIT.search(message):
        rows, inner, outer, columns = map(int, match.groups())
        if inner == columns != outer:
            return "A matrix product does not fit; with the second matrix transposed it would."
        if rows == outer != inner:
            return "A matrix product does not fit; with the first matrix transposed it would."
    if (match := INDEX.search(message)) and match[1] == match[2]:
        return "An index is one too large: the last entry has the index size - 1."
    return next((text for part, text in ERRORS.items() if part in message), None)


class _Run:
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
                if isinstance(array := _array(decode(value)), np.ndarray):
                    self.inputs[f"{prefix} {name}"] = array

    def _is_right(self, name: str) -> bool:
        return _equal(self.expected[name], self.got.get(name), self.tolerance)

    def pair(self, name: str) -> Pair:
        others = {
            other: array for other, array in self.expected.items() if other != name and array.size
        }
        return Pair(self.expected[name], self.got[name], self.inputs, others)


def numeric_parts(value: Any, name: str = "result") -> Iterator[tuple[str, np.ndarray]]:
    """Yield each array of numbers in a result with its name.

    Example:
        >>> [name for name, array in numeric_parts((1.5, np.ones(2)))]
        ['result[0]', 'result[1]']
    """
    if isinstance(value, dict):
        for key, item in value.items():
            yield from numeric_parts(item, f"{name}[{key!r}]")
    elif (array := _array(value)) is not None and not _holds_arrays(value):
        yield name, array
    elif isinstance(value, (list, tuple)):
        for number, item in enumerate(value):
            yield from numeric_parts(item, f"{name}[{number}]")


def _holds_arrays(value: Any) -> bool:
    """Return whether a value is several results: a tuple, or a list of arrays."""
    if isinstance(value, tuple):
        return True
    return isinstance(value, list) and any(isinstance(item, np.ndarray) for item in value)


def _array(value: Any) -> np.ndarray | None:
    """Return numbers as an array; None for anything else, and for too many of them."""
    if value is None or isinstance(value, (str, dict)) or (array := as_numbers(value)) is None:
        return None
    return array if array.ndim <= MAX_AXES and array.size <= MAX_SIZE else None


def _equal(expected: np.ndarray, got: Any, tolerance: float) -> bool:
    if not isinstance(got, np.ndarray) or expected.shape != got.shape:
        return False
    if (expected.dtype == bool) != (got.dtype == bool):
        return False
    return bool(near(expected.astype(float), got.astype(float), tolerance).all())


# -- Several results, and known mistakes in some of them


def _partly_known(step: CompiledStep, runs: Sequence[_Run]) -> str | None:
    """Return the message of a mistake that accounts for one of several results in every case."""
    if any(run.what != "result" for run in runs):
        return None
    for name in dict.fromkeys(name for run in runs for name in run.wrong):
        pairs = [run.pair(name) for run in runs if name in run.wrong and name in run.got]
        if _count(pairs) <= EVIDENCE + 1:
            continue
        numbers = [
            number
            for number in range(len(step.mistakes))
            if all(_agrees(run, name, run.mistakes[number]) for run in runs)
        ]
        if numbers:  # take the one that differs least in the other results
            number = min(numbers, key=lambda n: sum(_others(run, name, n) for run in runs))
            return (
                f"{name} is that of a known mistake, which may be yours in part: "
                f"{step.mistakes[number]}"
            )
    return None


def _agrees(run: _Run, name: str, mistake: dict[str, Any]) -> bool:
    """Return whether a result is that of a mistake."""
    if "raised" in mistake:
        return False
    if "returned" not in mistake:  # the mistake has the expected results here
        return name not in run.wrong
    parts = dict(numeric_parts(decode(mistake["returned"])))
    if name not in parts or not _equal(parts[name], run.got.get(name), run.tolerance):
        return False
    # What another result should be is no sign of this mistake.
    others = (array for other, array in run.expected.items() if other != name)
    return not any(_equal(array, parts[name], run.tolerance) for array in others)


def _others(run: _Run, name: str, number: int) -> int:
    """Return in how many other results an answer differs from a mistake."""
    if "returned" not in run.mistakes[number]:
        return len(run.wrong)
    parts = dict(numeric_parts(decode(run.mistakes[number]["returned"])))
    return sum(
        not _equal(array, run.got.get(other), run.tolerance)
        for other, array in parts.items()
        if other != name
    )


def _of_runs(runs: Sequence[_Run]) -> str | None:
    """Return a sentence on the results that are wrong in these cases."""
    first = runs[0]
    if any(run.what != first.what for run in runs):
        return None
    if any(run.expected.keys() != run.got.keys() for run in runs):
        return _of_form(runs)
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


def _of_form(runs: Sequence[_Run]) -> str | None:
    """Return what is right of results that have another form than the expected ones."""
    if any(not run.got or run.what != "result" for run in runs):
        return None
    for relation, text in (
        (_is_joined, "Your numbers are right, but their form is not: see what is expected below."),
        (_has_all, "All that is expected is among your results, but you return more than that."),
        (_has_some, "What you return is right, but some of the results are missing."),
    ):
        if all(relation(run) for run in runs):
            return text
    return None


def _is_joined(run: _Run) -> bool:
    """Return whether the numbers of all results are right, one after the other or stacked."""
    parts, got = (
        [array.astype(float) for array in arrays.values()] for arrays in (run.expected, run.got)
    )
    ours, theirs = (np.concatenate([array.ravel() for array in each]) for each in (parts, got))
    if _equal(ours, theirs, run.tolerance):
        return True
    if len(got) > 1 or any(array.shape != parts[0].shape for array in parts):
        return False
    stacks = (np.stack(parts, axis) for axis in range(parts[0].ndim + 1))
    return any(_equal(stack, got[0], run.tolerance) for stack in stacks)


def _has_all(run: _Run) -> bool:
    return len(run.got) > len(run.expected) and all(
        any(_equal(array, got, run.tolerance) for got in run.got.values())
        for array in run.expected.values()
    )


def _has_some(run: _Run) -> bool:
    return len(run.got) < len(run.expected) and all(
        any(_equal(array, got, run.tolerance) for array in run.expected.values())
        for got in run.got.values()
    )


def _swapped(runs: Sequence[_Run]) -> str | None:
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
                _equal(run.expected[source], run.got[name], run.tolerance)
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


def _right_parts(runs: Sequence[_Run]) -> str | None:
    """Return which results are right, if some are and the others are not."""
    names = list(runs[0].expected)
    if any(list(run.expected) != names or run.what != "result" for run in runs):
        return None
    wrong = [name for name in names if any(name in run.wrong for run in runs)]
    right = [name for name in names if name not in wrong]
    if not wrong or not right or len(names) > MAX_AXES:
        return None
    return f"{listed(right)} {'is' if len(right) == 1 else 'are'} right; look at {listed(wrong)}."


# -- One result


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
        context = _Context(pairs, tolerance)
        same = all(pair.expected.shape == pair.got.shape for pair in pairs)
        if any((pair.expected.dtype == bool) != (pair.got.dtype == bool) for pair in pairs):
            if all(
                np.array_equal(pair.expected.astype(float), pair.got.astype(float))
                for pair in pairs
            ):
                kind = "numbers" if context.is_truth else "True and False"
                return f"right but for its type: yours holds {kind}"
            return None
        if context.is_truth and context.evidence < EVIDENCE:
            return None
        for find in SAME_SHAPE if same else OTHER_SHAPE:
            if text := find(context):
                return text
    return None


def _count(pairs: Sequence[Pair]) -> int:
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


class _Context:
    """Pairs of one result, with what the relations ask of them."""

    def __init__(self, pairs: Sequence[Pair], tolerance: float):
        self.pairs = pairs
        self.tolerance = tolerance
        self.is_truth = pairs[0].expected.dtype == bool
        # Whole numbers agree by chance more often than others.
        self.evidence = _count(pairs) - (not self.is_truth and _are_whole(pairs))
        self.axes = min(min(p.expected.ndim, p.got.ndim) for p in pairs)

    def equal(self, expected: Any, got: Any) -> bool:
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


def _elementwise(context: _Context) -> str | None:
    equal = context.equal
    if context.is_truth:
        if context.hold(lambda e, g: bool((e != g).all())):
            return "True where False is expected, and the reverse"
        for value in (True, False):
            if all((pair.got == value).all() for pair in context.pairs):
                return f"{value} everywhere"
        return None
    if context.hold(lambda e, g: equal(-e, g)):
        return "the negative of what is expected"
    first = context.pairs[0].got.flat[0]
    if context.hold(lambda e, g: bool((g == first).all()), 1):
        return f"{short_number(first)} everywhere"
    if context.hold(lambda e, g: equal(1 - e, g)):
        return "one minus what is expected"
    for name, function, needed in FUNCTIONS:
        if context.hold(lambda e, g, f=function: equal(f(e), g), needed):  # type: ignore[misc]
            return f"{name} of what is expected"
        if context.hold(lambda e, g, f=function: equal(e, f(g)), needed):  # type: ignore[misc]
            return f"a value of which {name} is expected"
    return None


def _softmax(values: np.ndarray, axis: int = -1) -> np.ndarray:
    powers = np.exp(values - values.max(axis=axis, keepdims=True))
    return np.asarray(powers / powers.sum(axis=axis, keepdims=True))


# A name, the function, and how many more numbers it takes to bear it out.
FUNCTIONS: list[tuple[str, Callable[[np.ndarray], np.ndarray], int]] = [
    ("the inverse (1 / x)", lambda x: 1 / x, 0),
    ("the square", np.square, 0),
    ("the square root", np.sqrt, 0),
    ("the logarithm", np.log, 0),
    ("the base-2 logarithm", np.log2, 0),
    ("the negative logarithm", lambda x: -np.log(x), 0),
    ("the sigmoid", lambda x: 1 / (1 + np.exp(-x)), 0),
    ("tanh", np.tanh, 0),
    ("the absolute value", np.abs, 1),
    ("the positive part", lambda x: np.maximum(x, 0), 1),
    ("the softmax", lambda x: _softmax(x) if x.ndim else np.full(x.shape, np.nan), 1),
]


def _not_finite(context: _Context) -> str | None:
    """Return where there is nan or infinity."""
    if context.is_truth:
        return None
    places = [np.isnan(p.got) & ~np.isnan(p.expected) for p in context.pairs]
    what = "nan"
    if not any(place.any() for place in places):
        what = "infinite"
        places = [np.isinf(p.got) & np.isfinite(p.expected) for p in context.pairs]
    if not all(place.any() for place in places):
        return None
    if all(place.all() for place in places):
        return f"{what} everywhere"
    for name, region in _input_regions(context):
        if all(np.array_equal(place, area) for place, area in zip(places, region, strict=True)):
            return f"{what} {name}"
    rest = all(
        (near(p.expected.astype(float), p.got.astype(float), context.tolerance) | place).all()
        for p, place in zip(context.pairs, places, strict=True)
    )
    return f"right except where it is {what}" if rest else None


def _proportional(context: _Context) -> str | None:
    """Return a constant factor between expected and got."""
    if context.is_truth:
        return None
    factors = []
    for pair in context.pairs:
        expected, got = pair.expected.astype(float).ravel(), pair.got.astype(float).ravel()
        if not (np.isfinite(expected) & np.isfinite(got)).all() or not expected.any():
            return None
        factor = got[np.abs(expected).argmax()] / expected[np.abs(expected).argmax()]
        if not factor or not context.equal(factor * expected, got):
            return None
        factors.append(float(factor))
    same = all(math.isclose(factor, factors[0], rel_tol=1e-4) for factor in factors)
    if same:
        if context.evidence < EVIDENCE + 1:
            return None
        return f"{_factor(factors[0])} times what is expected"
    for name, sizes in _sizes(context):
        for text, function in POWERS:
            values = [function(size) for size in sizes]
            if all(math.isclose(*pair, rel_tol=1e-4) for pair in zip(values, factors, strict=True)):
                return f"what is expected {text.format(name)}"
    own = all(_count([pair]) > EVIDENCE + 1 for pair in context.pairs)
    return "what is expected times a factor, another in each case" if own else None


CONSTANTS = {
    "ln 2": math.log(2),
    "1 / ln 2": 1 / math.log(2),
    "pi": math.pi,
    "ln 2 / ln 10": math.log10(2),
} | {f"1/{n}": 1 / n for n in range(3, 13)}
POWERS: list[tuple[str, Callable[[float], float]]] = [
    ("times {}", lambda n: n),
    ("divided by {}", lambda n: 1 / n if n else 0),
    ("times the square root of {}", lambda n: math.sqrt(abs(n))),
    ("divided by the square root of {}", lambda n: 1 / math.sqrt(abs(n)) if n else 0),
    ("times n / (n - 1), n being {}", lambda n: n / (n - 1) if n != 1 else 0),
    ("times (n - 1) / n, n being {}", lambda n: (n - 1) / n if n else 0),
]


def _factor(value: float) -> str:
    for name, constant in CONSTANTS.items():
        if math.isclose(value, constant, rel_tol=1e-4):
            return f"{short_number(value)} ({name})"
    return short_number(value)


def _sizes(context: _Context) -> Iterator[tuple[str, list[float]]]:
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


def _shifted_by(context: _Context) -> str | None:
    """Return a constant that was added."""
    if context.is_truth or context.evidence < EVIDENCE + 1:
        return None
    shift = float((context.pairs[0].got - context.pairs[0].expected.astype(float)).flat[0])
    if context.hold(lambda e, g: context.equal(e + shift, g), 1):
        return f"{short_number(abs(shift))} too {'large' if shift > 0 else 'small'} everywhere"
    return None


def _argument(context: _Context) -> str | None:
    """Return an argument or parameter by which expected and got differ."""
    if context.is_truth or context.evidence <= EVIDENCE:
        return None
    for name in context.names():
        if context.equal_to([pair.inputs[name] for pair in context.pairs]):
            return f"just {name}"
    for name in context.names():
        for text, relation in WITH_ARGUMENT:
            if all(_holds_with(context, pair, name, relation) for pair in context.pairs):
                return text.format(name)
    return None


def _holds_with(
    context: _Context,
    pair: Pair,
    name: str,
    relation: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> bool:
    argument = pair.inputs[name]
    if argument.dtype.kind not in "fiu" or not argument.any() or np.all(argument == 1):
        return False
    for shaped in _aligned(argument, pair.expected.shape):
        if context.equal(relation(pair.expected.astype(float), shaped), pair.got):
            return True
    return False


def _aligned(array: np.ndarray, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """Yield an array spread over a shape, its axes at the end or at the beginning of those."""
    if array.ndim > len(shape):
        return
    missing = len(shape) - array.ndim
    for before in dict.fromkeys((missing, 0, *range(missing))):
        placed = array.reshape((1,) * before + array.shape + (1,) * (missing - before))
        if all(a in (1, b) for a, b in zip(placed.shape, shape, strict=True)):
            yield np.broadcast_to(placed, shape)


WITH_ARGUMENT: list[tuple[str, Callable[[np.ndarray, np.ndarray], np.ndarray]]] = [
    ("too small by exactly {0}: was that left out, or subtracted?", lambda e, a: e - a),
    ("too large by exactly {0}: was that added once too often?", lambda e, a: e + a),
    ("too small by twice {0}: does that have the right sign and factor?", lambda e, a: e - 2 * a),
    ("too large by twice {0}: does that have the right sign and factor?", lambda e, a: e + 2 * a),
    ("right but for a sign: it lies on the other side of {0}", lambda e, a: 2 * a - e),
    ("right when multiplied by {0}: was that left out?", lambda e, a: e / a),
    ("right when divided by {0}: was that left out?", lambda e, a: e * a),
]


def _another_result(context: _Context) -> str | None:
    """Return which other expected result, or its first or last step, was returned."""
    if context.evidence <= EVIDENCE:
        return None
    for name in context.pairs[0].others:
        others = [pair.others.get(name) for pair in context.pairs]
        if any(other is None for other in others):
            continue
        arrays = [other for other in others if other is not None]
        if context.equal_to(arrays):
            return f"what {name} should be"
        for axis in range(min(array.ndim for array in arrays)):
            for place, index in (("last", -1), ("first", 0)):
                if context.equal_to([array.take(index, axis) for array in arrays]):
                    return f"the {place} entry along axis {axis} of {name}"
    return None


def _moved(context: _Context) -> str | None:
    """Return another order of the same numbers."""
    equal = context.equal
    for first, second in itertools.combinations(range(context.axes), 2):
        if context.hold(lambda e, g, a=first, b=second: equal(e.swapaxes(a, b), g), 1):  # type: ignore[misc]
            return f"right but transposed: its axes {first} and {second} are swapped"
    for axis in range(context.axes):
        where = f" along axis {axis}" if context.axes > 1 else ""
        if context.hold(lambda e, g, a=axis: equal(np.flip(e, a), g), 1):  # type: ignore[misc]
            return f"right but in reversed order{where}"
        for blocks in (0, 2, 3, 4):
            orders = [_order(context, pair, axis, blocks) for pair in context.pairs]
            if context.evidence > EVIDENCE + 1 and all(orders):
                what = "its parts" if not blocks else f"the {blocks} blocks"
                same = orders[0] if orders.count(orders[0]) == len(orders) else None
                order = f": they are {', '.join(map(str, same))}" if same else ""
                return f"right, but {what}{where} are in another order{order}"
        for steps in (1, -1):
            if _is_shifted(context, axis, steps):
                late = "late" if steps > 0 else "early"
                return f"right, but one place too {late}{where}"
    if context.evidence > EVIDENCE + 2 and all(_same_numbers(context, p) for p in context.pairs):
        return "made of the right numbers, in other places"
    return None


def _order(context: _Context, pair: Pair, axis: int, blocks: int) -> list[int] | None:
    """Return the order of the expected slices or blocks in what was returned; None if no order."""
    length = pair.expected.shape[axis]
    count = blocks or length
    if length % count or not 2 <= count <= min(length, MAX_SLICES) or (blocks and length == blocks):
        return None
    expected, got = (np.split(array, count, axis) for array in (pair.expected, pair.got))
    order = []
    for part in got:
        found = [n for n, one in enumerate(expected) if n not in order and context.equal(one, part)]
        if not found:
            return None
        order.append(found[0])
    return order


def _is_shifted(context: _Context, axis: int, steps: int) -> bool:
    """Return whether what was returned is the expected, moved by a number of steps."""
    seen: set[float] = set()
    for pair in context.pairs:
        length = pair.expected.shape[axis]
        if length < 2:
            return False
        early, late = range(length - 1), range(1, length)
        source, target = (early, late) if steps > 0 else (late, early)
        moved = pair.expected.take(source, axis)
        if not context.equal(moved, pair.got.take(target, axis)):
            return False
        seen.update(moved.astype(float).round(6).ravel().tolist())
    if context.is_truth:
        return sum(pair.expected.size for pair in context.pairs) >= MANY
    return len(seen - {0.0}) > EVIDENCE and context.evidence > EVIDENCE


def _same_numbers(context: _Context, pair: Pair) -> bool:
    return not context.is_truth and context.equal(
        np.sort(pair.expected, axis=None), np.sort(pair.got, axis=None)
    )


# -- Where a result is right


def _region(context: _Context) -> str | None:
    """Return the part of a result that alone is wrong."""
    close = [
        near(p.expected.astype(float), p.got.astype(float), context.tolerance)
        for p in context.pairs
    ]
    for name, region in itertools.chain(_input_regions(context), _axis_regions(context, close)):
        pairs = zip(close, region, strict=True)
        if all((right | area).all() for right, area in pairs) and _is_right_outside(
            context, region
        ):
            wanted = "" if name.endswith("expected") else _wanted_there(context, close)
            return f"right except {name}{wanted}"
    return None


def _is_right_outside(context: _Context, region: Sequence[np.ndarray]) -> bool:
    """Return whether more is right outside of a region than a few zeros."""
    values = [p.expected[~area] for p, area in zip(context.pairs, region, strict=True)]
    if context.is_truth:
        enough = sum(value.size for value in values) >= MANY
        return enough and all(value.any() and not value.all() for value in values)
    numbers = {float(x) for value in values for x in value.astype(float).round(6)} - {0.0}
    return len(numbers) > EVIDENCE and all(value.size for value in values)


def _wanted_there(context: _Context, close: Sequence[np.ndarray]) -> str:
    """Return what is expected where a result is wrong, if that is one number."""
    wanted = {
        float(x)
        for p, right in zip(context.pairs, close, strict=True)
        for x in p.expected[~right].astype(float)
    }
    if (
        len(wanted) != 1
        or not wanted <= {0.0, 1.0}
        or sum(int((~right).sum()) for right in close) < EVIDENCE
    ):
        return ""
    (value,) = wanted
    shown = str(bool(value)) if context.is_truth else short_number(value)
    return f"; there, {shown} is expected"


Regions = Iterator[tuple[str, list[np.ndarray]]]


def _input_regions(context: _Context) -> Regions:
    """Yield parts of a result that a mask or lengths single out."""
    shapes = [pair.expected.shape for pair in context.pairs]
    for name in context.names():
        arrays = [pair.inputs[name] for pair in context.pairs]
        if all(array.dtype == bool and array.ndim for array in arrays):
            empty = [np.logical_not(array.any(-1, keepdims=True)) for array in arrays]
            candidates: list[tuple[str, list[np.ndarray]]] = [
                (f"in the rows of {name} that are all False", empty),
                (f"where {name} is False", [np.logical_not(array) for array in arrays]),
                (f"where {name} is True", arrays),
            ]
            for text, masks in candidates:
                placed = [
                    list(_aligned(mask, shape)) for mask, shape in zip(masks, shapes, strict=True)
                ]
                for number in range(min(len(options) for options in placed)):
                    yield text, [options[number] for options in placed]
        if all(array.dtype.kind == "i" and array.ndim == 1 for array in arrays):
            for axis in (1, -1):
                beyond = [
                    _beyond(array, shape, axis) for array, shape in zip(arrays, shapes, strict=True)
                ]
                areas = [area for area in beyond if area is not None]
                if len(areas) == len(beyond):
                    yield f"beyond {name}, in the padding", areas
            if _is_by_row(context, name):
                rows = [array < array.max() for array in arrays]
                yield (
                    f"in the rows for which {name} is not the largest",
                    [
                        np.broadcast_to(row.reshape((-1,) + (1,) * (len(shape) - 1)), shape)
                        for row, shape in zip(rows, shapes, strict=True)
                    ],
                )


def _is_by_row(context: _Context, name: str) -> bool:
    """Return whether an input has a whole number, such as a length, for each row of a result."""
    return all(
        pair.inputs[name].dtype.kind == "i"
        and pair.inputs[name].ndim == 1
        and pair.expected.ndim > 0
        and len(pair.inputs[name]) == len(pair.expected)
        for pair in context.pairs
    )


def _beyond(lengths: np.ndarray, shape: tuple[int, ...], axis: int) -> np.ndarray | None:
    if len(shape) < 2 or shape[0] != len(lengths) or not lengths.min() >= 0:
        return None
    if lengths.max() > shape[axis]:
        return None
    steps = np.arange(shape[axis])
    spread = [1] * len(shape)
    spread[axis] = len(steps)
    padding = steps.reshape(spread) >= lengths.reshape((-1,) + (1,) * (len(shape) - 1))
    return np.broadcast_to(padding, shape)


def _axis_regions(context: _Context, close: Sequence[np.ndarray]) -> Regions:
    """Yield first and last slices along each axis, and all from a step on."""
    shapes = [pair.expected.shape for pair in context.pairs]
    for axis in range(context.axes):
        shortest = min(shape[axis] for shape in shapes)
        where = f" along axis {axis}" if context.axes > 1 else ""
        if shortest < 2:
            continue
        if not axis and any(_is_by_row(context, name) for name in context.names()):
            continue  # the rows are examples, and their order is chance
        index = [
            np.broadcast_to(
                np.arange(s[axis]).reshape([-1 if n == axis else 1 for n in range(len(s))]), s
            )
            for s in shapes
        ]
        ends = [shape[axis] - 1 for shape in shapes]
        regions = [
            (f"for the first entry{where}", [i == 0 for i in index]),
            (f"for the last entry{where}", [i == n for i, n in zip(index, ends, strict=True)]),
        ]
        if shortest > 2:
            places = [np.argwhere(~right)[:, axis] for right in close]
            first = {int(place.min()) for place in places}
            last = {int(place.max()) for place in places}
            if len(first) == 1:
                start = min(first)
                regions.append((f"from index {start}{where} on", [i >= start for i in index]))
            if len(last) == 1:
                end = min(last)
                regions.append((f"up to index {end}{where}", [i <= end for i in index]))
        for count in (2, 3, 4):
            if all(shape[axis] % count == 0 and shape[axis] > count for shape in shapes):
                for number in range(count):
                    areas = [
                        i * count // shape[axis] == number
                        for i, shape in zip(index, shapes, strict=True)
                    ]
                    regions.append((f"in block {number + 1} of {count}{where}", areas))
        for name, areas in regions:
            if all(
                (~right & area).any(tuple(n for n in range(right.ndim) if n != axis)).sum()
                == area.any(tuple(n for n in range(right.ndim) if n != axis)).sum()
                for right, area in zip(close, areas, strict=True)
            ):  # something is wrong in each slice of the region
                yield name, areas
    if context.axes >= 2 and all(shape[-1] == shape[-2] > 1 for shape in shapes):
        grids = [np.indices(shape)[-2:] for shape in shapes]
        yield "on the diagonal of the last two axes", [row == column for row, column in grids]
        yield "above the diagonal of the last two axes", [row < column for row, column in grids]
        yield "below the diagonal of the last two axes", [row > column for row, column in grids]
    wanted = {
        float(x) for p, right in zip(context.pairs, close, strict=True) for x in p.expected[~right]
    }
    if len(wanted) == 1 and not context.is_truth:
        (value,) = wanted
        areas = [pair.expected == value for pair in context.pairs]
        if not any((right & area).any() for right, area in zip(close, areas, strict=True)):
            yield f"where {short_number(value)} is expected", areas


def _sums(context: _Context) -> str | None:
    """Return which axis the numbers should sum to one over."""
    if context.is_truth or context.evidence <= EVIDENCE + 1:
        return None
    for axis in range(-1, -context.axes - 1, -1):
        if context.hold(lambda e, g, a=axis: context.equal(e, g / g.sum(a, keepdims=True)), 1):  # type: ignore[misc]
            return f"right when divided by its sum over axis {axis % context.axes}"
    numbers = np.concatenate([pair.expected.astype(float).ravel() for pair in context.pairs])
    if len(np.unique(numbers[(numbers > 0) & (numbers < 1)].round(6))) <= EVIDENCE:
        return None
    for axis in range(-1, -context.axes - 1, -1):
        if not all(_sum_to_one(pair.expected, axis) for pair in context.pairs):
            continue
        if any(_sum_to_one(pair.got, axis) for pair in context.pairs):
            return None
        for other in range(-1, -context.axes - 1, -1):
            if all(_sum_to_one(pair.got, other) for pair in context.pairs):
                return (
                    f"normalised over the wrong axis: its numbers sum to one over axis "
                    f"{other % context.axes}, the expected ones over axis {axis % context.axes}"
                )
        return (
            f"not normalised: the expected numbers sum to one over axis {axis % context.axes}, "
            "these do not"
        )
    return None


def _bounded(context: _Context) -> str | None:
    """Return that numbers lie outside of the range of a probability or gate."""
    if context.is_truth:
        return None
    numbers = np.concatenate([pair.expected.astype(float).ravel() for pair in context.pairs])
    if len(np.unique(numbers.round(6))) < MANY:
        return None  # it may be chance
    outside = [bool(((pair.got < 0) | (pair.got > 1)).any()) for pair in context.pairs]
    if ((numbers > 0) & (numbers < 1)).all() and all(outside):
        return "partly outside of the range from 0 to 1, in which the expected numbers lie"
    return None


def _sum_to_one(array: np.ndarray, axis: int) -> bool:
    """Return whether numbers sum to one over an axis. Where they may not, all are zero."""
    sums = array.astype(float).sum(axis)
    ones = np.abs(sums - 1) < 1e-4
    zeros = (array == 0).all(axis)
    return bool(
        (ones | zeros).all() and ones.any() and (array >= 0).all() and array.shape[axis] > 1
    )


# -- Another shape


def _reshaped(context: _Context) -> str | None:
    equal = context.equal
    if context.hold(lambda e, g: e.size == g.size and equal(e.squeeze(), g.squeeze())):
        return "right except for an axis of length 1 that is missing or too many"
    ndim = context.pairs[0].got.ndim
    if all(pair.expected.ndim == pair.got.ndim == ndim for pair in context.pairs):
        for order in itertools.permutations(range(ndim)):
            if context.hold(lambda e, g, o=order: equal(e.transpose(o), g)):  # type: ignore[misc]
                listed = ", ".join(map(str, order))
                return f"right but transposed: its axes are in the order {listed}"
    if context.hold(lambda e, g: equal(e.ravel(), g.ravel())):
        return "right except for its shape: the numbers are right and in the right order"
    return None


REDUCTIONS: list[tuple[str, Callable[[np.ndarray, int], np.ndarray]]] = [
    ("the sum", lambda x, axis: x.sum(axis)),
    ("the mean", lambda x, axis: x.mean(axis)),
    ("the last entry", lambda x, axis: x.take(-1, axis)),
    ("the first entry", lambda x, axis: x.take(0, axis)),
    ("the maximum", lambda x, axis: x.max(axis)),
]


def _reduced(context: _Context) -> str | None:
    """Return a sum, mean or end over an axis that was taken or not taken."""
    axes = [min(getattr(p, part).ndim for p in context.pairs) for part in ("expected", "got")]
    for name, reduce in REDUCTIONS:
        for axis in range(axes[0]):
            if context.hold(lambda e, g, r=reduce, a=axis: context.equal(r(e, a), g)):  # type: ignore[misc]
                return f"{name} along axis {axis} of what is expected"
        for axis in range(axes[1]):
            if context.hold(lambda e, g, r=reduce, a=axis: context.equal(e, r(g, a))):  # type: ignore[misc]
                return f"right but for one operation: return {name} along axis {axis}"
    return None


def _longer(context: _Context) -> str | None:
    """Return slices that are too many or too few along an axis."""
    for axis in range(context.axes):
        where = f" along axis {axis}" if context.axes > 1 else ""
        for text, has_more, from_start in (
            ("too many at the beginning", True, True),
            ("too many at the end", True, False),
            ("missing at the beginning", False, True),
            ("missing at the end", False, False),
        ):
            counts = [_surplus(context, p, axis, has_more, from_start) for p in context.pairs]
            if all(counts) and context.evidence >= EVIDENCE:
                count = counts[0] if counts.count(counts[0]) == len(counts) else "some"
                what = "1 entry" if count == 1 else f"{count} entries"
                return f"right except for {what} {text}{where}"
    return None


def _surplus(
    context: _Context, pair: Pair, axis: int, has_more: bool, from_start: bool
) -> int | None:
    """Return how many slices a result has too many or too few, if the others are right."""
    longer, shorter = pair.got, pair.expected
    if not has_more:
        longer, shorter = shorter, longer
    if longer.ndim != shorter.ndim:
        return None
    length = shorter.shape[axis]
    count = longer.shape[axis] - length
    kept = range(count, count + length) if from_start else range(length)
    return count if count > 0 and context.equal(longer.take(kept, axis), shorter) else None


Finder = Callable[[_Context], str | None]
SAME_SHAPE: list[Finder] = [
    _not_finite,
    _elementwise,
    _another_result,
    _argument,
    _proportional,
    _shifted_by,
    _moved,
    _region,
    _sums,
    _bounded,
]
OTHER_SHAPE: list[Finder] = [_another_result, _reshaped, _longer, _reduced]
