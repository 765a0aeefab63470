"""Daily stock prices of Google, from its first trading day in 2004 to October 2008."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from seqbook.data._files import DamagedDataError

__all__ = ["Prices", "load"]


class Prices(NamedTuple):
    """Closing price of a stock on each trading day.

    Attributes:
        dates: Trading days, ``datetime64[D]`` ``(days,)``.
        close: Adjusted closing price in US dollars, float64 ``(days,)``.

    Example:
        >>> google = load()
        >>> google.close.shape, google.log_returns.shape
        ((1047,), (1046,))
    """

    dates: np.ndarray
    close: np.ndarray

    @property
    def log_returns(self) -> np.ndarray:
        r"""Daily log returns :math:`r_t = \log(p_t / p_{t-1})`, ``(days - 1,)``."""
        return np.diff(np.log(self.close))


def load() -> Prices:
    """Load 1,047 daily closing prices.

    Raises:
        FileNotFoundError: The installed matplotlib has no such sample.
        DamagedDataError: The sample is not the one that the course was written with.

    Source: matplotlib's sample data ``goog.npz`` (Yahoo Finance), as in the pinned release.

    Example:
        >>> dates, close = load()
        >>> print(dates[0], close[0])
        2004-08-19 100.34
    """
    from matplotlib.cbook import get_sample_data  # slow to import, and used here only

    try:
        sample: Any = get_sample_data("goog.npz")  # an archive; matplotlib says an array or a file
        table = sample["price_data"]
    except FileNotFoundError as error:
        raise FileNotFoundError(
            "data file missing: expected 'goog.npz' among matplotlib's sample data; install the "
            "matplotlib release that requirements.txt names, from its wheel"
        ) from error
    prices = Prices(table["date"].astype("datetime64[D]"), table["adj_close"].astype(np.float64))
    close = prices.close
    summary = (len(close), float(close[0]), float(close[-1]), round(float(close.sum()), 2))
    expected = (1047, 100.34, 362.71, 423301.05)
    if summary != expected:
        raise DamagedDataError(
            f"prices: expected (days, first, last, sum) = {expected}, got {summary}; install the "
            "matplotlib release that requirements.txt names"
        )
    return prices
