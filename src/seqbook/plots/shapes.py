"""The parts that diagrams are made of: nodes, operations, lines and arrows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes

from seqbook.plots.style import COLOURS

__all__ = ["arrow", "line", "node", "operation"]

Place = tuple[float, float]


def node(
    axes: Axes,
    place: Place,
    text: str,
    colour: str,
    *,
    shape: str = "circle,pad=0.32",
    **style: Any,
) -> None:
    """Write text in a white box.

    Args:
        axes: Where to draw.
        place: The centre.
        text: What to write.
        colour: Of text and edge.
        shape: The ``boxstyle`` of ``matplotlib.patches.FancyBboxPatch``.
        style: Of the text.
    """
    box = {"boxstyle": shape, "facecolor": "white", "edgecolor": colour}
    centred: dict[str, Any] = {"ha": "center", "va": "center", "color": colour, "zorder": 3}
    axes.text(*place, text, bbox=box, **(centred | style))


def operation(
    axes: Axes, place: Place, sign: str, colour: str, *, edge: str | None = None, size: float = 13
) -> None:
    """Draw an elementwise operation, a sign in a circle of ``size`` points."""
    edge = colour if edge is None else edge
    axes.plot(*place, "o", markersize=size, color=edge, markerfacecolor="white", zorder=3)
    axes.text(*place, sign, ha="center", va="center_baseline", color=colour, zorder=4)


def line(axes: Axes, points: Sequence[Place], *, colour: str = COLOURS["mean"]) -> None:
    """Draw a thin line through points."""
    axes.plot(*zip(*points, strict=True), color=colour, linewidth=1.2, zorder=2)


def arrow(
    axes: Axes,
    start: Place,
    end: Place,
    *,
    colour: str = COLOURS["mean"],
    bend: float = 0.0,
    gap: float = 0.0,
    **style: Any,
) -> None:
    """Draw an arrow.

    Args:
        axes: Where to draw.
        start: Where it begins.
        end: Where its head is.
        colour: Of line and head.
        bend: How far it bows, as a share of its length.
        gap: Points that it stays away from start and end, for the nodes that stand there.
        style: Further ``arrowprops``, such as ``linewidth`` or, for the head, ``mutation_scale``.
    """
    style = {"arrowstyle": "-|>", "color": colour, "shrinkA": gap, "shrinkB": gap} | style
    if bend:
        style["connectionstyle"] = f"arc3,rad={bend}"
    axes.annotate("", end, start, arrowprops=style, zorder=2)
