"""Compare two encoded values as far as the grader allows, and say in words how they differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stepgrader.worker.values import Unsupported, decode

__all__ = ["Difference", "difference", "printable", "short_number", "with_article"]

MAX_TEXT = 300


@dataclass(frozen=True)
class Difference:
    """What tells two values apart.

    Args:
        kind: Of which kind it is, without a value: what a hidden case may tell.
        text: All of it in words, with values.
    """

    kind: str
    text: str


def difference(expected: Any, got: Any, tolerance: float) -> Difference | None:
    """Return the first difference of two encoded values, None if there is none.

    Numbers may differ by ``tolerance``, relative to the expected one where that is above 1; the
    type of numbers and the form of their array, tensor or list do not matter.

    Raises:
        ValueError: A value is not encoded as ``stepgrader.worker.values`` does.
    """
    return _compare(decode(expected), decode(got), tolerance, "")


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
            text = f"{_at(at)}expected {_count(len(expected), 'value')}, got {len(got)}"
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


def _first(pairs: Sequence[tuple], tolerance: float, at: str) -> Difference | None:
    for name, expected, got in pairs:
        if found := _compare(expected, got, tolerance, f"{at or 'result'}[{name!r}]"):
            return found
    return None


def _compare_numbers(expected: Any, got: Any, tolerance: float, at: str) -> Difference | None:
    if got is None or isinstance(got, (str, dict)):
        return _wrong_type(expected, got, at)
    expected = np.asarray(expected)
    try:
        got = np.asarray(got if _holds_numbers(got) else None)
    except ValueError:
        got = np.asarray(None)
    if got.dtype.kind not in "biuf":
        text = f"{_at(at)}expected numbers of shape {expected.shape}, got a ragged or mixed list"
        return Difference("the result has the wrong form", text)
    if expected.shape != got.shape:
        text = f"{_at(at)}expected shape {expected.shape}, got {got.shape}"
        return Difference("the shape is wrong", text)
    if (expected.dtype.kind == "b") != (got.dtype.kind == "b"):
        kinds = [
            "True and False" if one.dtype.kind == "b" else "numbers" for one in (expected, got)
        ]
        text = f"{_at(at)}expected {kinds[0]}, got {kinds[1]}"
        return Difference("the type of the numbers is wrong", text)
    truths = expected.dtype.kind == "b"
    expected, got = expected.astype(float), got.astype(float)
    with np.errstate(invalid="ignore"):
        near = np.abs(expected - got) <= tolerance * np.maximum(1, np.abs(expected))
    near &= np.isfinite(expected)
    near |= (expected == got) | (np.isnan(expected) & np.isnan(got))
    if near.all():
        return None
    place = tuple(int(i) for i in np.argwhere(~near)[0])
    where = f" at {list(place)}" if place else ""
    what = "values" if truths else "numbers"
    differ = f"{(~near).sum()} of {near.size} {what} differ, the first{where}: "
    show = bool if truths else short_number
    text = f"expected {show(expected[place])}, got {show(got[place])}"
    text = _at(at) + (differ if near.size > 1 else "") + text
    odd = ~np.isfinite(got) & np.isfinite(expected)
    kind = "a value is not finite" if odd.any() else "a value is wrong"
    return Difference(kind, text)


def _holds_numbers(value: Any) -> bool:
    """Whether lists hold numbers alone: NumPy makes all texts of a list as long as its longest."""
    if isinstance(value, (list, tuple)):
        return all(_holds_numbers(item) for item in value)
    return isinstance(value, (bool, int, float, np.ndarray))


def _wrong_type(expected: Any, got: Any, at: str) -> Difference:
    text = f"{_at(at)}expected {_form(expected)}, got {_form(got)}"
    if got is None:
        text += ": is there a return?"
    return Difference("the result has the wrong form", text)


def _form(value: Any) -> str:
    if isinstance(value, Unsupported):
        return with_article(printable(value.type_name))
    if isinstance(value, np.ndarray):
        return f"numbers of shape {value.shape}" if value.shape else "a number"
    if isinstance(value, (list, tuple)):
        return f"a {type(value).__name__} of {_count(len(value), 'value')}"
    if isinstance(value, dict):
        return f"a dict with {sorted(value)[:20]}"
    return "None" if value is None else f"a {type(value).__name__}"


def with_article(name: str) -> str:
    """Return a name after its indefinite article."""
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def short_number(value: float) -> str:
    """Return a number with four significant digits."""
    return f"{float(value) + 0.0:.4g}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def printable(text: str, *, limit: int = MAX_TEXT) -> str:
    """Return text on one line, without control characters and not too long."""
    shown = "".join(c if c.isprintable() else " " for c in text[:limit])
    return shown if len(text) <= limit else shown + " ..."
