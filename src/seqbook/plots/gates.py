"""Figures about gates: their place in an LSTM, and their values along a sequence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from seqbook.plots.shapes import arrow, line, node, operation
from seqbook.plots.style import COLOURS, panels
from seqbook.validation import check_choice

__all__ = ["conveyor_belt", "reading_numbers"]


def conveyor_belt(lit: str | None = None) -> Figure:
    """Draw one step of an LSTM: the cell state passes straight through, the gates are below it.

    Args:
        lit: Part to draw in colour, all else in grey: ``"forget"``, ``"input"``, ``"update"`` or
            ``"output"``. By default no part is grey.

    Example:
        >>> len(conveyor_belt().axes), len(conveyor_belt("forget").axes)
        (1, 1)
    """
    if lit is not None:
        check_choice("lit", lit, ("forget", "input", "update", "output"))
    figure, (axes,) = panels(1, height=3.1 if lit is None else 2.7)
    axes.set(xlim=(-0.9, 10.6), ylim=(-1.35, 3.75))
    axes.axis("off")
    wire, unlit = COLOURS["mean"], "#c4c4c4"

    def colour(parts: str, otherwise: str, *, pale: str = unlit) -> str:
        if lit is None:
            return otherwise
        return COLOURS["LSTM"] if lit in parts.split() else pale

    for left, right, parts in (
        (0.1, 2, "forget update"),
        (2, 4.5, "update"),
        (4.5, 9.5, "update output"),
    ):
        tint = colour(parts, COLOURS["LSTM"])
        band: dict[str, Any] = {"linewidth": 4, "alpha": 0.5, "solid_capstyle": "butt"}
        axes.plot([left, right], [3, 3], color=tint, zorder=1, **band)
    for x, y, text, parts in (
        (-0.4, 3, "$c_{t-1}$", "forget update"),
        (10.05, 3, "$c_t$", "update output"),
        (-0.4, 0, "$h_{t-1}$", "forget input output"),
        (10.05, 0.75, "$h_t$", "output"),
        (0.9, -1.1, "$x_t$", "forget input output"),
    ):
        tint = colour(parts, COLOURS["data"], pale=wire)
        axes.text(x, y, text, ha="center", va="center", fontsize=13, color=tint)
    for points, parts in (
        ([(0.1, 0), (2, 0)], "forget input output"),
        ([(0.9, -0.8), (0.9, 0)], "forget input output"),
        ([(2, 0), (5.3, 0)], "input output"),
        ([(5.3, 0), (7, 0)], "output"),
        ([(3.7, 1.3), (3.7, 2), (4.25, 2)], "input"),
        ([(5.3, 1.3), (5.3, 2), (4.75, 2)], "input"),
        ([(8.4, 3), (8.4, 2.35)], "output"),
    ):
        line(axes, points, colour=colour(parts, wire))
    for x, symbol, name in (
        (2, "$f_t$", "forget"),
        (3.7, "$i_t$", "input"),
        (5.3, "$\\tilde c_t$", "candidate"),
        (7, "$o_t$", "output"),
    ):
        part = "input" if name == "candidate" else name
        arrow(axes, (x, 0), (x, 0.5), colour=colour(part, wire))
        tint = colour(part, COLOURS["LSTM"], pale=wire)
        node(axes, (x, 0.85), symbol, tint, shape="round,pad=0.3", fontsize=12)
        tint = colour(part, "#555555", pale=wire)
        axes.text(x, -0.4, name, ha="center", va="center", fontsize=9, color=tint)
    tint = colour("output", COLOURS["data"], pale=wire)
    axes.text(8.4, 2.1, "tanh", ha="center", va="center", fontsize=10, color=tint)
    for start, end, parts in (
        ((2, 1.3), (2, 2.72), "forget update"),
        ((4.5, 2.27), (4.5, 2.72), "update"),
        ((8.4, 1.85), (8.4, 1.05), "output"),
        ((7.45, 0.78), (8.12, 0.78), "output"),
        ((8.68, 0.78), (9.6, 0.78), "output"),
    ):
        arrow(axes, start, end, colour=colour(parts, wire))
    for place, sign, parts in (
        ((2, 3), "×", "forget update"),
        ((4.5, 2), "×", "input update"),
        ((4.5, 3), "+", "update"),
        ((8.4, 0.78), "×", "output"),
    ):
        tint = colour(parts, "#333333", pale=wire)
        operation(axes, place, sign, tint, edge=colour(parts, wire), size=14)
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
