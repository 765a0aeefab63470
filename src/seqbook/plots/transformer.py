"""Figures about the Transformer: its layers, position codes, training, heads and caches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from seqbook.plots.shapes import arrow, label_cells, line, operation
from seqbook.plots.style import COLOURS, WIDTH, curves, label_ends, panels

__all__ = [
    "activations",
    "attention_maps",
    "cache_costs",
    "errors_by_time",
    "norm_places",
    "one_stack",
    "position_codes",
    "scores_by_distance",
    "shared_heads",
    "stacks",
    "turned_pairs",
    "where_heads_look",
    "work_per_step",
]

_HALF = 1.15  # of a box's width
_BRANCH = 1.9  # height of a sub-layer


def stacks() -> Figure:
    """Draw a pre-LN encoder and decoder: each sub-layer reads the residual stream and adds to it.

    Example:
        >>> len(stacks().axes)
        1
    """
    figure, (axes,) = panels(1, height=5.9)
    axes.set(xlim=(0, 9.6), ylim=(-0.7, 11))
    axes.axis("off")
    _column(
        axes,
        stream=0.9,
        boxes=2.75,
        name="encoder",
        inputs="source $x_1 \\dots x_n$",
        sublayers=("self-\nattention", "feed-\nforward"),
        colour=COLOURS["held out"],
    )
    top = _column(
        axes,
        stream=8.7,
        boxes=6.85,
        name="decoder",
        inputs="target $y_0 \\dots y_{t-1}$",
        sublayers=("causal self-\nattention", "cross-\nattention", "feed-\nforward"),
        colour=COLOURS["Transformer"],
    )
    arrow(axes, (8.7, top), (8.7, top + 0.5), mutation_scale=9)
    _box(axes, (7.65, top + 0.98), "readout, softmax", COLOURS["Transformer"], half=1.7)
    arrow(axes, (8.7, top + 1.46), (8.7, top + 1.95), mutation_scale=9)
    output: dict[str, Any] = {"ha": "right", "va": "center", "color": COLOURS["data"]}
    axes.text(8.5, top + 1.8, "$P(y_t)$", **output)
    cross = 2.15 + 1.5 * _BRANCH - 0.1
    line(axes, [(0.9, 6.75), (4.7, 6.75), (4.7, cross)], colour=COLOURS["held out"])
    arrow(axes, (4.7, cross), (6.85 - _HALF, cross), colour=COLOURS["held out"], mutation_scale=9)
    axes.text(2.8, 6.85, "keys, values", ha="center", va="bottom", color=COLOURS["held out"])
    return figure


def position_codes(codes: np.ndarray, products: Mapping[int, np.ndarray]) -> Figure:
    r"""Draw position codes as a map and, below it, their inner products with codes nearby.

    Args:
        codes: ``(time, d_model)``.
        products: Position t to its inner products :math:`p_t^\top p_{t+k}` with the positions
            before and after it, ``(2 * reach + 1,)``.

    Example:
        >>> len(position_codes(np.ones((6, 4)), {2: np.ones(3)}).axes)
        2
    """
    figure, (codes_axes, products_axes) = panels(2, height=2.3)
    codes_axes.imshow(codes.T, cmap="PuOr", vmin=-1, vmax=1, aspect="auto", origin="upper")
    codes_axes.set(xlabel="position", ylabel="feature", title="code (orange: −1, purple: 1)")
    for number, values in enumerate(products.values()):
        reach = len(values) // 2
        style: dict[str, Any] = {"linewidth": 5 - 2 * number, "alpha": 0.35 + 0.3 * number}
        products_axes.plot(np.arange(-reach, reach + 1), values, color=COLOURS["theory"], **style)
    products_axes.set(xlabel="distance of two positions", title="product of their codes")
    products_axes.set_xlim(-reach, reach)
    return figure


def errors_by_time(
    runs: Mapping[str, Sequence[tuple[np.ndarray, np.ndarray]]],
    *,
    xlabel: str,
    ylabel: str,
    xscale: str = "linear",
    levels: Mapping[str, float] | None = None,
    height: float = 3.0,
) -> Figure:
    """Draw error rates against training time, one line per run.

    Args:
        runs: Model to one pair of times and errors, ``(points,)`` each, for each run.
        xlabel: Label of the x axis, with its unit.
        ylabel: Label of the y axis, with its unit.
        xscale: ``"linear"`` or ``"log"``.
        levels: Label to the height of a dashed line.
        height: Height of the figure, in inches.

    Example:
        >>> run = np.array([1.0, 2.0, 4.0]), np.array([80.0, 60.0, 50.0])
        >>> figure = errors_by_time({"GRU": [run]}, xlabel="minutes", ylabel="words wrong (%)")
        >>> figure.axes[0].get_xlabel()
        'minutes'
    """
    figure, (axes,) = panels(1, height=height)
    ends = {}
    for name, lines in runs.items():
        for times, errors in lines:
            axes.plot(times, errors, color=COLOURS[name], linewidth=1.2)
        last = np.mean([(times[-1], errors[-1]) for times, errors in lines], axis=0)
        ends[name] = (*last, COLOURS[name])
    first, last = np.array([line[0][[0, -1]] for lines in runs.values() for line in lines]).T
    axes.set(xlabel=xlabel, ylabel=ylabel, xscale=xscale, xlim=(first.min(), last.max()))
    axes.xaxis.set_major_formatter("{x:g}")
    for name, level in (levels or {}).items():
        axes.axhline(level, linestyle="--", linewidth=1.3, color=COLOURS[name])
        ends[name] = (last.max(), level, COLOURS[name])
    label_ends(axes, ends)
    return figure


def where_heads_look(
    weights: Mapping[str, np.ndarray], offsets: Sequence[int], *, uniform: float
) -> Figure:
    """Draw the mean attention weight of each head by relative position, darker for larger ones.

    Args:
        weights: Title of a layer to ``(heads, offsets)``.
        offsets: Relative positions, key minus query.
        uniform: Weight of a head that attends to all positions equally; white is this and less.

    Example:
        >>> figure = where_heads_look({"layer 1": np.eye(2, 3)}, [-1, 0, 1], uniform=0.1)
        >>> figure.axes[0].get_ylabel()
        'head'
    """
    figure, axes = panels(len(weights), height=1.25)
    for panel, (title, values) in zip(axes, weights.items(), strict=True):
        panel.pcolormesh(
            values, cmap="Blues", vmin=uniform, vmax=1, edgecolors="#e8e8e8", linewidth=0.5
        )
        label_cells(
            panel,
            [f"{o:+d}".replace("-", "−") if o else "0" for o in offsets],
            range(1, len(values) + 1),
        )
        panel.set(ylim=(len(values), 0), ylabel="head", title=title)
    axes[-1].set_xlabel("looks at the letter so far from its own")
    return figure


def norm_places() -> Figure:
    """Draw a post-LN and a pre-LN layer side by side, with the stream as a thick line.

    Example:
        >>> [axes.get_title() for axes in norm_places().axes]
        ['post-LN', 'pre-LN']
    """
    figure, (post, pre) = plt.subplots(1, 2, figsize=(WIDTH, 3.5))
    sublayers = ("self-\nattention", "feed-\nforward")
    for axes, title in ((post, "post-LN"), (pre, "pre-LN")):
        axes.set(xlim=(-0.8, 4), ylim=(-0.3, 6.6))
        axes.axis("off")
        axes.set_title(title, loc="center", color=COLOURS[title])
        axes.plot([0, 0], [-0.2, 6.2], color=COLOURS[title], linewidth=3.5, alpha=0.5, zorder=1)
        arrow(axes, (0, 6.2), (0, 6.55), colour=COLOURS[title], mutation_scale=12)
        for number, text in enumerate(sublayers):
            _branch(axes, 0.2 + 3 * number, text, post=title == "post-LN")
    return figure


def work_per_step(steps: int) -> Figure:
    """Draw which positions a decoder computes at each step, without a cache and with one.

    Args:
        steps: Number of symbols written.

    Example:
        >>> [axes.get_title() for axes in work_per_step(4).axes]
        ['recomputed: 10 positions', 'cached: 4 positions']
    """
    now, past = np.eye(steps), np.tril(np.ones((steps, steps)), -1)
    counts = {"recomputed": now + past, "cached": now}
    titles = {name: f"{name}: {int(each.sum())} positions" for name, each in counts.items()}
    figure, grid = plt.subplots(1, 2, figsize=(WIDTH, WIDTH / 2 + 0.4))
    for axes, (name, title) in zip(grid, titles.items(), strict=True):
        shade = now + past * (1 if name == "recomputed" else 0.3)
        axes.pcolormesh(shade, cmap="Blues", vmin=0, vmax=1.3, edgecolors="white", linewidth=1)
        axes.set(aspect="equal", ylim=(steps, 0), xlabel="position")
        axes.set_title(title, loc="center", color=COLOURS[name], fontsize=10)
        label_cells(axes, range(1, steps + 1), range(1, steps + 1))
    grid[0].set_ylabel("step")
    return figure


def attention_maps(
    weights: Mapping[str, np.ndarray], symbols: Sequence[str], *, columns: int = 2
) -> Figure:
    """Draw matrices of self-attention over the same symbols, darker for larger weights.

    Args:
        weights: Title to a matrix ``(time, time)``, whose rows are the queries.
        symbols: Label of each position.
        columns: Matrices side by side.

    Example:
        >>> figure = attention_maps({"head 1": np.eye(3), "head 2": np.eye(3)[::-1]}, "abc")
        >>> len(figure.axes)
        2
    """
    rows = -(-len(weights) // columns)
    size = (WIDTH, rows * (WIDTH / columns + 0.2))
    figure, grid = plt.subplots(rows, columns, figsize=size, squeeze=False)
    for axes in grid.flat[len(weights) :]:
        axes.remove()
    for axes, (title, values) in zip(grid.flat, weights.items(), strict=False):
        axes.pcolormesh(values, cmap="Blues", vmin=0, vmax=1, edgecolors="#e8e8e8", linewidth=0.5)
        axes.set(aspect="equal", ylim=(len(values), 0))
        axes.set_title(title, loc="center")
        label_cells(axes, symbols, symbols)
    return figure


def one_stack() -> Figure:
    """Draw a decoder-only model: one stack whose question and answer are the same text.

    Example:
        >>> len(one_stack().axes)
        1
    """
    figure, (axes,) = panels(1, height=4.9)
    axes.set(xlim=(0, 9.6), ylim=(-0.7, 9.1))
    axes.axis("off")
    colour = COLOURS["Transformer"]
    top = _column(
        axes,
        stream=5.2,
        boxes=3.15,
        name="decoder",
        inputs="the text $s_1 \\dots s_t$",
        sublayers=("causal self-\nattention", "feed-\nforward"),
        colour=colour,
    )
    arrow(axes, (5.2, top), (5.2, top + 0.5), mutation_scale=9)
    _box(axes, (4.2, top + 0.98), "readout, softmax", colour, half=1.7)
    arrow(axes, (5.2, top + 1.46), (5.2, top + 1.95), mutation_scale=9)
    output: dict[str, Any] = {"ha": "right", "va": "center", "color": COLOURS["data"]}
    axes.text(5.0, top + 1.8, "$P(s_{t+1})$", **output)
    line(axes, [(5.9, top + 1.8), (8.7, top + 1.8), (8.7, -0.4)], colour=COLOURS["held out"])
    arrow(axes, (8.7, -0.4), (6.3, -0.4), colour=COLOURS["held out"], mutation_scale=9)
    label: dict[str, Any] = {"ha": "center", "va": "center", "rotation": 90}
    axes.text(9.1, top / 2 + 0.7, "writing: one symbol more", color=COLOURS["held out"], **label)
    return figure


def scores_by_distance(scores: Mapping[str, Mapping[int, np.ndarray]]) -> Figure:
    """Draw the scores of one query and one key by their distance, a line for each place.

    Args:
        scores: Title of a panel to the query's position and its scores with the keys at the same
            position, one before it, and so on, ``(distances,)``.

    Example:
        >>> lines = {8: np.array([2.0, 1.0]), 9: np.array([2.0, 1.0])}
        >>> len(scores_by_distance({"rotary": lines, "added": lines}).axes)
        2
    """
    figure, axes = panels(len(scores), height=2.1, sharex=True)
    for panel, (title, lines) in zip(axes, scores.items(), strict=True):
        for number, values in enumerate(lines.values()):
            style: dict[str, Any] = {"linewidth": 5 - 2 * number, "alpha": 0.35 + 0.3 * number}
            panel.plot(np.arange(len(values)), values, color=COLOURS["theory"], **style)
        panel.set(title=title, ylabel="score", xlim=(0, len(values) - 1))
    axes[-1].set_xlabel("distance of the key from the query")
    return figure


def turned_pairs(places: Sequence[tuple[int, int]], *, degrees: float) -> Figure:
    """Draw two equal vectors, a query and a key, turned by angles that grow with their places.

    Args:
        places: Places of the query and the key, one pair for each panel.
        degrees: Angle for each place.

    Example:
        >>> [axes.get_title() for axes in turned_pairs([(2, 1), (9, 8)], degrees=30).axes]
        ['places 2 and 1', 'places 9 and 8']
    """
    figure, grid = plt.subplots(1, len(places), figsize=(WIDTH, WIDTH / len(places) + 0.35))
    circle = np.linspace(0, 2 * np.pi, 100)
    vectors = {"query": COLOURS["Transformer"], "key": COLOURS["held out"]}
    for axes, pair in zip(np.atleast_1d(grid), places, strict=True):
        axes.plot(np.cos(circle), np.sin(circle), color=COLOURS["mean"], linewidth=0.5)
        for (name, colour), place in zip(vectors.items(), pair, strict=True):
            angle = np.radians(degrees * place)
            end = np.cos(angle), np.sin(angle)
            arrow(axes, (0, 0), end, colour=colour, mutation_scale=10)
            label: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 9.5}
            axes.text(1.35 * end[0], 1.25 * end[1], name, color=colour, **label)
        axes.set(aspect="equal", xlim=(-1.65, 1.65), ylim=(-1.5, 1.5))
        axes.set_title(f"places {pair[0]} and {pair[1]}", loc="center", fontsize=10)
        axes.axis("off")
    return figure


def shared_heads(heads: int, kv_heads: Sequence[int]) -> Figure:
    """Draw which heads of queries read which heads of keys and values.

    Args:
        heads: Number of heads of queries.
        kv_heads: Number of heads of keys and values, one for each panel.

    Example:
        >>> [axes.get_title() for axes in shared_heads(4, [4, 2]).axes]
        ['4 heads of keys', '2 heads of keys']
    """
    figure, grid = plt.subplots(1, len(kv_heads), figsize=(WIDTH, 1.9))
    style: dict[str, Any] = {"linestyle": "none", "markersize": 11, "zorder": 3}
    for axes, count in zip(np.atleast_1d(grid), kv_heads, strict=True):
        keys = (np.arange(count) + 0.5) * heads / count - 0.5
        for head in range(heads):
            line(axes, [(head, 1), (keys[head * count // heads], 0)])
        axes.plot(range(heads), np.ones(heads), "o", color=COLOURS["Transformer"], **style)
        axes.plot(keys, np.zeros(count), "s", color=COLOURS["held out"], **style)
        axes.set(xlim=(-0.7, heads - 0.3), ylim=(-0.7, 1.7))
        axes.set_title(f"{count} head{'s' * (count > 1)} of keys", loc="center", fontsize=10)
        axes.axis("off")
    first = np.atleast_1d(grid)[0]
    label: dict[str, Any] = {"ha": "left", "va": "center", "fontsize": 9.5}
    first.text(-0.4, 1.45, "queries", color=COLOURS["Transformer"], **label)
    first.text(-0.4, -0.45, "keys, values", color=COLOURS["held out"], **label)
    return figure


def activations(inputs: np.ndarray, values: Mapping[str, np.ndarray]) -> Figure:
    """Draw the functions that make a feed-forward network nonlinear.

    Args:
        inputs: ``(points,)``.
        values: Name of a function to its values, ``(points,)``.

    Example:
        >>> x = np.linspace(-3, 3, 5)
        >>> len(activations(x, {"ReLU": np.maximum(0, x)}).axes[0].lines)
        3
    """
    figure = curves(inputs, values, xlabel="x", ylabel="", marker="", height=2.6)
    for zero in (figure.axes[0].axhline, figure.axes[0].axvline):
        zero(0, color=COLOURS["mean"], linewidth=0.4)
    return figure


def cache_costs(
    lengths: np.ndarray,
    memory: Mapping[str, np.ndarray],
    work: Mapping[str, np.ndarray],
) -> Figure:
    """Draw what a cache holds and what it saves against the length, on logarithmic axes.

    Args:
        lengths: Numbers of symbols, ``(points,)``.
        memory: Label to the size of the cache in GiB, ``(points,)``.
        work: Label to the multiplications of the whole text, ``(points,)``.

    Example:
        >>> lines = {"cached": np.array([1.0, 2.0])}
        >>> len(cache_costs(np.array([64, 128]), lines, lines).axes)
        2
    """
    figure, axes = panels(2, height=2.5, sharex=True)
    titles = {"size of the cache (GiB)": memory, "multiplications in all": work}
    for panel, (title, lines) in zip(axes, titles.items(), strict=True):
        for name, y in lines.items():
            panel.plot(lengths, y, color=COLOURS[name])
        panel.set(title=title, xscale="log", yscale="log", xlim=(lengths[0], lengths[-1]))
        label_ends(panel, {n: (lengths[-1], y[-1], COLOURS[n]) for n, y in lines.items()})
    axes[1].set_xlabel("symbols")
    return figure


def _branch(axes: Axes, start: float, text: str, *, post: bool) -> None:
    """Draw a sub-layer to the right of a stream at x = 0, and the norm on the stream or before."""
    x, turn = 2.3, start + 1.9
    line(axes, [(0, start), (x, start), (x, turn)])
    arrow(axes, (x, turn), (0.24, turn), mutation_scale=9)
    _box(axes, (x, start + 0.95), text, COLOURS["data"])
    _pill(axes, (0, turn + 0.6) if post else (1.1, start), "norm")
    operation(axes, (0, turn), "+", COLOURS["data"])


def _column(
    axes: Axes,
    *,
    stream: float,
    boxes: float,
    name: str,
    inputs: str,
    sublayers: Sequence[str],
    colour: str,
) -> float:
    """Draw one stack from its input to its last norm; return the y coordinate of its end."""
    middle = (stream + boxes) / 2
    axes.text(middle, -0.4, inputs, ha="center", va="center", color=COLOURS["data"])
    arrow(axes, (stream, -0.1), (stream, 0.35), mutation_scale=9)
    _box(axes, (middle, 0.85), "embedding\n+ positions", COLOURS["data"], half=1.6)
    bottom, top = 1.75, 2.15 + _BRANCH * len(sublayers)
    end = top + 0.8
    axes.plot([stream, stream], [1.35, end], color=colour, linewidth=3.5, alpha=0.5, zorder=1)
    for number, text in enumerate(sublayers):
        start = 2.15 + _BRANCH * number
        line(axes, [(stream, start), (boxes, start)])
        arrow(axes, (boxes, start), (boxes, start + 0.36), mutation_scale=9)
        _box(axes, (boxes, start + 0.85), text, colour)
        turn = start + _BRANCH - 0.45
        line(axes, [(boxes, start + 1.34), (boxes, turn)])
        inwards = 0.24 if boxes > stream else -0.24
        arrow(axes, (boxes, turn), (stream + inwards, turn), mutation_scale=9)
        _pill(axes, (middle, start), "norm")
        axes.plot(stream, turn, "o", markersize=13, color=colour, markerfacecolor="white", zorder=3)
        axes.text(stream, turn, "+", ha="center", va="center_baseline", color=colour, zorder=4)
    low, high = sorted((stream, boxes))
    left, right = low - (0.65 if low == stream else 1.3), high + (1.3 if low == stream else 0.65)
    frame = FancyBboxPatch(
        (left, bottom),
        right - left,
        top - bottom - 0.15,
        boxstyle="round,pad=0,rounding_size=0.2",
        facecolor="none",
        edgecolor=COLOURS["mean"],
        linestyle="--",
        linewidth=0.9,
    )
    axes.add_patch(frame)
    place = (stream + 0.4, "left") if low == stream else (stream - 0.4, "right")
    label: dict[str, Any] = {
        "ha": place[1],
        "va": "bottom",
        "fontsize": 9,
        "color": COLOURS["training"],
    }
    axes.text(place[0], top, f"$N$ {name} layers", **label)
    _pill(axes, (stream, end - 0.2), "norm")
    return end


def _box(
    axes: Axes, place: tuple[float, float], text: str, colour: str, *, half: float = _HALF
) -> None:
    x, y = place
    patch = FancyBboxPatch(
        (x - half, y - 0.48),
        2 * half,
        0.96,
        boxstyle="round,pad=0,rounding_size=0.18",
        facecolor="white",
        edgecolor=colour,
        zorder=3,
    )
    axes.add_patch(patch)
    style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 10, "zorder": 4}
    style["linespacing"] = 1.0
    axes.text(x, y, text, color=colour, **style)


def _pill(axes: Axes, place: tuple[float, float], text: str) -> None:
    box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": COLOURS["mean"]}
    style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 9, "zorder": 4}
    axes.text(*place, text, color=COLOURS["data"], bbox=box, **style)
