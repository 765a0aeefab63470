"""Figures about dependence: sequences, correlograms, permutation tests and splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import DateFormatter, YearLocator
from matplotlib.figure import Figure

from seqbook.plots.style import COLOURS, panels

__all__ = [
    "correlograms",
    "decomposition",
    "effective_sizes",
    "information_by_lag",
    "permutation_tests",
    "prices_and_shuffles",
    "splits",
    "waveform",
]


def waveform(seconds: np.ndarray, samples: np.ndarray, *, zoom: tuple[float, float]) -> Figure:
    """Draw a sound and, below it, its part in the interval ``zoom`` in seconds.

    Args:
        seconds: Time of each sample in seconds, ``(time,)``.
        samples: Sound pressure relative to full scale, ``(time,)``.
        zoom: First and last second of the part.

    Example:
        >>> seconds = np.linspace(0, 1, 100)
        >>> figure = waveform(seconds, np.sin(50 * seconds), zoom=(0.2, 0.4))
        >>> len(figure.axes)
        2
    """
    figure, (whole, detail) = panels(2)
    inside = (seconds >= zoom[0]) & (seconds <= zoom[1])
    whole.plot(seconds, samples, color=COLOURS["data"], linewidth=0.6)
    whole.axvspan(*zoom, color=COLOURS["linear AR"], alpha=0.25, linewidth=0)
    whole.set(xlabel="time (s)", ylabel="pressure")
    detail.plot(1000 * seconds[inside], samples[inside], ".-", color=COLOURS["linear AR"])
    detail.set(xlabel="time (ms)", ylabel="pressure")
    return figure


def prices_and_shuffles(
    dates: np.ndarray, prices: np.ndarray, shuffles: Sequence[np.ndarray]
) -> Figure:
    """Draw a price path over paths with the same daily returns in random order.

    Args:
        dates: Days, ``datetime64[D]`` ``(days,)``.
        prices: Price on each day in US dollars, ``(days,)``.
        shuffles: Other paths, each ``(days,)``.

    Example:
        >>> dates = np.datetime64("2004-08-19") + np.arange(3)
        >>> prices = np.array([100.0, 102.0, 101.0])
        >>> figure = prices_and_shuffles(dates, prices, [prices[::-1]])
        >>> len(figure.axes[0].lines)
        2
    """
    figure, (axes,) = panels(1, height=2.6)
    for path in shuffles:
        axes.plot(dates, path, color=COLOURS["shuffled"], linewidth=0.7, alpha=0.55)
    axes.plot(dates, prices, color=COLOURS["data"])
    axes.set(ylabel="price (US dollars)", xlim=(dates[0], dates[-1]))
    axes.set_title(f"true order (dark), and {len(shuffles)} random orders")
    _by_year(axes)
    return figure


def correlograms(
    autocorrelations: Mapping[str, np.ndarray],
    bands: Mapping[str, float],
    *,
    robust: Mapping[str, np.ndarray] | None = None,
    lag_name: str = "lag",
) -> Figure:
    """Draw autocorrelations against lag, each with its white-noise band.

    Args:
        autocorrelations: Title to autocorrelations r from lag 0 on, ``(lags + 1,)``; lag 0 is not
            drawn.
        bands: Title to the half-width b of the band, see ``white_noise_band``.
        robust: Title to the half-widths of a second band, ``(lags,)``, see ``robust_band``. It is
            drawn dashed, in the panels that are named.
        lag_name: Label of the x axis, with its unit.

    Example:
        >>> figure = correlograms({"noise": np.array([1.0, 0.1, -0.1])}, {"noise": 0.2})
        >>> len(figure.axes)
        1
    """
    figure, axes = panels(len(autocorrelations), height=1.35)
    for panel, (name, values) in zip(axes, autocorrelations.items(), strict=True):
        lags = np.arange(1, len(values))
        panel.axhspan(
            -bands[name], bands[name], color=COLOURS["noise floor"], alpha=0.22, linewidth=0
        )
        panel.axhline(0, color=COLOURS["mean"], linewidth=0.8)
        if robust is not None and name in robust:
            for width in (-robust[name], robust[name]):
                panel.plot(lags, width, "--", color=COLOURS["noise floor"], linewidth=1.2)
        panel.vlines(lags, 0, values[1:], color=COLOURS["data"], linewidth=1.6)
        panel.set_title(name)
    axes[-1].set_xlabel(lag_name)
    return figure


def decomposition(dates: np.ndarray, parts: Mapping[str, np.ndarray], *, unit: str) -> Figure:
    """Draw a series and the parts that add up to it, one below the other.

    Args:
        dates: Months or days, ``datetime64`` ``(time,)``.
        parts: Title to the series or one of its parts, ``(time,)``, from top to bottom.
        unit: Label of every y axis.

    Example:
        >>> dates = np.datetime64("2000-01") + np.arange(3)
        >>> parts = {"series": np.array([1.0, 3.0, 2.0]), "trend": np.array([1.5, 2.0, 2.5])}
        >>> len(decomposition(dates, parts, unit="ppm").axes)
        2
    """
    figure, axes = panels(len(parts), height=1.3, sharex=True)
    for panel, (name, values) in zip(axes, parts.items(), strict=True):
        if values.min() < 0 < values.max():
            panel.axhline(0, color=COLOURS["mean"], linewidth=0.8)
        panel.plot(dates, values, color=COLOURS["data"], linewidth=1)
        panel.set_title(name)
        panel.set_ylabel(unit)
    axes[-1].set_xlim(dates[0], dates[-1])
    axes[-1].xaxis.set_major_locator(YearLocator(base=5))
    axes[-1].xaxis.set_major_formatter(DateFormatter("%Y"))
    return figure


def permutation_tests(shuffled: Mapping[str, np.ndarray], observed: Mapping[str, float]) -> Figure:
    """Draw the statistics of permuted data as a histogram, that of the data as a vertical line.

    Args:
        shuffled: Title to the statistic of each permutation, ``(permutations,)``.
        observed: Title to the statistic of the data.

    Example:
        >>> figure = permutation_tests({"noise": np.linspace(-1, 1, 50)}, {"noise": 0.3})
        >>> figure.axes[0].get_ylabel()
        'shuffles'
    """
    figure, axes = panels(len(shuffled), height=1.5, sharex=True)
    for panel, (name, values) in zip(axes, shuffled.items(), strict=True):
        panel.hist(values, bins=30, color=COLOURS["shuffled"], alpha=0.6)
        panel.axvline(observed[name], color=COLOURS["data"], linewidth=2.2)
        panel.set_title(name)
        panel.set_ylabel("shuffles")
    axes[-1].set_xlabel("autocorrelation at lag 1")
    return figure


def effective_sizes(
    parameter: np.ndarray,
    exact: np.ndarray,
    measured_at: np.ndarray,
    measured: np.ndarray,
    *,
    length: int,
) -> Figure:
    """Draw effective sample size against the AR(1) weight: formula as a curve, runs as dots.

    Args:
        parameter: Weights of the previous value, ``(points,)``.
        exact: Effective sample size at each, ``(points,)``.
        measured_at: Weights at which it was measured, ``(runs,)``.
        measured: Sizes measured there, ``(runs,)``.
        length: Number of values in a sample, drawn as a dashed line.

    Example:
        >>> weights = np.array([-0.5, 0.0, 0.5])
        >>> sizes = 100 * (1 - weights) / (1 + weights)
        >>> figure = effective_sizes(weights, sizes, weights, sizes, length=100)
        >>> figure.axes[0].get_yscale()
        'log'
    """
    figure, (axes,) = panels(1, height=2.4)
    axes.axhline(length, color=COLOURS["mean"], linestyle="--", linewidth=1)
    axes.text(parameter[-1], length * 1.1, f"all {length}", color=COLOURS["mean"], ha="right")
    axes.plot(parameter, exact, color=COLOURS["linear AR"])
    axes.plot(measured_at, measured, "o", color=COLOURS["data"], markersize=6)
    axes.set(yscale="log", xlabel="weight of the previous value", ylabel="effective sample size")
    axes.yaxis.set_major_formatter("{x:g}")
    return figure


def splits(
    times: np.ndarray,
    series: np.ndarray,
    predictions: Mapping[str, tuple[np.ndarray, np.ndarray]],
    *,
    ylabel: str,
) -> Figure:
    """Draw, for each way of splitting, the predictions of the held-out points over the series.

    Args:
        times: Time of each value, numbers or dates, ``(time,)``.
        series: Values, ``(time,)``.
        predictions: Title to the positions of held-out values in the series and the predictions of
            them, ``(held out,)`` each.
        ylabel: Label of the y axis, with its unit.

    Example:
        >>> times = np.datetime64("2004-08-19") + 300 * np.arange(4)
        >>> held_out = {"temporal": (np.array([2, 3]), np.array([1.0, 2.0]))}
        >>> len(splits(times, np.arange(4.0), held_out, ylabel="price").axes)
        1
    """
    figure, axes = panels(len(predictions), height=1.8, sharex=True)
    for panel, (name, (rows, values)) in zip(axes, predictions.items(), strict=True):
        panel.plot(times, series, color=COLOURS["mean"], linewidth=1)
        panel.plot(times[rows], values, ".", color=COLOURS["network"], markersize=3.5)
        panel.set_title(name)
        panel.set_ylabel(ylabel)
    _by_year(axes[-1])
    return figure


def information_by_lag(lags: np.ndarray, information: np.ndarray, floor: float) -> Figure:
    """Draw mutual information in bits against lag and its noise floor, on logarithmic axes.

    Args:
        lags: Distances in characters, ``(lags,)``.
        information: Mutual information at each, in bits, ``(lags,)``.
        floor: That of shuffled text, in bits, drawn as a dashed line.

    Example:
        >>> lags = np.array([1, 2, 4])
        >>> information_by_lag(lags, 1 / lags, 0.1).axes[0].get_xscale()
        'log'
    """
    figure, (axes,) = panels(1, height=2.4)
    axes.axhline(floor, color=COLOURS["noise floor"], linestyle="--", linewidth=1.4)
    axes.text(1, floor * 1.08, "shuffled text", color=COLOURS["noise floor"], va="bottom")
    axes.loglog(lags, information, "o-", color=COLOURS["data"], markersize=4)
    axes.set(xlabel="characters back", ylabel="information (bits)")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
    return figure


def _by_year(axes: Axes) -> None:
    axes.xaxis.set_major_locator(YearLocator())
    axes.xaxis.set_major_formatter(DateFormatter("%Y"))
