"""What each model of a mixture would need alone, beside the mixture."""

from __future__ import annotations

import math

from seqbook.compression.arithmetic_coding import PROBABILITY_BITS
from seqbook.compression.predictor import Predictor

__all__ = ["code_lengths"]


def code_lengths(data: bytes, predictor: Predictor) -> dict[str, float]:
    r"""Return the ideal length of ``data`` in bits by each model, and by their mixture.

    .. math:: L_m = -\sum_t \log_2 P_m(b_t \mid b_1, \dots, b_{t-1})

    A model that has not seen its context says one half and pays one bit. The arithmetic
    coder needs a few bytes more than the mixture's length.

    Args:
        data: The file; below 128 if the predictor codes 7 bits of a byte.
        predictor: A new model; it learns ``data``.

    Returns:
        Bits by name: the contexts, ``"match"``, ``"network"`` if there is one, and ``"mixture"``.

    Example:
        >>> from seqbook.compression.predictor import SETTINGS
        >>> model = Predictor(SETTINGS["standard"], length=240, symbol_bits=7)
        >>> lengths = code_lengths(b"the cat sat on the mat. " * 10, model)
        >>> lengths["order 3"] < lengths["order 1"] < lengths["order 0"] < 7 * 240
        True
        >>> lengths["mixture"] < lengths["order 3"]
        True
    """
    names = [*predictor.model_names, "mixture"]
    totals = [0.0] * len(names)
    one = 1 << PROBABILITY_BITS
    for byte in data:
        for shift in range(predictor.symbol_bits - 1, -1, -1):
            bit = byte >> shift & 1
            probability = predictor.predict() / one
            for index, log_odds in enumerate(predictor.log_odds):
                totals[index] += math.log2(1 + math.exp(-log_odds if bit else log_odds))
            totals[-1] -= math.log2(probability if bit else 1 - probability)
            predictor.update(bit)
    return dict(zip(names, totals, strict=True))
