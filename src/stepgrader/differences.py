"""Compare two encoded values within a tolerance, and describe their first difference."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stepgrader.worker.values import Unsupported, decode

__all__ = [
    "Difference",
    "as_numbers",
    "difference",
    "distinct_numbers",
    "listed",
    "near",
    "numbers_in",
    "printable",
    "quantity",
    "short_number",
    "telling_digits",
    "with_article",
]

MAX_TEXT = 300
DIGITS = 4  # of a number in a message, if these tell it from another
MAX_DIGITS = 17


@dataclass(frozen=True)
class Difference:
    """A difference between two values.

    Args:
        kind: Its kind, without any value, which may be shown for a hidden case.
        text: Its description, with values.

    Example:
        >>> different = difference([1.0, 2.0, 3.0], [1.0, 2.0], tolerance=1e-5)
        >>> different.kind  # of a hidden case, a student sees no more
        'the result has the wrong form'
        >>> different.text
        'expected 3 values, got 2'
    """

    kind: str
    text: str


def difference(
    expected: Any, got: Any, tolerance: float, *, exact_types: bool = False
) -> Difference | None:
    """Return the first difference between two encoded values; None if there is none.

    By default the type of the numbers, and whether they are in an array, a tensor or a list, do not
    matter.

    Args:
        expected: The expected value.
        got: The value to compare.
        tolerance: A number x may differ from the expected y by ``tolerance * max(1, |y|)``.
        exact_types: Whether a tensor must be a tensor, with the same type of numbers. Whether
            several results are in a list or a tuple does not matter.

    Raises:
        ValueError: A value is not encoded as ``stepgrader.worker.values`` does.

    Example:
        >>> difference([1.0, 2.0], [1.0, 2.5], tolerance=0.1).text
        'result[1]: expected 2, got 2.5'
        >>> difference([1.0, 2.0], [1.0, 2.05], tolerance=0.1) is None
        True
    """
    different = _compare(decode(expected), decode(got), tolerance, "")
    if different is None and exact_types:
        return _compare_types(expected, got, "")
    return different


def _compare_types(expected: Any, got: Any, at: str) -> Difference | None:
    """Return the first difference in type between two encoded values that are otherwise equal."""
    if isinstance(expected, dict) and "tuple" in expected:
        expected = expected["tuple"]
    if isinstance(expected, list):
        items = got["tuple"] if isinstance(got, dict) and "tuple" in got else got
        numbered = enumerate(zip(expected, items, strict=True))
        found = (_compare_types(*pair, f"{at or 'result'}[{n}]") for n, pair in numbered)
        return next((different for different in found if different), None)
    wanted, actual = _type(expected), _type(got)
    if wanted == actual:
        return None
    text = f"{_at(at)}the values are right, but expected {wanted}, got {actual}"
    return Difference("the type of the result is wrong", text)


def _type(encoded: Any) -> str:
    if isinstance(encoded, dict):
        for kind in ("tensor", "array"):
            if kind in encoded:
                return f"{with_article(kind)} of {encoded['dtype']}"
    return _form(decode(encoded))


def _compare(expected: Any, got: Any, tolerance: float, at: str) -> Difference | None:
    if isinstance(got, Unsupported):
        return _wrong_type(expected, got, at)
    if isinstance(expected, dict):
        if not isinstance(got, dict):
            return _wrong_type(expected, got, at)
        if set(expected) != set(got):
            names = f"expected the names {sorted(expected)}, got {sorted(got)[:20]}"
            return Difference("the result has the wrong form", f"{_at(at)}{names}")
        pairs = [(name, expected[name], got[name]) for name in expected]
        return _first(pairs, tolerance, at)
    if isinstance(expected, (list, tuple)):
        if not isinstance(got, (list, tuple)):
            return _wrong_type(expected, got, at)
        if len(expected) != len(got):
            text = f"{_at(at)}expected {quantity(len(expected), 'value')}, got {len(got)}"
            return Difference("the result has the wrong form", text)
        pairs = [(number, *pair) for number, pair in enumerate(zip(expected, got, strict=True))]
        return _first(pairs, tolerance, at)
    if expected is None or isinstance(expected, str):
        if type(expected) is not type(got):
            return _wrong_type(expected, got, at)
        if expected != got:
            return Difference(
                "a value is wrong", f"{_at(at)}expected {expected!r}, got {got!r:.80}"
            )
        return None
    return _compare_numbers(expected, got, tolerance, at)


def _at(place: str) -> str:
    return f"{place}: " if place else ""


def _first(pairs: Sequence[tuple[Any, Any, Any]], tolerance: float, at: str) -> Difference | None:
    for name, expected, got in pairs:
        if different := _compare(expected, got, tolerance, f"{at or 'result'}[{name!r}]"):
            return different
    return None


def _compare_numbers(expected: Any, got: Any, tolerance: float, at: str) -> Difference | None:
    if got is None or isinstance(got, (str, dict)):
        return _wrong_type(expected, got, at)
    expected, got = np.asarray(expected), as_numbers(got)
    if got is None:
        text = f"{_at(at)}expected numbers of shape {expected.shape}, got a ragged or mixed list"
        return Difference("the result has the wrong form", text)
    if expected.shape != got.shape:
        text = f"{_at(at)}expected shape {expected.shape}, got {got.shape}"
        return Difference("the shape is wrong", text)
    kinds = ["Boolean values" if array.dtype == bool else "numbers" for array in (expected, got)]
    if kinds[0] != kinds[1]:
        text = f"{_at(at)}expected {kinds[0]}, got {kinds[1]}"
        return Difference("the type of the numbers is wrong", text)
    close = near(expected.astype(float), got.astype(float), tolerance)
    return None if close.all() else _first_number(expected, got, close, at)


def as_numbers(value: Any) -> np.ndarray | None:
    """Return an array ``(...)`` of numbers or truth values; None for anything else.

    Example:
        >>> as_numbers([1, 2]), as_numbers([1, "two"]) is None
        (array([1, 2]), True)
    """
    if not _holds_numbers(value):
        return None
    try:
        array = np.asarray(value)
    except ValueError:  # a ragged list
        return None
    return array if array.dtype.kind in "biuf" else None


def numbers_in(value: Any) -> Iterator[float]:
    """Yield all numbers in a value, truth values as 0 and 1.

    An integer that no float can hold is infinite.

    Example:
        >>> list(numbers_in({"a": (1, [True]), "b": np.ones(2), "c": None}))
        [1.0, 1.0, 1.0, 1.0]
        >>> list(numbers_in([-(10**400)]))
        [-inf]
    """
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from numbers_in(item)
    elif isinstance(value, np.ndarray):
        yield from value.astype(float).ravel().tolist()
    elif isinstance(value, (bool, int, float)):
        try:
            yield float(value)
        except OverflowError:
            yield math.inf if value > 0 else -math.inf


def near(expected: np.ndarray, got: np.ndarray, tolerance: float) -> np.ndarray:
    r"""Return for each number whether it is within the tolerance; nan is near nan.

    .. math:: |a - b| \le \varepsilon \max(1, |a|)

    for an expected a, the b that was given and the tolerance :math:`\varepsilon`.

    Shape:
        arrays and result ``(...)``.

    Example:
        >>> near(np.array([1.0, np.nan, 2.0]), np.array([1.05, np.nan, 3.0]), tolerance=0.1)
        array([ True,  True, False])
    """
    with np.errstate(invalid="ignore"):
        close: np.ndarray = np.abs(expected - got) <= tolerance * np.maximum(1, np.abs(expected))
    close &= np.isfinite(expected)
    close |= (expected == got) | (np.isnan(expected) & np.isnan(got))
    return close


def _first_number(expected: np.ndarray, got: np.ndarray, close: np.ndarray, at: str) -> Difference:
    is_truth = expected.dtype == bool
    place = tuple(int(i) for i in np.argwhere(~close)[0])
    numbers = expected[place], got[place]
    wanted, actual = map(str, map(bool, numbers)) if is_truth else distinct_numbers(*numbers)
    text = f"expected {wanted}, got {actual}"
    if close.size > 1:
        where = f" at {list(place)}" if place else ""
        what = "values" if is_truth else "numbers"
        text = f"{(~close).sum()} of {close.size} {what} differ, the first{where}: {text}"
    odd = ~np.isfinite(got) & np.isfinite(expected)
    kind = "a value is not finite" if odd.any() else "a value is wrong"
    return Difference(kind, _at(at) + text)


def _holds_numbers(value: Any) -> bool:
    """Return whether a value holds numbers only. NumPy would pad texts to the longest of a list."""
    if isinstance(value, (list, tuple)):
        return all(_holds_numbers(item) for item in value)
    return isinstance(value, (bool, int, float, np.ndarray))


def _wrong_type(expected: Any, got: Any, at: str) -> Difference:
    text = f"{_at(at)}expected {_form(expected)}, got {_form(got)}"
    if got is None:
        text += ": is a return statement missing?"
    return Difference("the result has the wrong form", text)


def _form(value: Any) -> str:
    if isinstance(value, Unsupported):
        return with_article(printable(value.type_name))
    if isinstance(value, np.ndarray):
        return f"numbers of shape {value.shape}" if value.shape else "a number"
    if isinstance(value, (list, tuple)):
        return f"a {type(value).__name__} of {quantity(len(value), 'value')}"
    if isinstance(value, dict):
        return f"a dict with {sorted(value)[:20]}"
    return "None" if value is None else f"a {type(value).__name__}"


def with_article(name: str) -> str:
    """Return a name with its indefinite article.

    Example:
        >>> with_article("int")
        'an int'
    """
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def short_number(value: float, digits: int = DIGITS) -> str:
    """Return a number with four significant digits, or with more.

    Example:
        >>> short_number(2 / 3), short_number(2 / 3, digits=6)
        ('0.6667', '0.666667')
    """
    return f"{float(value) + 0.0:.{digits}g}"


def telling_digits(one: Any, other: Any) -> int:
    """Return how many digits show which numbers of two arrays of one shape differ.

    These are at least four, and 17 show any difference.

    Example:
        >>> telling_digits(1.0, 2.0), telling_digits([5.52301, 1], [5.52349, 1])
        (4, 5)
    """
    pairs = zip(np.ravel(one).tolist(), np.ravel(other).tolist(), strict=True)
    different = [pair for pair in pairs if pair[0] != pair[1] and pair[0] == pair[0]]
    digits = range(DIGITS, MAX_DIGITS)
    enough = (n for n in digits if all(_differ(*pair, n) for pair in different))
    return next(enough, MAX_DIGITS)


def _differ(one: float, other: float, digits: int) -> bool:
    return short_number(one, digits) != short_number(other, digits)


def distinct_numbers(one: float, other: float) -> tuple[str, str]:
    """Return two numbers with as many digits as it takes to tell them apart.

    Example:
        >>> distinct_numbers(1, 2.5), distinct_numbers(5.52301, 5.52349)
        (('1', '2.5'), ('5.523', '5.5235'))
    """
    digits = telling_digits(one, other)
    return short_number(one, digits), short_number(other, digits)


def listed(names: Sequence[str]) -> str:
    """Return names as a list in words, with "and" before the last.

    Example:
        >>> listed(["x"]), listed(["x", "y", "z"])
        ('x', 'x, y and z')
    """
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def quantity(number: float, unit: str) -> str:
    """Return a number with what it counts.

    Example:
        >>> quantity(1, "point"), quantity(2.5, "point")
        ('1 point', '2.5 points')
    """
    return f"{number} {unit}" + ("" if number == 1 else "s")


def printable(text: str, *, limit: int = MAX_TEXT) -> str:
    r"""Return text on one line, without control characters, cut at ``limit`` characters.

    Example:
        >>> printable("one line\nand another", limit=12)
        'one line and ...'
    """
    line = "".join(c if c.isprintable() else " " for c in text[:limit])
    return line if len(text) <= limit else line + " ..."
