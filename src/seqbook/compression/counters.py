r"""Counters: how often a 1 followed in a context, in 16 bits.

A counter holds the number of bits seen, n up to 31, and an estimate of the probability of a 1. A
new bit b moves the estimate towards itself, by less the more it has seen:

.. math:: p \leftarrow p + \frac{b - p}{n + 1.2}, \qquad n \leftarrow \min(n + 1, 31)

so that the first bits count most and old bits are slowly forgotten. The estimate is kept as log
odds in steps of 1/128 from -8 to 8. There are then 32 times 2,048 states, and an update is one
look-up of the state that follows. The tables are computed in integers.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np

from seqbook.compression.logistic import LIMIT, ONE, STEPS, scaled_logistic

__all__ = ["CounterTables", "counter_tables"]

_GRID = 2048  # estimates, from log odds -8
_PER_UNIT = 128  # estimates to a unit of log odds
_COUNTS = 32


class CounterTables(NamedTuple):
    """What each of the 65,536 states of a counter means, and which follows it.

    State 0 has seen nothing; its estimate is one half. The number of bits seen is ``state >> 11``.

    Attributes:
        log_odds: The estimate of each state, as log odds.
        after: For a 0 and for a 1, the state that follows each state.

    Example:
        >>> log_odds, after = counter_tables()
        >>> state = 0
        >>> for bit in (1, 1, 0):
        ...     state = after[bit][state]
        ...     print(state >> 11, log_odds[state])
        1 2.3984375
        2 3.046875
        3 0.6484375
    """

    log_odds: list[float]
    after: tuple[list[int], list[int]]


@cache
def counter_tables() -> CounterTables:
    r"""Compute the tables of all counters.

    .. math:: p' = p + (1 - p) \frac{1}{n + 1.2}

    after a 1, rounded to the nearest log odds on the grid; after a 0 by symmetry,
    :math:`p' = 1 - (1 - p)'`.

    Example:
        >>> len(counter_tables().log_odds)
        65536
    """
    logistic = np.array(scaled_logistic(), dtype=np.int64)
    steps = STEPS // _PER_UNIT
    start = (LIMIT - _GRID // 2 // _PER_UNIT) * STEPS  # of log odds -8
    estimates = logistic[start + steps * np.arange(_GRID)]
    boundaries = logistic[start + steps // 2 + steps * np.arange(_GRID - 1)]
    grid = np.arange(_GRID) - _GRID // 2
    after_one = np.empty((_COUNTS, _GRID), dtype=np.int64)
    after_zero = np.empty_like(after_one)
    for count in range(_COUNTS):
        moved = estimates + (ONE - estimates) * 5 // (5 * count + 6)
        following = np.searchsorted(boundaries, moved, side="right") - _GRID // 2
        seen = min(count + 1, _COUNTS - 1) * _GRID
        after_one[count, grid % _GRID] = seen + following % _GRID
        mirrored = np.maximum(-following, -(_GRID // 2)).clip(max=_GRID // 2 - 1)
        after_zero[count, -grid % _GRID] = seen + mirrored % _GRID
    after_zero[:, _GRID // 2] = after_zero[:, _GRID // 2 + 1]  # -8, which no estimate mirrors
    log_odds = (
        np.tile(
            np.where(np.arange(_GRID) < _GRID // 2, np.arange(_GRID), np.arange(_GRID) - _GRID),
            _COUNTS,
        )
        / _PER_UNIT
    )
    return CounterTables(
        log_odds.tolist(), (after_zero.ravel().tolist(), after_one.ravel().tolist())
    )
