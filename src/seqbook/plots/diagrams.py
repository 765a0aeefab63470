"""Drawings of how models pass information along a sequence."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from seqbook.plots.style import COLOURS, panels

__all__ = ["three_kinds"]


def three_kinds() -> Figure:
    """Draw what the prediction of x_5 looks at: all of the past, a window, or a summary."""
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
            _node(axes, (t, 0), f"$x_{t}$", COLOURS["data"] if t < 5 else COLOURS["network"])
    for t in range(1, 5):
        _arrow(axes=whole, start=(t, 0), end=(5, 0), bend=-0.32)
    for t in (3, 4):
        _arrow(axes=window, start=(t, 0), end=(5, 0), bend=-0.4)
    for t in range(1, 5):
        _node(latent, (t, 1), f"$h_{t}$", COLOURS["filter"])
        _arrow(axes=latent, start=(t, 0), end=(t, 1))
        if t < 4:
            _arrow(axes=latent, start=(t, 1), end=(t + 1, 1))
    _arrow(axes=latent, start=(4, 1), end=(5, 0))
    return figure


def _node(axes: Axes, place: tuple[float, float], text: str, colour: str) -> None:
    axes.text(
        *place,
        text,
        ha="center",
        va="center",
        color=colour,
        fontsize=13,
        bbox={"boxstyle": "circle,pad=0.32", "facecolor": "white", "edgecolor": colour},
        zorder=3,
    )


def _arrow(axes: Axes, start, end, bend: float = 0.0) -> None:
    axes.annotate(
        "",
        end,
        start,
        arrowprops={
            "arrowstyle": "-|>",
            "color": COLOURS["mean"],
            "connectionstyle": f"arc3,rad={bend}",
            "shrinkA": 14,
            "shrinkB": 14,
        },
    )
