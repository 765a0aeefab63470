"""What errors of torch and NumPy mean."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["meaning_of_errors"]

NO_FIT = re.compile(r"shapes cannot be multiplied \((\d+)x(\d+) and (\d+)x(\d+)\)")

INDEX = re.compile(r"index (\d+) is out of bounds for (?:dimension|axis) \d+ with size (\d+)")

ERRORS = {
    "numpy() on Tensor that requires grad": "Gradients can't flow through NumPy: stay with torch.",
    "modified by an inplace operation": "You overwrite a tensor that the gradient still needs: "
    "build a new one instead of changing it in place.",
    "same dtype": "You mix float32 and float64: create new tensors in the type of the "
    "inputs, as new_zeros and zeros_like do.",
    "leaf Variable that requires grad": "You change a parameter in place: compute a new tensor.",
}


def meaning_of_errors(messages: Sequence[str]) -> str | None:
    """Return what errors of torch or NumPy mean, if all that were raised mean the same.

    They come from an answer's own code on visible cases.
    """
    meanings = {_of_error(message) for message in messages}
    return meanings.pop() if len(meanings) == 1 else None


def _of_error(message: str) -> str | None:
    if match := NO_FIT.search(message):
        rows, inner, outer, columns = map(int, match.groups())
        if inner == columns != outer:
            return "A matrix product has shapes that do not match; transpose the second matrix?"
        if rows == outer != inner:
            return "A matrix product has shapes that do not match; transpose the first matrix?"
    if (match := INDEX.search(message)) and match[1] == match[2]:
        return "An index is one too large: the last entry has the index size - 1."
    return next((text for part, text in ERRORS.items() if part in message), None)
