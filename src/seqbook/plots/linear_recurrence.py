"""Figures about linear recurrences: the order of a scan, and how long decays remember."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from seqbook.plots.shapes import line, node
from seqbook.plots.style import COLOURS, WIDTH, panels

__all__ = ["loop_and_scan", "remembered"]


class _Map(NamedTuple):
    """The composition of the steps ``first`` to ``last``, made in round ``made``."""

    first: int
    last: int
    made: int


_Compositions = list[tuple[_Map, _Map, _Map]]  # left and right operand, result


def loop_and_scan(length: int) -> Figure:
    """Draw which steps are composed in which round, by a loop and by a scan.

    Args:
        length: Number of steps of the sequence.

    Example:
        >>> [axes.get_title("left") for axes in loop_and_scan(8).axes]
        ['loop: 7 compositions in 7 rounds', 'scan: 11 compositions in 5 rounds']
    """
    steps = [_Map(t, t, 0) for t in range(1, length + 1)]
    made: dict[str, _Compositions] = {"loop": [], "scan": []}
    total = steps[0]
    for step in steps[1:]:
        total = _compose(total, step, total.made + 1, made["loop"])
    _scan(steps, 0, made["scan"])
    rounds = {name: max(result.made for *_, result in found) for name, found in made.items()}
    heights = [count + 1 for count in rounds.values()]
    figure, grid = plt.subplots(
        2, 1, figsize=(WIDTH, 0.4 * sum(heights) + 0.5), height_ratios=heights
    )
    for axes, (name, found) in zip(grid, made.items(), strict=True):
        axes.set_title(f"{name}: {len(found)} compositions in {rounds[name]} rounds", loc="left")
        for step in steps:
            _draw(axes, step)
        for left, right, result in found:
            for operand in (left, right):
                line(axes, [(operand.last, -operand.made), (result.last, -result.made)])
            _draw(axes, result)
        axes.set(xlim=(0.4, length + 0.6), ylim=(-rounds[name] - 0.5, 0.5))
        axes.axis("off")
    return figure


def _compose(left: _Map, right: _Map, made: int, found: _Compositions) -> _Map:
    result = _Map(left.first, right.last, made)
    found.append((left, right, result))
    return result


def _scan(maps: list[_Map], made: int, found: _Compositions) -> tuple[list[_Map], int]:
    """Return all prefixes and the last round, in the order of ``associative_scan``."""
    if len(maps) < 2:
        return maps, made
    pairs = [_compose(*two, made + 1, found) for two in zip(maps[::2], maps[1::2], strict=False)]
    odd, made = _scan(pairs, made + 1, found)
    later = list(zip(odd, maps[2::2], strict=False))
    made += bool(later)
    even = [maps[0], *(_compose(*two, made, found) for two in later)]
    return sorted([*even, *odd], key=lambda result: result.last), made


def _draw(axes: Axes, result: _Map) -> None:
    whole = result.first == result.last
    text = f"{result.last}" if whole else f"{result.first}–{result.last}"
    colour = COLOURS["scan"] if result.first == 1 else COLOURS["data"]
    node(axes, (result.last, -result.made), text, colour, shape="round,pad=0.22", fontsize=9)


def remembered(steps: np.ndarray, moduli: Mapping[str, np.ndarray]) -> Figure:
    r"""Draw what is left of an input after some steps, a curve for each decay.

    .. math:: |\lambda|^t

    Args:
        steps: Times t since the input, above zero, ``(points,)``.
        moduli: Title of a panel to :math:`|\lambda|`, ``(states,)``. The median is drawn in bold;
            a dashed line stands at 1/e.

    Example:
        >>> figure = remembered(np.arange(1, 100), {"LRU": np.array([0.5, 0.9, 0.99])})
        >>> figure.axes[0].get_xscale()
        'log'
    """
    figure, axes = panels(len(moduli), height=1.9, sharex=True)
    for panel, (title, radii) in zip(axes, moduli.items(), strict=True):
        curves = radii[:, None] ** steps  # (states, points)
        panel.plot(steps, curves.T, color=COLOURS["mean"], linewidth=0.6, alpha=0.6)
        panel.plot(steps, np.median(radii) ** steps, color=COLOURS["scan"], linewidth=2.2)
        panel.axhline(np.exp(-1), color=COLOURS["data"], linestyle="--", linewidth=1)
        panel.set(xscale="log", xlim=(steps[0], steps[-1]), ylim=(0, 1.02), yticks=[0, 0.5, 1])
        panel.set_title(title)
        panel.xaxis.set_major_formatter("{x:g}")
    axes[-1].set_xlabel("steps since the input")
    axes[0].set_ylabel("left of it")
    return figure
