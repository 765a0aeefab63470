r"""Adaptive probability maps: correct a probability by what came of it before.

Source: Mahoney's PAQ, where the method is called secondary symbol estimation.
"""

from __future__ import annotations

from collections.abc import Sequence

from seqbook.compression.logistic import squash

__all__ = ["ProbabilityMaps"]

_LIMIT = 8  # knots from log odds -8 to 8
_PER_UNIT = 2
_HIGHEST = 15.999  # so that a knot follows


class ProbabilityMaps:
    r"""Functions from log odds to probabilities, one for each value of each context.

    A map is a piecewise linear function with 33 knots :math:`a_k`, at log odds from -8 to 8 in
    steps of one half, and at first the logistic function. Between two knots, at the fraction f,

    .. math:: p = (1 - f) \, a_k + f \, a_{k+1}

    and the nearer of the two learns from the bit, :math:`a \leftarrow a + \eta \, (b - a)`.

    Args:
        count: Number of contexts.
        rate: Learning rate :math:`\eta`.

    Example:
        >>> maps = ProbabilityMaps(1, rate=0.02)
        >>> for _ in range(200):
        ...     before = maps.refine(0.0, [7])
        ...     maps.update(1)
        >>> before > 0.7, maps.refine(0.0, [8])
        (True, 0.5)
    """

    def __init__(self, count: int, *, rate: float) -> None:
        self._rate = rate
        knots = range(-_LIMIT * _PER_UNIT, _LIMIT * _PER_UNIT + 1)
        self._initial = [squash(knot / _PER_UNIT) for knot in knots]
        self._maps: list[dict[int, list[float]]] = [{} for _ in range(count)]
        self._used: list[list[float]] = []
        self._knot = 0

    def refine(self, log_odds: float, contexts: Sequence[int]) -> float:
        """Return the mean of the probability itself and of the corrected ones.

        Args:
            log_odds: The prediction to correct.
            contexts: The value of each context.
        """
        position = log_odds + _LIMIT
        position = (0.0 if position < 0.0 else min(position, _HIGHEST)) * _PER_UNIT
        knot = int(position)
        fraction = position - knot
        rest = 1.0 - fraction
        used, total = [], squash(log_odds)
        for maps, context in zip(self._maps, contexts, strict=True):
            values = maps.get(context)
            if values is None:
                values = maps[context] = self._initial.copy()
            total += rest * values[knot] + fraction * values[knot + 1]
            used.append(values)
        self._used, self._knot = used, knot + (fraction > 0.5)
        return total / (len(used) + 1)

    def update(self, bit: int) -> None:
        """Learn from the bit that came."""
        knot, rate = self._knot, self._rate
        for values in self._used:
            values[knot] += rate * (bit - values[knot])
