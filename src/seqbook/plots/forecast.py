"""Figures about forecasts: characteristic roots, roll-outs and filtered beliefs."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from seqbook.plots.style import COLOURS, WIDTH, panels

__all__ = ["beliefs", "roots_and_roll_outs"]


def roots_and_roll_outs(
    roots: Mapping[str, np.ndarray], roll_outs: Mapping[str, np.ndarray]
) -> Figure:
    """Draw each model's characteristic roots in the unit circle beside its roll-outs.

    Args:
        roots: Model name to complex roots ``(order,)``.
        roll_outs: Model name to roll-outs from several histories, ``(histories, steps)``.

    Example:
        >>> roots = {"stable": np.array([0.9]), "unstable": np.array([1.1])}
        >>> paths = {name: root.real ** np.arange(5)[None] for name, root in roots.items()}
        >>> len(roots_and_roll_outs(roots, paths).axes)
        4
    """
    figure, axes = plt.subplots(
        len(roots), 2, figsize=(WIDTH, 1.7 * len(roots)), width_ratios=(1, 2)
    )
    angle = np.linspace(0, 2 * np.pi, 200)
    for (circle, path), (name, values) in zip(axes, roots.items(), strict=True):
        circle.plot(np.cos(angle), np.sin(angle), color=COLOURS["mean"], linewidth=1)
        circle.plot(values.real, values.imag, "o", color=COLOURS["linear AR"], markersize=6)
        circle.set(aspect="equal", xticks=[], yticks=[], xlim=(-1.25, 1.25), ylim=(-1.25, 1.25))
        circle.set_title(name)
        for steps in roll_outs[name]:
            path.plot(np.arange(1, len(steps) + 1), steps, color=COLOURS["linear AR"])
        path.axhline(0, color=COLOURS["noise floor"], linestyle="--", linewidth=1)
    axes[-1, 1].set_xlabel("steps ahead")
    return figure


def beliefs(states: np.ndarray, lines: Mapping[str, np.ndarray]) -> Figure:
    """Draw the probability of a hidden state over time, the true state shaded.

    Args:
        states: True states, 0 or 1, ``(time,)``.
        lines: Label to probabilities of state 1, ``(time,)``; labels in ``COLOURS``.

    Example:
        >>> states = np.array([0, 1, 1, 0])
        >>> len(beliefs(states, {"filter": 0.8 * states}).axes)
        1
    """
    figure, axes = panels(len(lines), height=1.3, sharex=True)
    steps = np.arange(len(states))
    for panel, (name, probability) in zip(axes, lines.items(), strict=True):
        panel.fill_between(
            steps, 0, states, step="mid", color=COLOURS["mean"], alpha=0.25, linewidth=0
        )
        panel.plot(steps, probability, color=COLOURS[name])
        panel.set(ylim=(-0.05, 1.05), yticks=[0, 1])
        panel.set_title(name, color=COLOURS[name])
    axes[-1].set_xlabel("toss")
    return figure
