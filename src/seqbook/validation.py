"""Checks of arguments that every module may use.

Each raises ``TypeError`` for a value of the wrong kind (text where numbers are expected, a float
where an integer is) and ``ValueError`` for one of the right kind that can't be used: a
wrong shape, a number out of range, NaN. The message names the argument, what was expected and what
came. Those that return something return the argument in one known type.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any

import numpy as np

__all__ = [
    "as_array",
    "check_choice",
    "check_distributions",
    "check_instance",
    "check_integer",
    "check_number",
    "check_series",
    "check_symbols",
    "has_values",
]


def as_array(name: str, values: Any) -> np.ndarray:
    """Return ``numpy.asarray(values)``, with the argument's name in the error if there is none.

    Shape:
        result: any, ``(...)``, that of the values.

    Raises:
        TypeError: NumPy can't read it, as a tensor on a GPU or one that requires gradients.
        ValueError: Its rows are of different lengths.

    Example:
        >>> as_array("images", [[1, 2], [3]])
        Traceback (most recent call last):
        ValueError: images: expected rows of equal length, got [[1, 2], [3]]
    """
    try:
        return np.asarray(values)
    except ValueError:  # rows of different lengths
        raise ValueError(
            f"{name}: expected rows of equal length, got {_shortened(values)}"
        ) from None
    except (RuntimeError, TypeError):  # a tensor on another device, or one that requires gradients
        raise TypeError(
            f"{name}: expected an array of NumPy, got {type(values).__name__}; a tensor becomes "
            "one by .detach().cpu().numpy()"
        ) from None


def check_choice(name: str, value: str, choices: Iterable[str]) -> None:
    """Raise ``ValueError`` unless ``value`` is one of ``choices``.

    Example:
        >>> check_choice("units", "words", ["characters", "words"])
        >>> check_choice("units", "lines", ["characters", "words"])
        Traceback (most recent call last):
        ValueError: units: expected 'characters' or 'words', got 'lines'
    """
    choices = list(choices)
    if value not in choices:
        expected = " or ".join(map(repr, choices))
        raise ValueError(f"{name}: expected {expected}, got {value!r}")


def check_instance(name: str, value: object, kind: type, *, hint: str = "") -> None:
    """Raise ``TypeError`` unless ``value`` is an instance of ``kind``.

    Args:
        name: The argument's name.
        value: Value to check.
        kind: The class expected.
        hint: How to make one, appended to the message.

    Example:
        >>> check_instance("generator", 7, np.random.Generator, hint="np.random.default_rng(0)")
        Traceback (most recent call last):
        TypeError: generator: expected a Generator, as from np.random.default_rng(0), got 7
    """
    if not isinstance(value, kind):
        such_as = f", as from {hint}," if hint else ","
        raise TypeError(f"{name}: expected a {kind.__name__}{such_as} got {_shortened(value)}")


def check_integer(name: str, value: Any, *, minimum: int, maximum: int | None = None) -> int:
    """Return ``value`` as an ``int``; integers of NumPy count, booleans and 2.0 don't.

    Raises:
        TypeError: It is not an integer.
        ValueError: It is below ``minimum`` or above ``maximum``.

    Example:
        >>> check_integer("order", np.int8(2), minimum=0)
        2
        >>> check_integer("order", 2.0, minimum=0)
        Traceback (most recent call last):
        TypeError: order: expected an integer of at least 0, got 2.0
    """
    limits = f"of at least {minimum}" if maximum is None else f"from {minimum} to {maximum}"
    message = f"{name}: expected an integer {limits}, got {_shortened(value)}"
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool):
        raise TypeError(message)
    if value < minimum or (maximum is not None and value > maximum):
        raise ValueError(message)
    return int(value)


def check_number(name: str, value: Any, *, minimum: float = -np.inf) -> float:
    """Return a finite real number as a ``float``.

    Raises:
        TypeError: It is not a real number.
        ValueError: It is not finite, or below ``minimum``.

    Example:
        >>> check_number("alpha", 1, minimum=0)
        1.0
    """
    limit = "" if minimum == -np.inf else f" of at least {minimum:g}"
    message = f"{name}: expected a finite number{limit}, got {_shortened(value)}"
    if not isinstance(value, Real) or isinstance(value, bool):  # NumPy's own are registered
        raise TypeError(message)
    number = float(value)
    if not np.isfinite(number) or number < minimum:
        raise ValueError(message)
    return number


def check_series(
    name: str, values: Any, *, minimum_length: int = 1, axis: str = "time"
) -> np.ndarray:
    """Return finite real numbers as a float64 array ``(time,)``.

    Args:
        name: The argument's name.
        values: Values to check.
        minimum_length: The least length that is enough.
        axis: What the message calls the one axis.

    Raises:
        TypeError: They are not real numbers.
        ValueError: The shape is not ``(time,)``, there are fewer than ``minimum_length``, or one
            is not finite.

    Example:
        >>> check_series("series", [1, 2, 4])
        array([1., 2., 4.])
        >>> check_series("series", [1, np.nan])
        Traceback (most recent call last):
        ValueError: series: expected finite numbers, got nan at position 1
    """
    array = _real_numbers(name, values)
    if array.ndim != 1 or len(array) < minimum_length:
        least = f" with at least {minimum_length} values" if minimum_length else ""
        raise ValueError(f"{name}: expected shape ({axis},){least}, got shape {array.shape}")
    finite = np.isfinite(array)
    if not finite.all():
        position = int(np.argmin(finite))
        raise ValueError(
            f"{name}: expected finite numbers, got {array[position]} at position {position}"
        )
    return array


def check_symbols(
    name: str, values: Any, *, size: int | None = None, ndim: Sequence[int] = (1,)
) -> np.ndarray:
    """Return symbol ids as an int64 array, from integers of any type.

    Args:
        name: The argument's name.
        values: Ids, from 0.
        size: Number of symbols, if ids have an upper limit.
        ndim: The numbers of dimensions allowed, of 1 and 2.

    Shape:
        result: int64 ``(time,)`` or ``(sequences, time)``, that of the values.

    Raises:
        TypeError: They are not integers.
        ValueError: The number of dimensions is wrong, or an id is outside 0 to ``size`` - 1.

    Example:
        >>> check_symbols("symbols", np.array([0, 200], dtype=np.uint8))
        array([  0, 200])
        >>> check_symbols("symbols", [0, 3], size=3)
        Traceback (most recent call last):
        ValueError: symbols: expected ids from 0 to 2, got 0 to 3
    """
    array = as_array(name, values)
    if not (np.issubdtype(array.dtype, np.integer) or array.size == 0):
        raise TypeError(f"{name}: expected integer ids, got {_kind(values, array)}")
    if array.ndim not in ndim:
        axes = " or ".join({1: "(time,)", 2: "(sequences, time)"}[n] for n in ndim)
        raise ValueError(f"{name}: expected shape {axes}, got shape {array.shape}")
    if array.size:
        low, high = int(array.min()), int(array.max())
        if low < 0 or (size is not None and high >= size):
            allowed = "of at least 0" if size is None else f"from 0 to {size - 1}"
            raise ValueError(f"{name}: expected ids {allowed}, got {low} to {high}")
    return array.astype(np.int64)


def check_distributions(name: str, values: Any, *, ndim: int | None = None) -> np.ndarray:
    r"""Return probability distributions along the last axis, as a read-only float64 copy.

    .. math:: p_i \ge 0, \qquad \Big| \sum_i p_i - 1 \Big| \le 10^{-9}

    Args:
        name: The argument's name.
        values: Probabilities, not negative, that sum to 1 along the last axis (within 1e-9).
        ndim: Number of dimensions; any, from 1, if not given.

    Shape:
        result: ``(..., outcomes)``, that of the values.

    Raises:
        TypeError: They are not real numbers.
        ValueError: The number of dimensions is wrong, or they are not distributions.

    Example:
        >>> check_distributions("initial", [0.5, 0.5], ndim=1)
        array([0.5, 0.5])
        >>> check_distributions("initial", [0.5, 0.6], ndim=1)
        Traceback (most recent call last):
        ValueError: initial: expected probabilities that sum to 1 along the last axis, got sums 1.1
    """
    array = _real_numbers(name, values).copy()
    if array.ndim == 0 or ndim not in (None, array.ndim):
        expected = "at least one" if ndim is None else ndim
        raise ValueError(f"{name}: expected {expected} dimensions, got shape {array.shape}")
    if (array < 0).any() or not np.allclose(array.sum(-1), 1, rtol=0, atol=1e-9):
        raise ValueError(
            f"{name}: expected probabilities that sum to 1 along the last axis, got sums "
            f"{_shortened(np.round(array.sum(-1), 6).tolist())}"
        )
    array.flags.writeable = False
    return array


def _real_numbers(name: str, values: Any) -> np.ndarray:
    array = as_array(name, values)
    real = np.issubdtype(array.dtype, np.integer) or np.issubdtype(array.dtype, np.floating)
    if not real:
        raise TypeError(f"{name}: expected real numbers, got {_kind(values, array)}")
    return array.astype(np.float64, copy=False)


def _kind(values: Any, array: np.ndarray) -> str:
    """Describe a value given where numbers of another kind were expected."""
    if array.ndim == 0:
        return _shortened(values)
    return f"an array of {array.dtype.name}"


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def has_values(tensor: Any) -> bool:
    """Whether a torch tensor has numbers that can be checked.

    Those of the meta device and fake tensors have only a shape, a type and a device.

    Example:
        >>> import torch
        >>> has_values(torch.zeros(2)), has_values(torch.zeros(2, device="meta"))
        (True, False)
    """
    return not (tensor.is_meta or hasattr(tensor, "fake_mode"))
