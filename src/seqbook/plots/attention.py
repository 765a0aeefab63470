"""Figures about attention: projections, heads, alignment, scaling, masks, errors and costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import NullLocator

from seqbook.plots.shapes import arrow, label_cells, node
from seqbook.plots.style import COLOURS, WIDTH, label_ends, panels

__all__ = [
    "alignment",
    "costs",
    "encoder_decoders",
    "errors_by_damage",
    "errors_by_length",
    "heads",
    "masks",
    "projections",
    "scaling",
    "soft_look_up",
]

_DECODER_STEPS = (5, 6, 7)  # horizontal positions of the decoder's states


def encoder_decoders() -> Figure:
    """Draw an encoder-decoder with a single context vector above one with attention.

    Example:
        >>> len(encoder_decoders().axes)
        2
    """
    figure, (closed, opened) = plt.subplots(
        2, 1, figsize=(WIDTH, 4.7), height_ratios=[1, 1.7], squeeze=True
    )
    ring = {"shape": "circle,pad=0.25"}
    for axes, title, top in ((closed, "one vector in between", 0.7), (opened, "with attention", 3)):
        axes.set(xlim=(-0.4, 7.4), ylim=(-2.15, top))
        axes.axis("off")
        axes.set_title(title)
        for t in range(4):
            arrow(axes, (t, -1.2), (t, 0), gap=12)
            if t:
                arrow(axes, (t - 1, 0), (t, 0), gap=12)
            node(axes, (t, -1.2), f"$x_{t + 1}$", COLOURS["data"], **ring)
            node(axes, (t, 0), f"$h_{t + 1}$", COLOURS["GRU"], **ring)
        for t, place in enumerate(_DECODER_STEPS):
            arrow(axes, (place - 1 if t else 3, 0), (place, 0), gap=12)
            arrow(axes, (place, 0), (place, -1.2), gap=12)
            arrow(axes, (place - 1, -1.2), (place, 0), gap=12)
            node(axes, (place, 0), f"$s_{t + 1}$", COLOURS["network"], **ring)
            node(axes, (place, -1.2), f"$y_{t + 1}$", COLOURS["data"], **ring)
        first = _DECODER_STEPS[0] - 1
        node(axes, (first, -1.2), "$y_0$", COLOURS["data"], **ring)
        for place, name in ((first, "start"), (_DECODER_STEPS[-1], "end")):
            axes.text(place, -1.75, name, ha="center", va="center", color=COLOURS["data"])
    closed.text(4, 0.3, "only this vector", ha="center", va="bottom", color=COLOURS["GRU"])
    _attention_lines(opened, (0.1, 0.75, 0.1, 0.05))
    return figure


def _attention_lines(axes: Axes, weights: Sequence[float]) -> None:
    """Draw the attention weights of the second decoder state as arrows of that width."""
    colour = COLOURS["with attention"]
    for t, weight in enumerate(weights):
        arrow(
            axes,
            (t + 0.05, 0.4),
            (_DECODER_STEPS[1], 0.4),
            colour=colour,
            bend=-0.34 - 0.05 * (3 - t),
            linewidth=0.8 + 4.5 * weight,
            alpha=0.35 + 0.6 * weight,
        )
    axes.text(3.2, 2.45, "weights of $s_2$", ha="center", va="bottom", color=colour)


def projections(
    inputs: np.ndarray, weights: Mapping[str, np.ndarray], *, tokens: Sequence[str]
) -> Figure:
    r"""Draw how queries, keys and values are made from one sequence, with all numbers.

    .. math:: Q = X W_Q, \quad K = X W_K, \quad V = X W_V

    Args:
        inputs: X, ``(tokens, d)``, whole numbers.
        weights: ``"Q"``, ``"K"`` and ``"V"`` to the matrices, ``(d, d_k)`` each.
        tokens: Label of each row of X.

    Example:
        >>> figure = projections(np.eye(2), {"Q": np.eye(2), "K": np.ones((2, 1))}, tokens="ab")
        >>> len(figure.axes)
        1
    """
    rows, width = inputs.shape
    step = max(rows, width) + 1.7
    top = step * (len(weights) - 1)
    figure, (axes,) = panels(1, height=0.225 * (top + rows + 1.6))
    axes.set(xlim=(0, 21), ylim=(top + rows + 0.2, -1.5), aspect="equal")
    axes.axis("off")
    middle = top / 2
    _matrix(axes, (2.6, middle), inputs, f"$X$  {rows} × {width}", COLOURS["data"])
    for i, token in enumerate(tokens):
        axes.text(2.3, middle + i + 0.5, token, ha="right", va="center", color=COLOURS["data"])
    for i, (name, weight) in enumerate(weights.items()):
        y = i * step
        colour = COLOURS[_ROLES[name]]
        columns = weight.shape[1]
        centre = y + rows / 2
        arrow(axes, (2.8 + width, middle + rows / 2), (9.2, centre), colour=colour)
        axes.text(9.8, centre, "×", ha="center", va="center", color=colour)
        label = f"$W_{name}$  {width} × {columns}"
        _matrix(axes, (10.4, centre - width / 2), weight, label, colour)
        axes.text(13.9 + columns / 2, centre, "=", ha="center", va="center", color=colour)
        label = f"${name}$  {rows} × {columns}"
        _matrix(axes, (16.4, y), inputs @ weight, label, colour, filled=True)
    return figure


def heads() -> Figure:
    """Draw two heads: the columns of Q, K and V are split, and the two outputs are joined.

    Example:
        >>> len(heads().axes)
        1
    """
    figure, (axes,) = panels(1, height=4.0)
    axes.set(xlim=(-0.4, 21.2), ylim=(16.6, -2.2), aspect="equal")
    axes.axis("off")
    colours = [COLOURS["with attention"], COLOURS["without attention"]]
    for i, name in enumerate("QKV"):
        y = 5.4 * i
        for head, colour in enumerate(colours):
            _matrix(axes, (2 * head, y), np.zeros((3, 2)), "", colour, filled=True, numbers=False)
        axes.text(2, y - 0.3, f"${name}$", ha="center", va="bottom", color=COLOURS["data"])
    axes.text(2, 15.0, "3 × 4, split", ha="center", va="center", color=COLOURS["data"])
    for head, colour in enumerate(colours):
        y = 1.2 + 8 * head
        frame = Rectangle((6.3, y - 1.7), 8.4, 6.4, facecolor="none", edgecolor=colour, alpha=0.5)
        axes.add_patch(frame)
        for i in range(3):
            arrow(axes, (4.2, 5.4 * i + 1.5), (6.2, y + 1.5), colour=colour, mutation_scale=8)
        label = f"$A_{head + 1}$  3 × 3"
        _matrix(axes, (6.8, y), np.zeros((3, 3)), label, colour, numbers=False)
        arrow(axes, (10.0, y + 1.5), (11.4, y + 1.5), colour=colour)
        label = f"$H_{head + 1}$  3 × 2"
        _matrix(axes, (11.6, y), np.zeros((3, 2)), label, colour, filled=True, numbers=False)
        arrow(axes, (14.7, y + 1.5), (16.2, 6.7), colour=colour, mutation_scale=8)
        joined = (16.4 + 2 * head, 5.2)
        _matrix(axes, joined, np.zeros((3, 2)), "", colour, filled=True, numbers=False)
        axes.text(10.5, y + 3.8, f"head {head + 1}", ha="center", va="center", color=colour)
    centred: dict[str, Any] = {"ha": "center", "color": COLOURS["data"]}
    axes.text(18.4, 4.9, "$[H_1, H_2]$", va="bottom", **centred)
    axes.text(18.4, 8.9, "3 × 4, joined", va="center", **centred)
    arrow(axes, (18.4, 9.6), (18.4, 12.0))
    axes.text(18.7, 10.7, "× $W^O$", va="center", color=COLOURS["data"])
    output = "output  3 × 4"
    _matrix(axes, (16.4, 13.2), np.zeros((3, 4)), output, COLOURS["data"], numbers=False)
    return figure


_ROLES = {"Q": "with attention", "K": "without attention", "V": "LSTM"}  # to colours


def _matrix(
    axes: Axes,
    corner: tuple[float, float],
    entries: np.ndarray,
    label: str,
    colour: str,
    *,
    filled: bool = False,
    numbers: bool = True,
) -> None:
    """Draw a matrix as a grid of unit cells, its label above."""
    left, top = corner
    for (i, j), entry in np.ndenumerate(entries):
        cell = Rectangle((left + j, top + i), 1, 1, facecolor="white", edgecolor=colour)
        if filled:
            cell.set_facecolor((*to_rgb(colour), 0.15))
        axes.add_patch(cell)
        if numbers:
            place = (left + j + 0.5, top + i + 0.5)
            axes.text(*place, f"{entry:.0f}", ha="center", va="center_baseline", color=colour)
    if label:
        middle = left + entries.shape[1] / 2
        axes.text(middle, top - 0.25, label, ha="center", va="bottom", color=colour)


def errors_by_damage(
    errors: Mapping[str, Mapping[str, np.ndarray]], overlooked: Mapping[str, float]
) -> Figure:
    """Draw a row of error rates for each corruption of the input, one dot per seed and model.

    Args:
        errors: Corruption to model to error rates, ``(seeds,)``; models are names in ``COLOURS``.
        overlooked: Corruption to the error rate of a model that ignores it; of one at least.

    Example:
        >>> rates = {"with attention": np.array([0.1, 0.2])}
        >>> figure = errors_by_damage({"trimmed": rates}, {"trimmed": 0.4})
        >>> figure.axes[0].get_xlabel()
        'symbol error'
    """
    figure, (axes,) = panels(1, height=0.85 * len(errors) + 0.6)
    for row, (damage, models) in enumerate(errors.items()):
        for lane, (name, values) in enumerate(models.items()):
            y = row + 0.56 / len(models) * (lane - (len(models) - 1) / 2)
            axes.plot(values, np.full(len(values), y), "o", color=COLOURS[name], alpha=0.75)
            if row == 0:
                style: dict[str, Any] = {
                    "xytext": (9, 0),
                    "textcoords": "offset points",
                    "va": "center",
                }
                axes.annotate(name, (values.max(), y), color=COLOURS[name], **style)
        if damage in overlooked:
            level = overlooked[damage]
            axes.plot([level, level], [row - 0.32, row + 0.32], color=COLOURS["overlooked"])
    first = next(row for row, damage in enumerate(errors) if damage in overlooked)
    axes.annotate(
        "writes the\noriginal phrase",
        (overlooked[list(errors)[first]], first),
        xytext=(6, 0),
        textcoords="offset points",
        va="center",
        color=COLOURS["overlooked"],
    )
    axes.set(xlabel="symbol error", xlim=(-0.02, None), ylim=(len(errors) - 0.45, -0.55))
    axes.set_yticks(range(len(errors)), errors)
    axes.tick_params(axis="y", length=0)
    return figure


def errors_by_length(
    lengths: Sequence[int], errors: Mapping[str, np.ndarray], *, longest: int
) -> Figure:
    r"""Draw error rates against the length of the input: the mean in bold, each seed thin.

    .. math:: \bar e = \frac{1}{n} \sum_{i=1}^{n} e_i

    over n seeds.

    Args:
        lengths: Numbers of symbols, ``(points,)``.
        errors: Model to error rates e, ``(seeds, points)``.
        longest: Largest length in training, marked by a vertical line.

    Example:
        >>> rates = {"with attention": np.array([[0.1, 0.2, 0.4]])}
        >>> len(errors_by_length([4, 8, 16], rates, longest=8).axes)
        1
    """
    figure, (axes,) = panels(1, height=2.8)
    ends = {}
    for name, values in errors.items():
        axes.plot(lengths, values.T, color=COLOURS[name], linewidth=0.7, alpha=0.5)
        axes.plot(lengths, values.mean(0), marker="o", markersize=4, color=COLOURS[name])
        ends[name] = (lengths[-1], values[:, -1].mean(), COLOURS[name])
    top = max(values.max() for values in errors.values()) * 1.22
    axes.axvline(longest, linestyle="--", linewidth=1.3, color=COLOURS["training"])
    place: dict[str, Any] = {"xytext": (5, -2), "textcoords": "offset points", "va": "top"}
    axes.annotate("longest in training", (longest, top), color=COLOURS["training"], **place)
    axes.set(xlabel="length (symbols)", ylabel="symbol error", ylim=(-0.02, top))
    axes.set_xlim(lengths[0], lengths[-1])
    axes.set_xticks(lengths)
    label_ends(axes, ends)
    return figure


def soft_look_up(
    angles: np.ndarray, found: Mapping[str, np.ndarray], entries: Mapping[str, tuple[float, float]]
) -> Figure:
    """Draw the output of attention against the direction of the query, for several norms of it.

    Args:
        angles: Directions of the query in degrees, ``(points,)``.
        found: Label to the output in each direction, ``(points,)``; labels in ``COLOURS``.
        entries: Name of a key to its direction in degrees and its value.

    Example:
        >>> angles = np.arange(360.0)
        >>> outputs = {"norm 3": np.cos(np.deg2rad(angles))}
        >>> figure = soft_look_up(angles, outputs, {"north": (0, 1), "south": (180, -1)})
        >>> figure.axes[0].get_ylabel()
        'value found'
    """
    figure, (axes,) = panels(1, height=2.9)
    for name, values in found.items():
        axes.plot(angles, values, color=COLOURS[name])
    for direction, value in entries.values():
        axes.plot(direction, value, "o", markersize=8, color=COLOURS["data"], clip_on=False)
    axes.set_xticks([direction for direction, _ in entries.values()], list(entries))
    axes.set(xlabel="direction of the query", ylabel="value found")
    axes.set_xlim(angles[0], angles[-1])
    label_ends(axes, {name: (angles[-1], y[-1], COLOURS[name]) for name, y in found.items()})
    return figure


def scaling(
    widths: np.ndarray,
    entropy: Mapping[str, np.ndarray],
    jacobian: Mapping[str, np.ndarray],
    *,
    keys: int,
) -> Figure:
    r"""Draw entropy of the softmax and norm of its Jacobian against the size of queries and keys.

    .. math:: H \approx \ln n - \tfrac12 s^2, \quad \lVert J \rVert \approx \sqrt{e/n}

    for n normal scores of variance s^2 (the second for s = 1) are dashed; s^2 is 1 scaled, d_k
    not scaled, where the first is drawn up to 8.

    Args:
        widths: d_k, ``(points,)``.
        entropy: Label to entropies :math:`-\sum_i p_i \ln p_i` of the weights p in nats,
            ``(seeds, points)``.
        jacobian: Label to Frobenius norms :math:`\lVert \operatorname{diag}(p) - p p^\top \rVert`,
            ``(seeds, points)``.
        keys: Number of keys n.

    Example:
        >>> sizes, ones = 2 ** np.arange(4), np.ones((1, 4))
        >>> measured = {"scaled": ones, "not scaled": ones / 2}
        >>> len(scaling(sizes, measured, measured, keys=8).axes)
        2
    """
    figure, axes = panels(2, height=2.4, sharex=True)
    measurements = {
        "entropy of the weights (nats)": entropy,
        "Frobenius norm of the softmax's Jacobian": jacobian,
    }
    for number, (title, measured) in enumerate(measurements.items()):
        panel = axes[number]
        ends = {}
        for name, values in measured.items():
            panel.plot(widths, values.T, color=COLOURS[name], linewidth=0.7, alpha=0.5)
            panel.plot(widths, values.mean(0), color=COLOURS[name])
            ends[name] = (widths[-1], values[:, -1].mean(), COLOURS[name])
        level = (np.log(keys) - 1 / 2, np.sqrt(np.exp(1) / keys))[number]
        panel.plot(widths[[0, -1]], [level, level], "--", linewidth=1.3, color=COLOURS["theory"])
        panel.set_title(title)
        panel.set(xscale="log", yscale="log" if number else "linear", xlim=widths[[0, -1]])
        label_ends(panel, ends)
    narrow = widths[widths <= 8]
    falling = np.log(keys) - narrow / 2
    axes[0].plot(narrow, falling, "--", linewidth=1.3, color=COLOURS["theory"])
    axes[1].set_xlabel("$d_k$, entries of a query or key")
    axes[1].set_xticks(widths[::2], [str(width) for width in widths[::2]])
    axes[1].xaxis.set_minor_locator(NullLocator())
    axes[0].annotate(
        "theory (dashed)",
        (widths[2], np.log(keys) - widths[2] / 2),
        xytext=(12, 2),
        textcoords="offset points",
        color=COLOURS["theory"],
    )
    return figure


def masks(allowed: Mapping[str, np.ndarray], *, steps: Sequence[str]) -> Figure:
    """Draw square masks side by side: filled where a query (row) may attend to a key (column).

    Args:
        allowed: Title to a boolean mask, ``(time, time)``.
        steps: Label of each position.

    Example:
        >>> causal = np.tril(np.ones((3, 3), dtype=bool))
        >>> figure = masks({"causal": causal, "all": causal | True}, steps="abc")
        >>> [axes.get_title(loc="left") or axes.get_title() for axes in figure.axes]
        ['causal', 'all']
    """
    count = len(allowed)
    figure, grid = plt.subplots(1, count, figsize=(WIDTH, WIDTH / count + 0.35), squeeze=False)
    for panel, (title, mask) in zip(grid[0], allowed.items(), strict=True):
        panel.pcolormesh(
            mask, cmap="Blues", vmin=0, vmax=1.4, edgecolors=COLOURS["mean"], linewidth=0.6
        )
        panel.set(aspect="equal", ylim=(len(mask), 0))
        panel.set_title(title)
        label_cells(panel, steps, steps if panel is grid[0, 0] else [""] * len(steps))
    return figure


def alignment(weights: np.ndarray, source: Sequence[str], target: Sequence[str]) -> Figure:
    """Draw the attention weights of each output symbol over the input, darker for larger ones.

    Args:
        weights: ``(target, source)``, each row sums to one.
        source: Labels of the input, for the columns.
        target: Labels of the output, for the rows. The font must have all of their characters.

    Example:
        >>> alignment(np.eye(3), list("abc"), list("ABC")).axes[0].get_xlabel()
        'read'
    """
    rows, columns = weights.shape
    figure, (axes,) = panels(1, height=min(0.75 + WIDTH * 0.8 * rows / columns, 5.2))
    axes.pcolormesh(weights, cmap="Blues", vmin=0, vmax=1, edgecolors="#e8e8e8", linewidth=0.5)
    label_cells(axes, source, target)
    axes.set(xlabel="read", ylabel="written", ylim=(rows, 0))
    axes.xaxis.set_label_position("top")
    axes.xaxis.tick_top()
    return figure


def costs(
    lengths: Sequence[int],
    seconds: Mapping[str, Sequence[float]],
    peaks: Mapping[str, Sequence[float]],
) -> Figure:
    """Draw time and peak memory against the sequence length, on logarithmic axes.

    Args:
        lengths: Numbers of steps, ``(points,)``.
        seconds: Label to times in seconds, ``(points,)``.
        peaks: Label to peak memory in MiB, ``(points,)``.

    Example:
        >>> figure = costs([64, 128], {"torch": [1e-3, 4e-3]}, {"torch": [1.0, 2.0]})
        >>> len(figure.axes)
        2
    """
    figure, axes = panels(2, height=2.6, sharex=True)
    measurements = {
        "time (ms)": {name: np.multiply(values, 1e3) for name, values in seconds.items()},
        "peak of memory (MiB)": peaks,
    }
    for panel, (title, lines) in zip(axes, measurements.items(), strict=True):
        for name, values in lines.items():
            panel.plot(lengths, values, marker="o", markersize=3, color=COLOURS[name])
        panel.set_title(title)
        panel.set(xscale="log", yscale="log", xlim=(lengths[0], lengths[-1]))
        panel.xaxis.set_minor_locator(NullLocator())
        label_ends(panel, {n: (lengths[-1], y[-1], COLOURS[n]) for n, y in lines.items()})
    axes[1].set_xticks(lengths, [str(length) for length in lengths])
    axes[1].set_xlabel("length of the sequence")
    return figure
