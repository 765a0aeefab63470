"""Style of the figures: one width, one set of colours, labels on the curves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["COLOURS", "curves", "label_ends", "panels", "use_house_style"]

WIDTH = 4.8  # inches; on a phone 343 CSS pixels show it and the labels beside it: 11 points
# become 9 pixels

# A quantity has the same name and colour in the whole book; each colour has at least 4.5:1 contrast
# to white. Names that never meet in one figure may share one.
COLOURS = {
    "data": "#333333",
    "training": "#767676",
    "validation": "#0064a5",
    "mean": "#767676",
    "noise floor": "#9a6a00",
    "uniform": "#9a6a00",
    "shuffled": "#b3446c",
    "persistence": "#b3446c",
    "bzip2": "#b3446c",
    "held out": "#0064a5",
    "linear AR": "#0064a5",
    "climatology": "#767676",
    "table": "#0064a5",
    "MLP": "#c04a00",
    "best window": "#0064a5",
    "counted window": "#007a55",
    "n-gram": "#0064a5",
    "filter": "#7b3fa0",
    "network": "#c04a00",
    "RNN": "#c04a00",
    "LSTM": "#007a55",
    "LSTM, no bias": "#0064a5",
    "GRU": "#8a5a00",
    "ρ = 0.7": "#0064a5",
    "ρ = 1.0": "#333333",
    "ρ = 1.3": "#b3446c",
    "default": "#c04a00",
    "orthogonal": "#7b3fa0",
    "gradient": "#0064a5",
    "clipped": "#0064a5",
    "not clipped": "#b3446c",
    "letters alone": "#9a6a00",
    "threshold": "#9a6a00",
    "trained": "#0064a5",
    "stateless": "#b3446c",
    "echo": "#c04a00",
    "chance": "#9a6a00",
    "direct": "#0064a5",
    "total": "#007a55",
    "no memory": "#9a6a00",
    "Transformer": "#a3195b",
    "without attention": "#c04a00",
    "without, 5 times the steps": "#9a6a00",
    "with attention": "#0064a5",
    "overlooked": "#767676",
    "theory": "#333333",
    "scaled": "#0064a5",
    "not scaled": "#b3446c",
    "norm 0": "#767676",
    "norm 3": "#0064a5",
    "norm 30": "#c04a00",
    "textbook": "#b3446c",
    "chunked": "#0064a5",
    "torch": "#333333",
    "pre-LN": "#0064a5",
    "post-LN": "#c04a00",
    "warm-up": "#007a55",
    "no warm-up": "#b3446c",
    "cached": "#0064a5",
    "recomputed": "#b3446c",
    "GRU + attention": "#0064a5",
    "without positions": "#767676",
    "published": "#333333",
    "scan": "#0064a5",
    "loop": "#b3446c",
    "attention": "#0064a5",
    "window": "#7b3fa0",
    "linear attention": "#007a55",
    "delta rule": "#c04a00",
    "best matrix": "#767676",
    "cache": "#0064a5",
    "cache, shared": "#7b3fa0",
    "matrix": "#c04a00",
    "minGRU": "#007a55",
    "LRU": "#7b3fa0",
    "selective": "#b3446c",
    "hybrid": "#333333",
    "ReLU": "#767676",
    "GELU": "#0064a5",
    "SiLU": "#c04a00",
    "32 heads": "#b3446c",
    "8 heads": "#9a6a00",
    "1 head": "#0064a5",
    "tokens": "#0064a5",
    "2019": "#a3195b",
    "today": "#0064a5",
    "bytes": "#b3446c",
    "jamo": "#007a55",
    "syllables": "#9a6a00",
}
"""Colour of each model, data set and baseline, by the name that labels it in figures."""


def use_house_style() -> None:
    """Set matplotlib's defaults for the rest of the session.

    Example:
        >>> use_house_style()
        >>> float(plt.rcParams["font.size"])
        11.0
    """
    plt.rcParams.update(
        {
            "figure.figsize": (WIDTH, 2.4),
            "figure.dpi": 180,
            "figure.facecolor": "white",
            "figure.constrained_layout.use": True,
            "font.size": 11,
            "axes.titlesize": 11,
            "axes.titlelocation": "left",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.edgecolor": "#767676",
            "axes.labelcolor": "#333333",
            "xtick.color": "#555555",
            "ytick.color": "#555555",
            "lines.linewidth": 1.6,
            "legend.frameon": False,
        }
    )


def panels(count: int, *, height: float = 1.6, **options: Any) -> tuple[Figure, list[Axes]]:
    """Make ``count`` panels one below the other, so that a phone shows them at full width.

    Args:
        count: Number of panels.
        height: Height of one panel, in inches.
        options: Passed to ``matplotlib.pyplot.subplots``.

    Example:
        >>> figure, axes = panels(2, sharex=True)
        >>> float(figure.get_figwidth()), len(axes)
        (4.8, 2)
    """
    figure, axes = plt.subplots(count, 1, figsize=(WIDTH, height * count), squeeze=False, **options)
    return figure, list(axes[:, 0])


def label_ends(axes: Axes, ends: Mapping[str, tuple[float, float, str]]) -> None:
    """Write labels to the right of the ends of curves, pushed apart where they would overlap.

    Args:
        axes: Axes whose limits and scales are final.
        ends: Label to (x, y, colour) of the last point of its curve.

    Example:
        >>> figure, (axes,) = panels(1)
        >>> label_ends(axes, {"LSTM": (1.0, 0.5, COLOURS["LSTM"])})
        >>> axes.texts[0].get_text()
        'LSTM'
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    gap = 13.5 / (axes.get_position().height * figure.get_figheight() * 72)
    to_axes = axes.transData + axes.transAxes.inverted()
    heights = {name: to_axes.transform((x, y))[1] for name, (x, y, _) in ends.items()}
    placed = -np.inf
    for name in sorted(ends, key=lambda name: heights[name]):
        placed = max(heights[name], placed + gap)
        axes.annotate(
            name,
            (1.0, placed),
            xycoords="axes fraction",
            xytext=(5, 0),
            textcoords="offset points",
            color=ends[name][2],
            va="center",
            annotation_clip=False,
        )


def curves(
    x: np.ndarray,
    lines: Mapping[str, np.ndarray],
    *,
    xlabel: str,
    ylabel: str,
    levels: Mapping[str, float] | None = None,
    yscale: str = "linear",
    marker: str = "o",
    height: float = 2.5,
) -> Figure:
    """Draw curves and horizontal dashed levels, each labelled at its right end.

    Args:
        x: ``(points,)``.
        lines: Label to y ``(points,)``; labels are names in ``COLOURS``.
        xlabel: Label of the x axis, with its unit.
        ylabel: Label of the y axis, with its unit.
        levels: Label to the height of a horizontal line: baselines and noise floors.
        yscale: ``"linear"`` or ``"log"``.
        marker: Marker drawn at each point; ``""`` for none.
        height: Height of the figure, in inches.

    Example:
        >>> figure = curves(
        ...     np.arange(3), {"LSTM": np.array([3.0, 2.0, 1.0])}, xlabel="epoch", ylabel="nats"
        ... )
        >>> figure.axes[0].get_ylabel()
        'nats'
    """
    figure, (axes,) = panels(1, height=height)
    levels = levels or {}
    for name, y in lines.items():
        axes.plot(x, y, marker=marker, markersize=4, color=COLOURS[name])
    for name, level in levels.items():
        axes.axhline(level, linestyle="--", linewidth=1.3, color=COLOURS[name])
    axes.set(xlabel=xlabel, ylabel=ylabel, yscale=yscale, xlim=(x[0], x[-1]))
    axes.margins(x=0.02)
    axes.locator_params(axis="x", integer=True)
    ends = {name: (x[-1], y[-1]) for name, y in lines.items()}
    ends |= {name: (x[-1], level) for name, level in levels.items()}
    label_ends(axes, {name: (*end, COLOURS[name]) for name, end in ends.items()})
    return figure
