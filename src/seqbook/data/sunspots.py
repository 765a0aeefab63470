"""Yearly mean sunspot numbers, 1700 to 2008: the series for which autoregression was invented."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from seqbook.data._files import read_bytes
from seqbook.validation import check_integer

__all__ = ["Sunspots", "load"]


class Sunspots(NamedTuple):
    """Yearly series of sunspot numbers.

    Attributes:
        years: int64 ``(years,)``.
        numbers: Mean daily sunspot number of each year, float64 ``(years,)``.

    Example:
        >>> sun = load()
        >>> sun.between(1749, 1924).numbers.shape
        (176,)
    """

    years: np.ndarray
    numbers: np.ndarray

    def between(self, first: int, last: int) -> Sunspots:
        """Return the years ``first`` to ``last``, both included.

        Raises:
            TypeError: A year is not an integer.
            ValueError: A year is not in the record, or ``last`` is before ``first``.
        """
        earliest, latest = int(self.years[0]), int(self.years[-1])
        first = check_integer("first", first, minimum=earliest, maximum=latest)
        last = check_integer("last", last, minimum=first, maximum=latest)
        inside = (self.years >= first) & (self.years <= last)
        return Sunspots(self.years[inside], self.numbers[inside])

    def split(self) -> tuple[Sunspots, Sunspots]:
        """Return the earlier four fifths and the last fifth: the training and the test years.

        One-step forecasts are compared by their root mean square error on the test years.

        Example:
            >>> training, test = load().split()
            >>> int(training.years[-1]), int(test.years[0]), len(test.years)
            (1946, 1947, 62)
        """
        first = len(self.years) * 4 // 5
        return (
            Sunspots(self.years[:first], self.numbers[:first]),
            Sunspots(self.years[first:], self.numbers[first:]),
        )


def load() -> Sunspots:
    """Load the yearly sunspot numbers.

    Raises:
        FileNotFoundError: The data file is missing.
        DamagedDataError: The data file was altered.

    The numbers are version 1 of the series; version 2 replaced it in 2015 with larger numbers.

    Source: SIDC, Royal Observatory of Belgium, as distributed by statsmodels (public domain).

    Example:
        >>> years, numbers = load()
        >>> int(years[numbers.argmax()]), float(numbers.max())
        (1957, 190.2)
    """
    lines = read_bytes("sunspots.csv").decode("ascii").splitlines()[1:]
    years, numbers = zip(*(line.split(",") for line in lines), strict=True)
    return Sunspots(np.array(years, dtype=np.int64), np.array(numbers, dtype=np.float64))
