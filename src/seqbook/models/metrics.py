"""Error rates of generated sequences and bits per byte, as the field measures them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from seqbook.data.pairs import Pair

__all__ = ["ErrorRates", "bits_per_byte", "edit_distance", "error_rates"]


def bits_per_byte(loss: float, symbols: int, text: str | bytes) -> float:
    r"""Convert a mean loss per symbol into bits per byte of the text, whatever the symbols are.

    .. math:: \frac{n}{m} \cdot \frac{L}{\ln 2}

    for a mean loss of L nats over n symbols, which stand for m bytes. Losses per symbol can't be
    compared between characters, jamo and tokens, because these divide a text into different
    numbers of symbols. Its bytes stay the same.

    Args:
        loss: L, nats per symbol.
        symbols: n, the number of symbols that the loss is the mean of.
        text: The text that those symbols stand for, as bytes or to be encoded in UTF-8. A text in
            jamo must be composed first (NFC), since its bytes count as the reader would store it.

    Raises:
        ValueError: The text is empty, or ``symbols`` is not positive.

    Example:
        >>> import math
        >>> round(bits_per_byte(math.log(8), 2, "한글"), 9)  # three bits a syllable, in three bytes
        1.0
    """
    size = len(text.encode() if isinstance(text, str) else text)
    if size < 1:
        raise ValueError("text: expected at least one byte, got none")
    if symbols < 1:
        raise ValueError(f"symbols: expected at least 1, got {symbols}")
    return symbols / size * loss / math.log(2)


def edit_distance(a: Sequence[Any], b: Sequence[Any]) -> int:
    r"""Count the fewest insertions, deletions and substitutions that turn ``a`` into ``b``.

    .. math:: D_{i,j} = \min(D_{i-1,j} + 1,\; D_{i,j-1} + 1,\; D_{i-1,j-1} + [a_i \ne b_j])

    with :math:`D_{i,0} = i` and :math:`D_{0,j} = j`.

    Args:
        a: A sequence of symbols.
        b: Another one.

    Source: Levenshtein (1966); Wagner and Fischer (1974) for the recursion.

    Example:
        >>> edit_distance("kitten", "sitting")
        3
    """
    row = list(range(len(b) + 1))  # distances of a[:i] to every prefix of b
    for i, left in enumerate(a, start=1):
        diagonal, row[0] = row[0], i
        for j, right in enumerate(b, start=1):
            substituted = diagonal + (left != right)
            diagonal = row[j]
            row[j] = min(substituted, row[j] + 1, row[j - 1] + 1)
    return row[-1]


class ErrorRates(NamedTuple):
    """Error rates of generated sequences, as fractions; ``error_rates`` has their equations.

    Attributes:
        word: Fraction of sequences that equal none of their correct targets.
        symbol: Edits to the nearest correct target, over the number of its symbols; all sequences
            together, so that it can exceed 1.

    Example:
        >>> ErrorRates(word=0.5, symbol=0.125).word
        0.5
    """

    word: float
    symbol: float


def error_rates(outputs: Sequence[Sequence[str]], pairs: Sequence[Pair]) -> ErrorRates:
    r"""Score what a model generated for the sources of ``pairs``.

    .. math:: \text{word} = \frac{1}{N} \sum_{n=1}^{N} [\, o_n \notin R_n \,], \qquad
        \text{symbol} = \frac{\sum_n D(o_n, r_n)}{\sum_n |r_n|}

    for the outputs o, the sets R of correct targets, the ``edit_distance`` D and the target
    :math:`r_n` in :math:`R_n` that is nearest to :math:`o_n`.

    Args:
        outputs: One sequence for each pair.
        pairs: The sources and their correct targets. Of targets that are equally near, the
            shortest one's symbols count.

    Raises:
        ValueError: There is nothing to score, or not one sequence for each pair.

    Source: the word and phoneme error of Bisani and Ney (2008).

    Example:
        >>> pairs = [Pair(("a",), (("x", "y"), ("z",))), Pair(("b",), (("x", "x", "y"),))]
        >>> error_rates([("z",), ("x", "y")], pairs)
        ErrorRates(word=0.5, symbol=0.25)
    """
    if not pairs or len(outputs) != len(pairs):
        raise ValueError(
            f"outputs: expected one sequence for each of at least one pair, got {len(outputs)} "
            f"for {len(pairs)}"
        )
    wrong = edits = symbols = 0
    for output, pair in zip(outputs, pairs, strict=True):
        output = tuple(output)
        if output in pair.targets:
            symbols += len(output)
            continue
        wrong += 1
        least, length = min((edit_distance(output, t), len(t)) for t in pair.targets)
        edits += least
        symbols += length
    if not symbols:
        raise ValueError("pairs: expected a target with symbols, got empty ones only")
    return ErrorRates(wrong / len(pairs), edits / symbols)
