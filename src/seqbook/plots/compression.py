"""Figures about compression: intervals, weights of a mixture, costs and sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np
from matplotlib.figure import Figure

from seqbook.plots.shapes import line
from seqbook.plots.style import COLOURS, label_ends, panels

__all__ = ["nested_intervals", "reading_costs", "sizes", "weights_while_reading"]

_CHOSEN = COLOURS["n-gram"]
_IN_ORDER = [
    COLOURS[name]
    for name in ("mean", "uniform", "data", "n-gram", "network", "filter", "LSTM", "shuffled")
]
_HALF_HEIGHT = 0.22


def nested_intervals(word: str, shares: Mapping[str, Fraction]) -> Figure:
    """Draw how arithmetic coding narrows an interval, each row a magnified part of the one above.

    Args:
        word: The letters, one row for each, and a last row for the interval that is left.
        shares: Probability of each letter, in the order of their parts.

    Example:
        >>> len(nested_intervals("ab", {"a": Fraction(3, 4), "b": Fraction(1, 4)}).axes)
        1
    """
    figure, (axes,) = panels(1, height=0.85 * (len(word) + 0.6))
    low, width = Fraction(0), Fraction(1)
    for row, letter in enumerate([*word, None]):
        start = Fraction(0)
        for symbol, share in shares.items():
            chosen = symbol == letter
            axes.barh(
                -row,
                float(share) if letter else 1.0,
                left=float(start),
                height=2 * _HALF_HEIGHT,
                color=_CHOSEN if chosen else "white",
                edgecolor=COLOURS["mean"],
            )
            if letter is None:
                break
            axes.text(
                float(start + share / 2),
                -row,
                symbol,
                ha="center",
                va="center",
                color="white" if chosen else COLOURS["data"],
            )
            if chosen:
                chosen_low, chosen_width = start, share
                for above, below in ((start, 0), (start + share, 1)):
                    line(
                        axes,
                        [(float(above), -row - _HALF_HEIGHT), (below, -row - 1 + _HALF_HEIGHT)],
                    )
            start += share
        for x, end, side in ((-0.02, low, "right"), (1.02, low + width, "left")):
            axes.text(x, -row, str(end), ha=side, va="center", color=COLOURS["data"])
        if letter is not None:
            low, width = low + width * chosen_low, width * chosen_width
    axes.set(xlim=(-0.2, 1.25), ylim=(-len(word) - 0.4, 0.4))
    axes.axis("off")
    return figure


def weights_while_reading(read: np.ndarray, weights: Mapping[str, np.ndarray]) -> Figure:
    """Draw the weights of a mixture against the number of bytes that it has read.

    Args:
        read: Bytes, ``(moments,)``.
        weights: Name of the model to its weight, ``(moments,)``; at most eight.

    Example:
        >>> read = np.arange(3)
        >>> len(weights_while_reading(read, {"order 1": read / 9, "order 2": read / 3}).axes)
        1
    """
    figure, (axes,) = panels(1, height=3.0)
    ends = {}
    for (name, values), colour in zip(weights.items(), _IN_ORDER, strict=False):
        axes.plot(read, values, color=colour)
        ends[name] = (read[-1], values[-1], colour)
    axes.set(xlabel="bytes read", ylabel="weight", xlim=(0, read[-1]))
    label_ends(axes, ends)
    return figure


def reading_costs(read: np.ndarray, costs: Mapping[str, np.ndarray], places: np.ndarray) -> Figure:
    """Draw costs against the bytes read, above costs by the place of a letter in its word.

    Args:
        read: Bytes, ``(moments,)``.
        costs: Name of the model to bits per byte, ``(moments,)``.
        places: Bits for the first, second, third ... letter of a word.

    Example:
        >>> len(reading_costs(np.arange(3), {"mixture": np.ones(3)}, np.ones(4)).axes)
        2
    """
    figure, (above, below) = panels(2, height=2.1)
    colours = (COLOURS["n-gram"], COLOURS["network"], COLOURS["filter"])
    ends = {}
    for (name, values), colour in zip(costs.items(), colours, strict=False):
        above.plot(read, values, color=colour)
        ends[name] = (read[-1], values[-1], colour)
    above.set(xlabel="bytes read", ylabel="bits per byte", xlim=(0, read[-1]), ylim=(0, None))
    label_ends(above, ends)
    below.bar(np.arange(1, len(places) + 1), places, color=COLOURS["network"], width=0.7)
    below.set(xlabel="letter of a word", ylabel="bits", xticks=range(1, len(places) + 1))
    return figure


def sizes(bytes_by_name: Mapping[str, float], *, lit: Sequence[str] = ()) -> Figure:
    """Draw sizes as horizontal bars with their numbers.

    Args:
        bytes_by_name: Label to bytes, from top to bottom.
        lit: Labels of bars to draw in colour, all others in grey.

    Example:
        >>> len(sizes({"zlib": 8000, "mixture": 6000}, lit=["mixture"]).axes[0].patches)
        2
    """
    figure, (axes,) = panels(1, height=0.36 * len(bytes_by_name) + 0.4)
    for row, (name, size) in enumerate(bytes_by_name.items()):
        colour = COLOURS["network" if name in lit else "mean"]
        axes.barh(-row, size, color=colour, height=0.7)
        axes.text(size, -row, f" {size:,.0f}", va="center", color=colour)
    axes.set_yticks([-row for row in range(len(bytes_by_name))], list(bytes_by_name))
    axes.tick_params(length=0)
    axes.set(xticks=[], xlim=(0, 1.15 * max(bytes_by_name.values())))
    axes.spines["bottom"].set_visible(False)
    return figure
