"""Points for a verdict: by property, or all or nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction

from stepgrader.judge import Verdict

__all__ = ["ALL_OR_NOTHING", "SHARES", "earned", "short", "total"]

SHARES = "shares"
"""Each property of a step earns an equal share of its points."""
ALL_OR_NOTHING = "all-or-nothing"
"""A right answer earns all points of its step, and any other none."""


def earned(verdict: Verdict, out_of: int, marks: str = SHARES) -> float:
    """Return the points that an answer earns, to two decimals.

    Args:
        verdict: The verdict on the answer.
        out_of: The points that a right answer earns.
        marks: ``SHARES`` pays every property alike, if the answer has the first one;
            ``ALL_OR_NOTHING`` pays right answers only.

    Example:
        >>> verdict = Verdict("wrong", properties={"a batch": True, "one": True, "none": False})
        >>> earned(verdict, 1), earned(verdict, 3), earned(verdict, 3, ALL_OR_NOTHING)
        (0.67, 2, 0)
    """
    share = verdict.share() if marks == SHARES or verdict.status == "right" else Fraction(0)
    return short(share * out_of)


def total(points: Iterable[float]) -> float:
    """Return the sum of points that have two decimals.

    Example:
        >>> total([0.1, 0.2, 0.7]), total([0.67, 2])
        (1, 2.67)
    """
    return short(sum((Fraction(str(number)) for number in points), Fraction(0)))


def short(number: float | Fraction, decimals: int = 2) -> float:
    """Return a number with a few decimals, a half rounded up; an ``int`` if it is whole.

    A ``float`` is taken as it is written, so 0.125 and 1.005 are halves.

    Example:
        >>> short(0.1 + 0.2), short(4.0), short(0.125), short(1.005), short(Fraction(2, 3), 4)
        (0.3, 4, 0.13, 1.01, 0.6667)
    """
    unit = 10**decimals
    exact = number if isinstance(number, Fraction) else Fraction(str(number))
    units = math.floor(exact * unit + Fraction(1, 2))
    return units // unit if units % unit == 0 else units / unit
