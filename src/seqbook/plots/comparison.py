"""Figures that compare RNN, LSTM and GRU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from seqbook.plots.shapes import arrow, line, node, operation
from seqbook.plots.style import COLOURS, label_ends, panels

__all__ = [
    "gate_along_text",
    "gradient_by_lag",
    "latch",
    "losses_by_step",
    "states_along_string",
    "step_diagrams",
]


def step_diagrams() -> Figure:
    """Draw one step of an LSTM above one step of a GRU.

    Example:
        >>> len(step_diagrams().axes)
        2
    """
    figure, (lstm, gru) = panels(2, height=2.5)
    for axes, name in ((lstm, "LSTM"), (gru, "GRU")):
        axes.set(xlim=(-0.3, 10.4), ylim=(-1.1, 4.1), aspect="equal")
        axes.axis("off")
        axes.set_title(name, color=COLOURS[name])
    _lstm_step(lstm, COLOURS["LSTM"])
    _gru_step(gru, COLOURS["GRU"])
    return figure


def latch(value: np.ndarray, held: np.ndarray, writes: Sequence[int]) -> Figure:
    """Draw an input above the state of a unit that stores it at some steps and holds it between.

    Args:
        value: Input, ``(time,)``.
        held: State, ``(time,)``.
        writes: Steps at which the input is to be stored.

    Example:
        >>> len(latch(np.array([0.3, -0.5, 0.8]), np.array([0.3, 0.3, 0.8]), [0, 2]).axes)
        2
    """
    figure, (above, below) = panels(2, height=1.5, sharex=True)
    above.plot(value, color=COLOURS["mean"], linewidth=1)
    above.plot(writes, value[writes], "o", color=COLOURS["GRU"], markersize=7)
    above.set_title("input (dots: to be written)", color=COLOURS["data"])
    below.plot(held, color=COLOURS["GRU"])
    below.set_title("state", color=COLOURS["GRU"])
    below.set_xlabel("step")
    for axes in (above, below):
        axes.set(ylim=(-1.1, 1.1), yticks=[-1, 0, 1])
    return figure


def gradient_by_lag(plain: Mapping[str, np.ndarray], biased: Mapping[str, np.ndarray]) -> Figure:
    """Draw norms of gradients against the number of steps they are propagated back.

    Args:
        plain: Network to norms by lag, ``(lags,)``; solid.
        biased: The same with a bias on the forget or update gate; dashed, labelled "+ bias".

    Example:
        >>> norms = 0.9 ** np.arange(5)
        >>> gradient_by_lag({"RNN": norms}, {"GRU": norms}).axes[0].get_yscale()
        'log'
    """
    figure, (axes,) = panels(1, height=2.9)
    ends = {}
    for curves, style, suffix in ((plain, "-", ""), (biased, "--", " + bias")):
        for name, norms in curves.items():
            lags = np.arange(1, len(norms) + 1)
            axes.plot(lags, norms, style, color=COLOURS[name])
            ends[name + suffix] = (lags[-1], norms[-1], COLOURS[name])
    axes.set(xlabel="steps back", ylabel="gradient left", yscale="log", xlim=(1, lags[-1]))
    label_ends(axes, ends)
    return figure


def losses_by_step(
    losses: Mapping[str, Sequence[np.ndarray]], levels: Mapping[str, float], *, ylabel: str
) -> Figure:
    r"""Draw training losses, one thin line per seed, with the name of the network at the end.

    .. math:: \bar \ell_s = \frac{1}{20} \sum_{i=0}^{19} \ell_{s-i}

    Args:
        losses: Network to one history :math:`\ell` ``(steps,)`` per seed, drawn as moving averages.
        levels: Label to the height of a dashed line, in grey: brown is the GRU's.
        ylabel: Label of the y axis, with its unit.

    Example:
        >>> history = np.linspace(1, 0.1, 50)
        >>> figure = losses_by_step({"GRU": [history]}, {"no memory": 0.5}, ylabel="error")
        >>> figure.axes[0].get_xlabel()
        'training step'
    """
    figure, (axes,) = panels(1, height=2.7)
    longest = max(len(history) for histories in losses.values() for history in histories)
    for name, histories in losses.items():
        for history in histories:
            smooth = np.convolve(history, np.full(20, 1 / 20), mode="valid")
            axes.plot(np.arange(20, len(history) + 1), smooth, color=COLOURS[name], linewidth=1.2)
        last = max(histories, key=len)
        axes.annotate(
            name,
            (len(last), np.mean(last[-20:])),
            xytext=(4, 0),
            textcoords="offset points",
            color=COLOURS[name],
            va="center",
            annotation_clip=False,
        )
    for name, level in levels.items():
        axes.axhline(level, linestyle="--", linewidth=1.3, color=COLOURS["mean"])
        axes.annotate(
            name,
            (longest, level),
            xytext=(0, -13),
            textcoords="offset points",
            color=COLOURS["mean"],
            ha="right",
        )
    axes.set(xlabel="training step", ylabel=ylabel, yscale="log", xlim=(0, longest))
    return figure


def states_along_string(states: Mapping[str, np.ndarray], letters: str) -> Figure:
    """Draw the state of every unit along a string, one network below the other.

    Args:
        states: Network to the states of its units, ``(time, units)``. The unit with the widest
            range of values is drawn in the network's colour, the others thin and grey.
        letters: The string; a dashed line stands where its letter changes for the first time.

    Example:
        >>> states = np.array([[1.0, 0.1], [2.0, 0.1], [1.0, 0.0], [0.0, 0.0]])
        >>> len(states_along_string({"LSTM": states}, "aabb").axes)
        1
    """
    figure, axes = panels(len(states), height=1.7, sharex=True)
    change = len(letters) - len(letters.lstrip(letters[0]))
    steps = np.arange(1, len(letters) + 1)
    for panel, (name, values) in zip(axes, states.items(), strict=True):
        widest = int(np.ptp(values, axis=0).argmax())
        panel.plot(steps, values, color=COLOURS["mean"], linewidth=0.8, alpha=0.6)
        panel.plot(steps, values[:, widest], color=COLOURS[name], linewidth=2.2)
        panel.axvline(change + 0.5, linestyle="--", linewidth=1.3, color=COLOURS["data"])
        panel.set_title(name, color=COLOURS[name])
        panel.set(ylabel="state", xlim=(1, len(letters)))
    axes[-1].set_xlabel("letters read")
    return figure


def gate_along_text(characters: Sequence[str], gate: np.ndarray, *, columns: int = 26) -> Figure:
    """Draw a gate's value as a bar over each character of a text, in rows.

    Args:
        characters: The text; a space is drawn as ␣.
        gate: A number from 0 to 1 for each character, ``(time,)``.
        columns: Characters in a row.

    Example:
        >>> len(gate_along_text("a few words", np.linspace(0, 1, 11), columns=6).axes)
        2
    """
    rows = -(-len(characters) // columns)
    figure, axes = panels(rows, height=0.95)
    for row, panel in enumerate(axes):
        part = slice(row * columns, (row + 1) * columns)
        shown = ["␣" if c.isspace() else c for c in characters[part]]
        colours = [COLOURS["mean"] if c == "␣" else COLOURS["GRU"] for c in shown]
        panel.bar(range(len(shown)), gate[part], color=colours, width=0.75)
        panel.set(xlim=(-0.6, columns - 0.4), ylim=(0, 1), yticks=[0, 1])
        panel.set_xticks(range(len(shown)), shown)
        panel.tick_params(axis="x", length=0)
    return figure


def _gru_step(axes: Axes, colour: str) -> None:
    _belt(axes, "$h_{t-1}$", "$h_t$", colour)
    arrow(axes, (0.6, 3.2), (0.6, 0.2), mutation_scale=9)
    line(axes, [(0.6, 0.2), (7.6, 0.2)])
    _input(axes)
    for x, name in ((2.8, "$z$"), (5.2, "$r$"), (7.6, "$n$")):
        arrow(axes, (x, 0.2), (x, 0.98), mutation_scale=9)
        node(axes, (x, 1.3), name, colour, shape="round,pad=0.3")
    arrow(axes, (2.8, 1.62), (2.8, 2.98), mutation_scale=9)
    line(axes, [(2.8, 2.25), (7.3, 2.25)])
    axes.text(5.1, 2.32, "$1-z$", ha="center", va="bottom", color=COLOURS["data"], fontsize=9)
    arrow(axes, (5.45, 1.3), (7.32, 1.3), mutation_scale=9)
    arrow(axes, (7.6, 1.62), (7.6, 2.04), mutation_scale=9)
    arrow(axes, (7.6, 2.5), (7.6, 2.95), mutation_scale=9)
    operation(axes, (2.8, 3.2), "×", colour)
    operation(axes, (7.6, 2.25), "×", colour)
    operation(axes, (7.6, 3.2), "+", colour)


def _lstm_step(axes: Axes, colour: str) -> None:
    _belt(axes, "$c_{t-1}$", "$c_t$", colour)
    _state_label(axes, (0.15, 0.2), "$h_{t-1}$", "right")
    line(axes, [(0.2, 0.2), (7.4, 0.2)])
    _input(axes)
    for x, name in ((2.2, "$f$"), (3.9, "$i$"), (5.5, r"$\tilde{c}$"), (7.4, "$o$")):
        arrow(axes, (x, 0.2), (x, 0.98), mutation_scale=9)
        node(axes, (x, 1.3), name, colour, shape="round,pad=0.3")
    arrow(axes, (2.2, 1.62), (2.2, 2.98), mutation_scale=9)
    line(axes, [(3.9, 1.62), (3.9, 2.25), (4.45, 2.25)])
    line(axes, [(5.5, 1.62), (5.5, 2.25), (4.95, 2.25)])
    arrow(axes, (4.7, 2.5), (4.7, 2.95), mutation_scale=9)
    operation(axes, (2.2, 3.2), "×", colour)
    operation(axes, (4.7, 2.25), "×", colour)
    operation(axes, (4.7, 3.2), "+", colour)
    arrow(axes, (8.7, 3.2), (8.7, 2.62), mutation_scale=9)
    node(axes, (8.7, 2.3), "tanh", COLOURS["data"], shape="round,pad=0.3")
    arrow(axes, (8.7, 1.98), (8.7, 1.5), mutation_scale=9)
    arrow(axes, (7.65, 1.3), (8.5, 1.3), mutation_scale=9)
    operation(axes, (8.7, 1.3), "×", colour)
    arrow(axes, (8.95, 1.3), (9.75, 1.3), mutation_scale=9)
    _state_label(axes, (9.8, 1.3), "$h_t$", "left")


def _belt(axes: Axes, before: str, after: str, colour: str) -> None:
    axes.plot([0.2, 9.6], [3.2, 3.2], color=colour, linewidth=3.5, alpha=0.55, zorder=1)
    _state_label(axes, (0.15, 3.2), before, "right")
    _state_label(axes, (9.8, 3.2), after, "left")


def _input(axes: Axes) -> None:
    arrow(axes, (1.1, -0.6), (1.1, 0.2), mutation_scale=9)
    axes.text(1.1, -0.65, "$x_t$", ha="center", va="top", color=COLOURS["data"])


def _state_label(axes: Axes, place: tuple[float, float], text: str, side: str) -> None:
    axes.text(*place, text, ha=side, va="center", color=COLOURS["data"])
