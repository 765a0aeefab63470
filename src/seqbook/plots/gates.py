"""Figures about gates: their place in an LSTM, and their values along a sequence."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from seqbook.plots.shapes import arrow, line, node, operation
from seqbook.plots.style import COLOURS, WIDTH, panels

__all__ = ["conveyor_belt", "reading_images", "reading_numbers"]


def conveyor_belt() -> Figure:
    """Draw one step of an LSTM: the cell state passes straight through, the gates are below it.

    Example:
        >>> len(conveyor_belt().axes)
        1
    """
    figure, (axes,) = panels(1, height=3.1)
    axes.set(xlim=(-0.9, 10.6), ylim=(-1.35, 3.75))
    axes.axis("off")
    belt, wire = COLOURS["LSTM"], COLOURS["mean"]
    axes.plot([0.1, 9.5], [3, 3], color=belt, linewidth=4, alpha=0.5, zorder=1)
    for x, y, text in (
        (-0.4, 3, "$c_{t-1}$"),
        (10.05, 3, "$c_t$"),
        (-0.4, 0, "$h_{t-1}$"),
        (10.05, 0.75, "$h_t$"),
        (0.9, -1.1, "$x_t$"),
    ):
        axes.text(x, y, text, ha="center", va="center", fontsize=13, color=COLOURS["data"])
    line(axes, [(0.1, 0), (7, 0)])
    line(axes, [(0.9, -0.8), (0.9, 0)])
    for x, symbol, name in (
        (2, "$f_t$", "forget"),
        (3.7, "$i_t$", "input"),
        (5.3, "$\\tilde c_t$", "candidate"),
        (7, "$o_t$", "output"),
    ):
        arrow(axes, (x, 0), (x, 0.5))
        node(axes, (x, 0.85), symbol, belt, shape="round,pad=0.3", fontsize=12)
        axes.text(x, -0.4, name, ha="center", va="center", fontsize=9, color="#555555")
    arrow(axes, (2, 1.3), (2, 2.72))
    line(axes, [(3.7, 1.3), (3.7, 2), (4.25, 2)])
    line(axes, [(5.3, 1.3), (5.3, 2), (4.75, 2)])
    arrow(axes, (4.5, 2.27), (4.5, 2.72))
    line(axes, [(8.4, 3), (8.4, 2.35)])
    axes.text(8.4, 2.1, "tanh", ha="center", va="center", fontsize=10, color=COLOURS["data"])
    arrow(axes, (8.4, 1.85), (8.4, 1.05))
    arrow(axes, (7.45, 0.78), (8.12, 0.78))
    arrow(axes, (8.68, 0.78), (9.6, 0.78))
    for place, sign in (((2, 3), "×"), ((4.5, 2), "×"), ((4.5, 3), "+"), ((8.4, 0.78), "×")):
        operation(axes, place, sign, "#333333", edge=wire, size=14)
    return figure


def reading_numbers(
    numbers: np.ndarray, marks: np.ndarray, traces: Mapping[str, np.ndarray]
) -> Figure:
    """Draw a sequence of the adding problem and, below it, quantities of an LSTM at each step.

    Args:
        numbers: First feature of the inputs, ``(time,)``.
        marks: Second feature, 1 where a number is marked, ``(time,)``.
        traces: Panel title to values ``(time,)``.

    Example:
        >>> numbers, marks = np.array([0.2, 0.9, 0.4]), np.array([0, 1, 0])
        >>> len(reading_numbers(numbers, marks, {"input gate": marks}).axes)
        2
    """
    figure, axes = panels(1 + len(traces), height=1.15, sharex=True)
    steps = np.arange(1, len(numbers) + 1)
    marked = marks > 0
    axes[0].bar(steps, numbers, color=COLOURS["mean"], alpha=0.45)
    axes[0].bar(steps[marked], numbers[marked], color=COLOURS["LSTM"])
    axes[0].set(yticks=[0, 1])
    axes[0].set_title("numbers, the marked ones in colour")
    for panel, (title, values) in zip(axes[1:], traces.items(), strict=True):
        panel.plot(steps, values, color=COLOURS["LSTM"])
        for step in steps[marked]:
            panel.axvline(step, color=COLOURS["mean"], linewidth=1, linestyle=":")
        panel.set_title(title)
    axes[-1].set(xlabel="step", xlim=(0.4, len(numbers) + 0.6))
    return figure


def reading_images(rows: Mapping[str, np.ndarray]) -> Figure:
    """Draw rows of small images: the digits, and quantities of a model at each of their pixels.

    Args:
        rows: Row title to maps ``(count, 8, 8)``; each row has its own grey scale, dark is high.

    Example:
        >>> images = np.arange(128.0).reshape(2, 8, 8)
        >>> len(reading_images({"digit": images, "forget gate": images}).axes)
        4
    """
    count = len(next(iter(rows.values())))
    figure, grid = plt.subplots(
        len(rows), count, figsize=(WIDTH, 1.2 * len(rows)), squeeze=False, layout="none"
    )  # constrained layout would widen the first column to hold the title
    figure.subplots_adjust(left=0.01, right=0.99, bottom=0.02, top=0.86, wspace=0.08, hspace=0.3)
    for axes, (title, images) in zip(grid, rows.items(), strict=True):
        for panel, image in zip(axes, images, strict=True):
            panel.imshow(image, cmap="Greys", vmin=images.min(), vmax=images.max())
            panel.set(xticks=[], yticks=[])
            panel.spines[:].set_visible(True)
        axes[0].set_title(title)
    return figure
