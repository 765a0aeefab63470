"""Diagrams of how models use the past of a sequence."""

from __future__ import annotations

from matplotlib.figure import Figure

from seqbook.plots.shapes import arrow, node
from seqbook.plots.style import COLOURS, panels

__all__ = ["causal_convolution", "three_kinds"]


def causal_convolution() -> Figure:
    """Draw a convolution of width 3 with two zeros on the left: a window slid along the series.

    Example:
        >>> len(causal_convolution().axes)
        1
    """
    figure, (axes,) = panels(1, height=1.7)
    axes.set(xlim=(-1.6, 5.6), ylim=(-0.5, 1.5))
    axes.axis("off")
    for t in range(-1, 6):
        name = f"$x_{t}$" if t > 0 else "0"
        node(axes, (t, 0), name, COLOURS["data" if t > 0 else "mean"], fontsize=13)
    for t in range(1, 6):
        shown = t in (1, 4)
        colour = COLOURS["network" if shown else "mean"]
        node(axes, (t, 1), f"$y_{t}$", colour, fontsize=13)
        if shown:
            for lag in range(3):
                arrow(axes, (t - lag, 0), (t, 1), gap=14)
    return figure


def three_kinds() -> Figure:
    """Draw what a prediction of x_5 depends on: the whole past, a window, or a latent summary.

    Example:
        >>> len(three_kinds().axes)
        3
    """
    figure, (whole, window, latent) = panels(3, height=1.35)
    for axes, title in (
        (whole, "all of the past"),
        (window, "a window of the last τ = 2"),
        (latent, "a summary h, updated at each step"),
    ):
        axes.set(xlim=(0.4, 5.6), ylim=(-0.45, 1.55))
        axes.axis("off")
        axes.set_title(title)
        for t in range(1, 6):
            node(axes, (t, 0), f"$x_{t}$", COLOURS["data" if t < 5 else "network"], fontsize=13)
    for t in range(1, 5):
        arrow(whole, (t, 0), (5, 0), bend=-0.32, gap=14)
    for t in (3, 4):
        arrow(window, (t, 0), (5, 0), bend=-0.4, gap=14)
    for t in range(1, 5):
        node(latent, (t, 1), f"$h_{t}$", COLOURS["filter"], fontsize=13)
        arrow(latent, (t, 0), (t, 1), gap=14)
        if t < 4:
            arrow(latent, (t, 1), (t + 1, 1), gap=14)
    arrow(latent, (4, 1), (5, 0), gap=14)
    return figure
