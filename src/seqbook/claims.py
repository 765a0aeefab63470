"""Claims: assertions that the reader sees.

Nothing in the book is taken on faith. A sentence that could be false is passed to ``claim``
together with the comparison that decides it; if the comparison fails the cell raises, and with
it the notebook, its test and CI. ``measured`` turns a number into text that other machines
print the same way.
"""

from __future__ import annotations

import string
from typing import Any

import numpy as np

__all__ = ["ClaimError", "claim", "claim_equal", "measured"]


class ClaimError(AssertionError):
    """A statement of the book turned out not to hold."""


def claim(statement: str, holds: bool | np.bool_, *, noise: float = 1e-9, **numbers: float) -> None:
    """Show ``statement`` to the reader if it holds, and raise if it does not.

    Args:
        statement: A whole sentence. Numbers stand in it as ``{name:.2f}`` and are filled in
            through ``measured``.
        holds: The outcome of the comparison. It must be a single truth value: an array is
            refused, since "which of them?" would be left open, and so is a number, since
            a forgotten comparison would pass as true.
        noise: How far another machine may be off in the numbers; see ``measured``.
        numbers: The values for the names in ``statement``.

    Raises:
        TypeError: ``statement`` is empty, its names are not those of ``numbers``, or ``holds`` is
            not a truth value.
        ClaimError: The statement does not hold, or one of its numbers can't be printed safely.
    """
    if not isinstance(statement, str) or not statement.strip():
        raise TypeError(f"claim: expected a sentence as its first argument, got {statement!r}")
    if not isinstance(holds, (bool, np.bool_)):
        raise TypeError(
            f"claim: expected True or False as its second argument, got {type(holds).__name__} "
            f"({holds!r}); compare first, and reduce an array with .all() or .any()"
        )
    names = {name for _, name, _, _ in string.Formatter().parse(statement) if name is not None}
    if names != set(numbers):
        raise TypeError(
            f"claim: expected numbers named {sorted(names)} as in the statement, got "
            f"{sorted(numbers)}"
        )
    if not holds:
        raise ClaimError(f"does not hold: {statement} {numbers or ''}".strip())
    _show(_MeasuredFormatter(noise).format(statement, **numbers))


def claim_equal(statement: str, actual: Any, expected: Any, *, tolerance: float = 1e-12) -> None:
    """Claim that two computations of the same quantity agree to numerical precision.

    Agreement means ``|actual - expected| <= tolerance * max(1, |expected|)`` for every entry:
    absolute for numbers below one, relative above. The line shown ends with the tolerance and
    not with the difference found, which depends on the machine.

    Args:
        statement: A whole sentence without its full stop.
        actual: Numbers, an array or a tensor.
        expected: The independent computation, of the same shape.
        tolerance: Bound on the difference; the default suits short float64 computations.

    Raises:
        ClaimError: The shapes differ or are empty, an entry is not finite, or the difference is
            too large.
    """
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
    """Format a measured number so that every machine prints the same text.

    The last digits of a floating-point result depend on the instruction set and the number of
    threads. This function formats ``value`` only if everything within ``noise`` of it would be
    formatted alike, so that a number that happens to lie on a rounding boundary is found by the
    author and not by a reader's machine.

    Args:
        value: The number.
        spec: A format specification such as ``".2f"`` or ``".0%"``.
        noise: How far another machine may be off, as a share of ``max(1, |value|)``. The default
            is for closed-form float64 computations; give the spread you measured for training.

    Raises:
        ClaimError: The number is not finite, or lies too close to a rounding boundary.
    """
    value = float(value)
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
    values = np.asarray(values)
    return values.astype(np.complex128 if np.iscomplexobj(values) else np.float64)


def _power_of_ten(tolerance: float) -> str:
    """Write 1e-12 as 10⁻¹²."""
    factor, exponent = f"{tolerance:.0e}".split("e")
    raised = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"10{raised}" if factor == "1" else f"{factor}·10{raised}"


def _show(statement: str) -> None:
    print(f"✓ {statement}")
