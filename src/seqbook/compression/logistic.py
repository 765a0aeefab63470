r"""Tables of the logistic function, with the same digits on every machine.

A compressor mixes predictions as log odds, :math:`x = \ln \frac{p}{1 - p}`. The functions ``exp``
and ``log`` of processors and libraries differ in their last digit, and one different digit is
enough for a decoder to lose its place. Here the values come from ``decimal``, whose ``exp`` is
correctly rounded, and are then rounded to whole multiples of :math:`2^{-32}`.
"""

from __future__ import annotations

from bisect import bisect_left
from decimal import Context
from functools import cache

__all__ = [
    "LIMIT",
    "ONE",
    "STEPS",
    "scaled_exponential",
    "scaled_logistic",
    "squash",
    "squash_table",
    "stretch",
]

LIMIT = 12
"""Log odds are kept within -12 and 12, probabilities of 0.000006 and 0.999994."""

STEPS = 256
"""Entries of the table to a unit of log odds."""

ONE = 1 << 32
"""The probability 1 as an integer."""


@cache
def scaled_logistic() -> tuple[int, ...]:
    r"""Return the logistic function as integers.

    .. math:: t_k = \mathrm{round}\big( 2^{32} \, \sigma(k / 256 - 12) \big), \qquad
        \sigma(x) = \frac{1}{1 + e^{-x}}

    for k from 0 to 6144, so that the middle one, of log odds 0, is :math:`2^{31}`.

    Example:
        >>> table = scaled_logistic()
        >>> len(table), table[LIMIT * STEPS] == ONE // 2, table[-1]
        (6145, True, 4294940907)
    """
    context = Context(prec=30)
    below = []
    for step in range(LIMIT * STEPS, 0, -1):
        odds = context.exp(context.divide(step, STEPS))
        value = context.divide(ONE, context.add(1, odds))
        below.append(int(context.to_integral_value(value)))
    return (*below, ONE // 2, *(ONE - value for value in reversed(below)))


@cache
def squash_table() -> list[float]:
    r"""Return the logistic function as float64.

    .. math:: t_k = \mathrm{round}(2^{32} \, \sigma(k / 256 - 12)) / 2^{32}

    The entries are exact: a double has room for their 32 binary digits.

    Example:
        >>> squash_table()[LIMIT * STEPS]
        0.5
    """
    return [value / ONE for value in scaled_logistic()]


@cache
def scaled_exponential() -> tuple[int, ...]:
    r"""Return the exponential function as integers.

    .. math:: t_k = \mathrm{round}\big( 2^{32} \, e^{k / 256 - 12} \big)

    for k from 0 to 3072, so that the last one, of 0, is :math:`2^{32}`.

    Example:
        >>> scaled_exponential()[-1] == ONE, scaled_exponential()[0]
        (True, 26389)
    """
    context = Context(prec=30)
    values = []
    for step in range(-LIMIT * STEPS, 1):
        power = context.exp(context.divide(step, STEPS))
        values.append(int(context.to_integral_value(context.multiply(ONE, power))))
    return tuple(values)


def squash(log_odds: float) -> float:
    r"""Return the probability of log odds, :math:`p = \sigma(x)`, from the table.

    Args:
        log_odds: Any number; beyond -12 and 12 the value at that limit is returned.

    Example:
        >>> squash(0.0), round(squash(2.0), 6), squash(50.0) == squash(12.0)
        (0.5, 0.880797, True)
    """
    clipped = min(max(log_odds, -LIMIT), LIMIT)
    return squash_table()[int((clipped + LIMIT) * STEPS + 0.5)]


def stretch(numerator: int, denominator: int) -> float:
    r"""Return the log odds of a fraction, a multiple of 1/256 between -12 and 12.

    .. math:: x = \ln \frac{p}{1 - p}, \qquad p = \frac{a}{b}

    rounded up to the next multiple. It is found in the table of the logistic function by comparing
    integers.

    Example:
        >>> stretch(1, 2), stretch(3, 4), stretch(0, 5)
        (0.0, 1.1015625, -12.0)
    """
    table = scaled_logistic()
    place = bisect_left(table, numerator * ONE // denominator)
    return min(place, len(table) - 1) / STEPS - LIMIT
