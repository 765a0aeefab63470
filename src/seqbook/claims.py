"""Claims: assertions that the reader sees.

Nothing in the book is taken on faith. A sentence that could be false is passed to ``claim``
together with the comparison that decides it; if the comparison fails the cell raises, and with
it the notebook, its test and CI. ``measured`` turns a number into text that other machines
print the same way.
"""

from __future__ import annotations

import numpy as np

__all__ = ["ClaimError", "claim", "claim_equal", "measured"]


class ClaimError(AssertionError):
    """A statement of the book turned out not to hold."""


def claim(statement: str, holds: bool | np.bool_) -> None:
    """Show ``statement`` to the reader if it holds, and raise if it does not.

    Args:
        statement: A whole sentence, its numbers written with ``measured``.
        holds: The outcome of the comparison. It must be a single truth value: an array is
            refused, since "which of them?" would be left open, and so is a number, since
            a forgotten comparison would pass as true.

    Raises:
        TypeError: ``statement`` is empty or ``holds`` is not a truth value.
        ClaimError: The statement does not hold.
    """
    if not isinstance(statement, str) or not statement.strip():
        raise TypeError(f"claim: expected a sentence as its first argument, got {statement!r}")
    if not isinstance(holds, (bool, np.bool_)):
        raise TypeError(
            f"claim: expected True or False as its second argument, got {type(holds).__name__} "
            f"({holds!r}); compare first, and reduce an array with .all() or .any()"
        )
    if not holds:
        raise ClaimError(f"does not hold: {statement}")
    _show(statement)


def claim_equal(statement: str, actual, expected, *, tolerance: float = 1e-12) -> None:
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
        ClaimError: The shapes differ, an entry is not finite, or the difference is too large.
    """
    actual, expected = _as_array(actual), _as_array(expected)
    if actual.shape != expected.shape:
        raise ClaimError(
            f"does not hold: {statement}: shapes differ, {actual.shape} against {expected.shape}"
        )
    difference = np.abs(actual - expected)
    if not np.all(difference <= tolerance * np.maximum(1.0, np.abs(expected))):
        raise ClaimError(
            f"does not hold: {statement}: largest difference {np.max(difference):.3g}, "
            f"allowed {tolerance:.0e}"
        )
    _show(f"{statement} (equal to {tolerance:.0e}).")


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


def _as_array(values) -> np.ndarray:
    if hasattr(values, "detach"):
        values = values.detach().cpu()
    return np.asarray(values, dtype=np.float64)


def _show(statement: str) -> None:
    print(f"✓ {statement}")
