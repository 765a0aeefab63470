"""Relations between arrays of different shapes."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np

from stepgrader.diagnosis._pairs import EVIDENCE, Context, Pair, sizes

__all__ = ["longer", "other_axis", "reduced", "reshaped"]

CHOSEN = 6  # places of largest entries, which chance would not find


def reshaped(context: Context) -> str | None:
    """Return that the numbers are right, and their axes are not."""
    equal = context.equal
    if context.hold(lambda e, g: e.size == g.size and equal(e.squeeze(), g.squeeze())):
        return "right except for a missing or extra axis of length 1"
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


def reduced(context: Context) -> str | None:
    """Return a sum, mean or end over an axis that was taken or not taken."""
    axes = [min(getattr(p, part).ndim for p in context.pairs) for part in ("expected", "got")]
    chosen = [pair.got for pair in context.pairs]
    if (
        sum(array.size for array in chosen) >= CHOSEN
        and len(np.unique(np.concatenate([array.ravel() for array in chosen]))) > 1
    ):
        for axis in range(axes[0]):
            if all(np.array_equal(p.expected.argmax(axis), p.got) for p in context.pairs):
                return f"the index of the largest entry along axis {axis} of what is expected"
    for name, reduce in REDUCTIONS:
        for axis in range(axes[0]):
            if context.hold(lambda e, g, r=reduce, a=axis: context.equal(r(e, a), g)):  # type: ignore[misc]
                return f"{name} along axis {axis} of what is expected"
        for axis in range(axes[1]):
            if context.hold(lambda e, g, r=reduce, a=axis: context.equal(e, r(g, a))):  # type: ignore[misc]
                return f"right except for a last step: return {name} along axis {axis}"
    return None


def longer(context: Context) -> str | None:
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
    context: Context, pair: Pair, axis: int, has_more: bool, from_start: bool
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


def other_axis(context: Context) -> str | None:
    """Return which axis is missing, too many or of another length, if that is all."""
    shapes = [(pair.expected.shape, pair.got.shape) for pair in context.pairs]
    more = {len(got) - len(expected) for expected, got in shapes}
    for axis in range(max(len(got) + len(expected) for expected, got in shapes)):
        if more == {1} and all(g[:axis] + g[axis + 1 :] == e for e, g in shapes):
            same = _same_length(context, [got[axis] for _, got in shapes])
            return f"too large by one axis: axis {axis}{same}"
        if more == {-1} and all(e[:axis] + e[axis + 1 :] == g for e, g in shapes):
            return f"without axis {axis} of what is expected"
        if (
            more == {0}
            and all(e[:axis] + e[axis + 1 :] == g[:axis] + g[axis + 1 :] for e, g in shapes)
            and (same := _same_length(context, [got[axis] for _, got in shapes]))
        ):
            return f"of a different length along axis {axis}{same}"
    return None


def _same_length(context: Context, lengths: list[int]) -> str:
    """Return which axis of an input has the same length in all cases, if one has."""
    names = (name for name, sizes in sizes(context) if "along" in name and sizes == lengths)
    name = next(names, "")
    return f", which has {name}" if name else ""
