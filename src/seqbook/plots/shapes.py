"""Parts of diagrams: nodes, operations, lines, arrows and labels of cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from seqbook.plots.style import COLOURS

__all__ = ["arrow", "label_cells", "line", "node", "operation"]

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
        text: Label.
        colour: Colour of text and edge.
        shape: The ``boxstyle`` of ``matplotlib.patches.FancyBboxPatch``.
        style: Further properties of the text, such as ``fontsize``.

    Example:
        >>> from seqbook.plots.style import panels
        >>> figure, (axes,) = panels(1)
        >>> node(axes, (0, 0), "$h_t$", "black")
        >>> [text.get_text() for text in axes.texts]
        ['$h_t$']
    """
    box = {"boxstyle": shape, "facecolor": "white", "edgecolor": colour}
    centred: dict[str, Any] = {"ha": "center", "va": "center", "color": colour, "zorder": 3}
    axes.text(*place, text, bbox=box, **(centred | style))


def operation(
    axes: Axes, place: Place, sign: str, colour: str, *, edge: str | None = None, size: float = 13
) -> None:
    """Draw an elementwise operation: a sign in a circle of ``size`` points.

    Example:
        >>> from seqbook.plots.style import panels
        >>> figure, (axes,) = panels(1)
        >>> operation(axes, (0, 0), "+", "black")
        >>> axes.texts[0].get_text()
        '+'
    """
    edge = colour if edge is None else edge
    axes.plot(*place, "o", markersize=size, color=edge, markerfacecolor="white", zorder=3)
    axes.text(*place, sign, ha="center", va="center_baseline", color=colour, zorder=4)


def line(axes: Axes, points: Sequence[Place], *, colour: str = COLOURS["mean"]) -> None:
    """Draw a thin line through points of data coordinates.

    Example:
        >>> from seqbook.plots.style import panels
        >>> figure, (axes,) = panels(1)
        >>> line(axes, [(0, 0), (1, 0), (1, 1)])
        >>> len(axes.lines)
        1
    """
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
        start: Its tail.
        end: Its head.
        colour: Colour of line and head.
        bend: Curvature, as a fraction of its length.
        gap: Distance in points from start and end, to leave room for nodes.
        style: Further ``arrowprops``, such as ``linewidth`` or, for the head, ``mutation_scale``.

    Example:
        >>> from seqbook.plots.style import panels
        >>> figure, (axes,) = panels(1)
        >>> arrow(axes, (0, 0), (1, 1), bend=0.2, gap=10)
        >>> len(axes.texts)
        1
    """
    style = {"arrowstyle": "-|>", "color": colour, "shrinkA": gap, "shrinkB": gap} | style
    if bend:
        style["connectionstyle"] = f"arc3,rad={bend}"
    axes.annotate("", end, start, arrowprops=style, zorder=2)


def label_cells(axes: Axes, columns: Sequence[Any], rows: Sequence[Any]) -> None:
    """Label the cells of a matrix at their centres, without ticks and frame.

    Args:
        axes: Where the matrix is drawn, with cells of size 1.
        columns: Label of each column.
        rows: Label of each row.

    Example:
        >>> from seqbook.plots.style import panels
        >>> figure, (axes,) = panels(1)
        >>> label_cells(axes, "ab", range(2))
        >>> [label.get_text() for label in axes.get_xticklabels()]
        ['a', 'b']
    """
    axes.set_xticks(np.arange(len(columns)) + 0.5, [str(label) for label in columns])
    axes.set_yticks(np.arange(len(rows)) + 0.5, [str(label) for label in rows])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
