"""Figures about forecasts: roots, roll-outs, rolling origins, intervals and filtered beliefs."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from seqbook.plots.style import COLOURS, WIDTH, panels

__all__ = ["beliefs", "intervals", "powers_of_a_root", "rolling_origins", "roots_and_roll_outs"]


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


def powers_of_a_root(root: complex, steps: int) -> Figure:
    """Draw the powers of a complex number in the plane, and their real parts over time.

    Args:
        root: The number z; the points are 1, z, z² and so on.
        steps: Largest power.

    Example:
        >>> len(powers_of_a_root(0.8 + 0.4j, 20).axes)
        2
    """
    figure, (plane, path) = panels(2, height=2.4)
    powers = root ** np.arange(steps + 1)
    angle = np.linspace(0, 2 * np.pi, 200)
    plane.plot(np.cos(angle), np.sin(angle), color=COLOURS["mean"], linewidth=1)
    plane.axhline(0, color=COLOURS["mean"], linewidth=0.6)
    plane.plot(powers.real, powers.imag, "-", color=COLOURS["linear AR"], linewidth=0.8)
    plane.plot(powers.real, powers.imag, "o", color=COLOURS["linear AR"], markersize=4)
    for t, name in enumerate(("$1$", "$z$", "$z^2$", "$z^3$")):
        plane.annotate(
            name, (powers[t].real, powers[t].imag), xytext=(5, 4), textcoords="offset points"
        )
    plane.set(aspect="equal", xticks=[-1, 0, 1], yticks=[-1, 0, 1], xlim=(-1.3, 1.4))
    plane.set_title("powers of z in the complex plane")
    path.plot(powers.real, "o-", color=COLOURS["linear AR"], markersize=4)
    path.axhline(0, color=COLOURS["mean"], linewidth=0.6)
    path.set_title("their real parts, step by step")
    path.set_xlabel("step t")
    return figure


def rolling_origins(origins: int, horizon: int) -> Figure:
    """Draw which values each forecast of a rolling-origin evaluation knows and predicts.

    Args:
        origins: Number of origins, each one step after the one before.
        horizon: How many steps each forecast looks ahead.

    Example:
        >>> len(rolling_origins(4, 3).axes)
        1
    """
    figure, (axes,) = panels(1, height=0.42 * origins + 0.8)
    first, last = 6, 6 + origins + horizon - 2
    for row in range(origins):
        known = first + row
        ahead = np.arange(known, known + horizon)
        later = np.arange(known + horizon, last + 1)
        axes.plot(np.arange(known), np.full(known, -row), "o", color=COLOURS["data"])
        axes.plot(ahead, np.full(horizon, -row), "o", color=COLOURS["network"])
        axes.plot(later, np.full(len(later), -row), ".", color=COLOURS["mean"], markersize=3)
    axes.text(0, 0.75, "known", color=COLOURS["data"])
    axes.text(first, 0.75, f"predicted, {horizon} steps ahead", color=COLOURS["network"])
    axes.set(
        ylim=(0.6 - origins, 1.3),
        yticks=-np.arange(origins),
        yticklabels=[f"origin {row + 1}" for row in range(origins)],
        xticks=[],
        xlabel="time",
    )
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    return figure


def intervals(
    years: np.ndarray,
    numbers: np.ndarray,
    forecasts: Mapping[int, tuple[np.ndarray, np.ndarray, np.ndarray]],
    *,
    ylabel: str,
) -> Figure:
    """Draw a series and, from several origins, the median of the forecasts with an interval.

    Args:
        years: ``(time,)``.
        numbers: The series, ``(time,)``.
        forecasts: First year of a forecast to its lower end, median and upper end, each
            ``(horizon,)``.
        ylabel: Label of the y axis, with its unit.

    Example:
        >>> years, ones = np.arange(2000, 2010), np.ones(10)
        >>> bands = {2005: (np.zeros(3), np.ones(3), np.full(3, 2.0))}
        >>> len(intervals(years, ones, bands, ylabel="units").axes)
        1
    """
    figure, (axes,) = panels(1, height=2.6)
    for start, (low, median, high) in forecasts.items():
        ahead = start + np.arange(len(low))
        axes.fill_between(ahead, low, high, color=COLOURS["linear AR"], alpha=0.2, linewidth=0)
        axes.plot(ahead, median, color=COLOURS["linear AR"])
        axes.axvline(start - 0.5, color=COLOURS["mean"], linestyle=":", linewidth=1)
    axes.plot(years, numbers, ".-", color=COLOURS["data"], linewidth=0.8, markersize=4)
    axes.set(xlabel="year", ylabel=ylabel, xlim=(years[0], years[-1]))
    return figure
