"""Points for a verdict: by property, or all or nothing."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

from stepgrader.judge import Verdict

__all__ = ["ALL_OR_NOTHING", "SHARES", "earned", "total"]

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
    return _short(share * out_of)


def total(points: Iterable[float]) -> float:
    """Return the sum of points that have two decimals.

    Example:
        >>> total([0.1, 0.2, 0.7]), total([0.67, 2])
        (1, 2.67)
    """
    return _short(sum((Fraction(str(number)) for number in points), Fraction(0)))


def _short(number: Fraction) -> float:
    """Return a number with two decimals, half a hundredth rounded up; an ``int`` if it is whole."""
    hundredths = (200 * number.numerator + number.denominator) // (2 * number.denominator)
    return hundredths // 100 if hundredths % 100 == 0 else hundredths / 100
