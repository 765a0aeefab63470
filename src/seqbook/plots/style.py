"""The house style: one width, one set of colours, labels on the curves."""

from __future__ import annotations

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["COLOURS", "label_end", "panels", "use_house_style"]

WIDTH = 6.0  # inches; read at 343 CSS pixels on a phone, so 11 points become 9 pixels

# A thing has the same colour in the whole book. Each has at least 4.5:1 contrast to white and
# the set is told apart by readers with any common colour-vision deficiency.
COLOURS = {
    "data": "#333333",
    "baseline": "#767676",
    "floor": "#9a6a00",
    "shuffled": "#b3446c",
    "linear_ar": "#0064a5",
    "markov": "#0064a5",
    "hidden_markov": "#7b3fa0",
    "rnn": "#c04a00",
    "lstm": "#007a55",
    "gru": "#8a5a00",
    "transformer": "#a3195b",
}


def use_house_style() -> None:
    """Set matplotlib's defaults for the rest of the session."""
    plt.rcParams.update(
        {
            "figure.figsize": (WIDTH, 2.8),
            "figure.dpi": 150,
            "figure.facecolor": "white",
            "figure.constrained_layout.use": True,
            "font.size": 11,
            "axes.titlesize": 11,
            "axes.titlelocation": "left",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.edgecolor": "#767676",
            "axes.labelcolor": "#333333",
            "axes.prop_cycle": plt.cycler(color=[COLOURS["linear_ar"], COLOURS["rnn"]]),
            "xtick.color": "#555555",
            "ytick.color": "#555555",
            "lines.linewidth": 1.6,
            "legend.frameon": False,
        }
    )


def panels(count: int, *, height: float = 1.9, **options) -> tuple[Figure, list[Axes]]:
    """Make ``count`` panels one below the other, so that a phone shows them at full width.

    Args:
        count: Number of panels.
        height: Of one panel, in inches.
        options: Passed to ``matplotlib.pyplot.subplots``.
    """
    figure, axes = plt.subplots(
        count, 1, figsize=(WIDTH, height * count), squeeze=False, **options
    )
    return figure, list(axes[:, 0])


def label_end(axes: Axes, x, y, text: str, *, colour: str) -> None:
    """Write ``text`` to the right of the last point of a curve, in the curve's colour."""
    axes.annotate(
        text,
        (x[-1], y[-1]),
        xytext=(5, 0),
        textcoords="offset points",
        color=colour,
        va="center",
        annotation_clip=False,
    )
