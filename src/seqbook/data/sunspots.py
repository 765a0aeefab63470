"""Yearly mean sunspot numbers, 1700 to 2008: the series that autoregression was invented on."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from seqbook.data._files import read_bytes


class Sunspots(NamedTuple):
    """A yearly series.

    Attributes:
        years: int64 ``(years,)``.
        numbers: Mean daily sunspot number of the year, float64 ``(years,)``.
    """

    years: np.ndarray
    numbers: np.ndarray

    def between(self, first: int, last: int) -> Sunspots:
        """Return the years ``first`` to ``last``, both included.

        Raises:
            ValueError: The span is empty or leaves the record.
        """
        if not self.years[0] <= first <= last <= self.years[-1]:
            raise ValueError(
                f"years: expected {self.years[0]} <= first <= last <= {self.years[-1]}, "
                f"got first={first}, last={last}"
            )
        chosen = (self.years >= first) & (self.years <= last)
        return Sunspots(self.years[chosen], self.numbers[chosen])


def load() -> Sunspots:
    """Load the yearly sunspot numbers.

    Source: SIDC, Royal Observatory of Belgium, as distributed by statsmodels (public domain).
    """
    lines = read_bytes("sunspots.csv").decode("ascii").splitlines()[1:]
    years, numbers = zip(*(line.split(",") for line in lines), strict=True)
    return Sunspots(np.array(years, dtype=np.int64), np.array(numbers, dtype=np.float64))
