"""Claims: assertions whose statement is shown to the reader.

A sentence that could be false is passed to ``claim`` together with the comparison that decides it.
If the comparison fails, the cell raises, and so do the test of the notebook and CI. ``measured``
formats a number so that every machine prints the same text.

There are three kinds of claims, which the pages show differently:

- an *identity* (``claim_equal``): two computations agree;
- a *measurement* (``claim``): a number or a comparison that supports the text;
- a *finding* (``finding``): a main result of a chapter, with its number in large type.
"""

from __future__ import annotations

import string
from typing import Any

import numpy as np

from seqbook.validation import check_instance, check_number

__all__ = ["ClaimError", "claim", "claim_equal", "finding", "measured"]


class ClaimError(AssertionError):
    """A statement does not hold.

    Example:
        >>> claim("One is two.", 1 == 2)
        Traceback (most recent call last):
        seqbook.claims.ClaimError: does not hold: One is two.
    """


def claim(statement: str, holds: bool | np.bool_, *, noise: float = 1e-9, **numbers: float) -> None:
    """Print a statement if it holds, and raise an error if it does not.

    Args:
        statement: A complete sentence. Numbers are placeholders such as ``{name:.2f}``, formatted
            by ``measured``.
        holds: Result of the comparison, a single truth value. An array is refused, because it
            would be unclear which of its entries count, and so is a number, because it would pass
            as true without any comparison.
        noise: Bound on the deviation of the numbers on other machines; see ``measured``.
        numbers: Values of the placeholders.

    Raises:
        TypeError: ``statement`` is not a sentence, its placeholders are not the names of
            ``numbers``, or ``holds`` is not a truth value.
        ClaimError: The statement does not hold, or one of its numbers can't be printed safely.

    Example:
        >>> claim("The network needs {ratio:.1f} times the steps.", 2.34 > 2, ratio=2.34)
        ✓ The network needs 2.3 times the steps.
    """
    _claim("claim", statement, holds, noise, numbers)


def finding(
    statement: str,
    holds: bool | np.bool_,
    *,
    headline: str | None = None,
    noise: float = 1e-9,
    **numbers: float,
) -> None:
    """Claim one of the main results of a chapter; its page shows one of the numbers in large type.

    Args:
        statement: A complete sentence with at least one number, as for ``claim``.
        holds: Result of the comparison, a single truth value.
        headline: Name of the number to show in large type; the first in the sentence if None. In
            a notebook of the book, write the name itself, because the pages are made without
            running the code.
        noise: Bound on the deviation of the numbers on other machines; see ``measured``.
        numbers: Values of the placeholders.

    Raises:
        TypeError: As for ``claim``, or there is no number, or none is called ``headline``.
        ClaimError: The statement does not hold, or one of its numbers can't be printed safely.

    Example:
        >>> finding("After {n} steps {left:.0%} of the gradient is left.", True, n=30, left=0.52,
        ...         headline="left")
        ✓ After 30 steps 52% of the gradient is left.
    """
    if not numbers:
        raise TypeError("finding: expected a number in the statement, got none; use claim instead")
    if headline is not None and headline not in numbers:
        raise TypeError(f"headline: expected one of {sorted(numbers)}, got {headline!r}")
    _claim("finding", statement, holds, noise, numbers)


def claim_equal(statement: str, actual: Any, expected: Any, *, tolerance: float = 1e-12) -> None:
    r"""Claim that two computations of the same quantity agree to numerical precision.

    .. math:: |a - b| \le \varepsilon \max(1, |b|)

    must hold for every entry a of ``actual`` and b of ``expected``: the tolerance
    :math:`\varepsilon` is absolute for numbers below one and relative above. The line printed ends
    with the tolerance and not with the difference found, which depends on the machine.

    Args:
        statement: A complete sentence without its full stop.
        actual: Numbers, an array or a tensor.
        expected: An independent computation of the same shape.
        tolerance: Bound on the difference, positive; the default suits short float64 computations.

    Raises:
        TypeError: ``statement`` is not a sentence, or an argument does not hold numbers.
        ValueError: ``tolerance`` is not positive.
        ClaimError: The shapes differ or are empty, an entry is not finite, or the difference is
            too large.

    Example:
        >>> claim_equal("Both ways give the same sum", 0.1 + 0.2, 0.3)
        ✓ Both ways give the same sum (equal to 10⁻¹²).
    """
    _check_statement("claim_equal", statement)
    if check_number("tolerance", tolerance, minimum=0) == 0:
        raise ValueError("tolerance: expected a positive number, got 0")
    actual, expected = _as_array(actual), _as_array(expected)
    if actual.shape != expected.shape:
        raise ClaimError(
            f"does not hold: {statement}: shapes differ, {actual.shape} against {expected.shape}"
        )
    if not actual.size:
        raise ClaimError(f"does not hold: {statement}: there is nothing to compare")
    difference = np.abs(actual - expected)
    if not np.all(difference <= tolerance * np.maximum(1.0, np.abs(expected))):
        raise ClaimError(
            f"does not hold: {statement}: largest difference {np.max(difference):.3g}, "
            f"allowed {tolerance:g}"
        )
    _show(f"{statement} (equal to {_power_of_ten(tolerance)}).")


def measured(value: float, spec: str, *, noise: float = 1e-9) -> str:
    r"""Format a measured number so that every machine prints the same text.

    .. math:: |x - v| \le \epsilon \max(1, |v|)

    holds for the numbers x that must print as the value v does, for the ``noise``
    :math:`\epsilon`.

    The last digits of a floating-point result depend on the instruction set and the number of
    threads. ``value`` is formatted only if all numbers within ``noise`` of it give the same text,
    so that a value near a rounding boundary is noticed by the author and not by a reader.

    Args:
        value: The number.
        spec: A format specification such as ``".2f"`` or ``".0%"``.
        noise: Bound on the deviation on other machines, as a fraction of ``max(1, |value|)``. The
            default is for closed-form float64 computations; for training, pass the spread that you
            measured.

    Raises:
        TypeError: ``value`` or ``noise`` is not a number, or ``spec`` is not a string.
        ValueError: ``noise`` is negative or not finite.
        ClaimError: ``spec`` is empty, or the number is not finite or lies too close to a rounding
            boundary.

    Example:
        >>> measured(0.9123, ".1%")
        '91.2%'
        >>> measured(0.25, ".1f", noise=0.01)
        Traceback (most recent call last):
        seqbook.claims.ClaimError: measured: 0.25 may print as 0.2 or as 0.3 on another machine ...
    """
    noise = check_number("noise", noise, minimum=0)
    check_instance("spec", spec, str)
    try:
        value = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"value: expected a number, got {value!r}") from None
    if not spec:
        raise ClaimError(f"measured: expected a format such as '.2f' for {value}, got none")
    if not np.isfinite(value):
        raise ClaimError(f"measured: expected a finite number, got {value}")
    spread = noise * max(1.0, abs(value))
    low, high = format(value - spread, spec), format(value + spread, spec)
    if low != high:
        raise ClaimError(
            f"measured: {value!r} may print as {low} or as {high} on another machine "
            f"(noise {noise:g}); ask for fewer digits than {spec!r}"
        )
    return format(value, spec)


def _claim(
    function: str,
    statement: str,
    holds: bool | np.bool_,
    noise: float,
    numbers: dict[str, float],
) -> None:
    _check_statement(function, statement)
    if not isinstance(holds, (bool, np.bool_)):
        raise TypeError(
            f"{function}: expected True or False as its second argument, got "
            f"{type(holds).__name__} ({holds!r}); compare first, and reduce an array with .all() "
            f"or .any()"
        )
    names = {name for _, name, _, _ in string.Formatter().parse(statement) if name is not None}
    if names != set(numbers):
        raise TypeError(
            f"{function}: expected numbers named {sorted(names)} as in the statement, got "
            f"{sorted(numbers)}"
        )
    if not holds:
        raise ClaimError(f"does not hold: {statement} {numbers or ''}".strip())
    _show(_MeasuredFormatter(noise).format(statement, **numbers))


def _check_statement(function: str, statement: str) -> None:
    if not isinstance(statement, str) or not statement.strip():
        raise TypeError(f"{function}: expected a sentence as its first argument, got {statement!r}")


class _MeasuredFormatter(string.Formatter):
    """``str.format`` that passes every number with a fraction through ``measured``."""

    def __init__(self, noise: float):
        self.noise = noise

    def format_field(self, value: Any, spec: str) -> str:
        if isinstance(value, (str, int, np.integer)):
            return format(value, spec)
        return measured(value, spec, noise=self.noise)


def _as_array(values: Any) -> np.ndarray:
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = values.double() if values.is_floating_point() else values  # bfloat16 is torch's
    values = np.asarray(values)
    if not np.issubdtype(values.dtype, np.number) and values.dtype != bool:
        raise TypeError(f"claim_equal: expected numbers, got {values.dtype.name}")
    return values.astype(np.complex128 if np.iscomplexobj(values) else np.float64)


def _power_of_ten(tolerance: float) -> str:
    """Write 1e-12 as 10⁻¹²."""
    factor, exponent = f"{tolerance:.0e}".split("e")
    raised = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"10{raised}" if factor == "1" else f"{factor}·10{raised}"


def _show(statement: str) -> None:
    print(f"✓ {statement}")
