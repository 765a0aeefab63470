"""How wrong written sequences are, by the measures of the field."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from seqbook.data.pairs import Pair

__all__ = ["ErrorRates", "edit_distance", "error_rates"]


def edit_distance(a: Sequence, b: Sequence) -> int:
    """Count the insertions, deletions and substitutions that turn ``a`` into ``b``, at the least.

    Source: Levenshtein (1966).
    """
    row = list(range(len(b) + 1))  # distances of a[:i] to every beginning of b
    for i, left in enumerate(a, start=1):
        diagonal, row[0] = row[0], i
        for j, right in enumerate(b, start=1):
            substituted = diagonal + (left != right)
            diagonal = row[j]
            row[j] = min(substituted, row[j] + 1, row[j - 1] + 1)
    return row[-1]


class ErrorRates(NamedTuple):
    """Shares of what is wrong.

    Attributes:
        word: Share of sequences that equal none of their right targets.
        symbol: Edits to the nearest right target, over the number of its symbols; all sequences
            together, so that it can exceed 1.
    """

    word: float
    symbol: float


def error_rates(written: Sequence[Sequence[str]], pairs: Sequence[Pair]) -> ErrorRates:
    """Score what a model wrote for the sources of ``pairs``.

    Args:
        written: One sequence for each pair.
        pairs: The sources and their right targets. Of targets that are equally near, the shortest
            one's symbols count.

    Raises:
        ValueError: There is nothing to score, or not one sequence for each pair.
    """
    if not pairs or len(written) != len(pairs):
        raise ValueError(
            f"written: expected one sequence for each of at least one pair, got {len(written)} "
            f"for {len(pairs)}"
        )
    wrong = edits = symbols = 0
    for sequence, pair in zip(written, pairs, strict=True):
        sequence = tuple(sequence)
        if sequence in pair.targets:
            symbols += len(sequence)
            continue
        wrong += 1
        least, length = min((edit_distance(sequence, t), len(t)) for t in pair.targets)
        edits += least
        symbols += length
    if not symbols:
        raise ValueError("pairs: expected a target with symbols, got empty ones only")
    return ErrorRates(wrong / len(pairs), edits / symbols)
