"""Figures about attention: alignment, errors by length, scaling, masks, time and memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from seqbook.plots.shapes import arrow, node
from seqbook.plots.style import COLOURS, WIDTH, label_ends, panels

__all__ = [
    "alignment",
    "costs",
    "encoder_decoders",
    "errors_by_damage",
    "errors_by_length",
    "masks",
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
        2, 1, figsize=(WIDTH, 4.3), height_ratios=[1, 1.75], squeeze=True
    )
    ring = {"shape": "circle,pad=0.25"}
    for axes, title, top in ((closed, "one vector in between", 0.7), (opened, "with attention", 3)):
        axes.set(xlim=(-0.4, 7.4), ylim=(-1.55, top))
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
            if t:
                arrow(axes, (place - 1, -1.2), (place, 0), gap=12)
            node(axes, (place, 0), f"$s_{t + 1}$", COLOURS["network"], **ring)
            node(axes, (place, -1.2), f"$y_{t + 1}$", COLOURS["data"], **ring)
    closed.text(4, 0.3, "all there is", ha="center", va="bottom", color=COLOURS["GRU"])
    _attention_lines(opened, (0.1, 0.75, 0.1, 0.05))
    return figure


def _attention_lines(axes: Axes, weights: Sequence[float]) -> None:
    """Draw the attention weights of the second decoder state as lines of that width."""
    colour = COLOURS["with attention"]
    for t, weight in enumerate(weights):
        arrow(
            axes,
            (_DECODER_STEPS[1], 0.4),
            (t + 0.05, 0.4),
            colour=colour,
            bend=0.34 + 0.05 * (3 - t),
            arrowstyle="-",
            linewidth=0.8 + 4.5 * weight,
            alpha=0.35 + 0.6 * weight,
        )
    axes.text(3.2, 2.45, "weights of $s_2$", ha="center", va="bottom", color=colour)


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
    figure, (axes,) = panels(1, height=0.75 * len(errors) + 0.6)
    for row, (damage, models) in enumerate(errors.items()):
        for lane, (name, values) in enumerate(models.items()):
            y = row + 0.3 * (lane - (len(models) - 1) / 2)
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
        "overlooked",
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
    place: dict[str, Any] = {"xytext": (-5, -2), "textcoords": "offset points"}
    place |= {"ha": "right", "va": "top"}
    axes.annotate("longest in training", (longest, top), color=COLOURS["training"], **place)
    axes.set(xlabel="length (symbols)", ylabel="symbol error", ylim=(-0.02, top))
    axes.set_xlim(lengths[0], lengths[-1])
    axes.set_xticks(lengths)
    label_ends(axes, ends)
    return figure


def soft_look_up(
    angles: np.ndarray, found: Mapping[str, np.ndarray], entries: Mapping[str, tuple[float, float]]
) -> Figure:
    """Draw the output of attention against the direction of the query, for several lengths of it.

    Args:
        angles: Directions of the query in degrees, ``(points,)``.
        found: Label to the output in each direction, ``(points,)``; labels in ``COLOURS``.
        entries: Name of a key to its direction in degrees and its value.

    Example:
        >>> angles = np.arange(360.0)
        >>> outputs = {"length 3": np.cos(np.deg2rad(angles))}
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
    expected: Mapping[str, tuple[np.ndarray, np.ndarray]],
) -> Figure:
    r"""Draw entropy of the softmax and norm of its Jacobian against the size of queries and keys.

    Args:
        widths: d_k, ``(points,)``.
        entropy: Label to entropies :math:`-\sum_i p_i \ln p_i` of the weights p in nats,
            ``(seeds, points)``.
        jacobian: Label to norms :math:`\lVert \operatorname{diag}(p) - p p^\top \rVert`,
            ``(seeds, points)``.
        expected: Label, one of them ``"not scaled"``, to the theoretical curves of both,
            ``(points,)`` each, NaN where there is none.

    Example:
        >>> sizes, ones = 2 ** np.arange(4), np.ones((1, 4))
        >>> measured = {"scaled": ones, "not scaled": ones / 2}
        >>> theory = {"not scaled": (np.full(4, 0.5), np.full(4, np.nan))}
        >>> len(scaling(sizes, measured, measured, theory).axes)
        2
    """
    figure, axes = panels(2, height=2.4, sharex=True)
    measurements = {
        "entropy of the weights (nats)": entropy,
        "norm of the softmax's Jacobian": jacobian,
    }
    for number, (title, measured) in enumerate(measurements.items()):
        panel = axes[number]
        ends = {}
        for name, values in measured.items():
            panel.plot(widths, values.T, color=COLOURS[name], linewidth=0.7, alpha=0.5)
            panel.plot(widths, values.mean(0), color=COLOURS[name])
            ends[name] = (widths[-1], values[:, -1].mean(), COLOURS[name])
        for theory in expected.values():
            panel.plot(widths, theory[number], "--", linewidth=1.3, color=COLOURS["theory"])
        panel.set_title(title)
        panel.set(xscale="log", yscale="log" if number else "linear", xlim=widths[[0, -1]])
        label_ends(panel, ends)
    axes[1].set_xlabel("$d_k$, width of queries and keys")
    axes[1].set_xticks(widths[::2], [str(width) for width in widths[::2]])
    axes[1].xaxis.set_minor_locator(NullLocator())
    axes[0].annotate(
        "theory (dashed)",
        (widths[2], expected["not scaled"][0][2]),
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
        centres = np.arange(len(steps)) + 0.5
        panel.set_xticks(centres, steps)
        panel.set_yticks(centres, steps if panel is grid[0, 0] else [""] * len(steps))
        panel.tick_params(length=0)
        panel.spines[:].set_visible(False)
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
    axes.set_xticks(np.arange(columns) + 0.5, source)
    axes.set_yticks(np.arange(rows) + 0.5, target)
    axes.set(xlabel="read", ylabel="written", ylim=(rows, 0))
    axes.tick_params(length=0)
    axes.xaxis.set_label_position("top")
    axes.xaxis.tick_top()
    axes.spines[:].set_visible(False)
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
