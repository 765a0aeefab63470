"""Diagrams of recurrent networks: folded and unrolled, and maps of dependence."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch
from matplotlib.path import Path

from seqbook.plots.shapes import arrow, node
from seqbook.plots.style import COLOURS, panels

__all__ = ["dependence_maps", "unrolled"]


def unrolled() -> Figure:
    """Draw a recurrent network with its loop and, beside it, unrolled over three steps.

    Example:
        >>> len(unrolled().axes)
        1
    """
    figure, (axes,) = panels(1, height=2.9)
    axes.set(xlim=(-1.5, 7.35), ylim=(-0.45, 2.75), aspect="equal")
    axes.axis("off")
    _column(axes, 0, "", before=False)
    loop = FancyArrowPatch(
        path=Path([(-0.25, 1.2), (-1.1, 1.75), (-1.1, 0.25), (-0.25, 0.8)], [1, 4, 4, 4]),
        arrowstyle="-|>",
        mutation_scale=12,
        color=COLOURS["RNN"],
        linewidth=1.6,
    )
    loop.set_fill(False)
    axes.add_patch(loop)
    axes.text(-1.0, 1, "$W_H$", color=COLOURS["RNN"], ha="right", va="center")
    axes.text(1.35, 1, "=", fontsize=18, ha="center", va="center")
    node(axes, (2.4, 1), "$H_0$", COLOURS["data"], shape="round,pad=0.35")
    for t in (1, 2, 3):
        _column(axes, 2.4 + 1.5 * t, f"_{t}", before=True)
    return figure


def _column(axes: Axes, x: float, index: str, *, before: bool) -> None:
    """Draw input, state and output of one step, with the state's arrow from the step before."""
    if before:
        arrow(axes, (x - 1.5, 1), (x, 1), colour=COLOURS["RNN"], gap=13, linewidth=1.6)
        axes.text(x - 0.8, 1.05, "$W_H$", color=COLOURS["RNN"], ha="center", va="bottom")
    arrow(axes, (x, 0), (x, 1), colour=COLOURS["mean"], gap=13, linewidth=1.6)
    arrow(axes, (x, 1), (x, 2), colour=COLOURS["mean"], gap=13, linewidth=1.6)
    axes.text(x + 0.1, 0.5, "$W_X$", color="#555555", va="center")
    axes.text(x + 0.1, 1.54, "$W_2$", color="#555555", va="center")
    node(axes, (x, 0), f"$X{index}$", COLOURS["data"], shape="round,pad=0.35")
    node(axes, (x, 1), f"$H{index}$", COLOURS["RNN"], shape="round,pad=0.35")
    node(axes, (x, 2), f"$O{index}$", COLOURS["data"], shape="round,pad=0.35")


def dependence_maps(strengths: Mapping[str, np.ndarray]) -> Figure:
    """Draw how strongly each output depends on each input, one map per network.

    Args:
        strengths: Title to the size of the derivative, ``(outputs, inputs)``; white where it is
            exactly zero.

    Example:
        >>> len(dependence_maps({"RNN": np.tril(np.ones((4, 4)))}).axes)
        1
    """
    figure, axes = panels(len(strengths), height=2.3)
    for panel, (title, values) in zip(axes, strengths.items(), strict=True):
        steps = len(values)
        powers = np.ma.log10(np.ma.masked_equal(values, 0))
        lightest = powers.min() - 0.25 * np.ptp(powers)  # so that only zero is white
        panel.imshow(powers, cmap="Oranges", vmin=lightest, aspect="auto", origin="upper")
        ticks = np.arange(0, steps, 2)
        panel.set(xticks=ticks, yticks=ticks, xticklabels=ticks + 1, yticklabels=ticks + 1)
        panel.set(ylabel="output at step", title=title)
        panel.spines[:].set_visible(True)
    axes[-1].set_xlabel("input at step")
    return figure
