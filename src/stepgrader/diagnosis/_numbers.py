"""Relations between the numbers of two arrays of one shape, such as a sign or a factor."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from stepgrader.diagnosis._pairs import EVIDENCE, MANY, Context, Pair, aligned, count_wrong, sizes
from stepgrader.diagnosis._places import input_regions
from stepgrader.differences import distinct_numbers, near, short_number

__all__ = [
    "another_result",
    "argument",
    "bounded",
    "elementwise",
    "not_finite",
    "proportional",
    "shifted_by",
    "squashed",
    "sums",
]

SQUASHED = 10  # times the tolerance, where the inverse of a sigmoid or tanh is taken


def elementwise(context: Context) -> str | None:
    """Return a function of one number that relates expected and got, such as the negative."""
    equal = context.equal
    if context.is_truth:
        if context.hold(lambda e, g: bool((e != g).all())):
            return "True where False is expected, and vice versa"
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
            return f"right except for a last step: {name} of it is expected"
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

# Functions that squash, and their inverses.
INVERSES: list[tuple[str, Callable[[np.ndarray], np.ndarray]]] = [
    ("the sigmoid", lambda x: np.log(x / (1 - x))),
    ("tanh", np.arctanh),
]


def squashed(context: Context) -> str | None:
    """Return an argument by which expected and got differ before they were squashed."""
    if context.is_truth:
        return None
    for name, inverse in INVERSES:
        pairs = [
            replace(pair, expected=inverse(pair.expected), got=inverse(pair.got))
            for pair in context.pairs
        ]
        if all(np.isfinite([pair.expected, pair.got]).all() for pair in pairs):
            inner = Context(pairs, context.tolerance * SQUASHED)
            if text := _difference_with_argument(inner):
                return f"{name} of something {text}"
    return None


def not_finite(context: Context) -> str | None:
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
    for name, region in input_regions(context):
        if all(np.array_equal(place, area) for place, area in zip(places, region, strict=True)):
            return f"{what} {name}"
    rest = all(
        (near(p.expected.astype(float), p.got.astype(float), context.tolerance) | place).all()
        for p, place in zip(context.pairs, places, strict=True)
    )
    return f"right except where it is {what}" if rest else None


def proportional(context: Context) -> str | None:
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
    for name, lengths in sizes(context):
        for text, function in POWERS:
            values = [function(length) for length in lengths]
            if all(math.isclose(*pair, rel_tol=1e-4) for pair in zip(values, factors, strict=True)):
                return f"what is expected {text.format(name)}"
    own = all(count_wrong([pair]) > EVIDENCE + 1 for pair in context.pairs)
    return "what is expected times a factor that differs from case to case" if own else None


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
    ("times n / (n - 1), where n is {}", lambda n: n / (n - 1) if n != 1 else 0),
    ("times (n - 1) / n, where n is {}", lambda n: (n - 1) / n if n else 0),
]


def _factor(value: float) -> str:
    for name, constant in CONSTANTS.items():
        if math.isclose(value, constant, rel_tol=1e-4):
            return f"{short_number(value)} ({name})"
    return distinct_numbers(value, 1)[0]


def shifted_by(context: Context) -> str | None:
    """Return a constant that was added."""
    if context.is_truth or context.evidence < EVIDENCE + 1:
        return None
    shift = float((context.pairs[0].got - context.pairs[0].expected.astype(float)).flat[0])
    if context.hold(lambda e, g: context.equal(e + shift, g), 1):
        return f"{short_number(abs(shift))} too {'large' if shift > 0 else 'small'} everywhere"
    return None


def argument(context: Context) -> str | None:
    """Return an argument or parameter by which expected and got differ."""
    if context.is_truth or context.evidence <= EVIDENCE:
        return None
    for name in context.names():
        if context.equal_to([pair.inputs[name] for pair in context.pairs]):
            return f"just {name}"
    return _difference_with_argument(context)


def _difference_with_argument(context: Context) -> str | None:
    for name in context.names():
        for text, relation in WITH_ARGUMENT:
            if all(_holds_with(context, pair, name, relation) for pair in context.pairs):
                return text.format(name)
    return None


def _holds_with(
    context: Context,
    pair: Pair,
    name: str,
    relation: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> bool:
    argument = pair.inputs[name]
    if argument.dtype.kind not in "fiu" or not argument.any() or np.all(argument == 1):
        return False
    for shaped in aligned(argument, pair.expected.shape):
        if context.equal(relation(pair.expected.astype(float), shaped), pair.got):
            return True
    return False


WITH_ARGUMENT: list[tuple[str, Callable[[np.ndarray, np.ndarray], np.ndarray]]] = [
    ("too small by exactly {0}: was it left out, or subtracted?", lambda e, a: e - a),
    ("too large by exactly {0}: was it added once too often?", lambda e, a: e + a),
    ("too small by twice {0}: does it have the right sign and factor?", lambda e, a: e - 2 * a),
    ("too large by twice {0}: does it have the right sign and factor?", lambda e, a: e + 2 * a),
    ("right except for a sign: it lies on the other side of {0}", lambda e, a: 2 * a - e),
    ("right when multiplied by {0}: was it left out?", lambda e, a: e / a),
    ("right when divided by {0}: was it left out?", lambda e, a: e * a),
]


def another_result(context: Context) -> str | None:
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


def sums(context: Context) -> str | None:
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


def bounded(context: Context) -> str | None:
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
