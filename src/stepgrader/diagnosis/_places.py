"""Where the numbers of an array are right: in another order, or except in a part."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from stepgrader.diagnosis._pairs import EVIDENCE, MANY, Context, Pair, aligned
from stepgrader.differences import near, short_number

__all__ = ["input_regions", "moved", "region"]

MAX_SLICES = 50  # along an axis, of which the order is compared

Regions = Iterator[tuple[str, list[np.ndarray]]]


def moved(context: Context) -> str | None:
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
        return "made of the right numbers, but in the wrong places"
    return None


def _order(context: Context, pair: Pair, axis: int, blocks: int) -> list[int] | None:
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


def _is_shifted(context: Context, axis: int, steps: int) -> bool:
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


def _same_numbers(context: Context, pair: Pair) -> bool:
    return not context.is_truth and context.equal(
        np.sort(pair.expected, axis=None), np.sort(pair.got, axis=None)
    )


def region(context: Context) -> str | None:
    """Return the part of a result that alone is wrong."""
    close = [
        near(p.expected.astype(float), p.got.astype(float), context.tolerance)
        for p in context.pairs
    ]
    for name, region in itertools.chain(input_regions(context), _axis_regions(context, close)):
        pairs = zip(close, region, strict=True)
        if all((right | area).all() for right, area in pairs) and _is_right_outside(
            context, region
        ):
            wanted = "" if name.endswith("expected") else _wanted_there(context, close)
            return f"right except {name}{wanted}"
    return None


def _is_right_outside(context: Context, region: Sequence[np.ndarray]) -> bool:
    """Return whether more is right outside of a region than a few zeros."""
    values = [p.expected[~area] for p, area in zip(context.pairs, region, strict=True)]
    if context.is_truth:
        enough = sum(value.size for value in values) >= MANY
        return enough and all(value.any() and not value.all() for value in values)
    numbers = {float(x) for value in values for x in value.astype(float).round(6)} - {0.0}
    return len(numbers) > EVIDENCE and all(value.size for value in values)


def _wanted_there(context: Context, close: Sequence[np.ndarray]) -> str:
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


def input_regions(context: Context) -> Regions:
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
                    list(aligned(mask, shape)) for mask, shape in zip(masks, shapes, strict=True)
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


def _is_by_row(context: Context, name: str) -> bool:
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


def _axis_regions(context: Context, close: Sequence[np.ndarray]) -> Regions:
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
            if len(first) > 1 and min(first) > 0:
                starts = [int(place.min()) for place in places]
                areas = [i >= start for i, start in zip(index, starts, strict=True)]
                regions.append((f"from some index{where} on ({starts[0]} in one case)", areas))
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
