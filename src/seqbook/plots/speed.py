"""Figures of running times relative to torch's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FormatStrFormatter, NullLocator

from seqbook.plots.style import COLOURS, panels

__all__ = ["ratios"]

_MARKERS = {"ours": ("o", "#0064a5"), "textbook": ("s", COLOURS["textbook"])}


def ratios(
    sizes: Sequence[str],
    found: Mapping[str, Mapping[str, Sequence[tuple[float, float, float]]]],
) -> Figure:
    """Draw running times relative to torch's, one panel per network.

    Args:
        sizes: Labels of the input sizes, from left to right.
        found: Network to form (``"ours"`` or ``"textbook"``) to, for each size, the lower quartile,
            the median and the upper quartile of the ratio.

    Example:
        >>> quartiles = {"ours": [(0.9, 1.0, 1.2)], "textbook": [(2.0, 3.0, 4.0)]}
        >>> len(ratios(["1, 2, 3, 4"], {"LSTM": quartiles}).axes)
        1
    """
    figure, axes = panels(len(found), height=1.8, sharex=True, sharey=True)
    for panel, (network, forms) in zip(axes, found.items(), strict=True):
        panel.axhline(1, color=COLOURS["torch"], linewidth=1.2, linestyle="--", label="torch")
        for shift, (form, values) in zip((-0.1, 0.1), forms.items(), strict=True):
            marker, colour = _MARKERS[form]
            places = [place + shift for place in range(len(sizes))]
            low, middle, high = zip(*values, strict=True)
            panel.vlines(places, low, high, color=colour, linewidth=3, alpha=0.35)
            panel.plot(places, middle, marker, color=colour, label=form, markersize=5)
        panel.set_title(network)
        panel.set(yscale="log", xlim=(-0.5, len(sizes) - 0.5), ylim=(0.15, 60))
        panel.yaxis.set_major_locator(FixedLocator([0.25, 1, 4, 16]))
        panel.yaxis.set_minor_locator(NullLocator())
        panel.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    axes[0].legend(loc="upper left", ncols=3)
    axes[-1].set_xticks(range(len(sizes)), sizes)
    axes[-1].set_xlabel("batch, time, input, hidden")
    return figure
