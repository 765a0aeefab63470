"""Monthly carbon dioxide in the air on Mauna Loa, 1965 to 2000: a series with trend and season."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from seqbook.data._files import read_bytes

__all__ = ["CarbonDioxide", "load"]


class CarbonDioxide(NamedTuple):
    """Monthly series of the carbon dioxide in the air.

    Attributes:
        months: Months, ``datetime64[M]`` ``(months,)``.
        ppm: Mean concentration in each month, in parts per million, float64 ``(months,)``.

    Example:
        >>> air = load()
        >>> air.ppm.reshape(-1, 12).shape  # whole years, January first
        (36, 12)
    """

    months: np.ndarray
    ppm: np.ndarray


def load() -> CarbonDioxide:
    """Load the monthly means of 36 whole years, none of them missing.

    Each is the mean of the weekly values of its month, between one and five of them. The years
    before 1965 have months without any value and are left out.

    Raises:
        FileNotFoundError: The data file is missing.
        DamagedDataError: The data file was altered.

    Source: weekly means of Keeling and Whorf, Scripps Institution of Oceanography, as distributed
    by statsmodels (public domain).

    Example:
        >>> months, ppm = load()
        >>> print(months[0], ppm[0])
        1965-01 319.4
    """
    lines = read_bytes("co2.csv").decode("ascii").splitlines()[1:]
    months, ppm = zip(*(line.split(",") for line in lines), strict=True)
    return CarbonDioxide(np.array(months, dtype="datetime64[M]"), np.array(ppm, dtype=np.float64))
