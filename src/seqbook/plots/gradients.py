"""Figures about gradients: their path through time, their decay, and clipping."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from seqbook.plots.shapes import arrow, node
from seqbook.plots.style import COLOURS, label_ends, panels

__all__ = ["clipped_runs", "gradient_path", "seeds", "windows"]


def gradient_path() -> Figure:
    """Draw four steps of a recurrent network: values flow to the right, gradients to the left.

    Example:
        >>> len(gradient_path().axes)
        1
    """
    figure, (axes,) = panels(1, height=2.6)
    axes.set(xlim=(-0.4, 5.5), ylim=(-0.5, 2.3))
    axes.axis("off")
    back = COLOURS["gradient"]
    for t in range(5):
        node(axes, (t, 1), f"$h_{t}$", COLOURS["RNN"], fontsize=13)
    node(axes, (5, 1), "$\\ell$", COLOURS["data"], fontsize=13)
    for t in range(1, 5):
        node(axes, (t, 0), f"$x_{t}$", COLOURS["data"], fontsize=13)
        arrow(axes, (t, 0), (t, 1), gap=14)
        arrow(axes, (t - 1, 1), (t, 1), gap=14)
        axes.text(t, 2, "$W_h$", ha="center", va="center", color=back, fontsize=12)
        arrow(axes, (t, 1.05), (t, 2), colour=back, gap=14)
        arrow(axes, (t + 1, 1), (t, 1), bend=0.5, colour=back, gap=14)
    arrow(axes, (4, 1), (5, 1), gap=14)
    return figure


def windows() -> Figure:
    """Draw truncated backpropagation in two windows of three steps: stateful and stateless.

    Example:
        >>> [axes.get_title() for axes in windows().axes]
        ['stateful', 'stateless']
    """
    figure, both = panels(2, height=1.25)
    at = [0, 1, 2, 3, 5, 6, 7]  # places of h_0 to h_6
    for axes, kind in zip(both, ("stateful", "stateless"), strict=True):
        axes.set(xlim=(-0.5, 7.5), ylim=(-0.5, 0.9))
        axes.axis("off")
        axes.set_title(kind)
        zeros = {1: 0} if kind == "stateful" else {1: 0, 4: 4.1}
        for t in range(1, 7):
            place, before = (at[t], 0), (zeros.get(t, at[t - 1]), 0)
            node(axes, place, f"$h_{t}$", COLOURS["RNN"], fontsize=13)
            arrow(axes, before, place, gap=14)
            if t in zeros:
                node(axes, before, "$0$", COLOURS["data"], fontsize=11)
            if t not in (1, 4):
                arrow(axes, place, before, bend=0.6, colour=COLOURS["gradient"], gap=14)
        axes.axvline(3.55, linestyle="--", linewidth=1.3, color=COLOURS["not clipped"])
    return figure


def seeds(
    x: np.ndarray,
    lines: Mapping[str, Mapping[str, np.ndarray]],
    *,
    xlabel: str,
    yscale: str = "log",
    xscale: str = "linear",
    levels: Mapping[str, float] | None = None,
    marker: str = "",
    height: float = 2.1,
    ylim: tuple[float, float] | None = None,
) -> Figure:
    r"""Draw panels of curves: the mean over seeds in bold, each seed thin.

    On a logarithmic axis the mean over n seeds is the geometric one,

    .. math:: \bar y = \exp\Big( \frac{1}{n} \sum_{i=1}^{n} \ln y_i \Big)

    Args:
        x: ``(points,)``, shared by the panels.
        lines: Panel title to label to values ``(seeds, points)``; labels are in ``COLOURS``.
        xlabel: Label of the x axis, with its unit.
        yscale: ``"log"`` or ``"linear"``.
        xscale: ``"linear"`` or ``"log"``; on a logarithmic axis the ticks are the points of ``x``.
        levels: Label to the height of a dashed line in every panel.
        marker: Marker drawn at each point of a mean.
        height: Height of a panel, in inches.
        ylim: Range of the y axis of every panel; by default each panel has its own.

    Example:
        >>> lags = np.arange(1, 5)
        >>> norms = {"RNN": {"default": np.stack([0.5**lags, 0.6**lags])}}
        >>> seeds(lags, norms, xlabel="lag").axes[0].get_yscale()
        'log'
    """
    figure, axes = panels(len(lines), height=height, sharex=True)
    for panel, (title, named) in zip(axes, lines.items(), strict=True):
        ends = {}
        for name, values in named.items():
            mean = np.exp(np.log(values).mean(0)) if yscale == "log" else values.mean(0)
            panel.plot(x, values.T, color=COLOURS[name], linewidth=0.7, alpha=0.5)
            panel.plot(x, mean, marker=marker, markersize=4, color=COLOURS[name])
            ends[name] = (x[-1], mean[-1], COLOURS[name])
        for name, level in (levels or {}).items():
            panel.axhline(level, linestyle="--", linewidth=1.3, color=COLOURS[name])
            ends[name] = (x[-1], level, COLOURS[name])
        panel.set(yscale=yscale, xscale=xscale, xlim=(x[0], x[-1]), ylim=ylim)
        panel.set_title(title)
        if xscale == "log":
            panel.set_xticks(x, [f"{value:g}" for value in x])
            panel.minorticks_off()
        label_ends(panel, ends)
    axes[-1].set_xlabel(xlabel)
    return figure


def clipped_runs(
    clipped: tuple[np.ndarray, np.ndarray],
    free: tuple[np.ndarray, np.ndarray],
    *,
    threshold: float,
    level: float,
) -> Figure:
    """Draw loss and gradient norm by training step, with clipping and without.

    Args:
        clipped: Losses and norms of the gradients before clipping, ``(steps,)`` each.
        free: The same of a run without clipping; a cross marks the last finite value.
        threshold: Norm above which gradients are clipped.
        level: Loss of a model that knows only the frequencies of the letters.

    Example:
        >>> steady, diverging = np.full(30, 2.0), np.array([2.0, 9.0, np.inf])
        >>> figure = clipped_runs(
        ...     (steady, steady), (diverging, diverging), threshold=1.0, level=3.0
        ... )
        >>> len(figure.axes)
        2
    """
    figure, axes = panels(2, height=2.1, sharex=True)
    rows = zip(
        axes,
        ("loss (nats a letter)", "length of the gradient before clipping"),
        clipped,
        free,
        {"letters alone": level, "threshold": threshold}.items(),
        strict=True,
    )
    for panel, title, steady, broken, (mark, height) in rows:
        broken = broken[np.isfinite(broken)]
        last = (len(broken) - 1, broken[-1])
        panel.plot(steady, color=COLOURS["clipped"])
        panel.plot(broken, color=COLOURS["not clipped"])
        panel.plot(*last, "X", markersize=9, color=COLOURS["not clipped"])
        panel.annotate(
            "not clipped",
            last,
            xytext=(10, 0),
            textcoords="offset points",
            color=COLOURS["not clipped"],
            va="center",
        )
        panel.axhline(height, linestyle="--", linewidth=1.3, color=COLOURS[mark])
        panel.set(yscale="log", xlim=(0, len(steady) - 1))
        panel.set_title(title)
        ends = {"clipped": np.median(steady[-20:]), mark: height}
        label_ends(panel, {name: (0, y, COLOURS[name]) for name, y in ends.items()})
    axes[-1].set_xlabel("update")
    return figure
